"""Helpers that programs import from torch._utils."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate as _accumulate
from typing import Any

from . import _C

__all__ = ["_accumulate", "_flatten_dense_tensors", "_unflatten_dense_tensors"]


def _flatten_dense_tensors(tensors: Sequence[Any]) -> Any:
    """One vector of all elements."""
    return _C.ops.cat([t.reshape(-1) for t in tensors]) if len(tensors) else _C.ops.empty([0])


def _unflatten_dense_tensors(flat: Any, tensors: Sequence[Any]) -> tuple[Any, ...]:
    """Views of a vector with the sizes of the given tensors."""
    return tuple(part.view_as(t) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors))
