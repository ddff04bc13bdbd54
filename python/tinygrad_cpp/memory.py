"""Memory that tensors use: how much, what for, when, and where it was asked for."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import _C
from .autograd.graph import saved_tensors_hooks

__all__ = """Record Timeline cached largest live peak phase record release_cached reset_peak set_limit stats summary
timeline""".split()

Tensor = _C.Tensor
Device = _C.device | str
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def stats(device: Device = "cpu") -> dict[str, int]:
    """Bytes live, cached and at peak, and the number of allocations so far."""
    return _C._memory_stats(device)


def live(device: Device = "cpu") -> int:
    """Bytes that tensors hold."""
    return _C._memory_stats(device)["live"]


def cached(device: Device = "cpu") -> int:
    """Bytes kept for reuse."""
    return _C._memory_stats(device)["cached"]


def peak(device: Device = "cpu") -> int:
    """Largest number of live bytes since reset_peak()."""
    return _C._memory_stats(device)["peak"]


def reset_peak(device: Device = "cpu") -> None:
    """Starts the count of the peak anew."""
    _C._reset_peak(device)


def release_cached(device: Device = "cpu") -> None:
    """Returns memory that is kept for reuse to the system."""
    _C._release_cached(device)


def set_limit(bytes: int, device: Device = "cpu") -> None:
    """Upper bound on live bytes, beyond which OutOfMemoryError is raised; 0 means none."""
    _C._set_memory_limit(bytes, device)


def text(n: float) -> str:
    """A number of bytes for people: '1.50 MiB'."""
    return _C._bytes_text(n)


# ---- what is kept for backward


class _Kept:
    """What the graph holds in place of a tensor; dies with it."""

    __slots__ = ("__weakref__", "module", "tensor")

    def __init__(self, tensor: Tensor, module: str) -> None:
        self.tensor, self.module = tensor, module


def _user_line() -> str:
    """file:line of the innermost frame outside of this package, for the notes of core/memory_log.h."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


class Record(saved_tensors_hooks):
    """Notes, while entered, what this thread makes and keeps: what is kept for backward by which module, and the op
    and line that asked for each piece of memory, which errors of missing memory then name. Slows every op; for
    diagnosis.

    >>> with tg.memory.record(model) as kept:
    ...     loss = model(x).sum()
    >>> print(tg.memory.summary(model, optimizer, kept))
    """

    def __init__(self, model: Any = None) -> None:
        self._model, self._kept, self._path, self._handles = model, [], [""], []  # type: ignore[var-annotated]
        self._logged = False
        super().__init__(self._pack, lambda kept: kept.tensor)

    def _pack(self, t: Tensor) -> _Kept:
        kept = _Kept(t, self._path[-1])
        self._kept.append(weakref.ref(kept))
        return kept

    def _leave(self, module: Any, inputs: Any, output: Any) -> None:
        self._path.pop()

    def __enter__(self) -> Record:  # type: ignore[override]
        for name, module in self._model.named_modules() if self._model is not None else ():
            self._handles.append(module.register_forward_pre_hook(lambda m, x, name=name: self._path.append(name)))
            self._handles.append(module.register_forward_hook(self._leave))
        super().__enter__()
        self._logged = _C._set_memory_log(True)
        return self

    def __exit__(self, *error: Any) -> None:
        _C._set_memory_log(self._logged)
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._handles, self._path = [], [""]

    def live(self, without: Iterable[Tensor] = ()) -> list[_Kept]:
        """What is still kept, the largest first; each piece of memory once, and none of those given."""
        seen = {_place(t) for t in without}
        found = []
        for kept in (r() for r in self._kept):
            if kept is not None and _place(kept.tensor) not in seen:
                seen.add(_place(kept.tensor))
                found.append(kept)
        return sorted(found, key=lambda k: -k.tensor.untyped_storage().nbytes())

    def bytes(self, without: Iterable[Tensor] = ()) -> int:
        """Bytes that are still kept."""
        return sum(k.tensor.untyped_storage().nbytes() for k in self.live(without))


record = Record


def largest(n: int = 10, device: Device | None = None) -> list[Tensor]:
    """The largest pieces of memory among the tensors that Python sees; what only the graph holds is in a record().

    Those of one device, or of all.
    """
    at = None if device is None else _C.device(device)
    tensors = {_place(t): t for t in gc.get_objects() if issubclass(type(t), Tensor) and _counts(t, at)}
    return sorted(tensors.values(), key=lambda t: -t.untyped_storage().nbytes())[:n]


def _counts(t: Any, device: _C.device | None) -> bool:
    return not getattr(t, "is_sparse", False) and device in (None, t.device)


def _device_of(model: Any) -> _C.device:
    """Where the memory of a model is: the device of its first parameter."""
    first = next(iter(model.parameters()), None) if model is not None else None
    return _C.device("cpu") if first is None else first.device


def _state_tensors(optimizer: Any) -> list[Tensor]:
    return [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]


