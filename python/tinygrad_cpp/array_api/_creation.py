"""Functions that make tensors."""

from __future__ import annotations

from typing import Any

from .. import _C
from .._C import Tensor, dtype
from ._common import sizes_of

_ops = _C.ops


def asarray(obj: Any, /, *, dtype: dtype | None = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """Numbers, nested sequences, arrays or buffers as a tensor; copy=False raises ValueError where a copy is needed."""
    if isinstance(obj, Tensor):
        source = obj
    elif hasattr(obj, "__dlpack__"):
        source = _C.from_dlpack(obj)
    elif copy is False:
        raise _C.ValueError(f"asarray: a {type(obj).__name__} cannot become a tensor without a copy")
    else:
        return _C.as_tensor(obj, dtype=dtype, device=device)
    result = _C.as_tensor(source, dtype=dtype, device=device)
    if copy is False and result is not source:
        raise _C.ValueError(f"asarray: {source.dtype} to {result.dtype} needs a copy")
    return _ops.clone(result) if copy and result is source else result


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """The memory of another library's array, shared unless copy=True."""
    return _C.from_dlpack(x, device=device, copy=copy)


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """start, start + step ... below stop; empty where PyTorch refuses bounds that run the other way."""
    start, stop = (0, start) if stop is None else (start, stop)
    if dtype is None and not all(isinstance(v, int) for v in (start, stop, step)):
        dtype = _C.get_default_dtype()
    if step != 0 and (stop - start) / step <= 0:
        stop = start
    return _ops.arange(start, stop, step, dtype=dtype, device=device)


def empty(shape: Any, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of any values."""
    return _ops.empty(sizes_of(shape), dtype=dtype, device=device)


def zeros(shape: Any, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of zeros."""
    return _ops.zeros(sizes_of(shape), dtype=dtype, device=device)


def ones(shape: Any, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of ones."""
    return _ops.ones(sizes_of(shape), dtype=dtype, device=device)


def full(shape: Any, fill_value: Any, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of one value, of the value's type unless dtype is given."""
    return _ops.full(sizes_of(shape), fill_value, dtype=dtype, device=device)


def empty_like(x: Tensor, /, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of any values with x's sizes."""
    return _ops.empty_like(x, dtype=dtype, device=device)


def zeros_like(x: Tensor, /, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """Zeros with x's sizes."""
    return _ops.zeros_like(x, dtype=dtype, device=device)


def ones_like(x: Tensor, /, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """Ones with x's sizes."""
    return _ops.ones_like(x, dtype=dtype, device=device)


def full_like(x: Tensor, /, fill_value: Any, *, dtype: dtype | None = None, device: Any = None) -> Tensor:
    """One value with x's sizes."""
    return _ops.full_like(x, fill_value, dtype=dtype, device=device)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: dtype | None = None, device: Any = None
) -> Tensor:
    """(n_rows, n_cols) with ones on the k-th diagonal."""
    n_cols = n_rows if n_cols is None else n_cols
    columns = _ops.arange(n_cols, device=device)
    k = max(min(k, n_cols), -n_rows)
    return (columns - _ops.arange(n_rows, device=device)[:, None] == k).to(dtype or _C.get_default_dtype())


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: dtype | None = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """num values at equal distances from start to stop, with or without stop."""
    values = _ops.linspace(start, stop, num if endpoint else num + 1, dtype=dtype, device=device)
    return values if endpoint else values[:num]


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> list[Tensor]:
    """The coordinates of a grid, one tensor for each of the 1-d arrays."""
    return list(_ops.meshgrid(list(arrays), indexing=indexing)) if arrays else []


def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The lower triangles of matrices (..., M, N), zeros above."""
    return _ops.tril(x, k)


def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The upper triangles of matrices (..., M, N), zeros below."""
    return _ops.triu(x, k)
