"""What turns indices into a batch, and the random numbers it may use."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from .... import _C
from ..dataset import ConcatDataset, IterableDataset, Subset, TensorDataset
from .collate import default_collate, default_convert

EXHAUSTED = object()
_MASK = 2**64 - 1


def batch_seed(base: int, index: int) -> int:
    """The seed of one batch: a hash of the pass's seed and the batch's number (splitmix64)."""
    z = (base + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def seed_all(seed: int) -> None:
    """Seeds this package's default generator, `random` and `numpy.random`."""
    _C.manual_seed(seed)
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])


def generator_states() -> dict[str, Any]:
    """Where this package's default generator, `random` and `numpy.random` stand; save() can store it."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "tinygrad_cpp": _C.get_rng_state(),
        "random": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Sets them back to where generator_states() found them."""
    _C.set_rng_state(states["tinygrad_cpp"])
    random.setstate(states["random"])
    np.random.set_state(states["numpy"])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Afterwards the three generators go on as if nothing had been drawn inside."""
    before = _C.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        _C.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the three generators start from the seed; afterwards they go on as if nothing had been drawn."""
    with undisturbed():
        seed_all(seed)
        yield


def draws_nothing(dataset: Any, collate_fn: Any) -> bool:
    """Whether fetching surely uses no random numbers, which spares the seeding (0.1 ms a batch)."""
    if collate_fn not in (default_collate, default_convert):
        return False
    while type(dataset) is Subset:
        dataset = dataset.dataset
    if type(dataset) is ConcatDataset:
        return all(draws_nothing(d, collate_fn) for d in dataset.datasets)
    return type(dataset) in (TensorDataset, list, tuple, range, np.ndarray, _C.Tensor)


def make_fetch(dataset: Any, batched: bool, collate_fn: Callable[[Any], Any], drop_last: bool) -> Callable[[Any], Any]:
    """A function from an index, or a list of them, to a batch; EXHAUSTED when an iterable dataset has ended."""
    if isinstance(dataset, IterableDataset):
        samples = iter(dataset)

        def fetch_next(indices: Any) -> Any:
            got = list(islice(samples, len(indices) if batched else 1))
            if not got or (batched and drop_last and len(got) < len(indices)):
                return EXHAUSTED
            return collate_fn(got if batched else got[0])

        return fetch_next

    def fetch(indices: Any) -> Any:
        if not batched:
            return collate_fn(dataset[indices])
        if callable(getattr(dataset, "__getitems__", None)):
            return collate_fn(dataset.__getitems__(indices))
        return collate_fn([dataset[i] for i in indices])

    return fetch
