"""Graphs: work that is recorded once and replayed with one call.

A replay runs the recorded kernels on the recorded addresses. So inputs are copied into the tensors that the recording
used (`static.copy_(x)`), and results are read from the tensors that it made. Numbers of the host are part of the
recording: a learning rate stays what it was. Random numbers go on from replay to replay, as the default generator gives
them. A wrong index of a replay is an IndexError where the host next waits for the device. What would be silently the
same in each replay is refused: other generators, and the steps of optimizers that count them.
"""

from __future__ import annotations

import gc
from typing import Any

from .. import _C
from . import streams
from ._devices import index_of, is_available, refuse

_uses: dict[tuple[int, int], int] = {}  # of pools, by device and number


class CUDAGraph:
    """Work of a device that is recorded once and replayed.

    Memory that the recording takes is the graph's own until reset(), or until the graph and all tensors in it are gone.
    """

    def __init__(self, keep_graph: bool = False) -> None:
        if not is_available():
            raise refuse("cuda.CUDAGraph")
        self._graph = 0
        self._pool: tuple[int, int] | None = None
        self._stream: streams.Stream | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """Records what this thread queues on its current stream, which must not be the default one.

        pool: what another graph's pool() gave, to use its memory too; the two must then be replayed in the order of
        their recording.
        """
        if self._graph or self._stream:
            raise _C.ValueError("CUDAGraph.capture_begin: the graph holds a recording; reset() it first")
        s = streams.current_stream()
        given = 0 if pool is None else pool[1]
        number = _C._cuda_capture_begin(s.device_index, s.cuda_stream, given)
        self._stream, self._pool = s, (s.device_index, number)
        _uses[self._pool] = _uses.get(self._pool, 0) + 1
        if isinstance(pool, _Handle):
            pool[1] = number

    def capture_end(self) -> None:
        """Ends the recording; DeviceError if it holds what a graph cannot do, such as reading a value of a tensor."""
        s, self._stream = self._stream, None
        if s is None:
            raise _C.ValueError("CUDAGraph.capture_end: nothing is being recorded")
        try:
            self._graph = _C._cuda_capture_end(s.device_index, s.cuda_stream)
        except BaseException:
            self.reset()
            raise

    def replay(self) -> None:
        """Queues the recorded work on the current stream."""
        if not self._graph or self._pool is None:
            raise _C.ValueError("CUDAGraph.replay: nothing was recorded")
        s = streams.current_stream(self._pool[0])
        _C._cuda_graph_launch(self._graph, s.device_index, s.cuda_stream)

    def pool(self) -> Any:
        """The graph's memory, for capture_begin() of others."""
        return self._pool

    def reset(self) -> None:
        """Forgets the recording and gives its memory back, but for tensors that are still alive."""
        if self._graph:
            _C._cuda_graph_destroy(self._graph)  # waits for a replay that is under way
            self._graph = 0
        if self._pool is not None:
            _uses[self._pool] -= 1
            if not _uses[self._pool]:
                del _uses[self._pool]
                _C._cuda_pool_release(*self._pool)
            self._pool = None

    def __del__(self) -> None:
        if getattr(self, "_graph", 0) or getattr(self, "_pool", None):
            self.reset()


class _Handle(list[int]):
    """A pool that is made by the first graph that records into it: [device, number]."""


def graph_pool_handle() -> Any:
    """A pool for capture_begin() of several graphs."""
    return _Handle([index_of(None, "graph_pool_handle"), 0])


class graph:
    """Records the work of a with block into a CUDAGraph, on a stream of its own unless one is given."""

    def __init__(
        self, cuda_graph: CUDAGraph, pool: Any = None, stream: streams.Stream | None = None, **mode: Any
    ) -> None:
        self.cuda_graph, self.pool = cuda_graph, pool
        self.stream = streams.Stream() if stream is None else stream
        self._context = streams.stream(self.stream)

    def __enter__(self) -> None:
        _C._cuda_synchronize(self.stream.device_index)
        gc.collect()
        self._context.__enter__()
        try:
            self.cuda_graph.capture_begin(self.pool)
        except BaseException:
            self._context.__exit__()
            raise

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self.cuda_graph.capture_end()
        except _C.Error:
            if error is None:  # otherwise the error that spoiled the recording is the one to see
                raise
        finally:
            self._context.__exit__()
            if error is not None:
                self.cuda_graph.reset()  # half a recording


def is_current_stream_capturing() -> bool:
    """Whether this thread is recording a graph."""
    return _C._cuda_capturing()
