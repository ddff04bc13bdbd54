"""Linear algebra: what the op matrix cannot compare (signs of vectors), failures, odd inputs, threads, named results."""

from __future__ import annotations

import concurrent.futures
import itertools
import pickle

import numpy as np
import pytest
import tinygrad_cpp as tg
import tinygrad_cpp.linalg
from tinygrad_cpp import linalg

try:
    import torch
except ImportError:
    torch = None

RNG = np.random.default_rng(11)


def matrix(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def t(a: np.ndarray, dtype=tg.float64, grad: bool = False) -> tg.Tensor:
    return tg.tensor(np.array(a)).to(dtype).requires_grad_(grad)


SHAPES = [(3, 3), (5, 3), (3, 5), (2, 4, 4), (2, 3, 4, 2), (1, 1), (0, 3), (3, 0), (0, 3, 2), (40, 30)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_svd_is_a_decomposition(shape, full):
    a = matrix(*shape)
    for dtype, tol in [(tg.float64, 1e-12), (tg.float32, 2e-5)]:
        u, s, vh = (x.numpy() for x in linalg.svd(t(a, dtype), full_matrices=full))
        m, n = shape[-2:]
        k = min(m, n)
        assert u.shape == (*shape[:-2], m, m if full else k) and vh.shape == (*shape[:-2], n if full else k, n)
        np.testing.assert_allclose(u[..., :k] * s[..., None, :] @ vh[..., :k, :], a, atol=10 * tol)
        for q in (u, vh.swapaxes(-1, -2)):
            np.testing.assert_allclose(q.swapaxes(-1, -2) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], *[q.shape[-1]] * 2)), atol=10 * tol)
        np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False) if k else s, atol=10 * tol)
        assert (np.diff(s) <= 0).all()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (1, 1), (0, 0), (0, 2, 2), (50, 50)], ids=str)
@pytest.mark.parametrize("uplo", ["L", "U"])
def test_eigh_is_a_decomposition(shape, uplo):
    a = matrix(*shape)
    half = np.tril(a) if uplo == "L" else np.triu(a)
    sym = half + half.swapaxes(-1, -2) - np.eye(shape[-1]) * a
    w, v = (x.numpy() for x in linalg.eigh(t(a), UPLO=uplo))  # the other triangle is not read
    np.testing.assert_allclose(sym @ v, v * w[..., None, :], atol=1e-12)
    np.testing.assert_allclose(v.swapaxes(-1, -2) @ v, np.broadcast_to(np.eye(shape[-1]), shape), atol=1e-12)
    np.testing.assert_allclose(linalg.eigvalsh(t(a), UPLO=uplo).numpy(), w, atol=1e-12)
    assert (np.diff(w) >= 0).all()


def losses(name: str, lib, x):
    """Functions of a decomposition that do not depend on the signs of its vectors."""
    if name == "svd":
        u, s, vh = lib.linalg.svd(x, full_matrices=False)
        return (u[..., :, :1] ** 3 * vh[..., :1, :1] ** 3).sum() + (s**2).sum() + (vh**2 * s[..., None]).sum() + (u**4).sum()
    if name == "svdvals":
        return (lib.linalg.svdvals(x) ** 3).sum()
    if name == "old svd":
        u, s, v = lib.svd(x)
        return (u**2 * s[..., None, :]).sum() + (v**4).sum()
    w, v = lib.linalg.eigh(x + x.mT)
    return (w**3).sum() + (v**4 * w[..., None, :]).sum()


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["svd", "svdvals", "old svd", "eigh"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 3)], ids=str)
def test_gradients_of_decompositions_match_pytorch(name, shape):
    if name == "eigh" and shape[-1] != shape[-2]:
        shape = (2, 5, 5)
    a = matrix(*shape)
    mine, theirs = t(a, grad=True), torch.tensor(a, requires_grad=True)
    losses(name, tg, mine).backward()
    losses(name, torch, theirs).backward()
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_values_alone_have_gradients_where_vectors_have_none():
    """Repeated singular values and eigenvalues: the gradient of the values is defined, that of the vectors is not."""
    x = t(np.eye(3), grad=True)
    linalg.svdvals(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.eye(3), atol=1e-14)
    x = t(np.eye(3), grad=True)
    linalg.svd(x).S.sum().backward()
    linalg.eigh(x).eigenvalues.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.eye(3), atol=1e-14)


# ---- failures


