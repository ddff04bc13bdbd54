"""Parameters that are functions of other parameters.

A parametrized module gets a class of its own with a property for each such tensor; what the functions read is in
``module.parametrizations.<name>.original`` (or original0, original1, ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ... import _C
from ..._modes import no_grad
from ..modules.container import ModuleDict, ModuleList
from ..modules.module import Module
from ..parameter import Parameter

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

_cache: dict[tuple[int, str], Any] = {}
_cache_users = 0
_ATTRIBUTE = 2  # Module::Kind


@contextmanager
def cached() -> Iterator[None]:
    """Inside, each parametrized tensor is computed once."""
    global _cache_users
    _cache_users += 1
    try:
        yield
    finally:
        _cache_users -= 1
        if not _cache_users:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The functions of one tensor, applied in order to ``original``."""

    def __init__(self, modules: Any, original: Any, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        self.is_tensor = True
        new = original
        with no_grad():
            for m in reversed(list(self)):
                if hasattr(m, "right_inverse"):
                    try:
                        new = m.right_inverse(new)
                    except NotImplementedError:
                        pass
        if isinstance(new, _C.Tensor):
            self._keep("original", new, original)
            self.ntensors = 1
        else:
            self.is_tensor, self.ntensors = False, len(new)
            for i, t in enumerate(new):
                self._keep(f"original{i}", t, original)

    def _keep(self, name: str, tensor: Any, original: Any) -> None:
        if isinstance(original, Parameter):
            if tensor is not original:
                tensor = Parameter(tensor.detach(), original.requires_grad)
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor)

    def right_inverse(self, value: Any) -> None:
        """Sets what the functions read so that they give ``value``."""
        with no_grad():
            for m in reversed(list(self)):
                if not hasattr(m, "right_inverse"):
                    raise RuntimeError(f"right_inverse: {type(m).__name__} does not define it")
                value = m.right_inverse(value)
            for i, t in enumerate([value] if self.is_tensor else value):
                getattr(self, "original" if self.is_tensor else f"original{i}").data = t.detach().clone()

    def forward(self) -> Any:
        first, *rest = self
        if self.is_tensor:
            x = first(self.original)
        else:
            x = first(*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for m in rest:
            x = m(x)
        return x


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the module, or that tensor of it, is parametrized."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def type_before_parametrizations(module: Module) -> type:
    """The class a parametrized module had before."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def _forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    """forward of the class before; layers in C++ read their tensors from the module, where the call puts them."""
    names = list(self.parametrizations)
    for name in names:
        self._put(_ATTRIBUTE, name, getattr(self, name))
    try:
        return super(type(self), self).forward(*args, **kwargs)
    finally:
        for name in names:
            self._drop(name)


def _tensor_property(name: str) -> property:
    def get(self: Any) -> Any:
        if not _cache_users:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def assign(self: Any, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, assign)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Makes ``module.<tensor_name>`` the result of ``parametrization`` of it. ``unsafe``: of any sizes and dtype."""
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        functions: Any = module.parametrizations[tensor_name]
        if not unsafe:
            _check(module, tensor_name, parametrization(getattr(module, tensor_name)), getattr(module, tensor_name))
            functions.unsafe |= unsafe
        functions.append(parametrization)
        return module
    if tensor_name not in module._parameters and tensor_name not in module._buffers:
        raise _C.ValueError(
            f"register_parametrization: {type(module).__name__} has no parameter or buffer '{tensor_name}'"
        )
    original = getattr(module, tensor_name)
    functions = ParametrizationList([parametrization], original, unsafe)
    if not unsafe:
        with no_grad():
            _check(module, tensor_name, functions(), original)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        cls: Any = type(module)
        in_cpp = len(getattr(cls, "_fields", ())) > 1  # a layer with settings and tensors of its own in C++
        members = {"forward": _forward} if in_cpp else {}
        module.__class__ = type(cls)(f"Parametrized{cls.__name__}", (cls,), members)
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _tensor_property(tensor_name))
    module.parametrizations[tensor_name] = functions
    return module


def _check(module: Any, name: str, new: Any, original: Any) -> None:
    if not isinstance(new, _C.Tensor) or new.shape != original.shape or new.dtype != original.dtype:
        raise _C.ValueError(
            f"register_parametrization: the parametrization of '{name}' must give a tensor of the same sizes and "
            f"dtype, {tuple(original.shape)} {original.dtype}; got {tuple(getattr(new, 'shape', ()))} "
            f"{getattr(new, 'dtype', type(new).__name__)}"
        )


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Makes the tensor an ordinary one again: the present value, or (leave_parametrized=False) the original."""
    if not is_parametrized(module, tensor_name):
        raise _C.ValueError(f"remove_parametrizations: {type(module).__name__} has none on '{tensor_name}'")
    functions: Any = module.parametrizations[tensor_name]
    if not leave_parametrized and not functions.is_tensor:
        raise _C.ValueError("remove_parametrizations: several tensors are behind it; leave_parametrized must be True")
    if leave_parametrized:
        value = getattr(module, tensor_name).detach()
        if functions.is_tensor and functions.original.shape == value.shape:
            with no_grad():
                functions.original.copy_(value)
            value = functions.original
    else:
        value = functions.original
    was_parameter = bool(functions._parameters)
    del module.parametrizations[tensor_name]
    delattr(type(module), tensor_name)
    if was_parameter:
        module.register_parameter(tensor_name, value if isinstance(value, Parameter) else Parameter(value))
    else:
        module.register_buffer(tensor_name, value)
    if not len(module.parametrizations):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module
