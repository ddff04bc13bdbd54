"""Jacobians, Hessians and their products with vectors, by repeated backward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _C
from .._modes import enable_grad

Tensor = _C.Tensor
Tensors = tuple[Tensor, ...]


def _tuple(x: Any, what: str) -> tuple[Tensors, bool]:
    """x as a tuple, and whether it was one."""
    many = isinstance(x, (tuple, list))
    items = tuple(x) if many else (x,)
    for item in items:
        if not isinstance(item, Tensor):
            raise _C.TypeError(f"{what} must be Tensor or a tuple of Tensors, not {type(item).__name__}")
    return items, many


def _inputs(inputs: Any, create_graph: bool) -> tuple[Tensors, bool]:
    """The inputs as tensors to differentiate by: connected to the given ones if a graph is wanted."""
    items, many = _tuple(inputs, "inputs")
    if create_graph:
        return tuple(t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in items), many
    return tuple(t.detach().requires_grad_() for t in items), many


def _call(func: Callable[..., Any], inputs: Tensors) -> tuple[Tensors, bool]:
    with enable_grad():
        return _tuple(func(*inputs), "the result of func")


def _grad(outputs: Any, inputs: Any, weights: Any, create_graph: bool) -> Tensors:
    """Gradients with zeros where an input plays no part, of outputs of which some may have no history."""
    kept = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    if not kept:
        return tuple(_C.ops.zeros_like(x) for x in inputs)
    ys, ws = zip(*kept, strict=True)
    return _C._grad(list(ys), list(inputs), list(ws), True, create_graph, True, True)


def _like(v: Any, tensors: Tensors, what: str) -> Tensors:
    """The vector of a product; all ones if none is given for a single number."""
    if v is None:
        if len(tensors) != 1 or tensors[0].numel() != 1:
            raise _C.ValueError(f"{what}: v may be left out only for a single one-element tensor")
        return (_C.ops.ones_like(tensors[0]),)
    items, _ = _tuple(v, f"{what}: v")
    if len(items) != len(tensors):
        raise _C.ValueError(f"{what}: {len(items)} vectors for {len(tensors)} tensors")
    for i, (a, b) in enumerate(zip(items, tensors, strict=True)):
        if a.shape != b.shape:
            raise _C.ShapeError(f"{what}: vector {i} has sizes {tuple(a.shape)}, its tensor {tuple(b.shape)}")
    return items


def _give(values: Any, many: bool, create_graph: bool) -> Any:
    out = tuple(v if create_graph else v.detach() for v in values)
    return out if many else out[0]


def _one_number(outputs: Tensors, what: str) -> None:
    if len(outputs) != 1 or outputs[0].numel() != 1:
        raise _C.ValueError(f"{what}: func must return one number")


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """func(inputs), and the vector v (sized like the outputs) times the Jacobian."""
    xs, many_in = _inputs(inputs, create_graph)
    ys, many_out = _call(func, xs)
    with enable_grad():
        gs = _grad(ys, xs, _like(v, ys, "vjp"), create_graph)
    return _give(ys, many_out, create_graph), _give(gs, many_in, create_graph)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """func(inputs), and the Jacobian times the vector v (sized like the inputs)."""
    xs, _ = _inputs(inputs, create_graph)
    vs = _like(v, xs, "jvp")
    ys, many_out = _call(func, xs)
    with enable_grad():
        # the product with the Jacobian is linear in its weights: its own gradient is the product from the other side
        ws = tuple(_C.ops.zeros_like(y).requires_grad_() for y in ys)
        gs = _grad(ys, xs, ws, True)
        out = _grad(gs, ws, vs, create_graph)
    return _give(ys, many_out, create_graph), _give(out, many_out, create_graph)


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """Derivatives of every element of the outputs by every element of the inputs: sizes of output + input.

    A tuple over the outputs of tuples over the inputs, each level only where func takes or returns tuples.
    """
    xs, many_in = _inputs(inputs, create_graph)
    ys, many_out = _call(func, xs)
    rows = []
    with enable_grad():
        for y in ys:
            flat = y.reshape(-1)
            parts = [_grad([flat[i]], xs, [_C.ops.ones_like(flat[i])], create_graph) for i in range(y.numel())]
            whole = [
                _C.ops.stack([p[k] for p in parts]).reshape(tuple(y.shape) + tuple(x.shape))
                if parts
                else _C.ops.zeros(tuple(y.shape) + tuple(x.shape), dtype=y.dtype, device=y.device)
                for k, x in enumerate(xs)
            ]
            rows.append(_give(whole, many_in, create_graph))
    return tuple(rows) if many_out else rows[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Second derivatives of a function of one number."""

    def gradient(*xs: Tensor) -> Any:
        ys, _ = _call(func, xs)
        _one_number(ys, "hessian")
        return _grad([ys[0].reshape(())], xs, [_C.ops.ones((), dtype=ys[0].dtype, device=ys[0].device)], True)

    xs, many = _tuple(inputs, "inputs")
    result = jacobian(gradient, xs, create_graph)
    return result if many else result[0][0]


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """func(inputs), one number, and its Hessian times the vector v."""
    xs, many = _inputs(inputs, create_graph)
    vs = _like(v, xs, "hvp")
    ys, many_out = _call(func, xs)
    _one_number(ys, "hvp")
    with enable_grad():
        gs = _grad(ys, xs, [_C.ops.ones_like(ys[0])], True)
        out = _grad(gs, xs, vs, create_graph)
    return _give(ys, many_out, create_graph), _give(out, many, create_graph)


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The vector v times the Hessian: the same, as Hessians are symmetric."""
    return hvp(func, inputs, v, create_graph, strict)
