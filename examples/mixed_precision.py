"""Trains a network with small gradients in float32, in float16, and in float16 with a scaled loss.

Without scaling most gradients are below the smallest number of float16, become zero, and the network stops learning;
the picture shows where the gradients lie before and after scaling.

python examples/mixed_precision.py [--steps 300] [--out .]
"""

import argparse
from pathlib import Path

import numpy as np
import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.utils.plot import save_plot

DATA = Path(tg.__file__).parent / "data"
SMALLEST = -24  # 2 ** -24 is the smallest positive number of float16
# The mean over a large batch, many positions or a small weight of one term in a loss makes gradients this small.
LOSS_WEIGHT = 1e-6


def train(steps, x, y, dtype=None, scaled=False):
    """Losses, and log2 of the sizes of the gradients that the activations of the first layer got in the first step."""
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = tg.optim.Adam(model.parameters(), lr=2e-3, eps=1e-15)
    scaler = tg.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=20, enabled=scaled)
    losses, sizes = [], []
    for step in range(steps):
        batch = tg.randint(0, len(x), (128,))
        with tg.autocast("cpu", dtype=dtype or tg.float16, enabled=dtype is not None):
            hidden = model[0](x[batch])
            if step == 0:
                hidden.register_hook(lambda g: sizes.extend(log2_of(g)))
            loss = nn.functional.cross_entropy(model[1:](hidden), y[batch])
        optimizer.zero_grad()
        scaler.scale(loss * LOSS_WEIGHT).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses, sizes, scaler


def log2_of(g):
    """log2 |g| of every element; zeros, of which relu makes half, as -40."""
    g = g.double().abs().numpy().ravel()
    return np.where(g > 0, np.log2(np.maximum(g, 2.0**-39)), -40).tolist()


def histogram(sizes):
    """Percentage of the elements per power of two from 2**-40 (and zero) to 1."""
    counts, _ = np.histogram(sizes, bins=np.arange(-40.5, 1))
    return (100 * counts / len(sizes)).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args()
    x = tg.from_numpy(np.load(DATA / "digits_images.npy")).float().flatten(1) / 16
    y = tg.from_numpy(np.load(DATA / "digits_labels.npy")).long()
    full, true_sizes, _ = train(args.steps, x, y)
    plain, plain_sizes, _ = train(args.steps, x, y, tg.float16)
    saved, scaled_sizes, scaler = train(args.steps, x, y, tg.float16, scaled=True)
    for label, losses, sizes in (
        ("float32", full, true_sizes),
        ("float16", plain, plain_sizes),
        ("float16, loss scaled", saved, scaled_sizes),
    ):
        zeros = 100 * np.mean(np.array(sizes) == -40)
        print(f"{label:21} loss {losses[0]:.3f} -> {np.mean(losses[-10:]):.3f}, {zeros:.0f} % of the gradients are 0")
    print(f"final scale {scaler.get_scale():g}, {scaler.skipped_steps} steps skipped")
    save_plot(
        args.out / "mixed_precision.png",
        {
            "loss": {"float32": full, "float16": plain, "float16, scaled": saved},
            "gradients (%) per power of two, from 2^-40": {
                "float32": histogram(true_sizes),
                "float16": histogram(plain_sizes),
                "float16, scaled": histogram(scaled_sizes),
            },
        },
    )
    print("wrote", args.out / "mixed_precision.png")


if __name__ == "__main__":
    main()
