"""Distributions made of others: independent dimensions, transformed values, mixtures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import _C
from .._modes import no_grad
from . import constraints
from .continuous import Normal
from .discrete import Categorical
from .distribution import Distribution
from .transforms import AbsTransform, ComposeTransform, ExpTransform, Transform
from .utils import sum_rightmost

Tensor = _C.Tensor
ops = _C.ops


class Independent(Distribution):
    """Counts the last batch dimensions of a distribution to its event: their log probabilities are summed."""

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, base_distribution: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        base, n = base_distribution, reinterpreted_batch_ndims
        if not 0 <= n <= len(base.batch_shape):
            raise _C.ValueError(
                f"Independent: cannot count {n} dimensions to the event, batch_shape is {list(base.batch_shape)}"
            )
        self.base_dist = base
        self.reinterpreted_batch_ndims = n
        split = len(base.batch_shape) - n
        super().__init__(base.batch_shape[:split], base.batch_shape[split:] + base.event_shape, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        inner = self._event_shape[: self.reinterpreted_batch_ndims]
        base = self.base_dist.expand([*batch_shape, *inner])
        return Independent(base, self.reinterpreted_batch_ndims, validate_args=self._validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support

    @property
    def support(self) -> Any:
        return constraints.independent(self.base_dist.support, self.reinterpreted_batch_ndims)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        if self.reinterpreted_batch_ndims:
            raise _C.NotImplementedError("Independent: enumerating several dimensions together is not supported")
        return self.base_dist.enumerate_support(expand)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """The distribution of t(x) with x from another distribution."""

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        base_distribution: Any,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        parts = [transforms] if isinstance(transforms, Transform) else list(transforms)
        if not all(isinstance(t, Transform) for t in parts):
            raise _C.ValueError(f"TransformedDistribution: expected transforms, got {transforms!r}")
        base = base_distribution
        extra = max((t.event_dim for t in parts), default=0) - len(base.event_shape)
        if extra > 0:
            base = Independent(base, extra)
        self.base_dist = base
        self.transforms = parts
        super().__init__(base.batch_shape, base.event_shape, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        new.base_dist = self.base_dist.expand(batch_shape)
        new._batch_shape = _C.Size(batch_shape)
        return new

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        codomain = self.transforms[-1].codomain
        extra = len(self._event_shape) - codomain.event_dim
        return constraints.independent(codomain, extra) if extra else codomain

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return ComposeTransform(self.transforms)(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return ComposeTransform(self.transforms)(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        y = self._check_value(value)
        total: Any = 0.0
        for t in reversed(self.transforms):
            x = t._inv_call(y)
            total = total - sum_rightmost(t.log_abs_det_jacobian(x, y), len(self._event_shape) - t.event_dim)
            y = x
        return self.base_dist.log_prob(y) + total

    def _sign(self) -> Any:
        return math.prod(t.sign for t in self.transforms)

    def cdf(self, value: Any) -> Tensor:
        p = self.base_dist.cdf(ComposeTransform(self.transforms)._inv_call(self._check_value(value)))
        return self._sign() * (p - 0.5) + 0.5

    def icdf(self, value: Any) -> Tensor:
        p = self._sign() * (value - 0.5) + 0.5
        return ComposeTransform(self.transforms)(self.base_dist.icdf(p))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_dist}, {self.transforms})"


class LogNormal(TransformedDistribution):
    """exp of a normal number with mean `loc` and standard deviation `scale`."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(loc, scale, validate_args), ExpTransform(), validate_args)

    @property
    def loc(self) -> Tensor:
        """Mean of the logarithm."""
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the logarithm."""
        return self.base_dist.scale

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc

    @property
    def mean(self) -> Tensor:
        return ops.exp(self.loc + self.scale**2 / 2)

    @property
    def mode(self) -> Tensor:
        return ops.exp(self.loc - self.scale**2)

    @property
    def variance(self) -> Tensor:
        s2 = self.scale**2
        return ops.expm1(s2) * ops.exp(2 * self.loc + s2)

    def __repr__(self) -> str:
        return f"LogNormal{str(self.base_dist).removeprefix('Normal')}"


class HalfNormal(TransformedDistribution):
    """The size of a normal number with mean 0 and standard deviation `scale`."""

    arg_constraints = {"scale": constraints.positive}

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(0, scale, validate_args), AbsTransform(), validate_args)

    @property
    def scale(self) -> Tensor:
        """Standard deviation before the sign is dropped."""
        return self.base_dist.scale

    def log_prob(self, value: Any) -> Tensor:
        return self.base_dist.log_prob(self._check_value(value)) + math.log(2)

    def cdf(self, value: Any) -> Tensor:
        return 2 * self.base_dist.cdf(self._check_value(value)) - 1

    def icdf(self, value: Any) -> Tensor:
        return self.base_dist.icdf((value + 1) / 2)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def mode(self) -> Tensor:
        return ops.zeros_like(self.scale)

    @property
    def variance(self) -> Tensor:
        return self.scale**2 * (1 - 2 / math.pi)

    def __repr__(self) -> str:
        return f"HalfNormal(scale: {self.scale.item() if self.scale.numel() == 1 else self.scale.shape})"


class MixtureSameFamily(Distribution):
    """One of several distributions of a family, chosen by a Categorical over their last batch dimension."""

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, mixture_distribution: Categorical, component_distribution: Any, validate_args: bool | None = None
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise _C.ValueError("MixtureSameFamily: the mixture distribution must be a Categorical")
        parts = component_distribution
        if parts.batch_shape[-1:] != (mixture_distribution._num_events,):
            raise _C.ShapeError(
                f"MixtureSameFamily: {mixture_distribution._num_events} weights for components of batch_shape"
                f" {list(parts.batch_shape)}"
            )
        self.mixture_distribution = mixture_distribution
        self.component_distribution = parts
        super().__init__(parts.batch_shape[:-1], parts.event_shape, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        k = self.mixture_distribution._num_events
        parts = self.component_distribution.expand([*batch_shape, k])
        return MixtureSameFamily(self.mixture_distribution.expand(batch_shape), parts, self._validate_args)

    @property
    def support(self) -> Any:
        return constraints.dependent

    def _event(self, x: Tensor) -> Tensor:
        """Weights or indices with a dimension for each of the event's."""
        return x.reshape([*x.shape, *[1] * len(self._event_shape)])

    @property
    def _at(self) -> int:
        return -1 - len(self._event_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            index = self.mixture_distribution.expand(self._batch_shape).sample(sample_shape)
            all_parts = self.component_distribution.sample(sample_shape)
            index = self._event(index.unsqueeze(-1))
            shape = list(all_parts.shape)
            shape[self._at] = 1
            return all_parts.gather(self._at % len(shape), index.expand(shape)).squeeze(self._at)

    def log_prob(self, value: Any) -> Tensor:
        each = self.component_distribution.log_prob(self._check_value(value).unsqueeze(self._at))
        return ops.logsumexp(each + self.mixture_distribution.logits, -1)

    def cdf(self, value: Any) -> Tensor:
        each = self.component_distribution.cdf(self._check_value(value).unsqueeze(self._at))
        return (each * self.mixture_distribution.probs).sum(-1)

    @property
    def mean(self) -> Tensor:
        weights = self._event(self.mixture_distribution.probs)
        return (weights * self.component_distribution.mean).sum(self._at)

    @property
    def variance(self) -> Tensor:
        weights, parts = self._event(self.mixture_distribution.probs), self.component_distribution
        between = (parts.mean - self.mean.unsqueeze(self._at)) ** 2
        return (weights * (parts.variance + between)).sum(self._at)

    def __repr__(self) -> str:
        return f"MixtureSameFamily({self.mixture_distribution}, {self.component_distribution})"
