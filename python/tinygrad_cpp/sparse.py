"""Sparse matrices as lists of coordinates and values, enough for products with dense ones.

``SparseTensor`` is a thin pair of ordinary tensors: indices (sparse_dim, nnz) and values (nnz, ...). Whatever it
computes goes through ordinary operations on the values, so gradients reach the values and the dense operand. Functions
of the package hand their arguments over here when one of them is sparse (``__tg_function__``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import _C
from ._C import IndexError, NotImplementedError, ShapeError, Size, Tensor, TypeError, ops
from ._functions import _Constant
from ._typed import NAMES, TensorType

sparse_coo = _Constant("tinygrad_cpp.sparse_coo")


class SparseTensor:
    """Values at coordinates; zero elsewhere. A coordinate that occurs more than once holds the sum of its values."""

    is_sparse = True
    layout = sparse_coo
    to: Any  # these and more act on the values, see below
    neg: Any

    def __init__(self, indices: Tensor, values: Tensor, size: Sequence[int], coalesced: bool = False) -> None:
        self._index, self._value, self.shape, self._coalesced = indices, values, Size(size), coalesced

    # ---- parts and properties

    def _indices(self) -> Tensor:
        """The coordinates (sparse_dim, nnz), also of a tensor that is not coalesced."""
        return self._index

    def _values(self) -> Tensor:
        """The values (nnz, ...), also of a tensor that is not coalesced."""
        return self._value

    def indices(self) -> Tensor:
        """The coordinates (sparse_dim, nnz) in order, without repeats."""
        self._check_coalesced("indices")
        return self._index

    def values(self) -> Tensor:
        """The values (nnz, ...) of the coordinates in order."""
        self._check_coalesced("values")
        return self._value

    def _check_coalesced(self, what: str) -> None:
        if not self._coalesced:
            raise _C.Error(f"{what}: the sparse tensor is not coalesced; call .coalesce() first")

    def is_coalesced(self) -> bool:
        """Whether the coordinates are in order and without repeats."""
        return self._coalesced

    def _nnz(self) -> int:
        return self._index.shape[1]

    def sparse_dim(self) -> int:
        """The number of dimensions that the coordinates name."""
        return self._index.shape[0]

    def dense_dim(self) -> int:
        """The number of dimensions of one value."""
        return self._value.ndim - 1

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    ndim = property(dim)

    def size(self, dim: int | None = None) -> Any:
        """All sizes, or one."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """The number of elements, zeros included."""
        return math.prod(self.shape)

    dtype = property(lambda self: self._value.dtype)
    device = property(lambda self: self._value.device)
    requires_grad = property(lambda self: self._value.requires_grad)
    is_leaf = property(lambda self: self._value.is_leaf)
    grad_fn = property(lambda self: self._value.grad_fn)
    is_cuda = property(lambda self: self._value.is_cuda)
    T = property(lambda self: self.t())

    @property
    def grad(self) -> SparseTensor | None:
        """The gradient of the values at their coordinates."""
        g = self._value.grad
        return None if g is None else self._like(g)

    def _like(self, values: Tensor) -> SparseTensor:
        return SparseTensor(self._index.to(values.device), values, self.shape, self._coalesced)

    def __repr__(self) -> str:
        def part(name: str, t: Tensor) -> str:
            return f"{name}=" + repr(t.detach()).replace("\n", "\n" + " " * len(f"tensor({name}="))

        # a dtype that is not the default stands behind the sizes
        values, mark, dtype = part("values", self._value)[:-1].partition(", dtype=")
        parts = [part("indices", self._index), values + ")", f"size={tuple(self.shape)}, nnz={self._nnz()}"]
        text = "tensor(" + ",\n       ".join(parts) + f"{mark}{dtype}, layout={sparse_coo!r}"
        if self.grad_fn is not None:
            text += f", grad_fn=<{self.grad_fn.name()}>"
        elif self.requires_grad:
            text += ", requires_grad=True"
        return text + ")"

    def __len__(self) -> int:
        return self.shape[0]

    # ---- other forms

    def coalesce(self) -> SparseTensor:
        """The same tensor with its coordinates in order and without repeats."""
        if self._coalesced:
            return self
        flat, inverse = ops.unique(self._flat(), return_inverse=True)
        zeros = ops.zeros([flat.numel(), *self._value.shape[1:]], dtype=self.dtype, device=self.device)
        return SparseTensor(self._unflat(flat), zeros.index_add(0, inverse, self._value), self.shape, True)

    def _flat(self) -> Tensor:
        """The coordinates as positions in row-major order."""
        flat = ops.zeros([self._nnz()], dtype=_C.int64, device=self.device)
        for row, size in zip(self._index.unbind(0), self.shape):
            flat = flat * size + row
        return flat

    def _unflat(self, flat: Tensor) -> Tensor:
        rows = []
        for size in reversed(self.shape[: self.sparse_dim()]):
            rows.append(flat % max(size, 1))
            flat = ops.floor_divide(flat, max(size, 1))
        return ops.stack(rows[::-1]) if rows else self._index[:, : flat.numel()]

    def to_dense(self, dtype: Any = None) -> Tensor:
        """The ordinary tensor with the same elements."""
        n, rest = math.prod(self.shape[: self.sparse_dim()]), list(self._value.shape[1:])
        zeros = ops.zeros([n, *rest], dtype=self.dtype, device=self.device)
        dense = zeros.index_add(0, self._flat(), self._value).reshape(list(self.shape))
        return dense if dtype is None else dense.to(dtype)

    def to_sparse(self) -> SparseTensor:
        """This tensor."""
        return self

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        """Two sparse dimensions exchanged."""
        order, size = list(range(self.sparse_dim())), list(self.shape)
        if not all(-self.dim() <= d < self.dim() for d in (dim0, dim1)):
            raise IndexError(f"transpose: dimensions {dim0} and {dim1} of a tensor with {self.dim()} dimensions")
        a, b = dim0 % self.dim(), dim1 % self.dim()
        if max(a, b) >= self.sparse_dim():
            raise NotImplementedError("transpose: only sparse dimensions can be exchanged")
        order[a], order[b], size[a], size[b] = order[b], order[a], size[b], size[a]
        return SparseTensor(self._index[order], self._value, size)

    def t(self) -> SparseTensor:
        """The transpose of a matrix."""
        if self.dim() > 2:
            raise ShapeError(f"t: expected at most 2 dimensions, got {self.dim()}; input={self._describe()}")
        return self if self.dim() < 2 else self.transpose(0, 1)

    def _describe(self) -> str:
        return f"sparse {str(self.dtype).rpartition('.')[2]}{list(self.shape)}@{self.device}"

    # ---- arithmetic

    def mm(self, other: Tensor | SparseTensor) -> Any:
        """The product with a matrix: dense (m, k) with a dense one, sparse with a sparse one."""
        if isinstance(other, SparseTensor):
            return to_sparse(self.mm(other.to_dense()))
        if self.dim() != 2 or self.sparse_dim() != 2 or other.ndim != 2 or self.shape[1] != other.shape[0]:
            raise ShapeError(
                f"mm: expected matrices (m, n) and (n, k); a={self._describe()}, b of sizes {list(other.shape)}"
            )
        row, column = self._index.unbind(0)
        parts = self._value.unsqueeze(1) * other.index_select(0, column)
        zeros = ops.zeros([self.shape[0], other.shape[1]], dtype=parts.dtype, device=self.device)
        return zeros.index_add(0, row, parts)

    def matmul(self, other: Tensor | SparseTensor) -> Any:
        """The product with a matrix or a vector."""
        if isinstance(other, Tensor) and other.ndim == 1:
            return self.mm(other.unsqueeze(1)).squeeze(1)
        return self.mm(other)

    mv = matmul
    spmm = mm

    def mul(self, other: Any) -> SparseTensor:
        """Times a number, or the elements of a tensor of the same size at the coordinates."""
        if isinstance(other, SparseTensor):
            other = other.to_dense()
        if isinstance(other, Tensor) and other.ndim:
            if other.shape != self.shape:
                raise ShapeError(f"mul: sizes differ; a={self._describe()}, b of sizes {list(other.shape)}")
            flat = other.reshape([-1, *self._value.shape[1:]])
            other = flat.index_select(0, self._flat())
        return self._like(self._value * other)

    def div(self, other: Any) -> SparseTensor:
        """Divided by a number."""
        if isinstance(other, SparseTensor) or (isinstance(other, Tensor) and other.ndim):
            raise TypeError("div: a sparse tensor can only be divided by a number")
        return self._like(self._value / other)

    def add(self, other: Any, *, alpha: Any = 1) -> Any:
        """Plus alpha times a tensor of the same size: sparse with a sparse one, dense with a dense one."""
        if isinstance(other, Tensor):
            return self.to_dense() + alpha * other
        if not isinstance(other, SparseTensor) or other.shape != self.shape:
            raise TypeError(f"add: a sparse tensor can only be added to a tensor of its size; a={self._describe()}")
        other = other if alpha == 1 else other.mul(alpha)
        if other.sparse_dim() != self.sparse_dim():
            raise ShapeError(f"add: sparse dimensions differ, {self.sparse_dim()} and {other.sparse_dim()}")
        index, values = ops.cat([self._index, other._index], 1), ops.cat([self._value, other._value])
        return SparseTensor(index, values, self.shape).coalesce()

    def sub(self, other: Any, *, alpha: Any = 1) -> Any:
        """Minus alpha times a tensor of the same size."""
        return self.add(other, alpha=-alpha)

    def sum(self, dim: Any = None, dtype: Any = None) -> Any:
        """The sum of all elements, or a tensor without the given dimensions: sparse while one of its own is left."""
        x = self if dtype is None else self.to(dtype)
        if dim is None:
            return x._value.sum()
        dims = {d % self.dim() for d in ([dim] if isinstance(dim, int) else dim)}
        values, kept = x._value, [d for d in range(self.dim()) if d not in dims]
        inner = [d - self.sparse_dim() + 1 for d in sorted(dims) if d >= self.sparse_dim()]
        values = values.sum(inner) if inner else values
        rows = [d for d in kept if d < self.sparse_dim()]
        if not rows:
            return values.sum(0)
        return SparseTensor(self._index[rows], values, [self.shape[d] for d in kept]).coalesce()

    __matmul__ = matmul
    __add__ = __radd__ = add
    __mul__ = __rmul__ = mul
    __sub__ = sub
    __truediv__ = div

    def __rmatmul__(self, other: Tensor) -> Tensor:
        return (self.t().matmul(other.mT if other.ndim > 1 else other)).T

    def __rsub__(self, other: Tensor) -> Tensor:
        return self.neg().add(other)

    @staticmethod
    def __tg_function__(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function of the package does when an argument is sparse."""
        f = _FUNCTIONS.get(name)
        if f is not None:
            return f(*args, **kwargs)
        if isinstance(args[0], SparseTensor) and name in vars(SparseTensor):
            return getattr(args[0], name)(*args[1:], **kwargs)
        raise NotImplementedError(f"{name}: sparse tensors are not supported; to_dense() gives an ordinary one")


