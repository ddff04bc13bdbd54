"""Module, the base of all modules: written in C++; here are the parts that only Python has."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

from ..._C._nn import Module
from . import _hooks

__all__ = ["Module"]


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


def _state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict:
    """Parameters and persistent buffers by their paths, detached, sharing memory."""
    out = OrderedDict() if destination is None else destination
    for name, tensor in self._state(keep_vars):
        out[prefix + name] = tensor
    return out


def _load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
    """Copies the values in. One error names every missing, unexpected and mis-shaped key."""
    if not hasattr(state_dict, "items"):
        raise TypeError(f"load_state_dict: expected a dict, not {type(state_dict).__name__}")
    return _IncompatibleKeys(*self._load(list(state_dict.items()), strict, assign))


def _register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False):
    """hook(module, args) before forward; what it returns replaces the arguments."""
    return _hooks.add(self, "forward_pre", (hook, with_kwargs), prepend)


def _register_forward_hook(
    self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
):
    """hook(module, args, output) after forward; what it returns replaces the output."""
    return _hooks.add(self, "forward", (hook, with_kwargs, always_call), prepend)


def _register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False):
    """hook(module, grad_output) before the module's backward."""
    return _hooks.add(self, "backward_pre", (hook,), prepend)


def _register_full_backward_hook(self, hook: Callable, prepend: bool = False):
    """hook(module, grad_input, grad_output) when the gradients of the inputs are complete."""
    return _hooks.add(self, "backward", (hook,), prepend)


def _cpu(self):
    return self.to("cpu")


def _cuda(self, device: Any = None):
    return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)


def _type(self, dst_type: Any):
    return self.to(dtype=dst_type)


Module.__module__ = __name__
for _name, _f in {
    "state_dict": _state_dict,
    "load_state_dict": _load_state_dict,
    "register_forward_pre_hook": _register_forward_pre_hook,
    "register_forward_hook": _register_forward_hook,
    "register_full_backward_pre_hook": _register_full_backward_pre_hook,
    "register_full_backward_hook": _register_full_backward_hook,
    "register_backward_hook": _register_full_backward_hook,
    "cpu": _cpu,
    "cuda": _cuda,
    "type": _type,
}.items():
    _f.__name__, _f.__qualname__ = _name, f"Module.{_name}"
    setattr(Module, _name, _f)
Module.dump_patches = False
