"""Public classes made from what C++ binds, sorted into the files PyTorch has them in."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from typing import Any

from ..._C import TypeError, _nn
from ..._signatures import split_parameters

_KINDS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}


def in_file(module_name: str) -> dict[str, type]:
    """The classes of the table of C++ (nn/fn_modules.def) whose home is the module of this name."""
    return {name: cls for name, cls in _nn.fn_classes.items() if cls.__module__ == module_name}


def at_home(module_name: str, *classes: type) -> None:
    """Makes classes bound from C++ say where they are found, for pickle and repr."""
    for cls in classes:
        cls.__module__ = module_name


def subclasses(module_name: str, *bound: type) -> list[Any]:
    """A Python class for each class bound from C++: instances can then be given another Python class, and the
    constructor reports what does not fit, and calls a subclass's own ``reset_parameters``."""
    made: list[Any] = []
    for base in bound:
        members = {"__module__": module_name, "__doc__": base.__doc__, "__init__": _constructor(base)}
        made.append(type(base)(base.__name__, (base,), members))
    return made


def _constructor(base: Any) -> Any:
    native, signature = base.__init__, _signature(base)
    reset = getattr(base, "reset_parameters", None)

    def __init__(self, *args, **kwargs):
        try:
            native(self, *args, **kwargs)
        except builtins.TypeError as error:
            if isinstance(error, TypeError):
                name = type(self).__name__
                raise error if name in str(error) else TypeError(f"{name}: {error}") from None
            raise TypeError(_misfit(type(self), signature, args, kwargs)) from None
        if reset is not None and type(self).reset_parameters is not reset:
            self.reset_parameters()

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def _signature(base: Any) -> inspect.Signature:
    """From the text pybind11 writes: "__init__(self: ..., in_features: int, bias: bool = True) -> None"."""
    text = re.search(r"__init__\((.*)\) -> None", base.__init__.__doc__)
    assert text, base
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    for piece in split_parameters(text[1]):
        name, _, rest = piece.partition(":")
        annotation, has_default, default = rest.strip().partition(" = ")
        annotation = re.sub(r"[\w.]+\.", "", annotation)
        annotation = re.sub(r"Supports(Int|Float) \| SupportsIndex", lambda m: m[1].lower(), annotation)
        if name == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif name.startswith("*"):
            return inspect.Signature()
        else:
            value = ast.literal_eval(default) if has_default else inspect.Parameter.empty
            known = inspect.Parameter.empty if annotation == "object" else _KINDS.get(annotation, annotation)
            parameters.append(inspect.Parameter(name, kind, annotation=known, default=value))
    return inspect.Signature(parameters)


def _misfit(cls: Any, signature: inspect.Signature, args: tuple, kwargs: dict) -> str:
    """Which argument of a constructor does not fit."""
    name = cls.__name__
    shown = list(inspect.signature(cls.__init__).parameters.values())[1:]  # of the class that the user called
    where = f"the parameters are ({', '.join(map(str, shown))})"
    try:
        given = signature.bind(None, *args, **kwargs).arguments
    except builtins.TypeError as error:
        return f"{name}: {error}; {where}"
    for p in signature.parameters.values():
        value = given.get(p.name)
        if p.annotation in _KINDS.values() and p.name in given and not _fits(value, p.annotation):
            return f"{name}: {p.name} must be {p.annotation.__name__}, not {type(value).__name__}; {where}"
    return f"{name}: {args} {kwargs} do not fit; {where}"


def _fits(value: Any, kind: Any) -> bool:
    if kind in (int, float) and hasattr(value, "__index__"):
        return True
    return isinstance(value, kind) or (kind is float and hasattr(value, "__float__"))
