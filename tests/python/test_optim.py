"""Optimizers, schedulers and clipping, step for step against PyTorch."""

import copy
import inspect
import math
import warnings

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import optim
from tinygrad_cpp.optim import lr_scheduler

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
    ],
    "Adam": [
        {},
        dict(amsgrad=True),
        dict(weight_decay=0.1),
        dict(betas=(0.5, 0.9), eps=1e-4),
        dict(maximize=True, amsgrad=True, weight_decay=0.05),
        dict(weight_decay=0.1, decoupled_weight_decay=True),
    ],
    "AdamW": [{}, dict(weight_decay=0.3), dict(amsgrad=True, maximize=True), dict(lr=0.1, betas=(0.8, 0.95))],
    "RMSprop": [
        {},
        dict(centered=True),
        dict(momentum=0.9),
        dict(centered=True, momentum=0.5, weight_decay=0.1),
        dict(alpha=0.8, eps=1e-3, maximize=True),
    ],
    "Adagrad": [{}, dict(lr_decay=0.1), dict(initial_accumulator_value=0.5), dict(weight_decay=0.1, maximize=True)],
    "Adadelta": [{}, dict(rho=0.5, weight_decay=0.1), dict(maximize=True, eps=1e-3)],
}
PAIRS = [(name, options) for name, cases in CASES.items() for options in cases]
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]


def values(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def make(lib, name, options, scale=0.5):
    params = [lib.tensor(v, requires_grad=True) for v in values()]
    lr = options.get("lr", 0.01)
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": lr * scale}]
    return params, getattr(lib.optim, name)(groups, **options)


def set_grads(lib, params, step):
    for p, g in zip(params, values(100 + step)):
        p.grad = lib.tensor(g)


def array(t):
    return t.detach().numpy()


def check_same(ours, theirs, what):
    for i, (a, b) in enumerate(zip(ours, theirs)):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-5, atol=1e-6, err_msg=f"{what}, parameter {i}")


@oracle
@pytest.mark.parametrize("name,options", PAIRS, ids=str)
def test_steps_equal_pytorch(name, options):
    ours, opt = make(tg, name, options)
    theirs, ref = make(torch, name, options)
    for step in range(10):
        set_grads(tg, ours, step)
        set_grads(torch, theirs, step)
        if step == 5:  # a rate that is edited takes effect
            for group in (*opt.param_groups, *ref.param_groups):
                group["lr"] *= 0.5
        opt.step()
        ref.step()
        check_same(ours, theirs, f"{name} {options} step {step}")
    compare_state_dicts(opt.state_dict(), ref.state_dict())


def compare_state_dicts(ours, theirs):
    assert list(ours) == list(theirs) == ["state", "param_groups"]
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for i, state in theirs["state"].items():
        assert set(ours["state"][i]) == set(state)
        for key, value in state.items():
            mine = ours["state"][i][key]
            assert str(mine.dtype).split(".")[-1] == str(value.dtype).split(".")[-1], key
            np.testing.assert_allclose(array(mine), array(value), rtol=1e-5, atol=1e-6, err_msg=key)


def convert(d, lib):
    """A state dict with its tensors in another library."""
    if isinstance(d, dict):
        return {k: convert(v, lib) for k, v in d.items()}
    if isinstance(d, list):
        return [convert(v, lib) for v in d]
    return lib.tensor(array(d).copy()) if hasattr(d, "detach") else d


@oracle
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("direction", ["to us", "to PyTorch"])
def test_state_dict_exchange(name, direction):
    options = CASES[name][-1]
    libs = (torch, tg) if direction == "to us" else (tg, torch)
    params, first = make(libs[0], name, options)
    for step in range(3):
        set_grads(libs[0], params, step)
        first.step()
    moved, second = make(libs[1], name, options)
    with libs[1].no_grad():
        for a, b in zip(moved, params):
            a.copy_(libs[1].tensor(array(b).copy()))
    second.load_state_dict(convert(first.state_dict(), libs[1]))
    for step in range(3, 6):
        for lib, ps, opt in ((libs[0], params, first), (libs[1], moved, second)):
            set_grads(lib, ps, step)
            opt.step()
        check_same(moved, params, f"{name} step {step}")


@pytest.mark.parametrize("name,options", PAIRS, ids=str)
def test_state_dict_round_trip_is_exact(name, options):
    params, first = make(tg, name, options)
    for step in range(3):
        set_grads(tg, params, step)
        first.step()
    twins, second = make(tg, name, {})
    with tg.no_grad():
        for a, b in zip(twins, params):
            a.copy_(b)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(3, 6):
        for ps, opt in ((params, first), (twins, second)):
            set_grads(tg, ps, step)
            opt.step()
    assert all(tg.equal(a, b) for a, b in zip(twins, params))