@pytest.mark.parametrize("name", ["inv", "solve", "cholesky", "lu_factor"])
def test_singular_matrices_are_named(name):
    a = np.stack([np.eye(3), np.zeros((3, 3)), np.eye(3)])
    call = {"solve": lambda x: linalg.solve(x, x)}.get(name, getattr(linalg, name))
    with pytest.raises(linalg.LinAlgError, match=rf"^linalg.{name}: matrix 1 of the batch is .*A=f64\[3,3,3\]@cpu"):
        call(t(a))
    with pytest.raises(RuntimeError, match=rf"^linalg.{name}: the matrix is "):
        call(t(a[1]))


def test_the_error_class():
    assert issubclass(linalg.LinAlgError, tg.Error) and linalg.LinAlgError.__module__ == "tinygrad_cpp.linalg"
    assert pickle.loads(pickle.dumps(linalg.LinAlgError)) is linalg.LinAlgError
    with pytest.raises(linalg.LinAlgError, match="^inverse: "):
        tg.zeros(2, 2).inverse()
    with pytest.raises(linalg.LinAlgError, match="not positive definite: its leading minor of order 2"):
        tg.cholesky(tg.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(linalg.LinAlgError):
        tg.matrix_power(tg.zeros(2, 2), -1)


@pytest.mark.oracle
def test_ex_forms_report_like_pytorch():
    a = np.stack([np.eye(3) * 2, np.zeros((3, 3)), np.diag([1.0, 0, 1])])
    for name in ("inv_ex", "cholesky_ex", "lu_factor_ex"):
        mine, theirs = getattr(linalg, name)(t(a)), getattr(torch.linalg, name)(torch.tensor(a))
        assert mine.info.tolist() == theirs.info.tolist() and mine.info.dtype == tg.int32, name
        with pytest.raises(linalg.LinAlgError):
            getattr(linalg, name)(t(a), check_errors=True)
    assert linalg.solve_ex(t(a), t(a)).info.tolist() == [0, 1, 2]


def cofactors(a: np.ndarray) -> np.ndarray:
    if a.ndim > 2:
        return np.stack([cofactors(x) for x in a])
    n = len(a)
    minor = lambda i, j: np.linalg.det(np.delete(np.delete(a, i, 0), j, 1))
    return np.array([[(-1) ** (i + j) * minor(i, j) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (2, 4, 4)], ids=str)
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_gradient_of_determinants_is_the_cofactors(shape, rank):
    """Also of singular matrices, where the inverse in the usual formula does not exist (PyTorch gives 0 there)."""
    n = shape[-1]
    a = np.zeros(shape)
    a[..., : min(rank, n), :] = RNG.integers(-3, 4, (*shape[:-2], min(rank, n), n))
    x = t(a, grad=True)
    linalg.det(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), cofactors(a), atol=1e-9)


@pytest.mark.oracle
def test_logarithm_of_singular_determinants():
    mine, theirs = linalg.slogdet(tg.zeros(2, 3, 3)), torch.linalg.slogdet(torch.zeros(2, 3, 3))
    assert mine.sign.tolist() == theirs.sign.tolist() and mine.logabsdet.tolist() == theirs.logabsdet.tolist()


def test_logdet_of_negative_determinants_is_nan():
    assert np.isnan(tg.logdet(-tg.eye(3)).item()) and tg.logdet(tg.eye(3)).item() == 0


# ---- what is refused


SQUARE = ["inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh", "inv_ex", "cholesky_ex"]
ANY = ["svd", "svdvals", "qr", "pinv", "matrix_rank", "lu", "lu_factor", "cond"]


@pytest.mark.parametrize("name", SQUARE + ANY)
def test_types_and_shapes_that_are_refused(name):
    f = getattr(linalg, name)
    for dtype in (tg.float16, tg.bfloat16, tg.int64, tg.bool):
        with pytest.raises(tg.DTypeError, match=r"^linalg\.\w+: expected float32 or float64"):
            f(tg.ones(3, 3).to(dtype))
    for bad in (tg.ones(3), tg.tensor(1.0)):
        with pytest.raises(tg.ShapeError, match="expected at least 2 dimensions"):
            f(bad)
    if name in SQUARE:
        with pytest.raises(tg.ShapeError, match="expected square matrices, got 3 x 4"):
            f(tg.ones(3, 4))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda a: linalg.solve(a, tg.ones(4, 2)), tg.ShapeError),
        (lambda a: linalg.solve(a, tg.ones(3).double()), tg.DTypeError),
        (lambda a: linalg.solve(a, tg.ones(3), left=False), tg.ShapeError),
        (lambda a: linalg.solve(a, tg.tensor(1.0)), tg.ShapeError),
        (lambda a: linalg.solve(a.expand(2, 3, 3), tg.ones(5, 3, 1)), tg.ShapeError),
        (lambda a: linalg.solve_triangular(a, tg.ones(4, 2), upper=True), tg.ShapeError),
        (lambda a: linalg.solve_triangular(a, tg.ones(3, 2)), tg.TypeError),
        (lambda a: linalg.qr(a, mode="full"), tg.ValueError),
        (lambda a: linalg.eigh(a, UPLO="X"), tg.ValueError),
        (lambda a: linalg.lstsq(a, tg.ones(3, 1), driver="qr"), tg.ValueError),
        (lambda a: linalg.lstsq(a, tg.ones(4, 1)), tg.ShapeError),
        (lambda a: linalg.norm(a, 3), tg.ValueError),
        (lambda a: linalg.norm(a, "max"), tg.ValueError),
        (lambda a: linalg.norm(a.reshape(9), "fro"), tg.ShapeError),
        (lambda a: linalg.matrix_norm(a, 1, dim=[0]), tg.ValueError),
        (lambda a: linalg.matrix_norm(a, 1, dim=[0, 0]), tg.Error),
        (lambda a: linalg.matrix_norm(a, 1, dim=[0, 5]), tg.IndexError),
        (lambda a: linalg.lu(a, pivot=False), tg.NotImplementedError),
        (lambda a: tg.lu_unpack(a, tg.tensor([4, 0, -1]).int()), tg.ValueError),
        (lambda a: tg.lu_unpack(a, tg.tensor([1, 2, 3])), tg.ShapeError),
        (lambda a: tg.matrix_exp(tg.ones(3, 4)), tg.ShapeError),
        (lambda a: linalg.multi_dot([a]), tg.ValueError),
        (lambda a: linalg.eig(a), tg.NotImplementedError),
        (lambda a: linalg.eigvals(a), tg.NotImplementedError),
        (lambda a: linalg.no_such_function(a), AttributeError),
    ],
)
def test_odd_calls(call, error):
    with pytest.raises(error):
        call(tg.eye(3))


