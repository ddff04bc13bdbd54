"""Hooks on what is kept for backward, and activation checkpointing: the same bits with less memory."""

import gc

import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.autograd.graph import disable_saved_tensors_hooks, save_on_cpu, save_on_disk, saved_tensors_hooks
from tinygrad_cpp.utils.checkpoint import (
    CheckpointError,
    checkpoint,
    checkpoint_sequential,
    noop_context_fn,
    set_checkpoint_early_stop,
)


class Double(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y + 0 * x


def same(a, b):
    assert len(a) == len(b)
    for s, t in zip(a, b):
        assert s.dtype == t.dtype and tg.equal(s, t), (s, t)


# ---- hooks


@pytest.fixture(params=["tg", "torch"])
def lib(request):
    """Both, so that the tests of hooks show what PyTorch does."""
    return tg if request.param == "tg" else pytest.importorskip("torch")


def test_hooks_see_what_is_kept(lib):
    hooks = lib.autograd.graph.saved_tensors_hooks
    seen, read = [], []

    def unpack(packed):
        read.append(packed[0])
        return packed[1]

    def pack(t):
        seen.append(tuple(t.shape))
        return len(seen) - 1, t.clone()

    x = lib.tensor([[1.0, 2.0]], requires_grad=True)
    w = lib.tensor([[3.0, 4.0]], requires_grad=True)
    with hooks(pack, unpack):
        y = (x * w).exp()
    assert len(seen) == 3 and not read
    z = y.sin().sum()
    assert len(seen) == 3
    z.backward()
    assert sorted(read) == [0, 1, 2]
    expected = (x * w).exp().cos() * (x * w).exp()
    assert lib.equal(x.grad, (expected * w).detach()) and lib.equal(w.grad, (expected * x).detach())


def test_what_hooks_return_is_what_backward_reads(lib):
    hooks = lib.autograd.graph.saved_tensors_hooks
    x = lib.tensor(3.0, requires_grad=True)
    with hooks(lambda t: t * 10, lambda t: t):
        y = x * x
    y.backward()
    assert x.grad.item() == 60
    with hooks(lambda t: t * 10, lambda t: t):
        with hooks(lambda t: t * 2, lambda t: t):  # the innermost pair alone
            inner = x * x
        outer = x * x
    x.grad = None
    inner.backward()
    assert x.grad.item() == 12
    outer.backward()
    assert x.grad.item() == 72


def test_second_derivatives_through_hooks(lib):
    x = lib.tensor([0.3, 0.7], requires_grad=True)
    w = lib.tensor([2.0, 5.0], requires_grad=True)

    def derivatives():
        y = ((x * w).exp() * w.tanh()).sum()
        g = lib.autograd.grad(y, (x, w), create_graph=True)
        return lib.autograd.grad((g[0] * g[1]).sum(), (x, w))

    plain = derivatives()
    with lib.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        hooked = derivatives()
    for a, b in zip(plain, hooked):
        assert lib.allclose(a, b, rtol=1e-6)


def test_custom_functions_and_errors_of_hooks():
    x = tg.tensor([0.5, 1.0], requires_grad=True)
    count = []
    with saved_tensors_hooks(lambda t: count.append(1) or t, lambda t: t):
        y = Double.apply(x)
    assert len(count) == 2
    y.sum().backward()
    assert tg.equal(x.grad, x.detach().exp())
    with saved_tensors_hooks(lambda t: t.zero_(), lambda t: t), pytest.raises(tg.AutogradError, match="in place"):
        x * x
    for unpack, error in ((lambda t: 3, tg.TypeError), (lambda t: t[:1], tg.AutogradError)):
        with saved_tensors_hooks(lambda t: t, unpack):
            y = x * x
        with pytest.raises(error, match="unpack hook"):
            y.sum().backward()
    with saved_tensors_hooks(lambda t: 1 / 0, lambda t: t), pytest.raises(ZeroDivisionError):
        x * x
    with pytest.raises(tg.TypeError, match="pack_hook"):
        saved_tensors_hooks(None, None)
    with disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match="not here"):
            checkpoint(tg.exp, x)
    checkpoint(tg.exp, x)


def test_hooks_hold_nothing_longer_than_the_graph():
    alive = []

    class Held:
        def __init__(self, t):
            self.t = t
            alive.append(1)

        def __del__(self):
            alive.pop()

    x = tg.ones(3, requires_grad=True)
    for backward in (True, False):
        with saved_tensors_hooks(Held, lambda h: h.t):
            y = (x * x).exp().sum()
        assert alive
        if backward:
            y.backward()
            assert not alive
        del y
        gc.collect()
        assert not alive


