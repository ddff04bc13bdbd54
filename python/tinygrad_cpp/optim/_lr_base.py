"""What all schedulers have in common: they set the rates of an optimizer's groups, epoch by epoch."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from .. import _C
from .._modes import no_grad
from .optimizer import Optimizer

_schedule = _C._schedule
EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler."
)


def _set_rate(group: dict[str, Any], lr: Any) -> None:
    """Sets the rate of a group; one that is a tensor is written in place."""
    if isinstance(group["lr"], _C.Tensor):
        with no_grad():
            group["lr"].fill_(float(lr))
    else:
        group["lr"] = lr


def _per_group(optimizer: Optimizer, name: str, value: Any) -> list[Any]:
    """`value` as a list with one entry for each group."""
    n = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise _C.ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
            f"param_groups has {n}."
        )
    return list(value)


def _ignoring_verbose(init: Callable) -> Callable:
    """A constructor that also takes ``verbose``, as PyTorch's did; nothing is printed."""

    @functools.wraps(init)
    def wrapper(self: LRScheduler, *args: Any, verbose: Any = None, **kwargs: Any) -> None:
        init(self, *args, **kwargs)

    return wrapper


class LRScheduler:
    """Sets the rates of an optimizer's groups. Subclasses override ``get_lr``, which gives the rates of epoch
    ``self.last_epoch`` from ``self.base_lrs`` or from the groups' present ``lr``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        init = cls.__dict__.get("__init__")
        if init is not None and "verbose" not in inspect.signature(init).parameters:
            cls.__init__ = _ignoring_verbose(init)  # type: ignore[method-assign]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, verbose: Any = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise _C.TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault("initial_lr", lr.clone() if isinstance(lr, _C.Tensor) else lr)
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count, self._is_initial = 0, True
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rates of epoch ``self.last_epoch``, one for each group."""
        raise _C.NotImplementedError(f"{type(self).__name__} does not override get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates of the present epoch."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch, or to a given one."""
        if self._step_count == 1 and not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of the schedule is "
                "skipped. Call them in the opposite order.",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None)
        self._set(self.get_lr() if epoch is None or closed is None else closed())

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates):
            _set_rate(group, lr)
        self._last_lr = self._present()

    def _present(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update(state_dict)


_LRScheduler = LRScheduler


class _FormulaLR(LRScheduler):
    """A scheduler that is a pair of functions of the library: from the present rate, and from the initial one."""

    _formula = ""
    _stands_on_resume = True

    def _settings(self) -> tuple:
        raise _C.NotImplementedError

    def _resumes(self) -> bool:
        """Whether this is the first step after a resume: the groups already have the rates of the epoch."""
        return self._stands_on_resume and self._is_initial and self.last_epoch > 0

    def get_lr(self) -> list[float]:
        if self._resumes():
            return self._present()
        f = getattr(_schedule, self._formula + "_next")
        return [f(lr, self.last_epoch, *self._settings()) for lr in self._present()]

    def _get_closed_form_lr(self) -> list[float]:
        f = getattr(_schedule, self._formula + "_at")
        return [f(base, self.last_epoch, *self._settings()) for base in map(float, self.base_lrs)]
