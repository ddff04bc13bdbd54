"""Methods and attributes of Tensor that need no speed, in Python: storages, element-wise Python functions, flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _C
from ._C import Tensor

# Flags of devices and layouts that do not exist here.
_FALSE = """is_sparse is_sparse_csr is_quantized is_meta is_mps is_xpu is_xla is_ipu is_hpu is_vulkan is_mkldnn
is_nested is_maia is_mtia""".split()
names: dict[str, Any] = {name: property(lambda self: False, doc="False.") for name in _FALSE}


def _method(f: Callable[..., Any]) -> Callable[..., Any]:
    names[f.__name__] = f
    return f


def _attribute(f: Callable[..., Any]) -> property:
    names[f.__name__] = property(f)
    return names[f.__name__]


@_attribute
def layout(self: Tensor) -> Any:
    """strided: elements lie in memory at fixed steps."""
    from ._functions import strided

    return strided


@_attribute
def name(self: Tensor) -> None:
    """None: tensors have no names."""


@_attribute
def volatile(self: Tensor) -> bool:
    """False."""
    return False


@_attribute
def real(self: Tensor) -> Tensor:
    """The tensor itself: there are no complex types."""
    return self


@_method
def conj(self: Tensor) -> Tensor:
    """The tensor itself: there are no complex types."""
    return self


names.update(resolve_conj=conj, resolve_neg=conj, conj_physical=conj)


@_method
def is_conj(self: Tensor) -> bool:
    """False: there are no complex types."""
    return False


names.update(is_neg=is_conj, is_distributed=is_conj)


@_method
def isreal(self: Tensor) -> Tensor:
    """True everywhere: there are no complex types."""
    return _C.ops.ones_like(self, dtype=_C.bool)


@_method
def adjoint(self: Tensor) -> Tensor:
    """The last two dimensions swapped."""
    return self.mH


@_method
def is_nonzero(self: Tensor) -> bool:
    """Whether the only element is not zero."""
    return bool(self)


@_method
def is_shared(self: Tensor) -> bool:
    """False: memory is not shared with other processes."""
    return False


@_method
def share_memory_(self: Tensor) -> Tensor:
    """The tensor itself: other processes get copies."""
    return self


@_method
def record_stream(self: Tensor, stream: Any) -> None:
    """Tells that work on a stream uses this tensor, which was made on another: its memory is not reused before that
    work is done, however early the tensor goes. Memory of the CPU belongs to no stream."""
    if self.is_cuda:
        from .cuda.streams import a_stream

        a_stream(stream, "Tensor.record_stream")
        _C._cuda_record_stream(self, stream.device_index, stream.cuda_stream)


@_method
def untyped_storage(self: Tensor) -> Any:
    """The memory under this tensor and its views, in bytes."""
    from ._typed import UntypedStorage

    return UntypedStorage(self)


@_method
def storage(self: Tensor) -> Any:
    """The memory under this tensor and its views, in elements."""
    from ._typed import TypedStorage

    return TypedStorage(self)


@_method
def storage_type(self: Tensor) -> type:
    """The class of storage()."""
    from ._typed import TypedStorage

    return TypedStorage


@_method
def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both look at the same memory in the same way."""
    return (self.data_ptr(), self.shape, self.stride()) == (tensor.data_ptr(), tensor.shape, tensor.stride())


@_method
def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Replaces every element x by callable(x), one by one. For small tensors."""
    return _write(self, [callable(x) for x in self.reshape(-1).tolist()])


@_method
def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Replaces every element x by callable(x, y) with the element y of another tensor. For small tensors."""
    others = tensor.expand(self.shape).reshape(-1).tolist()
    return _write(self, [callable(x, y) for x, y in zip(self.reshape(-1).tolist(), others, strict=True)])


def _write(self: Tensor, values: list[Any]) -> Tensor:
    if self.requires_grad:
        raise _C.AutogradError(
            "apply_: elements of a tensor that requires gradients cannot be set by a Python function"
        )
    return self.copy_(_C.tensor(values, dtype=self.dtype, device=self.device).reshape(self.shape))


@_method
def new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """A tensor of the same element type on the same device, of the data or sizes given."""
    from ._typed import NAMES, make_type

    kind = next(k for k, v in NAMES.items() if v is self.dtype)
    return make_type(kind, self.is_cuda)(*args, device=self.device if device is None else device)


@_method
def set_(self: Tensor, source: Tensor) -> Tensor:
    """Makes the tensor one over the memory of another, with its sizes and strides."""
    self.data = source
    return self


@_method
def new_empty_strided(self: Tensor, size: Any, stride: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    """An uninitialised tensor of the same element type with given strides."""
    last = sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else -1
    return self.new_empty([last + 1], dtype=dtype, **kwargs).as_strided(size, stride)


@_method
def narrow_copy(self: Tensor, dim: int, start: int, length: int) -> Tensor:
    """narrow with memory of its own."""
    return self.narrow(dim, start, length).clone()


@_method
def as_subclass(self: Tensor, cls: type[Tensor]) -> Tensor:
    """The same memory as an instance of a subclass of Tensor."""
    return cls(self)


@_method
def to_dense(self: Tensor, dtype: Any = None) -> Tensor:
    """This tensor: only sparse ones have another form."""
    return self if dtype is None else self.to(dtype)


@_method
def to_sparse(self: Tensor, sparse_dim: int | None = None) -> Any:
    """The elements that are not zero, with their coordinates: a sparse tensor (module sparse)."""
    from .sparse import to_sparse

    return to_sparse(self, sparse_dim)


@_method
def dim_order(self: Tensor) -> tuple[int, ...]:
    """Dimensions from the slowest to the fastest in memory."""
    return tuple(sorted(range(self.ndim), key=lambda d: (-self.stride(d), d)))


@_method
def const_data_ptr(self: Tensor) -> int:
    """Address of element 0."""
    return self.data_ptr()


@_method
def __reversed__(self: Tensor) -> Tensor:
    """Every dimension flipped."""
    return self.flip(list(range(self.ndim)))


@_method
def __complex__(self: Tensor) -> complex:
    """The value of a one-element tensor as a complex number of Python."""
    return complex(float(self))


@_method
def __array_namespace__(self: Tensor, *, api_version: str | None = None) -> Any:
    """The module of the Python array API standard; ValueError for a version of it that is not offered."""
    from .array_api._inspect import _array_namespace

    return _array_namespace(self, api_version=api_version)


@_method
def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor on a device; itself if it is there already. stream must be None."""
    if stream is not None:
        raise _C.ValueError("to_device: streams are not supported")
    return self.to(device)


@_method
def __imatmul__(self: Tensor, other: Tensor) -> Tensor:
    """x @= y: the product written into x."""
    return self.copy_(_C.ops.matmul(self, other))


def install() -> None:
    """Gives Tensor the names of this file; those that the compiled part has stay."""
    for key, value in names.items():
        if key not in vars(Tensor):
            setattr(Tensor, key, value)
