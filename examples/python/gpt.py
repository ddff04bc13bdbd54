"""A GPT over the bytes of a text: training with a warmed-up cosine, validation, and sampling from the top k.

python examples/python/gpt.py [text ...] [--steps 200] [--layers 2] [--heads 4] [--width 64] [--context 64] [--batch 16]
"""

import argparse
import math
import time
from pathlib import Path

import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
from tinygrad_cpp.nn import functional as F
from tinygrad_cpp.utils.data import DataLoader, Dataset, RandomSampler

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Block(nn.Module):
    """Attention and a two-layer network, each added to what comes in."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        B, T, C = x.size()
        qkv = self.qkv(self.ln1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in qkv)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, context=64, layers=2, heads=4, width=64, vocab=256):
        super().__init__()
        self.context = context
        self.wte = nn.Embedding(vocab, width)
        self.wpe = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.wte.weight
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens, targets=None):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.size(1), device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1)

    @torch.no_grad()
    def generate(self, tokens, count, temperature=0.8, top_k=20):
        for _ in range(count):
            logits = self(tokens[:, -self.context :])[0][:, -1, :] / temperature
            kth = torch.topk(logits, min(top_k, logits.size(-1)))[0][:, [-1]]
            logits[logits < kth] = -float("inf")
            tokens = torch.cat((tokens, torch.multinomial(F.softmax(logits, dim=-1), num_samples=1)), dim=1)
        return tokens


class Windows(Dataset):
    """All stretches of `context` bytes with the bytes that follow them."""

    def __init__(self, data, context):
        self.data, self.context = data, context
        if len(data) <= context:
            raise SystemExit(f"{len(data)} bytes are too few for --context {context}")

    def __len__(self):
        return len(self.data) - self.context

    def __getitem__(self, i):
        window = self.data[i : i + self.context + 1]
        return window[:-1], window[1:]


def make_optimizer(model, lr, weight_decay=0.1):
    """AdamW that shrinks matrices alone, not biases and scales."""
    params = [p for p in model.parameters() if p.requires_grad]
    decay, rest = [p for p in params if p.dim() >= 2], [p for p in params if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=False)


def learning_rate(step, steps, peak):
    warmup = max(1, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="*", type=Path, default=sorted(DOCS.glob("*.md")))
    for name, default in dict(steps=200, layers=2, heads=4, width=64, context=64, batch=16, sample=160).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = torch.tensor(list(b"".join(path.read_bytes() for path in args.text)), dtype=torch.long)
    cut = int(0.9 * len(data))
    train_set, val_set = Windows(data[:cut], args.context), Windows(data[cut:], args.context)
    sampler = RandomSampler(train_set, replacement=True, num_samples=args.steps * args.batch)
    loader = DataLoader(train_set, batch_size=args.batch, sampler=sampler, num_workers=0, pin_memory=device == "cuda")

    model = GPT(args.context, args.layers, args.heads, args.width).to(device)
    optimizer = make_optimizer(model, args.lr)
    compiled = torch.compile(model)
    print(f"{len(data)} bytes, {sum(p.numel() for p in model.parameters()) / 1e3:.1f} thousand parameters on {device}")
    start = time.perf_counter()
    for step, (x, y) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr)
        with torch.autocast(device_type=device, dtype=torch.bfloat16, enabled=device == "cuda"):
            _, loss = compiled(x.to(device, non_blocking=True), y.to(device, non_blocking=True))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0 or step == args.steps - 1:
            speed = (step + 1) * args.batch * args.context / (time.perf_counter() - start)
            print(f"step {step:5d}  loss {loss.item():.4f}  {speed:.0f} tokens/s", flush=True)
    print(
        bytes(model.eval().generate(data[None, :1].to(device), args.sample)[0].tolist()).decode(
            "utf-8", errors="replace"
        )
    )
    with torch.no_grad():
        losses = torch.stack([model(x.to(device), y.to(device))[1] for x, y in DataLoader(val_set, args.batch)])
    print(f"validation loss {losses.mean().item():.4f}")


if __name__ == "__main__":
    main()
