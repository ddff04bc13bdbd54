"""How much memory a training or an inference needs, before it is run; and the largest batch that fits."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from . import _C, memory
from ._modes import no_grad
from .autograd import grad

__all__ = ["BatchSize", "Estimate", "estimate", "find_batch_size"]

BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4}
# values of the size of the weights that optimizers keep
STATES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adagrad": 1, "adam": 2, "adamw": 2, "lion": 1}
# published shapes; `ffn` is the inner width of a gated feed-forward network
CONFIGS: dict[str, dict[str, int]] = {
    "llama3-8b": dict(layers=32, width=4096, heads=32, kv_heads=8, ffn=14336, vocab=128256),
    "llama3-70b": dict(layers=80, width=8192, heads=64, kv_heads=8, ffn=28672, vocab=128256),
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes by what they are for. Prints as a table."""

    parameters: int  # their number
    weights: int
    gradients: int
    optimizer: int
    activations: int  # kept from forward for backward
    workspace: int  # what ops need on the way
    kv_cache: int  # of a generation with this batch and length
    layers: int = 1

    @property
    def training(self) -> int:
        """Weights, gradients and optimizer state."""
        return self.weights + self.gradients + self.optimizer

    @property
    def peak(self) -> int:
        """Largest sum at one time of a step: gradients take the place that activations leave."""
        return self.weights + self.optimizer + max(self.activations, self.gradients) + self.workspace

    @property
    def checkpoint(self) -> int:
        """A file with weights and optimizer state."""
        return self.weights + self.optimizer

    @property
    def activations_per_layer(self) -> int:
        return self.activations // self.layers

    def __str__(self) -> str:
        names = "weights gradients optimizer training activations workspace peak checkpoint kv_cache".split()
        rows = [f"{'parameters':<12}{self.parameters:>16,}"]
        rows += [f"{n:<12}{getattr(self, n) / 1e9:>13.3f} GB" for n in names]
        return "\n".join(rows)


def _states(optimizer: Any) -> int:
    if optimizer is None:
        return 0
    name = optimizer.lower() if isinstance(optimizer, str) else type(optimizer).__name__.lower()
    if name not in STATES:
        raise _C.ValueError(f"estimate: optimizer must be None or one of {', '.join(STATES)}, got {name!r}")
    return STATES[name]


def _dtype_name(dtype: Any) -> str:
    name = str(dtype).rsplit(".", 1)[-1]
    if name not in BITS:
        raise _C.ValueError(f"estimate: dtype must be one of {', '.join(BITS)}, got {name!r}")
    return name


