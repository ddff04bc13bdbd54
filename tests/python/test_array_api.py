"""The array API namespace against NumPy's, which follows the same standard, and against array-api-strict's names."""

import pathlib
import re

import numpy as np
import pytest
import tinygrad_cpp as tg
import tinygrad_cpp.array_api as xp

pytest.importorskip("numpy", "2.1")

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/array-api.md"
R = np.random.RandomState(0)
F = R.randn(3, 4).astype(np.float32)
D = R.randn(3, 4) + 2
U = R.uniform(-0.9, 0.9, (3, 4))
I = R.randint(-5, 6, (3, 4))
J = R.randint(1, 6, (3, 4)).astype(np.int16)
B = R.rand(3, 4) > 0.5
C = R.rand(3, 4) > 0.5
S = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 2.5])
Z = np.zeros((0, 3), np.float32)
O = np.asarray(3.0)
DUP = np.array([[2, 1, 2], [3, 1, 2]])
X3 = R.randn(2, 3, 4)

# name: calls, each (function of the namespace and arrays, arrays)
CASES = {}


def case(name, *arrays, f=None, **kwargs):
    call = f or (lambda xp, *a, name=name, kwargs=kwargs: getattr(xp, name)(*a, **kwargs))
    CASES.setdefault(name, []).append((call, arrays))


for name in "abs ceil floor round sign square trunc positive negative isfinite isinf isnan".split():
    for a in (F, D, I, J, S, Z, O):
        case(name, a)
for name in "cos cosh exp expm1 sin sinh tan tanh asinh atan".split():
    for a in (F, D, S, Z, O):
        case(name, a)
for name in "acos asin atanh".split():
    case(name, U), case(name, U.astype(np.float32)), case(name, S)
for name in "log log1p log2 log10 sqrt acosh reciprocal".split():
    for a in (np.abs(D), np.abs(D).astype(np.float32), S):
        case(name, a)
case("signbit", F), case("signbit", S)
case("logical_not", B), case("bitwise_invert", I), case("bitwise_invert", B)
case("conj", F), case("real", F)
case("imag", F)
PAIRS = [(F, F[::-1]), (F, D), (D, F[0]), (F, F[:, :1]), (I, J), (J, J), (I, I[:, :1]), (Z, Z), (D, O)]
for name in "add subtract multiply maximum minimum equal not_equal less less_equal greater greater_equal".split():
    for a, b in PAIRS:
        case(name, a, b)
    case(name, S[:, None], S)
for name in "divide atan2 hypot logaddexp copysign".split():
    for a, b in PAIRS:
        if a.dtype.kind == "f":
            case(name, a, b)
(
    case("divide", S[:, None], S),
    case("atan2", S[:, None], S),
    case("copysign", S[:, None], S),
    case("hypot", S[:, None], S),
)
for name in "floor_divide remainder".split():
    case(name, I, J), case(name, F, F[::-1]), case(name, D, F), case(name, J, -J)
case("pow", np.abs(D), F), case("pow", J, np.int16(3) * np.ones_like(J)), case("pow", F, np.asarray(2.0, np.float32))
for name in "bitwise_and bitwise_or bitwise_xor".split():
    case(name, I, J), case(name, B, C)
case("bitwise_left_shift", I, J.astype(np.int64)), case("bitwise_right_shift", I, J)
for name in "logical_and logical_or logical_xor".split():
    case(name, B, C), case(name, B, B[:1])
case("nextafter", F, F[::-1]), case("nextafter", D, np.full_like(D, np.inf))
case("clip", F, f=lambda xp, a: xp.clip(a, -0.5, 0.5))
case("clip", I, f=lambda xp, a: xp.clip(a, min=0))
case("clip", F, F[0], f=lambda xp, a, b: xp.clip(a, None, b))
case("clip", F, f=lambda xp, a: xp.clip(a))

