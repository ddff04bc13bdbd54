"""Functions of each element."""

from __future__ import annotations

from typing import Any

from .. import _C
from .._C import Tensor
from ._common import promoted

_ops = _C.ops
__all__ = ["clip", "conj", "imag", "real", "sign"]


def _unary(name: str, op: Any) -> Any:
    def function(x: Tensor, /) -> Tensor:
        return op(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of each element, (...) -> (...)."
    return function


def _binary(name: str, op: Any) -> Any:
    def function(x1: Tensor, x2: Tensor, /) -> Tensor:
        return op(*promoted(x1, x2))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of pairs of elements, broadcast; operands of two types are promoted first."
    return function


_UNARY = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan log log1p log2 log10 "
    "logical_not negative positive reciprocal round signbit sin sinh square sqrt tan tanh trunc "
    "bitwise_invert=bitwise_not"
)
_BINARY = (
    "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide floor_divide "
    "hypot logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter pow remainder "
    "subtract equal=eq greater=gt greater_equal=ge less=lt less_equal=le not_equal=ne"
)
for _names, _make in ((_UNARY, _unary), (_BINARY, _binary)):
    for _name in _names.split():
        _name, _, _op = _name.partition("=")
        globals()[_name] = _make(_name, getattr(_ops, _op or _name))
        __all__.append(_name)


def sign(x: Tensor, /) -> Tensor:
    """-1, 0 or 1 by the sign of each element; nan stays nan, which PyTorch makes 0."""
    return _ops.where(_ops.isnan(x), x, _ops.sign(x)) if x.is_floating_point() else _ops.sign(x)


def clip(x: Tensor, /, min: Any = None, max: Any = None) -> Tensor:
    """Each element, but at least min and at most max, which broadcast; the type of x stays."""
    if min is None and max is None:
        return _ops.clone(x)
    bounds = (v.to(x.dtype) if isinstance(v, Tensor) else v for v in (min, max))
    return _ops.clamp(x, *bounds).to(x.dtype)


def conj(x: Tensor, /) -> Tensor:
    """x: there are no complex numbers."""
    return x


def real(x: Tensor, /) -> Tensor:
    """x: there are no complex numbers."""
    return x


def imag(x: Tensor, /) -> Tensor:
    """Zeros: there are no complex numbers."""
    return _ops.zeros_like(x)
