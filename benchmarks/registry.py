"""What a workload is, and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Workload(NamedTuple):
    make: Callable[..., Callable[[], Any]]
    calls: int = 1  # how often a step repeats the thing that is measured
    goals: Mapping[str, float] = {}  # highest ratio of our time to "torch", "jax" or "best", the best of all peers
    training: bool = False  # a training step: runs in a process of its own, whose peak memory is reported


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, goals: Mapping[str, float] | None = None, calls: int = 1, training: bool = False):
    """Registers a function (t, compiled) -> step: `t` is the framework, `compiled` turns a function into its compiled
    form (the identity for eager frameworks), `step()` is what gets timed."""

    def register(make):
        assert name not in WORKLOADS, name
        WORKLOADS[name] = Workload(make, calls, goals or {}, training)
        return make

    return register
