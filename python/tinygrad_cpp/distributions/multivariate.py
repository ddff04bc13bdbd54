"""The Gaussian of several dimensions."""

from __future__ import annotations

import math
from typing import Any

from .. import _C
from . import constraints
from .distribution import Distribution
from .utils import lazy_property

Tensor = _C.Tensor
ops = _C.ops


def _solve(lower: Tensor, b: Tensor) -> Tensor:
    """lower^-1 b for every pair of matrices; b may have more batch dimensions."""
    from ..linalg import solve_triangular

    lead = ops.broadcast_tensors(lower[..., 0, 0], b[..., 0, 0])[0].shape
    lower, b = (t.expand([*lead, *t.shape[-2:]]) for t in (lower, b))
    return solve_triangular(lower, b, upper=False)


def half_log_det(lower: Tensor) -> Tensor:
    """log det of a triangular matrix: half of that of the covariance."""
    return lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def squared_length(lower: Tensor, x: Tensor) -> Tensor:
    """x^T (L L^T)^-1 x."""
    return (_solve(lower, x.unsqueeze(-1)).squeeze(-1) ** 2).sum(-1)


class MultivariateNormal(Distribution):
    """Gaussian with mean `loc`, and covariance_matrix, precision_matrix or scale_tril (the lower Cholesky factor).

    Everything is computed with the factor, so scale_tril is the cheapest to give.
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True
    loc: Tensor

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        matrices = {
            "covariance_matrix": covariance_matrix,
            "precision_matrix": precision_matrix,
            "scale_tril": scale_tril,
        }
        given = {k: m for k, m in matrices.items() if m is not None}
        if len(given) != 1:
            raise _C.ValueError("MultivariateNormal: expected exactly one of " + ", ".join(matrices))
        ((name, matrix),) = given.items()
        if loc.ndim < 1 or matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
            raise _C.ShapeError(
                f"MultivariateNormal: expected a vector and a square matrix, got loc {list(loc.shape)} and {name}"
                f" {list(matrix.shape)}"
            )
        k = matrix.shape[-1]
        batch = ops.broadcast_tensors(loc, matrix[..., 0])[0].shape[:-1]
        self.loc = loc.expand([*batch, k])
        self.__dict__[name] = matrix.expand([*batch, k, k])
        super().__init__(batch, (k,), validate_args)

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The lower triangular L with covariance L L^T."""
        from ..linalg import cholesky

        if "covariance_matrix" in self.__dict__:
            return cholesky(self.covariance_matrix)
        # the factor of the reversed precision, reversed, is the inverse of L^T
        upper = cholesky(self.precision_matrix.flip([-2, -1])).flip([-2, -1])
        eye = ops.eye(self.loc.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        return _solve(upper.mT, eye)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """L L^T."""
        return self.scale_tril @ self.scale_tril.mT

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        eye = ops.eye(self.loc.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        inverse = _solve(self.scale_tril, eye)
        return inverse.mT @ inverse

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        z = ops.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self.scale_tril @ z.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Any) -> Tensor:
        distance = squared_length(self.scale_tril, self._check_value(value) - self.loc)
        k = self.loc.shape[-1]
        return -0.5 * (k * math.log(2 * math.pi) + distance) - half_log_det(self.scale_tril)

    def entropy(self) -> Tensor:
        return 0.5 * self.loc.shape[-1] * (1 + math.log(2 * math.pi)) + half_log_det(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale_tril**2).sum(-1)

    def __repr__(self) -> str:
        name = next(k for k in list(self.arg_constraints)[1:] if k in self.__dict__)
        return f"MultivariateNormal(loc: {self.loc.shape}, {name}: {self.__dict__[name].shape})"
