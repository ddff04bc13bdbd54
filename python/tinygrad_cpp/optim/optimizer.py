"""Base of all optimizers: parameter groups, state, checkpoints."""

from __future__ import annotations

import copy
import functools
import itertools
from collections import OrderedDict, defaultdict
from typing import Any

from .. import _C


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required: Any = _Required()


class _grad_enabled:
    """Records on the tape inside, whatever the mode outside."""

    def __enter__(self) -> None:
        self.old = _C._set_grad_enabled(True)

    def __exit__(self, *exc: object) -> None:
        _C._set_grad_enabled(self.old)


def _with_hooks(step):
    """The step of a subclass, between the hooks registered for it."""

    @functools.wraps(step)
    def wrapper(self, *args, **kwargs):
        self._opt_called = True  # a scheduler warns when it is stepped first
        for hook in self._pre_hooks.values():
            changed = hook(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        out = step(self, *args, **kwargs)
        for hook in self._post_hooks.values():
            hook(self, args, kwargs)
        return out

    return wrapper


class _HookHandle:
    def __init__(self, hooks: OrderedDict, key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        self._hooks.pop(self._key, None)


class Optimizer:
    """Changes parameters by their gradients.

    ``params`` is an iterable of tensors, of ``(name, tensor)`` pairs, or of dicts: parameter groups with settings of
    their own. ``defaults`` are the settings of groups that leave them out. A subclass overrides ``step`` and finds
    its parameters in ``self.param_groups``, what it remembers about a parameter in ``self.state[p]``.
    """

    _rule: str | None = None  # the update rule of the compiled library
    _hook_ids = itertools.count()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.step)  # type: ignore[method-assign]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, _C.Tensor):
            raise _C.TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + repr(type(params))
            )
        self.defaults = defaults
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._post_hooks: OrderedDict[int, Any] = OrderedDict()
        if self._rule is not None:
            _C._optim_check(self._rule, defaults)
        groups = list(params)
        if not groups:
            raise _C.ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with settings of their own, e.g. layers that are unfrozen during training."""
        if not isinstance(param_group, dict):
            raise _C.TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = param_group
        params = group["params"]
        if isinstance(params, _C.Tensor):
            params = [params]
        elif isinstance(params, set):
            raise _C.TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params = list(params)
        if params and isinstance(params[0], tuple):
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        for p in params:
            if not isinstance(p, _C.Tensor):
                raise _C.TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not (p.is_leaf or self.defaults.get("differentiable")):
                raise _C.ValueError("can't optimize a non-leaf Tensor")
        if len({id(p) for p in params}) != len(params):
            raise _C.ValueError("some parameters appear more than once in a parameter group")
        taken = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in taken for p in params):
            raise _C.ValueError("some parameters appear in more than one parameter group")
        group["params"] = params
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise _C.ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        if self._rule is not None:
            _C._optim_check(self._rule, group)
            _C._optim_init(self._rule, group, self.state)
        self.param_groups.append(group)

    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient.

        ``closure`` computes the loss and its gradients again; its result is returned.
        """
        if self._rule is None:
            raise _C.NotImplementedError(f"{type(self).__name__} does not override step()")
        loss = None
        if closure is not None:
            with _grad_enabled():
                loss = closure()
        for group in self.param_groups:
            _C._optim_step(self._rule, group, self.state)
        return loss

    step = _with_hooks(step)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or fills them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if set_to_none:
                    p.grad = None
                else:
                    p.grad = _C.ops.zeros_like(p.grad)

    def register_step_pre_hook(self, hook: Any) -> _HookHandle:
        """``hook(optimizer, args, kwargs)`` before every step; it may return other arguments."""
        key = next(self._hook_ids)
        self._pre_hooks[key] = hook
        return _HookHandle(self._pre_hooks, key)

    def register_step_post_hook(self, hook: Any) -> _HookHandle:
        """``hook(optimizer, args, kwargs)`` after every step."""
        key = next(self._hook_ids)
        self._post_hooks[key] = hook
        return _HookHandle(self._post_hooks, key)

    def state_dict(self) -> dict[str, Any]:
        """``{'state': {index: {...}}, 'param_groups': [...]}`` with parameters numbered through all groups."""
        index = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        state = {index[id(p)] if isinstance(p, _C.Tensor) else p: s for p, s in self.state.items()}
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        for packed, g in zip(groups, self.param_groups):
            packed["params"] = [index[id(p)] for p in g["params"]]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the settings and copies the state, cast to each parameter's dtype and device."""
        saved = state_dict["param_groups"]
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
        state: defaultdict[Any, Any] = defaultdict(dict)
        for index, value in state_dict["state"].items():
            param = by_index.get(index)
            state[index if param is None else param] = value if param is None else _copy_state(param, value)
        groups = []
        for s, g in zip(saved, self.param_groups):
            group = copy.deepcopy({k: v for k, v in s.items() if k != "params"})
            if "param_names" in g:
                group.setdefault("param_names", g["param_names"])
            group = {"params": g["params"], **group}
            for name, default in self.defaults.items():  # settings that a checkpoint of another version lacks
                group.setdefault(name, default)
            groups.append(group)
        self.state, self.param_groups = state, groups

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _copy_state(param: Any, value: Any, key: str = "") -> Any:
    """The state of `param` with tensors copied; other than step counts they follow the parameter."""
    if isinstance(value, _C.Tensor):
        moved = value.detach().clone()
        if key == "step" or not param.is_floating_point():
            return moved
        return moved.to(dtype=param.dtype, device=param.device)
    if isinstance(value, dict):
        state = {k: _copy_state(param, v, k) for k, v in value.items()}
        if isinstance(state.get("step"), (int, float)):  # as old checkpoints have it
            state["step"] = _C.tensor(float(state["step"]))
        return state
    return copy.deepcopy(value)
