"""Types: what they have in common, their kinds and limits."""

from __future__ import annotations

from typing import Any

from .. import _C, _info
from .._C import Tensor, dtype, float32, float64, int8, int16, int32, int64, promote_types, uint8

_ops = _C.ops

KINDS = {
    "bool": (_C.bool,),
    "signed integer": (int8, int16, int32, int64),
    "unsigned integer": (uint8,),
    "integral": (int8, int16, int32, int64, uint8),
    "real floating": (float32, float64),
    "complex floating": (),
    "numeric": (int8, int16, int32, int64, uint8, float32, float64),
}


def astype(x: Tensor, dtype: dtype, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """x with another element type; x itself if copy is false and nothing changes."""
    result = x.to(dtype=dtype, device=device or x.device)
    return _ops.clone(result) if copy and result is x else result


def result_type(*arrays_and_dtypes: Any) -> dtype:
    """The type that tensors and types have together."""
    types = [v.dtype if isinstance(v, Tensor) else v for v in arrays_and_dtypes]
    if not types:
        raise _C.ValueError("result_type: at least one array or dtype is needed")
    result = types[0]
    for other in types[1:]:
        result = promote_types(result, other)
    return result


def can_cast(from_: Any, to: dtype, /) -> bool:
    """Whether promotion of the two types leads to `to`."""
    return result_type(from_, to) == to


def isdtype(dtype: dtype, kind: Any) -> bool:
    """Whether a type is of a kind: a type, one of the standard's words ("integral" ...), or a tuple of those."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in KINDS:
            raise _C.ValueError(f"isdtype: no kind {kind!r}; kinds are {', '.join(KINDS)}")
        return dtype in KINDS[kind] or (kind in ("real floating", "numeric") and dtype.is_floating_point)
    return dtype == kind


class finfo(_info.finfo):
    """Limits of the floating-point type of a tensor, or of a type itself."""

    def __init__(self, type: Any, /) -> None:
        super().__init__(result_type(type))
        self.dtype = result_type(type)


class iinfo(_info.iinfo):
    """Limits of the integer type of a tensor, or of a type itself."""

    def __init__(self, type: Any, /) -> None:
        super().__init__(result_type(type))
        self.dtype = result_type(type)
