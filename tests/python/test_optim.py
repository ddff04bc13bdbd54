"""Optimizers, step for step against PyTorch. Schedulers are in test_optim_schedulers.py."""

import copy
import importlib
import inspect
import math

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import optim

try:
    import torch
except ImportError:
    torch = None

oracle = pytest.mark.oracle

# What each optimizer is run with, on two groups of which the second has a rate of its own.
CASES = {
    "SGD": [
        {},
        dict(momentum=0.9),
        dict(momentum=0.9, dampening=0.3),
        dict(momentum=0.8, nesterov=True),
        dict(weight_decay=0.1),
        dict(momentum=0.9, weight_decay=0.1, maximize=True),
        dict(lr=0.5, foreach=False),
        dict(momentum=0.5, fused=True),
    ],
    "Adam": [
        {},
        dict(amsgrad=True),
        dict(weight_decay=0.1),
        dict(betas=(0.5, 0.9), eps=1e-4),
        dict(maximize=True, amsgrad=True, weight_decay=0.05),
        dict(weight_decay=0.1, decoupled_weight_decay=True),
    ],
    "AdamW": [
        {},
        dict(weight_decay=0.3),
        dict(amsgrad=True, maximize=True),
        dict(lr=0.1, betas=(0.8, 0.95)),
        dict(fused=True),
    ],
    "Adamax": [{}, dict(weight_decay=0.1, maximize=True), dict(betas=(0.5, 0.9), eps=1e-3, foreach=True)],
    "NAdam": [
        {},
        dict(weight_decay=0.1, maximize=True),
        dict(weight_decay=0.1, decoupled_weight_decay=True, momentum_decay=0.1),
        dict(betas=(0.5, 0.9), eps=1e-3),
    ],
    "RAdam": [
        {},
        dict(weight_decay=0.1, maximize=True),
        dict(weight_decay=0.1, decoupled_weight_decay=True),
        dict(betas=(0.5, 0.7), eps=1e-3),
    ],
    "RMSprop": [
        {},
        dict(centered=True),
        dict(momentum=0.9),
        dict(centered=True, momentum=0.5, weight_decay=0.1),
        dict(alpha=0.8, eps=1e-3, maximize=True),
    ],
    "Adagrad": [{}, dict(lr_decay=0.1), dict(initial_accumulator_value=0.5), dict(weight_decay=0.1, maximize=True)],
    "Adadelta": [{}, dict(rho=0.5, weight_decay=0.1), dict(maximize=True, eps=1e-3)],
    "ASGD": [{}, dict(weight_decay=0.1, maximize=True), dict(t0=10, lambd=0.1, alpha=0.5, lr=0.1)],
    "Rprop": [{}, dict(maximize=True), dict(etas=(0.3, 2.0), step_sizes=(1e-3, 0.1))],
    "Adafactor": [
        {},
        dict(weight_decay=0.1, maximize=True),
        dict(eps=(1e-3, 1e-2), d=2.0, beta2_decay=-0.5, lr=0.1),
    ],
}
# Run on other parameters than the rest, below.
SPECIAL = {"LBFGS", "Muon", "SparseAdam"}
PAIRS = [(name, options) for name, cases in CASES.items() for options in cases]
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
RTOL = {"float32": 1e-5, "float64": 1e-10}


def values(seed=0, dtype="float32", shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def make(lib, name, options, dtype="float32", shapes=SHAPES):
    params = [lib.tensor(v, requires_grad=True) for v in values(0, dtype, shapes)]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": options.get("lr", 0.01) * 0.5}]
    return params, getattr(lib.optim, name)(groups if len(params) > 2 else params, **options)


def set_grads(lib, params, step):
    dtype = str(params[0].dtype).split(".")[-1]
    for p, g in zip(params, values(100 + step, dtype, [tuple(p.shape) for p in params])):
        p.grad = lib.tensor(g)


def array(t):
    return t.detach().numpy()


def check_same(ours, theirs, what, rtol=1e-5):
    for i, (a, b) in enumerate(zip(ours, theirs)):
        scale = np.abs(array(b)).max(initial=0)  # elements near 0 are differences of larger numbers
        np.testing.assert_allclose(array(a), array(b), rtol=rtol, atol=rtol * scale, err_msg=f"{what}, parameter {i}")


def optimizers(module):
    return {n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, module.Optimizer)} - {
        "Optimizer"
    }


@oracle
def test_every_optimizer_of_pytorch_exists_and_is_run():
    assert optimizers(torch.optim) == optimizers(optim) == CASES.keys() | SPECIAL


