"""The optimizers whose step is a function of each element alone; their rules are in the compiled library.

``foreach``, ``fused`` and ``differentiable`` are accepted for compatibility and change nothing: every step is one fused
pass over the memory of all parameters of a group. ``capturable=True`` lets a CUDA device count the steps of Adam and
AdamW, so that a graph can take them (`cuda.CUDAGraph`); elsewhere it changes nothing.

For parameters stored in float16 or bfloat16, whose updates are often smaller than the spacing of the type:
``master_weights=True`` keeps a float32 copy in the state (``state[p]["master_weight"]``) and steps that;
``stochastic_rounding=True`` keeps none, but rounds each step up or down at random, right on average. The moments are
float32 in both cases.
"""

from __future__ import annotations

from typing import Any

from .optimizer import Optimizer

_HALF = ("master_weights", "stochastic_rounding")  # in the groups of those optimizers only that asked for them


def _settings(arguments: dict[str, Any]) -> dict[str, Any]:
    """The settings among the arguments of a constructor (its ``locals()``)."""
    return {
        name: value
        for name, value in arguments.items()
        if name not in ("self", "params", "__class__") and (value or name not in _HALF)
    }


class SGD(Optimizer):
    """Gradient descent with momentum, dampening, Nesterov momentum and weight decay."""

    _rule = "SGD"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class Adam(Optimizer):
    """Adam: adaptive steps from running means of the gradient and of its square."""

    _rule = "Adam"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters, not on the gradients."""

    _rule = "AdamW"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, **_settings(locals()), decoupled_weight_decay=True)


class Adamax(Optimizer):
    """Adam with the largest gradient, slowly forgotten, in place of the mean of squares."""

    _rule = "Adamax"

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class NAdam(Optimizer):
    """Adam with Nesterov momentum, whose momentum grows over the first steps."""

    _rule = "NAdam"

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class RAdam(Optimizer):
    """Adam that rectifies the variance of its adaptive rate, and uses none in the first steps."""

    _rule = "RAdam"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients."""

    _rule = "RMSprop"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of squared gradients."""

    _rule = "Adagrad"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class Adadelta(Optimizer):
    """Steps scaled by the ratio of running means of squared steps and squared gradients."""

    _rule = "Adadelta"

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class ASGD(Optimizer):
    """Gradient descent with a falling rate; ``state[p]['ax']`` averages the parameter after ``t0`` steps."""

    _rule = "ASGD"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))


class Rprop(Optimizer):
    """Steps by the sign of the gradient, whose size grows while the sign stays and shrinks when it turns."""

    _rule = "Rprop"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))
