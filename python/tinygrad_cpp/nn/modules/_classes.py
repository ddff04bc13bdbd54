"""Classes that C++ makes from a table, sorted into the files PyTorch has them in."""

from __future__ import annotations

from ..._C import _nn


def in_file(module_name: str) -> dict[str, type]:
    """The classes whose home is the module of this name."""
    return {name: cls for name, cls in _nn.fn_classes.items() if cls.__module__ == module_name}


def at_home(module_name: str, *classes: type) -> None:
    """Makes classes bound from C++ say where they are found, for pickle and repr."""
    for cls in classes:
        cls.__module__ = module_name
