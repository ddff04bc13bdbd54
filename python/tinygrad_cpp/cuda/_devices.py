"""Which CUDA device is meant, and what to say when there is none."""

from __future__ import annotations

import contextlib
from typing import Any

from .. import _C

Device = _C.device | str | int | None


def is_available() -> bool:
    """True if there is a CUDA device, or emulation is on."""
    return _C._cuda_device_count() > 0


def device_count() -> int:
    """How many CUDA devices there are."""
    return _C._cuda_device_count()


def refuse(what: str) -> Exception:
    """The error of a call that needs a device, or more than this device has."""
    if is_available():
        return _C.NotImplementedError(f"{what}: not available here")
    return _C.DeviceError(f"{what}: {_C._cuda_probe()['text']}; cuda.is_available() is False")


def index_of(device: Device, what: str) -> int:
    """The number of a device; the current one for None."""
    if not is_available():
        raise refuse(f"cuda.{what}")
    if device is None:
        return _C._cuda_current_device()
    if not isinstance(device, int):
        device = _C.device(device)
        if device.type != "cuda":
            raise _C.ValueError(f"cuda.{what}: expected a cuda device, got {device}")
        if device.index is None:
            return _C._cuda_current_device()
        device = device.index
    if not 0 <= device < device_count():
        raise _C.DeviceError(f"cuda.{what}: there is no device {device}, only {device_count()}")
    return device


def current_device() -> int:
    """Number of the device that this thread's new work goes to."""
    return index_of(None, "current_device")


def set_device(device: Device) -> None:
    """Makes a device current for this thread; a negative number changes nothing."""
    if not isinstance(device, int) or device >= 0:
        _C._cuda_set_device(index_of(device, "set_device"))


class device(contextlib.AbstractContextManager[None]):
    """Makes a device current for this thread inside a with block; None and negative numbers change nothing.

    It decides what "cuda" without a number means. Where tensors are made by default is chosen by tg.device().
    """

    def __init__(self, device: Device) -> None:
        self.idx = -1 if device is None or (isinstance(device, int) and device < 0) else device
        self.prev_idx = -1

    def __enter__(self) -> None:
        if self.idx != -1:
            self.idx = index_of(self.idx, "device")
            self.prev_idx = current_device()
            set_device(self.idx)

    def __exit__(self, *error: Any) -> None:
        set_device(self.prev_idx)


def device_of(obj: Any) -> device:
    """Makes the device of a tensor current inside a with block; tensors of the CPU change nothing."""
    return device(obj.device.index if isinstance(obj, _C.Tensor) and obj.is_cuda else -1)
