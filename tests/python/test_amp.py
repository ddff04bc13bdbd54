"""Mixed precision: result types against PyTorch's autocast, gradients, GradScaler step for step, half parameters."""

import copy
import math
import pickle
import threading
import warnings

import numpy as np
import opmatrix as m
import pytest
import test_examples
import tinygrad_cpp as tg
from tinygrad_cpp import amp, nn

torch = m.torch
oracle = pytest.mark.oracle


def bf16(**kwargs):
    return tg.autocast("cpu", dtype=tg.bfloat16, **kwargs)


# ---- the policy

# Where the result's type differs from PyTorch's although PyTorch's CPU policy names the op, and why.
_SELECTS = "takes values as they are, so float32 adds nothing; PyTorch's list fills gaps in its bfloat16 kernels"
DELIBERATE = {
    **dict.fromkeys(["max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d"], _SELECTS),
    **dict.fromkeys(["adaptive_max_pool3d", "adaptive_max_pool3d_with_indices"], _SELECTS),
    **dict.fromkeys(["linalg_pinv", "linalg_pinv.rcond"], "linear algebra stays in float32 to its last product"),
}


def dtypes(run, call, dtype, scope):
    """Types of the results under `scope`, None where the call is refused."""
    try:
        with warnings.catch_warnings(), scope:
            warnings.simplefilter("ignore")
            return [m.dtype_name(t) for t in m.outputs(run(call, dtype)) if hasattr(t, "dtype")]
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError):
        return None


def compared_ops():
    for op in m.TABLE:
        if not op["is_hidden"] and not op["is_inplace"] and op["samples"] and m.torch_function(op) is not None:
            yield op


@oracle
def test_result_types_are_those_of_pytorch():
    counts = {"same": 0, "as on CUDA": 0, "deliberate": 0}
    wrong = []
    for op in compared_ops():
        for call in m.samples(op)[:2]:
            for dtype in ("float32", "bfloat16"):
                plain = dtypes(m.run_torch, call, dtype, torch.no_grad())
                want = dtypes(m.run_torch, call, dtype, torch.autocast("cpu", dtype=torch.bfloat16))
                got = dtypes(m.run_tg, call, dtype, bf16())
                if got is None and dtypes(m.run_tg, call, dtype, tg.no_grad()) is not None:
                    wrong.append((op["name"], call.text, dtype, "refused under autocast only"))
                if want is None or got is None or not want:
                    continue
                if got == want:
                    counts["same"] += 1
                elif want == plain and (op["autocast"] != "keep" or op["composite"]):
                    counts["as on CUDA"] += 1  # PyTorch's CPU policy does not name the op, nor any part of it
                elif op["name"] in DELIBERATE:
                    counts["deliberate"] += 1
                else:
                    wrong.append((op["name"], call.text, dtype, f"{got}, PyTorch {want}"))
    print(counts)
    assert not wrong, "\n".join(map(str, wrong))
    assert counts["same"] > 1000


def test_classes():
    x, w = tg.randn(4, 8), tg.randn(3, 8)
    with bf16():
        y = nn.functional.linear(x, w)
        assert y.dtype is tg.bfloat16 and (x @ w.T).dtype is tg.bfloat16
        assert nn.functional.layer_norm(y, (3,)).dtype is tg.float32
        assert y.softmax(-1).dtype is tg.float32 and y.exp().dtype is tg.float32 and y.sum().dtype is tg.float32
        assert y.softmax(-1, dtype=tg.float64).dtype is tg.float64  # a named type wins
        assert nn.functional.cross_entropy(y, tg.tensor([0, 1, 2, 0])).dtype is tg.float32
        assert y.relu().dtype is tg.bfloat16 and (y + x[:, :3]).dtype is tg.float32
        assert tg.cat([y, x[:, :3]]).dtype is tg.float32
        assert (x.double() @ w.double().T).dtype is tg.float64  # float64 is left alone
        x.addmm_(tg.randn(4, 5), tg.randn(5, 8))  # in place: the type of what is written
        assert x.dtype is tg.float32
    with tg.autocast("cpu", dtype=tg.float16):
        assert (x @ w.T).dtype is tg.float16 and (x.bfloat16() @ w.T).dtype is tg.float16


