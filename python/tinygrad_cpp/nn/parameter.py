"""Parameters and buffers: tensors that modules register as theirs; those of lazy modules get their sizes later."""

from __future__ import annotations

from typing import Any

from .. import _C
from .._C import Parameter, Tensor

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "is_lazy"]


class _BufferType(type(Tensor)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(Tensor, metaclass=_BufferType):
    """Buffer(data, persistent=True): a tensor that a module registers as a buffer when it is assigned to it."""

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Any:
        buffer: Any = _C.tensor([]) if data is None else data.detach().requires_grad_(data.requires_grad)
        buffer._is_buffer, buffer.persistent = True, persistent
        return buffer


class _Uninitialized:
    """What UninitializedParameter and UninitializedBuffer share."""

    _becomes: Any = None

    def materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Gives the tensor its sizes, with values that are not set; it becomes an ordinary one."""
        self.data = _C.ops.empty(shape, device=device or self.device, dtype=dtype or self.dtype)
        self.__class__ = self._becomes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """UninitializedParameter(requires_grad=True, device=None, dtype=None): a parameter without sizes."""

    _becomes = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        empty = _C.ops.empty(0, device=device, dtype=dtype)
        return Parameter.__new__(cls, empty, requires_grad)  # type: ignore[call-arg]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


class UninitializedBuffer(_Uninitialized, Tensor):
    """UninitializedBuffer(requires_grad=False, device=None, dtype=None): a buffer without sizes."""

    _becomes = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> Any:
        return Tensor.__new__(cls, _C.ops.empty(0, device=device, dtype=dtype))  # type: ignore[call-arg]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def is_lazy(tensor: Any) -> bool:
    """Whether a parameter or buffer has no sizes yet."""
    return isinstance(tensor, _Uninitialized)
