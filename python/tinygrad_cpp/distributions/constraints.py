"""Sets of values: what parameters may be, and what samples are."""

from __future__ import annotations

from typing import Any

from .. import _C

Tensor = _C.Tensor
ops = _C.ops


class Constraint:
    """A set; `check(value)` says for every event (the last `event_dim` dimensions) whether it lies inside."""

    is_discrete = False
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        raise _C.NotImplementedError(f"{type(self).__name__}: check is not defined")

    def __repr__(self) -> str:
        return type(self).__name__.lstrip("_") + "()"


class Dependent(Constraint):
    """A set that depends on other parameters."""

    def __init__(self, *, is_discrete: bool = False, event_dim: int = 0) -> None:
        self.is_discrete = is_discrete
        self.event_dim = event_dim

    def check(self, value: Tensor) -> Tensor:
        raise _C.ValueError("Dependent: a constraint that depends on other values cannot be checked")


class Interval(Constraint):
    """Numbers between two bounds, of which None is none, and which may be excluded."""

    def __init__(
        self, lower: Any = None, upper: Any = None, *, open_left: bool = False, open_right: bool = False
    ) -> None:
        self.lower_bound = lower
        self.upper_bound = upper
        self.open = open_left, open_right

    def check(self, value: Tensor) -> Tensor:
        inside = value == value  # not NaN
        if self.lower_bound is not None:
            inside = inside & (value > self.lower_bound if self.open[0] else value >= self.lower_bound)
        if self.upper_bound is not None:
            inside = inside & (value < self.upper_bound if self.open[1] else value <= self.upper_bound)
        return inside

    def __repr__(self) -> str:
        low, high = self.lower_bound, self.upper_bound
        left = "(-inf" if low is None else f"{'(' if self.open[0] else '['}{low}"
        right = "inf)" if high is None else f"{high}{')' if self.open[1] else ']'}"
        return f"numbers in {left}, {right}"


class IntegerInterval(Interval):
    """Whole numbers between two bounds."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return super().check(value) & (value % 1 == 0)

    def __repr__(self) -> str:
        return "whole " + super().__repr__()


class Independent(Constraint):
    """Another set with more dimensions counted to the event."""

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int) -> None:
        self.base_constraint = base_constraint
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        self.is_discrete = base_constraint.is_discrete
        self.event_dim = base_constraint.event_dim + reinterpreted_batch_ndims

    def check(self, value: Tensor) -> Tensor:
        inside = self.base_constraint.check(value)
        return inside.flatten(inside.ndim - self.reinterpreted_batch_ndims).all(-1) if self.event_dim else inside

    def __repr__(self) -> str:
        return f"{self.base_constraint!r} over {self.reinterpreted_batch_ndims} dimensions"


class _Simplex(Constraint):
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)


class _OneHot(Constraint):
    event_dim = 1
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


class Multinomial(Constraint):
    """Counts that sum to at most `upper_bound`."""

    event_dim = 1
    is_discrete = True

    def __init__(self, upper_bound: Any) -> None:
        self.upper_bound = upper_bound

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (value % 1 == 0).all(-1) & (value.sum(-1) <= self.upper_bound)


class _LowerCholesky(Constraint):
    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        lower = (value.tril() == value).flatten(-2).all(-1)
        return lower & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


class _Symmetric(Constraint):
    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        return ops.isclose(value, value.mT, atol=1e-6).flatten(-2).all(-1)


class _PositiveDefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        from ..linalg import eigvalsh

        symmetric = super().check(value)
        return symmetric & (eigvalsh(value.detach()) > 0).all(-1)


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers above a bound."""
    return Interval(lower_bound, open_left=True)


def greater_than_eq(lower_bound: Any) -> Constraint:
    """Numbers from a bound on."""
    return Interval(lower_bound)


def less_than(upper_bound: Any) -> Constraint:
    """Numbers below a bound."""
    return Interval(upper=upper_bound, open_right=True)


def half_open_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers from a bound on and below another."""
    return Interval(lower_bound, upper_bound, open_right=True)


dependent = Dependent()
interval = Interval
integer_interval = IntegerInterval
independent = Independent
multinomial = Multinomial
real = Interval()
real_vector = Independent(real, 1)
positive = greater_than(0.0)
nonnegative = greater_than_eq(0.0)
unit_interval = Interval(0.0, 1.0)
boolean = IntegerInterval(0, 1)
nonnegative_integer = IntegerInterval(0)
positive_integer = IntegerInterval(1)
simplex = _Simplex()
one_hot = _OneHot()
lower_cholesky = _LowerCholesky()
symmetric = _Symmetric()
positive_definite = _PositiveDefinite()


def is_dependent(constraint: Constraint) -> bool:
    """Whether a set depends on other values."""
    return isinstance(constraint, Dependent)