for sizes in ((2, 3), (), 4, (0, 2)):
    for name in "zeros ones".split():
        case(name, f=lambda xp, sizes=sizes, name=name: getattr(xp, name)(sizes, dtype=xp.float32))
    case("empty", f=lambda xp, sizes=sizes: xp.empty(sizes, dtype=xp.int16) * 0)
    case("full", f=lambda xp, sizes=sizes: xp.full(sizes, 7))
    case("full", f=lambda xp, sizes=sizes: xp.full(sizes, True))
    case("full", f=lambda xp, sizes=sizes: xp.full(sizes, 0.1, dtype=xp.float64))
for name in "zeros_like ones_like".split():
    case(name, F), case(name, I), case(name, I, f=lambda xp, a, name=name: getattr(xp, name)(a, dtype=xp.float64))
case("empty_like", F, f=lambda xp, a: xp.zeros_like(xp.empty_like(a)))
case("full_like", F, f=lambda xp, a: xp.full_like(a, 2)), case("full_like", B, f=lambda xp, a: xp.full_like(a, True))
for bounds in ((5,), (2, 9), (2, 9, 3), (9, 2, -2), (9, 2), (0,), (2, 9, -1)):
    case("arange", f=lambda xp, bounds=bounds: xp.arange(*bounds))
    case("arange", f=lambda xp, bounds=bounds: xp.arange(*(float(b) for b in bounds), dtype=xp.float64))
case("asarray", f=lambda xp: xp.asarray([[1, 2], [3, 4]])), case("asarray", f=lambda xp: xp.asarray([True, False]))
case("asarray", f=lambda xp: xp.asarray(1e-200, dtype=xp.float64))
case("asarray", F, f=lambda xp, a: xp.asarray(a, dtype=xp.float64, copy=True))
case("from_dlpack", F)
for n, m, k in ((3, None, 0), (3, 4, 1), (4, 3, -2), (0, 2, 0), (2, 2, 9), (2, 3, -(2**62))):
    case("eye", f=lambda xp, n=n, m=m, k=k: xp.eye(n, m, k=k, dtype=xp.float32))
for end in (True, False):
    for num in (0, 1, 2, 7):
        case("linspace", f=lambda xp, n=num, e=end: xp.linspace(-1.0, 16777217.0, n, endpoint=e, dtype=xp.float64))
case("meshgrid", f=lambda xp: xp.meshgrid(xp.arange(3), xp.arange(2))), case("meshgrid", f=lambda xp: xp.meshgrid())
case("meshgrid", f=lambda xp: xp.meshgrid(xp.arange(3), xp.arange(2), xp.arange(4), indexing="ij"))
for name in "tril triu".split():
    for k in (-1, 0, 2):
        case(name, X3, k=k)

for a in (F, I, B):
    for t in "float32 float64 int8 int64 bool".split():
        case("astype", a, f=lambda xp, a, t=t: xp.astype(a, getattr(xp, t)))
for axis in (0, 1, -1, (0, 1), (0, -1)):
    (
        case("flip", X3, axis=axis),
        case("expand_dims", X3, f=lambda xp, a, x=axis: xp.expand_dims(a, axis=x)) if isinstance(axis, int) else None,
    )
case("flip", X3), case("expand_dims", O, f=lambda xp, a: xp.expand_dims(a, axis=0))
case("broadcast_arrays", F, F[:1], O), case("broadcast_to", F, f=lambda xp, a: xp.broadcast_to(a, (2, 3, 4)))
case(
    "broadcast_shapes",
    f=lambda xp: tuple((xp.broadcast_shapes if hasattr(xp, "broadcast_shapes") else np.broadcast_shapes)((2, 1), (3,))),
)
for name in "concat stack".split():
    for axis in (0, 1, -1):
        case(name, F, D, f=lambda xp, a, b, name=name, axis=axis: getattr(xp, name)((a, b), axis=axis))
