"""RMS norm against PyTorch: values, gradients and second derivatives, by the fused kernels and where they do not fit."""

import numpy as np
import pytest
import tinygrad_cpp as tg
import torch

# name -> (sizes, number of normalized dimensions, weight, eps)
CASES = {
    "rows": ((5, 33), 1, True, 1e-5),
    "no weight": ((5, 33), 1, False, 1e-3),
    "eps of the type": ((5, 33), 1, True, None),
    "two dimensions": ((3, 4, 8), 2, True, 1e-5),
    "all dimensions": ((4, 8), 2, True, 1e-5),
    "one row": ((40,), 1, True, 1e-5),
    "many rows": ((700, 8), 1, True, 1e-5),
    "no rows": ((0, 8), 1, True, 1e-5),
}


def both(name, dtype, transposed=False):
    sizes, n, weighted, eps = CASES[name]
    rng = np.random.default_rng(7)

    def leaf(*shape):
        a = rng.standard_normal(shape)
        mine = tg.tensor(a).to(getattr(tg, dtype))
        return mine, torch.tensor(a).to(getattr(torch, dtype))

    x, g = leaf(*(sizes[::-1] if transposed else sizes)), leaf(*sizes)
    w = leaf(*sizes[-n:]) if weighted else (None, None)
    for lib, k in ((tg, 0), (torch, 1)):
        leaves = [t[k].requires_grad_() for t in (x, w) if t[k] is not None]
        y = lib.nn.functional.rms_norm(x[k].mT if transposed else x[k], sizes[-n:], w[k], eps)
        yield y, leaves, g[k], lib


def numbers(t):
    return t.detach().to(torch.float64 if isinstance(t, torch.Tensor) else tg.float64).numpy()


# Float32: sums of at most 700 products of magnitude up to 4, some roundings of 2^-24 of each. Halves: the result is rounded once
# by each side, to 2^-11 and 2^-8 of its magnitude, and PyTorch rounds the product with the weight on the way.
CLOSE = {"float64": (1e-12, 1e-12), "float32": (1e-5, 1e-5), "float16": (4e-3, 4e-3), "bfloat16": (3e-2, 3e-2)}


@pytest.mark.parametrize("transposed", [False, True], ids=["contiguous", "transposed"])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, dtype, transposed):
    if transposed and len(CASES[name][0]) != 2:
        transposed = False
    found = []
    for y, leaves, g, _ in both(name, dtype, transposed):
        y.backward(g)
        found.append([numbers(t) for t in (y, *(leaf.grad for leaf in leaves))])
    rtol, atol = CLOSE[dtype]
    rows = CASES[name][0][0]
    for a, b in zip(*found):
        scale = max(1.0, rows**0.5) if a.shape != CASES[name][0] else 1.0  # sums over the rows
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * scale)


@pytest.mark.parametrize("name", ["rows", "no weight", "two dimensions", "eps of the type"])
def test_second_derivatives(name):
    found = []
    for y, leaves, g, lib in both(name, "float64"):
        first = lib.autograd.grad((y * g).sum(), leaves, create_graph=True)
        second = lib.autograd.grad(sum((f * f).sum() for f in first), leaves)
        found.append([numbers(t) for t in (*first, *second)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_gradients_alone_and_recorded_are_the_same_derivative():
    """The fused gradient, taken when none of it is wanted, against the composite that a second derivative needs."""
    x, w, g = tg.randn(6, 50).requires_grad_(), tg.randn(50).requires_grad_(), tg.randn(6, 50)
    y = tg.nn.functional.rms_norm(x, [50], w)
    fused = tg.autograd.grad(y, [x, w], g, retain_graph=True)
    composite = tg.autograd.grad(y, [x, w], g, create_graph=True)
    for a, b in zip(fused, composite):
        np.testing.assert_allclose(numbers(a), numbers(b), rtol=1e-5, atol=1e-5)
