"""Training by several processes, of which there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..modules.module import Module
from .data_parallel import Wrapper

__all__ = ["DistributedDataParallel"]


class DistributedDataParallel(Wrapper):
    """The module under the name ``module``, trained by one process: gradients are its own. Settings of PyTorch's
    constructor are taken and have no effect."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, **settings: Any) -> None:
        super().__init__(module)
        self.device_ids, self.output_device, self.dim = device_ids, output_device, settings.get("dim", 0)
        self.find_unused_parameters = bool(settings.get("find_unused_parameters", False))
        self.static_graph = bool(settings.get("static_graph", False))
        self.require_backward_grad_sync = True

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Gradients are not exchanged inside; they never are with one process."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def register_comm_hook(self, state: Any, hook: Any) -> None:
        """Accepted: with one process gradients are not exchanged."""
