"""Worker processes of a loader: what runs in them, and the loader's side of starting, watching and ending them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, NoReturn

from .... import _C
from .fetch import EXHAUSTED, batch_seed, draws_nothing, make_fetch, seed_all
from .transport import receive, send

_WATCH = 2.0  # seconds between looks at whether the other side is still there
_MAX_LOAD = 32  # so many messages fit into a pipe: no side ever waits for the other one to read


@dataclass(frozen=True)
class WorkerInfo:
    """In a worker process: its number, how many there are, its seed and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """What a worker process is to know about itself; None in any other process."""
    return _info


@dataclass
class Plan:
    """What a worker needs to make batches."""

    dataset: Any
    batched: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    init_fn: Callable[[int], Any] | None


class _Failure:
    """An exception on its way to the loader: its class, if that can be pickled, and the traceback's text."""

    def __init__(self, where: str, error: BaseException) -> None:
        self.where = where
        self.kind = type(error)
        self.text = "".join(traceback.format_exception(error)).rstrip()

    def reraise(self) -> NoReturn:
        message = f"Caught {self.kind.__name__} in {self.where}.\nOriginal {self.text}"
        if issubclass(self.kind, KeyError):
            message = _Verbatim(message)  # KeyError prints the repr of its message
        try:
            error = self.kind(message)
        except Exception:  # a class whose constructor takes something else
            error = _C.Error(message)
        raise error from None


class _Verbatim(str):
    def __repr__(self) -> str:
        return str(self)


# ---- in the worker


def run(connection: Any, loader: int, plan: Plan, number: int, count: int, seed: int) -> None:
    """Answers (pass, seed, batch, indices) with (pass, batch, kind, result) until the loader ends."""
    global _info
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the loader's to handle, which ends its workers
    _C.set_num_threads(1)
    seed_all(seed + number)
    _info = WorkerInfo(number, count, seed + number, plan.dataset)
    where = f"DataLoader worker process {number}"
    current, fetch, failure = None, None, None
    plain = draws_nothing(plan.dataset, plan.collate_fn)
    try:
        if plan.init_fn is not None:
            plan.init_fn(number)
    except Exception as e:
        failure = _Failure(where, e)
    while True:
        while not connection.poll(_WATCH):
            if os.getppid() != loader:
                return
        try:
            turn, base, index, indices = receive(connection)
        except (EOFError, OSError):
            return
        result: Any = failure
        if failure is None:
            try:
                if not plain:
                    seed_all(batch_seed(base, index))
                if current != turn:
                    current, fetch = turn, make_fetch(plan.dataset, plan.batched, plan.collate_fn, plan.drop_last)
                result = fetch(indices)  # type: ignore[misc]
            except Exception as e:
                result = _Failure(where, e)
        _answer(connection, turn, index, result, where, loader)


def _answer(connection: Any, turn: int, index: int, result: Any, where: str, loader: int) -> None:
    kind = "exhausted" if result is EXHAUSTED else "failed" if isinstance(result, _Failure) else "batch"
    try:
        send(connection, (turn, index, kind, None if result is EXHAUSTED else result), loader)
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)
    except Exception as e:
        if isinstance(result, _Failure):
            result.kind = _C.Error  # a class that cannot be pickled
        else:
            result = _Failure(where, e)
        send(connection, (turn, index, "failed", result), loader)


# ---- in the loader


def _start_method() -> str:
    methods = multiprocessing.get_all_start_methods()
    return "fork" if "fork" in methods else methods[0]


