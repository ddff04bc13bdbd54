"""Tensor types by name, as LongTensor, and storages: names of PyTorch's older interface."""

from __future__ import annotations

from typing import Any

from . import _C
from ._C import Tensor

NAMES: dict[str, Any] = {
    "BoolTensor": _C.bool,
    "ByteTensor": _C.uint8,
    "CharTensor": _C.int8,
    "ShortTensor": _C.int16,
    "IntTensor": _C.int32,
    "LongTensor": _C.int64,
    "HalfTensor": _C.float16,
    "BFloat16Tensor": _C.bfloat16,
    "FloatTensor": _C.float32,
    "DoubleTensor": _C.float64,
}


class TensorType(type):
    """Makes tensors of one element type when called; its instances are all tensors of that type."""

    dtype: _C.dtype
    is_cuda = False

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        """Of a list, an array or a tensor: its values. Of ints or a Size: a tensor of these sizes, not initialised."""
        kind = "cuda" if cls.is_cuda else "cpu"
        if device is not None and _C.device(device).type != kind:
            raise _C.DeviceError(f"{cls.__name__}: only makes tensors on {kind}, not {device}")
        place = kind if device is None else device
        if not args:
            return _C.ops.empty([0], dtype=cls.dtype, device=place)
        if isinstance(args[0], int) or isinstance(args[0], _C.Size):
            sizes = list(args[0]) if isinstance(args[0], _C.Size) else list(args)
            return _C.ops.empty(sizes, dtype=cls.dtype, device=place)
        if len(args) > 1:
            raise _C.TypeError(f"{cls.__name__}(): expected sizes, or one argument with the data")
        return _C.tensor(args[0], dtype=cls.dtype, device=place)

    def __instancecheck__(cls, obj: object) -> bool:
        return isinstance(obj, Tensor) and obj.dtype is cls.dtype and obj.is_cuda == cls.is_cuda


def make_type(name: str, is_cuda: bool = False) -> type:
    """The class of one of the names above, for tensors on the CPU or on CUDA devices."""
    module = "tinygrad_cpp.cuda" if is_cuda else "tinygrad_cpp"
    doc = f"Tensors of {NAMES[name].name} on {'a CUDA device' if is_cuda else 'the CPU'}."
    return TensorType(name, (), {"dtype": NAMES[name], "is_cuda": is_cuda, "__module__": module, "__doc__": doc})


class UntypedStorage:
    """The memory under a tensor and its views."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def data_ptr(self) -> int:
        """Address of the first byte."""
        return self._tensor._storage()[0]

    def nbytes(self) -> int:
        """Bytes."""
        return self._tensor._storage()[1]

    def size(self) -> int:
        """Bytes of an untyped storage."""
        return self.nbytes()

    def element_size(self) -> int:
        return 1

    @property
    def device(self) -> _C.device:
        return self._tensor.device

    @property
    def is_cuda(self) -> bool:
        return self._tensor.is_cuda

    def __len__(self) -> int:
        return self.size()

    def tolist(self) -> list[int]:
        """The bytes as numbers."""
        return self._flat().view(_C.uint8).tolist()

    def _flat(self) -> Tensor:
        t = self._tensor.detach()
        return t.as_strided([self.nbytes() // t.element_size()], [1], 0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.size()} on {self.device}>"


class TypedStorage(UntypedStorage):
    """The memory under a tensor and its views, counted in elements."""

    @property
    def dtype(self) -> _C.dtype:
        return self._tensor.dtype

    def size(self) -> int:
        """Elements."""
        return self.nbytes() // self._tensor.element_size()

    def element_size(self) -> int:
        return self._tensor.element_size()

    def untyped(self) -> UntypedStorage:
        """The same memory in bytes."""
        return UntypedStorage(self._tensor)

    def tolist(self) -> list[Any]:
        """The elements."""
        return self._flat().tolist()

    def __getitem__(self, i: int) -> Any:
        return self._flat()[i].item()