case("concat", F, I, f=lambda xp, a, b: xp.concat([a, a], axis=None))
case("unstack", X3), case("unstack", X3, axis=-2)
(
    case("moveaxis", X3, f=lambda xp, a: xp.moveaxis(a, 0, -1)),
    case("moveaxis", X3, f=lambda xp, a: xp.moveaxis(a, (0, 1), (2, 0))),
)
case("permute_dims", X3, f=lambda xp, a: xp.permute_dims(a, (2, 0, 1))), case("matrix_transpose", X3)
case("repeat", F, f=lambda xp, a: xp.repeat(a, 2)), case("repeat", F, f=lambda xp, a: xp.repeat(a, 3, axis=1))
case("repeat", F, np.array([1, 0, 2]), f=lambda xp, a, n: xp.repeat(a, n, axis=0))
for copy in (None, True, False):
    case("reshape", F, f=lambda xp, a, copy=copy: xp.reshape(a, (2, -1), copy=copy))
for shift, axis in ((2, None), (-1, 0), ((1, 2), (0, 1)), (1, (0, 1)), (99, 1)):
    case("roll", F, f=lambda xp, a, s=shift, x=axis: xp.roll(a, s, axis=x))
case("squeeze", F[None, :, None], f=lambda xp, a: xp.squeeze(a, axis=0))
case("squeeze", F[None, :, None], f=lambda xp, a: xp.squeeze(a, axis=(0, -2)))
for reps in ((2,), (2, 3), (2, 1, 3), ()):
    case("tile", F, f=lambda xp, a, reps=reps: xp.tile(a, reps))

(
    case("matmul", F, F.T.copy()),
    case("matmul", X3, D.T.copy()),
    case("matmul", F, D[0]),
    case("matmul", I, I.T.copy()),
    case("matmul", F, D.T.copy()),
)
(
    case("tensordot", F, D.T.copy(), axes=1),
    case("tensordot", X3, D, axes=((1, 2), (0, 1))),
    case("tensordot", F, D, axes=0),
)
case("vecdot", F, D), case("vecdot", X3, F, axis=-1), case("vecdot", X3, X3[:, :, :1], axis=-2), case("vecdot", J, J)
(
    case("take", F, np.array([2, 0, -1]), axis=0),
    case("take", F, np.array([1, 1]), axis=-1),
    case("take", F[0], np.array([3, 0])),
)
case("take_along_axis", F, np.array([[0, 1], [3, 2], [1, 1]]), axis=1)
for name in "argmax argmin".split():
    for axis in (None, 0, -1):
        case(name, F, axis=axis), case(name, I, axis=axis, keepdims=True)
case("nonzero", I), case("nonzero", B), case("nonzero", Z)
SORTED = np.sort(D.ravel())
for side in ("left", "right"):
    case("searchsorted", SORTED, D, f=lambda xp, a, b, side=side: xp.searchsorted(a, b, side=side))
case("searchsorted", F[0], D, np.argsort(F[0]), f=lambda xp, a, b, s: xp.searchsorted(a, b, sorter=s))
case("where", B, F, D), case("where", B, I, J), case("where", B, F, O)
case("isin", I, np.array([1, 2])), case("isin", I, np.array([1, 2]), invert=True)
for descending in (False, True):
    for axis in (0, -1):
        for name in "sort argsort".split():
            for a in (F, np.arange(12).reshape(3, 4) % 5 if not descending else D):
                # NumPy has no order from the largest; the sizes of no two values are equal there
                case(name, a, f=lambda xp, a, n=name, x=axis, d=descending: ordered(xp, n, a, x, d))


def ordered(xp, name, a, axis, descending):
    if xp is not np:
        return getattr(xp, name)(a, axis=axis, descending=descending)
    a = -a if descending else a
    return (-1 if descending and name == "sort" else 1) * getattr(np, name)(a, axis=axis, stable=True)


for a in (DUP, np.array([2.5, np.nan, 1.0, np.nan]), Z, O):
    for name in "unique_all unique_counts unique_inverse".split():
        case(name, a)
    case("unique_values", a, f=lambda xp, a: xp.sort(xp.unique_values(a)))

