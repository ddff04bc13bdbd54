"""Optimizers that share their state between processes: with one process, the optimizer itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import _C

__all__ = ["ZeroRedundancyOptimizer"]


def ZeroRedundancyOptimizer(
    params: Iterable[Any],
    optimizer_class: type,
    process_group: Any = None,
    parameters_as_bucket_view: bool = False,
    overlap_with_ddp: bool = False,
    **defaults: Any,
) -> Any:
    """An optimizer whose state is divided over the processes: all of it is here, as there is one."""
    if overlap_with_ddp:
        raise _C.NotImplementedError("ZeroRedundancyOptimizer: overlap_with_ddp needs more than one process")
    return optimizer_class(params, **defaults)
