"""Sums, copies and gathers over tensors of several devices, by NCCL: one process and one tensor of each device.

Work goes to the current streams of the devices, or to `streams`. Tensors must be contiguous and of one dtype; nothing
here has a gradient. Sums have the order that NCCL chooses for the devices and the size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from .. import _C
from .streams import Stream, stream

__all__ = ["all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter"]

SUM, PROD, MAX, MIN, AVG = range(5)  # NCCL's numbers

Tensors = Sequence[_C.Tensor]
Streams = Sequence[Stream | None] | None

_KINDS = ("all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter")  # in the order of C++'s Collective


def version() -> tuple[int, int, int]:
    """NCCL's version; DeviceError that says what to install where it is not there."""
    v = _C._nccl_version()
    return v // 10000, v // 100 % 100, v % 100


def is_available(tensors: Tensors) -> bool:
    """Whether NCCL is there and takes these tensors: contiguous ones of CUDA devices, one of each. Never fails."""
    if not all(isinstance(t, _C.Tensor) and t.is_cuda and t.is_contiguous() for t in tensors):
        return False
    devices = [t.device.index for t in tensors]
    return len(set(devices)) == len(devices) and _C._nccl_found()


def unique_id() -> Any:
    """Refused: one process drives all devices here, so no others have to find it."""
    raise _C.NotImplementedError("cuda.nccl.unique_id: collectives are of one process, which drives all devices")


def init_rank(num_ranks: int, uid: Any, rank: int) -> Any:
    """Refused, as unique_id() is."""
    raise _C.NotImplementedError("cuda.nccl.init_rank: collectives are of one process, which drives all devices")


def _list(name: str, what: str, tensors: Any) -> list[_C.Tensor]:
    if isinstance(tensors, _C.Tensor) or not isinstance(tensors, Sequence):
        raise _C.TypeError(f"nccl.{name}: {what} should be a list of tensors, got {type(tensors).__name__}")
    for i, t in enumerate(tensors):
        if not isinstance(t, _C.Tensor):
            raise _C.TypeError(f"nccl.{name}: {what}[{i}] should be a tensor, got {type(t).__name__}")
    return list(tensors)


def _run(
    name: str, ins: Any, outs: Any, op: int = SUM, root: int = 0, streams: Streams = None, comms: Any = None
) -> None:
    if comms is not None:
        raise _C.NotImplementedError(f"nccl.{name}: communicators are made here, one for each list of devices")
    ins, outs = _list(name, "inputs", ins), _list(name, "outputs", outs)
    if streams is not None and len(streams) != len(ins):
        raise _C.ValueError(f"nccl.{name}: {len(streams)} streams for {len(ins)} tensors")
    with contextlib.ExitStack() as chosen:
        for t, s in zip(ins, streams or ()):
            if s is not None and s.device != t.device:
                raise _C.DeviceError(f"nccl.{name}: a stream of {s.device} for a tensor on {t.device}")
            chosen.enter_context(stream(s))
        _C._nccl_collective(_KINDS.index(name), ins, outs, op, root)


def all_reduce(
    inputs: Tensors, outputs: Tensors | None = None, op: int = SUM, streams: Streams = None, comms: Any = None
) -> None:
    """The sum (or what `op` says) of all inputs into each output; into the inputs if there are none."""
    _run("all_reduce", inputs, inputs if outputs is None else outputs, op, 0, streams, comms)


def reduce(
    inputs: Tensors,
    output: _C.Tensor | Tensors | None = None,
    root: int = 0,
    op: int = SUM,
    streams: Streams = None,
    comms: Any = None,
    *,
    outputs: Tensors | None = None,
) -> None:
    """The sum of all inputs into `output`, on the device of inputs[root]; into inputs[root] if there is none.

    A list, also as `outputs`, is the older way of PyTorch: its entry at `root` is meant.
    """
    if output is not None and outputs is not None:
        raise _C.ValueError("nccl.reduce: output and outputs cannot both be given")
    to: Any = outputs if output is None else output
    ins = _list("reduce", "inputs", inputs)
    if not 0 <= root < len(ins):
        raise _C.ValueError(f"nccl.reduce: root is {root}, there are {len(ins)} tensors")
    if to is None:
        to = ins
    one = to if isinstance(to, _C.Tensor) else _list("reduce", "outputs", to)[root]
    _run("reduce", ins, [one], op, root, streams, comms)


def broadcast(inputs: Tensors, root: int = 0, streams: Streams = None, comms: Any = None) -> None:
    """Puts what inputs[root] holds into all others."""
    _run("broadcast", inputs, inputs, SUM, root, streams, comms)


def all_gather(inputs: Tensors, outputs: Tensors, streams: Streams = None, comms: Any = None) -> None:
    """All inputs, one behind the other, into each output."""
    _run("all_gather", inputs, outputs, SUM, 0, streams, comms)


def reduce_scatter(
    inputs: Tensors, outputs: Tensors, op: int = SUM, streams: Streams = None, comms: Any = None
) -> None:
    """The sum of all inputs, in as many parts as there are tensors: the i-th part into outputs[i]."""
    _run("reduce_scatter", inputs, outputs, op, 0, streams, comms)
