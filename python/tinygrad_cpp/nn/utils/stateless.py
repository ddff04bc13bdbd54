"""Calls of a module with other tensors than its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ... import _C
from ..modules.module import Module

__all__ = ["functional_call"]
_PARAMETER, _BUFFER = 0, 1  # Module::Kind


def _places(module: Module) -> tuple[dict[str, tuple], dict[int, list[str]]]:
    """Where each tensor is registered by its path, and the paths of each tensor."""
    places: dict[str, tuple] = {}
    paths: dict[int, list[str]] = {}
    for prefix, m in module.named_modules(remove_duplicate=False):
        for kind in (_PARAMETER, _BUFFER):
            for name, t in m._named(kind).items():
                path = f"{prefix}.{name}" if prefix else name
                places[path] = (m, kind, name, t)
                if t is not None:
                    paths.setdefault(id(t), []).append(path)
    return places, paths


@contextmanager
def _swapped(module: Module, tensors: Mapping[str, Any], tie_weights: bool, strict: bool) -> Iterator[None]:
    places, paths = _places(module)
    unknown = [name for name in tensors if name not in places]
    missing = [name for name, place in places.items() if name not in tensors and place[3] is not None]
    if tie_weights:
        given = {id(places[n][3]) for n in tensors if n in places}
        missing = [n for n in missing if id(places[n][3]) not in given]
    if unknown or (strict and missing):
        raise _C.ValueError(
            f"functional_call: {type(module).__name__} has no parameter or buffer {unknown}"
            + (f"; missing are {missing}" if strict else "")
        )
    replaced = []
    try:
        for name, new in tensors.items():
            own = places[name][3]
            tied = paths.get(id(own), [name]) if tie_weights else [name]
            for path in tied:
                if path != name and path in tensors and tensors[path] is not new:
                    raise _C.ValueError(f"functional_call: {name} and {path} are one tensor but got different values")
                m, kind, leaf, old = places[path]
                replaced.append((m, kind, leaf, old))
                m._put(kind, leaf, new)
        yield
    finally:
        for m, kind, leaf, old in reversed(replaced):
            m._put(kind, leaf, old)


def functional_call(
    module: Module,
    parameters_and_buffers: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """module(*args, **kwargs) with these tensors, by their paths, in the place of its own. ``tie_weights``: a tensor
    known by several paths is replaced in all; ``strict``: every tensor must be given."""
    if isinstance(parameters_and_buffers, Mapping):
        tensors = dict(parameters_and_buffers)
    else:
        tensors = {}
        for part in parameters_and_buffers:
            twice = tensors.keys() & part.keys()
            if twice:
                raise _C.ValueError(f"functional_call: {sorted(twice)} given twice")
            tensors.update(part)
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _swapped(module, tensors, tie_weights, strict):
        return module(*args, **(kwargs or {}))
