"""A small GPT over characters, trained on a text file (default: the project's own sources).

python examples/char_gpt.py [text] [--steps 300] [--layers 2] [--heads 4] [--width 64] [--context 64] [--batch 16]
"""

import argparse
import time
from pathlib import Path

import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.nn import functional as F


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="?")
    for name, default in dict(steps=300, layers=2, heads=4, width=64, context=64, batch=16, sample=200).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()

    tg.manual_seed(0)
    text = read_text(args.text)
    chars = sorted(set(text))
    index = {c: i for i, c in enumerate(chars)}
    data = tg.tensor([index[c] for c in text])
    if len(data) <= args.context:
        raise SystemExit(f"the text has {len(data)} characters; more than --context {args.context} are needed")
    model = GPT(len(chars), args.context, args.width, args.heads, args.layers)
    print(f"{len(text)} characters, {len(chars)} different, {sum(p.numel() for p in model.parameters())} parameters")

    optimizer = tg.optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = tg.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, cycle_momentum=False)
    start = time.perf_counter()
    for step in range(1, args.steps + 1):
        at = tg.randint(len(data) - args.context, (args.batch, 1)) + tg.arange(args.context)
        loss = F.cross_entropy(model(data[at]).flatten(0, 1), data[at + 1].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step < args.steps:
            scheduler.step()
        if step % 20 == 0 or step in (1, args.steps):
            speed = step * args.batch * args.context / (time.perf_counter() - start)
            print(f"step {step:5d}  loss {loss.item():.4f}  {speed:.0f} tokens/s", flush=True)

    model.eval()
    print("".join(chars[i] for i in model.generate(data[None, :1], args.sample)[0].tolist()))


if __name__ == "__main__":
    main()
