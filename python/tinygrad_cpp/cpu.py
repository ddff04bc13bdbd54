"""The CPU as a device, with the functions that accelerators have."""

from __future__ import annotations

from typing import Any

from . import amp


def is_available() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """'cpu'."""
    return "cpu"


def synchronize(device: Any = None) -> None:
    """Work is done when its call returns."""


def set_device(device: Any) -> None:
    """There is one CPU."""


__all__ = ["amp", "current_device", "device_count", "is_available", "set_device", "synchronize"]
