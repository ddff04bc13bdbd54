"""Streams, which order the work of a device, and events, which mark moments in them.

Work on one stream runs in the order in which it was queued; work on two streams runs in any order unless an event says
otherwise. Each thread has a current stream per device: kernels, copies and memory follow it, gradients too. A tensor's
memory belongs to the stream that was current when it was made; `Tensor.record_stream` is for those that other streams
use.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from .. import _C
from ._devices import Device, index_of, is_available, refuse
from ._devices import device as device_context


def a_stream(value: Any, what: str) -> Any:
    """The value, if it is a stream, another library's included; otherwise a TypeError."""
    if not (hasattr(value, "device_index") and hasattr(value, "cuda_stream")):
        raise _C.TypeError(f"{what}: expected a cuda.Stream, got {type(value).__name__}")
    return value


def an_event(value: Any, what: str) -> Event:
    """The value, if it is an event; otherwise a TypeError."""
    if not isinstance(value, Event):
        raise _C.TypeError(f"{what}: expected a cuda.Event, got {type(value).__name__}")
    return value


class Stream:
    """A queue of work on a device.

    device: the current one for None. priority: 0, or -1 for work that is urgent. A device has 32 streams of each
    priority, which are handed out in turn. Errors: DeviceError without a device.
    """

    def __init__(self, device: Device = None, priority: int = 0, **known: Any) -> None:
        if not is_available():
            raise refuse("cuda.Stream")
        self.device_index = index_of(device, "Stream")
        self.priority = -1 if priority < 0 else 0
        self.cuda_stream: int = (
            known["stream_ptr"] if "stream_ptr" in known else _C._cuda_new_stream(self.device_index, self.priority)
        )

    @property
    def device(self) -> _C.device:
        """The stream's device."""
        return _C.device("cuda", self.device_index)

    @property
    def stream_id(self) -> int:
        """A number that no other stream of the device has; 0 is the default stream."""
        return self.cuda_stream

    def synchronize(self) -> None:
        """Returns when all work queued so far is done."""
        _C._cuda_stream_synchronize(self.device_index, self.cuda_stream)

    def query(self) -> bool:
        """Whether all work queued so far is done."""
        return _C._cuda_stream_query(self.device_index, self.cuda_stream)

    def wait_event(self, event: Event) -> None:
        """Later work of this stream begins when an event is reached; the caller does not wait."""
        an_event(event, "cuda.Stream.wait_event").wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Later work of this stream begins when what another has queued so far is done; the caller does not wait."""
        event = Event()
        event.record(a_stream(stream, "cuda.Stream.wait_stream"))
        self.wait_event(event)

    def record_event(self, event: Event | None = None) -> Event:
        """Records an event (a new one for None) behind all work queued so far."""
        event = Event() if event is None else an_event(event, "cuda.Stream.record_event")
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        self._context = stream(self)
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (other.device_index, other.cuda_stream) == (
            self.device_index,
            self.cuda_stream,
        )

    def __hash__(self) -> int:
        return hash((self.device_index, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<tinygrad_cpp.cuda.Stream device=cuda:{self.device_index} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """A stream that another library has made, by its address (cudaStream_t); that library keeps it alive."""

    def __init__(self, stream_ptr: int, device: Device = None) -> None:
        super().__init__(device, stream_ptr=stream_ptr)


class Event:
    """A moment in a stream, reached when all work queued before it is done.

    enable_timing: whether elapsed_time() may be asked. blocking: synchronize() sleeps instead of spinning. Without a
    device work is done when its call returns, so that the moment is that of record().
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        if interprocess:
            raise _C.NotImplementedError("Event: no event can be shared between processes")
        self._timing = enable_timing
        self._event = _C._CudaEvent(enable_timing, blocking) if is_available() else None
        self._at: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Marks the moment behind all that a stream (the current one for None) has queued so far."""
        if stream is not None:
            a_stream(stream, "cuda.Event.record")
        if self._event is None:
            self._at = time.perf_counter()
            return
        stream = current_stream() if stream is None else stream
        self._event.record(stream.device_index, stream.cuda_stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Later work of a stream (the current one for None) begins when the event is reached."""
        if stream is not None:
            a_stream(stream, "cuda.Event.wait")
        if self._event is not None:
            stream = current_stream() if stream is None else stream
            self._event.wait(stream.device_index, stream.cuda_stream)

    def query(self) -> bool:
        """Whether the event is reached; True if it was never recorded."""
        return self._event is None or self._event.query()

    def synchronize(self) -> None:
        """Returns when the event is reached."""
        if self._event is not None:
            self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds of the device between two events that both are reached; ValueError otherwise."""
        an_event(end_event, "cuda.Event.elapsed_time")
        if self._event is not None and end_event._event is not None:
            return self._event.elapsed(end_event._event)
        if self._at is None or end_event._at is None or not (self._timing and end_event._timing):
            raise _C.ValueError("Event.elapsed_time: both events need enable_timing=True and a record() before")
        return (end_event._at - self._at) * 1e3

    @property
    def cuda_event(self) -> int:
        """The event's address (cudaEvent_t); 0 before it is first recorded."""
        return 0 if self._event is None else self._event.address


def current_stream(device: Device = None) -> Stream:
    """The stream that this thread's next work on a device goes to."""
    index = index_of(device, "current_stream")
    return Stream(index, stream_ptr=_C._cuda_current_stream(index))


def default_stream(device: Device = None) -> Stream:
    """The stream that work goes to where no other was chosen."""
    return Stream(index_of(device, "default_stream"), stream_ptr=0)


def set_stream(stream: Stream | None) -> None:
    """Makes a stream and its device current for this thread; None changes nothing."""
    if stream is not None:
        a_stream(stream, "cuda.set_stream")
        _C._cuda_set_device(stream.device_index)
        _C._cuda_set_stream(stream.device_index, stream.cuda_stream)


class StreamContext(contextlib.AbstractContextManager[None]):
    """Makes a stream and its device current for this thread inside a with block; None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream if stream is None else a_stream(stream, "cuda.stream")

    def __enter__(self) -> None:
        if self.stream is not None:
            self._device = device_context(self.stream.device_index)
            self._device.__enter__()
            self._before = _C._cuda_current_stream(self.stream.device_index)
            set_stream(self.stream)

    def __exit__(self, *error: Any) -> None:
        if self.stream is not None:
            _C._cuda_set_stream(self.stream.device_index, self._before)
            self._device.__exit__(*error)


def stream(stream: Stream | None) -> StreamContext:
    """Queues this thread's work on a stream inside a with block; None changes nothing."""
    return StreamContext(stream)
