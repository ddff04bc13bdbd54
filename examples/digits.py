"""Trains a small network on 1,797 handwritten digits, draws its curves, saves it and loads it again.

python examples/digits.py [--epochs 20] [--out .]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.utils.plot import save_plot

DATA = Path(tg.__file__).parent / "data"


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 16, 4, 4)
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def load_data():
    """Images as (1797, 1, 8, 8) in [0, 1], labels, and a random split into four fifths and one."""
    x = tg.from_numpy(np.load(DATA / "digits_images.npy")).float().unsqueeze(1) / 16
    y = tg.from_numpy(np.load(DATA / "digits_labels.npy")).long()
    order = tg.randperm(len(x))
    train, test = order[: len(x) * 4 // 5], order[len(x) * 4 // 5 :]
    return x[train], y[train], x[test], y[test]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args()
    start = time.perf_counter()
    tg.manual_seed(0)
    x, y, x_test, y_test = load_data()
    model = make_model()
    optimizer = tg.optim.Adam(model.parameters(), lr=3e-3)
    losses, accuracies = [], []
    for epoch in range(1, args.epochs + 1):
        total = 0.0
        for batch in tg.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        with tg.no_grad():
            accuracies.append((model(x_test).argmax(1) == y_test).float().mean().item())
        losses.append(total / len(x))
        bar = "#" * (30 * epoch // args.epochs)
        status = f"loss {losses[-1]:.4f}  accuracy {accuracies[-1]:.2%}"
        print(f"\r[{bar:30}] epoch {epoch}/{args.epochs}  {status}", end="", flush=True)
    print(f"\n{time.perf_counter() - start:.1f} s, accuracy on the held-out fifth {accuracies[-1]:.2%}")

    args.out.mkdir(parents=True, exist_ok=True)
    save_plot(args.out / "digits.png", {"loss": {"training": losses}, "accuracy": {"held out": accuracies}})
    tg.save(model.state_dict(), args.out / "digits.pt")
    loaded = make_model()
    loaded.load_state_dict(tg.load(args.out / "digits.pt"))
    assert tg.equal(model(x_test), loaded(x_test))
    print(f"saved {args.out / 'digits.png'} and {args.out / 'digits.pt'}; the loaded model predicts the same")


if __name__ == "__main__":
    main()
