"""Module, the base of all modules: written in C++; here are the parts that only Python has."""

from __future__ import annotations

import os
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ... import _C
from ..._C._nn import Module
from ..._modes import no_grad
from . import _hooks
from ._hooks import (
    register_module_backward_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
)
from ._live import live_property

__all__ = [
    "Module",
    "register_module_backward_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
]

_EXTRA_STATE = "_extra_state"
_PARAMETER, _BUFFER = 0, 1  # Module::Kind


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


_Part: Any = object  # a part of Module: C++ has made the class already, so their members are copied to it


class _State(_Part):
    """State dicts."""

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict:
        """Parameters and persistent buffers by their paths, detached, sharing memory."""
        given: list[Any] = [*args, *(destination, prefix, keep_vars)[len(args) :]]
        destination, prefix, keep_vars = given
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for (hook,) in _hooks.state_hooks(self, "state_pre"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        try:
            for name, child in self._named_modules_here().items():
                if child is not None:
                    child.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        except RecursionError:
            raise _C.ValueError("state_dict: too many levels; does a module contain itself?") from None
        for (hook,) in _hooks.state_hooks(self, "state_post"):
            changed = hook(self, destination, prefix, metadata)
            destination = destination if changed is None else changed
        return destination

    def save(self, path: str | os.PathLike[str], metadata: dict[str, str] | None = None) -> None:
        """Writes state_dict() as a safetensors file: whole or not at all, tied weights once, a checksum per tensor.

        metadata: strings that load() gives back.
        """
        from ... import serialization

        tensors, own = serialization.lay_out(self.state_dict())
        if reserved := own.keys() & (metadata or {}).keys():
            raise _C.ValueError(f"Module.save: the metadata may not be called {', '.join(sorted(reserved))}")
        _C._save_safetensors(tensors, {**own, **(metadata or {})}, os.fspath(path))

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> dict[str, str]:
        """Takes the values of a safetensors file, whoever wrote it, as load_state_dict does; returns its metadata.

        A weight that this module ties to another is found under the name of either.
        """
        from ... import serialization

        tensors, metadata = _C._load_safetensors(os.fspath(path))
        state = serialization.content(tensors, metadata)
        if not isinstance(state, dict):
            raise _C.FormatError(f"Module.load: {path} holds a {type(state).__name__}, not the state of a module")
        own = {k: t for k, t in self.state_dict().items() if isinstance(t, _C.Tensor) and t.numel() > 0}
        values = {t.data_ptr(): state[name] for name, t in own.items() if name in state}
        state |= {k: values[t.data_ptr()] for k, t in own.items() if k not in state and t.data_ptr() in values}
        self.load_state_dict(state, strict)
        return {k: v for k, v in metadata.items() if k not in serialization.RESERVED}

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Writes this module's own tensors, not those of its children."""
        for name, tensor in _own_state(self).items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + _EXTRA_STATE] = self.get_extra_state()

    def get_extra_state(self) -> Any:
        """What a class adds to its state_dict; nothing by default."""
        raise RuntimeError(f"get_extra_state: {type(self).__name__} does not define it")

    def set_extra_state(self, state: Any) -> None:
        """Takes what get_extra_state gave."""
        raise RuntimeError(f"set_extra_state: {type(self).__name__} does not define it")

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
        """Copies the values in; ``assign`` takes the given tensors over instead. One error names every missing,
        unexpected and mis-shaped key, before anything is written (but modules with their own `_load_from_state_dict`
        write when they like)."""
        if not hasattr(state_dict, "items"):
            raise _C.TypeError(f"load_state_dict: expected a dict, not {type(state_dict).__name__}")
        metadata = getattr(state_dict, "_metadata", None) or {}
        keys = _IncompatibleKeys([], [])
        errors: list[str] = []
        pending: list[tuple] = []
        post_hooks: list[tuple] = []

        def load(module: Any, state: dict, prefix: str) -> None:
            local = dict(metadata.get(prefix[:-1], {}), assign_to_params_buffers=assign)
            if hasattr(type(module)._load_from_state_dict, "_defers"):
                local["_pending"] = pending
            module._load_from_state_dict(state, prefix, local, True, *keys, errors)
            for name, child in module._named_modules_here().items():
                if child is not None:
                    at = prefix + name + "."
                    load(child, {k: v for k, v in state.items() if k.startswith(at)}, at)
            post_hooks.extend((hook, module) for (hook,) in _hooks.state_hooks(module, "load_post"))

        load(self, OrderedDict(state_dict), "")
        if post_hooks and not errors:
            _write_all(pending)
        for hook, module in post_hooks:
            hook(module, keys)
        if strict:
            for what, names in zip(("Unexpected", "Missing"), reversed(keys)):
                if names:
                    errors.insert(0, f"{what} key(s) in state_dict: " + ", ".join(f'"{k}"' for k in names) + ".")
        if errors:
            text = f"load_state_dict: Error(s) in loading state_dict for {type(self).__name__}:\n\t"
            raise _C.ShapeError(text + "\n\t".join(errors))
        _write_all(pending)
        return keys

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """Reads this module's own tensors, not those of its children; writes into the lists what does not fit."""
        for (hook,) in _hooks.state_hooks(self, "load_pre"):
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign, pending = (local_metadata.get(k) for k in ("assign_to_params_buffers", "_pending"))
        mine, writes = _own_state(self), []
        for name, tensor in mine.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            given = state_dict[key]
            if not isinstance(given, _C.Tensor):
                error_msgs.append(f"{key} must be a tensor, not {type(given).__name__}.")
                continue
            if tensor.dim() == 0 and given.shape == (1,):
                given = given[0]
            if given.shape != tensor.shape:
                error_msgs.append(
                    f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
                    f"the shape in current model is {tensor.shape}."
                )
            else:
                writes.append((self, name, tensor, given, assign))
        if pending is None:
            _write_all(writes)
        else:
            pending.extend(writes)
        _check_the_rest(self, state_dict, prefix, mine, strict, missing_keys, unexpected_keys)

    _load_from_state_dict._defers = True  # type: ignore[attr-defined]


