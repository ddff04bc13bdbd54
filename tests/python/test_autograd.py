"""The tape from Python: leaves, accumulation, in-place edits, views, hooks, custom functions, modes; random graphs."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import tinygrad_cpp as tg


def leaf(*values):
    return tg.tensor(values, dtype=tg.float64, requires_grad=True)


def test_lecture_example_matches_numpy():
    np.random.seed(0)
    a, b, c = (np.random.randn(3, 4) for _ in range(3))
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (a, b, c))
    total = tg.sum(x * y + z)
    total.backward()
    assert np.isclose(total.item(), (a * b + c).sum())
    np.testing.assert_array_equal(x.grad.numpy(), b)
    np.testing.assert_array_equal(y.grad.numpy(), a)
    np.testing.assert_array_equal(z.grad.numpy(), np.ones((3, 4)))


def test_leaf_flags_and_accumulation():
    x = leaf(1.0, 2.0)
    assert x.is_leaf and x.grad is None and x.grad_fn is None
    y = (x * x).sum()
    assert not y.is_leaf and y.requires_grad and "Sum" in type(y.grad_fn).__name__ + repr(y.grad_fn)
    y.backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad is first, "the gradient is accumulated in place"
    assert x.grad.tolist() == [4.0, 8.0]
    x.grad = None
    assert x.grad is None
    with pytest.raises(RuntimeError, match="floating"):
        tg.tensor([1, 2]).requires_grad_(True)
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad_(False)


def test_backward_twice_is_an_error():
    x = leaf(1.0)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_backward_needs_scalar_or_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="one-element"):
        (x * 2).backward()
    (x * 2).backward(tg.tensor([1.0, 10.0], dtype=tg.float64))
    assert x.grad.tolist() == [2.0, 20.0]
    with pytest.raises(RuntimeError, match="size"):
        (x * 2).backward(tg.ones(3, dtype=tg.float64))
    with pytest.raises(RuntimeError, match="does not require"):
        tg.ones(1).backward()


def test_grad_function():
    x, y = leaf(2.0), leaf(3.0)
    z = x * x * y
    gx, gy = tg.autograd.grad(z, (x, y), create_graph=True)
    assert gx.item() == 12 and gy.item() == 4 and x.grad is None
    (gxx,) = tg.autograd.grad(gx, x, retain_graph=True)
    (gxy,) = tg.autograd.grad(gx, y)
    assert gxx.item() == 6 and gxy.item() == 4
    with pytest.raises(RuntimeError, match="not used"):
        tg.autograd.grad(x * 2, y)
    assert tg.autograd.grad(x * 2, (x, y), allow_unused=True)[1] is None


def test_failed_backward_changes_no_gradient():
    x = leaf(1.0, 2.0)
    h = x.exp()
    y = (h * h).sum() + (x * 3).sum()
    h.add_(1.0)
    with pytest.raises(RuntimeError, match="modified in place by add_"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize(
    ("edit", "want"),
    [
        (lambda y: y.mul_(3.0), [3.0, 3.0, 3.0]),
        (lambda y: y[1:].mul_(3.0), [1.0, 3.0, 3.0]),
        (lambda y: y[::2].zero_(), [0.0, 1.0, 0.0]),
        (lambda y: y.__setitem__(1, 5.0), [1.0, 0.0, 1.0]),
        (lambda y: y.view(3, 1)[0].exp_(), [np.exp(1.0), 1.0, 1.0]),
        (lambda y: y[1:][1:].mul_(y[0].detach() * 2), [1.0, 1.0, 2.0]),
        (lambda y: y[::-1][:1].mul_(4.0), [1.0, 1.0, 4.0]),
    ],
)
def test_in_place_on_views(edit, want):
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1.0
    edit(y)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), want)


def test_in_place_on_a_view_of_a_transposed_result():
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=tg.float64, requires_grad=True)
    y = x.t() * 1.0
    assert y.stride() == (1, 3), "element-wise results keep the layout of a dense operand"
    y[1].mul_(10.0)
    (y * tg.arange(6, dtype=tg.float64).view(3, 2)).sum().backward()
    assert x.grad.tolist() == [[0.0, 20.0, 4.0], [1.0, 30.0, 5.0]]


def test_views_see_edits_of_their_base():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    v = y[0]
    y.mul_(5.0)
    v.backward()
    assert x.grad.tolist() == [5.0, 0.0]
    assert v.item() == 5.0


def test_in_place_on_leaf_is_an_error_unless_no_grad():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 3.0
    with tg.no_grad():
        x.add_(1.0)
        view = x[0]
    assert x.tolist() == [2.0, 3.0]
    with pytest.raises(RuntimeError, match="no_grad"):
        view.mul_(2.0)


def test_in_place_with_gradient_operand():
    w = leaf(2.0, 3.0)
    x = tg.ones(2, dtype=tg.float64)
    x.mul_(w)
    assert x.requires_grad
    x.sum().backward()
    assert w.grad.tolist() == [1.0, 1.0]
    counts = tg.zeros(2, dtype=tg.int64)
    with pytest.raises((RuntimeError, TypeError)):
        counts.add_(w)


def test_hooks_and_retain_grad():
    x = leaf(1.0, 2.0)
    y = x * 3
    y.retain_grad()
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert seen == [[30.0, 30.0]] and x.grad.tolist() == [30.0, 30.0] and y.grad is not None
    handle.remove()
    (x * 1).sum().backward()
    assert len(seen) == 1


def test_modes():
    x = leaf(1.0)
    with tg.no_grad():
        assert not (x * 2).requires_grad and not tg.is_grad_enabled()
        with tg.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @tg.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad
    with tg.inference_mode():
        y = x * 2
    assert not y.requires_grad
    with tg.set_grad_enabled(False):
        assert not (x * 2).requires_grad


def test_modes_are_per_thread():
    seen = {}

    def work():
        seen["other"] = tg.is_grad_enabled()

    with tg.no_grad():
        t = threading.Thread(target=work)
        t.start()
        t.join()
    assert seen["other"] is True


def test_custom_function():
    class Cube(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x, k):
            ctx.save_for_backward(x)
            ctx.k = k
            return x * x * x * k

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * ctx.k * x * x, None

    x = leaf(2.0, -1.0)
    y = Cube.apply(x, 2.0)
    y.sum().backward()
    assert x.grad.tolist() == [24.0, 6.0]
    assert tg.autograd.gradcheck(lambda t: Cube.apply(t, 2.0), (leaf(0.5, -1.5),))
    assert tg.autograd.gradgradcheck(lambda t: Cube.apply(t, 2.0), (leaf(0.5, -1.5),))

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    with pytest.raises(RuntimeError):
        tg.autograd.gradcheck(lambda t: Wrong.apply(t, 2.0), (leaf(0.5, -1.5),))
    assert not tg.autograd.gradcheck(lambda t: Wrong.apply(t, 2.0), (leaf(0.5, -1.5),), raise_exception=False)


def test_errors_in_custom_backward_reach_the_caller():
    class Boom(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            raise KeyError("mine")

    x = leaf(1.0)
    with pytest.raises(KeyError, match="mine"):
        Boom.apply(x).backward()
    assert x.grad is None


def test_anomaly_names_op_and_line():
    x = leaf(0.0)
    with tg.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="(?s)SqrtBackward0.*test_autograd.py"):
        y = x.sqrt() * 0.0
        y.sum().backward()


def test_anomaly_names_the_lines_of_a_stale_value():
    x = leaf(1.0)
    with tg.autograd.detect_anomaly(), pytest.raises(RuntimeError) as caught:
        y = x.exp()  # line A
        y.mul_(2.0)  # line B
        y.sum().backward()
    assert "line A" in str(caught.value) and "line B" in str(caught.value)


def test_hooks_must_return_a_gradient_of_the_tensor():
    x = leaf(1.0, 2.0)
    for wrong in (lambda g: tg.ones(5, dtype=tg.float64), lambda g: g.float()):
        y = x * 1.0
        y.register_hook(wrong)
        handle = x.register_hook(wrong)
        with pytest.raises(RuntimeError, match="register_hook"):
            y.sum().backward()
        handle.remove()
        assert x.grad is None


def test_graphs_are_freed():
    x = leaf(1.0, 2.0)
    y = (x.exp() * 3).sum()
    ref = weakref.ref(y)
    y.backward()
    del y
    gc.collect()
    assert ref() is None
    live = tg.memory.stats()["live"] if hasattr(tg, "memory") else None
    for _ in range(100):
        z = x
        for _ in range(20):
            z = (z * 1.01).tanh()
        z.sum().backward()
        x.grad = None
    del z
    if live is not None:
        assert tg.memory.stats()["live"] <= live + 4096


def test_deep_graph():
    x = leaf(1.0)
    y = x
    for _ in range(200_000):
        y = y + 1e-6
    y.backward()
    assert x.grad.item() == 1.0
    del y


# ---- G4: random graphs against PyTorch


UNARY = ["tanh", "sigmoid", "sin", "exp", "neg", "square", "relu", "abs"]
BINARY = ["add", "sub", "mul", "maximum"]


def random_program(rng, mod, xs, steps=8):
    """The same random ops on either library; decisions come from rng only, so both sides take the same path."""
    pool = list(xs)
    for _ in range(steps):
        kind = rng.integers(0, 9)
        a = pool[rng.integers(len(pool))]
        b = pool[rng.integers(len(pool))]
        if kind <= 1:
            r = getattr(mod, UNARY[rng.integers(len(UNARY))])(a * 0.5)
        elif kind <= 3:
            r = getattr(mod, BINARY[rng.integers(len(BINARY))])(a, b if b.shape == a.shape else a * 0.3)
        elif kind == 4:
            r = a.transpose(0, -1) if a.ndim > 1 else a.unsqueeze(0)
        elif kind == 5:
            r = a[..., : max(1, a.shape[-1] - 1)] if a.ndim else a * 2
        elif kind == 6:
            r = a.sum(int(rng.integers(a.ndim)), keepdim=True) if a.ndim else a
            r = r * 0.1 + a
        elif kind == 7 and a.ndim:  # in-place on a view of a fresh tensor
            r = a * 1.0
            v = r[int(rng.integers(r.shape[0]))]
            v.mul_(float(rng.uniform(0.5, 1.5)))
        else:
            r = a * 1.0
            w = r.reshape(-1)
            r.add_(a)
            r = r + w.sum() * 0.01
        pool.append(r)
    return sum((p * p).mean() for p in pool)


@pytest.mark.oracle
def test_random_graphs_match_pytorch():
    import torch

    n = 2000
    for seed in range(n):
        init = np.random.default_rng(seed)
        shapes = [tuple(int(s) for s in init.integers(1, 4, int(init.integers(1, 4)))) for _ in range(2)]
        data = [init.standard_normal(s) * 0.5 for s in shapes]
        mine = [tg.tensor(d, dtype=tg.float64, requires_grad=True) for d in data]
        theirs = [torch.tensor(d, dtype=torch.float64, requires_grad=True) for d in data]
        a = random_program(np.random.default_rng(seed + 10**6), tg, mine)
        b = random_program(np.random.default_rng(seed + 10**6), torch, theirs)
        np.testing.assert_allclose(a.item(), b.item(), rtol=1e-9, err_msg=f"seed {seed}")
        a.backward()
        b.backward()
        for x, y in zip(mine, theirs):
            gx = np.zeros(x.shape) if x.grad is None else x.grad.numpy()
            gy = np.zeros(tuple(y.shape)) if y.grad is None else y.grad.numpy()
            np.testing.assert_allclose(gx, gy, rtol=1e-8, atol=1e-10, err_msg=f"seed {seed}")
    print(f"{n} random graphs agree")


def test_in_place_with_an_operand_in_the_same_memory():
    """The gradient reads what the operand was. PyTorch refuses most of these."""
    cases = [
        (lambda y: y.mul_(y), lambda y: y * y),
        (lambda y: y.mul_(y.detach()), lambda y: y * y.detach()),
        (lambda y: y.mul_(y.flip(0)[::-1]), lambda y: y * y),
        (lambda y: y.mul_(y[:1]), lambda y: y * y[:1]),
        (lambda y: y.lerp_(y * 2, y), lambda y: tg.lerp(y, y * 2, y)),
        (lambda y: y.addcmul_(y, y, value=2), lambda y: tg.addcmul(y, y, y, value=2)),
        (lambda y: (y[1:].mul_(y[:1]), y)[1], lambda y: tg.cat([y[:1], y[1:] * y[:1]])),
    ]
    for in_place, plain in cases:
        grads = []
        for f in (in_place, plain):
            x = tg.tensor([1.0, 2.0, 3.0], dtype=tg.float64, requires_grad=True)
            (g,) = tg.autograd.grad((f(x * 3) ** 2).sum(), x, create_graph=True)
            (g**2).sum().backward()
            grads.append(g.tolist() + x.grad.tolist())
        assert grads[0] == pytest.approx(grads[1])


@pytest.mark.parametrize("padding_idx", [None, 1])
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradient_of_a_tied_embedding(create_graph, padding_idx):
    """The rows of an embedding are added to the gradient that the head has left: nothing else may see that happen."""
    F = tg.nn.functional
    table = tg.arange(15.0, dtype=tg.float64).reshape(5, 3)
    index = tg.tensor([[1, 4, 1], [0, 4, 4]])

    def gradients(tied):
        w, head = table.clone().requires_grad_(), table.clone().requires_grad_()
        h = F.embedding(index, w, padding_idx=padding_idx)
        loss = (h @ (w if tied else head).t() * tg.arange(5.0, dtype=tg.float64)).sum()
        seen = []
        w.register_hook(lambda g: seen.append(g.clone()))
        loss.backward(create_graph=create_graph)
        first = w.grad.detach().clone() if tied else (w.grad + head.grad).detach()
        return first, seen, loss

    (tied, seen, _), (apart, _, _) = gradients(True), gradients(False)
    assert tied.tolist() == apart.tolist()
    assert [g.tolist() for g in seen] == [tied.tolist()]
    # What arrived before as somebody's tensor stays as it is.
    w, g = table.clone().requires_grad_(), tg.ones(5, 3, dtype=tg.float64)
    e = F.embedding(index, w)
    tg.autograd.backward([w, e], [g, tg.ones_like(e)])
    assert g.tolist() == tg.ones(5, 3).tolist()
    assert w.grad.sum(1).tolist() == [6.0, 9.0, 3.0, 3.0, 12.0]


def test_small_rows_of_a_tied_half_embedding_do_not_vanish():
    """100 rows of 2^-9 are added up before they meet the head's 1.0, which alone would round each of them away."""
    w = tg.ones(2, 1, dtype=tg.bfloat16, requires_grad=True)
    rows = tg.nn.functional.embedding(tg.zeros(100, dtype=tg.int64), w)
    (rows.sum() * 2.0**-9 + (w * 1.0).sum()).backward()
    assert w.grad.tolist() == [[1.1953125], [1.0]]


