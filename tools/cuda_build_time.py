"""Prints how long the CUDA plug-in took in the last build of a tree: the time in which at least one of its files was
being compiled or linked. Other files may have been compiled beside them, so alone it takes less.

    python tools/cuda_build_time.py build/py [--fresh]

The goal is printed beside it and not enforced: a slow or busy machine is no defect of a change.
With --fresh, for a tree that was new, it is an error if no file of the plug-in was compiled.
"""

from __future__ import annotations

import sys
from pathlib import Path

GOAL = 480  # seconds, on two cores
OURS = ("CMakeFiles/tinygrad_cuda.dir/", "libtinygrad_cuda.so")

Span = tuple[int, int]  # ms since ninja was started


def last_build(log: str) -> dict[str, Span]:
    """What ninja made in its last run. Commands are noted when they end, so where time goes back a new run begins."""
    spans: dict[str, Span] = {}
    before = 0
    for line in log.splitlines():
        fields = line.split("\t")  # start, end, time of the file, its name, hash of the command
        if len(fields) != 5:
            continue
        start, end = int(fields[0]), int(fields[1])
        if end < before:
            spans.clear()
        before, spans[fields[3]] = end, (start, end)
    return spans


def covered(spans: list[Span]) -> int:
    """Length of the union."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def main(tree: str, fresh: bool) -> None:
    spans = [s for name, s in last_build((Path(tree) / ".ninja_log").read_text()).items() if name.startswith(OURS)]
    print(f"CUDA part: {covered(spans) / 1000:.0f} s (goal: {GOAL} s), files: {len(spans)}")
    if fresh and not spans:
        sys.exit(f"{tree} is new, but no file of the CUDA plug-in was compiled in it")


if __name__ == "__main__":
    main(sys.argv[1], "--fresh" in sys.argv[2:])
