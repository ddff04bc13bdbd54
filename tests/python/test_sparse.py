"""Sparse tensors: constructors, parts, products and gradients against PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tinygrad_cpp as tg

try:
    import torch
except ImportError:
    torch = None

RNG = np.random.default_rng(5)
INDEX = [[0, 2, 0, 1, 2], [3, 0, 3, 1, 0]]  # two coordinates occur twice
VALUE = [1.0, 2.0, 3.0, 4.0, 5.0]
SIZE = (3, 4)


def both(value=VALUE, index=INDEX, size=SIZE, grad=False):
    """The same sparse tensor here and in PyTorch, and the values they were made of."""
    mine = tg.tensor(value, dtype=tg.float64, requires_grad=grad)
    theirs = torch.tensor(value, dtype=torch.float64, requires_grad=grad)
    return (tg.sparse_coo_tensor(tg.tensor(index), mine, size), mine), (torch.sparse_coo_tensor(torch.tensor(index), theirs, size), theirs)


def dense_pair(*shape, grad=False):
    a = RNG.normal(size=shape)
    return tg.tensor(a, requires_grad=grad), torch.tensor(a, requires_grad=grad)


def same(mine, theirs):
    if isinstance(mine, tg.sparse.SparseTensor):
        assert tuple(mine.shape) == tuple(theirs.shape)
        mine, theirs = mine.coalesce(), theirs.coalesce()
        np.testing.assert_array_equal(mine.indices().numpy(), theirs.indices().numpy())
        mine, theirs = mine.values(), theirs.values()
    assert tuple(mine.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-12)


# Calls that read the same on either side: lib, sparse s, dense (4, 2), dense (5, 3), vector (4,)
CALLS = {
    "spmm": lambda lib, s, d, e, v: lib.spmm(s, d),
    "sparse.mm": lambda lib, s, d, e, v: lib.sparse.mm(s, d),
    "mm": lambda lib, s, d, e, v: lib.mm(s, d),
    "mm by name": lambda lib, s, d, e, v: lib.mm(input=s, mat2=d),
    "matmul": lambda lib, s, d, e, v: lib.matmul(s, d),
    "@": lambda lib, s, d, e, v: s @ d,
    "method": lambda lib, s, d, e, v: s.mm(d),
    "matmul method": lambda lib, s, d, e, v: s.matmul(d),
    "vector": lambda lib, s, d, e, v: s @ v,
    "mv": lambda lib, s, d, e, v: lib.mv(s, v),
    "dense @ sparse": lambda lib, s, d, e, v: e @ s,
    "mm(dense, sparse)": lambda lib, s, d, e, v: lib.mm(e, s),
    "transposed": lambda lib, s, d, e, v: s.t() @ e.t(),
    "addmm": lambda lib, s, d, e, v: lib.addmm(lib.ones(3, 2, dtype=lib.float64), s, d, beta=0.5, alpha=2),
    "sparse.addmm": lambda lib, s, d, e, v: lib.sparse.addmm(lib.ones(3, 2, dtype=lib.float64), s, d),
    "twice": lambda lib, s, d, e, v: (s * 2) @ d,
    "half": lambda lib, s, d, e, v: (s / 2 + s) @ d,
    "minus": lambda lib, s, d, e, v: (s - s * 3).to_dense(),
    "negative": lambda lib, s, d, e, v: (-s).to_dense(),
    "to_dense": lambda lib, s, d, e, v: s.to_dense(),
    "coalesce": lambda lib, s, d, e, v: s.coalesce().values(),
    "sum": lambda lib, s, d, e, v: lib.sparse.sum(s),
    "sum of rows": lambda lib, s, d, e, v: lib.sparse.sum(s, dim=1).to_dense(),
    "sum of columns": lambda lib, s, d, e, v: lib.sparse.sum(s, 0).to_dense(),
    "dense + sparse": lambda lib, s, d, e, v: lib.ones(3, 4, dtype=lib.float64) + s,
    "add": lambda lib, s, d, e, v: lib.add(s, s, alpha=2).to_dense(),
    "sparse @ sparse": lambda lib, s, d, e, v: (s @ s.t()).to_dense(),
    "times a number tensor": lambda lib, s, d, e, v: (s * v[0]).to_dense(),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(name):
    (s, value), (ps, pvalue) = both(grad=True)
    (d, pd), (e, pe), (v, pv) = (dense_pair(*shape, grad=True) for shape in [(4, 2), (5, 3), (4,)])
    mine, theirs = CALLS[name](tg, s, d, e, v), CALLS[name](torch, ps, pd, pe, pv)
    same(mine, theirs)
    weight = RNG.uniform(0.5, 1.5, tuple(mine.shape))
    (mine * tg.tensor(weight)).sum().backward()
    (theirs * torch.tensor(weight)).sum().backward()
    for x, y in [(value, pvalue), (d, pd), (e, pe), (v, pv)]:
        assert (x.grad is None) == (y.grad is None), name
        if x.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_second_derivatives():
    value = tg.tensor(VALUE, dtype=tg.float64, requires_grad=True)
    d = tg.tensor(RNG.normal(size=(4, 2)), requires_grad=True)
    assert tg.autograd.gradgradcheck(lambda v, x: tg.sparse_coo_tensor(tg.tensor(INDEX), v, SIZE) @ x, (value, d))


@pytest.mark.oracle
def test_parts_and_properties():
    (s, _), (p, _) = both()
    for x, y in [(s, p), (s.t(), p.t()), (s.coalesce(), p.coalesce()), (s * 2, p * 2), (s.double().float(), p.float())]:
        assert x.is_coalesced() == y.is_coalesced() and x._nnz() == y._nnz()
        np.testing.assert_array_equal(x._indices().numpy(), y._indices().numpy())
        np.testing.assert_array_equal(x._values().numpy(), y._values().numpy())
        assert tuple(x.shape) == tuple(y.shape) == tuple(x.size()) and x.size(0) == y.size(0) == len(x)
        assert str(x.dtype).rpartition(".")[2] == str(y.dtype).rpartition(".")[2]
        assert (x.dim(), x.ndim, x.sparse_dim(), x.dense_dim(), x.numel()) == (y.dim(), y.ndim, y.sparse_dim(), y.dense_dim(), y.numel())
        assert x.is_sparse and str(x.layout).endswith("sparse_coo") and str(x.device) == "cpu"
    for part in ("indices", "values"):
        with pytest.raises(RuntimeError, match="not coalesced"):
            getattr(s, part)()


@pytest.mark.oracle
def test_repr_is_that_of_pytorch():
    cases = [both()[i][0] for i in (0, 1)]
    grad = [both(grad=True)[i][0] for i in (0, 1)]
    for mine, theirs in [cases, [c.coalesce() for c in cases], [c.float() for c in cases]]:
        assert repr(mine) == repr(theirs).replace("torch.", "tinygrad_cpp." if "tinygrad_cpp" in repr(mine) else "torch.")
    assert "size=(2, 3), nnz=0" in repr(tg.sparse_coo_tensor((2, 3)))
    assert "requires_grad=True" in repr(grad[0]) and "grad_fn=<" in repr(grad[0] * 2)


@pytest.mark.oracle
def test_constructors():
    (s, _), (p, _) = both()
    i, v = tg.tensor(INDEX), tg.tensor(VALUE)
    for x in (tg.sparse.FloatTensor(i, v, tg.Size(SIZE)), tg.sparse_coo_tensor(INDEX, VALUE, SIZE), tg.sparse.FloatTensor(i, v)):
        same(x.double(), p)
    assert tg.sparse.DoubleTensor(i, v, SIZE).dtype == tg.float64
    assert isinstance(x, tg.sparse.FloatTensor) and not isinstance(x, tg.sparse.LongTensor)
    assert not isinstance(v, tg.sparse.FloatTensor) and not isinstance(x, tg.FloatTensor)
    assert tg.sparse.mm(tg.eye(2), tg.ones(2, 2)).tolist() == [[1, 1], [1, 1]]
    x = tg.sparse_coo_tensor(i, [1, 2, 3, 4, 5], SIZE)
    assert x.dtype == tg.int64 and x.to_dense()[0, 3].item() == 4
    assert tg.sparse_coo_tensor(i, v, SIZE, dtype=tg.float64).dtype == tg.float64
    assert tuple(tg.sparse_coo_tensor(i, v).shape) == (3, 4) and tg.sparse_coo_tensor((2, 3))._nnz() == 0
    np.testing.assert_array_equal(tg.sparse_coo_tensor((2, 3)).to_dense().numpy(), np.zeros((2, 3)))
    leaf = tg.sparse_coo_tensor(i, v, SIZE, requires_grad=True)
    (leaf @ tg.ones(4, 2)).sum().backward()
    assert leaf.requires_grad and leaf.is_leaf and leaf.grad._values().tolist() == [2.0] * 5


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5,), (0, 3), ()], ids=str)
def test_to_sparse(shape):
    a = np.array(RNG.integers(-1, 2, shape), dtype=np.float64)
    mine, theirs = tg.tensor(a).reshape(a.shape).double(), torch.tensor(a)
    same(mine.to_sparse(), theirs.to_sparse())
    np.testing.assert_array_equal(mine.to_sparse().to_dense().numpy(), a)
    if len(shape) > 1:
        same(mine.to_sparse(1), theirs.to_sparse(1))
    x = tg.tensor(a).reshape(a.shape).double().requires_grad_()
    (x.to_sparse().to_dense() * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 3 * (a != 0))


@pytest.mark.oracle
def test_values_that_are_vectors():
    value = RNG.normal(size=(5, 2))
    (s, _), (p, _) = both(value.tolist(), size=(3, 4, 2))
    same(s, p)
    same(s.to_dense(), p.to_dense())
    for dim in (0, 1, 2, (0, 2), (0, 1), -1):
        mine, theirs = tg.sparse.sum(s, dim), torch.sparse.sum(p, dim)
        same(*(x.to_dense() if hasattr(x, "is_sparse") and x.is_sparse else x for x in (mine, theirs)))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: tg.sparse_coo_tensor([[5], [0]], [1.0], (3, 4)), tg.IndexError),
        (lambda s: tg.sparse_coo_tensor([[-1], [0]], [1.0], (3, 4)), tg.IndexError),
        (lambda s: tg.sparse_coo_tensor([[0], [0]], [1.0, 2.0], (3, 4)), tg.ShapeError),
        (lambda s: tg.sparse_coo_tensor([[0], [0]], [1.0], (3, 4, 5)), tg.ShapeError),
        (lambda s: tg.sparse_coo_tensor([[0], [0]], [1.0], (2**40, 2**40)), tg.ShapeError),
        (lambda s: tg.sparse_coo_tensor((-1, 2)), tg.ShapeError),
        (lambda s: tg.sparse_coo_tensor((2**31, 2**31)).to_dense(), tg.Error),
        (lambda s: s @ tg.ones(3, 2), tg.ShapeError),
        (lambda s: tg.mm(s, tg.ones(4)), tg.Error),
        (lambda s: tg.ones(2, 4) @ s, tg.ShapeError),
        (lambda s: tg.relu(s), tg.NotImplementedError),
        (lambda s: tg.cat([s, s]), tg.TypeError),
        (lambda s: tg.conv2d(s, s), tg.NotImplementedError),
        (lambda s: s + tg.sparse_coo_tensor((2, 2)), tg.TypeError),
        (lambda s: s + "a", tg.TypeError),
        (lambda s: s / tg.ones(3, 4), tg.TypeError),
        (lambda s: s.transpose(0, 2), tg.IndexError),
        (lambda s: tg.sparse.softmax(s, 1), tg.NotImplementedError),
        (lambda s: tg.sparse.nothing, AttributeError),
        (lambda s: tg.ones(3).to_sparse(4), tg.ShapeError),
    ],
)
def test_odd_calls(call, error):
    with pytest.raises(error):
        call(tg.sparse_coo_tensor(INDEX, VALUE, SIZE))


class Odd:
    """A type that takes part in functions of the package."""

    @staticmethod
    def __tg_function__(name, args, kwargs):
        return name, len(args), sorted(kwargs)


def test_protocol_of_other_types():
    assert tg.mm(Odd(), tg.ones(2, 2)) == ("mm", 2, [])
    assert tg.add(tg.ones(2), other=Odd(), alpha=2) == ("add", 1, ["alpha", "other"])
    assert tg.nn.functional.relu(Odd())[0] == "relu"
    with pytest.raises(tg.TypeError):
        tg.mm(object(), tg.ones(2, 2))


def test_products_in_functions_of_ones_own():
    """The sparse product of graph attention: a function with a backward of its own that saves a sparse tensor."""

    class Product(tg.autograd.Function):
        @staticmethod
        def forward(ctx, indices, values, shape, dense):
            a = tg.sparse_coo_tensor(indices, values, shape)
            ctx.save_for_backward(a, dense)
            return tg.matmul(a, dense)

        @staticmethod
        def backward(ctx, g):
            a, dense = ctx.saved_tensors
            row, column = a._indices()
            return None, g.matmul(dense.t()).view(-1)[row * a.shape[1] + column], None, a.t().matmul(g)

    value = tg.tensor(VALUE, dtype=tg.float64, requires_grad=True)
    d = tg.tensor(RNG.normal(size=(4, 2)), requires_grad=True)
    grads = []
    for product in (Product.apply, lambda i, v, size, x: tg.sparse_coo_tensor(i, v, size) @ x):
        (product(tg.tensor(INDEX), value, SIZE, d) ** 2).sum().backward()
        grads.append([value.grad.numpy(), d.grad.numpy()])
        value.grad = d.grad = None
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.oracle
def test_graph_convolution_learns_like_pytorch():
    """Two layers over a normalised adjacency matrix, a few steps of gradient descent on both sides."""
    n, edges = 12, RNG.integers(0, 12, (2, 30))
    features, labels = RNG.normal(size=(n, 5)), RNG.integers(0, 3, n)
    w = [RNG.normal(size=s) * 0.5 for s in [(5, 8), (8, 3)]]

    def train(lib):
        adjacency = lib.sparse.FloatTensor(lib.tensor(edges), lib.ones(30), lib.Size([n, n])).double() if lib is tg else \
            lib.sparse_coo_tensor(lib.tensor(edges), lib.ones(30, dtype=lib.float64), (n, n))
        x, y = lib.tensor(features), lib.tensor(labels)
        weights = [lib.tensor(a, requires_grad=True) for a in w]
        for _ in range(5):
            hidden = lib.relu(lib.spmm(adjacency, x @ weights[0]))
            loss = lib.nn.functional.cross_entropy(lib.spmm(adjacency, hidden @ weights[1]), y)
            loss.backward()
            with lib.no_grad():
                for p in weights:
                    p -= 0.1 * p.grad
                    p.grad = None
        return [p.detach().numpy() for p in weights]

    for a, b in itertools.zip_longest(train(tg), train(torch)):
        np.testing.assert_allclose(a, b, rtol=1e-9)
