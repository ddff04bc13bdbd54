"""distributions: values and gradients of PyTorch's, samples by their moments and distribution functions."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import tinygrad_cpp as tg
import tinygrad_cpp.distributions as dist

try:
    import torch
    import torch.distributions
except ImportError:
    torch = None

PROBS = [[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]
LOGITS = [[0.3, -1.0, 2.0], [0.0, 0.1, -0.2]]
TRIL = [[[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-0.3, 0.2, 0.7]]]
COVARIANCE = (np.array(TRIL) @ np.array(TRIL).transpose(0, 2, 1)).tolist()


def maker(name, **fixed):
    def make(lib, **parameters):
        return getattr(lib.distributions, name)(**parameters, **fixed)

    return make


def transformed(*names):
    def make(lib, loc, scale):
        d = lib.distributions
        made = {
            "exp": d.ExpTransform(), "affine": d.AffineTransform(1.0, -2.0), "sigmoid": d.SigmoidTransform(),
            "tanh": d.TanhTransform(), "softplus": d.SoftplusTransform(), "power": d.PowerTransform(lib.tensor(1.5).double()),
            "scale": d.AffineTransform(0.5, 3.0), "inverse exp": d.ExpTransform().inv,
        }
        return d.TransformedDistribution(d.Normal(loc, scale), [made[n] for n in names])

    return make


def relaxed(path):
    def make(lib, **parameters):
        found = lib.distributions
        for name in path.split("."):
            found = getattr(found, name)
        return found(lib.tensor(0.7, dtype=lib.float64), **parameters)

    return make


def mixture(lib, logits, loc, scale):
    d = lib.distributions
    return d.MixtureSameFamily(d.Categorical(logits=logits), d.Normal(loc, scale))


def vector_mixture(lib, logits, loc, scale):
    d = lib.distributions
    return d.MixtureSameFamily(d.Categorical(logits=logits), d.Independent(d.Normal(loc, scale), 1))


def independent(lib, loc, scale):
    return lib.distributions.Independent(lib.distributions.Normal(loc, scale), 1)


TWO = {"loc": [0.5, -1.0], "scale": [1.5, 0.3]}
ROWS = {"loc": [[0.5, -1.0, 2.0]], "scale": [[1.5], [0.3]]}
# name: (constructor, parameters, values of log_prob)
CASES = {
    "Normal": (maker("Normal"), TWO, [[0.1, 2.0], [-1.0, -1.1]]),
    "Normal broadcast": (maker("Normal"), ROWS, [0.1, 2.0, -0.5]),
    "LogNormal": (maker("LogNormal"), TWO, [[0.1, 2.0], [1.0, 0.4]]),
    "HalfNormal": (maker("HalfNormal"), {"scale": [1.5, 0.3]}, [[0.1, 2.0], [1.0, 0.4]]),
    "Laplace": (maker("Laplace"), TWO, [[0.1, 2.0], [-1.0, -1.1]]),
    "Cauchy": (maker("Cauchy"), TWO, [[0.1, 2.0], [-1.0, -1.1]]),
    "Gumbel": (maker("Gumbel"), TWO, [[0.1, 2.0], [-1.0, -1.1]]),
    "Uniform": (maker("Uniform"), {"low": [0.0, -1.0], "high": [1.0, 3.0]}, [[0.1, 2.0], [0.9, -0.5]]),
    "Exponential": (maker("Exponential"), {"rate": [0.5, 3.0]}, [[0.1, 2.0], [0.9, 0.5]]),
    "Gamma": (maker("Gamma"), {"concentration": [0.5, 3.0], "rate": [2.0, 0.7]}, [[0.1, 2.0], [0.9, 0.5]]),
    "Chi2": (maker("Chi2"), {"df": [1.0, 5.0]}, [[0.1, 2.0], [0.9, 0.5]]),
    "StudentT": (maker("StudentT"), {"df": [3.0, 5.0], **TWO}, [[0.1, 2.0], [0.9, -0.5]]),
    "StudentT few": (maker("StudentT"), {"df": [0.5, 1.5], **TWO}, [[0.1, 2.0], [0.9, -0.5]]),
    "Beta": (maker("Beta"), {"concentration1": [0.5, 3.0], "concentration0": [2.0, 1.5]}, [[0.1, 0.7], [0.9, 0.5]]),
    "Dirichlet": (maker("Dirichlet"), {"concentration": [[0.5, 3.0, 1.2], [2.0, 4.0, 6.0]]}, PROBS),
    "Bernoulli": (maker("Bernoulli"), {"probs": [0.2, 0.7]}, [[0.0, 1.0], [1.0, 0.0]]),
    "Bernoulli logits": (maker("Bernoulli"), {"logits": [0.2, -70.0]}, [[0.0, 1.0], [1.0, 0.0]]),
    "Geometric": (maker("Geometric"), {"probs": [0.2, 0.7]}, [[0.0, 1.0], [5.0, 2.0]]),
    "Geometric logits": (maker("Geometric"), {"logits": [0.2, -1.0]}, [[0.0, 1.0], [5.0, 2.0]]),
    "Binomial": (maker("Binomial", total_count=5), {"probs": [0.2, 0.7]}, [[0.0, 1.0], [5.0, 2.0]]),
    "Binomial logits": (maker("Binomial", total_count=4), {"logits": [0.2, -3.0]}, [[0.0, 1.0], [4.0, 2.0]]),
    "Poisson": (maker("Poisson"), {"rate": [0.5, 30.0]}, [[0.0, 21.0], [5.0, 40.0]]),
    "Categorical": (maker("Categorical"), {"probs": PROBS}, [[0, 2], [1, 1]]),
    "Categorical logits": (maker("Categorical"), {"logits": LOGITS}, [[0, 2], [1, 1]]),
    "OneHotCategorical": (maker("OneHotCategorical"), {"logits": LOGITS}, [[0.0, 1, 0], [1, 0, 0]]),
    "Multinomial": (maker("Multinomial", total_count=4), {"probs": PROBS}, [[1.0, 1, 2], [0, 4, 0]]),
    "Multinomial logits": (maker("Multinomial", total_count=3), {"logits": LOGITS}, [[1.0, 1, 1], [0, 3, 0]]),
    "RelaxedBernoulli": (relaxed("RelaxedBernoulli"), {"probs": [0.2, 0.7]}, [[0.1, 0.7], [0.9, 0.5]]),
    "LogitRelaxedBernoulli": (relaxed("relaxed_bernoulli.LogitRelaxedBernoulli"), {"logits": [0.2, -1.7]}, [[0.1, 0.7], [-0.9, 0.5]]),
    "RelaxedOneHotCategorical": (relaxed("RelaxedOneHotCategorical"), {"logits": LOGITS}, PROBS),
    "ExpRelaxedCategorical": (relaxed("relaxed_categorical.ExpRelaxedCategorical"), {"probs": PROBS}, [-1.0, -2.0, -3.0]),
    "Independent": (independent, ROWS, [0.1, 2.0, -0.5]),
    "Mixture": (mixture, {"logits": LOGITS[0], "loc": [0.5, -1.0, 2.0], "scale": [1.5, 0.4, 0.6]}, [0.1, 2.0]),
    "Mixture of vectors": (vector_mixture, {"logits": LOGITS[0], "loc": [[0.5, 1.0], [-1.0, 0.0], [2.0, 1.0]], "scale": [[1.5], [0.4], [0.6]]}, [0.1, 2.0]),
    **{f"Transformed {t}": (transformed(*t.split(", ")), TWO, v) for t, v in {
        "exp": [0.5, 2.0], "affine": [0.5, -2.0], "sigmoid": [0.3, 0.9], "tanh": [0.3, -0.9], "softplus": [0.5, 2.0],
        "exp, power": [0.5, 2.0], "affine, exp": [0.5, 2.0], "scale, tanh, affine": [0.5, 1.5],
    }.items()},
    "MultivariateNormal": (maker("MultivariateNormal"), {"loc": [0.5, -1.0, 2.0], "scale_tril": TRIL}, [[0.1, 2.0, -0.5], [0.0, 0.0, 1.0]]),
    "MultivariateNormal covariance": (maker("MultivariateNormal"), {"loc": [[0.5, -1.0, 2.0]], "covariance_matrix": COVARIANCE}, [0.1, 2.0, -0.5]),
    "MultivariateNormal precision": (maker("MultivariateNormal"), {"loc": [0.5, -1.0, 2.0], "precision_matrix": COVARIANCE}, [0.1, 2.0, -0.5]),
}
NAMES = list(CASES)


def both(name, dtype="float64"):
    """[(package, distribution, parameters that require gradients, values)] of both packages."""
    make, parameters, values = CASES[name]
    result = []
    for lib in (tg, torch):
        given = {k: lib.tensor(v, dtype=getattr(lib, dtype), requires_grad=True) for k, v in parameters.items()}
        result.append((lib, make(lib, **given), list(given.values()),
                       lib.tensor(values) if isinstance(np.array(values).flat[0], np.int64) else lib.tensor(values, dtype=getattr(lib, dtype))))
    return result


def numbers(x):
    return x.detach().numpy()


def gradients(lib, y, inputs):
    """Of a weighted sum of the finite elements."""
    if not y.requires_grad:
        return [None] * len(inputs)
    weights = lib.arange(1, y.numel() + 1).reshape(y.shape).to(y.dtype)
    finite = lib.where(y.isfinite(), y, lib.zeros_like(y))
    return lib.autograd.grad((finite * weights).sum(), inputs, allow_unused=True, retain_graph=True)


def same(mine, theirs, inputs, others, rtol=1e-9):
    """Values, sizes, dtypes and gradients; None and NaN count as 0 in gradients."""
    np.testing.assert_allclose(numbers(mine), numbers(theirs), rtol=rtol, atol=1e-12)
    assert mine.shape == tuple(theirs.shape) and str(mine.dtype).split(".")[-1] == str(theirs.dtype).split(".")[-1]
    for a, b in zip(gradients(tg, mine, inputs), gradients(torch, theirs, others)):
        a, b = (0.0 if g is None else np.nan_to_num(numbers(g)) for g in (a, b))
        np.testing.assert_allclose(a, b, rtol=10 * rtol, atol=1e-10, strict=False)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_log_prob(name):
    (_, mine, inputs, x), (_, theirs, others, y) = both(name)
    same(mine.log_prob(x), theirs.log_prob(y), inputs, others)
    assert mine.batch_shape == tuple(theirs.batch_shape) and mine.event_shape == tuple(theirs.event_shape)
    # PyTorch forgot to say that LogitRelaxedBernoulli has one
    assert mine.has_rsample == (theirs.has_rsample or name == "LogitRelaxedBernoulli")
    assert mine.has_enumerate_support == theirs.has_enumerate_support
    if x.dtype == tg.float64 and mine.has_rsample and "Uniform" not in name:  # gradients to the value
        x, y = x.requires_grad_(), y.requires_grad_()
        same(mine.log_prob(x), theirs.log_prob(y), [x], [y])


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["entropy", "perplexity", "mean", "mode", "variance", "stddev"])
def test_properties(name, what):
    (_, mine, inputs, _), (_, theirs, others, _) = both(name)
    try:
        want = getattr(theirs, what)
        want = want() if callable(want) else want
    except NotImplementedError:
        with pytest.raises(tg.NotImplementedError):
            got = getattr(mine, what)
            got() if callable(got) else got
        return
    got = getattr(mine, what)
    # PyTorch computes log n! in single precision
    same(got() if callable(got) else got, want, inputs, others, rtol=1e-7 if "Multinomial" in name else 1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_cdf(name):
    (_, mine, inputs, x), (_, theirs, others, y) = both(name)
    try:
        if name in ("Gamma", "Chi2"):  # which need the incomplete gamma function
            raise NotImplementedError
        want = theirs.cdf(y)
    except NotImplementedError:
        with pytest.raises(tg.NotImplementedError, match="there is no cdf"):
            mine.cdf(x)
    else:
        same(mine.cdf(x), want, inputs, others)
    p, q = (lib.tensor([[0.1, 0.6], [0.95, 0.5]], dtype=lib.float64) for lib in (tg, torch))
    try:
        want = theirs.icdf(q)
    except (NotImplementedError, RuntimeError):
        return
    same(mine.icdf(p), want, inputs, others)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_expand_and_parameters(name):
    (_, mine, _, _), (_, theirs, _, _) = both(name)
    shape = [4, *mine.batch_shape]
    a, b = mine.expand(shape), theirs.expand(shape)
    assert a.batch_shape == tuple(b.batch_shape) and a.event_shape == tuple(b.event_shape)
    y = b.sample((2,))
    np.testing.assert_allclose(numbers(a.log_prob(tg.tensor(y.numpy()))), numbers(b.log_prob(y)), rtol=1e-9)
    assert a.sample((2,)).shape == tuple(b.sample((2,)).shape) and type(a) is type(mine)
    for parameter in theirs.arg_constraints:
        if hasattr(theirs, parameter):
            np.testing.assert_allclose(numbers(getattr(mine, parameter)), numbers(getattr(theirs, parameter)), rtol=1e-8)
    if "param_shape" in dir(theirs):
        assert mine.param_shape == tuple(theirs.param_shape)


@pytest.mark.oracle
@pytest.mark.parametrize("name", [n for n in CASES if n.split()[0] in ("Bernoulli", "Categorical", "OneHotCategorical", "Binomial")])
def test_enumerate_support(name):
    (_, mine, inputs, _), (_, theirs, others, _) = both(name)
    for expand in (True, False):
        np.testing.assert_array_equal(numbers(mine.enumerate_support(expand)), numbers(theirs.enumerate_support(expand)))
    total = mine.log_prob(mine.enumerate_support()).exp().sum(0)
    np.testing.assert_allclose(numbers(total), 1, rtol=1e-12)


KL = {
    "Normal": ("Normal", TWO, {"loc": [0.0, 1.0], "scale": [1.0, 2.0]}),
    "LogNormal": ("LogNormal", TWO, {"loc": [0.0, 1.0], "scale": [1.0, 2.0]}),
    "HalfNormal": ("HalfNormal", {"scale": [1.5, 0.3]}, {"scale": [1.0, 2.0]}),
    "Laplace": ("Laplace", TWO, {"loc": [0.0, 1.0], "scale": [1.0, 2.0]}),
    "Cauchy": ("Cauchy", TWO, {"loc": [0.0, 1.0], "scale": [1.0, 2.0]}),
    "Gumbel": ("Gumbel", TWO, {"loc": [0.0, 1.0], "scale": [1.0, 2.0]}),
    "Uniform": ("Uniform", {"low": [0.0, 0.0], "high": [1.0, 1.0]}, {"low": [-1.0, 0.5], "high": [1.0, 2.0]}),
    "Exponential": ("Exponential", {"rate": [0.5, 2.0]}, {"rate": [1.0, 3.0]}),
    "Gamma": ("Gamma", {"concentration": [0.5, 3.0], "rate": [2.0, 0.7]}, {"concentration": [1.5, 2.0], "rate": [1.0, 0.2]}),
    "Chi2": ("Chi2", {"df": [0.5, 3.0]}, {"df": [1.5, 2.0]}),
    "Beta": ("Beta", {"concentration1": [0.5, 3.0], "concentration0": [2.0, 0.7]}, {"concentration1": [1.5, 2.0], "concentration0": [1.0, 0.2]}),
    "Dirichlet": ("Dirichlet", {"concentration": [[0.5, 3.0, 1.2]]}, {"concentration": [[1.5, 2.0, 0.2]]}),
    "Bernoulli": ("Bernoulli", {"probs": [0.2, 0.7]}, {"probs": [0.5, 0.1]}),
    "Geometric": ("Geometric", {"probs": [0.2, 0.7]}, {"probs": [0.5, 0.1]}),
    "Poisson": ("Poisson", {"rate": [0.2, 7.0]}, {"rate": [0.5, 1.0]}),
    "Categorical": ("Categorical", {"logits": LOGITS}, {"probs": PROBS}),
    "Categorical with zeros": ("Categorical", {"probs": [[0.5, 0.5, 0.0]]}, {"probs": [[0.2, 0.3, 0.5]]}),
    "OneHotCategorical": ("OneHotCategorical", {"logits": LOGITS}, {"probs": PROBS}),
    "MultivariateNormal": ("MultivariateNormal", {"loc": [0.5, -1.0, 2.0], "scale_tril": TRIL}, {"loc": [0.0, 1.0, 1.0], "covariance_matrix": COVARIANCE}),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", KL)
def test_kl(name):
    cls, p, q = KL[name]
    results = []
    for lib in (tg, torch):
        sides = [{k: lib.tensor(v, dtype=lib.float64, requires_grad=True) for k, v in side.items()} for side in (p, q)]
        made = [getattr(lib.distributions, cls)(**side) for side in sides]
        results.append((lib.distributions.kl_divergence(*made), [t for side in sides for t in side.values()], made))
    (mine, inputs, made), (theirs, others, other) = results
    same(mine, theirs, inputs, others)
    if name in ("Normal", "Bernoulli", "Gamma"):
        nested = [[lib.distributions.Independent(d, 1) for d in ds] for lib, ds in ((tg, made), (torch, other))]
        same(dist.kl_divergence(*nested[0]), torch.distributions.kl_divergence(*nested[1]), inputs, others)


@pytest.mark.oracle
def test_kl_between_families_and_counts():
    values = []
    for lib in (tg, torch):
        d = lib.distributions
        values.append([
            d.kl_divergence(d.Uniform(lib.tensor(0.0), 1.0), d.Normal(lib.tensor(0.5), 2.0)).item(),
            d.kl_divergence(d.Binomial(3, lib.tensor(0.3)), d.Binomial(3, lib.tensor(0.6))).item(),
            d.kl_divergence(d.Bernoulli(lib.tensor(0.0)), d.Bernoulli(lib.tensor(0.6))).item(),
        ])
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_register_kl():
    class Mine(dist.Normal):
        pass

    @dist.register_kl(Mine, dist.Normal)
    def always_seven(p, q):
        return tg.tensor(7.0)

    assert dist.kl_divergence(Mine(0.0, 1.0), dist.Normal(0.0, 1.0)).item() == 7
    assert dist.kl_divergence(dist.Normal(0.0, 1.0), Mine(0.0, 1.0)).item() == 0
    with pytest.raises(tg.NotImplementedError, match="Normal and Poisson"):
        dist.kl_divergence(dist.Normal(0.0, 1.0), dist.Poisson(1.0))
    with pytest.raises(tg.TypeError, match="int"):
        dist.register_kl(int, int)


# ---- samples

N = 40_000


@pytest.mark.parametrize("name", NAMES)
def test_sample_moments(name):
    make, parameters, _ = CASES[name]
    d = make(tg, **{k: tg.tensor(v, dtype=tg.float64) for k, v in parameters.items()})
    x = d.sample((N,))
    assert x.shape == (N, *d.batch_shape, *d.event_shape) and not x.requires_grad
    assert tg.equal(d.log_prob(x[:50]).isfinite(), tg.ones(50, *d.batch_shape, dtype=tg.bool))
    try:
        mean, std = d.mean, d.stddev
    except tg.NotImplementedError:
        return
    if name.startswith(("Cauchy", "StudentT few", "Categorical")):
        return
    spread = 4.5 * numbers(std) / math.sqrt(N)
    assert (abs(numbers(x.mean(0)) - numbers(mean)) < spread + 1e-12).all()
    np.testing.assert_allclose(numbers(x.std(0)), numbers(std), rtol=0.2 if "LogNormal" in name or "StudentT" in name else 0.05, atol=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["Normal", "LogNormal", "HalfNormal", "Laplace", "Cauchy", "Gumbel", "Uniform", "Exponential", "Gamma", "Chi2", "Mixture"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_follow_the_distribution_function(name, dtype):
    """Kolmogorov and Smirnov: the largest distance stays below what chance allows once in a million."""
    make, parameters, _ = CASES[name]
    d = make(tg, **{k: tg.tensor(v, dtype=getattr(tg, dtype)) for k, v in parameters.items()})
    theirs = make(torch, **{k: torch.tensor(v, dtype=torch.float64) for k, v in parameters.items()})
    x = d.sample((N,))
    assert str(x.dtype).endswith(dtype)
    u = theirs.cdf(torch.from_numpy(numbers(x.double()))).numpy()
    steps = np.arange(1, N + 1) / N
    for column in np.sort(u.reshape(N, -1), axis=0).T:
        assert max(abs(column - steps).max(), abs(column - steps + 1 / N).max()) < 2.6 / math.sqrt(N)


@pytest.mark.parametrize("name", ["Bernoulli", "Geometric", "Binomial", "Poisson", "Categorical", "OneHotCategorical", "Multinomial"])
def test_frequencies(name):
    make, parameters, _ = CASES[name]
    d = make(tg, **{k: tg.tensor(v, dtype=tg.float64) for k, v in parameters.items()})
    x = d.sample((N,))
    p = numbers(d.log_prob(x).exp())
    rows = numbers(x).reshape(N, len(d.batch_shape) and d.batch_shape[0], -1)
    for j in range(rows.shape[1]):
        seen, where, count = np.unique(rows[:, j], axis=0, return_index=True, return_counts=True)
        expected = N * p[where, j]
        assert (abs(count - expected) < 5 * np.sqrt(expected) + 3).all()


def test_seeds():
    for d in (dist.Normal(0.0, 1.0), dist.Gamma(2.0, 1.0), dist.Poisson(4.0), dist.Categorical(tg.ones(100))):
        tg.manual_seed(5)
        a, b = d.sample((3,)), d.sample((3,))
        tg.manual_seed(5)
        assert tg.equal(a, d.sample((3,))) and not tg.equal(a, b)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_rsample_gradients(name):
    """d/dp of the mean of x^2 over many samples, against the gradient of the second moment."""
    make, parameters, _ = CASES[name]
    given = {k: tg.tensor(v, dtype=tg.float64, requires_grad=True) for k, v in parameters.items()}
    d = make(tg, **given)
    if not d.has_rsample:
        with pytest.raises(tg.NotImplementedError, match="rsample"):
            d.rsample()
        return
    x = d.rsample((N,))
    assert x.requires_grad
    if name.startswith(("Transformed", "Cauchy", "StudentT", "LogNormal")) or "Relaxed" in name:
        return
    got = tg.autograd.grad((x**2).mean(0).sum(), list(given.values()), retain_graph=True)
    want = tg.autograd.grad((d.variance + d.mean**2).sum(), list(given.values()), allow_unused=True)
    for a, b in zip(got, want):
        np.testing.assert_allclose(numbers(a), numbers(b) if b is not None else 0, rtol=0.1, atol=0.15)


@pytest.mark.oracle
@pytest.mark.parametrize("a", [0.01, 0.1, 0.5, 1.0, 1.7, 5.0, 50.0, 1000.0, 1e5])
def test_gamma_gradient(a):
    """The sample moves with its parameter so that its distribution function stays: checked by finite differences."""
    alpha = tg.full((200,), a, dtype=tg.float64, requires_grad=True)
    x = dist.Gamma(alpha, 1.0).rsample()
    (slope,) = tg.autograd.grad(x.sum(), alpha)
    x, at = torch.from_numpy(numbers(x)), torch.full((200,), a, dtype=torch.float64)
    h = 1e-4 * a
    # complement where it is the smaller one, which keeps the digits
    tail = torch.where(x > at, 1.0, 0.0)
    def place(shape):
        return torch.where(tail > 0, -torch.special.gammaincc(shape, x), torch.special.gammainc(shape, x))
    rise = (8 * (place(at + h) - place(at - h)) - (place(at + 2 * h) - place(at - 2 * h))) / (12 * h)
    density = torch.distributions.Gamma(at, torch.ones_like(at)).log_prob(x).exp()
    want = (-rise / density).numpy()
    usable = numbers(x) > 1e-250
    np.testing.assert_allclose(numbers(slope)[usable], want[usable], rtol=2e-4)


# ---- errors, transforms, the rest


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: dist.Normal(0.0, -1.0), ValueError, r"Normal: parameter scale must lie in numbers in \(0.0, inf\), but is"),
        (lambda: dist.Normal(float("nan"), 1.0), ValueError, "parameter loc"),
        (lambda: dist.Normal("a", 1.0), TypeError, "str"),
        (lambda: dist.Normal(tg.zeros(2), tg.ones(3)), tg.ShapeError, "broadcast"),
        (lambda: dist.Uniform(1.0, 1.0), ValueError, "low must be below high"),
        (lambda: dist.Uniform(0.0, 1.0).log_prob(tg.tensor(2.0)), ValueError, "a value must lie"),
        (lambda: dist.Bernoulli(1.5), ValueError, "probs"),
        (lambda: dist.Bernoulli(), ValueError, "either probs or logits"),
        (lambda: dist.Bernoulli(0.5, 0.5), ValueError, "either probs or logits"),
        (lambda: dist.Bernoulli(0.5).log_prob(tg.tensor(0.5)), ValueError, "whole numbers"),
        (lambda: dist.Geometric(0.0), ValueError, "above 0"),
        (lambda: dist.Categorical(tg.tensor([-1.0, 2.0])), ValueError, "probs"),
        (lambda: dist.Categorical(tg.zeros(2)), ValueError, "positive sum"),
        (lambda: dist.Categorical(tg.tensor(1.0)), tg.ShapeError, "dimension"),
        (lambda: dist.Categorical(tg.ones(2)).log_prob(tg.tensor(2)), ValueError, "a value"),
        (lambda: dist.Categorical(logits=tg.tensor([math.nan, 0.0])), ValueError, "logits"),
        (lambda: dist.OneHotCategorical(tg.ones(2)).log_prob(tg.ones(2)), ValueError, "a value"),
        (lambda: dist.OneHotCategorical(tg.ones(2)).log_prob(tg.ones(3)), tg.ShapeError, r"\[3\]"),
        (lambda: dist.Normal(tg.zeros(2), 1.0).log_prob(tg.zeros(3)), tg.ShapeError, r"batch_shape \[2\]"),
        (lambda: dist.Poisson(-1.0), ValueError, "rate"),
        (lambda: dist.Chi2(0.0), ValueError, "df"),
        (lambda: dist.Dirichlet(tg.tensor([1.0, 0.0])), ValueError, "concentration"),
        (lambda: dist.Dirichlet(tg.ones(2)).log_prob(tg.ones(2)), ValueError, "a value"),
        (lambda: dist.Beta(0.0, 1.0), ValueError, "concentration1"),
        (lambda: dist.Multinomial(tg.tensor([1, 2]), tg.ones(2, 3)), NotImplementedError, "total_count"),
        (lambda: dist.Independent(dist.Normal(0.0, 1.0), 1), ValueError, "cannot count 1"),
        (lambda: dist.TransformedDistribution(dist.Normal(0.0, 1.0), [tg.exp]), ValueError, "transforms"),
        (lambda: dist.Normal(0.0, 1.0).enumerate_support(), NotImplementedError, "Normal: there is no enumerate_support"),
        (lambda: dist.Distribution().sample(), NotImplementedError, "rsample"),
        (lambda: dist.RelaxedBernoulli(tg.ones(1, requires_grad=True), 0.5), NotImplementedError, "temperature"),
        (lambda: dist.MultivariateNormal(tg.zeros(2)), ValueError, "exactly one"),
        (lambda: dist.MultivariateNormal(tg.zeros(2), scale_tril=tg.ones(2, 3)), tg.ShapeError, r"\[2, 3\]"),
        (lambda: dist.MultivariateNormal(tg.zeros(2), scale_tril=tg.ones(2, 2)), ValueError, "scale_tril"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, tg.Error)


def test_checks_can_be_left_out():
    assert dist.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    dist.Distribution.set_default_validate_args(False)
    try:
        assert dist.Bernoulli(0.5).log_prob(tg.tensor(0.25)).item() == pytest.approx(math.log(0.5))
    finally:
        dist.Distribution.set_default_validate_args(True)
    with pytest.raises(tg.ValueError):
        dist.Normal(0.0, -1.0)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["Normal", "Categorical", "Bernoulli logits", "Uniform", "Dirichlet", "Independent"])
def test_repr(name):
    (_, mine, _, _), (_, theirs, _, _) = both(name)
    assert repr(mine) == repr(theirs).replace("torch.Size", "tinygrad_cpp.Size")
    assert repr(dist.Normal(0, 1)) == repr(torch.distributions.Normal(0, 1))
    assert repr(dist.Chi2(3.0)) == "Chi2(df: 3.0)" and repr(dist.LogNormal(0.0, 1.0)) == "LogNormal(loc: 0.0, scale: 1.0)"


@pytest.mark.oracle
def test_extreme_logits():
    values = []
    for lib in (tg, torch):
        d = lib.distributions
        logits = lib.tensor([0.0, -math.inf, 1000.0])
        c = d.Categorical(logits=logits, validate_args=False)
        binary = d.Bernoulli(logits=lib.tensor([1000.0, -1000.0]))
        values.append([c.entropy().item(), *c.probs.tolist(), *c.logits.tolist(), *binary.entropy().tolist()])
    np.testing.assert_allclose(*values, atol=1e-7)
    assert set(dist.Categorical(tg.tensor([0.0, 1.0, 0.0])).sample((1000,)).tolist()) == {1}
    assert dist.Categorical(tg.ones(2, 3)).sample((0,)).shape == (0, 2)


def test_float32_samples_stay_inside():
    for d in (dist.Exponential(1.0), dist.Laplace(0.0, 1.0), dist.Gumbel(0.0, 1.0), dist.Gamma(1e-3, 1.0), dist.Beta(1e-2, 1e-2), dist.Geometric(1e-6)):
        x = d.sample((1_000_000,))
        assert x.isfinite().all() and (d.support is None or d.support.check(x).all())
    p = dist.Dirichlet(tg.full((3,), 1e-2)).sample((10_000,))
    assert p.isfinite().all() and dist.constraints.simplex.check(p).all()


def test_straight_through():
    logits = tg.tensor([0.1, 0.7, -0.3], requires_grad=True)
    d = dist.OneHotCategoricalStraightThrough(logits=logits)
    x = d.rsample()
    assert sorted(x.detach().round().tolist()) == [0, 0, 1]
    w = tg.tensor([1.0, 2.0, 3.0])
    (got,) = tg.autograd.grad((x * w).sum(), logits)
    (want,) = tg.autograd.grad((tg.softmax(logits, 0) * w).sum(), logits)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-5)


def test_policy_gradient():
    """REINFORCE as programs write it: the gradient of log_prob times a reward reaches the logits."""
    logits = tg.zeros(4, 3, requires_grad=True)
    d = dist.Categorical(logits=logits)
    action = d.sample()
    (-d.log_prob(action) * tg.arange(4)).sum().backward()
    onehot = tg.nn.functional.one_hot(action, 3)
    np.testing.assert_allclose(logits.grad.numpy(), ((1 / 3 - onehot) * tg.arange(4).unsqueeze(1)).numpy(), atol=1e-6)


TRANSFORMS = ["ExpTransform()", "AffineTransform(1.0, -2.0)", "SigmoidTransform()", "TanhTransform()", "SoftplusTransform()",
              "ExpTransform().inv.inv", "ComposeTransform([AffineTransform(0.5, 2.0), TanhTransform()])", "identity_transform"]


@pytest.mark.oracle
@pytest.mark.parametrize("text", TRANSFORMS)
def test_transforms(text):
    mine, theirs = eval(text, vars(dist)), eval(text, {**vars(torch.distributions.transforms)})
    x, y = (lib.tensor([-3.0, -0.2, 0.0, 1.5], dtype=lib.float64, requires_grad=True) for lib in (tg, torch))
    same(mine(x), theirs(y), [x], [y])
    same(mine.log_abs_det_jacobian(x, mine(x)), theirs.log_abs_det_jacobian(y, theirs(y)), [x], [y])
    np.testing.assert_allclose(numbers(mine.inv(mine(x).detach())), numbers(x), rtol=1e-9, atol=1e-9)
    assert mine == eval(text, vars(dist)) and mine.inv.inv is mine and mine.sign == theirs.sign
    assert mine != dist.PowerTransform(2.0) and mine.event_dim == theirs.event_dim


def test_transform_cache():
    d = dist.TransformedDistribution(dist.Normal(tg.full((3,), 12.0), 1.0), dist.TanhTransform(cache_size=1))
    x = d.rsample()
    assert d.log_prob(x).isfinite().all()  # atanh(1) alone would be infinite
    with pytest.raises(tg.ValueError):
        dist.TanhTransform(cache_size=2)


def test_copies_and_module_paths():
    from tinygrad_cpp.distributions.log_normal import LogNormal
    from tinygrad_cpp.distributions.normal import Normal

    assert Normal is dist.Normal and LogNormal is dist.LogNormal and dist.normal.Normal is Normal
    for d in (dist.Normal(tg.zeros(2), 1.0), dist.Categorical(tg.ones(3)), dist.LogNormal(0.0, 1.0)):
        for other in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
            assert type(other) is type(d) and tg.equal(other.log_prob(tg.tensor(1)), d.log_prob(tg.tensor(1)))
