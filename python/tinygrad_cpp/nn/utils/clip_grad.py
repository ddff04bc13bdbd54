"""Clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ... import _C
from ..._C import Tensor
from ..._modes import no_grad

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _tensors(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales the gradients in place so that their norm, taken as one vector, is at most max_norm; returns the norm."""
    return _C.clip_grad_norm_(_tensors(parameters), max_norm, norm_type, error_if_nonfinite)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Limits every element of the gradients to [-clip_value, clip_value]."""
    _C.clip_grad_value_(_tensors(parameters), clip_value)


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of the tensors together, 0-d."""
    norms = [_C.ops.norm(t, norm_type) for t in _tensors(tensors)]
    if not norms:
        return _C.tensor(0.0)
    total = _C.ops.norm(_C.ops.stack([n.to(norms[0].device) for n in norms]), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"get_total_norm: the norm of order {norm_type} is not finite")
    return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scales gradients, in place, by max_norm / total_norm where that is less than 1."""
    parameters = _tensors(parameters)
    _C._check_unscaled(parameters, "clip_grads_with_norm_")
    scale = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    with no_grad():
        for p in parameters:
            if p.grad is not None:
                p.grad.mul_(scale.to(p.grad.device))


def clip_grad_norm(*args: Any, **kwargs: Any) -> Tensor:
    """The old name of clip_grad_norm_."""
    return clip_grad_norm_(*args, **kwargs)
