"""Functions of PyTorch that are a few lines on top of the op table, and constants its programs pass along."""

from __future__ import annotations

from typing import Any

from . import _C
from ._C import NotImplementedError, ShapeError, Size, Tensor, as_tensor

asarray = as_tensor


class _Constant:
    """A value with a name: programs written for PyTorch pass it, and it changes nothing here."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name.removeprefix("tinygrad_cpp.")


contiguous_format = _Constant("tinygrad_cpp.contiguous_format")
preserve_format = _Constant("tinygrad_cpp.preserve_format")
channels_last = _Constant("tinygrad_cpp.channels_last")
strided = _Constant("tinygrad_cpp.strided")


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element of a tensor is not zero."""
    return bool(input)


def is_complex(input: Tensor) -> bool:
    """False: there are no complex types."""
    return input.is_complex()


def broadcast_shapes(*shapes: Any) -> Size:
    """The sizes that tensors of these sizes have together after broadcasting."""
    result: list[int] = []
    for shape in shapes:
        sizes = [shape] if isinstance(shape, int) else list(shape)
        result = [1] * (len(sizes) - len(result)) + result
        for i in range(1, len(sizes) + 1):
            if result[-i] != sizes[-i] and 1 not in (result[-i], sizes[-i]):
                raise ShapeError(f"broadcast_shapes: {tuple(shape)} does not fit {result} at dimension {-i}")
            if result[-i] == 1:
                result[-i] = sizes[-i]
    return Size(result)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, **kwargs: Any) -> Tensor:
    """Sums products over the last ``dims`` dimensions of a and the first of b, or over ``dims=(of_a, of_b)``."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if not isinstance(dims, (tuple, list)) or len(dims) != 2:
        return _C.ops.tensordot(a, b, dims, **kwargs)
    of_a, of_b = ([d] if isinstance(d, int) else d for d in dims)
    return _C.ops.tensordot(a, b, of_a, of_b, **kwargs)


def set_default_device(device: Any) -> None:
    """Accepts the CPU, where tensors are made without being told otherwise."""
    if device is not None and _C.device(device).type != "cpu":
        raise NotImplementedError(f"set_default_device: only 'cpu' can be the default, not {str(device)!r}")