def test_regions_nest_and_end():
    a = tg.randn(2, 2)

    @bf16()
    def product():
        return (a @ a).dtype

    assert product() is tg.bfloat16 and (a @ a).dtype is tg.float32
    assert not tg.is_autocast_enabled("cpu") and not tg.is_autocast_enabled()
    with bf16():
        assert tg.is_autocast_enabled("cpu") and tg.get_autocast_dtype("cpu") is tg.bfloat16
        with tg.autocast("cpu", dtype=tg.float16):
            assert (a @ a).dtype is tg.float16
            with tg.amp.autocast("cpu", enabled=False):
                assert (a @ a).dtype is tg.float32 and product() is tg.bfloat16
            assert (a @ a).dtype is tg.float16
        assert (a @ a).dtype is tg.bfloat16
        seen = []
        thread = threading.Thread(target=lambda: seen.append((a @ a).dtype))
        thread.start()
        thread.join()
        assert seen == [tg.float32]  # the mode belongs to the thread
        with pytest.raises(tg.ShapeError):
            a @ tg.randn(3, 3)
        with tg.autocast("cuda", dtype=tg.float16):  # of another type of device
            assert (a @ a).dtype is tg.bfloat16
    with pytest.raises(KeyError), bf16():
        raise KeyError
    assert not tg.is_autocast_enabled("cpu") and (a @ a).dtype is tg.float32
    with pytest.warns(UserWarning, match="no half type"), tg.autocast("cpu", dtype=tg.float64):
        assert (a @ a).dtype is tg.float32


def test_generator_functions():
    a = tg.randn(2, 2)

    @bf16()
    def products():
        yield (a @ a).dtype
        yield (a @ a).dtype

    for dtype in products():
        assert dtype is tg.bfloat16 and (a @ a).dtype is tg.float32


def test_weights_are_cast_once_per_version():
    def live_casts():
        nonlocal y
        before = tg._C._memory_stats()["allocations"]
        y = nn.functional.linear(x, w)
        return tg._C._memory_stats()["allocations"] - before

    x, w, y = tg.randn(4, 8).bfloat16(), nn.Parameter(tg.randn(16, 8)), None
    with bf16():
        first, second = live_casts(), live_casts()
        assert second == first - 1
        old = y.clone()
        with tg.no_grad():
            w.mul_(2)
        assert live_casts() == first and tg.allclose(y.float(), 2 * old.float())
        w.data = tg.zeros(16, 8)
        live_casts()
        assert not y.any()
        tg.clear_autocast_cache()
        assert live_casts() == first
        with bf16():
            assert live_casts() == second  # inner regions share the casts of the outer one
        with tg.no_grad():
            assert live_casts() == second and not y.requires_grad
    with bf16(), tg.no_grad():
        live_casts()
        with tg.enable_grad():  # a cast made without a tape is none to differentiate through
            live_casts()
            assert y.requires_grad
            y.sum().backward()
    assert w.grad.dtype is tg.float32 and w.grad.any()
    with bf16(cache_enabled=False):
        assert live_casts() == live_casts() == first


def make_pair(dims=(6, 16, 4)):
    """The same small network on both sides."""
    model = nn.Sequential(nn.Linear(dims[0], dims[1]), nn.LayerNorm(dims[1]), nn.ReLU(), nn.Linear(dims[1], dims[2]))
    T = torch.nn
    other = T.Sequential(
        T.Linear(dims[0], dims[1]), T.LayerNorm(dims[1]), T.ReLU(), T.Linear(dims[1], dims[2])
    )
    other.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in model.state_dict().items()})
    return model, other


