"""Time of small pieces of code."""

from __future__ import annotations

import statistics
import timeit
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Measurement:
    """Seconds of single runs of a statement."""

    number_per_run: int
    raw_times: list[float]
    label: str | None = None
    description: str | None = None
    sub_label: str | None = None
    times: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.times = [t / self.number_per_run for t in self.raw_times]

    @property
    def mean(self) -> float:
        return statistics.mean(self.times)

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def __repr__(self) -> str:
        return f"{self.label or 'Measurement'}: median {self.median * 1e6:.2f} us over {len(self.times)} runs"


class Timer:
    """Measures a statement given as text."""

    def __init__(
        self,
        stmt: str = "pass",
        setup: str = "pass",
        global_setup: str = "",
        timer: Any = timeit.default_timer,
        globals: dict[str, Any] | None = None,
        label: str | None = None,
        sub_label: str | None = None,
        description: str | None = None,
        env: str | None = None,
        num_threads: int = 1,
        language: Any = None,
    ) -> None:
        self._timer = timeit.Timer(stmt, setup, timer, globals)
        self._names = (label, description, sub_label)
        self._threads = num_threads

    def _runs(self, number: int, repeat: int) -> Measurement:
        from .._C import get_num_threads, set_num_threads

        before = get_num_threads()
        set_num_threads(self._threads)
        try:
            return Measurement(number, self._timer.repeat(repeat, number), *self._names)
        finally:
            set_num_threads(before)

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """One measurement of so many runs."""
        return self._runs(number, 1)

    def blocked_autorange(self, callback: Any = None, min_run_time: float = 0.2) -> Measurement:
        """As many runs as fit into the time, in blocks."""
        number, seconds = self._timer.autorange()
        return self._runs(number, max(1, int(min_run_time / max(seconds, 1e-9))))