AXES = (None, 0, -1, (0, 2), (0, 1, 2))
for axis in AXES:
    for keepdims in (False, True):
        for name in "sum prod max min mean var std all any count_nonzero".split():
            case(name, X3, axis=axis, keepdims=keepdims)
        for name in "var std".split():
            case(name, X3, axis=axis, keepdims=keepdims, correction=1)
        for name in "all any".split():
            case(name, X3 > 0, axis=axis, keepdims=keepdims)
        for name in "sum prod max min".split():
            case(name, (X3 * 3).astype(np.int8), axis=axis, keepdims=keepdims)
for name in "sum prod".split():
    (
        case(name, J, f=lambda xp, a, name=name: getattr(xp, name)(a, dtype=xp.float64)),
        case(name, Z),
        case(name, Z, axis=0),
    )
for name in "sum prod max min mean var std all any".split():
    case(name, O)
for name in "cumulative_sum cumulative_prod".split():
    for axis in (0, -1):
        case(name, F, axis=axis), case(name, J, axis=axis, include_initial=True), case(name, Z, axis=axis)
    case(name, F[0]), case(name, F[0], f=lambda xp, a, name=name: getattr(xp, name)(a, dtype=xp.float64))
(
    case("diff", F),
    case("diff", I, n=2, axis=0),
    case("diff", F, F[:, :1], f=lambda xp, a, b: xp.diff(a, prepend=b, append=b)),
)

for pair in ("int8 int16", "uint8 int8", "float32 float64", "int64 int64", "bool bool"):
    case("result_type", f=lambda xp, p=pair: xp.result_type(*(getattr(xp, t) for t in p.split())))
    case("result_type", f=lambda xp, p=pair: xp.result_type(*(xp.ones((), dtype=getattr(xp, t)) for t in p.split())))
    case("can_cast", f=lambda xp, p=pair: xp.can_cast(*(getattr(xp, t) for t in p.split())))
    case("can_cast", f=lambda xp, p=pair: xp.can_cast(*(getattr(xp, t) for t in reversed(p.split()))))
for kind in "bool,signed integer,unsigned integer,integral,real floating,complex floating,numeric".split(","):
    for t in "bool uint8 int8 int64 float32 float64".split():
        case("isdtype", f=lambda xp, kind=kind, t=t: xp.isdtype(getattr(xp, t), kind))
(
    case("isdtype", f=lambda xp: xp.isdtype(xp.int8, ("bool", xp.int8))),
    case("isdtype", f=lambda xp: xp.isdtype(xp.int8, xp.int16)),
)
for t in "float32 float64".split():
    case(
        "finfo",
        f=lambda xp, t=t: [
            getattr(xp.finfo(getattr(xp, t)), k) for k in "bits eps max min smallest_normal dtype".split()
        ],
    )
for t in "uint8 int8 int16 int32 int64".split():
    case(
        "iinfo",
        f=lambda xp, t=t: [
            getattr(xp.iinfo(xp.ones(2, dtype=getattr(xp, t)) if xp is not np else getattr(xp, t)), k)
            for k in "bits max min dtype".split()
        ],
    )

CONSTANTS = {"e", "inf", "nan", "pi", "newaxis"}
TYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"}
NOT_OF_THE_STANDARD = {"ModuleType", "ArrayAPIStrictFlags"}  # what array-api-strict has besides


def public(module):
    return {n for n in dir(module) if not n.startswith("_")}


def compare(got, want):
    if isinstance(want, (tuple, list)):
        assert isinstance(got, (tuple, list)) and len(got) == len(want)
        for g, w in zip(got, want):
            compare(g, w)
    elif isinstance(got, tg.Tensor):
        assert str(got.dtype).rpartition(".")[2] == str(np.asarray(want).dtype), (got.dtype, np.asarray(want).dtype)
        assert tuple(got.shape) == np.shape(want)
        rtol = 1e-5 if got.dtype == tg.float32 else 1e-12
        np.testing.assert_allclose(got.numpy(), want, rtol=rtol, atol=rtol)
        zero = (np.asarray(want) == 0) if got.is_floating_point() else np.zeros((), bool)
        assert (np.signbit(got.numpy())[zero] == np.signbit(want)[zero]).all() or got.numpy().size > 8 * len(S)
    elif isinstance(got, tg.dtype):
        assert str(got).rpartition(".")[2] == np.dtype(want).name
    else:
        assert got == want


