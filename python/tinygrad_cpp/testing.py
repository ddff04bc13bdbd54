"""Comparison of tensors with tolerances that fit their type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import _C
from ._suggest import lazy

__all__ = ["assert_allclose", "assert_close"]

# dtype -> relative and absolute tolerance; others are compared exactly
_TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def _describe(a: _C.Tensor, e: _C.Tensor, rtol: float, atol: float, equal_nan: bool) -> str:
    """What differs, or nothing."""
    dtype = _C.promote_types(a.dtype, e.dtype)
    a, e = a.detach().to(dtype), e.detach().to(dtype)
    ops = _C.ops
    bad = ops.logical_not(ops.isclose(a, e, rtol=rtol, atol=atol, equal_nan=equal_nan))
    count = int(bad.sum())
    if not count:
        return ""
    difference = ops.abs(ops.sub(a.double(), e.double()))
    difference = ops.where(bad, difference, ops.zeros_like(difference))
    at = int(ops.argmax(difference.reshape(-1)))
    index: list[int] = []
    rest = at
    for size in reversed(a.shape):
        index.insert(0, rest % size)
        rest //= size
    flat, at_worst = difference.reshape(-1), (a.reshape(-1)[at].item(), e.reshape(-1)[at].item())
    return (
        f"{count} of {bad.numel()} elements differ by more than rtol={rtol}, atol={atol}; the largest difference is "
        f"{float(flat[at]):g} at {tuple(index)}: {at_worst[0]} for {at_worst[1]}"
    )


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Any = None,
) -> None:
    """AssertionError if |actual - expected| > atol + rtol * |expected| anywhere, or dtypes or sizes differ.

    Takes tensors, numbers, NumPy arrays, and sequences and mappings of them. Without tolerances, those of the dtype
    count.
    """
    options = {k: v for k, v in locals().items() if k not in ("actual", "expected")}
    if (rtol is None) != (atol is None):
        raise _C.ValueError("assert_close: give both rtol and atol, or neither")

    def fail(text: str) -> None:
        raise AssertionError(msg(text) if callable(msg) else msg or text)

    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            fail(f"the keys differ: {sorted(map(str, set(actual) ^ set(expected)))}")
        for k in actual:
            assert_close(actual[k], expected[k], **options)
        return
    if all(isinstance(x, Sequence) and not isinstance(x, str) for x in (actual, expected)):
        if len(actual) != len(expected):
            fail(f"the lengths differ: {len(actual)} for {len(expected)}")
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e, **options)
        return
    tensors = []
    for x in (actual, expected):
        tensors.append(
            x if isinstance(x, _C.Tensor) else _C.as_tensor(x, dtype=_C.float64 if type(x) is float else None)
        )
    a, e = tensors
    if type(actual) in (int, float, bool) and type(expected) in (int, float, bool):
        check_dtype = False
    if a.shape != e.shape:
        fail(f"the sizes differ: {tuple(a.shape)} for {tuple(e.shape)}")
    if check_dtype and a.dtype != e.dtype:
        fail(f"the dtypes differ: {a.dtype} for {e.dtype}")
    if check_stride and a.stride() != e.stride():
        fail(f"the strides differ: {a.stride()} for {e.stride()}")
    if rtol is None or atol is None:
        pairs = [_TOLERANCES.get(t.dtype.name, (0.0, 0.0)) for t in (a, e)]
        rtol, atol = max(p[0] for p in pairs), max(p[1] for p in pairs)
    text = _describe(a, e, rtol, atol, equal_nan)
    if text:
        fail(text)


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: Any = None,
) -> None:
    """assert_close without a look at dtypes."""
    assert_close(
        actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=False, check_dtype=False, msg=msg
    )


__getattr__ = lazy(__name__, globals())
