"""Gradients of element-wise ops are one pass over memory, in the gradient's own memory where nobody else sees it."""

from __future__ import annotations

import weakref

import numpy as np
import opmatrix as om
import pytest
import tinygrad_cpp as tg

POINTWISE = [op for op in om.TABLE if op["pointwise"] and op["differentiable"] and not op["inplace_of"]]


def gradients(call, dtype: str, fast: bool) -> list[np.ndarray]:
    inputs: list = []
    tg._C._set_fast_paths(fast)
    try:
        out = om.run_tg(call, dtype=dtype, grad=True, inputs=inputs)
        if not out.requires_grad:
            return []
        (out * tg.tensor(om.weights(tuple(out.shape), 1)).to(out.dtype)).sum().backward()
    finally:
        tg._C._set_fast_paths(True)
    return [om.to_np(i.grad) for i in inputs if i.grad is not None]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", POINTWISE, ids=lambda op: op["name"])
def test_one_pass_has_the_bits_of_the_ops_one_by_one(op, dtype):
    compared = 0
    for call in om.samples(op):
        if not call.floats():
            continue
        one, several = gradients(call, dtype, True), gradients(call, dtype, False)
        assert len(one) == len(several)
        for a, b in zip(one, several):
            assert a.tobytes() == b.tobytes(), f"{op['name']}({call.text})"
            compared += a.size
    assert compared
    om.count("gradients in one pass = op by op", compared)


def allocations_of_backward(fast: bool) -> int:
    x = tg.randn(1 << 12).requires_grad_()
    y = (tg.tanh(x * 2.0) * tg.sigmoid(x)).square().sum()
    tg._C._set_fast_paths(fast)
    try:
        before = tg.memory.stats()["allocations"]
        y.backward()
        return tg.memory.stats()["allocations"] - before
    finally:
        tg._C._set_fast_paths(True)


def test_gradients_take_the_memory_of_those_they_come_from():
    # The sum's ones, what the square gives, and one of the two factors' gradients; all others are written over these.
    assert allocations_of_backward(True) == 3
    assert allocations_of_backward(False) >= 8


def chain(x):
    y = tg.tanh(x)
    return y, tg.sigmoid(y * 3.0)


def expected(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The gradient of `chain`'s tanh, in float64, for a gradient g of its result."""
    y = np.tanh(x.astype(np.float64))
    s = 1 / (1 + np.exp(-3 * y))
    return g * 3 * s * (1 - s)


SEEN = {
    "hook": lambda y, z, keep: y.register_hook(lambda g: keep.append(g)),
    "retain_grad": lambda y, z, keep: y.retain_grad(),
    "two uses": lambda y, z, keep: None,
    "a hook's own": lambda y, z, keep: z.register_hook(lambda g: keep.append(g.clone()) or keep[-1]),
}


@pytest.mark.parametrize("how", SEEN)
def test_a_gradient_that_somebody_sees_is_not_overwritten(how):
    x = tg.randn(1000).requires_grad_()
    y, z = chain(x)
    keep: list = []
    SEEN[how](y, z, keep)
    g = tg.randn(1000)
    given = g.numpy().copy()
    ((z + tg.tanh(z)) if how == "two uses" else z).backward(g)
    np.testing.assert_array_equal(g.numpy(), given)  # the caller's own
    want = expected(x.detach().numpy(), given.astype(np.float64))
    if how == "hook":
        np.testing.assert_allclose(keep[0].numpy(), want, rtol=1e-5, atol=1e-6)
    elif how == "retain_grad":
        np.testing.assert_allclose(y.grad.numpy(), want, rtol=1e-5, atol=1e-6)
    elif how == "a hook's own":
        np.testing.assert_array_equal(keep[0].numpy(), given)
    else:
        zd = 1 / (1 + np.exp(-3 * np.tanh(x.detach().numpy().astype(np.float64))))
        want = want * (2 - np.tanh(zd) ** 2) * (1 - np.tanh(x.detach().numpy().astype(np.float64)) ** 2)
        np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-5, atol=1e-6)


