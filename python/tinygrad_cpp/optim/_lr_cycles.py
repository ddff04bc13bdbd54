"""Schedulers that let the momentum run against the rate."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

from .. import _C
from ._lr_base import LRScheduler, _per_group, _schedule, _set_rate
from .optimizer import Optimizer


def _uses_beta1(optimizer: Optimizer) -> bool:
    """Whether the momentum of an optimizer is the first of its betas; ValueError if it has none."""
    if "betas" not in optimizer.defaults and "momentum" not in optimizer.defaults:
        raise _C.ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
    return "betas" in optimizer.defaults


def _set_momentum(group: dict[str, Any], momentum: float, use_beta1: bool) -> None:
    if use_beta1:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


class CyclicLR(LRScheduler):
    """Rates that go up from base_lr to max_lr and down again, and the momentum the other way.

    ``mode``: "triangular"; "triangular2", each cycle half as high as the one before; "exp_range", scaled by
    gamma ** iteration. ``scale_fn`` replaces these: a function of the cycle's number or, with
    ``scale_mode="iterations"``, of the iteration. Step it after every batch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise _C.TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise _C.ValueError("mode is invalid and scale_fn is None")
        base_lrs = _per_group(optimizer, "base_lr", base_lr)
        self.max_lrs = _per_group(optimizer, "max_lr", max_lr)
        self.total_size = float(step_size_up + (step_size_up if step_size_down is None else step_size_down))
        if not self.total_size > 0:
            raise _C.ValueError(f"CyclicLR: a cycle must have a positive length, got {self.total_size}")
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = "iterations" if scale_fn is None and mode == "exp_range" else scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _uses_beta1(optimizer)
            self.base_momentums = _per_group(optimizer, "base_momentum", base_momentum)
            self.max_momentums = _per_group(optimizer, "max_momentum", max_momentum)
        if last_epoch == -1:
            for i, group in enumerate(optimizer.param_groups):
                _set_rate(group, base_lrs[i])
                if cycle_momentum:
                    _set_momentum(group, self.max_momentums[i], self.use_beta1)
                    group["max_momentum"], group["base_momentum"] = self.max_momentums[i], self.base_momentums[i]
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, by its number or by the iteration."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return {"triangular": 1.0, "triangular2": 0.5 ** (x - 1), "exp_range": self.gamma**x}[self.mode]

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                _set_momentum(group, high - (high - low) * height, self.use_beta1)
        return [low + (high - low) * height for low, high in zip(map(float, self.base_lrs), self.max_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer; of a scale_fn that is an object its attributes."""
        state, f = super().state_dict(), self._scale_fn_custom
        plain = f is None or isinstance(f, types.FunctionType)
        state["_scale_fn_custom"] = None if plain else dict(f.__dict__)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict.get("_scale_fn_custom")
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if saved is not None and self._scale_fn_custom is not None:
            self._scale_fn_custom.__dict__.update(saved)


class OneCycleLR(LRScheduler):
    """The 1cycle policy: up to max_lr, down to almost nothing, momentum the other way. Step it after every batch."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise _C.ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0 or not isinstance(total_steps, int):
            raise _C.ValueError(f"Expected positive integer total_steps, but got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise _C.ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise _C.ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self.total_steps, self.pct_start, self.three_phase = total_steps, pct_start, three_phase
        self.cycle_momentum, self._anneal_func_type = cycle_momentum, anneal_strategy
        self.use_beta1 = cycle_momentum and _uses_beta1(optimizer)
        if last_epoch == -1:
            self._prepare(optimizer, max_lr, base_momentum, max_momentum, div_factor, final_div_factor)
        super().__init__(optimizer, last_epoch)

    def _prepare(self, optimizer, max_lr, base_momentum, max_momentum, div_factor, final_div_factor) -> None:
        tops = _per_group(optimizer, "max_lr", max_lr)
        low = _per_group(optimizer, "base_momentum", base_momentum)
        high = _per_group(optimizer, "max_momentum", max_momentum)
        for i, group in enumerate(optimizer.param_groups):
            group["initial_lr"] = tops[i] / div_factor
            group["max_lr"] = tops[i]
            group["min_lr"] = group["initial_lr"] / final_div_factor
            if self.cycle_momentum:
                group["max_momentum"], group["base_momentum"] = high[i], low[i]

    def _at(self, start: float, top: float, low: float) -> float:
        cosine = self._anneal_func_type == "cos"
        shape = self.total_steps, self.pct_start, cosine, self.three_phase
        return _schedule.one_cycle(self.last_epoch, *shape, start, top, low)

    def get_lr(self) -> list[float]:
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._at(group["initial_lr"], group["max_lr"], group["min_lr"]))
            if not self.cycle_momentum:
                continue
            momentum = self._at(group["max_momentum"], group["base_momentum"], group["max_momentum"])
            _set_momentum(group, momentum, self.use_beta1)
        return rates
