"""Learning-rate schedulers and averages of weights, epoch by epoch against PyTorch."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import optim
from tinygrad_cpp.optim import lr_scheduler, swa_utils

try:
    import torch
except ImportError:
    torch = None

oracle = pytest.mark.oracle


class Fading:
    """A function of the epoch with something to save."""

    def __init__(self, rate=0.9):
        self.rate = rate

    def __call__(self, epoch):
        return self.rate**epoch


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
    ("OneCycleLR", dict(max_lr=0.5, total_steps=51, cycle_momentum=False, pct_start=0.5, div_factor=5.0)),
    ("CyclicLR", dict(base_lr=0.01, max_lr=0.5, step_size_up=4)),
    ("CyclicLR", dict(base_lr=[0.01, 0.1], max_lr=[0.5, 0.3], step_size_up=3, step_size_down=5, mode="triangular2")),
    ("CyclicLR", dict(base_lr=0.01, max_lr=0.5, step_size_up=4, mode="exp_range", gamma=0.9, cycle_momentum=False)),
    ("CyclicLR", dict(base_lr=0.01, max_lr=0.5, step_size_up=4, scale_fn=lambda x: 1 / x, base_momentum=0.5)),
    ("CyclicLR", dict(base_lr=0.1, max_lr=0.5, step_size_up=2, scale_fn=Fading(), scale_mode="iterations")),
    ("SWALR", dict(swa_lr=0.05)),
    ("SWALR", dict(swa_lr=[0.5, 0.02], anneal_epochs=4, anneal_strategy="linear")),
    ("SWALR", dict(swa_lr=0.2, anneal_epochs=0)),
]
# The rest of the walk over the module: tested on their own below.
SPECIAL = {"LRScheduler", "_LRScheduler", "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler", "SWALR"}


def schedulers(module):
    return {n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, module.LRScheduler)}


@oracle
def test_every_scheduler_of_pytorch_exists_and_is_run():
    assert schedulers(torch.optim.lr_scheduler) <= schedulers(lr_scheduler)
    assert schedulers(torch.optim.lr_scheduler) | {"SWALR"} == {name for name, _ in SCHEDULES} | SPECIAL
    public = [
        n
        for n, f in vars(torch.optim.swa_utils).items()
        if getattr(f, "__module__", "") == torch.optim.swa_utils.__name__
    ]
    assert not [n for n in public if not n.startswith("_") and not hasattr(swa_utils, n)]


@oracle
@pytest.mark.parametrize("name", sorted({name for name, _ in SCHEDULES} | SPECIAL))
def test_signatures(name):
    ours, theirs = (inspect.signature(scheduler(lib, name)).parameters for lib in (tg, torch))
    mine, wanted = ([(p.name, p.default, p.kind) for p in ps.values() if p.name != "verbose"] for ps in (ours, theirs))
    assert mine == wanted


def scheduler(lib, name):
    return getattr(lib.optim.swa_utils if name == "SWALR" else lib.optim.lr_scheduler, name)


def optimizer_of(lib, kind="SGD"):
    a, b = (lib.zeros(2, requires_grad=True) for _ in range(2))
    options = dict(momentum=0.9) if kind == "SGD" else {}
    return getattr(lib.optim, kind)([{"params": [a]}, {"params": [b], "lr": 0.3}], lr=0.1, **options)


def schedule_of(lib, name, options, kind="SGD"):
    opt = optimizer_of(lib, kind)
    return opt, scheduler(lib, name)(opt, **copy.deepcopy(options))


def rates(opt):
    return [[g["lr"], g.get("momentum", 0), *g.get("betas", ())] for g in opt.param_groups]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@oracle
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name,options", SCHEDULES, ids=str)
def test_schedules_equal_pytorch(name, options, kind):
    (opt, ours), (ref, theirs) = (schedule_of(lib, name, options, kind) for lib in (tg, torch))
    last = options.get("total_steps", options.get("epochs", 51 // 3) * 3) - 1 if name == "OneCycleLR" else 50
    for epoch in range(last + 1):
        close(rates(opt), rates(ref))
        close(ours.get_last_lr(), theirs.get_last_lr())
        assert ours.last_epoch == theirs.last_epoch == epoch
        if epoch == last:
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
@pytest.mark.parametrize("libs", [(0, 1), (1, 0)], ids=["to us", "to PyTorch"])
@pytest.mark.parametrize("name,options", SCHEDULES, ids=str)
def test_schedule_state_exchange(name, options, libs):
    """The state of a scheduler continues in the other library."""
    libs = [(torch, tg)[i] for i in libs]
    ref, first = schedule_of(libs[0], name, options)
    for _ in range(4):
        ref.step(), first.step()
    opt, second = schedule_of(libs[1], name, options)
    for group, saved in zip(opt.param_groups, ref.state_dict()["param_groups"]):
        group.update({k: v for k, v in saved.items() if k != "params"})
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(8):
        opt.step(), ref.step()
        second.step(), first.step()
        close(rates(opt), rates(ref))


@oracle
@pytest.mark.parametrize("name,options", SCHEDULES, ids=str)
def test_resuming_from_an_epoch_equals_pytorch(name, options):
    """last_epoch: the groups come from a checkpoint with their rates and initial_lr."""
    results = []
    for lib in (tg, torch):
        opt, s = schedule_of(lib, name, options)
        for _ in range(3):
            opt.step(), s.step()
        again = optimizer_of(lib)
        again.load_state_dict(opt.state_dict())
        s = scheduler(lib, name)(again, **copy.deepcopy(options), last_epoch=s.last_epoch)
        results.append([])
        for _ in range(5):
            results[-1].append(rates(again))
            again.step(), s.step()
    close(results[0], results[1])


@oracle
@pytest.mark.parametrize("name,options", SCHEDULES, ids=str)
def test_rates_as_tensors_are_written_in_place(name, options):
    results = []
    for lib in (tg, torch):
        lr = lib.tensor(0.1, dtype=lib.float64)
        options = {k: v if k == "milestones" or not isinstance(v, list) else v[0] for k, v in options.items()}
        opt = lib.optim.SGD([lib.zeros(2, requires_grad=True)], lr=lr, momentum=0.9)
        s = scheduler(lib, name)(opt, **copy.deepcopy(options))
        results.append([])
        for _ in range(12):
            opt.step(), s.step()
            assert opt.param_groups[0]["lr"] is lr
            results[-1].append((lr.item(), float(s.get_last_lr()[0])))
    close(results[0], results[1])


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


@pytest.mark.filterwarnings("ignore")
def test_sequences_inside_sequences():
    """As the sequence written flat; PyTorch 2.13 refuses them."""

    def parts(s, opt):
        return [
            s.LinearLR(opt, 0.1, total_iters=2),
            s.ConstantLR(opt, 0.5, 9),
            s.StepLR(opt, 2),
            s.ExponentialLR(opt, 0.9),
        ]

    results = []
    for nested in (False, True):
        opt = optimizer_of(tg)
        a, b, c, d = parts(lr_scheduler, opt)
        if nested:
            inner = lr_scheduler.SequentialLR(opt, [b, c], [3])
            whole = lr_scheduler.SequentialLR(opt, [a, inner, d], [2, 8])
        else:
            whole = lr_scheduler.SequentialLR(opt, [a, b, c, d], [2, 5, 8])
        results.append([])
        for _ in range(14):
            results[-1].append([r[0] for r in rates(opt)] + whole.get_last_lr())
            opt.step(), whole.step()
    close(results[0], results[1])


def test_pickle_and_deepcopy():
    opt, s = schedule_of(tg, "CosineAnnealingLR", dict(T_max=5))
    s.step()
    for other in (copy.deepcopy(s), pickle.loads(pickle.dumps(s))):
        other.step()
        assert other.last_epoch == 2 and other.optimizer is not opt
    opt, plateau = schedule_of(tg, "ReduceLROnPlateau", dict(patience=3))
    plateau.step(1.0)
    for other in (copy.deepcopy(plateau), pickle.loads(pickle.dumps(plateau))):
        assert other.best == 1.0 and other.patience == 3


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
    with pytest.warns(UserWarning, match="epoch parameter"):
        s.step(2)
    close(s.get_last_lr(), [0.025, 0.075])
    assert isinstance(s, lr_scheduler._LRScheduler)

    class Old(lr_scheduler._LRScheduler):
        def __init__(self, optimizer, last_epoch=-1, verbose=False):
            self.seen = verbose
            super().__init__(optimizer, last_epoch, verbose)

        def get_lr(self):
            return self.base_lrs

    assert Old(opt, verbose=True).seen
    lr_scheduler.ReduceLROnPlateau(opt, "max", verbose=True)
    lr_scheduler.StepLR(opt, 3, verbose=False)


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
        ("CyclicLR", dict(base_lr=0.1, max_lr=1, mode="round")),
        ("CyclicLR", dict(base_lr=[0.1], max_lr=1)),
        ("CyclicLR", dict(base_lr=0.1, max_lr=1, step_size_up=0)),
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


def test_momentum_needs_a_momentum():
    for name, options in [("CyclicLR", dict(base_lr=0.1, max_lr=1)), ("OneCycleLR", dict(max_lr=1, total_steps=5))]:
        opt = optim.Adagrad([tg.zeros(2, requires_grad=True)])
        with pytest.raises(tg.ValueError, match="momentum"):
            getattr(lr_scheduler, name)(opt, **options)
        getattr(lr_scheduler, name)(opt, **options, cycle_momentum=False)


# ---- averages of weights


def trained(lib, how, use_buffers=False):
    """The average after a few steps of a model with a batch norm, and the statistics that update_bn finds."""
    rng = np.random.default_rng(0)
    model = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.Linear(4, 1))
    with lib.no_grad():
        for p in model.parameters():
            p.copy_(lib.tensor(rng.standard_normal(tuple(p.shape)).astype(np.float32)))
    swa = lib.optim.swa_utils
    options = {
        "mean": {},
        "mean of one": dict(avg_fn=swa.get_swa_avg_fn()),
        "moving": dict(multi_avg_fn=swa.get_ema_multi_avg_fn(0.8)),
        "moving of one": dict(avg_fn=swa.get_ema_avg_fn(0.8)),
        "own": dict(avg_fn=lambda average, p, n: average * 0.5 + p),
    }[how]
    averaged = swa.AveragedModel(model, use_buffers=use_buffers, **options)
    opt = lib.optim.SGD(model.parameters(), lr=0.1)
    batches = [lib.tensor(rng.standard_normal((8, 3)).astype(np.float32)) for _ in range(4)]
    for x in batches:
        opt.zero_grad()
        (model(x) ** 2).mean().backward()
        opt.step()
        averaged.update_parameters(model)
    swa.update_bn([(x, None) for x in batches], averaged)
    assert averaged.module[1].momentum == 0.1 and averaged.training
    averaged.eval()
    return {**averaged.state_dict(), "out": averaged(batches[0])}


@oracle
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("how", ["mean", "mean of one", "moving", "moving of one", "own"])
def test_averaged_model_equals_pytorch(how, use_buffers):
    ours, theirs = trained(tg, how, use_buffers), trained(torch, how, use_buffers)
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        np.testing.assert_allclose(
            ours[key].detach().numpy(), value.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=key
        )


def test_average_errors():
    with pytest.raises(tg.ValueError):
        swa_utils.get_ema_multi_avg_fn(1.5)
    with pytest.raises(tg.ValueError):
        swa_utils.AveragedModel(tg.nn.Linear(1, 1), avg_fn=len, multi_avg_fn=len)
    opt = optimizer_of(tg)
    for wrong in (dict(anneal_epochs=-1), dict(anneal_strategy="step")):
        with pytest.raises(tg.ValueError):
            swa_utils.SWALR(opt, 0.1, **wrong)
    swa_utils.update_bn([], tg.nn.Linear(1, 1))
