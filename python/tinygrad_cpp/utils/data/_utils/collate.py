"""Samples to batches: tensors are stacked, numbers become tensors, containers are collated element by element."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from .... import _C

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

Tensor = _C.Tensor
CollateMap = dict[Any, Callable[..., Any]]


def _is_namedtuple(x: Any) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _rebuild(like: Any, values: Any, plain: Callable[[Any], Any]) -> Any:
    """A container of the class of `like` with other values, or a plain one if the class cannot be made so."""
    try:
        if isinstance(like, (MutableMapping, MutableSequence)):
            other: Any = copy.copy(like)  # keeps what a subclass holds besides its values
            if isinstance(like, MutableMapping):
                other.update(values)
            else:
                other[:] = values
            return other
        return type(like)(values)
    except (TypeError, AttributeError):
        return plain(values)


def default_convert(data: Any) -> Any:
    """NumPy arrays and numbers to tensors, at any depth of containers; everything else stays."""
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUOMmV" else _C.as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuild(data, {k: default_convert(v) for k, v in data.items()}, dict)
    if isinstance(data, (Tensor, str, bytes)) or not isinstance(data, Sequence):
        return data
    values = [default_convert(v) for v in data]
    if _is_namedtuple(data):
        return type(data)(*values)
    return values if isinstance(data, tuple) else _rebuild(data, values, list)


def pinned(data: Any) -> Any:
    """The tensors in page-locked memory, at any depth of containers; what has a pin_memory() of its own is asked."""
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, Mapping):
        return _rebuild(data, {k: pinned(v) for k, v in data.items()}, dict)
    if isinstance(data, (str, bytes)) or not isinstance(data, Sequence):
        return data
    values = [pinned(v) for v in data]
    if _is_namedtuple(data):
        return type(data)(*values)
    return tuple(values) if isinstance(data, tuple) else _rebuild(data, values, list)


def collate(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Any:
    """Joins samples of the same structure into one batch.

    `collate_fn_map` maps a class to `f(batch, *, collate_fn_map)`, asked before containers are looked into.
    """
    if len(batch) == 0:
        raise _C.ValueError("default_collate: the batch is empty")
    elem = batch[0]
    for kind, fn in (collate_fn_map or {}).items():
        if isinstance(elem, kind):
            return fn(batch, collate_fn_map=collate_fn_map)
    if isinstance(elem, Mapping):
        missing = next((k for k in elem for d in batch if k not in d), None)
        if missing is not None:
            raise _C.ValueError(f"default_collate: not every sample has the key {missing!r}")
        return _rebuild(elem, {k: collate([d[k] for d in batch], collate_fn_map=collate_fn_map) for k in elem}, dict)
    if isinstance(elem, Sequence):
        lengths = {len(s) for s in batch}
        if len(lengths) > 1:
            raise _C.ValueError(f"default_collate: the samples' sequences have different lengths, {sorted(lengths)}")
        values = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)]
        if _is_namedtuple(elem):
            return type(elem)(*values)
        return values if isinstance(elem, tuple) else _rebuild(elem, values, list)
    raise _C.TypeError(
        "default_collate: a batch must hold tensors, NumPy arrays, numbers, strings, dicts or sequences,"
        f" not {type(elem).__name__}; pass a collate_fn"
    )


def _stack(batch: Sequence[Tensor], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return _C.ops.stack(list(batch), 0)


def _arrays(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    if batch[0].dtype.kind in "SUOMmV":
        raise _C.TypeError(f"default_collate: NumPy values of type {batch[0].dtype} cannot become a tensor")
    if isinstance(batch[0], np.ndarray):
        return _C.ops.stack([_C.as_tensor(b) for b in batch], 0)
    return _C.as_tensor(np.array(batch))


def _floats(batch: Sequence[float], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return _C.tensor(list(batch), dtype=_C.float64)


def _integers(batch: Sequence[int], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return _C.tensor(list(batch))


def _as_is(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Sequence[Any]:
    return batch


# the first that fits: np.str_ is a str, np.float64 a float, and all are np.generic
default_collate_fn_map: CollateMap = {
    Tensor: _stack,
    (str, bytes): _as_is,
    (np.ndarray, np.generic): _arrays,
    float: _floats,
    int: _integers,
}


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of a list of samples.

    Tensors are stacked along a new first dimension; NumPy arrays likewise, and NumPy numbers become a tensor of their
    dtype; float and int become float64 and int64 tensors; strings and bytes stay a list. Dicts, namedtuples and
    sequences are collated entry by entry, a tuple as a list. Anything else is a TypeError.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)
