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


# ---- memory: what the caching allocator of a device has handed out and keeps; nothing where there is no device


def memory_stats(device: Device = None) -> dict[str, int]:
    """Bytes handed out, their peak, bytes kept for reuse, and the number of allocations; empty without a device."""
    if not is_available():
        return {}
    s = _C._memory_stats(_C.device("cuda", _index(device, "memory_stats")))
    return {
        "allocated_bytes.all.current": s["live"],
        "allocated_bytes.all.peak": s["peak"],
        "reserved_bytes.all.current": s["live"] + s["cached"],
        "allocation.all.allocated": s["allocations"],
    }


def memory_allocated(device: Device = None) -> int:
    """Bytes of tensors that are alive on a device."""
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device: Device = None) -> int:
    """The most bytes that were alive at once since reset_peak_memory_stats()."""
    return memory_stats(device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device: Device = None) -> int:
    """Bytes taken from a device: those of tensors, and those kept for reuse."""
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device: Device = None) -> int:
    """At least the peak of live bytes; how much was kept at that moment is not recorded."""
    return max(memory_reserved(device), max_memory_allocated(device))


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved


def memory_summary(device: Device = None, abbreviated: bool = False) -> str:
    """The statistics, one a line."""
    return "\n".join(f"{k:32} {v:>16,}" for k, v in memory_stats(device).items()) or "no CUDA device"


def empty_cache() -> None:
    """Gives memory that is kept for reuse back to the devices."""
    for i in range(device_count()):
        _C._release_cached(_C.device("cuda", i))


def ipc_collect() -> None:
    """Nothing is shared between processes."""


def reset_peak_memory_stats(device: Device = None) -> None:
    """Lets the peak start again from what is alive."""
    if is_available():
        _C._reset_peak(_C.device("cuda", _index(device, "reset_peak_memory_stats")))


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def set_per_process_memory_fraction(fraction: float, device: Device = None) -> None:
    """Bounds what tensors may take to a fraction in [0, 1] of a device's memory; beyond it is an OutOfMemoryError."""
    index = _index(device, "set_per_process_memory_fraction")
    if not 0 <= fraction <= 1:
        raise _C.ValueError(f"cuda.set_per_process_memory_fraction: expected a number in [0, 1], got {fraction}")
    total = mem_get_info(index)[1]
    _C._set_memory_limit(max(int(fraction * total), 1), _C.device("cuda", index))


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
    """A moment at which all work before it is done. All work goes to one stream, and record() waits for it: the times
    between events are right, but the host stands still at each. Without a device work is done when its call returns."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._timing = enable_timing
        self._at: float | None = None

    def record(self, stream: Any = None) -> None:
        """Waits for what was queued and notes the time."""
        if stream is not None:
            raise _C.NotImplementedError("Event.record: there is one stream, and none can be given")
        if is_available():
            synchronize()
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
