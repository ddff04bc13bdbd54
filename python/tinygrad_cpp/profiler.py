"""Accepts what programs do with PyTorch's profiler. It counts steps and marked regions; ops are not recorded yet."""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from . import _C
from ._modes import Scope

__all__ = ["ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule", "tensorboard_trace_handler"]


class ProfilerActivity(enum.Enum):
    """What is watched."""

    CPU = 0
    XPU = 1
    CUDA = 2


class ProfilerAction(enum.Enum):
    """What happens in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """The action of each step: wait, warm up, record, and so on in turn."""
    cycle = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        step -= skip_first
        if step < 0 or (repeat > 0 and step // cycle >= repeat):
            return ProfilerAction.NONE
        at = step % cycle
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < cycle - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None, use_gzip: bool = False) -> Any:
    """An on_trace_ready function that writes the trace into a folder."""

    def handler(prof: profile) -> None:
        _C._make_folders(os.fspath(dir_name))
        prof.export_chrome_trace(os.path.join(dir_name, f"{worker_name or os.getpid()}.{time.time_ns()}.pt.trace.json"))

    return handler


class _Region:
    def __init__(self, key: str) -> None:
        self.key, self.count, self.total = key, 0, 0.0

    @property
    def cpu_time_total(self) -> float:
        """Microseconds."""
        return self.total * 1e6


class _Regions(list[_Region]):
    def table(self, sort_by: str | None = None, row_limit: int = 100, **ignored: Any) -> str:
        """Marked regions, the longest first."""
        rows = sorted(self, key=lambda r: -r.total)[: row_limit if row_limit >= 0 else None]
        lines = [f"{'name':<40} {'calls':>8} {'total':>12}"]
        lines += [f"{r.key[:40]:<40} {r.count:>8} {r.total * 1e3:>9.3f} ms" for r in rows]
        return "\n".join([*lines, "Regions marked by record_function; single ops are not recorded yet."])

    def total_average(self) -> _Region:
        total = _Region("total")
        total.count, total.total = sum(r.count for r in self), sum(r.total for r in self)
        return total


_running: list[profile] = []


class profile:
    """Watches the code inside a with block; `step()` tells that a training step is over."""

    def __init__(
        self,
        enabled: bool = True,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        **ignored: Any,
    ) -> None:
        self.enabled = enabled
        self.step_num = 0
        self._schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self._on_trace_ready = on_trace_ready
        self._regions: dict[str, _Region] = {}
        self.current_action = ProfilerAction.NONE

    def start(self) -> None:
        """Begins to watch."""
        self.current_action = self._schedule(self.step_num)
        _running.append(self)

    def stop(self) -> None:
        """Ends it."""
        if self in _running:
            _running.remove(self)
        if self._on_trace_ready is not None and self.current_action in (
            ProfilerAction.RECORD,
            ProfilerAction.RECORD_AND_SAVE,
        ):
            self._on_trace_ready(self)

    def step(self) -> None:
        """Tells that a step is over."""
        ready = self.current_action is ProfilerAction.RECORD_AND_SAVE
        self.step_num += 1
        self.current_action = self._schedule(self.step_num)
        if ready and self._on_trace_ready is not None:
            self._on_trace_ready(self)

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def _add(self, name: str, seconds: float) -> None:
        region = self._regions.setdefault(name, _Region(name))
        region.count += 1
        region.total += seconds

    def key_averages(self, *args: Any, **kwargs: Any) -> _Regions:
        """Counts and times of the marked regions."""
        return _Regions(self._regions.values())

    def events(self) -> list[Any]:
        """Nothing: single ops are not recorded yet."""
        return []

    def table(self, **kwargs: Any) -> str:
        return self.key_averages().table(**kwargs)

    def export_chrome_trace(self, path: str) -> None:
        """Writes the marked regions as a trace file."""
        events = [{"name": r.key, "ph": "X", "ts": 0, "dur": r.cpu_time_total, "pid": 0} for r in self.key_averages()]
        _C._write_file(os.fspath(path), json.dumps({"traceEvents": events}).encode())

    def add_metadata(self, key: str, value: str) -> None:
        """Accepted; trace files carry no metadata."""


class record_function(Scope):
    """Gives a name to a region of the program: a context manager and a decorator."""

    def __init__(self, name: str, args: str | None = None) -> None:
        super().__init__()
        self.name = name

    def _enter(self) -> Any:
        return time.perf_counter()

    def _leave(self, old: Any) -> None:
        for prof in _running:
            prof._add(self.name, time.perf_counter() - old)

    def _fresh(self) -> record_function:
        return record_function(self.name)
