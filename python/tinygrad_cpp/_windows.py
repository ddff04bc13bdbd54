"""Windows for the analysis of signals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import _C
from ._C import DTypeError, Tensor, ValueError


def _window(
    name: str, value: Callable[[Tensor], Tensor], length: int, periodic: bool, dtype: Any, kwargs: dict[str, Any]
) -> Tensor:
    """value(t) for t from 0 to 1 over `length` points, or over the period that one more point would end."""
    dtype = dtype or _C.get_default_dtype()
    if not dtype.is_floating_point:
        raise DTypeError(f"{name}: expected a floating-point dtype, got {dtype}")
    if length < 0:
        raise ValueError(f"{name}: window_length must not be negative, got {length}")
    if length < 2:
        return _C.ops.ones(length, dtype=dtype, **kwargs)
    requires_grad = kwargs.pop("requires_grad", False)
    t = _C.ops.arange(length, dtype=_C.float64, **kwargs) / (length if periodic else length - 1)
    return value(t).to(dtype).requires_grad_(requires_grad)


def bartlett_window(window_length: int, periodic: bool = True, *, dtype: Any = None, **kwargs: Any) -> Tensor:
    """A triangle from 0 to 1 and back."""
    return _window("bartlett_window", lambda t: 1 - (2 * t - 1).abs(), window_length, periodic, dtype, kwargs)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    **kwargs: Any,
) -> Tensor:
    """alpha - beta cos(2 pi t)."""
    return _window(
        "hamming_window", lambda t: alpha - beta * (2 * math.pi * t).cos(), window_length, periodic, dtype, kwargs
    )


def hann_window(window_length: int, periodic: bool = True, *, dtype: Any = None, **kwargs: Any) -> Tensor:
    """0.5 - 0.5 cos(2 pi t)."""
    return hamming_window(window_length, periodic, 0.5, 0.5, dtype=dtype, **kwargs)


def blackman_window(window_length: int, periodic: bool = True, *, dtype: Any = None, **kwargs: Any) -> Tensor:
    """0.42 - 0.5 cos(2 pi t) + 0.08 cos(4 pi t)."""

    def value(t: Tensor) -> Tensor:
        return 0.42 - 0.5 * (2 * math.pi * t).cos() + 0.08 * (4 * math.pi * t).cos()

    return _window("blackman_window", value, window_length, periodic, dtype, kwargs)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None, **kwargs: Any
) -> Tensor:
    """i0(beta sqrt(1 - (2 t - 1)^2)) / i0(beta)."""

    def value(t: Tensor) -> Tensor:
        top = _C.ops.full((), beta, dtype=t.dtype, device=t.device)
        return _C.ops.i0(beta * (1 - (2 * t - 1) ** 2).clamp(min=0).sqrt()) / _C.ops.i0(top)

    return _window("kaiser_window", value, window_length, periodic, dtype, kwargs)