@oracle
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_are_those_of_pytorch(dtype):
    tg.manual_seed(3)
    model, other = make_pair()
    x, y = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32), np.arange(32) % 4
    for _ in range(2):  # the second pass meets casts of the first
        with tg.autocast("cpu", dtype=getattr(tg, dtype)):
            loss = nn.functional.cross_entropy(model(tg.tensor(x)), tg.tensor(y))
        with torch.autocast("cpu", dtype=getattr(torch, dtype)):
            want = torch.nn.functional.cross_entropy(other(torch.tensor(x)), torch.tensor(y))
        model.zero_grad(), other.zero_grad()
        loss.backward(), want.backward()
    assert loss.dtype is tg.float32 and abs(loss.item() - want.item()) < 1e-2
    for p, q in zip(model.parameters(), other.parameters()):
        assert p.grad.dtype is tg.float32
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=2e-2 * q.grad.abs().max().item())


def test_backward_runs_without_autocast():
    a = tg.randn(3, 3, requires_grad=True)
    seen = []
    with bf16():
        y = a @ a
        y.register_hook(lambda g: seen.append((tg.is_autocast_enabled("cpu"), (a.detach() @ a.detach()).dtype)))
        y.float().sum().backward()
        assert tg.is_autocast_enabled("cpu")
    assert seen == [(False, tg.float32)] and a.grad.dtype is tg.float32


def test_custom_fwd_and_bwd():
    seen = {}

    class Product(tg.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu")
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            seen["dtype"] = (g @ b.T).dtype
            return (g @ b.T).to(a.dtype), (a.T @ g).to(b.dtype)

    class InFloat32(Product):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=tg.float32)
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

    a, b = tg.randn(2, 3, requires_grad=True), tg.randn(3, 2, requires_grad=True)
    with bf16():
        y = Product.apply(a, b)
        z = InFloat32.apply(a.bfloat16(), b)
    assert y.dtype is tg.bfloat16 and z.dtype is tg.float32
    y.sum().backward()
    assert seen["dtype"] is tg.bfloat16 and a.grad.dtype is tg.float32
    z.sum().backward()
    assert seen["dtype"] is tg.float32
    assert Product.apply(a, b).dtype is tg.float32
    assert callable(tg.cuda.amp.custom_fwd(lambda ctx, x: x)) and callable(tg.cuda.amp.custom_bwd(lambda ctx, x: x))


# ---- GradScaler