def _place(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum({_place(t): t.untyped_storage().nbytes() for t in tensors}.values())


def summary(
    model: Any = None,
    optimizer: Any = None,
    record: Record | None = None,
    top: int = 8,
    device: Device | None = None,
) -> str:
    """What the live memory of a device (the model's) is used for: by kind, by module, and the largest tensors.

    Activations (what is kept for backward), their modules and lines need a record(); else they are among "other".
    """
    at = _device_of(model) if device is None else _C.device(device)
    here = lambda tensors: [t for t in tensors if _counts(t, at)]
    parameters = here(model.parameters()) if model is not None else []
    buffers = here(model.buffers()) if model is not None else []
    gradients = here(p.grad for p in parameters if p.grad is not None)
    kinds = {
        "parameters": _bytes(parameters),
        "buffers": _bytes(buffers),
        "gradients": _bytes(gradients),
        "optimizer state": _bytes(here(_state_tensors(optimizer))) if optimizer is not None else 0,
    }
    held = []
    if record is not None:
        held = [k for k in record.live([*parameters, *gradients, *buffers]) if _counts(k.tensor, at)]
        kinds["activations"] = _bytes(k.tensor for k in held)
    now = stats(at)
    kinds["workspace, other"] = max(0, now["live"] - sum(kinds.values()))
    lines = [f"{at}: live {text(now['live'])}, peak {text(now['peak'])}, cached {text(now['cached'])}"]
    lines += [f"  {name:<18}{text(n):>12}" for name, n in kinds.items()]
    if model is not None:
        lines.append(f"by module{'parameters':>21}{'gradients':>12}{'activations':>13}")
        acts: dict[str, int] = {}
        for kept in held:
            acts[kept.module] = acts.get(kept.module, 0) + kept.tensor.untyped_storage().nbytes()
        for name, module in model.named_modules():
            own = here(module.parameters(recurse=False))
            if own or name in acts:
                grads = _bytes(here(p.grad for p in own if p.grad is not None))
                row = f"{text(_bytes(own)):>12}{text(grads):>12}{text(acts.get(name, 0)):>13}"
                lines.append(f"  {name or '(model)':<16}{row}")
    return "\n".join([*lines, "largest", *_largest_lines({_place(k.tensor): k for k in held}, top, at)])


def _largest_lines(kept: dict[int, _Kept], top: int, device: _C.device) -> Iterator[str]:
    """The largest pieces of memory: size, the tensor where one is known, and who made and keeps it where noted."""
    tensors = {_place(t): t for t in largest(top + len(kept), device)} | {at: k.tensor for at, k in kept.items()}
    notes = {at: (size, f"made by {op} at {line}") for at, size, op, line in _C._memory_holders(device)}
    sizes = {at: t.untyped_storage().nbytes() for at, t in tensors.items()} | {at: n for at, (n, _) in notes.items()}
    for at in sorted(sizes, key=lambda at: -sizes[at])[:top]:
        t = tensors.get(at)
        what = f"{str(t.dtype).rsplit('.', 1)[-1]} {tuple(t.shape)}" if t is not None else ""
        why = [f"kept in {kept[at].module or '-'}"] if at in kept else []
        why += [notes[at][1]] if at in notes else []
        yield f"  {text(sizes[at]):>12}  {what}  {', '.join(why)}".rstrip()


# ---- over time

_watching: list[Timeline] = []


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Names a part of a training step (forward, loss, backward, optimizer) for a timeline(); costs nothing without."""
    watch = _watching[-1] if _watching else None
    if watch is None:
        yield
        return
    before = watch._switch(name)
    try:
        yield
    finally:
        watch._switch(before)


class Timeline:
    """Live bytes during a call: `samples` of (seconds, bytes, phase), `peaks` of each phase in bytes (exact)."""

    def __init__(self, device: Device = "cpu") -> None:
        self.device = device
        self.samples: list[tuple[float, int, str]] = []
        self.peaks: dict[str, int] = {}
        self.result: Any = None
        self._phase, self._start = "", time.perf_counter()
        self._lock = threading.Lock()

    def _sample(self) -> None:
        with self._lock:
            self.samples.append((time.perf_counter() - self._start, live(self.device), self._phase))

    def _switch(self, name: str) -> str:
        self._sample()
        self.peaks[self._phase] = max(self.peaks.get(self._phase, 0), peak(self.device))
        reset_peak(self.device)
        before, self._phase = self._phase, name
        self._sample()
        return before

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draws live MiB over the samples, one curve per phase, as a PNG file."""
        from .utils.plot import save_plot

        names = list(dict.fromkeys(p for _, _, p in self.samples))
        curves = {
            n or "other": [b / 2**20 if p == n else float("nan") for _, b, p in self.samples]
            for n in names
            if sum(p == n for _, _, p in self.samples) > 1
        }
        save_plot(path, {"live MiB": curves})

    def __str__(self) -> str:
        return "\n".join(f"{name or 'other':<12}{text(n):>12}" for name, n in self.peaks.items())


def timeline(
    step_fn: Callable[[], Any],
    path: str | os.PathLike[str] | None = None,
    interval: float = 0.001,
    device: Device = "cpu",
) -> Timeline:
    """Calls step_fn() and watches live memory: a sample every `interval` seconds and at each phase(); draws to `path`.

    Starts the count of the peak anew.
    """
    watch, stop = Timeline(device), threading.Event()

    def loop() -> None:
        while not stop.wait(interval):
            watch._sample()

    thread = threading.Thread(target=loop, daemon=True)
    reset_peak(device)
    _watching.append(watch)
    thread.start()
    try:
        watch.result = step_fn()
    finally:
        stop.set()
        thread.join()
        _watching.remove(watch)
    watch._switch("")
    if path is not None:
        watch.save(path)
    return watch