def _of_config(
    c: Mapping[str, int], batch: int, seq_len: int, bits: int, optimizer: Any, checkpointing: bool
) -> Estimate:
    missing = [k for k in ("layers", "width", "heads", "vocab") if k not in c]
    if missing:
        raise _C.ValueError(f"estimate: the config lacks {', '.join(missing)}")
    layers, width, vocab = c["layers"], c["width"], c["vocab"]
    kv = c.get("kv_heads", c["heads"]) * (width // c["heads"])
    ffn = c.get("ffn", 4 * width)
    block = 2 * width * width + 2 * width * kv + 3 * width * ffn + 2 * width
    parameters = c.get("parameters", layers * block + (1 if c.get("tied") else 2) * vocab * width + width)
    size = lambda values: values * bits // 8
    # kept per token: inputs of both norms, their results, queries, attention's result; keys and values; four inner ones
    kept = width if checkpointing else 6 * width + 2 * kv + 4 * ffn
    weights = size(parameters)
    tokens = batch * seq_len
    return Estimate(
        parameters=parameters,
        weights=weights,
        gradients=weights if optimizer is not None else 0,
        optimizer=weights * _states(optimizer),
        activations=size(tokens * kept) * layers if optimizer is not None else 0,
        workspace=size(tokens * vocab if optimizer is not None else batch * vocab),
        kv_cache=size(2 * layers * kv * tokens),
        layers=layers,
    )


def _of_model(
    model: Any, batch: int, seq_len: int | None, inputs: Any, loss: Callable[[Any], _C.Tensor] | None, optimizer: Any
) -> Estimate:
    device = memory._device_of(model)
    if inputs is None:
        if seq_len is None:
            raise _C.ValueError("estimate: a model needs seq_len (of a model of tokens) or inputs, a function of batch")
        inputs = lambda n: _C.ops.zeros((n, seq_len), dtype=_C.int64, device=device)
    parameters = list(model.parameters())
    state, buffers = _C.get_rng_state(), [(b, b.detach().clone()) for b in model.buffers()]

    def result(xs: tuple[Any, ...]) -> _C.Tensor:
        out = model(*xs)
        if loss is not None:
            return loss(out)
        if out.ndim == 3 and not xs[0].is_floating_point():
            flat = out.flatten(0, 1)
            return _C.nn_functional.cross_entropy(flat, _C.ops.zeros(flat.shape[:1], dtype=_C.int64, device=device))
        return out.square().mean()

    trained = [p for p in parameters if p.requires_grad]
    # Gradients that take hardly any room: with them the peak is where it is when the batch is large.
    small = sorted(trained, key=lambda p: p.numel())
    room = sum(p.numel() for p in trained) // 100
    small = [p for i, p in enumerate(small) if i == 0 or sum(q.numel() for q in small[: i + 1]) <= room]

    def peak_of(work: Callable[[], Any], before: int) -> int:
        memory.reset_peak(device)
        work()
        return memory.peak(device) - before

    def measured(n: int) -> list[int]:
        """Bytes kept for backward, of the largest of them, and at the peaks with all gradients and with few."""
        before = memory.live(device)
        xs = inputs(n)
        xs = xs if isinstance(xs, tuple) else (xs,)
        if optimizer is None or not trained:
            with no_grad():
                return [0, 0, peak_of(lambda: model(*xs), before), 0]
        peaks = [
            peak_of(lambda: grad(result(xs), trained, allow_unused=True), before),
            peak_of(lambda: grad(result(xs), small, allow_unused=True), before),
        ]
        with memory.record() as record:
            kept = result(xs)  # the graph lives as long as this
            sizes = [k.tensor.untyped_storage().nbytes() for k in record.live(parameters)]
        del kept
        return [sum(sizes), max(sizes, default=0), *peaks]

    # Near the batch itself, because products of few and of odd numbers of rows need other buffers; beyond, all grows
    # with the batch.
    few, many = (max(least, batch * eighths // 32 * 4) for least, eighths in ((2, 3), (4, 6)))
    try:
        a, b = measured(few), measured(many)
    finally:
        _C.set_rng_state(state)
        with no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    kept, largest, *peaks = (a[i] + (b[i] - a[i]) * (batch - few) // (many - few) for i in range(4))
    count = sum(p.numel() for p in parameters)
    weights = sum(p.numel() * p.element_size() for p in parameters)
    trained_bytes = sum(p.numel() * p.element_size() for p in trained)
    fixed = sum(v.numel() * v.element_size() for _, v in buffers)
    gradients = trained_bytes if optimizer is not None else 0
    return Estimate(
        parameters=count,
        weights=weights + fixed,
        gradients=gradients,
        optimizer=trained_bytes * _states(optimizer),
        activations=kept,
        workspace=max(0, *(peak - max(kept, gradients) for peak in peaks)),
        kv_cache=0,
    )


def estimate(
    model_or_config: Any,
    batch: int = 1,
    seq_len: int | None = None,
    dtype: Any = None,
    optimizer: Any = "adamw",
    checkpointing: bool = False,
    inputs: Callable[[int], Any] | None = None,
    loss: Callable[[Any], Any] | None = None,
) -> Estimate:
    """Memory of training with this batch; of inference if optimizer is None.

    A config is a name ("llama3-8b", "llama3-70b") or a mapping with layers, width, heads, vocab and, where it has them,
    kv_heads, ffn, tied, parameters; all of it in one dtype ("float32" ... "int4"), attention without its table of
    weights; with checkpointing only what goes from layer to layer is kept. A model is run forward and backward with two
    batches smaller than this one, which starts the count of the peak anew: tokens (batch, seq_len), or what
    inputs(batch) gives; it checkpoints by itself (nn.Checkpoint).
    """
    if batch < 1 or (seq_len is not None and seq_len < 1):
        raise _C.ValueError(f"estimate: batch and seq_len must be positive, got {batch} and {seq_len}")
    if isinstance(model_or_config, str):
        if model_or_config not in CONFIGS:
            raise _C.ValueError(f"estimate: known configs are {', '.join(CONFIGS)}, got {model_or_config!r}")
        model_or_config = CONFIGS[model_or_config]
    if isinstance(model_or_config, Mapping):
        bits = BITS[_dtype_name("float32" if dtype is None else dtype)]
        return _of_config(model_or_config, batch, seq_len or 1, bits, optimizer, checkpointing)
    if dtype is not None or checkpointing:
        raise _C.ValueError("estimate: a model has its own dtype and checkpointing; give them with a config")
    return _of_model(model_or_config, batch, seq_len, inputs, loss, optimizer)


class BatchSize(NamedTuple):
    """What find_batch_size found: the batch and the bytes at its peak."""

    batch: int
    peak: int

    def __str__(self) -> str:
        return f"batch {self.batch} fits, with a peak of {memory.text(self.peak)}"


def find_batch_size(
    step_fn: Callable[[int], Any], start: int = 1, largest: int = 1 << 16, device: _C.device | str = "cpu"
) -> BatchSize:
    """Calls step_fn(batch) with a batch that doubles until memory is out; gives the last one that fitted.

    Set a bound with memory.set_limit() first: a computer without one starts to swap. Raises the OutOfMemoryError where
    not even `start` fits. Starts the count of the peak anew, which is that of `device`.
    """
    if start < 1:
        raise _C.ValueError(f"find_batch_size: start must be positive, got {start}")
    best, batch = None, start
    while batch <= largest:
        memory.reset_peak(device)
        try:
            step_fn(batch)
        except _C.OutOfMemoryError:
            if best is None:
                raise
            break
        best = BatchSize(batch, memory.peak(device))
        batch *= 2
    if best is None:
        raise _C.ValueError(f"find_batch_size: start {start} is beyond largest {largest}")
    return best


def main(argv: Sequence[str]) -> None:
    """python -m tinygrad_cpp estimate"""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_cpp estimate", description=estimate.__doc__)
    parser.add_argument("config", nargs="?", choices=list(CONFIGS), help="instead of --layers ... --vocab")
    for name in "layers width heads kv-heads ffn vocab".split():
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq-len", type=int, default=1)
    parser.add_argument("--dtype", choices=list(BITS), default="float32")
    parser.add_argument("--optimizer", choices=[*STATES, "none"], default="adamw", help="none: inference")
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args(argv)
    keys = "layers width heads kv_heads ffn vocab".split()
    config = args.config or {k: getattr(args, k) for k in keys if getattr(args, k) is not None}
    optimizer = None if args.optimizer == "none" else args.optimizer
    try:
        print(estimate(config, args.batch, args.seq_len, args.dtype, optimizer, args.checkpointing))
    except _C.ValueError as e:
        parser.error(str(e))
