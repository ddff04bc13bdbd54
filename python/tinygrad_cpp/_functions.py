"""Functions of PyTorch that are a few lines on top of the op table, and constants its programs pass along."""

from __future__ import annotations

import builtins
import math
from typing import Any

from . import _C
from ._C import (
    DTypeError,
    IndexError,
    NotImplementedError,
    ShapeError,
    Size,
    Tensor,
    ValueError,
    as_tensor,
    dtype,
    from_numpy,
)

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
        for i in builtins.range(1, len(sizes) + 1):
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


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Matrix (n, N) of the powers 0 to N - 1 of a vector's elements, from the highest unless increasing."""
    if x.dim() != 1:
        raise ShapeError(f"vander: expected a vector, got {x.dim()} dimensions of size {tuple(x.shape)}")
    powers = _C.ops.arange(len(x) if N is None else N, device=x.device)
    if not x.is_floating_point():
        x = x.long()
    return x.unsqueeze(1) ** (powers if increasing else powers.flip(0))


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """The coordinates, one tensor per dimension of `shape`, of flat positions in a tensor of that shape."""
    sizes = [shape] if isinstance(shape, int) else list(shape)
    n = Size(sizes).numel()
    if indices.is_floating_point() or indices.dtype is _C.bool:
        raise DTypeError(f"unravel_index: expected integer indices, got {indices.dtype}")
    if indices.numel() and not (-n <= int(indices.min()) and int(indices.max()) < n):
        raise IndexError(f"unravel_index: an index is outside of the {n} elements of size {tuple(sizes)}")
    rest = indices % n if n else indices
    coordinates = []
    for size in reversed(sizes):
        coordinates.append(rest % size if size else rest)
        rest = rest // size if size else rest
    return tuple(reversed(coordinates))


