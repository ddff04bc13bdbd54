"""A GPT with and without activation checkpointing: memory at the peak, work, time, and the same bits.

python examples/activation_checkpointing.py [--layers 4 9 16 25] [--width 64] [--context 64] [--batch 16] [--out .]

"blocks" keeps only what goes from block to block; "segments" checkpoints about sqrt(layers) groups of blocks. Work is
counted in multiplications of the layers and of attention, times 2; memory is what the allocator counts beyond what is
there before a step.
"""

import argparse
import math
import time
from pathlib import Path

import tinygrad_cpp as tg
from char_gpt import GPT, Block
from tinygrad_cpp import nn
from tinygrad_cpp.nn import functional as F
from tinygrad_cpp.utils.checkpoint import checkpoint_sequential
from tinygrad_cpp.utils.plot import save_plot


class Segments(nn.Module):
    """Blocks in a row, checkpointed in about sqrt(n) segments."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        return checkpoint_sequential(list(self.blocks), round(math.sqrt(len(self.blocks))), x)


WAYS = {
    "all kept": lambda blocks: nn.Sequential(*blocks),
    "blocks": lambda blocks: nn.Sequential(*[nn.Checkpoint(b) for b in blocks]),
    "segments": Segments,
}


def count_work(model):
    """A list whose sum grows by the operations of every linear layer and attention that is run forward."""
    work = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda m, x: work.append(2 * x[0].numel() * m.out_features))
        elif isinstance(module, Block):
            module.register_forward_pre_hook(lambda m, x: work.append(4 * x[0].shape[1] * x[0].numel()))
    return work


def measure(way, layers, args):
    """Peak in MiB, operations in 1e9, seconds per step, and the gradients of one step."""
    tg.manual_seed(0)
    model = GPT(65, args.context, args.width, 4, layers)
    model.blocks = WAYS[way](list(model.blocks))
    data = tg.randint(65, (args.batch, args.context + 1))

    def step():
        model.zero_grad()
        loss = F.cross_entropy(model(data[:, :-1]).flatten(0, 1), data[:, 1:].flatten())
        forward = sum(work)
        loss.backward()
        return 3 * forward + sum(work) - forward  # backward needs twice the work of forward; the rest is done again

    work = []
    step()
    model.zero_grad()
    tg.memory.reset_peak()
    before = tg.memory.live()
    times = [time.perf_counter()]
    for _ in range(3):
        step()
        times.append(time.perf_counter())
    seconds = min(b - a for a, b in zip(times, times[1:]))
    peak = (tg.memory.peak() - before) / 2**20
    gradients = [p.grad for p in model.parameters()]
    work = count_work(model)
    return peak, step() / 1e9, seconds, gradients


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 9, 16, 25])
    for name, default in dict(width=64, context=64, batch=16).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args()

    charts = {title: {way: [] for way in WAYS} for title in ("peak MiB", "work", "seconds")}
    print(f"{'layers':>6}  {'way':<9}{'peak':>12}{'work':>14}{'time':>11}")
    for layers in args.layers:
        results = {way: measure(way, layers, args) for way in WAYS}
        plain = results["all kept"]
        for way, (peak, work, seconds, gradients) in results.items():
            same = all(tg.equal(a, b) for a, b in zip(gradients, plain[3]))
            print(
                f"{layers:>6}  {way:<9}{peak:>8.2f} MiB{work:>8.2f} GFLOP{seconds * 1e3:>8.1f} ms   "
                f"{peak / plain[0]:.2f} of the memory, {work / plain[1]:.2f} of the work, "
                f"gradients {'bit-equal' if same else 'DIFFER'}",
                flush=True,
            )
            for title, value in zip(charts, (peak, work, seconds)):
                charts[title][way].append(value)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "activation_checkpointing.png"
    save_plot(path, charts)
    print(f"curves over {args.layers} layers: {path}")


if __name__ == "__main__":
    main()