@oracle
@pytest.mark.parametrize("name", sorted(CASES.keys() | SPECIAL))
def test_module_paths_and_unknown_names(name):
    path = getattr(torch.optim, name).__module__.removeprefix("torch.")
    assert getattr(importlib.import_module(f"tinygrad_cpp.{path}"), name) is getattr(optim, name)
    with pytest.raises(AttributeError, match=f"did you mean.*{name}"):
        getattr(optim, name + "x")


@oracle
@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("name,options", PAIRS, ids=str)
def test_fifty_steps_equal_pytorch(name, options, dtype):
    ours, opt = make(tg, name, options, dtype)
    theirs, ref = make(torch, name, options, dtype)
    for step in range(50):
        set_grads(tg, ours, step)
        set_grads(torch, theirs, step)
        if step == 5:  # a rate that is edited takes effect
            for group in (*opt.param_groups, *ref.param_groups):
                group["lr"] *= 0.5
        opt.step()
        ref.step()
        check_same(ours, theirs, f"{name} {options} step {step}", RTOL[dtype])
    compare_state_dicts(opt.state_dict(), ref.state_dict(), RTOL[dtype])


def compare_state_dicts(ours, theirs, rtol=1e-5):
    assert list(ours) == list(theirs) == ["state", "param_groups"]
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for i, state in theirs["state"].items():
        assert set(ours["state"][i]) == set(state)
        for key, value in state.items():
            mine = ours["state"][i][key]
            assert str(mine.dtype).split(".")[-1] == str(value.dtype).split(".")[-1], key
            assert tuple(mine.shape) == tuple(value.shape), key
            check_same([mine], [value], key, max(rtol, 1e-7) if key == "mu_product" else rtol)


def convert(d, lib):
    """A state dict with its tensors in another library."""
    if isinstance(d, dict):
        return {k: convert(v, lib) for k, v in d.items()}
    if isinstance(d, list):
        return [convert(v, lib) for v in d]
    return lib.tensor(array(d).copy()) if hasattr(d, "detach") else d


@oracle
@pytest.mark.parametrize("name,options", PAIRS, ids=str)
@pytest.mark.parametrize("direction", ["to us", "to PyTorch"])
def test_state_dict_exchange(name, options, direction):
    """A run that changes the library in the middle goes on as one that does not."""
    libs = (torch, tg) if direction == "to us" else (tg, torch)
    params, first = make(libs[0], name, options, "float64")
    for step in range(10):
        set_grads(libs[0], params, step)
        first.step()
    moved, second = make(libs[1], name, {}, "float64")
    copy_into(libs[1], moved, params)
    second.load_state_dict(convert(first.state_dict(), libs[1]))
    for step in range(10, 20):
        for lib, ps, opt in ((libs[0], params, first), (libs[1], moved, second)):
            set_grads(lib, ps, step)
            opt.step()
        # PyTorch keeps a number of NAdam in float32, and in the parameter's dtype after loading
        check_same(moved, params, f"{name} step {step}", 1e-6 if name == "NAdam" else 1e-10)


def copy_into(lib, targets, sources):
    with lib.no_grad():
        for a, b in zip(targets, sources):
            a.copy_(lib.tensor(array(b).copy()))


@pytest.mark.parametrize("name,options", PAIRS, ids=str)
def test_state_dict_round_trip_is_exact(name, options):
    params, first = make(tg, name, options)
    for step in range(3):
        set_grads(tg, params, step)
        first.step()
    twins, second = make(tg, name, {})
    copy_into(tg, twins, params)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(3, 6):
        for ps, opt in ((params, first), (twins, second)):
            set_grads(tg, ps, step)
            opt.step()
    assert all(tg.equal(a, b) for a, b in zip(twins, params))


@pytest.mark.parametrize("name,options", [p for p in PAIRS if p[0] != "Adafactor"], ids=str)
def test_programs_equal_the_vector_loops(name, options):
    """The same formulas as programs of the backends: other layouts and dtypes take that way."""
    rng = np.random.default_rng(3)
    grads = [rng.standard_normal((33, 17)).astype(np.float32) for _ in range(4)]
    results = []
    for kind in ("plain", "transposed", "float64", "bfloat16"):
        p = tg.tensor(grads[0].T.copy()).T if kind == "transposed" else tg.tensor(grads[0])
        p = p.to(getattr(tg, kind)) if hasattr(tg, kind) else p
        p = p.detach().requires_grad_()
        opt = getattr(optim, name)([p], **options)
        for g in grads[1:]:
            p.grad = tg.tensor(g).to(p.dtype)
            opt.step()
        results.append(p.detach().float().numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results[3], results[0], rtol=0.1, atol=0.1)