@oracle
@pytest.mark.parametrize("name", CASES)
def test_signatures_and_repr(name):
    ours, theirs = getattr(optim, name), getattr(torch.optim, name)
    mine = {p.name: p for p in inspect.signature(ours).parameters.values()}
    wanted = {p.name: p for p in inspect.signature(theirs).parameters.values()}
    assert list(mine) == list(wanted)
    for key, p in wanted.items():
        assert (mine[key].default, mine[key].kind) == (p.default, p.kind), key
    assert repr(make(tg, name, {})[1]) == repr(make(torch, name, {})[1])


def test_bad_arguments():
    p = tg.zeros(2, requires_grad=True)
    for name, options in [
        ("SGD", dict(lr=-1)),
        ("SGD", dict(momentum=-1)),
        ("SGD", dict(nesterov=True)),
        ("Adam", dict(betas=(1.0, 0.9))),
        ("Adam", dict(betas=(0.9, -0.1))),
        ("Adam", dict(eps=-1)),
        ("AdamW", dict(weight_decay=-1)),
        ("RMSprop", dict(alpha=-1)),
        ("Adagrad", dict(lr_decay=-1)),
        ("Adadelta", dict(rho=1.5)),
    ]:
        with pytest.raises(ValueError):
            getattr(optim, name)([p], **options)
        with pytest.raises(ValueError):
            getattr(optim, name)([{"params": [p], **options}])
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([])
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([p * 2])
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([{"params": p}, {"params": [p]}])
    with pytest.raises(ValueError, match="more than once"):
        optim.SGD([p, p])
    for params in (p, [1.0], [{"params": {p}}], 3):
        with pytest.raises(TypeError):
            optim.SGD(params)
    opt = optim.SGD([p])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        opt.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="doesn't match the size"):
        opt.load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]})
    p.grad = tg.ones(2)
    opt.param_groups[0]["lr"] = "fast"
    with pytest.raises(ValueError, match="lr"):
        opt.step()


def test_subclass_closure_hooks_and_groups():
    calls = []

    class Sign(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, dict(lr=lr))

        @tg.no_grad()
        def step(self, closure=None):
            loss = None
            if closure is not None:
                with tg.enable_grad():
                    loss = closure()
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.state[p]["steps"] = self.state[p].get("steps", 0) + 1
                        p.add_(p.grad.sign(), alpha=-group["lr"])
            return loss

    a, b = tg.ones(3, requires_grad=True), tg.ones(2, requires_grad=True)
    opt = Sign([a], lr=0.5)
    opt.add_param_group({"params": b, "lr": 0.25})
    pre = opt.register_step_pre_hook(lambda o, args, kwargs: calls.append("pre"))
    opt.register_step_post_hook(lambda o, args, kwargs: calls.append("post"))

    def closure():
        opt.zero_grad()
        loss = (a * a).sum() + (b * b).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 5
    assert a.tolist() == [0.5] * 3 and b.tolist() == [0.75] * 2
    assert opt.state[a]["steps"] == 1 and opt.state_dict()["state"] == {0: {"steps": 1}, 1: {"steps": 1}}
    pre.remove()
    opt.step()
    assert calls == ["pre", "post", "post"]
    opt.zero_grad(set_to_none=False)
    assert a.grad.tolist() == [0, 0, 0]
    opt.zero_grad()
    assert a.grad is None
    with tg.no_grad():
        assert optim.SGD([a], lr=0.1).step(closure).requires_grad


def test_parameters_keep_their_identity_and_leafness():
    p = tg.ones(3, requires_grad=True)
    opt = optim.Adam([("weight", p)], lr=0.1)
    p.grad = tg.ones(3)
    opt.step()
    assert opt.param_groups[0]["params"][0] is p and opt.param_groups[0]["param_names"] == ["weight"]
    assert p.is_leaf and p.requires_grad and p.grad_fn is None
    assert not opt.state[p]["exp_avg"].requires_grad


# ---- schedulers

