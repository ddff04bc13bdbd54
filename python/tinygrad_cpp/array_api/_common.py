"""What the chapters of the array API share: promotion of operands, sizes and axes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from .. import _C
from .._C import Tensor, promote_types

_ops = _C.ops

Axis = int | tuple[int, ...] | None


def promoted(*values: Any) -> list[Any]:
    """The tensors among the values cast to one type; unlike PyTorch's rule a 0-d tensor counts like any other."""
    kinds = {v.dtype for v in values if isinstance(v, Tensor)}
    if len(kinds) < 2:
        return list(values)
    common = functools.reduce(promote_types, kinds)
    return [v.to(common) if isinstance(v, Tensor) else v for v in values]


def sizes_of(shape: Any) -> tuple[int, ...]:
    return tuple(shape) if isinstance(shape, Sequence) else (shape,)


def axes_of(x: Tensor, axis: Axis) -> list[int]:
    """The dimensions that an axis argument of a reduction means."""
    return list(range(x.ndim)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