def frombuffer(buffer: Any, *, dtype: dtype, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A vector over the bytes of an object with Python's buffer protocol; a read-only one is copied, with a warning.

    `count` elements (all that fit if -1) from byte `offset` on. ValueError where the bytes are too few.
    """
    view = memoryview(buffer).cast("B")
    have = len(view) - offset
    if offset < 0 or have < 0:
        raise ValueError(f"frombuffer: offset {offset} is outside of the {len(view)} bytes")
    if count < 0:
        if have % dtype.itemsize:
            raise ValueError(f"frombuffer: {have} bytes are no multiple of {dtype.itemsize}, the size of {dtype}")
        count = have // dtype.itemsize
    if count * dtype.itemsize > have:
        raise ValueError(f"frombuffer: {count} elements of {dtype} need more than the {have} bytes there are")
    import numpy as np

    raw = np.frombuffer(view, np.uint8, count * dtype.itemsize, offset)
    t = from_numpy(raw.view(np.bool_)) if dtype is _C.bool else from_numpy(raw).view(dtype)
    return t.requires_grad_() if requires_grad else t


def range(start: Any = 0, end: Any = None, step: Any = 1, **kwargs: Any) -> Tensor:
    """arange that includes the end and gives floating point, PyTorch's older form."""
    if end is None:
        start, end = 0, start
    n = int((end - start) / step) + 1
    if step == 0 or n < 1:
        raise ValueError(f"range: step {step} does not lead from {start} to {end}")
    kwargs["dtype"] = kwargs.get("dtype") or _C.get_default_dtype()
    return _C.ops.arange(n, **kwargs) * step + start


def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """narrow as a copy."""
    return input.narrow(dim, start, length).clone()


def frobenius_norm(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Square root of the sum of squares, over `dim` or all."""
    return _C.ops.vector_norm(input, 2, dim, keepdim)


def _slopes(y: Tensor, x: Tensor, edge_order: int) -> Tensor:
    """Derivative along the first dimension of y, known at the places x, to second order inside."""
    h = (x[1:] - x[:-1]).view(-1, *[1] * (y.dim() - 1))
    slope = (y[1:] - y[:-1]) / h
    left, right = h[:-1], h[1:]
    inside = (slope[:-1] * right + slope[1:] * left) / (left + right)
    first, last = slope[:1], slope[-1:]
    if edge_order == 2:
        first = first - (slope[1:2] - first) * h[:1] / (h[:1] + h[1:2])
        last = last + (last - slope[-2:-1]) * h[-1:] / (h[-1:] + h[-2:-1])
    return _C.ops.cat([first, inside, last])


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Derivative along each dimension (or those of `dim`) of samples.

    `spacing` is the distance of neighbours, one for all dimensions or one per dimension, or a vector of places for
    each. Inside the error is of second order, at the two ends of order `edge_order`, 1 or 2.
    """
    dims = list(builtins.range(input.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    steps = list(spacing) if isinstance(spacing, (tuple, list)) else [spacing] * len(dims)
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2, not {edge_order}")
    if len(steps) != len(dims):
        raise ValueError(f"gradient: {len(steps)} spacings for {len(dims)} dimensions")
    if not input.is_floating_point():
        input = input.to(_C.get_default_dtype())
    results = []
    for d, step in zip(dims, steps):
        n = input.size(d)
        if n < edge_order + 1:
            raise ShapeError(f"gradient: dimension {d} has size {n}, edge_order {edge_order} needs {edge_order + 1}")
        places = (
            step
            if isinstance(step, Tensor) and step.dim()
            else _C.ops.arange(n, dtype=input.dtype, device=input.device) * step
        )
        if places.shape != (n,):
            raise ShapeError(f"gradient: {tuple(places.shape)} places for dimension {d} of size {n}")
        results.append(_slopes(input.movedim(d, 0), places, edge_order).movedim(0, d))
    return tuple(results)


# ---- PyTorch's functions for complex numbers, of real ones


def real(input: Tensor) -> Tensor:
    """The tensor itself: there are no complex types."""
    return input


conj = conj_physical = resolve_conj = resolve_neg = real


def isreal(input: Tensor) -> Tensor:
    """True everywhere: there are no complex types."""
    return _C.ops.ones_like(input, dtype=_C.bool)


def adjoint(input: Tensor) -> Tensor:
    """Last two dimensions exchanged."""
    return input.mT


def angle(input: Tensor) -> Tensor:
    """pi where negative, 0 elsewhere; NaN stays."""
    x = input if input.is_floating_point() else input.to(_C.get_default_dtype())
    return _C.ops.where(x < 0, _C.ops.full_like(x, math.pi), x * 0)


def _reject_recording(op: str, input: Tensor) -> None:
    """Refuses draws that only NumPy can make while a graph is recorded: each replay would repeat them."""
    if not input.is_cuda:
        return
    from . import cuda  # imported when it is first asked for

    if cuda.is_current_stream_capturing():
        raise NotImplementedError(f"{op}: works on the host and cannot be recorded in a graph")


def poisson(input: Tensor, generator: Any = None) -> Tensor:
    """Counts of events, drawn for the rate in each element."""
    from .distributions.utils import from_numpy, numpy_generator, to_numpy

    if not input.is_floating_point():
        raise DTypeError(f"poisson: expected floating-point rates, got {input.dtype}")
    _reject_recording("poisson", input)
    if not (input >= 0).all():
        raise ValueError("poisson: rates must not be negative or NaN")
    return from_numpy(numpy_generator(generator).poisson(to_numpy(input)), input)


def binomial(count: Tensor, prob: Tensor, generator: Any = None) -> Tensor:
    """Numbers of successes in `count` trials of probability `prob`, which are broadcast."""
    from .distributions.utils import from_numpy, numpy_generator, to_numpy

    for name, t in (("count", count), ("prob", prob)):
        if not t.is_floating_point():
            raise DTypeError(f"binomial: {name} must be floating-point, got {t.dtype}")
        _reject_recording("binomial", t)
    if not ((count >= 0).all() and (prob >= 0).all() and (prob <= 1).all()):
        raise ValueError("binomial: counts must not be negative and probabilities must lie in [0, 1]")
    drawn = numpy_generator(generator).binomial(to_numpy(count).astype(int), to_numpy(prob))
    return from_numpy(drawn, count)


def is_signed(input: Tensor) -> bool:
    """Whether the element type holds negative numbers."""
    return input.is_signed()


def get_device(input: Tensor) -> int:
    """Number of the CUDA device, -1 on the CPU."""
    return input.get_device()


def fill(input: Tensor, value: Any) -> Tensor:
    """A copy with the value in every element."""
    return input.clone().fill_(value)


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **kwargs: Any) -> Tensor:
    """An uninitialised tensor with given strides."""
    return _C.ops.empty([0], dtype=dtype).new_empty_strided(size, stride, **kwargs)
