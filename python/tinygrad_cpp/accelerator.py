"""The accelerator of this machine: there is none."""

from __future__ import annotations

from . import _C


def is_available() -> bool:
    """False."""
    return False


def current_accelerator(check_available: bool = False) -> _C.device | None:
    """None."""
    return None


def device_count() -> int:
    """0."""
    return 0


def _refuse(what: str) -> Exception:
    return _C.DeviceError(f"accelerator.{what}: there is no accelerator; accelerator.is_available() is False")


def current_device_index() -> int:
    """Refused: there is none."""
    raise _refuse("current_device_index")


def set_device_index(device: _C.device | str | int | None) -> None:
    """Refused: there is none."""
    raise _refuse("set_device_index")


def synchronize(device: _C.device | str | int | None = None) -> None:
    """Refused: there is none to wait for."""
    raise _refuse("synchronize")


current_device_idx = current_device_index
set_device_idx = set_device_index
