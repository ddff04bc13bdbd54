"""The same as tinygrad_cpp.amp for CUDA, under the path that older programs use."""

from __future__ import annotations

import functools

from .. import _C, amp

custom_bwd = functools.partial(amp.custom_bwd, device_type="cuda")
custom_fwd = functools.partial(amp.custom_fwd, device_type="cuda")

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]


class autocast(amp.autocast):
    """amp.autocast("cuda", ...)."""

    def __init__(self, enabled: bool = True, dtype: _C.dtype = _C.float16, cache_enabled: bool = True) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)

    def _fresh(self) -> autocast:
        return autocast(self.enabled, self.dtype, bool(self.cache_enabled))


class GradScaler(amp.GradScaler):
    """amp.GradScaler("cuda", ...)."""

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
