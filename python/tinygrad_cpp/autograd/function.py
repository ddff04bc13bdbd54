"""Functions with their own backward."""

import functools
from collections.abc import Callable
from typing import Any

from .. import _C
from .._modes import no_grad

__all__ = ["Function", "FunctionCtx", "once_differentiable"]

Tensor = _C.Tensor


class FunctionCtx:
    """What forward leaves for backward. Attributes of any other name may be set, too."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._core: Any = None
        self._to_save: tuple[Tensor | None, ...] = ()
        self._sparse: dict[int, Any] = {}  # sparse tensors among what was saved, by position
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for backward; an in-place edit in between is noticed."""
        self._sparse = {i: t for i, t in enumerate(tensors) if getattr(t, "is_sparse", False)}
        self._to_save = tuple(None if i in self._sparse else t for i, t in enumerate(tensors))

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs get no gradient."""
        self._non_differentiable = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """These inputs were edited in place and are returned: they take this function as their history."""
        self._dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether gradients of unused outputs are zeros (the default) or None."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What save_for_backward was given."""
        saved = self._core.saved() if self._core is not None else self._to_save
        return tuple(self._sparse.get(i, t) for i, t in enumerate(saved)) if self._sparse else tuple(saved)


class Function:
    """A function with its own gradient.

    Subclasses define static methods `forward(ctx, *args)` (or `forward(*args)` and `setup_context(ctx, inputs,
    output)`) and `backward(ctx, *grads)`, which returns one gradient (or None) per argument of forward. Call
    `MyFunction.apply(*args)`. A backward made of differentiable ops can be differentiated again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _C.TypeError(f"{type(self).__name__}: call {type(self).__name__}.apply(...), do not make an instance")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise _C.NotImplementedError("Function: a subclass must define the static method forward")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        raise _C.NotImplementedError("Function: a subclass whose forward takes no ctx must define setup_context")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise _C.NotImplementedError("Function: a subclass must define the static method backward")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward and records backward on the tape."""
        places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx = FunctionCtx(tuple(isinstance(a, Tensor) and a.requires_grad for a in args))
        single = True
        shapes: list[tuple[Any, ...]] = []
        plain: list[Any] = []  # forward's results with None at the tensors' places

        def run_forward(core: Any, tensors: list[Tensor]) -> list[Tensor]:
            nonlocal single
            if cls.setup_context is Function.setup_context:
                result = cls.forward(ctx, *args)
            else:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            single = not isinstance(result, (tuple, list))
            results = [result] if single else list(result)
            outputs = [r for r in results if isinstance(r, Tensor)]
            plain.extend(None if isinstance(r, Tensor) else (r,) for r in results)
            shapes.extend((tuple(o.shape), o.dtype, o.device) for o in outputs)
            core.save_for_backward(list(ctx._to_save))
            core.mark_non_differentiable(list(ctx._non_differentiable))
            core.mark_dirty(list(ctx._dirty))
            ctx._to_save = ctx._dirty = ()
            return outputs

        def run_backward(core: Any, grads: list[Tensor | None]) -> list[Tensor | None]:
            ctx._core = core
            try:
                if ctx._materialize:
                    grads = [
                        _C.ops.zeros(s, dtype=t, device=d) if g is None else g
                        for g, (s, t, d) in zip(grads, shapes, strict=True)
                    ]
                # a result that is no tensor has no gradient
                left = iter(grads)
                result = cls.backward(ctx, *(next(left) if p is None else None for p in plain))
            finally:
                ctx._core = None
            results = list(result) if isinstance(result, (tuple, list)) else [result]
            while len(results) > len(args) and results[-1] is None:
                results.pop()
            if len(results) != len(args):
                raise _C.AutogradError(
                    f"{cls.__name__}Backward: backward returned {len(results)} gradients for {len(args)} arguments"
                )
            for i, r in enumerate(results):
                if r is not None and not isinstance(r, Tensor):
                    raise _C.TypeError(
                        f"{cls.__name__}Backward: gradient {i} must be Tensor or None, not {type(r).__name__}"
                    )
            return [results[i] for i in places]

        outputs = iter(_C._apply_function(cls.__name__, run_forward, run_backward, [args[i] for i in places]))
        if single and plain:
            return next(outputs) if plain[0] is None else plain[0][0]
        return tuple(next(outputs) if p is None else p[0] for p in plain)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a backward that cannot be differentiated again: trying to is an error."""

    @functools.wraps(backward)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        tracked = _C.is_grad_enabled() and any(isinstance(g, Tensor) and g.requires_grad for g in grads)
        with no_grad():
            result = backward(ctx, *grads)
        if not tracked:
            return result
        results = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(_NotTwice.apply(r, *grads) if isinstance(r, Tensor) else r for r in results)

    return wrapped


class _NotTwice(Function):
    """Identity whose gradient is an error."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *grads: Any) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise _C.AutogradError("once_differentiable: this function cannot be differentiated twice")
