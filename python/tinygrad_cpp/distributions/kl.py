"""Kullback-Leibler divergences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import _C
from .continuous import Cauchy, Exponential, Gumbel, Laplace, Normal, Uniform
from .derived import HalfNormal, Independent, LogNormal, TransformedDistribution
from .discrete import Bernoulli, Binomial, Categorical, Geometric, Multinomial, OneHotCategorical, Poisson
from .distribution import Distribution
from .gamma import Beta, Dirichlet, Gamma
from .multivariate import MultivariateNormal, _solve, half_log_det, squared_length
from .utils import sum_rightmost

__all__ = ["kl_divergence", "register_kl"]

Tensor = _C.Tensor
ops = _C.ops

_TABLE: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Callable[[Any, Any], Tensor]], Callable[[Any, Any], Tensor]]:
    """Decorator of a function of (p, q) that kl_divergence is to use for these classes and those derived from them."""
    for t in (type_p, type_q):
        if not (isinstance(t, type) and issubclass(t, Distribution)):
            raise _C.TypeError(f"register_kl: expected classes of distributions, got {t!r}")

    def decorator(fn: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
        _TABLE[type_p, type_q] = fn
        return fn

    return decorator


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The expectation under p of log p - log q, of size batch_shape."""
    # the nearest pair of base classes
    pairs = (
        (i + j, _TABLE[a, b])
        for i, a in enumerate(type(p).__mro__)
        for j, b in enumerate(type(q).__mro__)
        if (a, b) in _TABLE
    )
    found = min(pairs, key=lambda pair: pair[0], default=None)
    if found is None:
        raise _C.NotImplementedError(
            f"kl_divergence: there is none between {type(p).__name__} and {type(q).__name__}; see register_kl"
        )
    return found[1](p, q)


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    trace = (_solve(q.scale_tril, p.scale_tril) ** 2).sum([-2, -1])
    distance = squared_length(q.scale_tril, q.loc - p.loc)
    return half_log_det(q.scale_tril) - half_log_det(p.scale_tril) + 0.5 * (trace + distance - p.event_shape[0])


@register_kl(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Tensor:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * ops.exp(-distance / p.scale) - 1


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    both = (p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2
    return both.log() - (4 * p.scale * q.scale).log()


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    euler = 0.57721566490153286060
    return -ratio.log() + shift + ratio * euler + ops.exp(-shift + ops.lgamma(1 + ratio)) - (1 + euler)


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    inside = (q.low <= p.low) & (p.high <= q.high)
    return ops.where(inside, ops.log((q.high - q.low) / (p.high - p.low)), math.inf)


@register_kl(Uniform, Normal)
def _uniform_normal(p: Uniform, q: Normal) -> Tensor:
    spread = p.variance + (p.mean - q.loc) ** 2
    return 0.5 * math.log(2 * math.pi) + q.scale.log() - p.entropy() + 0.5 * spread / q.scale**2


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    return (
        b * ops.log(p.rate / q.rate)
        + ops.lgamma(b)
        - ops.lgamma(a)
        + (a - b) * ops.digamma(a)
        + (q.rate - p.rate) * a / p.rate
    )


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    totals = ops.lgamma(a.sum(-1)) - ops.lgamma(b.sum(-1))
    mean_log = ops.digamma(a) - ops.digamma(a.sum(-1, keepdim=True))
    return totals - (ops.lgamma(a) - ops.lgamma(b)).sum(-1) + ((a - b) * mean_log).sum(-1)


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    return _dirichlet(p._dirichlet(), q._dirichlet())


def _times_log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """a log(a / b), which is 0 for a = 0 and infinite where only b is 0."""
    return ops.xlogy(a, a) - ops.xlogy(a, b)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    return _times_log_ratio(p.probs, q.probs) + _times_log_ratio(1 - p.probs, 1 - q.probs)


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Tensor:
    if not (p.total_count == q.total_count).all():
        raise _C.NotImplementedError("kl_divergence: between Binomials it needs the same total_count")
    return p.total_count * (p.probs * (p.logits - q.logits) + ops.log1p(-p.probs) - ops.log1p(-q.probs))


@register_kl(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - ops.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Categorical, Categorical)
@register_kl(OneHotCategorical, OneHotCategorical)
def _categorical(p: Any, q: Any) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = ops.where((q.probs == 0).expand(terms.shape), math.inf, terms)
    return ops.where((p.probs == 0).expand(terms.shape), 0.0, terms).sum(-1)


@register_kl(Multinomial, Multinomial)
def _multinomial(p: Multinomial, q: Multinomial) -> Tensor:
    if p.total_count != q.total_count:
        raise _C.NotImplementedError("kl_divergence: between Multinomials it needs the same total_count")
    return p.total_count * _categorical(p, q)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise _C.NotImplementedError("kl_divergence: between Independents it needs the same number of dimensions")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(LogNormal, LogNormal)
@register_kl(HalfNormal, HalfNormal)
@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise _C.NotImplementedError("kl_divergence: between transformed distributions it needs the same transforms")
    return kl_divergence(p.base_dist, q.base_dist)