def _own_state(module: Any) -> dict:
    """Parameters and persistent buffers of one module."""
    left_out = module._non_persistent_buffers_set
    named = {**module._named(_PARAMETER), **module._named(_BUFFER)}
    return {k: t for k, t in named.items() if t is not None and k not in left_out}


def _check_the_rest(module, state_dict, prefix, mine, strict, missing_keys, unexpected_keys) -> None:
    extra = prefix + _EXTRA_STATE
    if type(module).set_extra_state is not Module.set_extra_state:
        if extra in state_dict:
            module.set_extra_state(state_dict[extra])
        elif strict:
            missing_keys.append(extra)
    elif strict and extra in state_dict:
        unexpected_keys.append(extra)
    children = module._named_modules_here()
    for key in state_dict if strict else ():
        if key.startswith(prefix) and key != extra:
            first, dot, _ = key[len(prefix) :].partition(".")
            if first not in (children if dot else mine):
                unexpected_keys.append(key)


def _write_all(writes: list) -> None:
    with no_grad():
        for module, name, tensor, given, assign in writes:
            if not assign:
                tensor.copy_(given)
            elif isinstance(tensor, _C.Parameter) and not isinstance(given, _C.Parameter):
                setattr(module, name, _C.Parameter(given, tensor.requires_grad))
            else:
                setattr(module, name, given)
    writes.clear()


