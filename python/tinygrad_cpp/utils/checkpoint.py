"""Activation checkpointing: what a part of a network computes is thrown away and computed again in backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import _C
from .._modes import enable_grad
from ..autograd.function import Function, once_differentiable

__all__ = ["checkpoint", "checkpoint_sequential", "set_checkpoint_early_stop"]

Tensor = _C.Tensor


class _Replay(Function):
    """Runs a function off the tape; backward runs it again on the tape, with the same random numbers."""

    @staticmethod
    def forward(ctx: Any, call: Callable[..., Any], preserve_rng: bool, places: Sequence[int], *tensors: Tensor) -> Any:
        ctx.call, ctx.count = call, len(places)
        ctx.state = _C.get_rng_state() if preserve_rng else None
        ctx.save_for_backward(*tensors)
        return call(tensors[: len(places)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        tensors = ctx.saved_tensors
        inputs = [t.detach().requires_grad_(t.requires_grad) for t in tensors[: ctx.count]]
        parameters = list(tensors[ctx.count : -1])
        now = _C.get_rng_state()
        if ctx.state is not None:
            _C.set_rng_state(ctx.state)
        try:
            with enable_grad():
                result = ctx.call(inputs)
        finally:
            if ctx.state is not None:
                _C.set_rng_state(now)
        results = result if isinstance(result, (tuple, list)) else (result,)
        pairs = [(r, g) for r, g in zip(results, grads, strict=True) if isinstance(r, Tensor) and r.requires_grad]
        if not pairs:
            return (None,) * (3 + len(tensors))
        wanted = [t for t in inputs if t.requires_grad] + parameters
        known = {id(t) for t in wanted}
        others = [t for t in _leaves([r for r, _ in pairs]) if id(t) not in known]
        found = _C._grad([r for r, _ in pairs], wanted + others, [g for _, g in pairs], None, False, True, False)
        by_id = {id(t): g for t, g in zip(wanted + others, found, strict=True)}
        # tensors that the function took from elsewhere are no inputs of this node: their gradient is added here
        reached = [(t, by_id[id(t)]) for t in others if by_id[id(t)] is not None]
        if reached:
            _C._backward([t for t, _ in reached], [g for _, g in reached], None, False, None)
        return (None, None, None, *(by_id.get(id(t)) for t in [*inputs, *parameters]), None)


def _leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    """The leaves that the graph of some tensors reaches."""
    found: dict[int, Tensor] = {}
    stack: list[Any] = [r.grad_fn for r in roots if r.grad_fn is not None]
    seen = set()
    while stack:
        node = stack.pop()
        if isinstance(node, _C.AccumulateGrad):
            found[id(node.variable)] = node.variable
        elif node is not None and node not in seen:
            seen.add(node)
            stack.extend(n for n, _ in node.next_functions)
    return list(found.values())


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Any = None,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs) without keeping what it computes: backward runs it again.

    Random numbers of the second run are those of the first. Loss and gradients have the same bits as without.
    """
    if context_fn is not None:
        raise _C.NotImplementedError("checkpoint: context_fn is not supported")
    if not _C.is_grad_enabled():
        return function(*args, **kwargs)
    places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]

    def call(tensors: Sequence[Tensor]) -> Any:
        full = list(args)
        for i, t in zip(places, tensors, strict=True):
            full[i] = t
        return function(*full, **kwargs)

    owner: Any = function if hasattr(function, "parameters") else getattr(function, "__self__", None)
    parameters = [p for p in owner.parameters() if p.requires_grad] if hasattr(owner, "parameters") else []
    # one input that requires a gradient in any case: the function may use parameters nobody told about
    token = _C.ops.zeros((), requires_grad=True)
    return _Replay.apply(call, preserve_rng_state, places, *(args[i] for i in places), *parameters, token)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True
) -> Any:
    """Runs modules one after the other in segments, each of them checkpointed but the last."""
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)

    def run(start: int, end: int) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            for f in steps[start:end]:
                x = f(x)
            return x

        return forward

    size = len(steps) // segments
    for i in range(segments - 1):
        input = checkpoint(run(i * size, (i + 1) * size), input, preserve_rng_state=preserve_rng_state)
    return run((segments - 1) * size, len(steps))(input)


def set_checkpoint_early_stop(enable: bool) -> Any:
    """Accepted without effect: a function is always run to its end."""
    import contextlib

    return contextlib.nullcontext()