@pytest.mark.parametrize("dtype", [tg.float32, tg.bfloat16, tg.float64])
def test_offload(tmp_path, dtype):
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 4)).to(dtype)
    x = tg.randn(64, 16, dtype=dtype)

    def run(around):
        model.zero_grad()
        tg.manual_seed(1)
        with around:
            loss = model(x).square().sum()
        on_disk = len(list(tmp_path.iterdir()))
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters())], on_disk

    plain, none = run(save_on_cpu())
    disk, files = run(save_on_disk(tmp_path, min_bytes=64))
    same(plain, disk)
    assert none == 0 and files >= 4 and not list(tmp_path.iterdir())
    same(plain, run(save_on_disk(min_bytes=0))[0])


# ---- checkpointing


class Block(nn.Module):
    def __init__(self, width, wrap):
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(0.3)
        inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * width, width))
        self.inner = wrap(inner)
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)

    def forward(self, x):
        h = self.norm(x)
        a, _ = self.attention(h, h, h, need_weights=False)
        return x + self.drop(self.inner(x + a))


def gradients(wrap_block, wrap_inner, autocast=None):
    """Loss, output and gradients of a network with dropout, tied blocks, and a parameter from outside."""
    tg.manual_seed(0)
    blocks = [Block(8, wrap_inner) for _ in range(3)]
    scale = nn.Parameter(tg.full((8,), 0.9))
    x = tg.randn(2, 5, 8, requires_grad=True)
    tg.manual_seed(7)
    h = x
    with tg.autocast("cpu", dtype=autocast or tg.bfloat16, enabled=autocast is not None):
        for block in [*blocks, blocks[0]]:
            h = wrap_block(lambda t, block=block: block(t) * scale)(h)
    loss = h.float().square().mean()
    after = tg.rand(3)
    loss.backward()
    parameters = [p for b in blocks for p in b.parameters()]
    return [loss.detach(), h.detach(), after, x.grad, scale.grad, *(p.grad for p in parameters)]


def plainly(f):
    return f


def again(f):
    return lambda *args, **kwargs: checkpoint(f, *args, use_reentrant=False, **kwargs)


@pytest.mark.parametrize("autocast", [None, tg.bfloat16, tg.float16])
@pytest.mark.parametrize("early_stop", [True, False])
def test_same_bits(early_stop, autocast):
    """Promise G10: with dropout, nested, under autocast."""
    expected = gradients(plainly, plainly, autocast)
    with set_checkpoint_early_stop(early_stop):
        same(expected, gradients(again, plainly, autocast))
        same(expected, gradients(plainly, nn.Checkpoint, autocast))
        same(expected, gradients(again, nn.Checkpoint, autocast))
        same(expected, gradients(lambda f: again(again(f)), nn.Checkpoint, autocast))
    print(f"G10: {len(expected)} tensors bit-equal, early_stop={early_stop}, autocast={autocast}")


def test_arguments_and_results():
    w = tg.randn(3, requires_grad=True)

    def f(a, k, pair, *, scale, flag=None):
        assert flag == "x"
        return {"y": (a * w).exp() * scale * k, "n": k}, [pair[0] * a.sin(), a.detach()]

    x = tg.randn(3, requires_grad=True)
    s, p = tg.tensor(2.0, requires_grad=True), (tg.ones(3), 1)
    results = []
    for call in (f, again(f)):
        first, (second, third) = call(x, 3, p, scale=s, flag="x")
        assert first["n"] == 3 and not third.requires_grad
        results.append(tg.autograd.grad((first["y"] * second).sum(), (x, s, w)))
    same(*results)
    assert checkpoint(lambda: 5) == 5
    with tg.no_grad():
        assert not checkpoint(f, x, 3, p, scale=s, flag="x")[0]["y"].requires_grad


def test_second_derivatives_and_graphs_used_twice():
    x = tg.randn(4, requires_grad=True)
    f = lambda t: (t.exp() * t.sin()).tanh()

    def second(g):
        (d,) = tg.autograd.grad(g(x).sum(), x, create_graph=True)
        return tg.autograd.grad(d.square().sum(), x)

    same(second(f), second(again(f)))
    y = again(f)(x).sum()
    first = tg.autograd.grad(y, x, retain_graph=True)
    same(first, tg.autograd.grad(y, x))
    with pytest.raises(tg.AutogradError, match="second time"):
        tg.autograd.grad(y, x)
    # a gradient inside of the function
    inside = lambda t: t.sin() * tg.autograd.grad((t * t).sum().exp(), t, create_graph=True)[0]
    same(tg.autograd.grad(inside(x).sum(), x), tg.autograd.grad(again(inside)(x).sum(), x))