SCHEDULES = [
    ("StepLR", dict(step_size=3)),
    ("StepLR", dict(step_size=2, gamma=0.5)),
    ("MultiStepLR", dict(milestones=[2, 5, 5, 9], gamma=0.3)),
    ("ConstantLR", dict(factor=0.25, total_iters=4)),
    ("LinearLR", dict()),
    ("LinearLR", dict(start_factor=0.1, end_factor=0.7, total_iters=7)),
    ("ExponentialLR", dict(gamma=0.9)),
    ("PolynomialLR", dict(total_iters=6, power=2.0)),
    ("CosineAnnealingLR", dict(T_max=5, eta_min=0.001)),
    ("CosineAnnealingLR", dict(T_max=10)),
    ("CosineAnnealingWarmRestarts", dict(T_0=3)),
    ("CosineAnnealingWarmRestarts", dict(T_0=2, T_mult=2, eta_min=0.01)),
    ("LambdaLR", dict(lr_lambda=lambda e: 0.95**e)),
    ("LambdaLR", dict(lr_lambda=[lambda e: 1 / (e + 1), lambda e: e / 7])),
    ("MultiplicativeLR", dict(lr_lambda=lambda e: 0.9)),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=21)),
    ("OneCycleLR", dict(max_lr=[0.5, 0.2], epochs=7, steps_per_epoch=3, anneal_strategy="linear", three_phase=True)),
]


def optimizer_of(lib, kind="SGD"):
    a, b = (lib.zeros(2, requires_grad=True) for _ in range(2))
    options = dict(momentum=0.9) if kind == "SGD" else {}
    return getattr(lib.optim, kind)([{"params": [a]}, {"params": [b], "lr": 0.3}], lr=0.1, **options)


def schedule_of(lib, name, options, kind="SGD"):
    opt = optimizer_of(lib, kind)
    return opt, getattr(lib.optim.lr_scheduler, name)(opt, **options)


def rates(opt):
    return [[g["lr"], g.get("momentum", 0), *g.get("betas", ())] for g in opt.param_groups]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@oracle
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name,options", SCHEDULES, ids=str)
def test_schedules_equal_pytorch(name, options, kind):
    (opt, ours), (ref, theirs) = (schedule_of(lib, name, options, kind) for lib in (tg, torch))
    for epoch in range(21):
        close(rates(opt), rates(ref))
        close(ours.get_last_lr(), theirs.get_last_lr())
        assert ours.last_epoch == theirs.last_epoch == epoch
        if epoch == 20:
            break
        if epoch == 4:  # rates edited in between are kept up by chainable schedules
            for o in (opt, ref):
                o.param_groups[0]["lr"] *= 2
        opt.step(), ref.step()
        ours.step(), theirs.step()


@oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name,options", SCHEDULES[:13], ids=str)
def test_stepping_to_an_epoch_equals_pytorch(name, options):
    (opt, ours), (ref, theirs) = (schedule_of(lib, name, options) for lib in (tg, torch))
    for epoch in (3, 1, 6, 0, 12):
        ours.step(epoch), theirs.step(epoch)
        close(rates(opt), rates(ref))


@oracle
@pytest.mark.parametrize(
    "name,options", [s for s in SCHEDULES if s[0] not in ("LambdaLR", "MultiplicativeLR")], ids=str
)
def test_schedule_state_exchange(name, options):
    """A PyTorch scheduler's state continues here."""
    ref, theirs = schedule_of(torch, name, options)
    for _ in range(4):
        ref.step(), theirs.step()
    opt, ours = schedule_of(tg, name, options)
    for group, saved in zip(opt.param_groups, ref.state_dict()["param_groups"]):
        group.update({k: v for k, v in saved.items() if k != "params"})
    ours.load_state_dict(theirs.state_dict())
    for _ in range(8):
        opt.step(), ref.step()
        ours.step(), theirs.step()
        close(rates(opt), rates(ref))


@oracle
@pytest.mark.parametrize(
    "options",
    [
        dict(patience=1),
        dict(patience=2, factor=0.5, cooldown=2, min_lr=[0.01, 0.2]),
        dict(mode="max", patience=0, threshold=0.1, threshold_mode="abs"),
        dict(mode="max", patience=0, threshold=0.1),
        dict(patience=0, threshold_mode="abs", eps=0.02),
    ],
    ids=str,
)
def test_plateau_equals_pytorch(options):
    (opt, ours), (ref, theirs) = (schedule_of(lib, "ReduceLROnPlateau", options) for lib in (tg, torch))
    metrics = [5, 4, 4.2, 4.1, 3.9999, 4.5, 4.6, 3, 3.1, 3.2, 3.3, 3.4, 3.5, float("nan"), 2, 2, 2, 2]
    for i, metric in enumerate(metrics):
        ours.step(tg.tensor(metric)), theirs.step(metric)
        close(rates(opt), rates(ref))
        assert (ours.best, ours.num_bad_epochs, ours.in_cooldown) == (
            pytest.approx(theirs.best),
            theirs.num_bad_epochs,
            theirs.in_cooldown,
        )
        if i == 8:
            state = ours.state_dict()
            ours = lr_scheduler.ReduceLROnPlateau(opt)
            ours.load_state_dict(state)