HOSTILE = [
    tg.tensor(1.0), tg.ones(0), tg.ones(0, 0), tg.ones(2, 0, 3), tg.ones(3), tg.ones(2, 3), tg.full((2, 2), float("nan")),
    tg.ones(3, 3).long(), tg.zeros(0, 2, 2), tg.ones(*[1] * 10, 2, 2), tg.full((3, 3), 1e38), tg.full((3, 3), 1e-45),
]  # fmt: skip
SETTINGS = [0, 1, -1, 2, -2, 3, float("inf"), float("nan"), 10**18, -(2**63), "fro", "nuc", None, [0, 1], [], [5], True]


@pytest.mark.parametrize("name", [k for k in vars(tg._C.linalg) if not k.startswith("_")])
def test_hostile_arguments(name):
    """Any combination gives a result or an error of the package."""
    f, words = getattr(linalg, name), {"upper": True} if name == "solve_triangular" else {}
    for args in [*([x] for x in HOSTILE), *itertools.product(HOSTILE, HOSTILE), *([x] * 3 for x in HOSTILE), *itertools.product(HOSTILE, SETTINGS)]:
        try:
            f(*args, **words)
        except tg.Error as e:
            assert str(e)


def test_sizes_that_lapack_cannot_count():
    big = tg.zeros(1, 1).expand(2**31, 1)
    for f in (linalg.qr, linalg.svd, linalg.pinv, lambda a: linalg.lstsq(a, a)):
        with pytest.raises(tg.ShapeError, match="LAPACK"):
            f(big)
    square = tg.zeros(1, 1).expand(40000, 40000)
    for f in (linalg.eigh, linalg.svdvals):
        with pytest.raises(tg.ShapeError, match="LAPACK"):
            f(square)


def test_gradients_that_do_not_exist_are_refused():
    x = t(matrix(4, 3), grad=True)
    for y in (linalg.qr(x, "complete").Q, linalg.qr(x, "r").R, linalg.lu(x).L, linalg.svd(x).U):
        with pytest.raises((tg.AutogradError, tg.NotImplementedError)):
            y.sum().backward()
    linalg.svd(x).S.sum().backward()  # the values' does


