"""What all optimizers share: settings, checkpoints, hooks, groups; and limits on gradients."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import tinygrad_cpp as tg
from test_optim import CASES, SPECIAL, array, compare_state_dicts, oracle, set_grads, values
from tinygrad_cpp import optim

try:
    import torch
except ImportError:
    torch = None


# ---- rates that are tensors, contradictions, malformed checkpoints


@oracle
@pytest.mark.parametrize("name", CASES)
def test_rates_as_tensors(name):
    results = []
    for lib in (tg, torch):
        for lr in (0.03, lib.tensor(0.03), lib.tensor([0.03])):
            p = lib.tensor(values()[0], requires_grad=True)
            opt = getattr(lib.optim, name)([p], lr=lr)
            for step in range(4):
                p.grad = lib.tensor(values(step)[0])
                opt.step()
                if step == 1:
                    group = opt.param_groups[0]
                    group["lr"] = group["lr"] * 0.5 if isinstance(lr, float) else group["lr"].mul_(0.5)
            results.append(array(p))
    for r in results[1:]:
        np.testing.assert_allclose(r, results[0], rtol=1e-5, atol=1e-6)


def test_bad_arguments():
    p = tg.zeros(2, requires_grad=True)
    for name, options in [
        ("SGD", dict(lr=-1)),
        ("SGD", dict(momentum=-1)),
        ("SGD", dict(nesterov=True)),
        ("SGD", dict(lr=tg.tensor([0.1, 0.2]))),
        ("Adam", dict(betas=(1.0, 0.9))),
        ("Adam", dict(betas=(0.9, -0.1))),
        ("Adam", dict(eps=-1)),
        ("AdamW", dict(weight_decay=-1)),
        ("Adamax", dict(betas=(2, 0.9))),
        ("NAdam", dict(momentum_decay=-1)),
        ("RAdam", dict(lr=-1)),
        ("RMSprop", dict(alpha=-1)),
        ("Adagrad", dict(lr_decay=-1)),
        ("Adadelta", dict(rho=1.5)),
        ("ASGD", dict(weight_decay=-1)),
        ("Rprop", dict(etas=(1.5, 1.2))),
        ("Adafactor", dict(d=0.5)),
        ("Adafactor", dict(beta2_decay=1)),
        ("Adafactor", dict(eps=(-1, 1))),
        ("SparseAdam", dict(lr=0)),
        ("LBFGS", dict(lr=-1)),
        ("Muon", dict(adjust_lr_fn="none")),
    ]:
        with pytest.raises(tg.ValueError):
            getattr(optim, name)([p], **options)
        with pytest.raises(tg.ValueError):
            getattr(optim, name)([{"params": [p], **options}])
    with pytest.raises(tg.ValueError, match="empty parameter list"):
        optim.SGD([])
    with pytest.raises(tg.ValueError, match="non-leaf"):
        optim.SGD([p * 2])
    with pytest.raises(tg.ValueError, match="non-leaf"):  # no step here can be differentiated through
        optim.SGD([p * 2], differentiable=True)
    with pytest.raises(tg.ValueError, match="more than one parameter group"):
        optim.SGD([{"params": p}, {"params": [p]}])
    with pytest.raises(tg.ValueError, match="names"):
        optim.SGD([("a", p), tg.zeros(1, requires_grad=True)])
    for params in (p, [1.0], [{"params": {p}}], 3):
        with pytest.raises(TypeError):
            optim.SGD(params)
    with pytest.raises(tg.TypeError):
        optim.SGD(p, lr=0.1)
    for wrong in (dict(fused=True, foreach=True), dict(fused=True, differentiable=True)):
        for cls in (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad):
            with pytest.raises(RuntimeError, match="fused"):
                cls([p], **wrong)
    opt = optim.SGD([p])
    p.grad = tg.ones(2)
    opt.param_groups[0]["lr"] = "fast"
    with pytest.raises(tg.ValueError, match="lr"):
        opt.step()


GROUP = {"params": [0, 1]}
MALFORMED = [
    None,
    [],
    {},
    {"state": {}},
    {"param_groups": [GROUP]},
    {"state": [], "param_groups": [GROUP]},
    {"state": {}, "param_groups": GROUP},
    {"state": {}, "param_groups": []},
    {"state": {}, "param_groups": [GROUP, GROUP]},
    {"state": {}, "param_groups": [3]},
    {"state": {}, "param_groups": [{}]},
    {"state": {}, "param_groups": [{"params": 3}]},
    {"state": {}, "param_groups": [{"params": [0]}]},
    {"state": {}, "param_groups": [{"params": [[], {}]}]},
    {"state": {}, "param_groups": [{**GROUP, "lr": -1}]},
    {"state": {}, "param_groups": [{**GROUP, "lr": "fast"}]},
    {"state": {}, "param_groups": [{**GROUP, "betas": (0.9,)}]},
    {"state": {0: 3}, "param_groups": [GROUP]},
    {"state": {0: {"exp_avg": "much"}}, "param_groups": [GROUP]},
    {"state": {0: {"exp_avg": tg.zeros(7)}}, "param_groups": [GROUP]},
    {"state": {0: {"step": tg.zeros(7)}}, "param_groups": [GROUP]},
]


@pytest.mark.parametrize("wrong", MALFORMED, ids=str)
def test_malformed_state_is_refused_and_changes_nothing(wrong):
    params = [tg.tensor(v, requires_grad=True) for v in values()[:2]]
    opt = optim.Adam(params, lr=0.1)
    set_grads(tg, params, 0)
    opt.step()
    before = copy.deepcopy(opt.state_dict())
    with pytest.raises((tg.ValueError, tg.TypeError, tg.ShapeError)):
        opt.load_state_dict(wrong)
    compare_state_dicts(opt.state_dict(), before)
    opt.step()


def test_state_that_fits_no_parameter_is_refused_by_the_step():
    p = tg.ones(3, requires_grad=True)
    opt = optim.SGD([p], momentum=0.9)
    p.grad = tg.ones(3)
    for wrong, error in ((tg.ones(4), tg.ShapeError), (tg.ones(3, dtype=tg.int64), tg.DTypeError)):
        opt.state[p]["momentum_buffer"] = wrong
        with pytest.raises(error, match="SGD"):
            opt.step()


# ---- subclasses, closures, hooks, groups


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


@pytest.mark.parametrize("name", sorted(CASES.keys() | SPECIAL - {"LBFGS"}))
def test_closures(name):
    p = tg.ones(2, 2, requires_grad=True)
    opt = getattr(optim, name)([p])

    def closure():
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        loss = opt.step(closure)
    assert loss.item() == 4 and loss.requires_grad and (p.detach() != 1).all()


def test_all_hooks():
    from tinygrad_cpp.optim import optimizer as module

    calls = []

    class Twice(optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            return super().step(closure)

    p = tg.ones(1, requires_grad=True)
    opt = Twice([p], lr=1.0)
    everywhere = [
        module.register_optimizer_step_pre_hook(lambda *a: calls.append("all pre")),
        module.register_optimizer_step_post_hook(lambda *a: calls.append("all post")),
    ]
    opt.register_step_pre_hook(lambda *a: calls.append("pre"))
    opt.register_step_post_hook(lambda *a: calls.append("post"))
    p.grad = tg.ones(1)
    opt.step()
    assert calls == ["all pre", "pre", "post", "all post"] and p.item() == -1
    for handle in everywhere:
        handle.remove()
    calls.clear()
    opt.register_state_dict_pre_hook(lambda o: calls.append("save"))
    opt.register_state_dict_post_hook(lambda o, d: {**d, "more": 1})
    opt.register_load_state_dict_pre_hook(lambda o, d: {k: v for k, v in d.items() if k != "more"})
    opt.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    opt.register_state_dict_pre_hook(lambda o: calls.append("first"), prepend=True)
    d = opt.state_dict()
    assert d["more"] == 1
    opt.load_state_dict(d)
    assert calls == ["first", "save", "loaded"]
    opt.register_step_pre_hook(lambda *a: 3)
    with pytest.raises(RuntimeError, match="tuple"):
        opt.step()
    assert not opt._stepping


def test_pickle_and_deepcopy():
    p = tg.tensor(values()[0], requires_grad=True)
    opt = optim.Adam([p], lr=0.1, amsgrad=True)
    p.grad = tg.tensor(values(1)[0])
    opt.step()
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        q = other.param_groups[0]["params"][0]
        assert q is not p and tg.equal(q, p)
        compare_state_dicts(other.state_dict(), opt.state_dict())
        q.grad = tg.tensor(values(2)[0])
        other.step()
        other.register_step_pre_hook(lambda *a: None).remove()
    p.grad = tg.tensor(values(2)[0])
    opt.step()
    assert tg.equal(p, q)
    buffer = io.BytesIO()
    tg.save(opt.state_dict(), buffer)
    buffer.seek(0)
    compare_state_dicts(tg.load(buffer), opt.state_dict())


@oracle
def test_named_parameters_equal_pytorch():
    dicts = []
    for lib in (tg, torch):
        model = lib.nn.Linear(2, 3)
        opt = lib.optim.SGD(model.named_parameters(), lr=0.1)
        dicts.append(opt.state_dict())
        twin = lib.optim.SGD(model.parameters(), lr=0.5)
        twin.load_state_dict(opt.state_dict())
        dicts.append(twin.state_dict())
    assert dicts[0] == dicts[2] and dicts[0]["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert dicts[1] == dicts[3]


@oracle
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_parameter_listed_twice_takes_two_steps(name):
    results = []
    for lib in (tg, torch):
        p, q = lib.ones(3, requires_grad=True), lib.ones(1, requires_grad=True)
        with pytest.warns(UserWarning, match="duplicate parameters"):
            opt = getattr(lib.optim, name)([p, q, p], lr=0.1)
        for _ in range(3):
            p.grad, q.grad = lib.full((3,), 0.5), lib.ones(1)
            opt.step()
        results.append([*p.tolist(), *q.tolist()])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


def test_parameters_keep_their_identity_and_leafness():
    p = tg.ones(3, requires_grad=True)
    opt = optim.Adam([("weight", p)], lr=0.1)
    p.grad = tg.ones(3)
    opt.step()
    assert opt.param_groups[0]["params"][0] is p and opt.param_groups[0]["param_names"] == ["weight"]
    assert p.is_leaf and p.requires_grad and p.grad_fn is None
    assert not opt.state[p]["exp_avg"].requires_grad


def test_a_step_makes_saved_values_stale():
    """A backward that needs the parameters of before is refused, as after any in-place write."""
    p = tg.ones(3, requires_grad=True)
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    optim.AdamW([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified|in-place|in place"):
        loss.backward()


def test_many_small_and_one_large_parameter_share_the_loop():
    """Results do not depend on how the batch is cut among threads."""
    shapes = [(200_000,), (1,), (7, 3), (0,), (70_001,)] + [(11,)] * 30
    outcomes = []
    for threads in (1, 2):
        tg.set_num_threads(threads)
        params = [tg.tensor(v, requires_grad=True) for v in values(0, shapes=shapes)]
        opt = optim.AdamW(params, lr=0.1)
        for step in range(3):
            set_grads(tg, params, step)
            opt.step()
        alone = [tg.tensor(v, requires_grad=True) for v in values(0, shapes=shapes)]
        for i, p in enumerate(alone):
            single = optim.AdamW([p], lr=0.1)
            for step in range(3):
                p.grad = tg.tensor(values(100 + step, shapes=shapes)[i])
                single.step()
        assert all(tg.equal(a, b) for a, b in zip(params, alone))
        outcomes.append(params)
    tg.set_num_threads(1)
    assert all(tg.equal(a, b) for a, b in zip(*outcomes))


# ---- clipping


@oracle
@pytest.mark.parametrize("norm_type", [0, 1, 2, 3.5, math.inf, -math.inf])
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
    for wrong in ([], [p * 2], [{"params": p}, {"params": p}]):
        with pytest.raises(tg.ValueError):
            optim.SGD(wrong, lr=0.1)
    with pytest.raises(tg.TypeError):
        optim.SGD(p, lr=0.1)