@pytest.mark.parametrize("name", sorted(CASES))
def test_function(name):
    for call, arrays in CASES[name]:
        with np.errstate(all="ignore"):
            want = call(np, *arrays)
        before = [a.copy() for a in arrays]
        compare(call(xp, *(tg.tensor(a) if a.ndim == 0 else tg.from_numpy(a.copy()) for a in arrays)), want)
        for a, b in zip(arrays, before):
            np.testing.assert_array_equal(a, b)


def test_every_function_has_a_case():
    assert public(xp) - CONSTANTS - TYPES - set(CASES) == set()


def test_names_of_the_standard():
    """What array-api-strict has and this namespace lacks is on the page of deviations."""
    strict = pytest.importorskip("array_api_strict")
    listed = set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))
    missing = {n for n in public(strict) if not n.endswith("_flags")} - NOT_OF_THE_STANDARD - public(xp)
    assert missing <= listed, missing - listed


def test_namespace_of_a_tensor():
    x = tg.ones(2)
    assert x.__array_namespace__() is xp and x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(ValueError, match="2099.12"):
        x.__array_namespace__(api_version="2099.12")
    assert xp.__array_api_version__ == "2023.12"
    assert x.to_device("cpu") is x and complex(tg.tensor(2.0)) == 2
    m = tg.eye(2) * 2
    alias = m
    m @= tg.ones(2, 2)
    assert alias is m and m.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_inspection():
    info = xp.__array_namespace_info__()
    assert info.capabilities()["boolean indexing"] and info.default_device() in info.devices()
    assert set(info.dtypes()) == TYPES and set(info.dtypes(kind="unsigned integer")) == {"uint8"}
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", "float32", "float64"}
    assert info.default_dtypes() == {"real floating": tg.float32, "integral": tg.int64, "indexing": tg.int64}


def test_zero_dimensional_operands_count_like_others():
    """The functions follow the standard; operators of Tensor follow PyTorch, as the page says."""
    small, wide = tg.ones(2), tg.tensor(1.0, dtype=tg.float64)
    assert xp.add(small, wide).dtype == tg.float64 and (small + wide).dtype == tg.float32


def test_copies():
    x = tg.arange(6)
    assert xp.asarray(x) is x and xp.asarray(x, copy=True) is not x
    shared = np.arange(3.0)
    xp.asarray(shared, copy=False)[0] = 5
    assert shared[0] == 5
    for bad in (lambda: xp.asarray([1, 2], copy=False), lambda: xp.asarray(x, dtype=xp.float32, copy=False)):
        with pytest.raises(ValueError, match="copy"):
            bad()
    with pytest.raises(ValueError, match="copy"):
        xp.reshape(tg.ones(2, 3).mT, (6,), copy=False)
    assert xp.astype(x, xp.int64) is not x and xp.astype(x, xp.int64, copy=False) is x


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: xp.squeeze(tg.ones(2, 1), axis=0), ValueError),
        (lambda: xp.take(tg.ones(2, 2), tg.tensor([0])), ValueError),
        (lambda: xp.cumulative_sum(tg.ones(2, 2)), ValueError),
        (lambda: xp.nonzero(tg.tensor(1.0)), ValueError),
        (lambda: xp.isdtype(xp.int8, "whole"), ValueError),
        (lambda: xp.result_type(), ValueError),
        (lambda: xp.vecdot(tg.ones(2), tg.ones(3)), RuntimeError),
        (lambda: xp.finfo(xp.int8), TypeError),
        (lambda: tg.ones(2).to_device("cpu", stream=1), ValueError),
    ],
)
def test_errors(call, error):
    with pytest.raises(error):
        call()