# ---- numbers that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_not_finite(bad, size, capfd):
    a = np.eye(size)
    a[0, size - 1] = bad
    a[size - 1, 0] = bad
    x = t(a)
    for name in ("svd", "svdvals", "eigh", "eigvalsh", "pinv", "matrix_rank", "cond"):
        with pytest.raises(linalg.LinAlgError, match="elements that are not finite"):
            getattr(linalg, name)(x)
    for driver in ("gels", "gelsy", "gelsd", "gelss"):
        with pytest.raises(linalg.LinAlgError, match="elements that are not finite"):
            linalg.lstsq(x, t(np.ones((size, 1))), driver=driver)
    for name in ("inv_ex", "cholesky_ex", "qr", "det", "slogdet", "lu_factor_ex", "matrix_exp"):
        getattr(linalg, name)(x)
    assert not np.isfinite(linalg.det(x).item()) and not tg.matrix_exp(x).isfinite().all()
    out, err = capfd.readouterr()
    assert not out and not err  # LAPACK's own complaints


# ---- memory


@pytest.mark.parametrize("name", ["inv", "solve", "cholesky", "qr", "svd", "eigh", "det", "pinv", "lstsq"])
def test_failing_allocations(name):
    """Whichever allocation fails, also LAPACK's workspace in a thread of the pool: an error, nothing leaks."""
    x = t(matrix(64, 8, 8) + 20 * np.eye(8))
    x = x @ x.mT
    call = lambda: getattr(linalg, name)(x, x) if name in ("solve", "lstsq") else getattr(linalg, name)(x)
    want = call()
    live, i = tg.memory.live(), 0
    while True:
        i += 1
        tg._C._fail_allocation_at(i)
        try:
            got = call()
            break
        except tg.OutOfMemoryError:
            assert tg.memory.live() == live, i
        finally:
            tg._C._fail_allocation_at(0)
    assert i > 2
    for a, b in zip(got if isinstance(got, tuple) else [got], want if isinstance(want, tuple) else [want]):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# ---- threads


