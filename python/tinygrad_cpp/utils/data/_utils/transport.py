"""How a batch goes from a worker to the loader: pickled, and through memory without a name if it is large.

A large message goes through an anonymous file in memory whose descriptor is passed along: nothing is left behind
however either side ends, and a worker never waits for the other side to read.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy as np

from .... import _C

_INLINE = 1024  # bytes; a larger message does not go through the pipe


class _Pickler(pickle.Pickler):
    """Leaves the values of tensors and arrays out of the stream, to be written without a copy."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.buffers: list[memoryview] = []
        super().__init__(stream, protocol=5, buffer_callback=self._keep)

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < 1024:
            return True  # stays in the stream
        self.buffers.append(raw)
        return False

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not _C.Tensor or obj.requires_grad or obj.is_cuda:
            return NotImplemented
        if obj.dtype == _C.bfloat16 or obj.numel() == 0:
            return NotImplemented
        return _C.from_numpy, (np.ascontiguousarray(obj.numpy()).reshape(tuple(obj.shape)),)


def send(connection: Connection, message: Any, reader: int) -> None:
    """Writes a message for the process `reader`."""
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(message)
    parts = [stream.getbuffer(), *pickler.buffers]
    sizes = [p.nbytes for p in parts]
    if sum(sizes) <= _INLINE and len(parts) == 1:
        connection.send_bytes(parts[0])
        return
    with _unnamed_file() as file:
        for part in parts:
            file.write(part)
        file.flush()
        connection.send_bytes(pickle.dumps(_InFile(sizes)))
        send_handle(connection, file.fileno(), reader)


def receive(connection: Connection) -> Any:
    """The next message; EOFError if the other side has ended."""
    message = pickle.loads(connection.recv_bytes())
    if not isinstance(message, _InFile):
        return message
    with open(recv_handle(connection), "rb", buffering=0) as file:
        file.seek(0)
        # memory that earlier batches have left: fresh pages cost more than the copy
        parts = [_C.ops.empty([size], dtype=_C.uint8, device="cpu").numpy().data for size in message.sizes]
        for part in parts:
            _read(file, part)
    return pickle.loads(parts[0], buffers=parts[1:])


class _InFile:
    """Stands in the pipe for a message whose parts, of these sizes, are in a file."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes


def _unnamed_file() -> Any:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("batch"), "r+b")
    return tempfile.TemporaryFile()


def _read(file: io.FileIO, into: memoryview) -> None:
    while into.nbytes:
        n = file.readinto(into)
        if not n:
            raise EOFError("a batch ended early")
        into = into[n:]
