"""Functions behind the modules. Most come straight from the op table, some with a keyword that PyTorch adds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .. import _C
from .._C import Tensor, ValueError
from .._C import nn_functional as _ops
from .._C.nn_functional import *  # noqa: F403
from .._C.ops import hardshrink as hardshrink
from ._fractional import fractional_max_pool2d, fractional_max_pool3d  # noqa: F401

_Function = Callable[..., Any]


def _like(op: _Function, f: _Function) -> _Function:
    """f with the name and the text of the op it calls."""
    f.__name__ = f.__qualname__ = op.__name__
    f.__doc__ = op.__doc__
    return f


def _with_inplace(plain: _Function, in_place: _Function, settings: int) -> _Function:
    """PyTorch's f(input, *settings, inplace=False)."""

    def f(input: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        if len(args) > settings:
            *args, inplace = args  # type: ignore[assignment]
        return (in_place if inplace else plain)(input, *args, **kwargs)

    return _like(plain, f)


def _with_indices(values: _Function, both: _Function, settings: int) -> _Function:
    """PyTorch's f(input, *settings, return_indices=False)."""

    def f(input: Tensor, *args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
        if len(args) > settings:
            *args, return_indices = args  # type: ignore[assignment]
        return (both if return_indices else values)(input, *args, **kwargs)

    return _like(values, f)


def _with_kept_sizes(op: _Function) -> _Function:
    """PyTorch's output_size: None keeps the input's size of that dimension."""

    def f(input: Tensor, output_size: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(output_size, (tuple, list)) and None in output_size:
            kept = input.shape[-len(output_size) :]
            output_size = [k if n is None else n for n, k in zip(output_size, kept)]
        return op(input, output_size, *args, **kwargs)

    return _like(op, f)


def _with_implicit_dim(op: _Function) -> _Function:
    """PyTorch's old default: dim=None means 0 for 0, 1 and 3 dimensions, 1 otherwise."""

    def f(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
        if dim is None:
            dim = 0 if input.dim() in (0, 1, 3) else 1
        return op(input, dim, dtype)

    return _like(op, f)


def _adapt() -> dict[str, _Function]:
    """The functions whose signature here is not that of the op, by what the table says of the op."""
    found: dict[str, _Function] = {}
    for name, plain in vars(_ops).items():
        if name.startswith("_") or name.endswith("_"):
            continue
        params = re.findall(r" (\w+)(?=[=,)])", plain.__doc__.partition(" -> ")[0])  # of its schema
        f = plain
        if hasattr(_ops, name + "_") and "inplace" not in params:
            f = _with_inplace(plain, getattr(_ops, name + "_"), len(params) - 1)
        if hasattr(_ops, name + "_with_indices"):
            f = _with_indices(f, getattr(_ops, name + "_with_indices"), len(params) - 1)
        if name.startswith("adaptive_"):
            f = _with_kept_sizes(f)
        if params == ["input", "dim", "dtype"]:
            f = _with_implicit_dim(f)
        if f is not plain:
            found[name] = f
    return found


globals().update(_adapt())


def rrelu_(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """rrelu in place."""
    return _ops.rrelu(input, lower, upper, training, True)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with any distance d; the Euclidean one if None."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(
            f"triplet_margin_with_distance_loss: reduction must be 'none', 'mean' or 'sum', not {reduction!r}"
        )
    distance = _ops.pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = _C.ops.minimum(far, distance(positive, negative))
    loss = _C.ops.clamp_min(near - far + margin, 0)
    return loss if reduction == "none" else getattr(loss, reduction)()


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """interpolate with mode 'nearest', PyTorch's older name."""
    return _ops.interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """interpolate with mode 'bilinear' and aligned corners, PyTorch's older name."""
    return _ops.interpolate(input, size, scale_factor, "bilinear", True)
