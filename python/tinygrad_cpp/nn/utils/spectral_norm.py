"""Spectral normalisation by hooks: weight = weight_orig / its largest singular value."""

from __future__ import annotations

from typing import Any

from ... import _C
from ..._modes import no_grad
from ..functional import normalize
from ..parameter import Parameter
from .weight_norm import _hook_of

__all__ = ["remove_spectral_norm", "spectral_norm"]


def as_matrix(weight: Any, dim: int) -> Any:
    """The weight with ``dim`` in front and the other dimensions joined."""
    return (weight if dim == 0 else weight.movedim(dim, 0)).reshape(weight.shape[dim], -1)


class SpectralNorm:
    """The pre-hook that computes the weight anew for each call."""

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        if n_power_iterations <= 0:
            raise _C.ValueError(f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}")
        self.name, self.dim, self.n_power_iterations, self.eps = name, dim, n_power_iterations, eps

    def compute_weight(self, module: Any, do_power_iteration: bool) -> Any:
        weight, u, v = (getattr(module, self.name + end) for end in ("_orig", "_u", "_v"))
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(normalize(matrix.t() @ u, dim=0, eps=self.eps))
                    u.copy_(normalize(matrix @ v, dim=0, eps=self.eps))
            u, v = u.clone(), v.clone()  # the next call changes the buffers in place
        return weight / (u @ (matrix @ v))

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


def _default_dim(module: Any) -> int:
    return 1 if type(module).__name__.startswith("ConvTranspose") else 0


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Replaces the parameter ``name`` by name_orig, with singular vectors in the buffers name_u and name_v."""
    if _hook_of(module, name, SpectralNorm):
        raise RuntimeError(f"spectral_norm: parameter {name} already has one")
    hook = SpectralNorm(name, n_power_iterations, _default_dim(module) if dim is None else dim, eps)
    weight = getattr(module, name)
    with no_grad():
        matrix = as_matrix(weight, hook.dim)
        u, v = (
            normalize(_C.ops.randn(n, dtype=weight.dtype, device=weight.device), dim=0, eps=eps) for n in matrix.shape
        )
    del module._parameters[name]
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.detach().clone())
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Makes ``name`` a parameter again, of the present value."""
    key = _hook_of(module, name, SpectralNorm)
    if key is None:
        raise ValueError(f"remove_spectral_norm: {type(module).__name__} has no spectral_norm of {name}")
    with no_grad():
        weight = module._forward_pre_hooks[key][0].compute_weight(module, False)
    delattr(module, name)
    delattr(module, name + "_u")
    delattr(module, name + "_v")
    del module._parameters[name + "_orig"]
    module.register_parameter(name, Parameter(weight.detach()))
    del module._forward_pre_hooks[key]
    return module
