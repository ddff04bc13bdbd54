"""Functions of functions: gradients as functions, modules called with other parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import _C
from ._modes import enable_grad
from ._settings import vmap
from ._suggest import lazy
from .autograd import functional
from .nn.utils.stateless import functional_call

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacrev", "stack_module_state", "vjp", "vmap"]

Tensor = _C.Tensor


def _selected(args: tuple[Any, ...], argnums: Any) -> list[int]:
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise _C.ValueError(f"grad: argnums {n} of a call with {len(args)} arguments")
    return [n % len(args) for n in numbers]


def _leaves(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    return [t for item in items for t in _leaves(item)]


def _rebuild(tree: Any, leaves: Any) -> Any:
    """The same nesting with other tensors, taken from an iterator."""
    if isinstance(tree, Tensor):
        return next(leaves)
    if isinstance(tree, dict):
        return type(tree)((k, _rebuild(v, leaves)) for k, v in tree.items())
    if isinstance(tree, (tuple, list)):
        return type(tree)(_rebuild(v, leaves) for v in tree)
    return tree


def grad_and_value(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives the gradient of func, which returns one number, and that number."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers = _selected(args, argnums)
        outer = _C.is_grad_enabled() and any(t.requires_grad for n in numbers for t in _leaves(args[n]))
        full = list(args)
        with enable_grad():
            for n in numbers:
                own = (t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in _leaves(args[n]))
                full[n] = _rebuild(args[n], own)
            result = func(*full, **kwargs)
            value, aux = result if has_aux else (result, None)
            if not isinstance(value, Tensor) or value.ndim != 0:
                raise _C.ValueError("grad: func must return one 0-d tensor")
            leaves = [t for n in numbers for t in _leaves(full[n])]
            if value.requires_grad:
                gradients = iter(_C._grad(value, leaves, None, True, True, True, True))
            else:
                gradients = iter([_C.ops.zeros_like(t) for t in leaves])
        if not outer:
            gradients = iter([g.detach() for g in gradients])
            value = value.detach()
        by_argument = tuple(_rebuild(full[n], gradients) for n in numbers)
        given = by_argument[0] if isinstance(argnums, int) else by_argument
        return (given, (value, aux)) if has_aux else (given, value)

    return wrapped


def grad(func: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of func, which returns one number, by some of its arguments."""
    both = grad_and_value(func, argnums, has_aux)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def jacrev(func: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives the Jacobian of func by some of its arguments."""

    def wrapped(*args: Any) -> Any:
        numbers = _selected(args, argnums)

        def of_some(*some: Tensor) -> Any:
            full = list(args)
            for n, t in zip(numbers, some, strict=True):
                full[n] = t
            return func(*full)

        tensors = tuple(args[n] for n in numbers)
        outer = any(t.requires_grad for t in tensors)
        return functional.jacobian(of_some, tensors[0] if isinstance(argnums, int) else tensors, create_graph=outer)

    return wrapped


def hessian(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that gives the second derivatives of func by one of its arguments."""
    return jacrev(jacrev(func, argnums), argnums)


def vjp(func: Callable[..., Any], *primals: Tensor, has_aux: bool = False) -> Any:
    """func(*primals), and a function from a vector like it to its product with the Jacobian."""
    with enable_grad():
        inputs = [p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for p in primals]
        result = func(*inputs)
    output, aux = result if has_aux else (result, None)

    def product(*vectors: Any, **ignored: Any) -> tuple[Tensor, ...]:
        seeds = vectors[0] if len(vectors) == 1 and isinstance(vectors[0], (tuple, list)) else vectors
        outputs = output if isinstance(output, (tuple, list)) else [output]
        return tuple(g.detach() for g in _C._grad(list(outputs), inputs, list(seeds), True, False, True, True))

    shown = output.detach() if isinstance(output, Tensor) else tuple(o.detach() for o in output)
    return (shown, product, aux) if has_aux else (shown, product)


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of modules of one class, each stacked over a new first dimension."""
    if not models:
        raise _C.ValueError("stack_module_state: expected at least one module")

    def stacked(which: str, grad: bool) -> dict[str, Tensor]:
        columns = [dict(getattr(m, which)()) for m in models]
        return {
            k: _C.ops.stack([c[k].detach() for c in columns]).requires_grad_(grad and columns[0][k].requires_grad)
            for k in columns[0]
        }

    return stacked("named_parameters", True), stacked("named_buffers", False)


__getattr__ = lazy(__name__, globals())
