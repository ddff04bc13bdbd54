"""Helpers of the distributions: broadcasting of parameters, and probabilities to logits and back."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np

from .. import _C
from .._modes import enable_grad

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits"]

Tensor = _C.Tensor
ops = _C.ops


class lazy_property:
    """A property that is computed when it is first asked for: on the tape, even if that happens inside sample()."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = self.compute(instance)
        instance.__dict__[self.compute.__name__] = value
        return value


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors and numbers as tensors of one size; numbers take the dtype of the first tensor."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    tensors = []
    for v in values:
        if not isinstance(v, (Tensor, Number)):
            raise _C.TypeError(f"broadcast_all: expected a tensor or a number, got {type(v).__name__}")
        if isinstance(v, Tensor):
            tensors.append(v)
        elif like is None:
            tensors.append(_C.tensor(float(v), dtype=_C.get_default_dtype()))  # type: ignore[arg-type]
        else:
            tensors.append(_C.tensor(v, dtype=like.dtype, device=like.device))
    return tuple(ops.broadcast_tensors(*tensors))


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities kept away from 0 and 1 by the dtype's epsilon, so that their logarithms are finite."""
    from .. import finfo

    eps = finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Sigmoid, or softmax over the last dimension."""
    return ops.sigmoid(logits) if is_binary else ops.softmax(logits, -1)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """The inverse of logits_to_probs, of clamped probabilities."""
    p = clamp_probs(probs)
    return p.log() - ops.log1p(-p) if is_binary else p.log()


def uniform(shape: Any, like: Tensor) -> Tensor:
    """Numbers in (0, 1), never 0 or 1, of the dtype of `like`."""
    from .. import finfo

    eps = finfo(like.dtype).eps
    return ops.rand(shape, dtype=like.dtype, device=like.device).clamp(eps / 4, 1 - eps / 2)


def numpy_generator(generator: Any = None) -> np.random.Generator:
    """NumPy's generator for the distributions that only it can draw, seeded from a generator here, or the default."""
    return np.random.Generator(np.random.Philox(int(ops.randint(0, 2**63 - 1, (), generator=generator).item())))


def to_numpy(values: Tensor) -> np.ndarray:
    """A tensor of any device as numbers that NumPy draws from, in double precision."""
    return values.detach().double().cpu().numpy()


def from_numpy(values: Any, like: Tensor) -> Tensor:
    """Drawn numbers as a tensor of the dtype and device of `like`."""
    return _C.tensor(np.asarray(values), dtype=like.dtype, device=like.device)


def sum_rightmost(x: Tensor, dims: int) -> Tensor:
    """The sum over the last dims."""
    return x.sum(list(range(-dims, 0))) if dims else x
