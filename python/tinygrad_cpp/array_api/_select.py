"""Products, selection, order and sets."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from .. import _C
from .._C import Tensor
from ._common import promoted

_ops = _C.ops


def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The matrix product over the last two dimensions."""
    return _ops.matmul(*promoted(x1, x2))


def tensordot(x1: Tensor, x2: Tensor, /, *, axes: Any = 2) -> Tensor:
    """Products summed over axes: the last and first `axes`, or pairs (of_x1, of_x2)."""
    return _ops.tensordot(*promoted(x1, x2), *([axes] if isinstance(axes, int) else axes))


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Products summed over one axis, the other dimensions broadcast."""
    x1, x2 = promoted(x1, x2)
    x1, x2 = (_ops.movedim(x, axis, -1) for x in (x1, x2))
    if x1.shape[-1] != x2.shape[-1]:
        raise _C.ShapeError(f"vecdot: {x1.shape[-1]} vs {x2.shape[-1]} elements along axis {axis}")
    return _ops.sum(x1 * x2, -1, dtype=x1.dtype)


def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The elements of x at 1-d indices, negative ones from the end, along an axis, which a 1-d x may leave out."""
    if axis is None and x.ndim != 1:
        raise _C.ValueError(f"take: axis is needed for {x.ndim} dimensions")
    axis = axis or 0
    return _ops.index_select(x, axis, _ops.where(indices < 0, indices + x.shape[axis], indices))


def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """The elements of x at indices along an axis, the other dimensions matched."""
    return _ops.take_along_dim(x, indices, axis)


def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the largest element is."""
    return _ops.argmax(x, axis, keepdims)


def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the smallest element is."""
    return _ops.argmin(x, axis, keepdims)


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """The indices of elements that are not zero, one tensor for each dimension."""
    if x.ndim == 0:
        raise _C.ValueError("nonzero: a 0-d array has no indices")
    return tuple(_ops.nonzero(x, as_tuple=True))


def searchsorted(x1: Tensor, x2: Tensor, /, *, side: str = "left", sorter: Tensor | None = None) -> Tensor:
    """Where the values x2 belong in the sorted 1-d x1 (sorted by sorter, if it is given)."""
    x1, x2 = promoted(x1, x2)
    return _ops.searchsorted(x1 if sorter is None else take(x1, sorter), x2, right=side == "right")


def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """x1 where condition holds, else x2."""
    x1, x2 = promoted(x1, x2)
    return _ops.where(condition, x1, x2)


def isin(x1: Tensor, x2: Tensor, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is one of x2's."""
    return _ops.isin(*promoted(x1, x2), invert=invert)


def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """x in order along an axis."""
    return _ops.sort(x, axis, descending, stable).values


def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that put x in order along an axis."""
    return _ops.argsort(x, axis, descending, stable)


_UniqueAll = namedtuple("_UniqueAll", "values indices inverse_indices counts")
_UniqueCounts = namedtuple("_UniqueCounts", "values counts")
_UniqueInverse = namedtuple("_UniqueInverse", "values inverse_indices")


def unique_all(x: Tensor, /) -> _UniqueAll:
    """The different values in order, where each is first, which of them each element is, how often each occurs.

    Every nan is a value of its own.
    """
    flat = _ops.flatten(x)
    order = _ops.argsort(flat, 0, False, True)
    ordered = flat[order]
    first = _ops.ones_like(order, dtype=_C.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    starts = _ops.nonzero(first)[:, 0]
    inverse = _ops.empty_like(order)
    inverse[order] = _ops.cumsum(first, 0) - 1
    counts = _ops.diff(starts, append=_C.tensor([flat.numel()]))
    return _UniqueAll(ordered[starts], order[starts], inverse.reshape(x.shape), counts)


def unique_counts(x: Tensor, /) -> _UniqueCounts:
    """The different values in order and how often each occurs."""
    found = unique_all(x)
    return _UniqueCounts(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> _UniqueInverse:
    """The different values in order and which of them each element is."""
    found = unique_all(x)
    return _UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """The different values in order."""
    return unique_all(x).values
