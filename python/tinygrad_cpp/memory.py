"""Memory that tensors use."""

from . import _C


def stats(device: "_C.device | str" = "cpu") -> dict[str, int]:
    """Bytes live, cached and at peak, and the number of allocations so far."""
    return _C._memory_stats(device)


def live(device: "_C.device | str" = "cpu") -> int:
    """Bytes that tensors hold."""
    return _C._memory_stats(device)["live"]


def cached(device: "_C.device | str" = "cpu") -> int:
    """Bytes kept for reuse."""
    return _C._memory_stats(device)["cached"]


def peak(device: "_C.device | str" = "cpu") -> int:
    """Largest number of live bytes since reset_peak()."""
    return _C._memory_stats(device)["peak"]


def reset_peak(device: "_C.device | str" = "cpu") -> None:
    """Starts the count of the peak anew."""
    _C._reset_peak(device)


def release_cached(device: "_C.device | str" = "cpu") -> None:
    """Returns memory that is kept for reuse to the system."""
    _C._release_cached(device)


def set_limit(bytes: int, device: "_C.device | str" = "cpu") -> None:
    """Upper bound on live bytes, beyond which OutOfMemoryError is raised; 0 means none."""
    _C._set_memory_limit(bytes, device)
