"""A character-level LSTM: reads a text in order, learns to guess the next character, then writes by itself.

python examples/python/char_rnn.py [text ...] [--steps 400] [--hidden 128] [--layers 2] [--temperature 0.8]
"""

import argparse
import math
from pathlib import Path

import tinygrad_cpp as torch
import tinygrad_cpp.nn as nn
import tinygrad_cpp.nn.functional as F

DOCS = Path(__file__).resolve().parents[2] / "docs"


class CharRNN(nn.Module):
    def __init__(self, vocab, hidden, layers, dropout=0.0):
        super().__init__()
        self.embed = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, tokens, state=None):
        out, state = self.lstm(self.embed(tokens), state)
        return self.head(out), state


def encode(text):
    chars = sorted(set(text))
    index = {c: i for i, c in enumerate(chars)}
    return torch.tensor([index[c] for c in text], dtype=torch.long), chars


def windows(data, batch, length):
    """Endless (input, target, is_first) windows: row b of each continues row b of the one before."""
    rows = (len(data) - 1) // batch
    if rows < 1:
        raise SystemExit(f"the text has {len(data)} characters; more than --batch {batch} are needed")
    x, y = (data[i : i + batch * rows].view(batch, rows) for i in (0, 1))
    while True:
        for start in range(0, rows, length):
            stop = min(start + length, rows)
            yield x[:, start:stop], y[:, start:stop], start == 0


def train(model, data, steps, batch=16, length=64, lr=3e-3):
    """Truncated backpropagation through time: the state runs on, its history is cut after each window."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    losses, state = [], None
    for step, (x, y, first) in zip(range(1, steps + 1), windows(data, batch, length)):
        state = None if first else tuple(s.detach() for s in state)
        logits, state = model(x, state)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 20 == 0 or step in (1, steps):
            print(f"step {step:4d}  loss {loss.item():.4f}", flush=True)
    return losses


@torch.no_grad()
def sample(model, chars, length, temperature):
    model.eval()
    token, state, out = torch.zeros(1, 1, dtype=torch.long), None, []
    for _ in range(length):
        logits, state = model(token, state)
        token = torch.multinomial(F.softmax(logits[:, -1] / temperature, dim=-1), num_samples=1)
        out.append(chars[token.item()])
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="*", type=Path, default=sorted(DOCS.glob("*.md")))
    for name, default in dict(steps=400, hidden=128, layers=2, batch=16, length=64, sample=200).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--temperature", type=float, default=0.8)
    args = parser.parse_args()

    torch.manual_seed(0)
    data, chars = encode("".join(path.read_text(encoding="utf-8") for path in args.text))
    model = CharRNN(len(chars), args.hidden, args.layers)
    print(f"{len(data)} characters, {len(chars)} different, {sum(p.numel() for p in model.parameters())} parameters")
    losses = train(model, data, args.steps, args.batch, args.length)
    print(sample(model, chars, args.sample, args.temperature))
    last = losses[-20:]
    print(f"{sum(last) / len(last) / math.log(2):.3f} bits per character over the last {len(last)} steps")


if __name__ == "__main__":
    main()
