"""Automatic mixed precision: regions that compute in half precision, and scaling of losses for float16."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections import deque
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

_scalers: weakref.WeakSet[GradScaler] = weakref.WeakSet()
_READY, _UNSCALED, _STEPPED = range(3)


class _Progress:
    """What happened to the gradients of one optimizer since the last update()."""

    def __init__(self) -> None:
        self.stage = _READY
        self.overflow: bool | None = None  # None: not looked yet
        self.rest = 1.0  # the scale that the step itself takes off (half parameters stepped in float32)


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
        if not growth_factor > 1.0:
            raise _C.ValueError(f"GradScaler: the growth factor must be greater than 1, got {growth_factor}")
        if not backoff_factor < 1.0:
            raise _C.ValueError(f"GradScaler: the backoff factor must be less than 1, got {backoff_factor}")
        self._enabled = bool(enabled) and (device == "cpu" or (device == "cuda" and _cuda_works()))
        self._loss_scale = _C._LossScale(init_scale, growth_factor, backoff_factor, growth_interval)
        self._progress: dict[int, _Progress] = {}
        self._unscaled: set[int] = set()  # ids of the parameters whose gradients are true again
        self._losses: deque[Any] = deque(maxlen=4)  # scaled since the last update
        self.skipped_steps = 0
        self.last_skip = ""
        if self._enabled:
            _scalers.add(self)

    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._enabled

    def scale(self, outputs: Any) -> Any:
        """A loss, or a list or tuple of losses, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if _last_dtype is _C.bfloat16 or outputs.dtype is _C.bfloat16:
                tell_once(
                    "GradScaler: bfloat16 has the range of float32, its gradients do not underflow: no scaler is needed"
                )
            self._losses.append(outputs)
            return outputs * _C.tensor(self.get_scale(), dtype=_C.float32, device=outputs.device)
        if isinstance(outputs, Iterable):
            scaled = [self.scale(o) for o in outputs]
            return scaled if isinstance(outputs, list) else tuple(scaled)
        raise _C.ValueError(f"GradScaler.scale: expected tensors, got {type(outputs).__name__}")

    def unscale_(self, optimizer: Any) -> None:
        """Takes the scale off the gradients of an optimizer's parameters, e.g. to clip them before step()."""
        if not self._enabled:
            return
        progress = self._of(optimizer)
        if progress.stage == _UNSCALED:
            raise _C.Error("unscale_() has already been called on this optimizer since the last update().")
        if progress.stage == _STEPPED:
            raise _C.Error("unscale_() is being called after step().")
        self._unscale(optimizer, progress, in_step=False)
        progress.stage = _UNSCALED

    def _of(self, optimizer: Any) -> _Progress:
        return self._progress.setdefault(id(optimizer), _Progress())

    def _unscale(self, optimizer: Any, progress: _Progress, in_step: bool) -> None:
        # from the last parameter to the first, which is the order in which backward gets to them
        true, later = [], []  # gradients to unscale here; and within the step, in float32
        for group in optimizer.param_groups:
            wide = group.get("master_weights") or group.get("stochastic_rounding")
            for p in group["params"]:
                if p.grad is None:
                    continue
                half = p.grad.dtype in (_C.float16, _C.bfloat16)
                if half and wide and in_step:
                    later.append(p)
                elif p.grad.dtype is _C.float16:
                    raise _C.ValueError(
                        "Attempting to unscale FP16 gradients. Their small values would vanish again: keep the "
                        "parameters in float32 (autocast), or give the optimizer master_weights=True and leave "
                        "unscaling to step()"
                    )
                else:
                    true.append(p)
        if not true and not later:
            raise _C.Error("No inf checks were recorded for this optimizer: none of its parameters has a gradient.")
        progress.rest = self.get_scale() if later else 1.0
        bad = None
        for params, factor in ((later[::-1], 1.0), (true[::-1], 1.0 / self.get_scale())):
            first = _C._unscale([p.grad for p in params], factor)
            if first >= 0 and bad is None:
                bad = params[first]
        self._unscaled.update(id(p) for p in true)
        progress.overflow = bad is not None
        if bad is not None:
            self.last_skip = (
                f"the gradient of {_name_of(bad, optimizer)} is infinite or NaN at a scale of {self.get_scale():g}"
            )

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step on true gradients; left out, with result None, if one of them overflowed."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise _C.Error("Closure use is not currently supported if GradScaler is enabled.")
        progress = self._of(optimizer)
        if progress.stage == _STEPPED:
            raise _C.Error("step() has already been called since the last update().")
        if progress.stage == _READY:
            self._unscale(optimizer, progress, in_step=True)
        progress.stage = _STEPPED
        if progress.overflow:
            self.skipped_steps += 1
            if self.skipped_steps == 1:
                warnings.warn(
                    f"GradScaler: a step is left out, because {self.last_skip}; the scale backs off. Further ones are "
                    "counted in skipped_steps, their reason is in last_skip",
                    stacklevel=2,
                )
            return None
        if progress.rest == 1.0:
            return optimizer.step(*args, **kwargs)
        for group in optimizer.param_groups:
            group["grad_scale"] = progress.rest
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            for group in optimizer.param_groups:
                del group["grad_scale"]

    def update(self, new_scale: Any = None) -> None:
        """Moves the scale after the steps of an iteration, or sets it."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._loss_scale.scale = float(new_scale)
        else:
            looked = [p.overflow for p in self._progress.values() if p.overflow is not None]
            if not looked:
                raise _C.Error("No inf checks were recorded prior to update.")
            self._loss_scale.update(any(looked))
        self._progress.clear()
        self._unscaled.clear()
        self._losses.clear()

    def get_scale(self) -> float:
        """The scale; 1 when off."""
        return self._loss_scale.scale if self._enabled else 1.0

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
        return self._loss_scale.tracker if self._enabled else 0

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and steps since the last change; empty when off."""
        if not self._enabled:
            return {}
        s = self._loss_scale
        return {
            "scale": s.scale,
            "growth_factor": s.growth,
            "backoff_factor": s.backoff,
            "growth_interval": s.interval,
            "_growth_tracker": s.tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from what state_dict() gave."""
        if not self._enabled:
            return
        if not state_dict:
            raise _C.Error("The source state dict is empty, possibly because it was saved from a disabled GradScaler.")
        d = state_dict
        s = _C._LossScale(d["scale"], d["growth_factor"], d["backoff_factor"], d["growth_interval"])
        s.tracker = d["_growth_tracker"]
        self._loss_scale = s


def check_unscaled(parameters: list[Any], op: str) -> None:
    """Error if the gradients of one of the parameters still carry the scale of a GradScaler."""
    for scaler in _scalers:
        suspects = {id(p) for p in parameters if p.grad is not None} - scaler._unscaled
        if suspects and scaler.get_scale() != 1 and any(_reaches(loss, suspects) for loss in scaler._losses):
            raise _C.Error(
                f"{op}: the gradients are still {scaler.get_scale():g} times too large, because the loss was scaled; "
                "call scaler.unscale_(optimizer) first"
            )


def _reaches(loss: Any, leaves: set[int]) -> bool:
    """Whether one of these leaves is in the graph of a loss."""
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor) and id(variable) in leaves:
            return True
        stack += [n for n, _ in node.next_functions]
    return False


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
        f"{name!r} of {type(m).__name__}"
        for m in gc.get_objects()
        if issubclass(type(m), Module)  # not isinstance, which asks proxies what they stand for
        for name, p in m.named_parameters()
        if p is param
    ]
    return max(names, key=len, default=place)


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
