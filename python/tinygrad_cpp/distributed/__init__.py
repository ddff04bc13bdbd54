"""Training in several processes is not there yet: this module says that there is one.

`is_available()` is False. A group of one process can be made, so that programs written for any number run; collectives
over it return what went in. More than one process is refused.
"""

from __future__ import annotations

import enum
import os
from typing import Any

from .. import _C
from .._suggest import lazy

Tensor = _C.Tensor


class ReduceOp(enum.Enum):
    """How the values of the processes are combined."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    BAND = 5
    BOR = 6
    BXOR = 7


class Work:
    """An operation that is done."""

    def wait(self, timeout: Any = None) -> bool:
        return True

    def is_completed(self) -> bool:
        return True


class ProcessGroup:
    """The group of this one process."""

    def size(self) -> int:
        return 1

    def rank(self) -> int:
        return 0


class group:
    """Names of groups."""

    WORLD: ProcessGroup | None = None


GroupMember = group


def is_available() -> bool:
    """False: there is one process."""
    return False


def is_initialized() -> bool:
    """Whether init_process_group was called."""
    return group.WORLD is not None


def is_torchelastic_launched() -> bool:
    """Whether a launcher of several processes started this one."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_nccl_available() -> bool:
    """False."""
    return False


is_gloo_available = is_mpi_available = is_nccl_available


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: Any = None,
    world_size: int = -1,
    rank: int = -1,
    **ignored: Any,
) -> None:
    """Makes the group of this process; NotImplementedError if there are to be more."""
    if group.WORLD is not None:
        raise _C.ValueError("init_process_group: called twice")
    size = world_size if world_size >= 0 else int(os.environ.get("WORLD_SIZE", "1"))
    if size != 1:
        raise _C.NotImplementedError(f"init_process_group: {size} processes, but only one is supported")
    if rank > 0:
        raise _C.ValueError(f"init_process_group: rank {rank} of 1 process")
    group.WORLD = ProcessGroup()


def destroy_process_group(group_: Any = None) -> None:
    """Undoes init_process_group."""
    _need("destroy_process_group")
    group.WORLD = None


def _need(what: str) -> None:
    if group.WORLD is None:
        raise _C.ValueError(f"{what}: init_process_group was not called")


def get_rank(group: Any = None) -> int:
    """0."""
    _need("get_rank")
    return 0


def get_world_size(group: Any = None) -> int:
    """1."""
    _need("get_world_size")
    return 1


def get_backend(group: Any = None) -> str:
    """The way processes would talk to each other."""
    _need("get_backend")
    return "gloo"


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """0."""
    return 0


def new_group(ranks: Any = None, **ignored: Any) -> ProcessGroup:
    """A group of this process."""
    _need("new_group")
    if ranks is not None and list(ranks) != [0]:
        raise _C.ValueError(f"new_group: ranks must be [0], the only process, not {list(ranks)}")
    return ProcessGroup()


def _peer(what: str, rank: int | None) -> None:
    _need(what)
    if rank not in (None, 0):
        raise _C.ValueError(f"{what}: there is no process of rank {rank}, only one of rank 0")


def _done(async_op: bool) -> Work | None:
    return Work() if async_op else None


def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work | None:
    """Waits for all processes: returns at once."""
    _need("barrier")
    return _done(async_op)


def all_reduce(tensor: Tensor, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Combines a tensor over all processes: it stays as it is."""
    _need("all_reduce")
    return _done(async_op)


def broadcast(
    tensor: Tensor, src: int | None = None, group: Any = None, async_op: bool = False, group_src: int | None = None
) -> Work | None:
    """Copies a tensor from process src: it stays as it is."""
    _peer("broadcast", src)
    return _done(async_op)


def reduce(
    tensor: Tensor, dst: int | None = None, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Combines a tensor on process dst: it stays as it is."""
    _peer("reduce", dst)
    return _done(async_op)


def all_gather(tensor_list: list[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False) -> Work | None:
    """Collects the tensors of all processes into a list of one."""
    _need("all_gather")
    if len(tensor_list) != 1:
        raise _C.ValueError(f"all_gather: {len(tensor_list)} results for 1 process")
    tensor_list[0].copy_(tensor)
    return _done(async_op)


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Collects objects of all processes into a list of one."""
    _need("all_gather_object")
    object_list[0] = obj


def broadcast_object_list(
    object_list: list[Any], src: int | None = None, group: Any = None, device: Any = None
) -> None:
    """Copies objects from process src: they stay as they are."""
    _peer("broadcast_object_list", src)


__getattr__ = lazy(__name__, globals(), ["elastic", "optim"])
