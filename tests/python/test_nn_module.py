"""What programs do with modules besides calling them. Most tests run one program here and in PyTorch and compare."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict

import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn

torch = pytest.importorskip("torch")


def plain(x):
    """Tensors as lists, recursively, so that results of both libraries compare."""
    if isinstance(x, (tg.Tensor, torch.Tensor)):
        return pytest.approx(x.detach().numpy(), rel=1e-5, abs=1e-6)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [plain(v) for v in x] if isinstance(x, (list, tuple)) else x


def values(x):
    if isinstance(x, (tg.Tensor, torch.Tensor)):
        return x.detach().numpy()
    if isinstance(x, dict):
        return {k: values(v) for k, v in x.items()}
    return [values(v) for v in x] if isinstance(x, (list, tuple)) else x


def alike(program):
    """The results of program(library) agree; also those that are errors."""
    assert values(program(tg)) == plain(program(torch))


def filled(lib, module):
    """The module with values that are the same in both libraries."""
    with lib.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(lib.arange(p.numel()).reshape(p.shape).to(p.dtype) * 0.1 - 0.2 * i)
    return module


def linear(lib, a=2, b=3):
    return filled(lib, lib.nn.Linear(a, b))


def error(f, *args, **kwargs):
    """The builtin kind of the error of a call; the classes here derive from it."""
    try:
        f(*args, **kwargs)
    except Exception as e:
        kinds = (AttributeError, KeyError, IndexError, NotImplementedError, TypeError, ValueError, RuntimeError)
        return next(k.__name__ for k in kinds if isinstance(e, k))


# ---- hooks


def test_order_of_forward_hooks():
    def program(lib):
        log, m = [], linear(lib)
        m.register_forward_pre_hook(lambda mod, args: log.append("pre 1"))
        m.register_forward_pre_hook(lambda mod, args: log.append("pre 2") or (args[0] * 2,), prepend=True)
        m.register_forward_pre_hook(lambda mod, args, kw: log.append(sorted(kw)) or (args, {}), with_kwargs=True)
        m.register_forward_hook(lambda mod, args, out: log.append("post 1"))
        m.register_forward_hook(lambda mod, args, out: log.append("post 2") or out + 1, prepend=True)
        m.register_forward_hook(lambda mod, args, kw, out: log.append(kw), with_kwargs=True)
        return [m(lib.ones(1, 2)), log]

    alike(program)


def test_hooks_after_errors():
    def program(lib):
        log, m = [], lib.nn.Linear(2, 3)
        m.register_forward_hook(lambda mod, args, out: log.append(("always", out)), always_call=True)
        m.register_forward_hook(lambda mod, args, out: log.append("not"))
        return [error(m, lib.ones(1, 5)), log]

    alike(program)


def test_backward_hooks():
    def program(lib):
        log, m = [], linear(lib)
        x = lib.ones(4, 2, requires_grad=True)
        m.register_full_backward_pre_hook(lambda mod, go: log.append([g.sum() for g in go]) or (go[0] * 2,))
        m.register_full_backward_hook(lambda mod, gi, go: log.append([gi[0], go[0]]) or (gi[0] * 10,))
        m(x).sum().backward()
        first = [x.grad, m.weight.grad]
        frozen = linear(lib)
        frozen.register_full_backward_hook(lambda mod, gi, go: log.append([gi, go[0]]))
        frozen(lib.ones(1, 2)).sum().backward()  # no input takes a gradient
        return [first, log]

    alike(program)


def test_backward_hooks_see_every_argument():
    def program(lib):
        class Scale(lib.nn.Module):
            def forward(self, x, factor, y):
                return x * factor, y * 2

        log, m = [], Scale()
        m.register_full_backward_hook(lambda mod, gi, go: log.append([len(gi), gi[1], gi[0], len(go)]))
        x, y = lib.ones(2, requires_grad=True), lib.ones(3, requires_grad=True)
        a, b = m(x, 3.0, y)
        (a.sum() + b.sum()).backward()
        return [log, x.grad, y.grad]

    alike(program)


def test_hooks_for_all_modules():
    def program(lib):
        log, m = [], lib.nn.Sequential(linear(lib), lib.nn.ReLU())
        name = lambda mod: type(mod).__name__
        module = lib.nn.modules.module
        handles = [
            module.register_module_forward_pre_hook(lambda mod, args: log.append("pre " + name(mod))),
            module.register_module_forward_hook(lambda mod, args, out: log.append("post " + name(mod))),
            module.register_module_full_backward_hook(lambda mod, gi, go: log.append("back " + name(mod))),
        ]
        m(lib.ones(1, 2, requires_grad=True)).sum().backward()
        for h in handles:
            h.remove()
        m(lib.ones(1, 2))
        return log

    alike(program)


def test_handles():
    m = nn.ReLU()
    with m.register_forward_hook(lambda mod, args, out: out + 1) as handle:
        assert m(tg.zeros(1)).tolist() == [1]
    handle.remove()
    assert m(tg.zeros(1)).tolist() == [0] and "_hooks" not in vars(m) and len(m._forward_hooks) == 0
    m.register_forward_hook(lambda mod, args, out: out + 1)
    m._forward_hooks.clear()
    assert m(tg.zeros(1)).tolist() == [0]


def test_state_dict_hooks():
    def program(lib):
        log = []
        m = lib.nn.Sequential(linear(lib))
        m[0].register_state_dict_pre_hook(lambda mod, prefix, keep: log.append(("pre", prefix, keep)))
        m[0].register_state_dict_post_hook(
            lambda mod, state, prefix, meta: state.update({prefix + "more": lib.ones(1)})
        )
        state = m.state_dict()
        n = lib.nn.Sequential(lib.nn.Linear(2, 3))
        n[0]._register_load_state_dict_pre_hook(lambda state, prefix, *a: state.pop(prefix + "more") and None)
        n[0].register_load_state_dict_pre_hook(lambda mod, state, prefix, *a: log.append((type(mod).__name__, prefix)))
        n.register_load_state_dict_post_hook(lambda mod, keys: log.append(list(keys.missing_keys)))
        strict = n.load_state_dict(state)
        del state["0.bias"]
        forgiving = lib.nn.Sequential(lib.nn.Linear(2, 3))
        forgiving.register_load_state_dict_post_hook(lambda mod, keys: keys.missing_keys.clear() or keys[1].clear())
        forgiving.load_state_dict(state)
        return [list(state), log, str(strict), n[0].weight, n[0].bias, forgiving[0].weight]

    alike(program)


# ---- what is registered


def test_dicts_of_a_module_are_live():
    def program(lib):
        m = lib.nn.Linear(2, 3)
        log = [list(m._parameters), len(m._buffers), "bias" in m._parameters]
        m._parameters["weight"] = lib.nn.Parameter(lib.ones(3, 2))
        m._parameters["bias"] = None
        m._parameters["more"] = lib.nn.Parameter(lib.zeros(1))
        m._buffers["b"] = lib.ones(2)
        m._modules["0"] = lib.nn.ReLU()
        m._modules.update(act=lib.nn.Tanh())
        log += [m(lib.ones(1, 2)), list(m.state_dict()), [type(k).__name__ for k in m.children()], m.more]
        del m._parameters["more"], m._modules["0"]
        m._parameters.pop("bias")
        m._buffers.clear()
        log += [list(m._parameters.items())[0][0], list(m.state_dict()), hasattr(m, "bias"), hasattr(m, "b")]
        s = lib.nn.Sequential(lib.nn.ReLU(), lib.nn.ReLU())
        s._modules["0"] = lib.nn.Tanh()
        s._modules = OrderedDict(x=lib.nn.Sigmoid())
        return [*log, [type(k).__name__ for k in s], error(lambda: m._parameters["no"])]

    alike(program)


def test_a_plain_tensor_in_the_place_of_a_parameter():
    def program(lib):
        m = linear(lib)
        w = (m.weight * 2).detach().requires_grad_()
        del m.weight
        m.weight = w * 3
        m(lib.ones(1, 2)).sum().backward()
        return [w.grad, list(m.state_dict()), [n for n, _ in m.named_parameters()]]

    alike(program)


def test_buffers_by_assignment():
    def program(lib):
        m = lib.nn.Module()
        m.a = lib.nn.Buffer(lib.ones(2))
        m.b = lib.nn.Buffer(lib.ones(2), persistent=False)
        return [list(m.state_dict()), [n for n, _ in m.named_buffers()], m._non_persistent_buffers_set == {"b"}]

    alike(program)


def test_registration_errors():
    def program(lib):
        m = linear(lib)
        return [
            error(m.register_buffer, "b", 3),
            error(m.register_parameter, "p", 3),
            error(m.register_parameter, "p", lib.ones(2)),
            error(m.add_module, "k", 3),
            error(setattr, m, "weight", lib.ones(2)),
            error(getattr, m, "nothing"),
            error(delattr, m, "nothing"),
        ]

    alike(program)
    with pytest.raises(tg.TypeError, match="register_buffer: 'b' must be a tensor or None, not int"):
        nn.Module().register_buffer("b", 3)


def test_own_reset_parameters():
    def program(lib):
        class Ones(lib.nn.Linear):
            def reset_parameters(self):
                with lib.no_grad():
                    self.weight.fill_(1.0)
                    self.bias.zero_()

        class OnesConv(lib.nn.Conv2d):
            def reset_parameters(self):
                with lib.no_grad():
                    self.weight.fill_(2.0)

        return [Ones(2, 3).weight, Ones(2, 3).bias, OnesConv(1, 1, 2, bias=False).weight]

    alike(program)


def test_access_by_path():
    def program(lib):
        m = lib.nn.Sequential(OrderedDict(a=lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.BatchNorm1d(3))))
        m.set_submodule("a.0", lib.nn.Linear(5, 3))
        log = [m.get_parameter("a.0.weight").shape[1], m.get_buffer("a.1.running_mean"), m.get_submodule("") is m]
        log += [error(m.get_parameter, "a.0.no"), error(m.get_submodule, "a.7"), error(m.get_buffer, "a.0.weight")]
        log += [error(m.set_submodule, "b.0", lib.nn.ReLU()), error(m.set_submodule, "a.9", lib.nn.ReLU(), strict=True)]
        memo = set()
        log += [[n for n, _ in m.named_modules(memo)], len(memo), [n for n, _ in m.named_modules(memo)]]
        log += [[n for n, _ in m.named_modules(prefix="p")], m._get_name(), m._version, m.a[1]._version]
        return log

    alike(program)


def test_without_forward():
    def program(lib):
        class Empty(lib.nn.Module):
            pass

        return [error(Empty(), lib.ones(1)), error(Empty(), 3, 4), error(lib.nn.Linear(2, 2), lib.ones(2), 3)]

    alike(program)
    with pytest.raises(NotImplementedError, match=r"Module \[ModuleList\] is missing|does not define forward"):
        nn.ModuleList()(tg.ones(1))


def test_inputs_by_name():
    def program(lib):
        x, y = lib.arange(6.0).reshape(2, 3), lib.ones(2, 3)
        loss = lib.nn.MSELoss()
        return [
            lib.nn.ReLU()(input=x - 2),
            loss(input=x, target=y),
            loss(x, target=y),
            linear(lib, 3)(input=x),
            error(loss, x, wrong=y),
            error(lib.nn.ReLU(), x, input=x),
        ]

    alike(program)


def test_object_setattr_does_not_register():
    def program(lib):
        m = lib.nn.Module()
        object.__setattr__(m, "hidden", lib.nn.Linear(1, 1))
        m.__setattr__("shown", lib.nn.Linear(1, 1))
        m.__delattr__("shown")
        return [len(list(m.parameters())), type(m.hidden).__name__, hasattr(m, "shown")]

    alike(program)


def test_own_getattr():
    def program(lib):
        class Wrapper(lib.nn.Module):
            def __init__(self, module):
                super().__init__()
                self.module = module

            def __getattr__(self, name):
                try:
                    return super().__getattr__(name)
                except AttributeError:
                    return getattr(self.module, name)

        w = Wrapper(lib.nn.Linear(2, 3))
        return [w.out_features, w.module.in_features, error(getattr, w, "nothing")]

    alike(program)


def test_own_call():
    class Twice(nn.Module):
        def __call__(self, x):
            return x * 2

    assert nn.Sequential(Twice(), nn.Sequential(Twice()))(tg.ones(1)).tolist() == [4]


# ---- state


def test_own_state():
    def program(lib):
        class Counter(lib.nn.Linear):
            calls = 0

            def get_extra_state(self):
                return {"calls": self.calls}

            def set_extra_state(self, state):
                self.calls = state["calls"]

        m = lib.nn.Sequential(Counter(2, 2))
        m[0].calls = 7
        n = lib.nn.Sequential(Counter(2, 2))
        n.load_state_dict(m.state_dict())
        state = m.state_dict()
        del state["0._extra_state"]
        return [
            n[0].calls,
            n[0].weight.shape == m[0].weight.shape,
            error(n.load_state_dict, state),
            list(m.state_dict()),
        ]

    alike(program)


def test_own_load_and_save():
    def program(lib):
        class Renamed(lib.nn.Linear):
            _version = 3

            def _save_to_state_dict(self, destination, prefix, keep_vars):
                super()._save_to_state_dict(destination, prefix, keep_vars)
                destination[prefix + "w"] = destination.pop(prefix + "weight")

            def _load_from_state_dict(self, state, prefix, meta, strict, missing, unexpected, errors):
                self.seen = meta.get("version")
                state[prefix + "weight"] = state.pop(prefix + "w")
                super()._load_from_state_dict(state, prefix, meta, strict, missing, unexpected, errors)
                self.total = float(self.weight.detach().sum())

        m = lib.nn.ModuleDict({"a": filled(lib, Renamed(2, 2))})
        n = lib.nn.ModuleDict({"a": Renamed(2, 2)})
        n.load_state_dict(m.state_dict())
        n.load_state_dict(dict(m.state_dict()))
        return [list(m.state_dict()), n.a.seen, n.a.total]

    alike(program)


def test_state_dict_arguments():
    def program(lib):
        m = lib.nn.Sequential(lib.nn.BatchNorm1d(2))
        state = OrderedDict()
        m.state_dict(destination=state, prefix="p.")
        kept = m.state_dict(keep_vars=True)
        meta = {k: v["version"] for k, v in m.state_dict()._metadata.items()}
        old = {k: v for k, v in m.state_dict().items() if "num_batches" not in k}
        return [list(state), kept["0.weight"] is m[0].weight, meta, str(m.load_state_dict(old))]

    alike(program)


def test_assigned_state():
    def program(lib):
        m, n = linear(lib), linear(lib).double()
        n.weight.requires_grad_(False)
        m.load_state_dict(n.state_dict(), assign=True)
        one = lib.nn.Module()
        one.register_buffer("s", lib.tensor(1.0))
        one.load_state_dict({"s": lib.tensor([3.0])})
        same = isinstance(m.weight, lib.nn.Parameter) and m.weight.requires_grad
        return [str(m.weight.dtype)[-7:], same, one.s]

    alike(program)


def test_unexpected_and_wrong_entries():
    def program(lib):
        m = lib.nn.Sequential(lib.nn.Linear(2, 2))
        good = m.state_dict()
        return [error(m.load_state_dict, {**good, "1.x": lib.ones(1)}), error(m.load_state_dict, {**good, "0.bias": 3})]

    alike(program)


# ---- conversions and copies


def test_own_apply():
    def program(lib):
        class Anchored(lib.nn.Module):
            def __init__(self):
                super().__init__()
                self.w = lib.nn.Parameter(lib.ones(2))
                self.anchor = lib.ones(2)

            def _apply(self, fn, recurse=True):
                super()._apply(fn)
                self.anchor = fn(self.anchor)
                return self

        m = lib.nn.Sequential(Anchored())
        w = m[0].w
        w.sum().backward()
        m.double()
        return [m[0].anchor.dtype == lib.float64, m[0].w is w, w.dtype == w.grad.dtype == lib.float64]

    alike(program)


def test_conversions():
    def program(lib):
        m = lib.nn.BatchNorm1d(2)
        log = []
        for f in (
            m.half,
            m.bfloat16,
            m.double,
            m.float,
            m.cpu,
            lambda: m.to("cpu", lib.float64),
            lambda: m.to(lib.ones(1)),
        ):
            f()
            log.append([str(t.dtype).split(".")[-1] for t in m.state_dict().values()])
        m.to(dtype=lib.float64, non_blocking=True).to(device="cpu")
        m.type(lib.float16)
        log.append([str(m.weight.dtype)[-7:], m.to_empty(device="cpu").weight.shape[0], m.share_memory() is m])
        return [*log, error(m.to, lib.int64), error(m.to, lib.float32, wrong=1)]

    alike(program)


def test_copies_with_own_getstate():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = nn.Linear(2, 2)
            self.b.weight = self.a.weight
            self.cache = lambda: 1

        def __getstate__(self):
            state = self.__dict__.copy()
            state.pop("cache")
            return state

        def __setstate__(self, state):
            super().__setstate__(state)
            self.cache = "rebuilt"

    globals()["Net"] = Net
    Net.__qualname__ = "Net"
    m = Net()
    for n in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert n.cache == "rebuilt" and n.a.weight.tolist() == m.a.weight.tolist() and n.a.weight is not m.a.weight
    assert copy.deepcopy(m).b.weight is not m.b.weight
    n = copy.deepcopy(m)
    assert n.a.weight is n.b.weight


def test_copies_share_memory_as_before():
    def program(lib):
        x = lib.arange(6.0).reshape(2, 3)
        m = lib.nn.Linear(3, 2)
        with lib.no_grad():
            m.weight.copy_(x)
        m.register_buffer("column", m.weight.detach()[:, 1])
        a, b, c, n, lone = copy.deepcopy([x, x[1], x.t()[1:], m, lib.ones(4)[1:].clone()])
        a[1, 1] = 40.0
        with lib.no_grad():
            n.weight[0, 1] = 7.0
        return [a, b, c, x, n.column, m.column, b.is_leaf, n.weight.requires_grad, lone, c.stride()]

    alike(program)


def test_copies_keep_hooks():
    def program(lib):
        m = linear(lib)
        m.register_forward_hook(lambda mod, args, out: out * 0)
        return copy.deepcopy(m)(lib.ones(1, 2))

    alike(program)


# ---- lazy modules


def test_lazy_modules():
    def program(lib):
        m = lib.nn.Sequential(lib.nn.LazyLinear(3), lib.nn.ReLU(), lib.nn.LazyBatchNorm1d())
        log = [m[0].has_uninitialized_params(), type(m[0].weight).__name__]
        m(lib.ones(2, 5))
        log += [repr(m).replace("bias=True, ", ""), hasattr(m[0], "_initialize_hook")]
        loaded = lib.nn.Sequential(lib.nn.LazyLinear(3), lib.nn.ReLU(), lib.nn.LazyBatchNorm1d())
        loaded.load_state_dict(m.state_dict())
        loaded(lib.ones(2, 5))
        log += [loaded[0].in_features, type(loaded[0]).__name__, list(loaded.state_dict())]
        return [*log, error(lib.nn.LazyConv2d(3, 2), lib.ones(2, 5))]

    alike(program)


def test_copies_of_lazy_modules():
    m = nn.LazyLinear(3)
    for n in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        n(tg.ones(2, 4))
        assert n.weight.shape == (3, 4) and type(n) is nn.Linear
    assert m.has_uninitialized_params() and repr(m.weight) == "<UninitializedParameter>"


def test_modules_with_hooks_are_collected():
    m = nn.LazyLinear(2)
    m.register_forward_hook(lambda mod, args, out, me=m: None)
    gone = weakref.ref(m)
    del m
    gc.collect()
    assert gone() is None


# ---- settings


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Dropout", (2,)),
        ("Dropout2d", (-0.1,)),
        ("TripletMarginLoss", (0,)),
        ("MultiMarginLoss", (3,)),
        ("GroupNorm", (3, 4)),
        ("Conv2d", (3, 4, 3, 1, 0, 1, 2)),
        ("Conv2d", (4, 4, 3, 1, "odd")),
        ("Embedding", (3, 4, 7)),
        ("Linear", ("a", 3)),
        ("Linear", (3,)),
        ("AdaptiveLogSoftmaxWithLoss", (4, 5, [3, 2])),
        ("FractionalMaxPool2d", (2,)),
    ],
)
def test_bad_settings_raise_where_they_are_given(name, args):
    def kind(lib):  # PyTorch asserts some of them
        try:
            getattr(lib.nn, name)(*args)
        except AssertionError:
            return "ValueError"
        except Exception as e:
            return next(k.__name__ for k in (ValueError, TypeError) if isinstance(e, k))

    assert kind(tg) == kind(torch) is not None
    with pytest.raises(tg.Error, match=name):
        getattr(nn, name)(*args)


def test_hardtanh_range():
    with pytest.raises(tg.ValueError, match="Hardtanh: max_val must be greater"):
        nn.Hardtanh(1.0, -1.0)


def test_batchnorm_without_statistics():
    def program(lib):
        m = lib.nn.BatchNorm1d(2)
        m.running_mean = None
        m.running_var = None
        x = lib.arange(6.0).reshape(3, 2)
        y = m.eval()(x)
        z = m.train()(x)
        return [y, z, m.num_batches_tracked]

    alike(program)


def test_dropout_of_channels_counts_them_from_the_left():
    m = nn.Dropout2d(0.5)
    for sizes in [(50, 40), (50, 40, 3), (50, 40, 3, 2)]:
        kept = (m(tg.ones(sizes)) != 0).reshape(2000, -1).float()
        assert ((kept == kept[:, :1]).all()) and 0.4 < kept.mean() < 0.6
    with pytest.raises(tg.ShapeError, match="dropout2d: expected at least 2"):
        m(tg.ones(3))


def test_the_collector_may_run_while_a_class_makes_its_first_instance():
    def make():
        class Own(nn.Module):
            pass

        return Own(), nn.Sequential(Own())

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        made = [make() for _ in range(50)]
    finally:
        gc.set_threshold(*before)
    assert len(made) == 50


def test_modules_with_results_of_their_own():
    def program(lib):
        m = filled(lib, lib.nn.AdaptiveLogSoftmaxWithLoss(8, 6, [2, 4], div_value=2.0))
        x, y = lib.arange(24.0).reshape(3, 8) / 10, lib.tensor([0, 3, 5])
        out = m(x, y)
        one = m(x[0], y[0])
        return [out.output, out.loss, one.output, m.log_prob(x), m.predict(x)]

    alike(program)
