"""Modules made without setting values."""

from __future__ import annotations

from typing import Any

from ... import _C
from ..modules.module import Module

__all__ = ["skip_init"]


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """module_cls(*args, **kwargs), whose values are then to be set: what they are first is not promised."""
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise _C.TypeError(f"skip_init: expected a class of modules, got {module_cls!r}")
    return module_cls(*args, **kwargs)
