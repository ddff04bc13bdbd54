"""Parametrizations that come ready: weight_norm, spectral_norm, orthogonal."""

from __future__ import annotations

from typing import Any

from ... import _C
from ..._modes import no_grad
from ..functional import normalize
from ..modules.module import Module
from . import parametrize
from .spectral_norm import _default_dim, as_matrix
from .weight_norm import norm_except_dim

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, g: Any, v: Any) -> Any:
        return v * (g / norm_except_dim(v, self.dim))

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """weight = g * v / |v|, norms along ``dim``: parametrizations.<name>.original0 is g, original1 is v."""
    return parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _SpectralNorm(Module):
    def __init__(self, weight: Any, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if n_power_iterations <= 0:
            raise _C.ValueError(f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}")
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim, eps
        if weight.dim() > 1:
            with no_grad():
                matrix = as_matrix(weight, dim)
                start = lambda n: normalize(_C.ops.randn(n, device=weight.device).to(weight.dtype), dim=0, eps=eps)
                self.register_buffer("_u", start(matrix.shape[0]))
                self.register_buffer("_v", start(matrix.shape[1]))
                self._iterate(matrix, 15)

    def _iterate(self, matrix: Any, steps: int) -> None:
        with no_grad():
            for _ in range(steps):
                self._u.copy_(normalize(matrix @ self._v, dim=0, eps=self.eps))
                self._v.copy_(normalize(matrix.t() @ self._u, dim=0, eps=self.eps))

    def forward(self, weight: Any) -> Any:
        if weight.dim() == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # the next call changes the buffers in place
        return weight / (u @ (matrix @ v))

    def right_inverse(self, value: Any) -> Any:
        return value


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """The weight divided by its largest singular value, estimated by power iteration while training."""
    weight = getattr(module, name)
    dim = _default_dim(module) if dim is None else dim
    return parametrize.register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))


class _Orthogonal(Module):
    """Householder reflections of the columns, with the signs that give the first value back."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.register_buffer("base", None)
        self.shape = weight.shape

    def forward(self, x: Any) -> Any:
        tall = x.shape[-2] >= x.shape[-1]
        a = x if tall else x.mT
        n, k = a.shape[-2:]
        eye = _C.ops.eye(n, dtype=a.dtype, device=a.device)
        square = a.tril() if n == k else _C.ops.cat([a.tril(), a.new_zeros((n, n - k))], 1)
        skew = square - square.mT
        q = _C.linalg.solve(eye + skew / 2, eye - skew / 2)[:, :k]
        if self.base is not None:
            q = self.base @ q
        return q if tall else q.mT

    def right_inverse(self, q: Any) -> Any:
        """The first value becomes the base, from which the parameter (zero) turns away."""
        tall = q.shape[-2] >= q.shape[-1]
        base, r = _C.linalg.qr((q if tall else q.mT).detach().to(_C.float64), "complete")
        signs = r.diagonal().sign()
        base[:, : len(signs)] *= signs + (signs == 0)
        self.base = base.to(q.dtype)
        return q.new_zeros(q.shape)


def orthogonal(
    module: Any, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
):
    """A matrix with orthonormal columns (or rows, if fewer), by the Cayley map; it begins with the factor Q
    of the value. ``orthogonal_map`` None or 'cayley'."""
    if orthogonal_map not in (None, "cayley"):
        raise _C.NotImplementedError(f"orthogonal: only the map 'cayley' is implemented, not {orthogonal_map!r}")
    weight = getattr(module, name)
    if weight.dim() != 2:
        raise _C.ValueError(f"orthogonal: expected a matrix, got {weight.dim()} dimensions")
    return parametrize.register_parametrization(module, name, _Orthogonal(weight), unsafe=True)
