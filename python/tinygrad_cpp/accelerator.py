"""The accelerator of this machine: its CUDA devices, or none."""

from __future__ import annotations

from typing import Any

from . import _C, cuda

_Device = _C.device | str | int | None


def is_available() -> bool:
    """Whether there is a CUDA device."""
    return cuda.is_available()


def current_accelerator(check_available: bool = False) -> _C.device | None:
    """The kind of device: device('cuda'), or None."""
    return _C.device("cuda") if cuda.is_available() else None


def device_count() -> int:
    """How many devices there are."""
    return cuda.device_count()


def _need(what: str) -> None:
    if not cuda.is_available():
        raise _C.DeviceError(f"accelerator.{what}: there is no accelerator; accelerator.is_available() is False")


def current_device_index() -> int:
    """Number of the device that this thread's new work goes to."""
    _need("current_device_index")
    return cuda.current_device()


def set_device_index(device: _Device) -> None:
    """Makes a device current for this thread."""
    _need("set_device_index")
    cuda.set_device(device)


def synchronize(device: _Device = None) -> None:
    """Waits until all work of a device is done."""
    _need("synchronize")
    cuda.synchronize(device)


def current_stream(device: _Device = None) -> cuda.Stream:
    """The stream that this thread's next work on a device goes to."""
    _need("current_stream")
    return cuda.current_stream(device)


def set_stream(stream: Any) -> None:
    """Makes a stream and its device current for this thread."""
    _need("set_stream")
    cuda.set_stream(stream)


current_device_idx = current_device_index
set_device_idx = set_device_index
