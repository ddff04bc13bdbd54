"""TorchScript's names: functions and modules stay what they are. There is no format to save compiled ones."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from . import _C

__all__ = ["Attribute", "Final", "export", "ignore", "is_scripting", "is_tracing", "load", "save", "script", "trace"]


def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """The function, class or module itself."""
    return obj


def trace(func: Any, example_inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The function or module itself; it is not called."""
    return func


def script_if_tracing(fn: Any) -> Any:
    """The function itself."""
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """Decorator: the function itself."""
    return drop if callable(drop) else lambda f: f


unused = export = interface = script_if_tracing


def freeze(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module itself."""
    return mod


optimize_for_inference = freeze


def is_scripting() -> bool:
    """False: functions run as they are."""
    return False


is_tracing = is_scripting


def annotate(the_type: Any, the_value: Any) -> Any:
    """The value itself."""
    return the_value


def Attribute(value: Any, type: Any = None) -> Any:
    """The value itself."""
    return value


def isinstance(obj: Any, target_type: Any) -> bool:
    """As Python's own."""
    import builtins

    return builtins.isinstance(obj, target_type)


class ScriptModule:
    """Not here: there are no compiled modules."""


class ScriptFunction:
    """Not here: there are no compiled functions."""


def fork(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls the function; wait() gives its result."""
    return func(*args, **kwargs)


def wait(future: Any) -> Any:
    """The result of fork()."""
    return future


def optimized_execution(should_optimize: bool) -> contextlib.AbstractContextManager[None]:
    """Accepted without effect."""
    return contextlib.nullcontext()


def load(f: Any, map_location: Any = None, **kwargs: Any) -> Any:
    """Refused: a TorchScript file holds code."""
    raise _C.NotImplementedError("jit.load: files of TorchScript hold code, which is never executed; load a state_dict")


def save(m: Any, f: Any, **kwargs: Any) -> None:
    """Refused: there is no compiled form of a module."""
    raise _C.NotImplementedError("jit.save: modules have no compiled form; use save(module.state_dict(), f)")
