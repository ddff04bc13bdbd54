"""Apple's GPU: not used here."""

from . import _C


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def empty_cache() -> None:
    """Nothing is kept."""


def manual_seed(seed: int) -> None:
    """There is no generator to seed."""


def synchronize() -> None:
    """Refused: there is no device to wait for."""
    raise _C.DeviceError("mps.synchronize: there is no MPS device; backends.mps.is_available() is False")