class Workers:
    """The processes of a loader. A batch's result does not depend on which of them makes it."""

    def __init__(self, plan: Plan, count: int, seed: int, context: Any, timeout: float) -> None:
        if context is None or isinstance(context, str):
            # forked workers start fast and need no pickling of the dataset, unless the program chose another way
            context = multiprocessing.get_context(
                context or multiprocessing.get_start_method(allow_none=True) or _start_method()
            )
        self.owner = os.getpid()
        self.turn = 0  # the number of the pass
        self.broken = False
        self.load = [0] * count  # what each worker was told and has not answered
        self.timeout = timeout
        self.processes: list[Any] = []
        self.connections: list[Any] = []
        for i in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(theirs, self.owner, plan, i, count, seed), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.connections.append(ours)

    def batches(self, tasks: Iterator[Any], base: int, ahead: int, in_order: bool, first: int) -> Iterator[Any]:
        """The batches of the tasks (lists of indices), `ahead` of them made in advance, numbered from `first`.

        Tasks go round the workers, leaving out those whose stream has ended; which batch a worker makes depends on
        what was taken before, never on time, unless the order is free.
        """
        self.turn += 1
        turn, count = self.turn, len(self.processes)
        running = [True] * count
        under_way: list[int] = []  # the worker of each batch that is not here yet
        done: dict[int, tuple[int, str, Any]] = {}
        told, taken, place, more = first, first, 0, True
        while True:
            while more and told - taken < ahead and self.load[place] < _MAX_LOAD:
                task = next(tasks, EXHAUSTED) if any(running) else EXHAUSTED
                if task is EXHAUSTED:
                    more = False
                    break
                if not in_order:
                    place = min((w for w in range(count) if running[w]), key=under_way.count)
                while not running[place]:
                    place = (place + 1) % count
                self._tell(place, (turn, base, told, task))
                under_way.append(place)
                told, place = told + 1, (place + 1) % count
            if taken == told and not more:
                return
            index = taken if in_order else next(iter(done), -1)
            if index not in done:
                for worker, its_turn, its_index, kind, value in self._receive():
                    if its_turn == turn:
                        under_way.remove(worker)
                        done[its_index] = (worker, kind, value)
                continue
            worker, kind, value = done.pop(index)
            taken += 1
            if kind == "exhausted":
                running[worker] = False
            elif kind == "failed":
                value.reraise()
            else:
                yield value
                if turn != self.turn:
                    raise _C.Error("DataLoader: a newer pass over the same persistent workers has ended this one")

    def _tell(self, worker: int, task: Any) -> None:
        self.load[worker] += 1
        try:
            send(self.connections[worker], task, self.processes[worker].pid)
        except (BrokenPipeError, ConnectionResetError):
            self._died(worker)

    def _receive(self) -> list[Any]:
        """What has come, as (worker, pass, batch, kind, value); waits for at least one."""
        since = time.monotonic()
        while True:
            ready = wait(self.connections, min(_WATCH, self.timeout or _WATCH))
            if ready:
                return [self._read(self.connections.index(c)) for c in ready]
            for i, p in enumerate(self.processes):
                if not p.is_alive():
                    self._died(i)
            if self.timeout and time.monotonic() - since >= self.timeout:
                self.broken = True
                raise _C.Error(f"DataLoader: timed out after {self.timeout} seconds without a batch")

    def _read(self, worker: int) -> Any:
        try:
            answer = receive(self.connections[worker])
        except (EOFError, ConnectionResetError):
            self._died(worker)
        self.load[worker] -= 1
        return worker, *answer

    def _died(self, worker: int) -> NoReturn:
        self.broken = True
        process = self.processes[worker]
        process.join(_WATCH)
        code = process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
            how = f"was killed by signal {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
        else:
            how = f"exited unexpectedly with code {code}"
        raise _C.Error(f"DataLoader: worker process {worker} (pid {process.pid}) {how}")

    def end(self) -> None:
        """Ends all processes, by force those that do not react within 5 seconds."""
        if os.getpid() != self.owner:
            return  # a copy in a forked process
        for p, c in zip(self.processes, self.connections):
            p.terminate()  # ends what it is doing
            with suppress(OSError), socket.socket(fileno=os.dup(c.fileno())) as s:
                s.shutdown(socket.SHUT_RDWR)  # wakes it where it waits, also if the signal came just before
        deadline = time.monotonic() + 5
        for p, c in zip(self.processes, self.connections):
            p.join(max(0.0, deadline - time.monotonic()))
            if p.is_alive():
                p.kill()
                p.join()
            c.close()
        self.processes, self.connections = [], []
