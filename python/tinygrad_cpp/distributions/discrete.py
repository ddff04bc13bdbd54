"""Distributions of counts and choices."""

from __future__ import annotations

import math
from typing import Any

from .. import _C
from .._modes import no_grad
from ..nn.functional import binary_cross_entropy_with_logits
from . import constraints
from .distribution import Distribution
from .utils import (
    broadcast_all,
    from_numpy,
    lazy_property,
    logits_to_probs,
    numpy_generator,
    probs_to_logits,
    to_numpy,
    uniform,
)

Tensor = _C.Tensor
ops = _C.ops


def _one_of(name: str, probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise _C.ValueError(f"{name}: expected either probs or logits")


class _Probs(Distribution):
    """Given by `probs` or by `logits`; the other one is computed when asked for."""

    @property
    def _given(self) -> Tensor:
        return self.__dict__.get("probs", self.__dict__.get("logits"))  # type: ignore[return-value]

    @property
    def param_shape(self) -> Any:
        """Sizes of the parameters."""
        return self._given.shape


class _Binary(_Probs):
    """The probability of success, or its logit."""

    arg_constraints: Any = {"probs": constraints.unit_interval, "logits": constraints.real}

    def __init__(self, probs: Any, logits: Any, validate_args: bool | None, **others: Any) -> None:
        _one_of(type(self).__name__, probs, logits)
        given = {"probs": probs} if logits is None else {"logits": logits}
        values = broadcast_all(*given.values(), *others.values())
        self.__dict__.update(zip([*given, *others], values))
        super().__init__(values[0].shape, (), validate_args)

    @lazy_property
    def probs(self) -> Tensor:
        """Probability of success."""
        return logits_to_probs(self.logits, is_binary=True)

    @lazy_property
    def logits(self) -> Tensor:
        """log(probs / (1 - probs))."""
        return probs_to_logits(self.probs, is_binary=True)


class Bernoulli(_Binary):
    """1 with probability `probs`, else 0."""

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return ops.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Tensor:
        logits, value = broadcast_all(self.logits, self._check_value(value))
        return -binary_cross_entropy_with_logits(logits, value.to(logits.dtype), reduction="none")

    def entropy(self) -> Tensor:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = ops.arange(2, dtype=self._given.dtype, device=self._given.device).reshape(
            [2] + [1] * len(self._batch_shape)
        )
        return values.expand([2, *self._batch_shape]) if expand else values

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return ops.where(self.probs == 0.5, math.nan, (self.probs >= 0.5).to(self.probs.dtype))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class Geometric(_Binary):
    """The number of failures before the first success."""

    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, validate_args)
        if self._validate_args and probs is not None and not (self.probs > 0).all():
            raise _C.ValueError(f"Geometric: parameter probs must be above 0, but is {self.probs.detach()}")

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            u = uniform(self._extended_shape(sample_shape), self.probs)
            return (u.log() / ops.log1p(-self.probs)).floor()

    def log_prob(self, value: Any) -> Tensor:
        value, probs = broadcast_all(self._check_value(value), self.probs)
        failures = ops.where((probs == 1) & (value == 0), 0.0, value.to(probs.dtype))  # 0 log 0 is 0
        return failures * ops.log1p(-ops.where(probs == 1, 0.0, probs)) + ops.where(
            (probs == 1) & (value > 0), -math.inf, self.probs.log()
        )

    def entropy(self) -> Tensor:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return ops.zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs


class Binomial(_Binary):
    """The number of successes among `total_count` trials."""

    arg_constraints = {"total_count": constraints.nonnegative_integer, **_Binary.arg_constraints}
    has_enumerate_support = True
    total_count: Tensor

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(probs, logits, validate_args, total_count=total_count)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        n, p = to_numpy(self.total_count).astype(int), to_numpy(self.probs)
        drawn = numpy_generator().binomial(n, p, tuple(self._extended_shape(sample_shape)))
        return from_numpy(drawn, self.probs)

    def log_prob(self, value: Any) -> Tensor:
        value, n, logits = self._check_value(value), self.total_count, self.logits
        ways = ops.lgamma(n + 1) - ops.lgamma(value + 1) - ops.lgamma(n - value + 1)
        return ways + value * logits - n * ops.logaddexp(logits, ops.zeros_like(logits))

    def entropy(self) -> Tensor:
        self._same_count("entropy")
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(log_prob.exp() * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._same_count("enumerate_support")
        values = ops.arange(n + 1, dtype=self._given.dtype, device=self._given.device).reshape(
            [-1] + [1] * len(self._batch_shape)
        )
        return values.expand([-1, *self._batch_shape]) if expand else values

    def _same_count(self, what: str) -> int:
        if not (self.total_count == self.total_count.max()).all():
            raise _C.NotImplementedError(f"Binomial: {what} needs the same total_count everywhere")
        return int(self.total_count.max())

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)


class Poisson(Distribution):
    """The number of events in a unit of time that come `rate` times on average."""

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer
    rate: Tensor

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        return from_numpy(numpy_generator().poisson(to_numpy(self.rate), shape), self.rate)

    def log_prob(self, value: Any) -> Tensor:
        value = self._check_value(value)
        return ops.xlogy(value, self.rate) - self.rate - ops.lgamma(value + 1)

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate


