"""Functions over axes."""

from __future__ import annotations

from typing import Any

from .. import _C
from .._C import Tensor, dtype
from ._common import Axis, axes_of

_ops = _C.ops


def sum(x: Tensor, /, *, axis: Axis = None, dtype: dtype | None = None, keepdims: bool = False) -> Tensor:
    """The sum over axes; small integers are summed as int64."""
    axes = axes_of(x, axis)
    return _ops.sum(x, axes, keepdims, dtype=dtype) if axes else _ops.sum(x[None], 0, dtype=dtype)


def prod(x: Tensor, /, *, axis: Axis = None, dtype: dtype | None = None, keepdims: bool = False) -> Tensor:
    """The product over axes; small integers are multiplied as int64."""
    result = _ops.prod(x[None], 0, dtype=dtype)
    axes = sorted((a % x.ndim for a in axes_of(x, axis)), reverse=True)
    for a in axes:
        result = _ops.prod(result, a, keepdims, dtype=result.dtype)
    return result


def max(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over axes."""
    axes = axes_of(x, axis)
    return _ops.amax(x, axes, keepdims) if axes else _ops.clone(x)


def min(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over axes."""
    axes = axes_of(x, axis)
    return _ops.amin(x, axes, keepdims) if axes else _ops.clone(x)


def mean(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over axes."""
    axes = axes_of(x, axis)
    return _ops.mean(x, axes, keepdims) if axes else _ops.clone(x)


def var(x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over axes: squared distances to the mean, summed, divided by their number less correction."""
    axes = axes_of(x, axis)
    return _ops.var(x, axes, correction=correction, keepdim=keepdims) if axes else x - x


def std(x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of the variance."""
    return _ops.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def all(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over axes are true (not zero)."""
    axes = axes_of(x, axis)
    return _ops.all(x, axes, keepdims) if axes else x.to(_C.bool)


def any(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether an element over axes is true (not zero)."""
    axes = axes_of(x, axis)
    return _ops.any(x, axes, keepdims) if axes else x.to(_C.bool)


def count_nonzero(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements over axes are not zero."""
    return sum(x != 0, axis=axis, keepdims=keepdims)


def _cumulative(name: str, op: Any, initial: int) -> Any:
    def function(
        x: Tensor,
        /,
        *,
        axis: int | None = None,
        dtype: dtype | None = None,
        include_initial: bool = False,
    ) -> Tensor:
        if axis is None:
            if x.ndim != 1:
                raise _C.ValueError(f"{name}: axis is needed for {x.ndim} dimensions")
            axis = 0
        result = op(x, axis, dtype=dtype)
        if not include_initial:
            return result
        sizes = list(x.shape)
        sizes[axis] = 1
        return _ops.cat([_ops.full(sizes, initial, dtype=result.dtype), result], axis)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The {name.replace('_', ' ')} along an axis; include_initial puts {initial} in front."
    return function


cumulative_sum = _cumulative("cumulative_sum", _ops.cumsum, 0)
cumulative_prod = _cumulative("cumulative_prod", _ops.cumprod, 1)


def diff(
    x: Tensor,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The n-th differences of neighbours along an axis."""
    return _ops.diff(x, n, axis, prepend, append)
