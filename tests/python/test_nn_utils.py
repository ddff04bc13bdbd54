"""nn.utils, nn.init and nn.parallel: the same programs here and in PyTorch."""

import copy
import math

import numpy as np
import pytest
import tinygrad_cpp as tg
from test_nn_module import alike, error, filled, linear
from tinygrad_cpp import nn

torch = pytest.importorskip("torch")


def trained(lib, m, x):
    """One step of SGD on the sum of squares; what is left in the parameters."""
    (m(x) ** 2).sum().backward()
    with lib.no_grad():
        for p in m.parameters():
            p -= 0.01 * p.grad
    return [[n, p] for n, p in m.named_parameters()]


# ---- gradients and vectors


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_clipping(norm_type):
    def program(lib):
        log = []
        for clip in ("norm", "value", "given norm"):
            m = linear(lib)
            (m(lib.ones(2, 2)) * 3).sum().backward()
            grads = [p.grad for p in m.parameters()]
            total = lib.nn.utils.get_total_norm(grads, norm_type)
            if clip == "norm":
                log.append(lib.nn.utils.clip_grad_norm_(m.parameters(), 0.5, norm_type=norm_type))
            elif clip == "value":
                lib.nn.utils.clip_grad_value_(m.parameters(), 1.5)
            else:
                lib.nn.utils.clip_grads_with_norm_(m.parameters(), 0.5, total)
            log += [total, grads]
        return log

    alike(program)


def test_norms_that_are_not_finite():
    for lib in (tg, torch):
        with pytest.raises(RuntimeError, match="finite"):
            lib.nn.utils.get_total_norm([lib.tensor([math.inf])], error_if_nonfinite=True)
        assert lib.nn.utils.get_total_norm([]).item() == 0


def test_vectors():
    def program(lib):
        m = linear(lib)
        v = lib.nn.utils.parameters_to_vector(m.parameters())
        n = lib.nn.Linear(2, 3)
        lib.nn.utils.vector_to_parameters(v * 2, n.parameters())
        return [v, n.weight, n.bias]

    alike(program)


# ---- normalised weights


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("style", ["hook", "parametrization"])
def test_weight_norm(dim, style):
    def program(lib):
        utils = lib.nn.utils
        wrap = utils.weight_norm if style == "hook" else utils.parametrizations.weight_norm
        m = wrap(linear(lib), dim=dim)
        x = lib.arange(8.0).reshape(4, 2)
        log = [repr(m), sorted(m.state_dict()), m(x), sorted(trained(lib, m, x)), m(x)]
        m.load_state_dict(m.state_dict())
        if style == "hook":
            utils.remove_weight_norm(m)
            log += [error(utils.remove_weight_norm, m), error(wrap, linear(lib), "no")]
        else:
            utils.parametrize.remove_parametrizations(m, "weight")
        return [*log, m(x), sorted(m.state_dict()), type(m).__name__, isinstance(m.weight, lib.nn.Parameter)]

    alike(program)


@pytest.mark.parametrize("layer", ["Linear", "Conv1d", "ConvTranspose1d"])
@pytest.mark.parametrize("style", ["hook", "parametrization"])
def test_spectral_norm(layer, style):
    shapes = {"Linear": (2, 3), "Conv1d": (2, 3, 2), "ConvTranspose1d": (2, 3, 2)}

    def program(lib):
        utils = lib.nn.utils
        m = filled(lib, getattr(lib.nn, layer)(*shapes[layer]))
        wrap = utils.spectral_norm if style == "hook" else utils.parametrizations.spectral_norm
        wrap(m, n_power_iterations=2)
        with lib.no_grad():  # the first vectors are random
            for b in m.buffers():
                b.copy_(lib.arange(1.0, len(b) + 1) / 3)
        x = lib.arange(8.0).reshape((4, 2) if layer == "Linear" else (1, 2, 4))
        log = [sorted(m.state_dict()), m(x), m(x), sorted(trained(lib, m, x)), m.eval()(x), m(x)]
        if style == "hook":
            utils.remove_spectral_norm(m)
        else:
            utils.parametrize.remove_parametrizations(m, "weight", leave_parametrized=False)
        return [*log, m(x), sorted(m.state_dict())]

    alike(program)


