"""The part of PyTorch's module that needs no complex numbers; every transform raises NotImplementedError."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import _C
from ._C import NotImplementedError, Tensor, ValueError, ops


def fftfreq(n: int, d: float = 1.0, **options: Any) -> Tensor:
    """Frequencies of the n bins of a transform of samples that lie d apart: 0, 1, .., -2, -1 over n * d."""
    options = _real(n, options)
    return ops.cat([ops.arange((n + 1) // 2, **options), ops.arange(-(n // 2), 0, **options)]) / (n * d)


def rfftfreq(n: int, d: float = 1.0, **options: Any) -> Tensor:
    """The frequencies of fftfreq that are not negative, the middle one included: 0, 1, .., n // 2 over n * d."""
    return ops.arange(n // 2 + 1, **_real(n, options)) / (n * d)


def _real(n: int, options: dict[str, Any]) -> dict[str, Any]:
    if n <= 0:
        raise ValueError(f"fftfreq: n must be positive, got {n}")
    return {"dtype": _C.get_default_dtype(), **{k: v for k, v in options.items() if v is not None}}


def fftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """The zero frequency moved from the front to the middle of dim (all when None)."""
    return _shift(input, dim, lambda n: n // 2)


def ifftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of fftshift."""
    return _shift(input, dim, lambda n: -(n // 2))


def _shift(input: Tensor, dim: int | Sequence[int] | None, by: Callable[[int], int]) -> Tensor:
    dims = list(range(input.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return ops.roll(input, [by(input.shape[d]) for d in dims], dims)


def _refuse(name: str) -> Callable[..., NoReturn]:
    def f(*args: Any, **kwargs: Any) -> NoReturn:
        """Not implemented: the result, or the input, is complex."""
        raise NotImplementedError(f"fft.{name}: complex numbers are out of scope")

    f.__name__ = f.__qualname__ = name
    return f


for _kind in ("", "i", "r", "ir", "h", "ih"):
    for _size in ("fft", "fft2", "fftn"):
        globals()[_kind + _size] = _refuse(_kind + _size)


def __getattr__(name: str) -> Any:
    from ._suggest import unknown_name

    raise AttributeError(unknown_name(__name__, name, globals()))
