"""DataLoader: batches of a dataset, made here or in worker processes."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ... import _C
from ._utils.collate import default_collate, default_convert, pinned
from ._utils.fetch import (
    EXHAUSTED,
    batch_seed,
    draws_nothing,
    generator_states,
    make_fetch,
    seeded,
    set_generator_states,
    undisturbed,
)
from .dataset import IterableDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed

__all__ = ["DataLoader"]

T_co = TypeVar("T_co", covariant=True)


class _Endless(Sampler[None]):
    """The sampler of a stream: there is nothing to choose."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


@dataclass
class _Pass:
    """Where a pass over the data stands: its number, the generators when it began, and the batches handed out."""

    epoch: int
    start: dict[str, Any]
    batches: int = 0
    ended: bool = False


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches.

    Samples are taken in the order of `sampler` or `batch_sampler` (by default one after the other, with `shuffle` in
    random order), joined by `collate_fn` and, with num_workers > 0, made by that many processes, `prefetch_factor`
    batches ahead per process. `batch_size=None` gives single samples. With `pin_memory`
    and a CUDA device, the batches' tensors lie in page-locked memory, from which they are copied beside other work.

    Randomness: each pass draws one seed from `generator` (or the default generator). Before each batch the default
    generator, `random` and `numpy.random` are seeded from it and the batch's number, and set back afterwards. So a
    random augmentation gives the same batches with any number of workers, and does not disturb the program's own
    random numbers. Generators that a dataset keeps for itself are its own affair; see `worker_init_fn`. An order drawn
    here is not PyTorch's for the same seed, as the generators differ.

    state_dict() says where the latest pass stands. After load_state_dict() the next pass goes on from there, with the
    same batches as if it had not been interrupted, for any number of workers.

    An exception in a worker is raised here with the worker's traceback; a worker that dies is an error that names it.
    """

    dataset: Any
    batch_size: int | None
    sampler: Any
    batch_sampler: Any
    _workers: Any = None  # only while persistent workers exist
    _made = False
    _pass: _Pass | None = None  # the latest
    _resume: dict[str, Any] | None = None  # what load_state_dict was given, until the next pass begins
    _epochs = 0  # passes begun

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        streams = isinstance(dataset, IterableDataset)
        own_order = bool(shuffle) or sampler is not None
        wrong = {
            "num_workers must not be negative": num_workers < 0,
            "timeout must not be negative": timeout < 0,
            "prefetch_factor needs num_workers > 0": num_workers == 0 and prefetch_factor is not None,
            "prefetch_factor must be positive": prefetch_factor is not None and prefetch_factor < 1,
            "persistent_workers needs num_workers > 0": num_workers == 0 and persistent_workers,
            "multiprocessing_context needs num_workers > 0": num_workers == 0 and multiprocessing_context is not None,
            "an IterableDataset has its own order: no shuffle, sampler or batch_sampler": streams
            and (own_order or batch_sampler is not None),
            "sampler and shuffle exclude each other": sampler is not None and bool(shuffle),
            "batch_sampler excludes batch_size, shuffle, sampler and drop_last": batch_sampler is not None
            and (batch_size != 1 or own_order or drop_last),
            "batch_size=None excludes drop_last": batch_size is None and drop_last,
        }
        for message, applies in wrong.items():
            if applies:
                raise _C.ValueError(f"DataLoader: {message}")

        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        order: Any = sampler
        if order is None:
            if streams:
                order = _Endless()
            else:
                order = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(order, batch_size, drop_last)
        self.sampler = order
        self.batch_sampler = batch_sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._made and name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset"):
            raise _C.ValueError(f"DataLoader: {name} cannot be set after the loader was made")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """The number of batches; TypeError if the dataset or the sampler has no length."""
        if not self._stream:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    @property
    def epoch(self) -> int:
        """The number, from 0, of the pass that is under way or comes next."""
        return int(self.state_dict()["epoch"])

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the number of the pass, the batches it has handed out, and the generators."""
        if self._resume is not None:
            return self._resume
        now = self._pass
        if now is None or now.ended or (not self._stream and now.batches == self._count()):
            return {"epoch": self._epochs, "batches": 0, "own": self._own_states(), "start": None}
        return {"epoch": now.epoch, "batches": now.batches, "own": None, "start": now.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next pass go on where a loader of the same data and settings stood at state_dict().

        A sampler of one's own is asked anew for the batches that are left out, with the generators as they were when
        the pass began; one that draws in the middle of a pass from a generator that others use cannot be repeated so.
        """
        if not {"epoch", "batches", "own", "start"} <= state_dict.keys():
            raise _C.ValueError("DataLoader.load_state_dict: this is not the state of a DataLoader")
        self._epochs = int(state_dict["epoch"])
        self._resume = dict(state_dict)
        self._pass = None
        if state_dict["own"] is not None:
            self._set_own_states(state_dict["own"])

    @property
    def _stream(self) -> bool:
        return isinstance(self.dataset, IterableDataset)

    def _count(self) -> int:
        """The number of batches, or -1."""
        try:
            return len(self)
        except TypeError:
            return -1

    def _generators(self) -> list[Any]:
        """The generators that only this loader and its samplers use, each once."""
        places = (self, self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None))
        found = {id(g): g for p in places if isinstance(g := getattr(p, "generator", None), _C.Generator)}
        return list(found.values())

    def _own_states(self) -> list[Any]:
        return [g.get_state() for g in self._generators()]

    def _set_own_states(self, states: list[Any]) -> None:
        own = self._generators()
        if len(own) != len(states):
            raise _C.ValueError(f"DataLoader.load_state_dict: {len(states)} generators in the state, {len(own)} here")
        for g, state in zip(own, states):
            g.set_state(state)

    def __iter__(self) -> Iterator[Any]:
        state, self._resume = self._resume, None
        if state is None or state["start"] is None:
            now = self._pass = _Pass(self._epochs, {"shared": generator_states(), "own": self._own_states()})
            self._epochs += 1
            return self._counted(now, self._batches(draw_seed(self.generator), self._tasks(), 0))
        now = self._pass = _Pass(self._epochs, state["start"], state["batches"])
        self._epochs += 1
        with undisturbed():
            set_generator_states(now.start["shared"])
            self._set_own_states(now.start["own"])
            seed, tasks = draw_seed(self.generator), self._tasks()
            if not self._stream:
                for _ in range(now.batches):
                    next(tasks, None)
                return self._counted(now, self._batches(seed, tasks, now.batches))
        # A stream cannot be entered in the middle: what was handed out is made again and left out.
        return self._counted(now, itertools.islice(self._batches(seed, tasks, 0), now.batches, None))

    def _counted(self, now: _Pass, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            now.batches += 1
            yield pinned(batch) if self.pin_memory else batch
        now.ended = True

    def _batches(self, seed: int, tasks: Iterator[Any], first: int) -> Iterator[Any]:
        return self._with_workers(seed, tasks, first) if self.num_workers else self._here(seed, tasks, first)

    def _tasks(self) -> Iterator[Any]:
        return iter(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def _here(self, seed: int, tasks: Iterator[Any], first: int) -> Iterator[Any]:
        plain = draws_nothing(self.dataset, self.collate_fn)
        fetch = None
        for number in itertools.count(first):
            task = next(tasks, EXHAUSTED)
            if task is EXHAUSTED:
                return
            with nullcontext() if plain else seeded(batch_seed(seed, number)):
                if fetch is None:
                    fetch = make_fetch(self.dataset, self.batch_sampler is not None, self.collate_fn, self.drop_last)
                batch = fetch(task)
            if batch is EXHAUSTED:
                return
            yield batch

    def _with_workers(self, seed: int, tasks: Iterator[Any], first: int) -> Iterator[Any]:
        from ._utils.worker import Plan, Workers

        workers = self._workers
        if workers is None:
            batched = self.batch_sampler is not None
            plan = Plan(self.dataset, batched, self.collate_fn, self.drop_last, self.worker_init_fn)
            workers = Workers(plan, self.num_workers, seed, self.multiprocessing_context, self.timeout)
            if self.persistent_workers:
                self._workers = workers
                weakref.finalize(self, workers.end)
        try:
            ahead = self.num_workers * (self.prefetch_factor or 2)
            yield from workers.batches(tasks, seed, ahead, self.in_order, first)
        finally:
            if workers.broken or not self.persistent_workers:
                self._workers = None
                workers.end()
