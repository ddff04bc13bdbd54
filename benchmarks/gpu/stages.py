"""The stages in their order, the time that each may take, and what each result is stamped with."""

from __future__ import annotations

from typing import Any

from bench import bench
from builds import announce, build, fetch
from checks import conformance, determinism, matrix, sanitize
from common import Context, say
from device import ask_package, problem
from machine import stamp
from report import report

STAGES = {
    "build": build,
    "conformance": conformance,
    "matrix": matrix,
    "determinism": determinism,
    "sanitize": sanitize,
    "bench": bench,
    "report": report,
}
# Of the time of a call, what stages before may not use. bench has most, by the estimate in docs/cuda.md.
SHARES = {"matrix": 0.07, "determinism": 0.03, "sanitize": 0.08, "bench": 0.55, "report": 0.01}
# What the build leaves to the stages after it: without it they have nothing to run, so it may use the checks' time.
BUILD_KEEPS = ("bench", "report")


def kept(stage: str, later: list[str]) -> float:
    """The share of a call's time that `stage` leaves to those after it."""
    return sum(SHARES.get(s, 0) for s in later if stage != "build" or s in BUILD_KEEPS)


def perform(c: Context, stage: str) -> dict[str, Any]:
    """One stage, if it has a device and time; its result says what it ran on."""
    if stage == "fetch":
        return fetch(c)
    if stage == "report":
        return report(c)
    if stage == "build":
        result = build(c)
        c.found = ask_package(c)
        return result | stamp(c, built=False)
    c.found = ask_package(c)
    if trouble := problem(c):
        return {"verdict": "fail", "missing": [trouble]} | stamp(c)
    if c.left() < 5:
        return {"verdict": "out of time", "note": "no time before the stages after it: run it alone"} | stamp(c)
    return STAGES[stage](c) | stamp(c)


def go(c: Context, stages: list[str]) -> dict[str, dict[str, Any]]:
    """Runs the stages, or all of them, and returns their results, which are on disk too."""
    results: dict[str, dict[str, Any]] = {}
    names = stages or list(STAGES)
    for i, name in enumerate(names):
        c.later = c.budget * kept(name, names[i + 1 :])
        say(f"== {name}, {c.left():.0f} s")
        results[name] = perform(c, name)
        c.save(name, results[name])
        announce(name, results[name])
        if name == "build" and results[name]["verdict"] != "pass" and not stages:
            break
    return results
