"""Activation checkpointing: what a part of a network computes is thrown away and computed again in backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import _C

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn", "set_checkpoint_early_stop"]

Tensor = _C.Tensor
CheckpointError = _C.AutogradError  # raised in backward when the second run differs from the first

_early_stop: list[bool] = []


def noop_context_fn() -> tuple[Any, Any]:
    """The default context_fn: nothing around either run."""
    return contextlib.nullcontext(), contextlib.nullcontext()


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Inside, whether second runs end as soon as everything that backward needs exists; wins over `early_stop`."""
    _early_stop.append(bool(enable))
    try:
        yield
    finally:
        _early_stop.pop()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs) without keeping what it computes: backward runs it again.

    Only the arguments are kept. Random numbers and autocast of the second run are those of the first, so loss and
    gradients have the same bits as without; calls may be nested, differentiated twice, and return anything. It must
    do the same for the same arguments: sizes, types and devices of what it keeps are compared (AutogradError) unless
    determinism_check is "none". Layers that count calls, such as batch norm's running values, count twice.

    `context_fn` returns two context managers, for the first run and for the later ones. use_reentrant and debug change
    nothing: there is one way to do it, and its errors name the value that differs.
    """
    if determinism_check not in ("default", "none"):
        raise _C.ValueError(f"checkpoint: determinism_check must be 'default' or 'none', got {determinism_check!r}")
    if not _C.is_grad_enabled():
        return function(*args, **kwargs)
    first, later = context_fn()
    # tensors go through the tape, which drops them where this call is part of another checkpoint
    values = [*args, *kwargs.values()]
    tensors = [v for v in values if isinstance(v, Tensor)]
    blanks = [None if isinstance(v, Tensor) else (v,) for v in values]
    names, count = tuple(kwargs), len(args)
    del args, kwargs, values

    def run(around: Any, given: Sequence[Tensor]) -> Any:
        left = iter(given)
        full = [next(left) if b is None else b[0] for b in blanks]
        with around:
            return function(*full[:count], **dict(zip(names, full[count:], strict=True)))

    return _C._checkpoint(
        lambda xs: run(first, xs),
        lambda xs: run(later, xs),
        tensors,
        preserve_rng_state,
        _early_stop[-1] if _early_stop else early_stop,
        determinism_check == "default",
    )


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """Runs modules one after the other in segments, each of them checkpointed but the last.

    With about sqrt(n) segments of n layers the peak grows with sqrt(n). Keywords are those of checkpoint().
    """
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not 1 <= segments <= max(1, len(steps)):
        raise _C.ValueError(f"checkpoint_sequential: segments must be in 1..{len(steps)}, got {segments}")

    def run(start: int, end: int) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            for f in steps[start:end]:
                x = f(x)
            return x

        return forward

    size = len(steps) // segments
    for i in range(segments - 1):
        input = checkpoint(run(i * size, (i + 1) * size), input, use_reentrant=use_reentrant, **kwargs)
    return run((segments - 1) * size, len(steps))(input)