def sequence(lib):
    s = lib.optim.lr_scheduler
    opt = optimizer_of(lib)
    parts = [s.LinearLR(opt, 0.1, total_iters=3), s.CosineAnnealingLR(opt, 5), s.ExponentialLR(opt, 0.5)]
    return opt, s.SequentialLR(opt, parts, [3, 7])


@oracle
@pytest.mark.filterwarnings("ignore")
def test_sequences_and_chains_equal_pytorch():
    (opt, ours), (ref, theirs) = sequence(tg), sequence(torch)
    for epoch in range(12):
        close(rates(opt), rates(ref))
        close(ours.get_last_lr(), theirs.get_last_lr())
        opt.step(), ref.step()
        ours.step(), theirs.step()
        if epoch == 4:
            other, again = sequence(tg)
            again.load_state_dict(ours.state_dict())
            other.load_state_dict(opt.state_dict())
            opt, ours = other, again
    chains = []
    for lib in (tg, torch):
        s, opt = lib.optim.lr_scheduler, optimizer_of(lib)
        chains.append((opt, s.ChainedScheduler([s.ConstantLR(opt, 0.1, 4), s.ExponentialLR(opt, 0.8)])))
    for _ in range(8):
        close(rates(chains[0][0]), rates(chains[1][0]))
        for opt, chain in chains:
            opt.step(), chain.step()


def test_own_scheduler_and_warning():
    class Halving(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base * 0.5**self.last_epoch for base in self.base_lrs]

    opt = optimizer_of(tg)
    s = Halving(opt)
    with pytest.warns(UserWarning, match="before"):
        s.step()
    opt.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s.step()
    close(s.get_last_lr(), [0.025, 0.075])
    assert isinstance(s, lr_scheduler._LRScheduler)


def test_scheduler_errors():
    opt = optimizer_of(tg)
    with pytest.raises(TypeError):
        lr_scheduler.StepLR(3, 1)
    with pytest.raises(KeyError):
        lr_scheduler.StepLR(opt, 1, last_epoch=3)
    for name, options in [
        ("ConstantLR", dict(factor=2)),
        ("LinearLR", dict(start_factor=0)),
        ("LinearLR", dict(end_factor=2)),
        ("CosineAnnealingWarmRestarts", dict(T_0=0)),
        ("OneCycleLR", dict(max_lr=1)),
        ("OneCycleLR", dict(max_lr=1, total_steps=5, anneal_strategy="sin")),
        ("LambdaLR", dict(lr_lambda=[abs])),
        ("ReduceLROnPlateau", dict(factor=1)),
        ("ReduceLROnPlateau", dict(mode="best")),
    ]:
        with pytest.raises(ValueError):
            getattr(lr_scheduler, name)(opt, **options)
    with pytest.raises(ValueError):
        lr_scheduler.SequentialLR(opt, [lr_scheduler.ExponentialLR(opt, 0.5)], [1])
    s = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=2)
    opt.step()
    with pytest.raises(ValueError, match="total steps"):
        for _ in range(3):
            s.step()


# ---- clipping


@oracle
@pytest.mark.parametrize("norm_type", [1, 2, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e6])
def test_clip_grad_norm_equals_pytorch(norm_type, max_norm):
    ours = [tg.tensor(v, requires_grad=True) for v in values()]
    theirs = [torch.tensor(v, requires_grad=True) for v in values()]
    set_grads(tg, ours, 0)
    set_grads(torch, theirs, 0)
    ours[1].grad = theirs[1].grad = None
    a = tg.nn.utils.clip_grad_norm_(iter(ours), max_norm, norm_type)
    b = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(a.item(), b.item(), rtol=1e-5)
    for p, q in zip(ours, theirs):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(array(p.grad), array(q.grad), rtol=1e-5, atol=1e-7)


def test_clip_edges():
    p = tg.ones(3, requires_grad=True)
    assert tg.nn.utils.clip_grad_norm_([p], 1.0).item() == 0
    p.grad = tg.tensor([1.0, -5.0, math.inf])
    with pytest.raises(RuntimeError, match="norm"):
        tg.nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [1.0, -5.0, math.inf]
    tg.nn.utils.clip_grad_value_(p, 2.0)
    assert p.grad.tolist() == [1.0, -2.0, 2.0]


def test_errors_are_the_packages():
    p = tg.rand(2, requires_grad=True)
    for wrong in ([], [p * 2], [p, p]):
        with pytest.raises(tg.ValueError):
            optim.SGD(wrong, lr=0.1)
    with pytest.raises(tg.TypeError):
        optim.SGD(p, lr=0.1)
