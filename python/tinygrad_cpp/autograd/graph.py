"""What is kept between forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import _C

Node = _C.Node


def saved_tensors_hooks(pack_hook: Callable[..., Any], unpack_hook: Callable[..., Any]) -> Any:
    """Not here: what ops keep for backward cannot be packed by Python functions."""
    raise _C.NotImplementedError(
        "saved_tensors_hooks: values kept for backward cannot be packed here; utils.checkpoint.checkpoint "
        "saves memory by computing them again"
    )


@contextmanager
def save_on_cpu(pin_memory: bool = False, device_type: str = "cuda") -> Iterator[None]:
    """Keeps values for backward on the CPU, where they are already."""
    yield
