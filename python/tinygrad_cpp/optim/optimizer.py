"""Base of all optimizers: parameter groups, state, hooks, checkpoints."""

from __future__ import annotations

import copy
import functools
import itertools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import _C
from .._modes import enable_grad, no_grad


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required: Any = _Required()
ParamsT = Iterable[Any]  # tensors, (name, tensor) pairs, or dicts with "params" and settings


class _Hooks(OrderedDict):
    """Functions called in order; ``add`` gives a handle that removes its function."""

    _ids = itertools.count()

    def add(self, hook: Callable, prepend: bool = False) -> _HookHandle:
        key = next(self._ids)
        self[key] = hook
        if prepend:
            self.move_to_end(key, last=False)
        return _HookHandle(self, key)


class _HookHandle:
    def __init__(self, hooks: OrderedDict, key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        self._hooks.pop(self._key, None)


_global_step_pre_hooks, _global_step_post_hooks = _Hooks(), _Hooks()


def register_optimizer_step_pre_hook(hook: Callable) -> _HookHandle:
    """``hook(optimizer, args, kwargs)`` before every step of every optimizer."""
    return _global_step_pre_hooks.add(hook)


def register_optimizer_step_post_hook(hook: Callable) -> _HookHandle:
    """``hook(optimizer, args, kwargs)`` after every step of every optimizer."""
    return _global_step_post_hooks.add(hook)


def _with_hooks(step: Callable) -> Callable:
    """The step of a class between the hooks; a step that calls its parent's runs them once."""

    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self._stepping:
            return step(self, *args, **kwargs)
        self._opt_called = True  # a scheduler warns when it is stepped first
        for hook in (*_global_step_pre_hooks.values(), *self._step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise _C.Error(f"{hook} must return None or a tuple (args, kwargs), but got {changed!r}")
                args, kwargs = changed
        self._stepping = True
        try:
            out = step(self, *args, **kwargs)
        finally:
            self._stepping = False
        for hook in (*self._step_post_hooks.values(), *_global_step_post_hooks.values()):
            hook(self, args, kwargs)
        return out

    return wrapper


def _use_grad_for_differentiable(step: Callable) -> Callable:
    """What steps of subclasses written for PyTorch are decorated with: they run without recording."""
    return no_grad()(step)


class Optimizer:
    """Changes parameters by their gradients.

    ``params`` is an iterable of tensors, of ``(name, tensor)`` pairs, or of dicts: parameter groups with settings of
    their own. ``defaults`` are the settings of groups that leave them out. A subclass overrides ``step`` and finds
    its parameters in ``self.param_groups``, what it remembers about a parameter in ``self.state[p]``.
    """

    _rule: str | None = None  # the update rule of the compiled library
    _stepping = _opt_called = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.step)  # type: ignore[method-assign]

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        if isinstance(params, _C.Tensor):
            raise _C.TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + repr(type(params))
            )
        self.defaults = defaults
        self._make_hooks()
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._check(defaults)
        groups = list(params)
        if not groups:
            raise _C.ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hooks(self) -> None:
        self._step_pre_hooks, self._step_post_hooks = _Hooks(), _Hooks()
        self._state_dict_pre_hooks, self._state_dict_post_hooks = _Hooks(), _Hooks()
        self._load_state_dict_pre_hooks, self._load_state_dict_post_hooks = _Hooks(), _Hooks()

    def _check(self, group: dict[str, Any]) -> None:
        """ValueError for settings out of range or that contradict each other."""
        lr = group.get("lr")
        if isinstance(lr, _C.Tensor) and lr.numel() != 1:
            raise _C.ValueError(f"Tensor lr must be 1-element, got {lr.numel()} elements")
        if group.get("fused"):
            if group.get("differentiable"):
                raise _C.Error("`fused` does not support `differentiable`")
            if group.get("foreach"):
                raise _C.Error("`fused` and `foreach` cannot be `True` together.")
        if self._rule is not None:
            _C._optim_check(self._rule, group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with settings of their own, e.g. layers that are unfrozen during training."""
        if not isinstance(param_group, dict):
            raise _C.TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = param_group
        params, names = self._unpack(group["params"])
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; each of them takes as many steps",
                stacklevel=3,
            )
        taken = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in taken for p in params):
            raise _C.ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in self.param_groups[0]) != (names is not None):
            raise _C.ValueError("all optimizer params should be with/without names. Some param names are missing")
        group["params"] = params
        if names is not None:
            group["param_names"] = names
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise _C.ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        self._check(group)
        if self._rule is not None:
            _C._optim_init(self._rule, group, self.state)
        self.param_groups.append(group)

    def _unpack(self, params: Any) -> tuple[list[Any], list[str] | None]:
        """The tensors of a group, and their names if it has names."""
        if isinstance(params, _C.Tensor):
            params = [params]
        elif isinstance(params, set):
            raise _C.TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params, names = list(params), None
        if any(isinstance(p, tuple) for p in params):
            if not all(isinstance(p, tuple) and len(p) == 2 for p in params):
                raise _C.ValueError("all optimizer params should be with/without names. Some param names are missing")
            names = [name for name, _ in params]
            params = [p for _, p in params]
        for p in params:
            if not isinstance(p, _C.Tensor):
                raise _C.TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf and (self._rule is not None or not self.defaults.get("differentiable")):
                raise _C.ValueError("can't optimize a non-leaf Tensor")
        return params, names

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        ``closure`` computes the loss and its gradients again; its result is returned.
        """
        loss = self._evaluate(closure)
        if self._rule is None:
            raise _C.NotImplementedError(f"{type(self).__name__} does not override step()")
        for group in self.param_groups:
            _C._optim_step(self._rule, group, self.state)
        return loss

    step = _with_hooks(step)

    @staticmethod
    def _evaluate(closure: Callable[[], Any] | None) -> Any:
        """The loss of a closure, recorded on the tape whatever the mode."""
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def _with_grad(self) -> Iterator[tuple[dict[str, Any], Any, Any]]:
        """``(group, parameter, gradient)`` of every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield group, p, -p.grad if group.get("maximize") else p.grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or fills them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = _C.ops.zeros_like(p.grad)

    def register_step_pre_hook(self, hook: Callable) -> _HookHandle:
        """``hook(optimizer, args, kwargs)`` before every step; it may return other arguments."""
        return self._step_pre_hooks.add(hook)

    def register_step_post_hook(self, hook: Callable) -> _HookHandle:
        """``hook(optimizer, args, kwargs)`` after every step."""
        return self._step_post_hooks.add(hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> _HookHandle:
        """``hook(optimizer)`` before every ``state_dict``."""
        return self._state_dict_pre_hooks.add(hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> _HookHandle:
        """``hook(optimizer, state_dict)`` after every ``state_dict``; it may return another dict."""
        return self._state_dict_post_hooks.add(hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> _HookHandle:
        """``hook(optimizer, state_dict)`` before every ``load_state_dict``; it may return another dict."""
        return self._load_state_dict_pre_hooks.add(hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> _HookHandle:
        """``hook(optimizer)`` after every ``load_state_dict``."""
        return self._load_state_dict_post_hooks.add(hook, prepend)

    def state_dict(self) -> dict[str, Any]:
        """``{'state': {index: {...}}, 'param_groups': [...]}`` with parameters numbered through all groups."""
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        index = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        state = {index[id(p)] if isinstance(p, _C.Tensor) else p: s for p, s in self.state.items()}
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        for packed, g in zip(groups, self.param_groups):
            packed["params"] = [index[id(p)] for p in g["params"]]
        result = {"state": state, "param_groups": groups}
        for hook in self._state_dict_post_hooks.values():
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the settings and copies the state, cast to each parameter's dtype and device.

        A dict that does not fit raises a ValueError, TypeError or ShapeError and changes nothing.
        """
        for hook in self._load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved = _checked(state_dict)
        if len(saved) != len(self.param_groups):
            raise _C.ValueError("loaded state dict has a different number of parameter groups")
        if any(len(s["params"]) != len(g["params"]) for s, g in zip(saved, self.param_groups)):
            raise _C.ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_index = dict(
            zip(
                itertools.chain.from_iterable(s["params"] for s in saved),
                itertools.chain.from_iterable(g["params"] for g in self.param_groups),
            )
        )
        kept = {id(p): _state_dtype(s, p) for s, g in zip(saved, self.param_groups) for p in g["params"]}
        state: defaultdict[Any, Any] = defaultdict(dict)
        for index, value in state_dict["state"].items():
            param = by_index.get(index)
            if param is None:
                state[index] = value
            else:
                state[param] = _copy_state(param, value, dtype=kept[id(param)])
                if self._rule is not None:
                    _check_state(param, state[param])
        groups = []
        for s, g in zip(saved, self.param_groups):
            group = copy.deepcopy({k: v for k, v in s.items() if k != "params"})
            if "param_names" in g:
                group.setdefault("param_names", g["param_names"])
            group = {"params": g["params"], **group}
            for name, default in self.defaults.items():  # settings that a checkpoint of another version lacks
                group.setdefault(name, default)
            self._check(group)
            groups.append(group)
        self.state, self.param_groups = state, groups
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_step_pre_hooks" not in self.__dict__:
            self._make_hooks()

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _checked(state_dict: Any) -> list[dict[str, Any]]:
    """The groups of a state dict that has the right form."""
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
        raise _C.ValueError("load_state_dict: expected a dict with 'state' and 'param_groups'")
    groups, state = state_dict["param_groups"], state_dict["state"]
    if not isinstance(groups, (list, tuple)) or not isinstance(state, dict):
        raise _C.TypeError("load_state_dict: 'param_groups' must be a list and 'state' a dict")
    for group in groups:
        if not isinstance(group, dict) or not isinstance(group.get("params"), (list, tuple)):
            raise _C.TypeError("load_state_dict: a parameter group must be a dict with a list 'params'")
        if not all(isinstance(i, (int, str)) for i in group["params"]):
            raise _C.TypeError("load_state_dict: 'params' of a group must be numbers of parameters")
    return list(groups)


def _state_dtype(group: dict[str, Any], param: Any) -> Any:
    """The type of a parameter's state: its own, or float32 where steps are computed in float32."""
    wide = param.dtype in (_C.float16, _C.bfloat16) and (
        group.get("master_weights") or group.get("stochastic_rounding")
    )
    return _C.float32 if wide else param.dtype


def _copy_state(param: Any, value: Any, key: Any = "", *, dtype: Any) -> Any:
    """The state of `param` with tensors copied; other than step counts they are moved to the parameter's device."""
    if isinstance(value, _C.Tensor):
        moved = value.detach().clone()
        if key == "step" or not param.is_floating_point():
            return moved
        return moved.to(dtype=dtype, device=param.device)
    if isinstance(value, dict):
        return {k: _copy_state(param, v, k, dtype=dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copy_state(param, v, dtype=dtype) for v in value)
    return copy.deepcopy(value)


def _check_state(param: Any, state: Any) -> None:
    """Makes tensors of plain numbers (old checkpoints), refuses what a compiled rule could not use."""
    if not isinstance(state, dict):
        raise _C.TypeError(f"load_state_dict: the state of a parameter must be a dict, got {type(state).__name__}")
    for key, value in state.items():
        if isinstance(value, (int, float)):
            state[key] = _C.tensor(float(value), device="cpu")
        elif not isinstance(value, _C.Tensor) and value is not None:
            raise _C.TypeError(f"load_state_dict: {key!r} must be a tensor, got {type(value).__name__}")
        elif value is not None and value.numel() != 1 and value.shape != param.shape:
            raise _C.ShapeError(
                f"load_state_dict: {key!r} has the shape {tuple(value.shape)}, its parameter {tuple(param.shape)}"
            )
