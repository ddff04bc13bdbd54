"""Weight normalisation by hooks: weight = weight_g * weight_v / |weight_v|."""

from __future__ import annotations

from typing import Any

from ... import _C
from ..parameter import Parameter

__all__ = ["remove_weight_norm", "weight_norm"]


def norm_except_dim(v: Any, dim: int | None) -> Any:
    """Norms of the slices along ``dim``, one size of which is left; of the whole tensor if None or -1."""
    if dim is None or dim == -1:
        return _C.ops.norm(v)
    others = [d for d in range(v.dim()) if d != dim % v.dim()]
    return (v * v).sum(others, keepdim=True).sqrt() if others else v.abs()


class WeightNorm:
    """The pre-hook that computes the weight anew for each call."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Any) -> Any:
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        return v * (g / norm_except_dim(v, self.dim))

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Replaces the parameter ``name`` by name_g (norms along ``dim``) and name_v (directions)."""
    if _hook_of(module, name):
        raise RuntimeError(f"weight_norm: parameter {name} already has one")
    hook, weight = WeightNorm(name, dim), getattr(module, name)
    del module._parameters[name]
    module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, hook.dim).detach()))
    module.register_parameter(name + "_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Makes ``name`` a parameter again, of the present value."""
    key = _hook_of(module, name)
    if key is None:
        raise ValueError(f"remove_weight_norm: {type(module).__name__} has no weight_norm of {name}")
    weight = module._forward_pre_hooks[key][0].compute_weight(module).detach()
    delattr(module, name)
    del module._parameters[name + "_g"], module._parameters[name + "_v"]
    setattr(module, name, Parameter(weight))
    del module._forward_pre_hooks[key]
    return module


def _hook_of(module: Any, name: str, kind: Any = WeightNorm) -> int | None:
    for key, entry in module._forward_pre_hooks.items():
        if isinstance(entry[0], kind) and entry[0].name == name:
            return key
    return None
