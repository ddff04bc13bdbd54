"""Hooks of modules: who has them, and calls of modules that have some. Other calls never come here."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

from ... import _C

_ids = count()
_CALLS = ("forward_pre", "forward", "backward_pre", "backward")
_STATES = ("state_pre", "state_post", "load_pre", "load_post")
_everywhere: dict[str, OrderedDict] = {kind: OrderedDict() for kind in _CALLS}  # hooks for all modules


def of(module: Any, kind: str) -> OrderedDict:
    """The hooks of one kind, by id."""
    hooks = module.__dict__.get("_hooks" if kind in _CALLS else "_state_hooks")
    return hooks[kind] if hooks else OrderedDict()


def state_hooks(module: Any, kind: str) -> list[tuple]:
    """The hooks around state dicts, as they stand now."""
    return list(of(module, kind).values())


class RemovableHandle:
    """What register_*_hook returns: remove() takes the hook away again; also a context manager."""

    def __init__(self, module: Any, kind: str, key: int) -> None:
        self._module, self._kind, self.id = module, kind, key

    def remove(self) -> None:
        """Takes the hook away; nothing happens the second time."""
        if self._module is None:
            _everywhere[self._kind].pop(self.id, None)
            _C._nn._set_global_hooks(any(_everywhere.values()))
            return
        of(self._module, self._kind).pop(self.id, None)
        hooks = self._module.__dict__.get("_hooks")
        if hooks is not None and not any(hooks.values()):
            del self._module.__dict__["_hooks"]
            self._module._set_hooked(False)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add(module: Any, kind: str, entry: tuple, prepend: bool) -> RemovableHandle:
    """Registers a hook of a module, or of all modules if that is None."""
    if module is None:
        hooks = _everywhere
        _C._nn._set_global_hooks(True)
    else:
        kinds, name = (_CALLS, "_hooks") if kind in _CALLS else (_STATES, "_state_hooks")
        hooks = module.__dict__.setdefault(name, None) or {k: OrderedDict() for k in kinds}
        module.__dict__[name] = hooks
        if kinds is _CALLS:
            module._set_hooked(True)
    key = next(_ids)
    hooks[kind][key] = entry
    if prepend:
        hooks[kind].move_to_end(key, last=False)
    return RemovableHandle(module, kind, key)


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """hook(module, args) before forward of every module."""
    return add(None, "forward_pre", (hook, False), False)


def register_module_forward_hook(
    hook: Callable, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """hook(module, args, output) after forward of every module."""
    return add(None, "forward", (hook, with_kwargs, always_call), False)


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """hook(module, grad_output) before backward of every module."""
    return add(None, "backward_pre", (hook,), False)


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """hook(module, grad_input, grad_output) after backward of every module."""
    return add(None, "backward", (hook,), False)


register_module_backward_hook = register_module_full_backward_hook


def _all(module: Any, kind: str) -> list[tuple]:
    return [*_everywhere[kind].values(), *of(module, kind).values()]


def run(module: Any, args: tuple, kwargs: dict) -> Any:
    """module(*args, **kwargs) with its hooks, in PyTorch's order."""
    waiting = {h[0] for h in _all(module, "forward") if h[2]}  # hooks that also run after an error
    result = None
    try:
        args, kwargs = _before_forward(module, args, kwargs)
        pre, post = _all(module, "backward_pre"), _all(module, "backward")
        backward = _Backward(module, pre, post, len(args)) if pre or post else None
        if backward:
            args = backward.watch_inputs(args)
        result = module.forward(*args, **kwargs)
        for hook, with_kwargs, _ in _all(module, "forward"):
            waiting.discard(hook)
            changed = _after_forward(module, hook, with_kwargs, args, kwargs, result)
            if changed is not None:
                result = changed
        return backward.watch_outputs(result) if backward else result
    except Exception:
        for hook, with_kwargs, _ in _all(module, "forward"):
            if hook in waiting:
                try:
                    changed = _after_forward(module, hook, with_kwargs, args, kwargs, result)
                    result = result if changed is None else changed
                except Exception as error:  # the first error is the one to report
                    warnings.warn(f"a forward hook with always_call=True raised: {error}", stacklevel=2)
        raise


def _before_forward(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    for hook, with_kwargs in _all(module, "forward_pre"):
        changed = hook(module, args, kwargs) if with_kwargs else hook(module, args)
        if changed is None:
            continue
        if with_kwargs:
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(f"forward pre-hook must return None or (args, kwargs), got {changed!r}")
            args, kwargs = changed
        else:
            args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def _after_forward(module: Any, hook: Callable, with_kwargs: bool, args: tuple, kwargs: dict, result: Any) -> Any:
    return hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)


class _Backward:
    """Backward hooks see the gradients at identity nodes put before and behind the module."""

    def __init__(self, module: Any, pre: list, hooks: list, n_inputs: int) -> None:
        self.module, self.pre, self.hooks, self.n_inputs = module, pre, hooks, n_inputs
        self.grad_output: tuple | None = None
        self.has_input = False

    def watch_inputs(self, args: tuple) -> tuple:
        if not self.hooks or not any(_wants_grad(a) for a in args):
            return args
        self.has_input = True
        return _identity(args, self.at_input)

    def watch_outputs(self, result: Any) -> Any:
        single = not isinstance(result, tuple)
        out = (result,) if single else result
        if any(_wants_grad(o) for o in out):
            out = _identity(out, self.at_output)
        return out[0] if single else type(result)(*out) if hasattr(result, "_fields") else out

    def at_output(self, grads: tuple) -> tuple:
        for (hook,) in self.pre:
            grads = _replaced("full_backward_pre_hook", grads, hook(self.module, grads))
        self.grad_output = grads
        if self.hooks and not self.has_input:
            for (hook,) in self.hooks:
                if hook(self.module, (None,) * self.n_inputs, grads) is not None:
                    raise RuntimeError("full_backward_hook: no input requires a gradient, so none can be replaced")
        return grads

    def at_input(self, grads: tuple) -> tuple:
        if self.grad_output is None:  # the module passed its input on: nothing came through its outputs
            return grads
        for (hook,) in self.hooks:
            grads = _replaced("full_backward_hook", grads, hook(self.module, grads, self.grad_output))
        return grads


def _replaced(what: str, grads: tuple, changed: Any) -> tuple:
    if changed is None:
        return grads
    changed = changed if isinstance(changed, tuple) else (changed,)
    if len(changed) != len(grads):
        raise RuntimeError(f"{what}: returned {len(changed)} gradients where {len(grads)} were expected")
    return changed


def _wants_grad(t: Any) -> bool:
    return isinstance(t, _C.Tensor) and t.requires_grad


def _identity(values: tuple, on_grads: Callable[[tuple], tuple]) -> tuple:
    """The same values; `on_grads` sees, and may replace, their gradients: None for what is no tensor."""
    from ...autograd import Function

    where = [i for i, v in enumerate(values) if isinstance(v, _C.Tensor)]

    class Watch(Function):
        @staticmethod
        def forward(ctx, *tensors):
            return tuple(t.view_as(t) for t in tensors)

        @staticmethod
        def backward(ctx, *grads):
            full: list = [None] * len(values)
            for i, g in zip(where, grads):
                full[i] = g
            changed = on_grads(tuple(full))
            return tuple(changed[i] for i in where)

    watched = Watch.apply(*(values[i] for i in where))
    out = list(values)
    for i, t in zip(where, watched if isinstance(watched, tuple) else (watched,)):
        out[i] = t
    return tuple(out)