CALLS = {
    "inv": lambda x: linalg.inv(x),
    "solve": lambda x: linalg.solve(x, x.mT),
    "cholesky": lambda x: linalg.cholesky(x @ x.mT + 3 * tg.eye(x.shape[-1])),
    "qr": lambda x: linalg.qr(x).Q,
    "svd": lambda x: linalg.svd(x).U,
    "eigh": lambda x: linalg.eigh(x).eigenvectors,
    "det": lambda x: linalg.det(x),
    "lstsq": lambda x: linalg.lstsq(x, x).solution,
    "solve_triangular": lambda x: linalg.solve_triangular(x, x, upper=True),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("shape", [(160, 160), (64, 8, 8)], ids=str)
def test_bits_do_not_depend_on_threads(name, shape):
    x = t(matrix(*shape) + 20 * np.eye(shape[-1]), tg.float32)
    before, results = tg.get_num_threads(), []
    try:
        for n in (1, 2, 4):
            tg.set_num_threads(n)
            results.append(CALLS[name](x).numpy())
    finally:
        tg.set_num_threads(before)
    for r in results[1:]:
        np.testing.assert_array_equal(results[0], r)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:  # and Python's threads do not disturb each other
        for r in pool.map(lambda _: CALLS[name](x).numpy(), range(6)):
            np.testing.assert_array_equal(results[0], r)


def test_a_batch_gives_the_bits_of_its_matrices():
    x = t(matrix(7, 9, 9))
    whole = linalg.inv(x)
    for i in range(7):
        np.testing.assert_array_equal(whole[i].numpy(), linalg.inv(x[i]).numpy())


# ---- the module


NAMED = {
    "inv_ex": ("inverse", "info"), "solve_ex": ("result", "info"), "cholesky_ex": ("L", "info"), "qr": ("Q", "R"),
    "svd": ("U", "S", "Vh"), "eigh": ("eigenvalues", "eigenvectors"), "slogdet": ("sign", "logabsdet"),
    "lu_factor": ("LU", "pivots"), "lu_factor_ex": ("LU", "pivots", "info"), "lu": ("P", "L", "U"),
    "lstsq": ("solution", "residuals", "rank", "singular_values"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_named_results(name):
    args = [tg.eye(3)] * (2 if name in ("solve_ex", "lstsq") else 1)
    r = getattr(linalg, name)(*args)
    for i, field in enumerate(NAMED[name]):
        assert getattr(r, field) is r[i]
    if torch is not None:
        theirs = getattr(torch.linalg, name)(*[torch.eye(3)] * len(args))
        assert len(r) == len(theirs) and all(hasattr(theirs, field) for field in NAMED[name])


def test_the_module_is_the_table():
    assert tg.linalg is tinygrad_cpp.linalg and pickle.loads(pickle.dumps(linalg.inv)) is linalg.inv
    names = {n.removeprefix("linalg_") for op in tg._C._op_table() for n in (op["base"], *op["aliases"]) if n.startswith("linalg_")}
    assert names - set(dir(linalg)) <= {"solve_matrix", "lstsq_solution"}
    assert not any(k.startswith("linalg_") for k in (*dir(tg), *dir(tg.Tensor)))
    if torch is not None:  # what is missing on purpose: complex results, and what nobody here asked for
        missing = {k for k in dir(torch.linalg) if not k.startswith("_") and callable(getattr(torch.linalg, k))} - set(dir(linalg))
        assert missing <= {"eig", "eigvals", "householder_product", "ldl_factor", "ldl_factor_ex", "ldl_solve", "tensorinv", "tensorsolve", "vander", "Tensor"}


@pytest.mark.oracle
def test_least_squares_of_deficient_matrices():
    a = matrix(6, 3)
    a[:, 2] = a[:, 0] + a[:, 1]
    b = matrix(6, 2)
    for driver in ("gelsy", "gelsd", "gelss"):
        mine, theirs = linalg.lstsq(t(a), t(b), driver=driver), torch.linalg.lstsq(torch.tensor(a), torch.tensor(b), driver=driver)
        for x, y in zip(mine, theirs):
            assert tuple(x.shape) == tuple(y.shape)
            np.testing.assert_allclose(x.numpy(), y.numpy(), atol=1e-10)
    with pytest.raises(linalg.LinAlgError):
        linalg.lstsq(tg.diag(tg.tensor([1.0, 0.0])), tg.ones(2, 1), driver="gels")


@pytest.mark.oracle
@pytest.mark.parametrize("scale", [1e-6, 0.3, 5.0, 40.0])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_matrix_exp_of_any_size(scale, n):
    a = matrix(3, n, n) * np.array([1, 0.01, 1])[:, None, None] * scale / n**0.5
    for dtype, tol in [("float64", 1e-11), ("float32", 3e-4)]:
        want = torch.matrix_exp(torch.tensor(a).to(getattr(torch, dtype))).numpy()
        got = tg.matrix_exp(t(a, getattr(tg, dtype))).numpy()
        for x, y in zip(got, want):
            np.testing.assert_allclose(x, y, atol=tol * np.abs(y).max())


@pytest.mark.oracle
def test_usual_programs():
    """A Gaussian log density and ridge regression, values and gradients."""
    def density(lib, cov, x):
        chol = lib.linalg.cholesky(cov)
        z = lib.linalg.solve_triangular(chol, x.unsqueeze(-1), upper=False)
        return -0.5 * (z**2).sum() - lib.log(lib.diagonal(chol, 0, -2, -1)).sum() + 0.1 * lib.logdet(cov)

    def ridge(lib, a, b):
        gram = a.mT @ a + 0.1 * lib.eye(a.shape[-1], dtype=a.dtype)
        return (lib.linalg.solve(gram, a.mT @ b) ** 2).sum() + lib.linalg.norm(lib.linalg.inv(gram)) + lib.inverse(gram).sum()

    m = matrix(4, 4)
    for f, args in [(density, (m @ m.T + np.eye(4), matrix(4))), (ridge, (matrix(6, 3), matrix(6, 2)))]:
        mine, theirs = [t(a, grad=True) for a in args], [torch.tensor(a, requires_grad=True) for a in args]
        x, y = f(tg, *mine), f(torch, *theirs)
        x.backward()
        y.backward()
        np.testing.assert_allclose(x.item(), y.item(), rtol=1e-10)
        for p, q in zip(mine, theirs):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-10)


# ---- fft without complex numbers


@pytest.mark.oracle
def test_frequencies_and_shifts():
    for n, d in itertools.product([1, 2, 5, 8], [1.0, 0.25]):
        for name in ("fftfreq", "rfftfreq"):
            mine, theirs = getattr(tg.fft, name)(n, d), getattr(torch.fft, name)(n, d)
            assert mine.dtype == tg.float32 and mine.tolist() == theirs.tolist()
    x = matrix(3, 4, 5)
    for name, dim in itertools.product(("fftshift", "ifftshift"), (None, 1, (0, 2), -1)):
        got = getattr(tg.fft, name)(t(x), dim=dim)
        np.testing.assert_array_equal(got.numpy(), getattr(torch.fft, name)(torch.tensor(x), dim=dim).numpy())


def test_transforms_say_why_not():
    for name in ("fft", "ifft", "rfft", "irfft2", "fftn", "hfft", "ihfftn"):
        with pytest.raises(tg.NotImplementedError, match=rf"^fft.{name}: complex numbers are out of scope"):
            getattr(tg.fft, name)(tg.ones(4))
    with pytest.raises(tg.ValueError):
        tg.fft.fftfreq(0)
    with pytest.raises(AttributeError):
        tg.fft.no_such_function  # noqa: B018
