"""CUDA devices: what there is, and what to do with it. Without one, questions are answered and work is refused.

``emulate()`` (or ``TG_CUDA_EMULATE=1``) runs CUDA code on the CPU: for tests and for looking at kernels, never for
speed. Names and reports then say "emulation".
"""

from __future__ import annotations

import types
from typing import Any

from .. import _C
from .._suggest import lazy
from . import _devices
from ._devices import Device, current_device, device_count, device_of, is_available, set_device
from ._devices import index_of as _index
from ._devices import refuse as _refuse
from .graphs import CUDAGraph, graph, graph_pool_handle, is_current_stream_capturing
from .streams import (
    Event,
    ExternalStream,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    set_stream,
    stream,
)

# ---- what there is


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


def init() -> None:
    """Nothing has to be started: DeviceError if there is no device."""
    _index(None, "init")


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


def can_device_access_peer(device: Device, peer_device: Device) -> bool:
    """Whether kernels of one device could read another's memory; copies between the two then need not pass the host."""
    a, b = (_index(d, "can_device_access_peer") for d in (device, peer_device))
    return _C._cuda_can_access_peer(a, b)


# ---- memory: what the caching allocator of a device has handed out and keeps; nothing where there is no device


def memory_stats(device: Device = None) -> dict[str, int]:
    """Bytes handed out and taken from the device, their peaks, and counts, by PyTorch's names; {} without a device."""
    if not is_available():
        return {}
    on = _C.device("cuda", _index(device, "memory_stats"))
    s = {**_C._memory_stats(on), **_C._device_memory_stats(on)}
    return {
        "allocated_bytes.all.current": s["live"],
        "allocated_bytes.all.peak": s["peak"],
        "allocated_bytes.all.allocated": s["allocated"],
        "allocated_bytes.all.freed": s["allocated"] - s["live"],
        "active_bytes.all.current": s["active"],
        "active_bytes.all.peak": s["active_peak"],
        "active_bytes.all.allocated": s["allocated"],
        "active_bytes.all.freed": s["allocated"] - s["active"],
        "reserved_bytes.all.current": s["reserved"],
        "reserved_bytes.all.peak": s["reserved_peak"],
        "allocation.all.allocated": s["allocations"],
        "num_alloc_retries": s["retries"],
        "num_ooms": s["refusals"],
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
    """The most bytes that were taken from a device at once since reset_peak_memory_stats()."""
    return memory_stats(device).get("reserved_bytes.all.peak", 0)


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
    """Lets the peaks start again from what is alive, and what is taken from the device."""
    if is_available():
        _C._reset_peak(_C.device("cuda", _index(device, "reset_peak_memory_stats")))


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def set_per_process_memory_fraction(fraction: float, device: Device = None) -> None:
    """Bounds what may be taken from a device to a fraction in [0, 1] of its memory.

    What is kept for reuse is given back first; what does not fit then is an OutOfMemoryError.
    """
    index = _index(device, "set_per_process_memory_fraction")
    if not 0 <= fraction <= 1:
        raise _C.ValueError(f"cuda.set_per_process_memory_fraction: expected a number in [0, 1], got {fraction}")
    total = mem_get_info(index)[1]
    _C._set_memory_limit(max(int(fraction * total), 1), _C.device("cuda", index))


# ---- random numbers: one generator serves all devices, the CPU among them


def manual_seed(seed: int) -> None:
    """Seeds the generator of all devices, if there is a CUDA device: as tg.manual_seed."""
    if is_available():
        _C.manual_seed(int(seed))
    int(seed)


manual_seed_all = manual_seed


def seed() -> None:
    """Seeds the generator of all devices by chance, if there is a CUDA device."""
    if is_available():
        _C.seed()


seed_all = seed


def initial_seed() -> int:
    """The seed in use."""
    _index(None, "initial_seed")
    return _C.initial_seed()


def get_rng_state(device: Device = "cuda") -> _C.Tensor:
    """The state of the generator, which is one for all devices."""
    _index(device, "get_rng_state")
    return _C.get_rng_state()


def set_rng_state(new_state: _C.Tensor, device: Device = "cuda") -> None:
    """Puts the generator, which is one for all devices, into a state that get_rng_state() gave."""
    _index(device, "set_rng_state")
    _C.set_rng_state(new_state)


def get_rng_state_all() -> list[_C.Tensor]:
    """The state of each device."""
    return [get_rng_state(i) for i in range(device_count())]


def set_rng_state_all(new_states: Any) -> None:
    """Sets what get_rng_state_all() gave."""
    for i, state in enumerate(new_states):
        set_rng_state(state, i)


OutOfMemoryError = _C.OutOfMemoryError
device = _devices.device

# ---- kernels of users, compiled at run time

RawKernel = _C.RawKernel
_unknown = lazy(__name__, globals(), ["amp", "nccl", "nvtx", "random"])


def __getattr__(name: str) -> Any:
    from .._typed import NAMES, make_type

    if name not in NAMES:
        return _unknown(name)
    return globals().setdefault(name, make_type(name, is_cuda=True))
