"""Marks for NVIDIA's profilers, which show them beside the kernels; without a device they have no effect."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from .. import _C

_depth = threading.local()


def range_push(msg: str) -> int:
    """Begins a marked range of this thread; how many were open before."""
    depth = getattr(_depth, "value", 0)
    _depth.value = depth + 1
    _C._cuda_profile("push", str(msg))
    return depth


def range_pop() -> int:
    """Ends the innermost range of this thread; how many are open after."""
    _depth.value = max(getattr(_depth, "value", 0) - 1, 0)
    _C._cuda_profile("pop", "")
    return _depth.value


def mark(msg: str) -> None:
    """Marks a moment."""
    _C._cuda_profile("mark", str(msg))


@contextlib.contextmanager
def range(msg: str, *args: Any, **kwargs: Any) -> Iterator[None]:
    """A marked range as a with block; msg.format(*args, **kwargs) is its text."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
