"""What all distributions have in common."""

from __future__ import annotations

from typing import Any

from .. import _C
from .._modes import no_grad
from . import constraints

__all__ = ["Distribution"]

Tensor = _C.Tensor
Size = _C.Size


class Distribution:
    """Random values of size batch_shape + event_shape.

    `batch_shape` counts independent distributions with parameters of their own, `event_shape` is one value of each.
    Parameters are checked against `arg_constraints` and values given to `log_prob` against `support`, unless
    `validate_args=False`; what does not fit is a ValueError.
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: Any = {}
    support: Any = None
    _validate_args = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check parameters and values."""
        Distribution._validate_args = bool(value)

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            for name, constraint in self.arg_constraints.items():
                # what is computed from other parameters need not be checked
                if name in self.__dict__ and not constraints.is_dependent(constraint):
                    self._check(f"parameter {name}", constraint, getattr(self, name))

    def _check(self, what: str, constraint: Any, value: Tensor) -> None:
        if not constraint.check(value).all():
            raise _C.ValueError(f"{type(self).__name__}: {what} must lie in {constraint!r}, but is {value.detach()}")

    def _check_value(self, value: Any) -> Tensor:
        """A value of log_prob or cdf as a tensor, checked."""
        if not isinstance(value, Tensor):
            value = _C.tensor(value, dtype=_C.get_default_dtype() if isinstance(value, float) else None)
        if self._validate_args:
            mine, n = self._batch_shape + self._event_shape, len(self._event_shape)
            broadcast = all(a == b or 1 in (a, b) for a, b in zip(reversed(value.shape), reversed(mine)))
            if not broadcast or list(value.shape[value.ndim - n :]) != list(self._event_shape):
                raise _C.ShapeError(
                    f"{type(self).__name__}: a value of size {list(value.shape)} does not fit batch_shape"
                    f" {list(self._batch_shape)} and event_shape {list(self._event_shape)}"
                )
            if self.support is not None and not constraints.is_dependent(self.support):
                self._check("a value", self.support, value)
        return value

    @property
    def batch_shape(self) -> Any:
        """Sizes over which the parameters vary."""
        return self._batch_shape

    @property
    def event_shape(self) -> Any:
        """Sizes of one value."""
        return self._event_shape

    def _extended_shape(self, sample_shape: Any = ()) -> Any:
        return Size(sample_shape) + self._batch_shape + self._event_shape

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with its parameters expanded to a batch shape."""
        new = object.__new__(type(self)) if _instance is None else _instance
        n = len(self._batch_shape)
        for name, value in self.__dict__.items():
            if isinstance(value, Tensor):
                value = value.expand([*batch_shape, *value.shape[n:]])
            new.__dict__[name] = value
        new._batch_shape = Size(batch_shape)
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Values of size sample_shape + batch_shape + event_shape, without gradients."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Values through which gradients reach the parameters."""
        raise self._lacks("rsample")

    def sample_n(self, n: int) -> Tensor:
        """n values."""
        return self.sample((n,))

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density or probability of values; of size batch_shape."""
        raise self._lacks("log_prob")

    def cdf(self, value: Any) -> Tensor:
        """The probability of being at most the value."""
        raise self._lacks("cdf")

    def icdf(self, value: Any) -> Tensor:
        """The inverse of cdf."""
        raise self._lacks("icdf")

    def entropy(self) -> Tensor:
        """The expected negative log_prob."""
        raise self._lacks("entropy")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, along a new first dimension."""
        raise self._lacks("enumerate_support")

    @property
    def mean(self) -> Tensor:
        """Expected value."""
        raise self._lacks("mean")

    @property
    def mode(self) -> Tensor:
        """Most probable value."""
        raise self._lacks("mode")

    @property
    def variance(self) -> Tensor:
        """Expected squared distance from the mean."""
        raise self._lacks("variance")

    @property
    def stddev(self) -> Tensor:
        """Square root of the variance."""
        return self.variance.sqrt()

    def perplexity(self) -> Tensor:
        """exp of the entropy."""
        return self.entropy().exp()

    def _lacks(self, name: str) -> Exception:
        return _C.NotImplementedError(f"{type(self).__name__}: there is no {name} for this distribution")

    def __repr__(self) -> str:
        shown = (k for k in self.arg_constraints if k in self.__dict__)
        values = ((k, self.__dict__[k]) for k in shown)
        return (
            type(self).__name__
            + "("
            + ", ".join(f"{k}: {v.item() if v.numel() == 1 else v.shape}" for k, v in values)
            + ")"
        )