def test_runs_and_early_stop():
    """The function is run once more, and only as far as backward needs."""
    calls = []

    def f(t):
        for i in range(4):
            t = t.exp() if i < 3 else t + 1
            calls.append(i)
        return t

    x = tg.tensor([0.1], requires_grad=True)
    checkpoint(f, x).backward()
    assert calls == [0, 1, 2, 3, 0, 1]  # the last exp() ends it, its result being the last value kept
    calls.clear()
    checkpoint(f, x, early_stop=False).backward()
    assert calls == [0, 1, 2, 3] * 2
    calls.clear()
    with set_checkpoint_early_stop(False):
        checkpoint(f, x).backward()
    assert len(calls) == 8


def test_context_fn():
    entered = []

    class Note:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *error):
            entered.append("-" + self.name)

    x = tg.ones(2, requires_grad=True)
    y = checkpoint(tg.exp, x, context_fn=lambda: (Note("first"), Note("later")))
    assert entered == ["first", "-first"]
    y.sum().backward()
    assert entered[2:] == ["later", "-later"] and noop_context_fn()


def test_functions_that_do_something_else():
    x = tg.randn(3, requires_grad=True)
    sizes = iter([3, 2, 3, 2])
    f = lambda t: t[: next(sizes)].exp().sum()
    y = checkpoint(f, x)
    with pytest.raises(CheckpointError, match="kept for backward was"):
        y.backward()
    first = iter([True, False] * 2)
    g = lambda t: t.exp().sin() if next(first) else t.exp()
    y = checkpoint(g, x).sum()
    with pytest.raises(CheckpointError, match="run again"):
        y.backward()
    edited = tg.ones(3)
    y = checkpoint(lambda t, e: t * e, x, edited)
    edited.add_(1)
    with pytest.raises(CheckpointError, match="in place"):
        y.sum().backward()
    with pytest.raises(tg.ValueError, match="determinism_check"):
        checkpoint(f, x, determinism_check="hope")
    calls = iter([False, True])

    def broken(t):
        if next(calls):
            raise KeyError("inside")
        return t.exp()

    before = tg.get_rng_state()
    y = checkpoint(broken, x)
    with pytest.raises(KeyError, match="inside"):
        y.sum().backward()
    assert tg.equal(before, tg.get_rng_state()) and tg.is_grad_enabled()


def test_random_numbers_may_go_on():
    f = lambda t: (t * tg.rand(3)).exp()
    x = tg.ones(3, requires_grad=True)
    for preserve in (True, False):
        tg.manual_seed(0)
        y = checkpoint(f, x, preserve_rng_state=preserve)
        (g,) = tg.autograd.grad(y.sum(), x)
        assert tg.allclose(g / y.detach(), y.detach().log()) is preserve


def test_memory_is_less():
    def peak(f):
        x = tg.randn(256, 256, requires_grad=True)
        tg.memory.reset_peak()
        before = tg.memory.live()
        f(x).sum().backward()
        return tg.memory.peak() - before

    steps = [tg.sin] * 64
    tensor = 256 * 256 * 4

    def run(x):
        for s in steps:
            x = s(x)
        return x

    whole = peak(run)
    root = peak(lambda x: checkpoint_sequential(steps, 8, x))
    nested = peak(lambda x: checkpoint(lambda t: checkpoint_sequential(steps, 8, t), x))
    print(f"64 layers: {whole / tensor:.1f} tensors at the peak, {root / tensor:.1f} in 8 segments")
    assert whole >= 64 * tensor and root <= 20 * tensor and nested <= 24 * tensor
    with pytest.raises(tg.ValueError, match="segments"):
        checkpoint_sequential(steps, 65, tg.ones(1))


def test_module():
    inner = nn.Linear(3, 2)
    module = nn.Checkpoint(inner, early_stop=False)
    assert list(module.state_dict()) == ["module.weight", "module.bias"]
    assert tg.equal(module(tg.ones(1, 3)), inner(tg.ones(1, 3)))
    row = nn.Sequential(nn.Checkpoint(nn.Linear(3, 3)), nn.Checkpoint(nn.Tanh()))
    row(tg.ones(2, 3)).sum().backward()
    assert row[0].module.weight.grad is not None
