"""The gamma distribution and those made of it: Chi2, Beta, Dirichlet, StudentT."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _C, finfo
from ..autograd import Function
from . import constraints
from .continuous import _Scalar
from .distribution import Distribution
from .utils import broadcast_all, from_numpy, numpy_generator, to_numpy

Tensor = _C.Tensor
ops = _C.ops


class _StandardGamma(Function):
    """Draws from Gamma(a, 1); the gradient moves a draw x so that its place in the distribution stays.

    With y = log x and F the distribution function of y, dy/da = -(dF/da) / F'(y), and dF/da is the integral of
    (t - digamma(a)) F'(t) over t below y, or minus that above y. The side is the one where t - digamma(a) keeps its
    sign. With t = y + d the ratio F'(t) / F'(y) is exp(a d - x (e^d - 1)).
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        drawn = numpy_generator().standard_gamma(to_numpy(a))
        x = from_numpy(drawn, a).clamp(min=finfo(a.dtype).tiny)
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        a, x = (t.detach().double().unsqueeze(-1) for t in ctx.saved_tensors)
        start = x.log() - ops.digamma(a)
        below = start < 0
        # as far as the ratio is above e^-40
        down = ops.minimum((40 + x) / a, ops.where(x > 120, ops.sqrt(120 / x), math.inf))
        up = ops.where(x > 1, ops.sqrt(80 / x), ops.log1p(60 / x))
        reach = ops.where(below, -down, up)
        nodes, weights = (from_numpy(v, a) for v in np.polynomial.legendre.leggauss(64))
        d = reach * (nodes + 1) / 2
        terms = (start + d) * ops.exp(a * d - x * ops.expm1(d)) * weights
        slope = x.squeeze(-1) * terms.sum(-1) * reach.squeeze(-1) / 2
        return grad * slope.to(grad.dtype)


def standard_gamma(concentration: Tensor) -> Tensor:
    """One draw from Gamma(a, 1) for each element, with gradients."""
    return _StandardGamma.apply(concentration)


class Gamma(_Scalar):
    """Density proportional to x^(concentration - 1) exp(-rate x)."""

    arg_constraints: Any = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, concentration=concentration, rate=rate)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return standard_gamma(self.concentration.expand(self._extended_shape(sample_shape))) / self.rate

    def log_prob(self, value: Any) -> Tensor:
        value, a, b = self._check_value(value), self.concentration, self.rate
        return ops.xlogy(a, b) + ops.xlogy(a - 1, value) - b * value - ops.lgamma(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - self.rate.log() + ops.lgamma(a) + (1 - a) * ops.digamma(a)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate**2


class Chi2(Gamma):
    """The sum of `df` squared standard normal numbers."""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        (df,) = broadcast_all(df)
        super().__init__(0.5 * df, 0.5, validate_args)
        if self._validate_args:
            self._check("parameter df", constraints.positive, df)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return 2 * self.concentration

    def __repr__(self) -> str:
        return f"Chi2(df: {self.df.item() if self.df.numel() == 1 else self.df.shape})"


class StudentT(_Scalar):
    """A normal number over the root of an independent Chi2(df) / df, scaled and moved."""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    df: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, df=df, loc=loc, scale=scale)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        normal = ops.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        chi2 = 2 * standard_gamma((self.df / 2).expand(shape))
        return self.loc + self.scale * normal * ops.rsqrt(chi2 / self.df)

    def _log_norm(self) -> Tensor:
        n = self.df
        return 0.5 * n.log() + 0.5 * math.log(math.pi) + ops.lgamma(n / 2) - ops.lgamma((n + 1) / 2)

    def log_prob(self, value: Any) -> Tensor:
        z = (self._check_value(value) - self.loc) / self.scale
        return -0.5 * (self.df + 1) * ops.log1p(z**2 / self.df) - self.scale.log() - self._log_norm()

    def entropy(self) -> Tensor:
        n = self.df
        spread = 0.5 * (n + 1) * (ops.digamma((n + 1) / 2) - ops.digamma(n / 2))
        return self.scale.log() + spread + self._log_norm()

    @property
    def mean(self) -> Tensor:
        return ops.where(self.df > 1, self.loc, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        finite = self.scale**2 * self.df / (self.df - 2)
        return ops.where(self.df > 2, finite, ops.where(self.df > 1, math.inf, math.nan).to(finite.dtype))


class Dirichlet(Distribution):
    """Probabilities that sum to 1, of size concentration.shape[-1]."""

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True
    concentration: Tensor

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        if concentration.ndim < 1:
            raise _C.ShapeError("Dirichlet: concentration must have at least one dimension")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        # in double precision, where draws for tiny concentrations do not all vanish
        g = standard_gamma(self.concentration.double().expand(shape))
        return (g / g.sum(-1, keepdim=True)).to(self.concentration.dtype)

    def log_prob(self, value: Any) -> Tensor:
        a = self.concentration
        return ops.xlogy(a - 1, self._check_value(value)).sum(-1) - _log_beta(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        total = a.sum(-1)
        k = a.shape[-1]
        return _log_beta(a) - (k - total) * ops.digamma(total) - ((a - 1) * ops.digamma(a)).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        a = (self.concentration - 1).clamp(min=0)
        inside = a / a.sum(-1, keepdim=True)
        largest = self.concentration.argmax(-1, keepdim=True)
        corner = ops.zeros_like(a).scatter(-1, largest, 1.0)
        return ops.where((self.concentration < 1).all(-1, keepdim=True), corner, inside)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1))


def _log_beta(a: Tensor) -> Tensor:
    """The logarithm of the Dirichlet's normaliser."""
    return ops.lgamma(a).sum(-1) - ops.lgamma(a.sum(-1))


class Beta(_Scalar):
    """A probability with density proportional to x^(concentration1 - 1) (1 - x)^(concentration0 - 1)."""

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True
    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, concentration1=concentration1, concentration0=concentration0)

    def _dirichlet(self) -> Dirichlet:
        return Dirichlet(ops.stack([self.concentration1, self.concentration0], -1), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._dirichlet().rsample(sample_shape)[..., 0]

    def log_prob(self, value: Any) -> Tensor:
        value = self._check_value(value)
        return self._dirichlet().log_prob(ops.stack([value, 1 - value], -1))

    def entropy(self) -> Tensor:
        return self._dirichlet().entropy()

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        return self._dirichlet().mode[..., 0]

    @property
    def variance(self) -> Tensor:
        return self._dirichlet().variance[..., 0]