def test_orthogonal():
    for shape in ((3, 5), (5, 3), (4, 4)):
        m = nn.utils.parametrizations.orthogonal(nn.Linear(*shape, dtype=tg.float64))
        first = m.weight.detach()
        for _ in range(3):
            (m(tg.ones(1, shape[0], dtype=tg.float64)) ** 2).sum().backward()
            with tg.no_grad():
                p = m.parametrizations.weight.original
                p -= 0.1 * p.grad
        w = m.weight.detach()
        assert not np.allclose(w.numpy(), first.numpy())
        for a in (first, w):
            a = a if a.shape[0] >= a.shape[1] else a.T
            np.testing.assert_allclose((a.T @ a).numpy(), np.eye(a.shape[1]), atol=1e-10)


# ---- parametrizations


def symmetric(lib):
    class Symmetric(lib.nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).transpose(-1, -2)

        def right_inverse(self, x):
            return x.triu()

    return Symmetric()


def double(lib):
    class Double(lib.nn.Module):
        calls = 0

        def forward(self, x):
            Double.calls += 1
            return x * 2

    return Double()


def test_parametrization():
    def program(lib):
        parametrize = lib.nn.utils.parametrize
        m = linear(lib, 3, 3)
        before = type(m).__name__
        parametrize.register_parametrization(m, "weight", symmetric(lib))
        x = lib.arange(6.0).reshape(2, 3)
        log = [repr(m), type(m).__name__ != before, list(m.state_dict()), m.weight, m(x), isinstance(m, lib.nn.Linear)]
        m.weight = lib.ones(3, 3)
        log += [m.parametrizations.weight.original, trained(lib, m, x)]
        parametrize.register_parametrization(m, "weight", double(lib))
        log += [m(x), len(m.parametrizations.weight), parametrize.is_parametrized(m), error(setattr, m, "weight", x)]
        parametrize.register_parametrization(m, "bias", double(lib))
        log += [parametrize.is_parametrized(m, "bias"), m(x), copy.deepcopy(m)(x), m.weight is not m.weight]
        log += [parametrize.type_before_parametrizations(m).__name__]
        for name in ("weight", "bias"):
            parametrize.remove_parametrizations(m, name)
        return [*log, type(m).__name__, m(x), sorted(m.state_dict()), parametrize.is_parametrized(m)]

    alike(program)


def test_parametrized_python_modules_and_caching():
    def program(lib):
        parametrize = lib.nn.utils.parametrize

        class Net(lib.nn.Module):
            def __init__(self):
                super().__init__()
                self.w = lib.nn.Parameter(lib.ones(2))
                self.register_buffer("b", lib.ones(2))

            def forward(self, x):
                return x * self.w * self.w + self.b

        m, twice = Net(), double(lib)
        parametrize.register_parametrization(m, "w", twice)
        parametrize.register_parametrization(m, "b", double(lib))
        type(twice).calls = 0
        y = m(lib.ones(2))
        plain = type(twice).calls
        with parametrize.cached():
            z = m(lib.ones(2))
            same = m.w is m.w
        return [y, z, plain, type(twice).calls, same, m.w is m.w, sorted(n for n, _ in m.named_buffers())]

    alike(program)


def test_parametrization_errors():
    def program(lib):
        parametrize = lib.nn.utils.parametrize

        class Wrong(lib.nn.Module):
            def forward(self, x):
                return x[:1]

        m = linear(lib)
        log = [error(parametrize.register_parametrization, m, "weight", Wrong())]
        log += [error(parametrize.register_parametrization, m, "no", Wrong()), type(m).__name__]
        return [*log, error(parametrize.remove_parametrizations, m, "weight")]

    alike(program)


# ---- calls with other tensors


