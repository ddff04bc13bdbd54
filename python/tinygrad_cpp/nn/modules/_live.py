"""The dicts of a module: `_parameters`, `_buffers` and `_modules` read and write the module itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import Any

_TENSORS = {"_parameters": 0, "_buffers": 1}  # Module::Kind


class LiveDict(MutableMapping):
    """Names and what is registered under them, in the order of registration."""

    __slots__ = ("_module", "_kind")

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._kind = module, _TENSORS.get(name)

    def _now(self) -> dict[str, Any]:
        return self._module._named_modules_here() if self._kind is None else self._module._named(self._kind)

    def __getitem__(self, name: str) -> Any:
        return self._now()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if self._kind is None:
            self._module.register_module(name, value)
        else:
            self._module._put(self._kind, name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self._now():
            raise KeyError(name)
        self._module._drop(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __contains__(self, name: object) -> bool:
        return name in self._now()

    def __repr__(self) -> str:
        return repr(self._now())

    def keys(self) -> KeysView:
        return self._now().keys()

    def values(self) -> ValuesView:
        return self._now().values()

    def items(self) -> ItemsView:
        return self._now().items()

    def copy(self) -> OrderedDict:
        return OrderedDict(self._now())


def live_property(name: str) -> property:
    """`module._parameters` and the like; an assigned dict takes the place of what was registered."""

    def get(self: Any) -> LiveDict:
        return LiveDict(self, name)

    def replace(self: Any, values: Any) -> None:
        mine, values = LiveDict(self, name), dict(values)
        mine.clear()
        mine.update(values)

    return property(get, replace)
