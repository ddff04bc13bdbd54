"""Learning-rate schedulers. The formulas are in the compiled library, shared with C++; here they meet the optimizer's
groups. Call ``scheduler.step()`` after ``optimizer.step()``."""

from __future__ import annotations

import math
import types
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from .. import _C
from .._suggest import lazy as _lazy
from ._lr_base import LRScheduler, _FormulaLR, _LRScheduler, _schedule, _set_rate
from ._lr_cycles import CyclicLR, OneCycleLR
from .optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "_LRScheduler",
]


class StepLR(_FormulaLR):
    """Times gamma every step_size epochs."""

    _formula = "step"
    _stands_on_resume = False

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return self.step_size, self.gamma


class MultiStepLR(_FormulaLR):
    """Times gamma at each milestone."""

    _formula = "multi_step"
    _stands_on_resume = False

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return list(self.milestones.elements()), self.gamma


class ConstantLR(_FormulaLR):
    """Times factor for the first total_iters epochs."""

    _formula = "constant"
    _stands_on_resume = False

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= factor <= 1:
            raise _C.ValueError("Constant multiplicative factor expected to be between 0 and 1.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return self.factor, self.total_iters


class LinearLR(_FormulaLR):
    """Times a factor that goes from start_factor to end_factor in total_iters epochs."""

    _formula = "linear"

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise _C.ValueError("Starting multiplicative factor expected to be greater than 0 and less or equal to 1.")
        if not 0 <= end_factor <= 1:
            raise _C.ValueError("Ending multiplicative factor expected to be between 0 and 1.")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return self.start_factor, self.end_factor, self.total_iters


class ExponentialLR(_FormulaLR):
    """Times gamma every epoch."""

    _formula = "exponential"

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return (self.gamma,)


class PolynomialLR(_FormulaLR):
    """Down to 0 in total_iters epochs, as (1 - epoch / total_iters) ** power."""

    _formula = "polynomial"

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return self.total_iters, self.power


class CosineAnnealingLR(_FormulaLR):
    """Half a cosine from the initial rate to eta_min in T_max epochs, and back."""

    _formula = "cosine"

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _settings(self) -> tuple:
        return self.T_max, self.eta_min

    def get_lr(self) -> list[float]:
        if self._resumes():
            return self._present()
        rates = zip(self._present(), map(float, self.base_lrs))
        return [_schedule.cosine_next(lr, base, self.last_epoch, self.T_max, self.eta_min) for lr, base in rates]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing that starts again after T_0 epochs, each run T_mult times as long as the one before."""

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if T_0 <= 0 or not isinstance(T_0, int):
            raise _C.ValueError(f"Expected positive integer T_0, but got {T_0}")
        if T_mult < 1 or not isinstance(T_mult, int):
            raise _C.ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, float(last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [_schedule.cosine_at(float(base), self.T_cur, self.T_i, self.eta_min) for base in self.base_lrs]

    def _update_lr(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch >= 0:  # as PyTorch: counted from where the last run left T_cur
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            self.T_cur, self.T_i = _schedule.restart_at(epoch, self.T_0, self.T_mult)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())


def _functions(optimizer: Optimizer, lr_lambda: Any) -> list[Callable[[int], float]]:
    """One function per group."""
    n = len(optimizer.param_groups)
    if not isinstance(lr_lambda, (list, tuple)):
        return [lr_lambda] * n
    if len(lr_lambda) != n:
        raise _C.ValueError(f"Expected {n} lr_lambdas, but got {len(lr_lambda)}")
    return list(lr_lambda)


class LambdaLR(LRScheduler):
    """The initial rate times a function of the epoch."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _functions(optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [float(base) * f(self.last_epoch) for f, base in zip(self.lr_lambdas, self.base_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """Functions are left out; of callable objects the attributes are kept."""
        plain = types.FunctionType
        state = super().state_dict()
        state["lr_lambdas"] = [None if isinstance(f, plain) else dict(f.__dict__) for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for f, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if saved is not None:
                f.__dict__.update(saved)


class MultiplicativeLR(LambdaLR):
    """The present rate times a function of the epoch."""

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._present()
        return [lr * f(self.last_epoch) for f, lr in zip(self.lr_lambdas, self._present())]


class ReduceLROnPlateau(LRScheduler):
    """Times factor when the metric given to ``step`` has not improved for `patience` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise _C.ValueError("Factor should be < 1.0.")
        if not isinstance(optimizer, Optimizer):
            raise _C.TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        if mode not in ("min", "max"):
            raise _C.ValueError(f"mode {mode} is unknown!")
        if threshold_mode not in ("rel", "abs"):
            raise _C.ValueError(f"threshold mode {threshold_mode} is unknown!")
        n = len(optimizer.param_groups)
        if isinstance(min_lr, (list, tuple)) and len(min_lr) != n:
            raise _C.ValueError(f"expected {n} min_lrs, got {len(min_lr)}")
        self.optimizer, self.factor, self.eps = optimizer, factor, eps
        self.min_lrs = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * n
        self.mode, self.threshold_mode = mode, threshold_mode
        self.last_epoch = 0
        self._plateau = _schedule.Plateau(mode == "min", threshold_mode == "rel", threshold, patience, cooldown)
        self._last_lr = self._present()

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._plateau.update(float(metrics)):
            lowest = self.min_lrs + [0.0] * (len(self.optimizer.param_groups) - len(self.min_lrs))
            for group, bound in zip(self.optimizer.param_groups, lowest):
                lr = max(float(group["lr"]) * self.factor, bound)
                if float(group["lr"]) - lr > self.eps:
                    _set_rate(group, lr)
        self._last_lr = self._present()

    @property
    def in_cooldown(self) -> bool:
        return self._plateau.cooldown_counter > 0

    _watched = ("best", "num_bad_epochs", "cooldown_counter", "patience", "cooldown", "threshold")

    def __getattr__(self, name: str) -> Any:
        if name in self._watched:
            return getattr(self._plateau, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._watched:
            setattr(self._plateau, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.state_dict(), "optimizer": self.optimizer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("optimizer", "_plateau")}
        return {**state, **{name: getattr(self._plateau, name) for name in self._watched}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        mode, kind = state_dict["mode"], state_dict["threshold_mode"]
        watched = {name: state_dict[name] for name in self._watched}
        self._plateau = _schedule.Plateau(
            mode == "min", kind == "rel", watched["threshold"], watched["patience"], watched["cooldown"]
        )
        for name, value in state_dict.items():
            setattr(self, name, value)


class SequentialLR(LRScheduler):
    """One scheduler after another: the k-th (from 1 on) takes over at milestones[k - 1], with its epoch 0."""

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise _C.ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got {len(schedulers)} schedulers and {len(milestones)} milestones"
            )
        for s in schedulers:
            if isinstance(s, ReduceLROnPlateau):
                raise _C.ValueError("SequentialLR does not support `ReduceLROnPlateau`: its step takes a metric")
            if s.optimizer is not optimizer:
                raise _C.ValueError("SequentialLR expects all schedulers to belong to the same optimizer")
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.optimizer = optimizer
        self.last_epoch = last_epoch + 1
        # the constructors of the schedulers have each set the rates: start again with the first
        for group in optimizer.param_groups:
            _set_rate(group, float(group["initial_lr"]))
        self._undo_step()
        self._schedulers[0]._initial_step()
        self._last_lr = schedulers[0].get_last_lr()

    def _undo_step(self) -> None:
        for s in self._schedulers:
            if isinstance(s, SequentialLR):
                s._undo_step()
            else:
                s.last_epoch -= 1

    def _update_lr(self, epoch: int | None = None) -> None:
        """Goes to an epoch counted by this sequence (a sequence inside another starts at 0)."""
        if epoch is None:
            return self.step()
        self.last_epoch = epoch
        k = bisect_right(self._milestones, epoch)
        self._schedulers[k]._update_lr(epoch - ([0] + self._milestones)[k])
        self._last_lr = self._schedulers[k].get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        self.last_epoch += 1
        k = bisect_right(self._milestones, self.last_epoch)
        if k > 0 and self._milestones[k - 1] == self.last_epoch:
            self._schedulers[k]._update_lr(0)
        else:
            self._schedulers[k].step()
        self._last_lr = self._schedulers[k].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("optimizer", "_schedulers")}
        state["_schedulers"] = [s.state_dict() for s in self._schedulers]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for s, saved in zip(self._schedulers, state_dict["_schedulers"]):
            s.load_state_dict(saved)


class ChainedScheduler(LRScheduler):
    """Several schedulers stepped together, each from the rate that the one before left."""

    def __init__(self, schedulers: list[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise _C.ValueError("ChainedScheduler expects at least one scheduler to be chained, but got no scheduler.")
        self.optimizer = optimizer or schedulers[0].optimizer
        if any(s.optimizer is not self.optimizer for s in schedulers):
            raise _C.ValueError("ChainedScheduler expects all schedulers to belong to the same optimizer")
        self._schedulers = list(schedulers)
        self._last_lr = self._present()

    def step(self) -> None:  # type: ignore[override]
        for s in self._schedulers:
            s.step()
        self._last_lr = self._present()

    state_dict = SequentialLR.state_dict
    load_state_dict = SequentialLR.load_state_dict


__getattr__ = _lazy(__name__, globals())
