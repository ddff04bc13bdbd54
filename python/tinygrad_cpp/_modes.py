"""Thread-local modes as context managers and decorators: no_grad and its relatives."""

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from . import _C

_GENERATOR = 0x20  # inspect.CO_GENERATOR, without the time that inspect takes to import
F = TypeVar("F", bound=Callable[..., Any])


class Scope:
    """Base: `_enter` switches something and returns what `_leave` needs to switch it back."""

    def __init__(self) -> None:
        self._old: list[Any] = []

    def _enter(self) -> Any:
        raise NotImplementedError

    def _leave(self, old: Any) -> None:
        raise NotImplementedError

    def _fresh(self) -> "Scope":
        return type(self)()

    def __enter__(self) -> "Scope":
        self._old.append(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(self._old.pop())

    def __call__(self, function: F) -> F:
        if isinstance(function, type):
            raise TypeError(f"{type(self).__name__}: decorates functions, not classes")
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _GENERATOR:
            return self._wrap_generator(function)  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # the mode holds while the generator runs, not while its consumer does
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                inner = function(*args, **kwargs)
            send: Any = None
            try:
                while True:
                    with self._fresh():
                        item = inner.send(send)
                    send = yield item
            except StopIteration as stop:
                return stop.value
            finally:
                inner.close()

        return wrapped


class _GradMode(Scope):
    _on = False

    def __new__(cls, function: Any = None) -> Any:
        if callable(function):  # @no_grad without parentheses
            return cls()(function)
        return super().__new__(cls)

    def _enter(self) -> Any:
        return _C._set_grad_enabled(self._on)

    def _leave(self, old: Any) -> None:
        _C._set_grad_enabled(old)


class no_grad(_GradMode):
    """Nothing is recorded on the tape inside: `with no_grad():` or `@no_grad()`."""


class enable_grad(_GradMode):
    """Recording is on inside, even within no_grad."""

    _on = True


class set_grad_enabled(Scope):
    """Turns recording on or off: at once as a function, inside as a context manager or decorator."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = bool(mode)
        self._before = _C._set_grad_enabled(self.mode)

    def _enter(self) -> Any:
        _C._set_grad_enabled(self.mode)
        return self._before

    def _leave(self, old: Any) -> None:
        _C._set_grad_enabled(old)

    def _fresh(self) -> "Scope":
        return set_grad_enabled(self.mode)

    def __call__(self, function: F) -> F:
        _C._set_grad_enabled(self._before)
        return super().__call__(function)


class inference_mode(Scope):
    """Like no_grad, and what is made inside can never take part in a graph."""

    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode):
            return cls()(mode)
        return super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode

    def _enter(self) -> Any:
        if not self.mode:
            return _C._set_grad_enabled(True), _C._set_inference(False)
        return _C._set_grad_enabled(False), _C._set_inference(True)

    def _leave(self, old: Any) -> None:
        grad, inference = old
        _C._set_grad_enabled(grad)
        _C._set_inference(inference)

    def _fresh(self) -> "Scope":
        return inference_mode(self.mode)


class set_anomaly(Scope):
    """Anomaly detection: nodes remember where they were made, gradients are checked for NaN."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode

    def _enter(self) -> Any:
        return _C._set_anomaly(self.mode)

    def _leave(self, old: Any) -> None:
        _C._set_anomaly(old)

    def _fresh(self) -> "Scope":
        return set_anomaly(self.mode)
