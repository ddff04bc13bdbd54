"""Variable: the name that tensors with gradients had before they were one with tensors."""

from __future__ import annotations

from typing import Any

from .. import _C

Tensor = _C.Tensor


class _Variables(type):
    """Every tensor is a Variable."""

    def __call__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        """A leaf over the memory of a tensor."""
        if not isinstance(data, Tensor):
            raise _C.TypeError(f"Variable(): argument 'data' must be Tensor, not {type(data).__name__}")
        return data.detach().requires_grad_(requires_grad)

    def __instancecheck__(cls, obj: Any) -> bool:
        return isinstance(obj, Tensor)


class Variable(metaclass=_Variables):
    """Variable(data, requires_grad=False): a leaf over the memory of a tensor."""
