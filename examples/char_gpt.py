"""A small GPT over characters, trained on a text file (default: the project's own sources).

python examples/char_gpt.py [text] [--steps 300] [--layers 2] [--heads 4] [--width 64] [--context 64] [--batch 16]
                            [--lr 3e-3] [--eval 0] [--plot FILE.png]

The rate rises to --lr over the first twentieth of the steps and falls along a cosine to a tenth of it. With --eval N
the last tenth of the text is held out; its loss, over all of it, is printed every N steps and at the end.
"""

import argparse
import time
from pathlib import Path

import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.nn import functional as F
from tinygrad_cpp.utils.plot import save_plot


class Block(nn.Module):
    """Attention and a two-layer network, each added to what comes in."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        B, T, C = x.shape
        heads = (B, T, 3, self.heads, C // self.heads)
        q, k, v = self.qkv(self.norm1(x)).view(heads).permute(2, 0, 3, 1, 4).unbind(0)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocab, context, width, heads, layers):
        super().__init__()
        self.context = context
        self.token = nn.Embedding(vocab, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.token.weight
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens):
        x = self.token(tokens) + self.position(tg.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))

    @tg.no_grad()
    def generate(self, tokens, n):
        for _ in range(n):
            logits = self(tokens[:, -self.context :])[:, -1]
            tokens = tg.cat([tokens, tg.multinomial(logits.softmax(-1), 1)], 1)
        return tokens


def read_text(path):
    if path is not None:
        return Path(path).read_text(encoding="utf-8")
    sources = sorted((Path(__file__).resolve().parents[1] / "core").glob("*.[hc]*"))
    return "".join(p.read_text(encoding="utf-8") for p in sources)


def loss_at(model, data, at):
    """Mean loss of predicting the character after each of the places `at`, (batch, context)."""
    return F.cross_entropy(model(data[at]).flatten(0, 1), data[at + 1].flatten())


@tg.no_grad()
def held_out_loss(model, data, context):
    """Mean loss over all windows of `context` characters that do not overlap."""
    model.eval()
    starts = tg.arange(0, len(data) - context, context)[:, None]
    losses = [loss_at(model, data, s + tg.arange(context)).item() * len(s) for s in starts.split(64)]
    model.train()
    return sum(losses) / len(starts)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?")
    for name, default in dict(steps=300, layers=2, heads=4, width=64, context=64, batch=16, sample=200, eval=0).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draws the losses over the steps")
    return parser.parse_args()


def main():
    args = arguments()

    tg.manual_seed(0)
    text = read_text(args.text)
    chars = sorted(set(text))
    index = {c: i for i, c in enumerate(chars)}
    data = tg.tensor([index[c] for c in text])
    data, held_out = data.tensor_split([len(data) * 9 // 10 if args.eval else len(data)])
    if len(data) <= args.context or (args.eval and len(held_out) <= args.context):
        raise SystemExit(f"the text has {len(text)} characters; more than --context {args.context} are needed")
    model = GPT(len(chars), args.context, args.width, args.heads, args.layers)
    print(f"{len(text)} characters, {len(chars)} different, {sum(p.numel() for p in model.parameters())} parameters")

    optimizer = tg.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.1)
    scheduler = tg.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.steps, pct_start=0.05, final_div_factor=0.4, cycle_momentum=False
    )
    losses, held_out_losses = [], []
    seconds = 0.0
    for step in range(1, args.steps + 1):
        start = time.perf_counter()
        loss = loss_at(model, data, tg.randint(len(data) - args.context, (args.batch, 1)) + tg.arange(args.context))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step < args.steps:
            scheduler.step()
        losses.append(loss.item())
        seconds += time.perf_counter() - start
        held_out_losses.append(held_out_losses[-1] if held_out_losses else float("nan"))
        line = ""
        if args.eval and (step % args.eval == 0 or step == args.steps):
            held_out_losses[-1] = held_out_loss(model, held_out, args.context)
            line = f"  held out {held_out_losses[-1]:.4f}"
        if line or step % 20 == 0 or step in (1, args.steps):
            speed = step * args.batch * args.context / seconds
            print(f"step {step:5d}  loss {losses[-1]:.4f}{line}  {speed:.0f} tokens/s", flush=True)
    if args.plot:
        save_plot(args.plot, {f"loss over {args.steps} steps": {"training": losses, "held out": held_out_losses}})

    model.eval()
    print("".join(chars[i] for i in model.generate(data[None, :1], args.sample)[0].tolist()))


if __name__ == "__main__":
    main()
