"""Differentiation: backward and grad over any tensors, functions with their own backward, checks."""

from collections.abc import Callable, Sequence
from typing import Any

from . import _C
from ._modes import enable_grad, inference_mode, no_grad, set_anomaly, set_grad_enabled

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

Tensor = _C.Tensor
Tensors = Tensor | Sequence[Tensor]


def backward(
    tensors: Tensors,
    grad_tensors: Tensors | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensors | None = None,
) -> None:
    """Adds the gradients of the tensors to the .grad of every leaf, or only of `inputs`."""
    _C._backward(tensors, grad_tensors, retain_graph, create_graph, inputs)


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Tensors | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """Gradients of the outputs with respect to the inputs; no .grad is touched."""
    return _C._grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """The tensor itself: variables and tensors are the same."""
    return data.requires_grad_(requires_grad) if requires_grad != data.requires_grad else data


class detect_anomaly(set_anomaly):
    """Inside, a NaN in a gradient is an error that shows where the forward call was made."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True)

    def _fresh(self) -> "detect_anomaly":
        return detect_anomaly()


class set_detect_anomaly(set_anomaly):
    """Turns anomaly detection on or off: at once, and inside as a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(mode)
        self._before = _C._set_anomaly(mode)

    def _enter(self) -> Any:
        _C._set_anomaly(self.mode)
        return self._before


# ---- custom functions


class FunctionCtx:
    """What forward leaves for backward. Attributes of any other name may be set, too."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._core: Any = None
        self._to_save: tuple[Tensor | None, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for backward; an in-place edit in between is noticed."""
        self._to_save = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs get no gradient."""
        self._non_differentiable = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Not supported: return a new tensor instead of writing into an input."""
        raise _C.NotImplementedError("mark_dirty: a Function cannot write into its inputs here; return new tensors")

    def set_materialize_grads(self, value: bool) -> None:
        """Whether gradients of unused outputs are zeros (the default) or None."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What save_for_backward was given."""
        return tuple(self._core.saved()) if self._core is not None else self._to_save


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
            ctx._to_save = ()
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


function = type("function", (), {"once_differentiable": staticmethod(once_differentiable), "Function": Function})


# ---- checks


class GradcheckError(_C.AutogradError):
    """A gradient differs from finite differences."""


def _check(
    which: Callable[..., str], func: Callable[..., Any], inputs: Any, eps: float, atol: float, rtol: float, stop: bool
) -> bool:
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]

    def call(*tensors: Tensor) -> Any:
        full = list(args)
        for i, t in zip(places, tensors[0], strict=True):
            full[i] = t
        result = func(*full)
        if isinstance(result, Tensor):
            return result
        return [r for r in result if isinstance(r, Tensor)]

    text = which(call, [args[i] for i in places], eps, atol, rtol)
    if text and stop:
        raise GradcheckError(text)
    return not text


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-3,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    raise_exception: bool = True,
    **ignored: Any,
) -> bool:
    """Compares the gradients of func at float64 inputs with 4th-order differences."""
    return _check(_C._gradcheck, func, inputs, eps, atol, rtol, raise_exception)


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-3,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    raise_exception: bool = True,
    **ignored: Any,
) -> bool:
    """The same for second derivatives."""
    return _check(_C._gradgradcheck, func, inputs, eps, atol, rtol, raise_exception)
