"""CUDA devices: what there is, and what to do with it. Without one, questions are answered and work is refused.

``emulate()`` (or ``TG_CUDA_EMULATE=1``) runs CUDA code on the CPU: for tests and for looking at kernels, never for
speed. Names and reports then say "emulation".
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from .. import _C
from .._suggest import lazy

Device = _C.device | str | int | None


def _refuse(what: str) -> Exception:
    if is_available():
        return _C.NotImplementedError(f"{what}: not available here")
    return _C.DeviceError(f"{what}: {_C._cuda_probe()['text']}; cuda.is_available() is False")


def _index(device: Device, what: str) -> int:
    """The number of a device; the current one for None."""
    if not is_available():
        raise _refuse(f"cuda.{what}")
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


def _refused(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        """Refused: there is no device."""
        raise _refuse(f"cuda.{name}")

    call.__name__ = call.__qualname__ = name
    return call


# ---- what there is


def is_available() -> bool:
    """True if there is a CUDA device, or emulation is on."""
    return _C._cuda_device_count() > 0


def device_count() -> int:
    """How many CUDA devices there are."""
    return _C._cuda_device_count()


def emulate(on: bool = True) -> None:
    """Makes CUDA devices of the CPU: to be called before a CUDA device is used. Slow, and no claim about any GPU."""
    _C._cuda_emulate(on)


def is_emulated() -> bool:
    """True if CUDA devices are the CPU's emulation."""
    return _C._cuda_emulating()


def is_initialized() -> bool:
    """True once there is a device: nothing has to be started."""
    return is_available()


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """True if there is a device: every kernel has a bfloat16 form."""
    return is_available()


def get_arch_list() -> list[str]:
    """Empty."""
    return []


init = _refused("init")
set_per_process_memory_fraction = _refused("set_per_process_memory_fraction")
get_rng_state = _refused("get_rng_state")
set_rng_state = _refused("set_rng_state")
current_stream = _refused("current_stream")


def current_device() -> int:
    """Number of the device that new work goes to."""
    return _index(None, "current_device")


def set_device(device: Device) -> None:
    """Makes a device current for this thread; a negative number changes nothing."""
    if not isinstance(device, int) or device >= 0:
        _C._cuda_set_device(_index(device, "set_device"))


def get_device_properties(device: Device = None) -> types.SimpleNamespace:
    """Name, compute capability, memory and limits of a device."""
    return types.SimpleNamespace(**_C._cuda_properties(_index(device, "get_device_properties")))


def get_device_name(device: Device = None) -> str:
    """Name of a device; that of an emulated one says so."""
    return get_device_properties(_index(device, "get_device_name")).name


def get_device_capability(device: Device = None) -> tuple[int, int]:
    """Compute capability, such as (9, 0)."""
    p = get_device_properties(_index(device, "get_device_capability"))
    return p.major, p.minor


def mem_get_info(device: Device = None) -> tuple[int, int]:
    """Free and total bytes of a device's memory."""
    return _C._cuda_memory(_index(device, "mem_get_info"))


def synchronize(device: Device = None) -> None:
    """Waits until all work of a device is done."""
    _C._cuda_synchronize(_index(device, "synchronize"))


# ---- memory: none is used


def memory_allocated(device: Device = None) -> int:
    """0."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_cached = max_memory_cached = memory_allocated


def memory_stats(device: Device = None) -> dict[str, int]:
    """Empty."""
    return {}


def memory_summary(device: Device = None, abbreviated: bool = False) -> str:
    """Says that there is no device."""
    return "no CUDA device"


def empty_cache() -> None:
    """Nothing is kept."""


ipc_collect = empty_cache


def reset_peak_memory_stats(device: Device = None) -> None:
    """Nothing is counted."""


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


# ---- random numbers


def manual_seed(seed: int) -> None:
    """There is no generator on a device; accepted, so that programs seed whatever there is."""
    int(seed)


manual_seed_all = manual_seed


def seed() -> None:
    """There is no generator to seed."""


seed_all = seed


def get_rng_state_all() -> list[_C.Tensor]:
    """Empty: one state per device."""
    return []


def set_rng_state_all(new_states: Any) -> None:
    """Accepts the empty list."""
    for _ in new_states:
        raise _refuse("cuda.set_rng_state_all")


# ---- devices, streams, events


class device(contextlib.nullcontext[None]):
    """Selects a device inside a with block: harmless for none (a negative number), else refused on entry."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.idx = device

    def __enter__(self) -> None:
        if isinstance(self.idx, int) and self.idx < 0 or self.idx is None:
            return
        raise _refuse("cuda.device")


class Stream:
    """Refused: there is no device to queue work on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _refuse("cuda.Stream")


class Event:
    """A moment in time. Work on the CPU is done when its call returns, so it is the moment of record()."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._timing = enable_timing
        self._at: float | None = None

    def record(self, stream: Any = None) -> None:
        """Notes the time."""
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        """Returns at once."""

    def wait(self, stream: Any = None) -> None:
        """Returns at once."""

    def query(self) -> bool:
        """True: nothing is outstanding."""
        return True

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds between two recorded events."""
        if self._at is None or end_event._at is None or not (self._timing and end_event._timing):
            raise _C.ValueError("Event.elapsed_time: both events need enable_timing=True and a record() before")
        return (end_event._at - self._at) * 1e3


def stream(stream: Any) -> contextlib.AbstractContextManager[None]:
    """Queues work on a stream inside a with block; None is harmless."""
    if stream is not None:
        raise _refuse("cuda.stream")
    return contextlib.nullcontext()


@contextlib.contextmanager
def device_of(obj: Any) -> Iterator[None]:
    """Selects the device of a tensor; harmless for tensors on the CPU."""
    yield


_TENSORS = frozenset(t + "Tensor" for t in "Float Double Half BFloat16 Byte Char Short Int Long Bool".split())


class CUDAGraph:
    """Refused: there is no device to capture work on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _refuse("cuda.CUDAGraph")


OutOfMemoryError = _C.OutOfMemoryError

# ---- kernels of users, compiled at run time

RawKernel = _C.RawKernel
_unknown = lazy(__name__, globals(), ["amp", "nvtx", "random"])


def __getattr__(name: str) -> Any:
    if name not in _TENSORS:
        return _unknown(name)
    from .._typed import make_refusal

    return make_refusal(f"cuda.{name}")
