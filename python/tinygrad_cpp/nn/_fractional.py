"""Max pooling over windows whose places are random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _C
from .._C import ShapeError, Tensor, ValueError, ops


def _fractional_sizes(name: str, input: Tensor | None, size: Any, ratio: Any) -> list[int]:
    """The size of the output, from itself or from its ratio to that of the input."""
    if (size is None) == (ratio is None):
        raise ValueError(f"{name}: give either output_size or output_ratio")
    if ratio is not None and not all(0 < r < 1 for r in ratio):
        raise ValueError(f"{name}: output_ratio must be between 0 and 1, got {tuple(ratio)}")
    if input is None:
        return []
    return list(size) if size is not None else [int(n * r) for n, r in zip(input.shape[-len(ratio) :], ratio)]


def _starts(samples: Tensor, size: int, out: int, kernel: int) -> Tensor:
    """Where the windows of one dimension begin; samples (N, C) give (N, C, out)."""
    if out == 1:
        return ops.full([*samples.shape, 1], size - kernel, dtype=_C.int64, device=samples.device)
    alpha = (size - kernel) / (out - 1)
    u = samples.unsqueeze(-1)
    at = ops.arange(out, dtype=samples.dtype, device=samples.device)
    starts = ((at + u) * alpha).to(_C.int64) - (u * alpha).to(_C.int64)
    last = ops.full([*samples.shape, 1], size - kernel, dtype=_C.int64, device=samples.device)
    return ops.cat([starts[..., :-1], last], -1)


def _pool(nd: int, input: Tensor, kernel: Any, size: Any, ratio: Any, return_indices: bool, samples: Any) -> Any:
    name = f"fractional_max_pool{nd}d"
    several = lambda v: v if v is None or isinstance(v, Sequence) else (v,) * nd
    kernel = several(kernel)
    if input.dim() not in (nd + 1, nd + 2):
        raise ShapeError(f"{name}: expected {nd + 1} or {nd + 2} dimensions, got {input.dim()}")
    x = input if input.dim() == nd + 2 else input.unsqueeze(0)
    out = _fractional_sizes(name, x, several(size), several(ratio))
    if any(o + k - 1 > n or o < 1 for o, k, n in zip(out, kernel, x.shape[2:])):
        raise ShapeError(f"{name}: windows of {tuple(kernel)} and output {tuple(out)} do not fit in {tuple(x.shape)}")
    if samples is None:
        samples = ops.rand([*x.shape[:2], nd], dtype=x.dtype, device=x.device)
    # PyTorch's order of the samples: width first for images, depth first for volumes
    order = reversed(range(nd)) if nd == 2 else range(nd)
    # (N, C, *out, *kernel): positions in one channel
    at = ops.zeros([1] * (2 + 2 * nd), dtype=_C.int64, device=x.device)
    for d, s in enumerate(order):
        starts = _starts(samples[..., s], x.shape[2 + d], out[d], kernel[d])
        starts = starts.reshape([*x.shape[:2], *(out[d] if i == d else 1 for i in range(nd)), *[1] * nd])
        step = ops.arange(kernel[d], device=x.device).reshape([kernel[d] if i == d else 1 for i in range(nd)])
        at = at * x.shape[2 + d] + starts + step
    at = at.reshape([*x.shape[:2], *out, -1])
    windows = x.flatten(2).gather(2, at.flatten(2)).reshape(at.shape)
    values, which = windows.max(-1)
    indices = at.gather(-1, which.unsqueeze(-1)).squeeze(-1)
    if input.dim() == nd + 1:
        values, indices = values.squeeze(0), indices.squeeze(0)
    return (values, indices) if return_indices else values


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Largest values of (N, C, H, W) over windows at random places; ``_random_samples`` (N, C, 2) chooses them."""
    return _pool(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Largest values of (N, C, D, H, W) over windows at random places; ``_random_samples`` (N, C, 3) chooses them."""
    return _pool(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)
