"""Python's multiprocessing under PyTorch's name. Tensors are pickled: memory is not shared between processes."""

from __future__ import annotations

import multiprocessing as _mp
from collections.abc import Callable
from multiprocessing import *  # noqa: F403
from typing import Any


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> Any:
    """Runs fn(i, *args) in nprocs processes; RuntimeError if one of them fails."""
    context = _mp.get_context(start_method)
    processes = [context.Process(target=fn, args=(i, *args), daemon=daemon) for i in range(nprocs)]  # type: ignore[attr-defined]
    for p in processes:
        p.start()
    if not join:
        return processes
    for p in processes:
        p.join()
    failed = [i for i, p in enumerate(processes) if p.exitcode != 0]
    if failed:
        raise RuntimeError(f"multiprocessing.spawn: processes {failed} failed")


def get_sharing_strategy() -> str:
    """How tensors go to other processes: by copy, through files of the operating system."""
    return "file_system"


def set_sharing_strategy(new_strategy: str) -> None:
    """Accepted without effect."""


def get_all_sharing_strategies() -> set[str]:
    """The one there is."""
    return {"file_system"}
