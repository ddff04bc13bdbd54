"""Intel's GPUs: not used here."""


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def empty_cache() -> None:
    """Nothing is kept."""


def manual_seed_all(seed: int) -> None:
    """There is no generator to seed."""
