"""Automatic mixed precision: regions that compute in half precision, and scaling of losses for float16."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from . import _C
from ._modes import Scope
from ._suggest import tell_once

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

Tensor = _C.Tensor
_last_dtype: Any = None  # of the region entered last


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows this kind of device."""
    return device_type in ("cpu", "cuda")


def _cuda_works() -> bool:
    from . import cuda

    return cuda.is_available()


class autocast(Scope):
    """Context manager and decorator: ops on this type of device compute in the precision that suits them.

    Products (matmul, linear, convolutions, attention) run in ``dtype``: bfloat16 on the CPU and float16 on CUDA unless
    given; losses, norms, softmax, exponentials and sums run in float32; the rest in the type of its operands. The class
    of each op is in the op table. float64 is left alone. Weights are cast once per region and version, and gradients
    arrive in the type of their parameters. Backward does not run under autocast, wherever it is called.
    """

    def __init__(
        self,
        device_type: str,
        dtype: _C.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(device_type, str):
            raise _C.TypeError(f"autocast: device_type must be str, not {type(device_type).__name__}")
        if not is_autocast_available(device_type):
            raise _C.ValueError(f"autocast: device_type must be 'cpu' or 'cuda', not {device_type!r}")
        self.device_type, self.enabled = device_type, bool(enabled)
        self.dtype = _C.get_autocast_dtype(device_type) if dtype is None else dtype
        self.cache_enabled = _C.is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        if self.enabled and device_type == "cuda" and not _cuda_works():
            tell_once("autocast: device_type is 'cuda', but there is no CUDA device: it is switched off")
            self.enabled = False
        if self.enabled and self.dtype not in (_C.float16, _C.bfloat16):
            warnings.warn(
                f"autocast: {self.dtype} is no half type (float16, bfloat16): it is switched off", stacklevel=2
            )
            self.enabled = False

    def _enter(self) -> Any:
        global _last_dtype
        if self.enabled:
            _last_dtype = self.dtype
        return _C._AutocastRegion(self.device_type, self.dtype, self.enabled, bool(self.cache_enabled))

    def _leave(self, old: Any) -> None:
        old.leave()

    def _fresh(self) -> autocast:
        return autocast(self.device_type, self.dtype, self.enabled, self.cache_enabled)


# ---- loss scaling


class GradScaler:
    """Scales losses so that small gradients do not vanish in float16, and skips steps whose gradients overflowed.

    >>> scaler.scale(loss).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()

    The scale doubles after ``growth_interval`` steps without overflow and halves at once when there is one.
    ``skipped_steps`` counts the steps left out, ``last_skip`` tells why the last one was. Off (everything passes
    through) for ``device="cuda"`` without such a device.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        enabled = bool(enabled)
        if enabled and device != "cpu" and not (device == "cuda" and _cuda_works()):
            tell_once(f"GradScaler: device is {device!r}, but there is no such device: it is switched off")
            enabled = False
        self._core = _C._GradScaler(init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        self._loss_scale = self._core.loss_scale

    def __getstate__(self) -> dict[str, Any]:
        if not self._core.is_between_iterations():
            raise _C.Error("GradScaler: can be copied and pickled only before an iteration or after its update()")
        s = self._loss_scale
        settings = (s.scale, s.growth, s.backoff, s.interval, self.is_enabled())
        return dict(settings=settings, tracker=s.tracker, skipped=(self.skipped_steps, self.last_skip))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._core = _C._GradScaler(*state["settings"])
        self._loss_scale = self._core.loss_scale
        self._loss_scale.tracker = state["tracker"]
        self._core.skipped_steps, self._core.last_skip = state["skipped"]

    @property
    def skipped_steps(self) -> int:
        """Steps left out so far."""
        return self._core.skipped_steps

    @property
    def last_skip(self) -> str:
        """Why the last step left out was."""
        return self._core.last_skip

    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._core.is_enabled()

    def scale(self, outputs: Any) -> Any:
        """A loss, or a list or tuple of losses, times the scale."""
        if not self.is_enabled():
            return outputs
        if isinstance(outputs, Tensor):
            if _last_dtype is _C.bfloat16 or outputs.dtype is _C.bfloat16:
                tell_once(
                    "GradScaler: bfloat16 has the range of float32, its gradients do not underflow: no scaler is needed"
                )
            return self._core.scale(outputs)
        if isinstance(outputs, Iterable):
            scaled = [self.scale(o) for o in outputs]
            return scaled if isinstance(outputs, list) else tuple(scaled)
        raise _C.ValueError(f"GradScaler.scale: expected tensors, got {type(outputs).__name__}")

    def unscale_(self, optimizer: Any) -> None:
        """Takes the scale off the gradients of an optimizer's parameters, e.g. to clip them before step()."""
        self._core.unscale_(*_target(optimizer))

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step on true gradients; left out, with result None, if one of them overflowed."""
        if not self.is_enabled():
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise _C.Error("Closure use is not currently supported if GradScaler is enabled.")
        rest = self._core.begin_step(*_target(optimizer))
        if rest is None:
            if self.skipped_steps == 1:
                warnings.warn(
                    f"GradScaler: a step is left out, because {self.last_skip}; the scale backs off. Further ones are "
                    "counted in skipped_steps, their reason is in last_skip",
                    stacklevel=2,
                )
            return None
        if rest == 1.0:
            return optimizer.step(*args, **kwargs)
        for group in optimizer.param_groups:
            group["grad_scale"] = rest
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            for group in optimizer.param_groups:
                del group["grad_scale"]

    def update(self, new_scale: Any = None) -> None:
        """Moves the scale after the steps of an iteration, or sets it."""
        if new_scale is None:
            self._core.update()
        else:
            self._core.set_scale(float(new_scale))

    def get_scale(self) -> float:
        """The scale; 1 when off."""
        return self._core.get_scale()

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by when it grows."""
        return self._loss_scale.growth

    def set_growth_factor(self, new_factor: float) -> None:
        """Sets what the scale is multiplied by when it grows."""
        self._loss_scale.growth = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by after an overflow."""
        return self._loss_scale.backoff

    def set_backoff_factor(self, new_factor: float) -> None:
        """Sets what the scale is multiplied by after an overflow."""
        self._loss_scale.backoff = new_factor

    def get_growth_interval(self) -> int:
        """Steps in a row without overflow after which the scale grows."""
        return self._loss_scale.interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Sets the number of steps in a row without overflow after which the scale grows."""
        self._loss_scale.interval = new_interval

    def _get_growth_tracker(self) -> int:
        return self._loss_scale.tracker if self.is_enabled() else 0

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and steps since the last change; empty when off."""
        whole = ("growth_interval", "_growth_tracker")
        return {k: int(v) if k in whole else v for k, v in self._core.state_dict().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from what state_dict() gave."""
        self._core.load_state_dict(state_dict)


def _target(optimizer: Any) -> tuple[int, list[Any], list[bool], Callable[[int], str]]:
    """What the scaler has to know of an optimizer (optim/grad_scaler.h)."""
    params, wide = [], []
    for group in optimizer.param_groups:
        params += group["params"]
        wide += [bool(group.get("master_weights") or group.get("stochastic_rounding"))] * len(group["params"])
    return id(optimizer), params, wide, lambda i: _name_of(params[i], optimizer)


def _name_of(param: Any, optimizer: Any) -> str:
    """The name of a parameter: the optimizer's, that in a living module, or its number."""
    for number, group in enumerate(optimizer.param_groups):
        for i, p in enumerate(group["params"]):
            if p is param and "param_names" in group:
                return repr(group["param_names"][i])
            if p is param:
                place = f"parameter {i} of group {number}"
    import gc

    from .nn import Module

    names = [
        (name, type(m).__name__)
        for m in gc.get_objects()
        if issubclass(type(m), Module)  # not isinstance, which asks proxies what they stand for
        for name, p in m.named_parameters()
        if p is param
    ]
    if not names:
        return place
    name, kind = max(names, key=lambda n: n[0].count("."))  # the outermost module has the longest path to it
    return f"{name!r} of {kind}"


# ---- autograd.Function under autocast


def _cast(value: Any, device_type: str, dtype: Any) -> Any:
    if isinstance(value, Tensor):
        eligible = value.is_floating_point() and value.dtype is not _C.float64 and value.device.type == device_type
        return value.to(dtype) if eligible else value
    if isinstance(value, dict):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(v, device_type, dtype) for v in value)
    return value


def custom_fwd(
    fwd: Callable | None = None, *, device_type: str = "cuda", cast_inputs: _C.dtype | None = None
) -> Callable:
    """Decorator of a Function's forward: backward (see custom_bwd) will run under the same autocast.

    With ``cast_inputs`` an enabled region casts the inputs to that type and forward runs without autocast.
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        on = _C.is_autocast_enabled(device_type)
        args[0]._dtype = _C.get_autocast_dtype(device_type)
        args[0]._fwd_used_autocast = on and cast_inputs is None
        if not on or cast_inputs is None:
            return fwd(*args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(*_cast(args, device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))

    return decorated


def custom_bwd(bwd: Callable | None = None, *, device_type: str = "cuda") -> Callable:
    """Decorator of a Function's backward: it runs under the autocast that its forward ran under."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)

    return decorated
