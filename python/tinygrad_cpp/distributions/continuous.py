"""Distributions of one real number."""

from __future__ import annotations

import math
from typing import Any

from .. import _C
from . import constraints
from .distribution import Distribution
from .utils import broadcast_all, uniform

Tensor = _C.Tensor
ops = _C.ops

_EULER = 0.57721566490153286060


class _Scalar(Distribution):
    """A distribution whose parameters broadcast and whose values are single numbers."""

    def __init__(self, validate_args: bool | None, **parameters: Any) -> None:
        values = broadcast_all(*parameters.values())
        self.__dict__.update(zip(parameters, values))
        super().__init__(values[0].shape, (), validate_args)


class _LocScale(_Scalar):
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, loc=loc, scale=scale)

    def _standard(self, value: Any) -> Tensor:
        return (self._check_value(value) - self.loc) / self.scale

    def _uniform(self, sample_shape: Any) -> Tensor:
        return uniform(self._extended_shape(sample_shape), self.loc)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc


class Normal(_LocScale):
    """Gaussian with mean `loc` and standard deviation `scale`."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.loc + self.scale * ops.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value: Any) -> Tensor:
        return -(self._standard(value) ** 2) / 2 - self.scale.log() - math.log(2 * math.pi) / 2

    def cdf(self, value: Any) -> Tensor:
        return 0.5 * (1 + ops.erf(self._standard(value) / math.sqrt(2)))

    def icdf(self, value: Any) -> Tensor:
        return self.loc + self.scale * ops.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self) -> Tensor:
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale**2


class Laplace(_LocScale):
    """Density falling off as exp(-|x - loc| / scale)."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        return -ops.log(2 * self.scale) - self._standard(value).abs()

    def cdf(self, value: Any) -> Tensor:
        z = self._standard(value)
        return 0.5 - 0.5 * z.sign() * ops.expm1(-z.abs())

    def icdf(self, value: Any) -> Tensor:
        side = value - 0.5
        return self.loc - self.scale * side.sign() * ops.log1p(-2 * side.abs())

    def entropy(self) -> Tensor:
        return 1 + ops.log(2 * self.scale)

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale**2


class Cauchy(_LocScale):
    """Heavy tails: neither mean nor variance exist."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        return -math.log(math.pi) - self.scale.log() - ops.log1p(self._standard(value) ** 2)

    def cdf(self, value: Any) -> Tensor:
        return ops.atan(self._standard(value)) / math.pi + 0.5

    def icdf(self, value: Any) -> Tensor:
        return self.loc + self.scale * ops.tan(math.pi * (value - 0.5))

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + self.scale.log()

    @property
    def mean(self) -> Tensor:
        return ops.full_like(self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        return ops.full_like(self.loc, math.inf)


class Gumbel(_LocScale):
    """The largest of many exponential-tailed numbers."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        z = self._standard(value)
        return -z - ops.exp(-z) - self.scale.log()

    def cdf(self, value: Any) -> Tensor:
        return ops.exp(-ops.exp(-self._standard(value)))

    def icdf(self, value: Any) -> Tensor:
        return self.loc - self.scale * ops.log(-ops.log(value))

    def entropy(self) -> Tensor:
        return self.scale.log() + 1 + _EULER

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * _EULER

    @property
    def variance(self) -> Tensor:
        return (math.pi * self.scale) ** 2 / 6


class Uniform(_Scalar):
    """The same density anywhere in [low, high)."""

    arg_constraints = {"low": constraints.dependent, "high": constraints.dependent}
    has_rsample = True
    low: Tensor
    high: Tensor

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, low=low, high=high)
        if self._validate_args and not (self.low < self.high).all():
            raise _C.ValueError(f"Uniform: low must be below high, got {self.low.detach()} and {self.high.detach()}")

    @property
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = ops.rand(self._extended_shape(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Tensor:
        value = self._check_value(value)
        inside = (self.low <= value) & (value < self.high)
        return inside.to(self.low.dtype).log() - ops.log(self.high - self.low)

    def cdf(self, value: Any) -> Tensor:
        return ((self._check_value(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Tensor:
        return self.low + value * (self.high - self.low)

    def entropy(self) -> Tensor:
        return ops.log(self.high - self.low)

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        return ops.full_like(self.low, math.nan)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / math.sqrt(12)


class Exponential(_Scalar):
    """Waiting times of events that come `rate` times per unit."""

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    rate: Tensor

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, rate=rate)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(uniform(self._extended_shape(sample_shape), self.rate))

    def log_prob(self, value: Any) -> Tensor:
        return self.rate.log() - self.rate * self._check_value(value)

    def cdf(self, value: Any) -> Tensor:
        return -ops.expm1(-self.rate * self._check_value(value))

    def icdf(self, value: Any) -> Tensor:
        return -ops.log1p(-value) / self.rate

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return ops.zeros_like(self.rate)

    @property
    def stddev(self) -> Tensor:
        return 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate**-2