def run_scaler(lib, gradients, **options):
    """Scale, parameter and growth tracker after each iteration in which the loss has these gradients."""
    scaler = lib.amp.GradScaler("cpu", **options)
    w = lib.ones(3).requires_grad_()
    optimizer = lib.optim.SGD([w], lr=0.1)
    out = []
    for g in gradients:
        optimizer.zero_grad()
        loss = (w * lib.tensor(g)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        out.append((scaler.get_scale(), w.detach().tolist(), scaler._get_growth_tracker()))
    return out, scaler.state_dict(), scaler


@oracle
@pytest.mark.filterwarnings("ignore:GradScaler")
@pytest.mark.parametrize(
    "options",
    [{}, dict(init_scale=4.0, growth_interval=3), dict(init_scale=2.0**120, growth_factor=4.0, backoff_factor=0.25, growth_interval=2)],
)
def test_scaler_is_that_of_pytorch(options):
    ok, inf, nan = [1.0, -2.0, 0.5], [1.0, math.inf, 0.0], [math.nan, 1.0, 1.0]
    gradients = [ok, ok, ok, inf, ok, ok, nan, nan, ok, ok, ok, ok]
    got, state, scaler = run_scaler(tg, gradients, **options)
    want, want_state, _ = run_scaler(torch, gradients, **options)
    for a, b in zip(got, want):
        assert a[0] == b[0] and a[2] == b[2]
        np.testing.assert_allclose(a[1], b[1], rtol=1e-6)
    assert state == want_state
    assert scaler.skipped_steps == 3 or options.get("init_scale", 0) > 2.0**100
    again = tg.amp.GradScaler("cpu")
    again.load_state_dict(state)
    assert again.state_dict() == state


@oracle
def test_scaler_refuses_what_pytorch_refuses():
    for lib in (tg, torch):
        w = lib.ones(2).requires_grad_()
        optimizer = lib.optim.SGD([w], lr=0.1)
        s = lib.amp.GradScaler("cpu")

        def scaled_backward(s=s, w=w):
            s.scale(w.sum()).backward()

        scaled_backward()
        s.unscale_(optimizer)
        with pytest.raises(RuntimeError, match="already been called on this optimizer"):
            s.unscale_(optimizer)
        assert w.grad.tolist() == [1, 1]
        s.step(optimizer)
        with pytest.raises(RuntimeError, match=r"step\(\) has already been called"):
            s.step(optimizer)
        with pytest.raises(RuntimeError, match=r"called after step\(\)"):
            s.unscale_(optimizer)
        s.update()
        with pytest.raises((AssertionError, RuntimeError), match="No inf checks"):
            s.update()
        with pytest.raises(RuntimeError, match="Closure"):
            s.step(optimizer, closure=lambda: None)
        with pytest.raises(RuntimeError, match="empty"):
            s.load_state_dict({})
        half = lib.ones(2, dtype=lib.float16).requires_grad_()
        s.scale(half.sum()).backward()
        with pytest.raises(ValueError, match="FP16"):
            s.unscale_(lib.optim.SGD([half], lr=0.1))
        a, b = s.scale([lib.ones(2), (lib.ones(1),)])
        assert a.tolist() == [65536.0] * 2 and b[0].item() == 65536.0
        s.update(new_scale=8.0)
        assert s.get_scale() == 8
        off = lib.amp.GradScaler("cpu", enabled=False)
        assert off.get_scale() == 1 and off.state_dict() == {} and off.scale(a) is a and not off.is_enabled()


def test_finite_check_and_unscaling_in_one_pass():
    rng = np.random.default_rng(0)
    for dtype in (tg.float32, tg.float64, tg.float16, tg.bfloat16):
        values = [rng.normal(size=s) for s in [(3,), (40000,), (0,), (), (7, 5)]]
        grads = [tg.tensor(v).to(dtype) for v in values] + [tg.tensor(values[4]).to(dtype).T]
        want = [(g.double() * 0.125).to(dtype) for g in grads]
        assert tg._C._unscale(grads, 0.125) == -1
        assert all(tg.equal(a, b) for a, b in zip(grads, want))
        for bad, at in ((math.inf, 1), (-math.inf, 4), (math.nan, 5)):
            broken = [g.clone() for g in grads]
            broken[at].view(-1)[-1] = bad if at < 5 else 0
            if at == 5:
                broken[5] = broken[5].T.clone().T
                broken[5][0, 0] = bad
            assert tg._C._unscale(broken, 1.0) == at
    with pytest.raises(tg.DTypeError, match="unscale"):
        tg._C._unscale([tg.tensor([1])], 1.0)


def test_skipped_steps_are_reported():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    scaler = tg.amp.GradScaler("cpu")
    before = [p.detach().clone() for p in model.parameters()]
    scaler.scale(model(tg.ones(1, 2) * 1e38).sum() * 1e5).backward()
    with pytest.warns(UserWarning, match=r"the gradient of '1\.weight' of Sequential is infinite or NaN at a scale of 65536"):
        assert scaler.step(optimizer) is None
    scaler.update()
    assert scaler.skipped_steps == 1 and scaler.get_scale() == 32768 and "1.weight" in scaler.last_skip
    assert all(tg.equal(p, q) for p, q in zip(model.parameters(), before))
    named = tg.optim.SGD([("alpha", tg.ones(1).requires_grad_())], lr=0.1)
    named.param_groups[0]["params"][0].grad = tg.tensor([math.inf])
    scaler.step(named)
    assert scaler.skipped_steps == 2 and "'alpha'" in scaler.last_skip


@pytest.mark.parametrize("half", [False, True])
def test_the_gradient_that_overflowed_first_is_named(half):
    """By the order of backward, not that of the parameters; by the path from the outermost module."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body, self.middle = nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.middle(self.body(x)))

    model = Model()
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    for overflow, name in ((lambda y, h: y.float().sum() * 1e38, "head.weight"), (lambda y, h: h.float().sum() * 1e38, "middle")):
        scaler = tg.amp.GradScaler("cpu", init_scale=2.0**16)
        optimizer.zero_grad()
        with tg.autocast("cpu", dtype=tg.float16, enabled=half):
            h = model.middle(model.body(tg.ones(1, 4)))
            y = model.head(h)
        scaler.scale(overflow(y, h) + y.float().sum() * 0).backward()
        with pytest.warns(UserWarning, match=rf"gradient of '{name}.* of Model is infinite"):
            scaler.step(optimizer)
        scaler.update()


def test_clipping_scaled_gradients_is_refused():
    w, other = tg.ones(3).requires_grad_(), tg.ones(3).requires_grad_()
    optimizer = tg.optim.SGD([w], lr=0.1)
    scaler = tg.amp.GradScaler("cpu")
    scaler.scale((w * w).sum()).backward()
    (other * 2).sum().backward()
    for clip in (nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_):
        with pytest.raises(tg.Error, match=r"65536 times too large.*unscale_"):
            clip([w], 1.0)
        clip([other], 1.0)  # not in the graph of the scaled loss
    with pytest.raises(tg.Error, match=r"clip_grads_with_norm_.*unscale_"):
        nn.utils.clip_grads_with_norm_([w], 1.0, tg.tensor(5.0))
    nn.utils.clip_grads_with_norm_([other], 1.0, tg.tensor(0.5))
    scaler.unscale_(optimizer)
    assert nn.utils.clip_grad_norm_([w], 1.0).item() == pytest.approx(math.sqrt(12))
    scaler.step(optimizer)
    scaler.update()
    nn.utils.clip_grad_norm_([w], 1.0)


def test_scalers_are_copied_and_pickled_between_iterations():
    w = tg.ones(3).requires_grad_()
    optimizer = tg.optim.SGD([w], lr=0.1)
    scaler = tg.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
    for loss in (w.sum() * math.inf, w.sum()):
        w.grad = None
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        with pytest.raises(tg.Error, match="after its update"):
            copy.deepcopy(scaler)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scaler.step(optimizer)
        scaler.update()
    for again in (copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        assert again.state_dict() == scaler.state_dict() and again.get_scale() == 4
        assert again._get_growth_tracker() == 1 and again.skipped_steps == 1 and "infinite" in again.last_skip
    off = copy.deepcopy(tg.amp.GradScaler("cpu", enabled=False))
    assert not off.is_enabled() and off.state_dict() == {}


def test_scaler_for_a_device_that_is_missing_says_so(monkeypatch):
    monkeypatch.setattr("tinygrad_cpp._suggest._told", set())
    monkeypatch.setattr(amp, "_cuda_works", lambda: False)
    with pytest.warns(UserWarning, match="device is 'cuda', but there is no such device"):
        assert not tg.amp.GradScaler().is_enabled()


def test_bfloat16_needs_no_scaler(monkeypatch):
    monkeypatch.setattr("tinygrad_cpp._suggest._told", set())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with bf16():
            loss = tg.ones(2, requires_grad=True).sum()
        tg.amp.GradScaler("cpu").scale(loss)
        tg.amp.GradScaler("cpu").scale(loss)
    assert sum("no scaler is needed" in str(w.message) for w in seen) == 1


# ---- the half types themselves


@oracle
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_conversions_are_those_of_pytorch(dtype):
    """All values to float32 and back; the middle between neighbours and what is beside it; float64; 2^20 random bits."""
    every = np.arange(65536, dtype=np.uint16).view(np.int16)
    wide = tg.from_numpy(every).view(getattr(tg, dtype)).float().numpy()
    want = torch.from_numpy(every).view(getattr(torch, dtype)).float().numpy()
    nan = np.isnan(want)
    assert (np.isnan(wide) == nan).all() and (wide.view(np.int32) == want.view(np.int32))[~nan].all()

    def narrow(lib, x):
        half = lib.from_numpy(x).to(getattr(lib, dtype))
        return np.where(half.isnan().numpy(), 0x7FFF, half.view(lib.int16).numpy())

    finite = np.sort(want[np.isfinite(want)]).astype(np.float64)
    middle = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    inf = np.float32(np.inf)
    edges = np.concatenate([want, middle, np.nextafter(middle, inf), np.nextafter(middle, -inf)])
    noise = np.random.default_rng(0).integers(0, 2**32, 2**20, dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for x in (edges, noise, edges.astype(np.float64), noise.astype(np.float64) * (1 + 1e-9)):
            assert (narrow(tg, x) == narrow(torch, x)).all()
    print(f"{dtype}: 65536 values to float32, {len(edges) + len(noise)} from it, as PyTorch's")


# ---- parameters stored in half precision

STEP = {tg.bfloat16: 1e-3, tg.float16: 1e-4}  # less than half of the spacing of the type around 1


def moved(dtype, optimizer="SGD", step=1e-3, steps=100, **options):
    """How far 100 tiny updates moved weights around 1, on average."""
    tg.manual_seed(1)
    w = tg.linspace(1, 1.9, 512).to(dtype).requires_grad_()
    start = w.detach().float().clone()
    o = getattr(tg.optim, optimizer)([w], lr=step, **options)
    for _ in range(steps):
        w.grad = tg.ones_like(w)
        o.step()
    return (start - w.detach().float()).mean().item(), o


@pytest.mark.parametrize("dtype", [tg.bfloat16, tg.float16])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "RMSprop"])
def test_tiny_updates_of_half_weights(dtype, optimizer):
    want, _ = moved(tg.float32, optimizer, STEP[dtype])
    plain, _ = moved(dtype, optimizer, STEP[dtype])
    masters, _ = moved(dtype, optimizer, STEP[dtype], master_weights=True)
    rounded, _ = moved(dtype, optimizer, STEP[dtype], stochastic_rounding=True)
    print(f"{optimizer} {dtype}: float32 {want:.5f}, half {plain:.5f}, masters {masters:.5f}, stochastic {rounded:.5f}")
    assert abs(masters / want - 1) < 0.05 and abs(rounded / want - 1) < 0.05
    assert abs(plain / want - 1) > 0.05


def test_masters_are_part_of_the_state():
    _, o = moved(tg.bfloat16, "AdamW", steps=3, master_weights=True)
    w = o.param_groups[0]["params"][0]
    state = o.state_dict()
    assert {k: v.dtype for k, v in state["state"][0].items()} == {
        k: tg.float32 for k in ("master_weight", "step", "exp_avg", "exp_avg_sq")
    }
    assert tg.equal(state["state"][0]["master_weight"].to(tg.bfloat16), w)
    v = w.detach().clone().requires_grad_()
    again = tg.optim.AdamW([v], lr=1e-3, master_weights=True)
    again.load_state_dict(copy.deepcopy(state))
    for _ in range(60):
        for p, opt in ((w, o), (v, again)):
            p.grad = tg.ones_like(p)
            opt.step()
    assert tg.equal(o.state[w]["master_weight"], again.state[v]["master_weight"]) and tg.equal(v, w)
    with tg.no_grad():
        w.fill_(5)  # from outside: wins over the copy
    o.step()
    assert (w - 5).abs().max().item() < 0.1
    assert "master_weights" not in tg.optim.AdamW([v]).param_groups[0]
    tg.optim.Adagrad([v], master_weights=True, initial_accumulator_value=0.1)


def test_stochastic_rounding_is_right_on_average():
    tg.manual_seed(0)
    for dtype, values in ((tg.bfloat16, [1.001, -3.3, 1e-3]), (tg.float16, [1.0001, -3.3001, 1.23e-6, -5.01e-7])):
        for value in values:
            w = tg.full((20000,), 0.0).to(dtype).requires_grad_()
            w.grad = tg.full_like(w, -math.copysign(1, value))
            tg.optim.SGD([w], lr=abs(value), stochastic_rounding=True).step()
            seen = w.detach().float()
            assert len(seen.unique()) <= 2
            assert seen.mean().item() == pytest.approx(tg.tensor(value).item(), rel=1e-2 if abs(value) < 1e-5 else 2e-4)
    for exact in (0.5, math.inf, 0.0):  # nothing to round
        w = tg.zeros(100, dtype=tg.bfloat16).requires_grad_()
        w.grad = tg.full_like(w, -exact)
        tg.optim.SGD([w], lr=1.0, stochastic_rounding=True).step()
        assert (w == exact).all()


def test_scaler_with_half_parameters():
    """Gradients that float16 could not hold unscaled arrive in the float32 masters."""
    w = tg.zeros(4, dtype=tg.float16).requires_grad_()
    o = tg.optim.SGD([w], lr=1.0, master_weights=True)
    scaler = tg.amp.GradScaler("cpu")
    scaler.scale((w.float() * 1e-8).sum()).backward()
    assert (w.grad > 0).all()
    with pytest.raises(tg.ValueError, match="leave unscaling to step"):
        scaler.unscale_(o)
    scaler.step(o)
    scaler.update()
    np.testing.assert_allclose(o.state[w]["master_weight"].numpy(), -1e-8, rtol=1e-3)
    assert "grad_scale" not in o.param_groups[0]


# ---- why: float16 alone does not learn where float16 with a scaler does


def test_example(tmp_path):
    out = test_examples.python_example("mixed_precision", "--steps", "120", "--out", tmp_path, cwd=tmp_path)
    print(out)
    final = [float(x) for x in m.re.findall(r"-> ([\d.]+)", out)]
    zeros = [int(x) for x in m.re.findall(r"(\d+) % of", out)]
    assert final[1] > 2 and final[0] < 1 and abs(final[2] - final[0]) < 0.1 * final[0] + 0.02
    assert zeros[1] == 100 and zeros[2] <= zeros[0] + 5
    test_examples.check_png(tmp_path / "mixed_precision.png", 2)


def test_gpt_reaches_the_loss_of_float32(monkeypatch):
    monkeypatch.syspath_prepend(str(test_examples.ROOT / "examples"))
    import char_gpt

    text = char_gpt.read_text(None)
    chars = sorted(set(text))
    index = {c: i for i, c in enumerate(chars)}
    data = tg.tensor([index[c] for c in text])

    def final_loss(dtype):
        tg.manual_seed(0)
        model = char_gpt.GPT(len(chars), 32, 32, 2, 1)
        optimizer = tg.optim.AdamW(model.parameters(), lr=3e-3)
        scaler = tg.amp.GradScaler("cpu", enabled=dtype is tg.float16)
        losses = []
        for _ in range(300):
            at = tg.randint(len(data) - 32, (12, 1)) + tg.arange(32)
            with tg.autocast("cpu", dtype=dtype or tg.bfloat16, enabled=dtype is not None):
                loss = nn.functional.cross_entropy(model(data[at]).flatten(0, 1), data[at + 1].flatten())
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            losses.append(loss.item())
        return sum(losses[-50:]) / 50

    full, brain, half = (final_loss(d) for d in (None, tg.bfloat16, tg.float16))
    print(f"loss after 300 steps: float32 {full:.4f}, bfloat16 {brain:.4f}, float16 with a scaler {half:.4f}")
    assert abs(brain / full - 1) < 0.01 and abs(half / full - 1) < 0.01 and full < 3  # a guess has 4.6


def test_operands_of_two_types():
    f, h, rows = tg.ones(2, 2), tg.ones(2, 2).bfloat16(), tg.tensor([0, 1])
    with bf16():
        low = [tg.mm(f, h), tg.bmm(f[None], h[None]), tg.mv(f, h[0]), tg.addmm(f, h, f), tg.einsum("ij,jk", f, h)]
        low += [tg.baddbmm(f[None], h[None], f[None]), tg.linalg.multi_dot([f, h, f]), tg.chain_matmul(f, h, f)]
        widest = [tg.stack([f, h]), f.index_copy(0, rows, h), f.scatter_add(0, rows[None], h), f.index_put((rows,), h)]
        widest += [tg.cat([h, f]), tg.linalg.cross(tg.ones(3), tg.ones(3).bfloat16()), tg.dot(f[0], h[0])]
    assert {t.dtype for t in low} == {tg.bfloat16} and {t.dtype for t in widest} == {tg.float32}
