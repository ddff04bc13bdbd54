"""Functions that move elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _C
from .._C import Tensor
from ._common import Axis, axes_of, promoted, sizes_of

_ops = _C.ops


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """The arrays with the sizes they have together."""
    return list(_ops.broadcast_tensors(list(arrays)))


def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """x with the given sizes, as a view."""
    return _ops.broadcast_to(x, sizes_of(shape))


def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along an axis, or flattened if axis is None."""
    arrays = promoted(*arrays)
    return _ops.cat([_ops.flatten(a) for a in arrays], 0) if axis is None else _ops.cat(arrays, axis)


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The arrays along a new axis."""
    return _ops.stack(promoted(*arrays), axis)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis."""
    return tuple(_ops.unbind(x, axis))


def expand_dims(x: Tensor, /, axis: int = 0) -> Tensor:
    """x with a dimension of size 1 at axis."""
    return _ops.unsqueeze(x, axis)


def squeeze(x: Tensor, /, axis: Axis) -> Tensor:
    """x without the named dimensions; ValueError if one of them is not of size 1, where PyTorch keeps it."""
    axes = axes_of(x, axis)
    for a in axes:
        if x.shape[a] != 1:
            raise _C.ValueError(f"squeeze: dimension {a} has size {x.shape[a]}, not 1")
    return _ops.squeeze(x, axes) if axes else x


def flip(x: Tensor, /, *, axis: Axis = None) -> Tensor:
    """x in reverse order along the axes."""
    return _ops.flip(x, axes_of(x, axis))


def moveaxis(x: Tensor, source: Any, destination: Any, /) -> Tensor:
    """x with dimensions at other places."""
    return _ops.movedim(x, sizes_of(source), sizes_of(destination))


def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """x with its dimensions in the given order."""
    return _ops.permute(x, axes)


def repeat(x: Tensor, repeats: int | Tensor, /, *, axis: int | None = None) -> Tensor:
    """Each element (of the flattened x if axis is None) several times."""
    return _ops.repeat_interleave(x, repeats, axis)


def reshape(x: Tensor, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Tensor:
    """x with other sizes; copy=False raises ValueError if that needs a copy."""
    if copy is not False:
        return _ops.reshape(_ops.clone(x) if copy else x, shape)
    try:
        return x.view(shape)
    except _C.ShapeError as error:
        raise _C.ValueError(f"reshape: not possible without a copy: {error}") from None


def roll(x: Tensor, /, shift: Any, *, axis: Axis = None) -> Tensor:
    """x with its elements moved along axes, those that fall off at the other end."""
    if axis is None:
        return _ops.roll(x, sizes_of(shift))
    axes = axes_of(x, axis)
    shifts = sizes_of(shift)
    return _ops.roll(x, shifts * len(axes) if len(shifts) == 1 else shifts, axes) if axes else x


def tile(x: Tensor, repetitions: tuple[int, ...], /) -> Tensor:
    """Copies of x side by side."""
    return _ops.tile(x, repetitions)


def matrix_transpose(x: Tensor, /) -> Tensor:
    """x with its last two dimensions swapped."""
    return x.mT