def test_functional_call():
    def program(lib):
        call = lib.func.functional_call
        m = lib.nn.Sequential(linear(lib, 2, 2), lib.nn.BatchNorm1d(2))
        m[0].tied = m[0].weight
        x = lib.arange(4.0).reshape(2, 2)
        w = (m[0].weight.detach() * 2).requires_grad_()
        y = call(m, {"0.weight": w}, (x,))
        (y[0] ** 2).sum().backward()
        stats = {n: b.clone() for n, b in m.named_buffers()}
        call(m, ({"0.weight": w}, stats), x)
        log = [y, w.grad, m[0].weight.grad is None, m[1].running_mean, stats["1.running_mean"], m[0].weight]
        log += [isinstance(m[0].weight, lib.nn.Parameter), m[0].tied is m[0].weight]
        return [*log, [n for n, _ in m.named_parameters()]]

    alike(program)


def test_functional_call_names_what_is_wrong():
    m, w = nn.Linear(2, 3), tg.ones(3, 2)
    with pytest.raises(tg.ValueError, match=r"Linear has no parameter or buffer \['no'\]"):
        nn.utils.stateless.functional_call(m, {"no": w}, tg.ones(2))
    with pytest.raises(tg.ValueError, match=r"missing are \['bias'\]"):
        nn.utils.stateless.functional_call(m, {"weight": w}, tg.ones(2), strict=True)


def test_skip_init():
    m = nn.utils.skip_init(nn.Linear, 2, 3, bias=False)
    assert m.weight.shape == (3, 2) and m.bias is None
    with pytest.raises(tg.TypeError, match="skip_init"):
        nn.utils.skip_init(3)


# ---- initial values


def test_initialisers_have_their_old_names():
    names = [n for n in dir(torch.nn.init) if n.endswith("_") and not n.startswith("_")]
    for name in names:
        assert hasattr(nn.init, name), name
        old = name[:-1]
        if hasattr(torch.nn.init, old):
            assert hasattr(nn.init, old), old
    w = tg.empty(3, 3)
    assert nn.init.constant(w, 2.0) is w and w.tolist() == [[2.0] * 3] * 3


def test_initialisers_with_fixed_values():
    def program(lib):
        init = lib.nn.init
        made = [init.eye_(lib.empty(3, 4)), init.dirac_(lib.empty(4, 2, 3), 2), init.constant_(lib.empty(2), 0.5)]
        made += [
            init.ones_(lib.empty(2)),
            init.zeros_(lib.empty(2, 2)),
            init._calculate_fan_in_and_fan_out(lib.empty(3, 4, 2)),
        ]
        gains = [init.calculate_gain(n) for n in ("relu", "tanh", "sigmoid", "conv2d", "leaky_relu", "selu")]
        errors = [error(init.eye_, lib.empty(2)), error(init.xavier_uniform_, lib.empty(2))]
        errors += [error(init.kaiming_normal_, lib.empty(2, 2), mode="x"), error(init.calculate_gain, "x")]
        return [made, gains, errors]

    alike(program)


# ---- several devices


def test_parallel_wrappers():
    def program(lib):
        m = linear(lib)
        p = lib.nn.DataParallel(m)
        x = lib.arange(4.0).reshape(2, 2)
        return [list(p.state_dict()), p(x), p.module is m, repr(p), len(p.device_ids)]

    alike(program)
    m = nn.parallel.DistributedDataParallel(linear(tg), device_ids=None, find_unused_parameters=True)
    x = tg.ones(1, 2)
    assert tg.equal(nn.parallel.data_parallel(m.module, x), m(x))
    with m.no_sync():
        m(x).sum().backward()
    assert list(m.state_dict()) == ["module.weight", "module.bias"] and m.module.weight.grad is not None


def test_sync_batchnorm():
    m = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(2))))
    assert type(m[0]) is type(m[1][0]) is nn.SyncBatchNorm
    x = tg.randn(2, 3, 4, 4)
    assert tg.equal(m[0](x), nn.BatchNorm2d(3)(x))