class _Hooks(_Part):
    """Registration of hooks; they run in _hooks.py."""

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        return Module.__call__(self, *args, **kwargs)

    def register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False):
        """hook(module, args) before forward; what it returns replaces the arguments."""
        return _hooks.add(self, "forward_pre", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ):
        """hook(module, args, output) after forward; what it returns replaces the output."""
        return _hooks.add(self, "forward", (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False):
        """hook(module, grad_output) before the module's backward; what it returns replaces the gradients."""
        return _hooks.add(self, "backward_pre", (hook,), prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False):
        """hook(module, grad_input, grad_output) when the gradients of the inputs are complete."""
        return _hooks.add(self, "backward", (hook,), prepend)

    def register_backward_hook(self, hook: Callable):
        """The old name of register_full_backward_hook."""
        return _hooks.add(self, "backward", (hook,), False)

    def register_state_dict_pre_hook(self, hook: Callable):
        """hook(module, prefix, keep_vars) before the module writes its state."""
        return _hooks.add(self, "state_pre", (hook,), False)

    def register_state_dict_post_hook(self, hook: Callable):
        """hook(module, state_dict, prefix, local_metadata) after the module wrote its state."""
        return _hooks.add(self, "state_post", (hook,), False)

    _register_state_dict_hook = register_state_dict_post_hook

    def register_load_state_dict_pre_hook(self, hook: Callable):
        """hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)."""
        return self._register_load_state_dict_pre_hook(hook, True)

    def _register_load_state_dict_pre_hook(self, hook: Callable, with_module: bool = False):
        bound = (lambda *args: hook(self, *args)) if with_module else hook
        return _hooks.add(self, "load_pre", (bound,), False)

    def register_load_state_dict_post_hook(self, hook: Callable):
        """hook(module, incompatible_keys) after loading; it may edit the two lists."""
        return _hooks.add(self, "load_post", (hook,), False)


class _Conversions(_Part):
    """Dtypes and devices."""

    def _apply(self, fn: Callable, recurse: bool = True):
        """fn for every parameter, gradient and buffer, whose values the results become."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        for kind in (_PARAMETER, _BUFFER):
            for tensor in self._named(kind).values():
                if tensor is not None:
                    _apply_to(tensor, fn)
        return self

    def to(self, *args: Any, **kwargs: Any):
        """Casts floating-point tensors, moves all: to(dtype), to(device), to(device, dtype), to(tensor)."""
        dtype: Any = None
        device: Any = None
        unknown = set(kwargs) - {"dtype", "device", "other", "tensor", "non_blocking", "memory_format", "copy"}
        if unknown:
            raise _C.TypeError(f"to: unexpected argument '{unknown.pop()}'")
        named = [v for k, v in kwargs.items() if k not in ("non_blocking", "memory_format", "copy")]
        for value in (*args, *named):
            if isinstance(value, _C.Tensor):
                dtype, device = value.dtype, value.device
            elif isinstance(value, (_C.dtype, type)):
                dtype = value
            elif isinstance(value, (_C.device, str, int)) and not isinstance(value, bool):
                device = value
            elif value is not None and not isinstance(value, bool):
                raise _C.TypeError(f"to: expected a dtype, device or tensor, not {type(value).__name__}")
        if dtype is float:
            dtype = _C.float64
        if dtype is not None and not getattr(dtype, "is_floating_point", False):
            raise _C.TypeError(f"to: modules can only be cast to floating-point types, got {dtype}")

        def convert(t):
            if dtype is not None and t.is_floating_point():
                t = t.to(dtype)
            return t if device is None else t.to(device)

        return self._apply(convert)

    def type(self, dst_type: Any):
        """Casts parameters and buffers of every type."""
        return self._apply(lambda t: t.to(dst_type) if isinstance(dst_type, _C.dtype) else t.type(dst_type))

    def float(self):
        """Floating-point tensors become float32."""
        return self.to(_C.float32)

    def double(self):
        """Floating-point tensors become float64."""
        return self.to(_C.float64)

    def half(self):
        """Floating-point tensors become float16."""
        return self.to(_C.float16)

    def bfloat16(self):
        """Floating-point tensors become bfloat16."""
        return self.to(_C.bfloat16)

    def cpu(self):
        """Moves all tensors to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None):
        """Moves all tensors to a GPU."""
        return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    def to_empty(self, *, device: Any, recurse: bool = True):
        """New memory without values on ``device``."""
        return self._apply(lambda t: _C.ops.empty_like(t).to(device), recurse)

    def share_memory(self):
        """Accepted: the module stays as it is."""
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Accepted: the module stays as it is."""


def _apply_to(tensor: Any, fn: Callable) -> None:
    data = tensor.data
    new = fn(data)
    if new is data:
        return
    grad, tensor.grad = tensor.grad, None
    tensor.data = new
    if grad is not None:
        tensor.grad = fn(grad.detach()).requires_grad_(grad.requires_grad)


class _Names(_Part):
    """Modules by name."""

    _version = 1
    dump_patches = False

    def _get_name(self) -> str:
        return type(self).__name__

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """This module and all below it with their paths; those in ``memo`` are left out, and put there."""
        for name, module in self._named_modules(prefix, remove_duplicate):
            if memo is not None and remove_duplicate:
                if module in memo:
                    continue
                memo.add(module)
            yield name, module

    def set_submodule(self, target: str, module: Any, strict: bool = False) -> None:
        """Puts ``module`` at the path ``target``; ``strict``: there must be one already."""
        parent_path, _, name = target.rpartition(".")
        parent = self.get_submodule(parent_path)
        if strict and name not in parent._named_modules_here():
            raise AttributeError(f"set_submodule: {type(parent).__name__} has no module '{name}'")
        if not isinstance(module, Module):
            raise _C.ValueError(f"set_submodule: expected a Module, not {type(module).__name__}")
        parent._modules[name] = module


Module.__module__ = __name__
for _part in (_State, _Hooks, _Conversions, _Names):
    for _name, _member in list(vars(_part).items()):
        if not _name.startswith("__"):
            if hasattr(_member, "__qualname__"):
                _member.__qualname__ = f"Module.{_name}"
            setattr(Module, _name, _member)
for _name in ("_parameters", "_buffers", "_modules"):
    setattr(Module, _name, live_property(_name))
for _name, _kind in {
    "_forward_pre_hooks": "forward_pre",
    "_forward_hooks": "forward",
    "_backward_pre_hooks": "backward_pre",
    "_backward_hooks": "backward",
}.items():
    setattr(Module, _name, property(partial(_hooks.of, kind=_kind)))