@oracle
def test_bfloat16_parameters_equal_pytorch():
    ours = tg.tensor(values()[0]).to(tg.bfloat16).requires_grad_()
    theirs = torch.tensor(values()[0]).to(torch.bfloat16).requires_grad_()
    a, b = optim.AdamW([ours], lr=0.1), torch.optim.AdamW([theirs], lr=0.1)
    for step in range(10):
        g = values(step)[0]
        ours.grad, theirs.grad = tg.tensor(g).to(tg.bfloat16), torch.tensor(g).to(torch.bfloat16)
        a.step(), b.step()
    assert a.state[ours]["exp_avg"].dtype == tg.bfloat16
    np.testing.assert_allclose(ours.detach().float().numpy(), theirs.detach().float().numpy(), rtol=0.05, atol=0.02)


@oracle
@pytest.mark.parametrize("name", sorted(CASES.keys() | SPECIAL))
def test_signatures_and_repr(name):
    ours, theirs = getattr(optim, name), getattr(torch.optim, name)
    mine = {p.name: p for p in inspect.signature(ours).parameters.values()}
    own = [mine.pop(key, None) for key in ("master_weights", "stochastic_rounding")]  # ours alone, by keyword only
    assert all(p is None or (p.default is False and p.kind is p.KEYWORD_ONLY) for p in own)
    wanted = {p.name: p for p in inspect.signature(theirs).parameters.values()}
    assert list(mine) == list(wanted)
    for key, p in wanted.items():
        assert (mine[key].default, mine[key].kind) == (p.default, p.kind), key
    a, b = (getattr(lib.optim, name)([lib.zeros(2, 2, requires_grad=True)]) for lib in (tg, torch))
    assert repr(a) == repr(b) and a.defaults == b.defaults


# ---- the special ones


def fit(lib, dtype, options, steps=50):
    """A small network fitted by LBFGS; the losses and the parameters."""
    x, y, w1, w2 = (lib.tensor(v) for v in values(5, dtype, [(20, 3), (20, 1), (3, 6), (6, 1)]))
    params = [w1.requires_grad_(), w2.requires_grad_()]
    opt = lib.optim.LBFGS(params, **options)

    def closure():
        opt.zero_grad()
        loss = ((lib.tanh(x @ w1) @ w2 - y) ** 2).mean()
        loss.backward()
        return loss

    return opt, params, [float(opt.step(closure)) for _ in range(steps)]


LBFGS_CASES = [
    dict(lr=0.1, max_iter=4),
    dict(lr=0.5, max_iter=5, history_size=3),
    dict(line_search_fn="strong_wolfe"),
    dict(line_search_fn="strong_wolfe", max_iter=4, max_eval=3, history_size=2),
    dict(line_search_fn="strong_wolfe", tolerance_grad=1e-2),
    dict(line_search_fn="strong_wolfe", tolerance_change=1e-3, lr=3.0),
]


# Few steps: in this valley PyTorch itself ends elsewhere when its start is moved by 1e-15.
@oracle
@pytest.mark.parametrize("options", LBFGS_CASES, ids=str)
def test_lbfgs_equals_pytorch(options):
    opt, ours, losses = fit(tg, "float64", options, 4)
    ref, theirs, wanted = fit(torch, "float64", options, 4)
    np.testing.assert_allclose(losses, wanted, rtol=1e-7, atol=1e-12)
    check_same(ours, theirs, str(options), 1e-5)
    a, b = opt.state_dict()["state"][0], ref.state_dict()["state"][0]
    assert a.keys() == b.keys() and (a["n_iter"], a["func_evals"]) == (b["n_iter"], b["func_evals"])
    assert len(a["old_dirs"]) == len(b["old_dirs"]) and len(a["al"]) == len(b["al"])


@oracle
@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float64", 1e-10)])
def test_lbfgs_follows_pytorch_for_50_steps_where_the_minimum_is_unique(dtype, rtol, line_search):
    def path(lib):
        a, y, w = (lib.tensor(v) for v in values(0, dtype, [(40, 6), (40,), (6,)]))
        opt = lib.optim.LBFGS([w.requires_grad_()], max_iter=4, history_size=5, line_search_fn=line_search)

        def closure():
            opt.zero_grad()
            loss = ((a @ w - y) ** 2).mean() + 0.1 * lib.cosh(w).sum()
            loss.backward()
            return loss

        for _ in range(50):
            opt.step(closure)
            yield w.detach().numpy().copy()

    # The Wolfe conditions compare losses, and float32 tells two losses f + c d^2 / 2 apart only if d > sqrt(2 eps f / c):
    # with f = 1.6, eps = 2^-24 and a curvature c of at least 1 here, steps are free within 4.4e-4 of the minimum.
    atol = 4.4e-4 if line_search and dtype == "float32" else rtol * 0.1
    for ours, theirs in zip(path(tg), path(torch)):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@oracle
