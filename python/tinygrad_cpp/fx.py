"""Graphs of programs are not there: importable, refuses when used."""

from typing import Any

from . import _C
from ._suggest import lazy


def wrap(fn_or_name: Any) -> Any:
    """The function itself."""
    return fn_or_name


def symbolic_trace(*args: Any, **kwargs: Any) -> Any:
    """Refused: programs are not turned into graphs."""
    raise _C.NotImplementedError("fx.symbolic_trace: programs are not turned into graphs here")


class _Refusing:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _C.NotImplementedError(f"fx.{type(self).__name__}: programs are not turned into graphs here")


class GraphModule(_Refusing):
    """Refused: programs are not turned into graphs."""


class Graph(_Refusing):
    """Refused: programs are not turned into graphs."""


class Tracer(_Refusing):
    """Refused: programs are not turned into graphs."""


class Interpreter(_Refusing):
    """Refused: programs are not turned into graphs."""


__getattr__ = lazy(__name__, globals())