def _of_values(name: str) -> Callable[..., SparseTensor]:
    def f(self: SparseTensor, *args: Any, **kwargs: Any) -> SparseTensor:
        values = getattr(self._value, name)(*args, **kwargs)
        return self if values is self._value else self._like(values)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"The same coordinates with values.{name}(...)."
    return f


for _name in "to cpu cuda float double half bfloat16 int long clone detach requires_grad_ neg __neg__".split():
    setattr(SparseTensor, _name, _of_values(_name))


def mm(input: Any, mat2: Any) -> Any:
    """The product of matrices; dense unless both are sparse."""
    if isinstance(input, SparseTensor):
        return input.mm(mat2)
    return mat2.__rmatmul__(input) if isinstance(mat2, SparseTensor) else ops.mm(input, mat2)


def matmul(input: Any, other: Any) -> Any:
    """The product of a sparse matrix with a matrix or vector."""
    return input.matmul(other) if isinstance(input, SparseTensor) else other.__rmatmul__(input)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (mat1 @ mat2) with a sparse mat1."""
    return beta * input + alpha * mm(mat1, mat2)


def sum(input: SparseTensor, dim: Any = None, dtype: Any = None) -> Any:
    """The sum of all elements, or over the given dimensions."""
    return input.sum(dim, dtype)


def _add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return input.add(other, alpha=alpha) if isinstance(input, SparseTensor) else other.mul(alpha).add(input)


def _mul(input: Any, other: Any) -> SparseTensor:
    return input.mul(other) if isinstance(input, SparseTensor) else other.mul(input)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mm": mm,
    "spmm": mm,
    "matmul": matmul,
    "mv": matmul,
    "addmm": addmm,
    "add": _add,
    "mul": _mul,
}


def sparse_coo_tensor(
    indices: Any,
    values: Any = None,
    size: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    check_invariants: bool | None = None,
    is_coalesced: bool | None = None,
) -> SparseTensor:
    """A sparse tensor of indices (sparse_dim, nnz) and values (nnz, ...); the smallest size that fits without one.

    Raises IndexError if a coordinate lies outside the size.
    """
    if values is None:  # sparse_coo_tensor(size): no elements
        size, indices = indices, ops.zeros([len(indices), 0], dtype=_C.int64)
        values = ops.zeros([0], dtype=dtype, device=device)
    value = _C.as_tensor(values, dtype=dtype, device=device)
    index = _C.as_tensor(indices, device=value.device).to(_C.int64)
    value = value.unsqueeze(0) if value.ndim == 0 else value
    index = index.reshape(1, -1) if index.ndim == 1 and size is not None and len(size) == 1 else index
    if index.ndim != 2 or value.shape[0] != index.shape[1]:
        raise ShapeError(
            f"sparse_coo_tensor: indices must be (dimensions, n) for n values; indices of sizes {list(index.shape)}, "
            f"values of sizes {list(value.shape)}"
        )
    rows, nnz = index.shape
    top = index.amax(1).tolist() if nnz else [-1] * rows
    if size is None:
        size = [t + 1 for t in top] + list(value.shape[1:])
    if len(size) != rows + value.ndim - 1 or list(size[rows:]) != list(value.shape[1:]):
        raise ShapeError(
            f"sparse_coo_tensor: size {list(size)} does not fit {rows} dimensions of indices and values of sizes "
            f"{list(value.shape)}"
        )
    if min(size, default=0) < 0 or math.prod(size) >= 2**63:
        raise ShapeError(f"sparse_coo_tensor: sizes must be at least 0 and below 2^63 together, got {list(size)}")
    for d, t in enumerate(top):
        if t >= size[d] or (nnz and index[d].amin().item() < 0):
            raise IndexError(f"sparse_coo_tensor: an index is outside of dimension {d}, which has size {size[d]}")
    if requires_grad:
        value = value.detach().requires_grad_(True)
    return SparseTensor(index, value, size, bool(is_coalesced))


def to_sparse(input: Tensor, sparse_dim: int | None = None) -> SparseTensor:
    """The elements of a tensor that are not zero, with their coordinates in the first ``sparse_dim`` dimensions."""
    n = input.ndim if sparse_dim is None else sparse_dim
    if not 0 <= n <= input.ndim:
        raise ShapeError(f"to_sparse: sparse_dim {n} of a tensor with {input.ndim} dimensions")
    rest = list(range(n, input.ndim))
    index = (input.detach() != 0).any(rest).nonzero().T if rest else input.detach().nonzero().T
    values = input[tuple(index.unbind(0))] if n else input.unsqueeze(0)
    return SparseTensor(index, values, input.shape, True)


class SparseType(TensorType):
    """Makes sparse tensors of one element type when called; its instances are all of that type."""

    def __call__(cls, indices: Any, values: Any, size: Any = None) -> Any:  # type: ignore[override]
        """PyTorch's old name of sparse_coo_tensor(indices, values, size)."""
        return sparse_coo_tensor(indices, _C.as_tensor(values).to(cls.dtype), size)

    def __instancecheck__(cls, obj: object) -> bool:
        return isinstance(obj, SparseTensor) and obj.dtype is cls.dtype


for _name, _dtype in NAMES.items():
    _parts = {"dtype": _dtype, "__module__": __name__, "__doc__": f"Sparse tensors of {_dtype.name}."}
    globals()[_name] = SparseType(_name, (), _parts)


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"sparse.{name}: only coordinate lists and their products are implemented")


def __getattr__(name: str) -> Any:
    from ._suggest import unknown_name

    if name in ("softmax", "log_softmax", "spdiags", "spsolve", "sampled_addmm"):
        return lambda *args, **kwargs: _refuse(name)
    raise AttributeError(unknown_name(__name__, name, globals()))
