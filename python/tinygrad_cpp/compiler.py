"""Around compile(): programs run as they are, so there is nothing to control."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


def compile(*args: Any, **kwargs: Any) -> Any:
    """The same as tinygrad_cpp.compile."""
    from . import compile as same

    return same(*args, **kwargs)


def is_compiling() -> bool:
    """False: functions run as they are."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def reset() -> None:
    """Nothing is kept."""


cudagraph_mark_step_begin = reset


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """A function that is not compiled: the function itself, or a decorator."""
    return fn if fn is not None else lambda f: f


def allow_in_graph(fn: Any) -> Any:
    """The function itself."""
    return fn


def assume_constant_result(fn: Any) -> Any:
    """The function itself."""
    return fn


def substitute_in_graph(original_fn: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A decorator that gives the function itself."""
    return lambda f: f


def list_backends(exclude_tags: Any = ()) -> list[str]:
    """Empty: there is no compiler."""
    return []


def set_stance(*args: Any, **kwargs: Any) -> contextlib.AbstractContextManager[None]:
    """Accepted without effect."""
    return contextlib.nullcontext()