@pytest.mark.parametrize("options", LBFGS_CASES, ids=str)
def test_lbfgs_fits_in_float32(options):
    losses, wanted = fit(tg, "float32", options)[2], fit(torch, "float32", options)[2]
    np.testing.assert_allclose(losses[:2], wanted[:2], rtol=1e-4)  # later rounding decides where it goes
    assert losses[-1] <= wanted[-1] * 1.5 + 1e-6


@oracle
@pytest.mark.parametrize("libs", [(0, 1), (1, 0)])
def test_lbfgs_state_exchange(libs):
    """The next direction after loading is the one the other library takes."""
    libs = [(tg, torch)[i] for i in libs]
    options = dict(lr=0.5, max_iter=3)
    first, params, _ = fit(libs[0], "float64", options, 3)
    second, moved, _ = fit(libs[1], "float64", options, 0)
    copy_into(libs[1], moved, params)
    second.load_state_dict(convert(first.state_dict(), libs[1]))
    for ps, opt in ((params, first), (moved, second)):

        def closure():
            for p in ps:
                p.grad = None
            loss = sum(((p - 1) ** 4).sum() for p in ps)
            loss.backward()
            return loss

        for _ in range(4):
            opt.step(closure)
    check_same(moved, params, "LBFGS", 1e-9)


def test_lbfgs_edges():
    p = tg.zeros(2, requires_grad=True)
    with pytest.raises(tg.ValueError, match="parameter groups"):
        optim.LBFGS([{"params": [p]}, {"params": [tg.zeros(1, requires_grad=True)]}])
    with pytest.raises(tg.ValueError, match="strong_wolfe"):
        optim.LBFGS([p], line_search_fn="armijo")
    with pytest.raises(TypeError):
        optim.LBFGS([p]).step()

    def closure():
        p.grad = None
        loss = ((p - 3) ** 2).sum()
        loss.backward()
        return loss

    for lr in (0.0, 1.0):
        opt = optim.LBFGS([p], lr=lr, line_search_fn="strong_wolfe")
        opt.step(closure)
        opt.step(closure)
    np.testing.assert_allclose(p.tolist(), [3, 3], rtol=1e-6)
    opt.step(lambda: closure() * math.nan)
    assert p.shape == (2,)


@oracle
@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
@pytest.mark.parametrize("options", [{}, dict(nesterov=False, lr=0.1), dict(adjust_lr_fn="match_rms_adamw")], ids=str)
def test_muon_equals_pytorch(options, shape):
    ours, opt = make(tg, "Muon", options, shapes=[shape])
    theirs, ref = make(torch, "Muon", options, shapes=[shape])
    for step in range(50):
        set_grads(tg, ours, step)
        set_grads(torch, theirs, step)
        opt.step(), ref.step()
        # its steps are computed in bfloat16, whose rounding differs with the order of sums
        check_same(ours, theirs, "Muon", 0.02 * options.get("lr", 1e-3) * (step + 1))
    check_same([opt.state[ours[0]]["momentum_buffer"]], [ref.state[theirs[0]]["momentum_buffer"]], "buffer")
    with pytest.raises(tg.ValueError, match="2D"):
        optim.Muon([tg.zeros(3, requires_grad=True)])


@oracle
@pytest.mark.parametrize("options", [{}, dict(maximize=True, lr=0.1, betas=(0.5, 0.9))], ids=str)
def test_sparse_adam_equals_pytorch(options):
    start = values(0, shapes=[(6, 3)])[0]
    ours, theirs = tg.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    opt, ref = optim.SparseAdam([ours], **options), torch.optim.SparseAdam([theirs], **options)
    for step in range(50):
        rows = np.random.default_rng(step).choice(6, 2, replace=False)
        g = np.zeros_like(start)
        g[rows] = values(step, shapes=[(2, 3)])[0]
        ours.grad, theirs.grad = tg.tensor(g), torch.tensor(g).to_sparse(1)
        opt.step(), ref.step()
        check_same([ours], [theirs], f"step {step}")
    assert opt.state[ours]["step"] == 50
