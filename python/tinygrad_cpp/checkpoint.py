"""Training that can be interrupted: saves everything a run depends on, and goes on from there with the same bits.

    training = tg.checkpoint.Training(model, optimizer, scheduler=scheduler, loader=loader, folder="run")
    step = training.restore()
    for epoch in range(loader.epoch, epochs):
        for x, y in loader:
            ...  # forward, backward, optimizer.step(), scheduler.step(), optimizer.zero_grad()
            step += 1
            training.after(step)
    training.save(step)
    training.close()

(tinygrad_cpp.utils.checkpoint is something else: activation checkpointing.)
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Iterable
from types import FrameType
from typing import Any

from . import _C, serialization
from .utils.data._utils.fetch import generator_states, set_generator_states

__all__ = ["Training", "best_interval"]


best_interval = _C.best_interval


class Training:
    """Saves and restores a training run in a folder: one file per saved step, the newest `keep` of them.

    model, optimizer, scaler, scheduler, loader: what has state_dict() and load_state_dict(), or a list or a dict of
    such. The states of the default generator, of `random` and of `numpy.random` are always part of a checkpoint.
    extra: a dict; values with state_dict() and generators are restored in place, the rest is stored as it is and put
    back into the dict. Not saved: gradients (save where they are zeroed) and what other objects keep for themselves.

    Files are written whole or not at all, and carry checksums. restore() takes the newest one that is undamaged.

    after(step), called at the end of each step, saves every `every` steps, or as often as best_interval() says for
    `mean_time_between_failures` (seconds) and the time that saves take here. After SIGTERM it saves and ends the
    program by SystemExit(143); `on_sigterm=False` leaves the signal alone. With `background`, the state is copied and
    a thread writes it while training goes on; an error of it is raised by the next call of save, after, wait or close,
    and is a warning if there is none.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        scaler: Any = None,
        scheduler: Any = None,
        loader: Any = None,
        extra: dict[str, Any] | None = None,
        *,
        folder: str | os.PathLike[str],
        keep: int = 3,
        every: int | None = None,
        mean_time_between_failures: float = 24 * 3600.0,
        background: bool = False,
        on_sigterm: bool = True,
    ) -> None:
        for name, value in (("keep", keep), ("every", every)):
            if not (name == "every" and value is None) and (not isinstance(value, int) or value < 1):
                raise _C.ValueError(f"checkpoint.Training: {name} must be a positive integer, got {value!r}")
        best_interval(0, mean_time_between_failures)  # checks it
        parts = dict(model=model, optimizer=optimizer, scaler=scaler, scheduler=scheduler, loader=loader)
        self.parts = {name: part for name, part in parts.items() if part is not None}
        for name, part in self.parts.items():
            for at, x in _leaves(name, part):
                if not hasattr(x, "state_dict"):
                    raise _C.TypeError(f"checkpoint.Training: {at} has no state_dict(); it is a {type(x).__name__}")
        self.extra = {} if extra is None else extra
        self._files = _C._CheckpointFolder(os.fspath(folder), keep)
        self.every, self.background = every, background
        self.mean_time_between_failures = float(mean_time_between_failures)
        self.save_seconds = 0.0  # how long the last save kept training waiting
        self.preempted = False
        self._thread: threading.Thread | None = None
        self._errors: list[BaseException] = []  # of saves in the background, until one of the calls raises it
        weakref.finalize(self, _never_raised, self._errors)
        self._since = time.monotonic()
        self._pid = os.getpid()
        self._old_handler: Any = None
        if on_sigterm and threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGTERM, self._on_sigterm)

    # ---- files

    def steps(self) -> list[int]:
        """The saved steps, oldest first, damaged ones included."""
        return self._files.steps()

    def path(self, step: int) -> str:
        """The file of a step."""
        return self._files.path(step)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest undamaged checkpoint, as its step and content; None if nothing was saved yet.

        Warns of each damaged one it passes over. FormatError if all are damaged.
        """
        self.wait()
        found: dict[int, dict[str, Any]] = {}

        def read(step: int) -> None:
            content = serialization.load(self.path(step), map_location="cpu")  # whatever takes it over moves it
            if not isinstance(content, dict) or content.get("step") != step:
                raise _C.FormatError(f"load: {self.path(step)!r} is not the checkpoint of step {step}")
            found[step] = content

        def passed_over(step: int, error: str) -> None:
            warnings.warn(f"checkpoint: step {step} is passed over: {error}", stacklevel=4)

        step = self._files.newest(read, passed_over)
        return None if step is None else (step, found[step])

    # ---- saving

    def save(self, step: int) -> None:
        """Saves now. With `background` it returns when the state is copied; wait() returns when it is on disk."""
        self.wait()
        self._files.check(step)
        begin = time.monotonic()
        tensors, metadata = serialization.lay_out(self._state(step))
        if self.background:
            copies = [(name, t.detach().to("cpu", copy=True)) for name, t in tensors]
            self._thread = threading.Thread(target=self._write_later, args=(step, copies, metadata))
            self._thread.start()
        else:
            self._write(step, tensors, metadata)
        self._since = time.monotonic()
        self.save_seconds = self._since - begin

    def after(self, step: int) -> bool:
        """To be called when a step is complete: saves if it is time to, and says whether it did."""
        if self.preempted:
            self.save(step)
            self.close()
            raise SystemExit(128 + signal.SIGTERM)
        if self._errors:
            self.wait()
        waited = time.monotonic() - self._since
        if step % self.every != 0 if self.every else waited < self.interval():
            return False
        self.save(step)
        return True

    def interval(self) -> float:
        """Seconds between saves that best_interval() gives for the last save's time (until there was one: 10 ms)."""
        return best_interval(self.save_seconds or 0.01, self.mean_time_between_failures)

    def wait(self) -> None:
        """Returns when a save in the background has ended; raises its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._errors:
            raise self._errors.pop()

    def close(self) -> None:
        """Waits for a save in the background, and gives SIGTERM back to who had it."""
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)
            self._old_handler = None
        self.wait()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _state(self, step: int) -> dict[str, Any]:
        state = {name: _map(lambda x: x.state_dict(), part) for name, part in self.parts.items()}
        extra = {k: _state_of(v) for k, v in self.extra.items()}
        return {**state, "step": int(step), "generators": generator_states(), "extra": extra}

    def _write(self, step: int, tensors: Any, metadata: dict[str, str]) -> None:
        self._files.write(step, tensors, metadata)

    def _write_later(self, *work: Any) -> None:
        try:
            self._write(*work)
        except BaseException as error:  # raised by wait()
            self._errors.append(error)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked process, which has no training to save
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.preempted = True

    # ---- restoring

    def restore(self) -> int:
        """Puts everything into the state of the newest undamaged checkpoint and returns its step; 0 if there is none.

        Also removes what an interrupted save has left in the folder.
        """
        found = self.latest()
        self._files.remove_left_overs()
        if found is None:
            return 0
        step, content = found
        missing = [k for k in (*self.parts, "generators", "extra") if k not in content]
        if missing:
            raise _C.ValueError(f"checkpoint.restore: {self.path(step)!r} holds no {', no '.join(missing)}")
        for name, part in self.parts.items():
            _each(name, part, content[name])
        for name, value in content["extra"].items():
            self.extra[name] = _restored(self.extra.get(name), value)
        set_generator_states(content["generators"])
        self._since = time.monotonic()
        return step


def _never_raised(errors: list[BaseException]) -> None:
    for error in errors:
        warnings.warn(f"checkpoint: a save in the background failed, and close() was not called: {error}", stacklevel=2)


def _items(part: Any) -> Iterable[tuple[Any, Any]] | None:
    """What a dict or a list of parts consists of; None for a part itself."""
    if isinstance(part, dict):
        return part.items()
    return enumerate(part) if isinstance(part, (list, tuple)) else None


def _leaves(name: str, part: Any) -> list[tuple[str, Any]]:
    items = _items(part)
    return [(name, part)] if items is None else [leaf for k, v in items for leaf in _leaves(f"{name}[{k!r}]", v)]


def _map(f: Any, part: Any) -> Any:
    items = _items(part)
    if items is None:
        return f(part)
    return {k: _map(f, v) for k, v in items} if isinstance(part, dict) else [_map(f, v) for _, v in items]


def _each(name: str, part: Any, state: Any) -> None:
    """Gives each part its state."""
    items = _items(part)
    if items is None:
        part.load_state_dict(state)
        return
    fits = isinstance(state, dict) == isinstance(part, dict) and len(state) == len(part)
    for k, v in items:
        if not fits or (isinstance(state, dict) and k not in state):
            raise _C.ValueError(f"checkpoint.restore: the checkpoint's {name} has other members")
        _each(f"{name}[{k!r}]", v, state[k])


def _state_of(x: Any) -> Any:
    if isinstance(x, _C.Generator):
        return x.get_state()
    return x.state_dict() if hasattr(x, "state_dict") else x


def _restored(old: Any, state: Any) -> Any:
    """The value of extra for its state: the old object if it keeps a state, else what was stored."""
    if isinstance(old, _C.Generator):
        old.set_state(state)
    elif hasattr(old, "load_state_dict"):
        old.load_state_dict(state)
    else:
        return state
    return old
