"""Automatic mixed precision. Accepted so that programs run; every op still computes in the dtype of its operands."""

from __future__ import annotations

from typing import Any

from . import _C
from ._modes import Scope
from ._suggest import tell_once

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

Tensor = _C.Tensor


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows this kind of device."""
    return device_type in ("cpu", "cuda")


class autocast(Scope):
    """Context manager and decorator that names the type to compute in. No effect yet; a warning says so once."""

    def __init__(
        self,
        device_type: str = "cuda",
        dtype: _C.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(device_type, str):
            raise _C.TypeError(f"autocast: device_type must be str, not {type(device_type).__name__}")
        if not is_autocast_available(device_type):
            raise _C.ValueError(f"autocast: device_type must be 'cpu' or 'cuda', not {device_type!r}")
        self.device_type, self.dtype, self.cache_enabled = device_type, dtype, cache_enabled
        # as without a GPU in PyTorch, where it switches itself off
        self.enabled = bool(enabled) and device_type == "cpu"

    def _enter(self) -> Any:
        if self.enabled:
            tell_once("autocast: mixed precision has no effect yet, ops compute in the dtype of their operands")

    def _leave(self, old: Any) -> None:
        pass

    def _fresh(self) -> autocast:
        return autocast(self.device_type, self.dtype, self.enabled, self.cache_enabled)


class GradScaler:
    """Scales losses of float16 training. Without a GPU it is off, as in PyTorch: everything passes through."""

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if enabled and device == "cpu":
            tell_once("GradScaler: losses are not scaled yet")
        self._growth = (growth_factor, backoff_factor, growth_interval)
        self._enabled = False

    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._enabled

    def scale(self, outputs: Any) -> Any:
        """The loss times the scale, which is 1."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Divides the gradients by the scale, which is 1."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Adapts the scale."""

    def get_scale(self) -> float:
        """1: nothing is scaled."""
        return 1.0

    def get_growth_factor(self) -> float:
        return self._growth[0]

    def get_backoff_factor(self) -> float:
        return self._growth[1]

    def get_growth_interval(self) -> int:
        return self._growth[2]

    def state_dict(self) -> dict[str, Any]:
        """Empty: nothing is scaled."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Accepted: nothing is scaled."""


def custom_fwd(fwd: Any = None, **kwargs: Any) -> Any:
    """Decorator of a Function's forward: the function itself."""
    return fwd if fwd is not None else lambda f: f


def custom_bwd(bwd: Any = None, **kwargs: Any) -> Any:
    """Decorator of a Function's backward: the function itself."""
    return bwd if bwd is not None else lambda f: f
