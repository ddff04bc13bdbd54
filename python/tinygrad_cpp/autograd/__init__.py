"""Differentiation: backward and grad over any tensors, functions with their own backward, checks."""

from collections.abc import Callable, Sequence
from typing import Any

from .. import _C
from .._modes import enable_grad, inference_mode, no_grad, set_anomaly, set_grad_enabled
from .._suggest import lazy
from . import function
from .function import Function, once_differentiable
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .variable import Variable

__all__ = [
    "Function",
    "GradcheckError",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
]

Tensor = _C.Tensor
Tensors = Tensor | Sequence[Tensor]


def backward(
    tensors: Tensors,
    grad_tensors: Tensors | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensors | None = None,
) -> None:
    """Adds the gradients of the tensors to the .grad of every leaf, or only of `inputs`."""
    _C._backward(tensors, grad_tensors, retain_graph, create_graph, inputs)


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Tensors | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """Gradients of the outputs with respect to the inputs; no .grad is touched, so only_inputs=False is refused."""
    if not only_inputs or is_grads_batched:
        raise _C.NotImplementedError("grad: only_inputs=False and is_grads_batched=True are not implemented")
    return _C._grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)


class detect_anomaly(set_anomaly):
    """Inside, a NaN in a gradient is an error that shows where the forward call was made."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True)

    def _fresh(self) -> "detect_anomaly":
        return detect_anomaly()


class set_detect_anomaly(set_anomaly):
    """Turns anomaly detection on or off: at once, and inside as a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(mode)
        self._before = _C._set_anomaly(mode)

    def _enter(self) -> Any:
        _C._set_anomaly(self.mode)
        return self._before


__getattr__ = lazy(__name__, globals(), ["anomaly_mode", "functional", "graph", "profiler"])
