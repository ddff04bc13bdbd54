"""Calls of modules that have hooks. Modules without hooks never come here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

_ids = count()
_KINDS = ("forward_pre", "forward", "backward_pre", "backward")


class RemovableHandle:
    """What register_*_hook returns: remove() takes the hook away again; also a context manager."""

    def __init__(self, module: Any, kind: str, key: int) -> None:
        self._module, self._kind, self.id = module, kind, key

    def remove(self) -> None:
        hooks = self._module.__dict__.get("_hooks")
        if hooks is None:
            return
        hooks[self._kind].pop(self.id, None)
        if not any(hooks.values()):
            del self._module.__dict__["_hooks"]
            self._module._set_hooked(False)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add(module: Any, kind: str, entry: tuple, prepend: bool) -> RemovableHandle:
    hooks = module.__dict__.get("_hooks")
    if hooks is None:
        hooks = module.__dict__["_hooks"] = {k: OrderedDict() for k in _KINDS}
        module._set_hooked(True)
    key = next(_ids)
    hooks[kind][key] = entry
    if prepend:
        hooks[kind].move_to_end(key, last=False)
    return RemovableHandle(module, kind, key)


def run(module: Any, args: tuple, kwargs: dict) -> Any:
    """module(*args, **kwargs) with its hooks, in PyTorch's order."""
    hooks = module.__dict__["_hooks"]
    always = [h for h, _, a in hooks["forward"].values() if a]
    try:
        for hook, with_kwargs in list(hooks["forward_pre"].values()):
            if with_kwargs:
                changed = hook(module, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(f"forward pre-hook must return None or (args, kwargs), got {changed!r}")
                    args, kwargs = changed
            else:
                changed = hook(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        backward = _Backward(module, hooks) if hooks["backward_pre"] or hooks["backward"] else None
        if backward:
            args = backward.watch_inputs(args)
        result = module.forward(*args, **kwargs)
        for hook, with_kwargs, _ in list(hooks["forward"].values()):
            if hook in always:
                always.remove(hook)
            changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
            if changed is not None:
                result = changed
        return backward.watch_outputs(result) if backward else result
    except Exception:
        for hook in always:
            hook(module, args, None)
        raise


class _Backward:
    """Backward hooks see the gradients at identity nodes put before and behind the module."""

    def __init__(self, module: Any, hooks: dict) -> None:
        self.module = module
        self.pre = list(hooks["backward_pre"].values())
        self.hooks = list(hooks["backward"].values())
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
        return out[0] if single else out

    def at_output(self, grads: tuple) -> tuple:
        for (hook,) in self.pre:
            changed = hook(self.module, grads)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
        self.grad_output = grads
        if self.hooks and not self.has_input:
            for (hook,) in self.hooks:
                hook(self.module, (None,), grads)
        return grads

    def at_input(self, grads: tuple) -> tuple:
        for (hook,) in self.hooks:
            changed = hook(self.module, grads, self.grad_output)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
        return grads


def _wants_grad(t: Any) -> bool:
    from ... import Tensor

    return isinstance(t, Tensor) and t.requires_grad


def _identity(values: tuple, on_grads: Callable[[tuple], tuple]) -> tuple:
    """The same values; `on_grads` sees, and may replace, the gradients of the tensors among them."""
    from ... import Tensor
    from ...autograd import Function

    class Watch(Function):
        @staticmethod
        def forward(ctx, *tensors):
            return tuple(t.view_as(t) for t in tensors)

        @staticmethod
        def backward(ctx, *grads):
            return on_grads(grads)

    where = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
    watched = Watch.apply(*(values[i] for i in where))
    if not isinstance(watched, tuple):
        watched = (watched,)
    out = list(values)
    for i, t in zip(where, watched):
        out[i] = t
    return tuple(out)