def test_gradient_of_a_weight_that_is_used_again():
    """Each use adds its product to the sum of those before: exact in these numbers, whatever the order."""
    F = tg.nn.functional
    xs = [tg.arange(float(2 * n * 3), dtype=tg.float64).reshape(2, n, 3) - n for n in (1, 2, 4, 0)]

    def loss(ws):
        return sum((F.linear(x, w) ** 2).sum() for x, w in zip(xs, ws))

    def weight():
        return (tg.arange(12.0, dtype=tg.float64).reshape(4, 3) - 5).requires_grad_()

    w, apart = weight(), [weight() for _ in xs]
    loss([w] * len(xs)).backward()
    loss(apart).backward()
    assert w.grad.tolist() == sum(v.grad for v in apart).tolist()
    assert tg.autograd.gradgradcheck(lambda w: loss([w / 10] * len(xs)), (weight(),))


def test_what_only_gives_a_sign_has_a_gradient_of_zeros():
    x = tg.tensor([[2.0, -3.0], [0.0, 1.0]], requires_grad=True)
    sign = tg.tensor([-1.0, 4.0], requires_grad=True)
    tg.copysign(x, sign).sum().backward()
    assert x.grad.tolist() == [[-1.0, -1.0], [0.0, 1.0]]
    assert sign.grad.tolist() == [0.0, 0.0]
