"""Comparison of gradients with finite differences."""

from collections.abc import Callable
from typing import Any

from .. import _C

Tensor = _C.Tensor


class GradcheckError(_C.AutogradError):
    """A gradient differs from finite differences."""


def _check(
    which: Callable[..., str], func: Callable[..., Any], inputs: Any, eps: float, atol: float, rtol: float, stop: bool
) -> bool:
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]

    def call(*tensors: Tensor) -> Any:
        full = list(args)
        for i, t in zip(places, tensors[0], strict=True):
            full[i] = t
        result = func(*full)
        if isinstance(result, Tensor):
            return result
        return [r for r in result if isinstance(r, Tensor)]

    text = which(call, [args[i] for i in places], eps, atol, rtol)
    if text and stop:
        raise GradcheckError(text)
    return not text


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-3,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    raise_exception: bool = True,
    **ignored: Any,
) -> bool:
    """Compares the gradients of func at float64 inputs with 4th-order differences."""
    return _check(_C._gradcheck, func, inputs, eps, atol, rtol, raise_exception)


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-3,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    raise_exception: bool = True,
    **ignored: Any,
) -> bool:
    """The same for second derivatives."""
    return _check(_C._gradgradcheck, func, inputs, eps, atol, rtol, raise_exception)
