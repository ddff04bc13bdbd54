"""Containers of modules and parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from ..._C import _nn
from .module import Module

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


_Mixin: Any = object  # what a class from C++ is given besides


class _Row(_Mixin):
    """What ModuleList and Sequential share: a row of modules with Python's list habits."""

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(*self._slice_args(list(self)[index], index))
        return self._at(_position(index))

    def __setitem__(self, index, module):
        self._replace(_position(index), module)

    def __delitem__(self, index):
        if isinstance(index, slice):
            for i in sorted(range(*index.indices(len(self))), reverse=True):
                self._erase(i)
        else:
            self._erase(_position(index))

    def __iter__(self):
        return iter([self._at(i) for i in range(len(self))])

    def __reversed__(self):
        return reversed(list(self))

    def __contains__(self, module):
        return any(m is module for m in self)

    def append(self, module):
        self._append(module)
        return self

    def extend(self, modules):
        for module in list(modules):
            self._append(module)
        return self

    def insert(self, index, module):
        size = len(self)
        self._insert(max(0, index + size) if index < 0 else min(index, size), module)

    def pop(self, index=-1):
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules):
        return self.extend(modules)

    def __add__(self, modules):
        return type(self)(*self._slice_args([*self, *modules], None))

    def __mul__(self, times):
        return type(self)(*self._slice_args([*self] * times, None))

    __rmul__ = __mul__

    def __imul__(self, times):
        return self.extend([*self] * (times - 1))


def _position(index):
    return index.__index__() if hasattr(index, "__index__") else int(index)


class Sequential(_Row, _nn.Sequential):
    """Modules in a row, each applied to the output of the one before."""

    def __init__(self, *args):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for module in args:
                self._append(module)

    def _slice_args(self, modules, index):
        if index is None:
            return modules
        names = list(self._modules)[index]
        return [OrderedDict(zip(names, modules))]


class ModuleList(_Row, _nn.ModuleList):
    """A list of modules."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _slice_args(self, modules, index):
        return [modules]


class _Named(_Mixin):
    """What ModuleDict and ParameterDict share: Python's dict habits."""

    def __getitem__(self, key):
        if key not in self:
            raise KeyError(key)
        return self._items()[key]

    def __delitem__(self, key):
        if not self._remove(key):
            raise KeyError(key)

    def __len__(self):
        return len(self._items())

    def __iter__(self):
        return iter(self._items())

    def __contains__(self, key):
        return key in self._items()

    def keys(self):
        return self._items().keys()

    def values(self):
        return self._items().values()

    def items(self):
        return self._items().items()

    def clear(self):
        for key in list(self):
            self._remove(key)

    def pop(self, key):
        value = self[key]
        del self[key]
        return value

    def get(self, key, default=None):
        return self._items().get(key, default)

    def update(self, other):
        for key, value in other.items() if isinstance(other, (Mapping, _Named)) else other:
            self[key] = value


class ModuleDict(_Named, _nn.ModuleDict):
    """Modules by name."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def _items(self):
        return self._modules

    def __setitem__(self, key, module):
        self.add_module(key, module)


class _ShowsParameters(_Mixin):
    def extra_repr(self):
        lines = []
        for name, p in self._parameters.items():
            if p is not None:
                lines.append(f"  ({name}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]")
        return "\n".join(lines)


class ParameterList(_ShowsParameters, _nn.ParameterList):
    """A list of parameters."""

    def __init__(self, values=None):
        super().__init__()
        if values is not None:
            self.extend(values)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._at(_position(index))

    def __setitem__(self, index, value):
        size, i = len(self), _position(index)
        if not -size <= i < size:
            raise IndexError(f"ParameterList: index {i} is out of range for {size} parameters")
        setattr(self, str(i % size), _as_parameter(value))

    def __iter__(self):
        return iter([self._at(i) for i in range(len(self))])

    def append(self, value):
        self._append(_as_parameter(value))
        return self

    def extend(self, values):
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values):
        return self.extend(values)


class ParameterDict(_ShowsParameters, _Named, _nn.ParameterDict):
    """Parameters by name."""

    def __init__(self, parameters=None):
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def _items(self):
        return self._parameters

    def __setitem__(self, key, value):
        self._set(key, _as_parameter(value))

    def __reversed__(self):
        return reversed(list(self))

    def __or__(self, other):
        return ParameterDict({**dict(self.items()), **dict(other.items())})

    def __ior__(self, other):
        self.update(other)
        return self

    def copy(self):
        """Another dict of the same parameters."""
        return ParameterDict(dict(self.items()))

    def fromkeys(self, keys, default=None):
        """A dict with one value for all keys."""
        return ParameterDict(dict.fromkeys(keys, default))

    def setdefault(self, key, default=None):
        """The value of a key, which is ``default`` if it is new."""
        if key not in self:
            self[key] = default
        return self[key]

    def popitem(self):
        """Takes the last pair out."""
        key = list(self)[-1]
        return key, self.pop(key)


def _as_parameter(value):
    from ..parameter import Parameter

    return value if value is None or isinstance(value, Parameter) else Parameter(value, value.is_floating_point())