def test_memory_of_numpy_is_not_overwritten():
    """A hook that returns a view of an array: neither a gradient in its memory, nor a sum, nor .grad itself."""
    array = np.full(1000, 2.0, np.float32)
    x = tg.randn(1000).requires_grad_()
    y = x * 1.0
    y.register_hook(lambda g: tg.from_numpy(array))
    tg.tanh(y).sum().backward()
    x.grad.zero_()
    w = tg.randn(1000).requires_grad_()
    w.register_hook(lambda g: tg.from_numpy(array))
    w.sum().backward()
    w.grad.zero_()
    np.testing.assert_array_equal(array, 2.0)


def test_a_second_backward_finds_the_saved_values():
    x = tg.randn(1000).requires_grad_()
    y, z = chain(x)
    first = tg.autograd.grad(z.sum(), [y, x], retain_graph=True)
    values = [t.numpy().copy() for t in first]
    second = tg.autograd.grad(z.sum(), [y, x])
    for a, b, c in zip(first, values, second):
        np.testing.assert_array_equal(a.numpy(), b)
        np.testing.assert_array_equal(c.numpy(), b)


@pytest.mark.parametrize("shape", [(0,), (3, 1, 0), (1,), ()])
def test_sizes_without_anything_to_do(shape):
    x = tg.randn(*shape).requires_grad_() if shape else tg.tensor(0.5).requires_grad_()
    (tg.tanh(x) * tg.square(x) / 3.0).sum().backward()
    assert tuple(x.grad.shape) == shape


def test_operands_that_are_repeated_or_turned_around():
    a = tg.randn(17, 33).requires_grad_()
    b = tg.randn(33).requires_grad_()
    c = tg.randn(33, 17).requires_grad_()
    y = tg.where(a > 0, a / (b * b + 1.0), tg.atan2(a, c.t()))
    y.square().sum().backward()
    fast = [t.grad.clone() for t in (a, b, c)]
    for t in (a, b, c):
        t.grad = None
    tg._C._set_fast_paths(False)
    try:
        y = tg.where(a > 0, a / (b * b + 1.0), tg.atan2(a, c.t()))
        y.square().sum().backward()
    finally:
        tg._C._set_fast_paths(True)
    for t, g in zip((a, b, c), fast):
        np.testing.assert_array_equal(t.grad.numpy(), g.numpy())


def made_with_history(g, w):
    with tg.enable_grad():
        return g * w


class MadeInInference(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    @tg.inference_mode()
    def backward(ctx, g):
        return g * 2.0


def test_what_a_hook_returns_leaves_nothing_but_its_numbers():
    """No history, no flag, no class and no Python object of a gradient goes over to the next."""
    x, w = tg.randn(100).requires_grad_(), tg.tensor(3.0).requires_grad_()
    seen: list = []
    for hook in (
        lambda g: made_with_history(g, w),
        lambda g: tg.nn.Parameter(g.clone()),
        lambda g: g.clone().requires_grad_(),
        lambda g: seen.append(weakref.ref(g)),
    ):
        y = tg.tanh(x)
        y.register_hook(hook)
        (g,) = tg.autograd.grad((y * 2.0).sum(), [x])
        assert type(g) is tg.Tensor and not g.requires_grad and g.grad_fn is None and g.grad is None
    assert all(ref() is None for ref in seen)
    tg.tanh(MadeInInference.apply(tg.tanh(x))).sum().backward()
    assert not x.grad.is_inference()


@pytest.mark.parametrize("weight", [0.9, 0.9999, 1 - 1e-8])
def test_numbers_alone_are_computed_in_double(weight):
    x, y = tg.tensor([1.0]).requires_grad_(), tg.tensor([3.0]).requires_grad_()
    tg.lerp(x, y, weight).sum().backward()
    assert x.grad.item() == np.float32(1 - weight)


def test_xlogy_at_zero():
    x, y = tg.tensor([0.0, 0.0, 0.0, 2.0]).requires_grad_(), tg.tensor([5.0, 0.0, -1.0, 5.0])
    tg.xlogy(x, y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [np.log(5), 0, 0, np.log(5)], rtol=1e-6)
