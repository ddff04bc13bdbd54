"""Averages of a model's weights over training: stochastic weight averaging and exponential moving averages."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

from .. import _C
from .._modes import no_grad
from ..nn import Module
from ._lr_base import LRScheduler, _per_group
from .optimizer import Optimizer


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list[Any], list[Any], Any], None]:
    """An update of lists of averages in place: ``decay * average + (1 - decay) * parameter``."""
    _check_decay(decay)

    @no_grad()
    def update(averages: list[Any], parameters: list[Any], _: Any) -> None:
        for average, p in zip(averages, parameters):
            if average.is_floating_point():
                average.lerp_(p.detach().to(average.dtype), 1 - decay)
            else:
                average.copy_(average * decay + p * (1 - decay))

    return update


def get_swa_multi_avg_fn() -> Callable[[list[Any], list[Any], Any], None]:
    """An update of lists of averages in place: the mean of all parameters so far."""

    @no_grad()
    def update(averages: list[Any], parameters: list[Any], count: Any) -> None:
        for average, p in zip(averages, parameters):
            average.copy_(average + (p.detach() - average) / (float(count) + 1))

    return update


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, Any], Any]:
    """The new average of one parameter: ``decay * average + (1 - decay) * parameter``."""
    _check_decay(decay)

    @no_grad()
    def update(average: Any, p: Any, _: Any) -> Any:
        return decay * average + (1 - decay) * p

    return update


def get_swa_avg_fn() -> Callable[[Any, Any, Any], Any]:
    """The new average of one parameter: the mean of its values so far."""

    @no_grad()
    def update(average: Any, p: Any, count: Any) -> Any:
        return average + (p - average) / (count + 1)

    return update


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise _C.ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


class AveragedModel(Module):
    """A copy of a model that holds the average of its parameters over the calls of ``update_parameters``.

    Args:
        model: copied; its forward is that of the average.
        device: where the averages live; None: where the model is.
        avg_fn: ``(average, parameter, count) -> new average``; by default the mean.
        multi_avg_fn: the same for lists of tensors at once, in place.
        use_buffers: average the buffers too, instead of copying them.
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Any, Any, Any], Any] | None = None,
        multi_avg_fn: Callable[[list[Any], list[Any], Any], None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise _C.ValueError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", _C.tensor(0, dtype=_C.int64))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def _tensors(self, model: Module) -> list[Any]:
        extra = model.buffers() if self.use_buffers else ()
        return list(itertools.chain(model.parameters(), extra))

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Takes the present parameters of `model` into the average."""
        averages, present = self._tensors(self.module), self._tensors(model)
        present = [p.detach().to(a.device) for a, p in zip(averages, present)]
        if self.n_averaged.item() == 0:
            for average, p in zip(averages, present):
                average.copy_(p)
        elif self.avg_fn is not None:
            for average, p in zip(averages, present):
                average.copy_(self.avg_fn(average.detach(), p, self.n_averaged))
        else:
            (self.multi_avg_fn or get_swa_multi_avg_fn())([a.detach() for a in averages], present, self.n_averaged)
        if not self.use_buffers:
            for average, b in zip(self.module.buffers(), model.buffers()):
                average.copy_(b)
        self.n_averaged.add_(1)


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Computes the running statistics of the batch norms of `model` anew from the batches of `loader`.

    A batch that is a list or tuple is given to the model by its first element.
    """
    norms = {m: m.momentum for m in model.modules() if hasattr(m, "running_mean") and hasattr(m, "momentum")}
    if not norms:
        return
    was_training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    for batch in loader:
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(batch if device is None else batch.to(device))
    for norm, momentum in norms.items():
        norm.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Goes from the present rates to swa_lr in anneal_epochs epochs and stays there."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise _C.ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise _C.ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for rate, group in zip(_per_group(optimizer, "swa_lr", swa_lr), optimizer.param_groups):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch: int) -> float:
        """How far the rates have come by an epoch, from 0 to 1."""
        x = max(0.0, min(1.0, epoch / max(1, self.anneal_epochs)))
        return x if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * x)) / 2

    def get_lr(self) -> list[float]:
        epoch = self._step_count - 1
        if self.anneal_epochs == 0:
            epoch = max(1, epoch)
        before, now = self._share(epoch - 1), self._share(epoch)
        rates = []
        for lr, group in zip(self._present(), self.optimizer.param_groups):
            goal = float(group["swa_lr"])
            start = goal if before == 1 else (lr - before * goal) / (1 - before)
            rates.append(goal * now + start * (1 - now))
        return rates
