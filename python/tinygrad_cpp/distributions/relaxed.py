"""Continuous stand-ins for choices, through which gradients reach the probabilities."""

from __future__ import annotations

import math
from typing import Any

from .. import _C
from . import constraints
from .derived import TransformedDistribution
from .discrete import _Binary, _Choice
from .transforms import ExpTransform, SigmoidTransform
from .utils import broadcast_all, uniform

Tensor = _C.Tensor
ops = _C.ops


def _number(temperature: Any) -> float:
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise _C.NotImplementedError("relaxed distributions: the temperature is a number and gets no gradient")
    return float(temperature)


class LogitRelaxedBernoulli(_Binary):
    """Logits of RelaxedBernoulli."""

    support = constraints.real
    has_rsample = True

    def __init__(
        self, temperature: float, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.temperature = _number(temperature)
        super().__init__(probs, logits, validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = uniform(self._extended_shape(sample_shape), self.logits)
        return (u.log() - ops.log1p(-u) + self.logits) / self.temperature

    def log_prob(self, value: Any) -> Tensor:
        logits, value = broadcast_all(self.logits, self._check_value(value))
        d = logits - value * self.temperature
        return math.log(self.temperature) + d - 2 * ops.logaddexp(d, ops.zeros_like(d))


class _Relaxed(TransformedDistribution):
    """A base distribution behind a transform, with the names of its parameters."""

    @property
    def temperature(self) -> float:
        """The lower, the closer to a choice."""
        return self.base_dist.temperature

    @property
    def probs(self) -> Tensor:
        """Probabilities of the choices."""
        return self.base_dist.probs

    @property
    def logits(self) -> Tensor:
        """Their logits."""
        return self.base_dist.logits


class RelaxedBernoulli(_Relaxed):
    """A number in (0, 1) that is close to 0 or 1 if `temperature` is low."""

    def __init__(
        self, temperature: float, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(LogitRelaxedBernoulli(temperature, probs, logits, validate_args), SigmoidTransform())


class ExpRelaxedCategorical(_Choice):
    """Logarithms of RelaxedOneHotCategorical."""

    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, temperature: float, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.temperature = _number(temperature)
        super().__init__(probs, logits, lambda given: given.shape[-1:], validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = uniform(self._extended_shape(sample_shape), self.logits)
        return ops.log_softmax((self.logits - ops.log(-u.log())) / self.temperature, -1)

    def log_prob(self, value: Any) -> Tensor:
        logits, value = broadcast_all(self.logits, self._check_value(value))
        k = self._num_events
        scale = math.lgamma(k) + (k - 1) * math.log(self.temperature)
        return ops.log_softmax(logits - value * self.temperature, -1).sum(-1) + scale


class RelaxedOneHotCategorical(_Relaxed):
    """Positive numbers that sum to 1, close to one choice if `temperature` is low."""

    def __init__(
        self, temperature: float, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(ExpRelaxedCategorical(temperature, probs, logits, validate_args), ExpTransform())
