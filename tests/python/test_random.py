"""Random ops: reproducible whatever the thread count, and distributed as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tinygrad_cpp as tg

N = 200_000
DRAWS = {
    "rand": lambda: tg.rand(N),
    "randn": lambda: tg.randn(N),
    "rand float64": lambda: tg.rand(N, dtype=tg.float64),
    "randn bfloat16": lambda: tg.randn(N, dtype=tg.bfloat16),
    "randint": lambda: tg.randint(-3, 8, (N,)),
    "randperm": lambda: tg.randperm(N),
    "exponential_": lambda: tg.empty(N).exponential_(2.0),
    "multinomial": lambda: tg.multinomial(tg.tensor([1.0, 2.0, 3.0]), N, replacement=True),
    "normal_ through a stride": lambda: tg.zeros(N, 2).t()[1].normal_(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_same_numbers_for_any_thread_count(name):
    threads, seen = tg.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            tg.set_num_threads(n)
            tg.manual_seed(5)
            seen.append(DRAWS[name]())
    finally:
        tg.set_num_threads(threads)
    assert tg.equal(seen[0], seen[1]) and tg.equal(seen[0], seen[2])
    assert not tg.equal(seen[0], DRAWS[name]())  # the generator moved on


# name: (draw, mean, standard deviation)
MOMENTS = {
    "rand": (lambda: tg.rand(N), 0.5, 12**-0.5),
    "rand float16": (lambda: tg.rand(N, dtype=tg.float16), 0.5, 12**-0.5),
    "rand bfloat16": (lambda: tg.rand(N, dtype=tg.bfloat16), 0.5, 12**-0.5),
    "uniform_": (lambda: tg.empty(N).uniform_(-2, 4), 1, 3**0.5),
    "randn": (lambda: tg.randn(N), 0, 1),
    "normal": (lambda: tg.normal(2.0, 3.0, (N,)), 2, 3),
    "normal_": (lambda: tg.empty(N, dtype=tg.float64).normal_(-1, 0.5), -1, 0.5),
    "normal with tensors": (lambda: tg.normal(tg.full((N,), 2.0), tg.full((N,), 0.5)), 2, 0.5),
    "randint": (lambda: tg.randint(0, 10, (N,)), 4.5, 8.25**0.5),
    "random_": (lambda: tg.empty(N, dtype=tg.int32).random_(2, 5), 3, (2 / 3) ** 0.5),
    "bernoulli": (lambda: tg.bernoulli(tg.full((N,), 0.3)), 0.3, 0.21**0.5),
    "bernoulli_": (lambda: tg.empty(N).bernoulli_(0.7), 0.7, 0.21**0.5),
    "exponential_": (lambda: tg.empty(N).exponential_(2.0), 0.5, 0.5),
    "geometric_": (lambda: tg.empty(N).geometric_(0.25), 4, 12**0.5),
    "log_normal_": (lambda: tg.empty(N).log_normal_(0.0, 0.25).log(), 0, 0.25),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name):
    draw, mean, std = MOMENTS[name]
    tg.manual_seed(11)
    x = draw().double().numpy()
    assert abs(x.mean() - mean) < 5 * std / N**0.5 + 1e-3 * (abs(mean) + std) * ("float16" in name)
    assert abs(x.std() - std) < 0.02 * std


def test_cauchy_quartiles():
    tg.manual_seed(0)
    q = np.quantile(tg.empty(N).cauchy_(1.0, 2.0).numpy(), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(q, [-1, 1, 3], atol=0.05)


@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16, tg.float32, tg.float64])
def test_rand_stays_below_one(dtype):
    x = tg.rand(1_000_000, dtype=dtype).double()
    assert 0 <= float(x.min()) and float(x.max()) < 1


def test_randperm_is_a_permutation():
    for n in (0, 1, 2, 1000):
        assert sorted(tg.randperm(n).tolist()) == list(range(n))


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_frequencies(replacement):
    tg.manual_seed(3)
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0])
    rows = tg.tensor(weights).expand(20_000, 5)
    first = tg.multinomial(rows, 3, replacement)[:, 0].numpy()
    np.testing.assert_allclose(np.bincount(first, minlength=5) / 20_000, weights / 8, atol=0.02)
    if not replacement:
        s = tg.multinomial(rows, 3).numpy()
        assert (np.sort(s, axis=1) == [1, 2, 4]).all()


def test_counts():
    tg.manual_seed(0)
    rate = tg.tensor([0.0, 0.5, 30.0]).expand(20000, 3)
    drawn = tg.poisson(rate)
    assert drawn.dtype == tg.float32 and drawn.shape == rate.shape
    np.testing.assert_allclose(drawn.mean(0).numpy(), [0, 0.5, 30], rtol=0.05)
    np.testing.assert_allclose(drawn.var(0).numpy(), [0, 0.5, 30], rtol=0.05)
    drawn = tg.binomial(tg.tensor([10.0, 1.0, 0.0]).expand(20000, 3), tg.tensor(0.25))
    np.testing.assert_allclose(drawn.mean(0).numpy(), [2.5, 0.25, 0], rtol=0.05)
    generators = [tg.Generator().manual_seed(3) for _ in range(2)]
    assert tg.equal(*(tg.poisson(rate, generator=g) for g in generators))
    for wrong in (tg.tensor([-1.0]), tg.tensor([math.nan])):
        with pytest.raises(tg.ValueError, match="poisson: rates"):
            tg.poisson(wrong)
        with pytest.raises(tg.ValueError, match="binomial: "):
            tg.binomial(tg.ones(1), wrong)
    with pytest.raises(tg.DTypeError, match="poisson"):
        tg.poisson(tg.ones(2).long())


def test_one_offset_per_op_whatever_its_size():
    g = tg.Generator()
    g.manual_seed(1)
    tg.rand(1000, generator=g)
    a = tg.rand(3, generator=g)
    g.manual_seed(1)
    tg.rand(2, generator=g)
    assert tg.equal(a, tg.rand(3, generator=g))