class _Choice(_Probs):
    """Probabilities along the last dimension, or their logarithms up to a constant; both are normalised."""

    arg_constraints: Any = {
        "probs": constraints.independent(constraints.nonnegative, 1),
        "logits": constraints.real_vector,
    }

    def __init__(self, probs: Any, logits: Any, event_shape: Any, validate_args: bool | None) -> None:
        name = type(self).__name__
        _one_of(name, probs, logits)
        given = probs if logits is None else logits
        if not isinstance(given, Tensor) or given.ndim < 1:
            raise _C.ShapeError(f"{name}: probs or logits must be a tensor with at least one dimension")
        if logits is None:
            if (validate_args or (validate_args is None and self._validate_args)) and not (probs.sum(-1) > 0).all():
                raise _C.ValueError(f"{name}: parameter probs must have a positive sum, but is {probs.detach()}")
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = logits - ops.logsumexp(logits, -1, keepdim=True)
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], event_shape(given), validate_args)

    @lazy_property
    def probs(self) -> Tensor:
        """Normalised probabilities."""
        return logits_to_probs(self.logits)

    @lazy_property
    def logits(self) -> Tensor:
        """Logarithms of the normalised probabilities."""
        return probs_to_logits(self.probs)

    def _draw(self, shape: list[int]) -> Tensor:
        """Indices of size shape + batch_shape."""
        with no_grad():
            rows = self.probs.reshape(-1, self._num_events)
            n = math.prod(shape)
            if n == 0 or rows.shape[0] == 0:
                return ops.zeros([*shape, *self._batch_shape], dtype=_C.int64, device=self._given.device)
            return ops.multinomial(rows, n, True).t().reshape([*shape, *self._batch_shape])

    def _one_hot(self, index: Tensor) -> Tensor:
        zeros = ops.zeros([*index.shape, self._num_events], dtype=self._given.dtype, device=self._given.device)
        return zeros.scatter(-1, index.unsqueeze(-1), 1.0)

    def _entropy(self) -> Tensor:
        from .. import finfo

        # 0 log 0 is 0, also for logits of minus infinity
        return -(self.logits.clamp(min=finfo(self.logits.dtype).min) * self.probs).sum(-1)


class Categorical(_Choice):
    """The index of one choice out of several; of dtype int64."""

    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, lambda given: (), validate_args)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self._draw(list(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        index = self._check_value(value).long().unsqueeze(-1)
        shape = _C.ops.broadcast_tensors(index, self.logits[..., :1])[0].shape
        logits = self.logits.expand([*shape[:-1], self._num_events])
        return logits.gather(-1, index.expand(shape)).squeeze(-1)

    def entropy(self) -> Tensor:
        return self._entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = ops.arange(self._num_events, device=self._given.device).reshape([-1] + [1] * len(self._batch_shape))
        return values.expand([-1, *self._batch_shape]) if expand else values

    @property
    def mean(self) -> Tensor:
        return ops.full(list(self._batch_shape), math.nan, dtype=self._given.dtype, device=self._given.device)

    @property
    def mode(self) -> Tensor:
        return self._given.argmax(-1)

    @property
    def variance(self) -> Tensor:
        return self.mean


class OneHotCategorical(_Choice):
    """One choice out of several as a vector that holds 1 at its place and 0 elsewhere."""

    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, lambda given: given.shape[-1:], validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self._one_hot(self._draw(list(sample_shape)))

    def log_prob(self, value: Any) -> Tensor:
        return Categorical(logits=self.logits, validate_args=False).log_prob(self._check_value(value).argmax(-1))

    def entropy(self) -> Tensor:
        return self._entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._num_events
        values = ops.eye(n, dtype=self._given.dtype, device=self._given.device).reshape(
            [n] + [1] * len(self._batch_shape) + [n]
        )
        return values.expand([n, *self._batch_shape, n]) if expand else values

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self._one_hot(self.probs.argmax(-1))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """OneHotCategorical whose samples pass gradients to the probabilities as if they were these."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(_Choice):
    """How often each choice comes up in `total_count` draws."""

    total_count: int

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if isinstance(total_count, Tensor):
            raise _C.NotImplementedError("Multinomial: total_count must be one int, not a tensor")
        self.total_count = total_count
        super().__init__(probs, logits, lambda given: given.shape[-1:], validate_args)

    @property
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        index = self._draw([self.total_count, *sample_shape]).movedim(0, -1)
        counts = ops.zeros(self._extended_shape(sample_shape), dtype=self._given.dtype, device=self._given.device)
        return counts.scatter_add(-1, index, ops.ones_like(index, dtype=counts.dtype))

    def log_prob(self, value: Any) -> Tensor:
        value, logits = broadcast_all(self._check_value(value), self.logits)
        ways = ops.lgamma(value.sum(-1) + 1) - ops.lgamma(value + 1).sum(-1)
        return ways + ops.where((value == 0) & (logits == -math.inf), 0.0, logits * value).sum(-1)

    def entropy(self) -> Tensor:
        n = self.total_count
        each = Binomial(n, probs=self.probs, validate_args=False)
        k = each.enumerate_support(False)[1:]
        repeats = (each.log_prob(k).exp() * ops.lgamma(k + 1)).sum([0, -1])
        return n * self._entropy() - math.lgamma(n + 1) + repeats

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)
