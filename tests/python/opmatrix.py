"""The op matrix: sample calls of every op, built from the op table alone, and ways to run them on either side."""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tinygrad_cpp as tg

try:
    import torch
except ImportError:  # the oracle checks are then left out and counted (conftest.py)
    torch = None

TABLE: list[dict[str, Any]] = tg._C._op_table()
BY_NAME = {op["name"]: op for op in TABLE}
COUNTS: dict[str, int] = {}


def count(what: str, n: int = 1) -> None:
    COUNTS[what] = COUNTS.get(what, 0) + n


@dataclass
class Arr:
    """An array argument: float64, int64 or bool values; `lo`/`hi` tell the range it was drawn from."""

    data: np.ndarray
    kind: str  # "float", "const" (floating point, but not an input to differentiate), "int", "bool"
    prepare: Callable[[Any], Any] = lambda t: t  # from the tensor to differentiate to the argument of the op


@dataclass
class DType:
    name: str


@dataclass
class Index:
    text: str


@dataclass
class Call:
    op: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    def map(self, fn: Callable[[Any], Any]) -> tuple[list[Any], dict[str, Any]]:
        def walk(v: Any) -> Any:
            if isinstance(v, list) and any(isinstance(x, Arr) for x in v):
                return [walk(x) for x in v]
            return prepared(v)

        def prepared(v: Any) -> Any:
            return v.prepare(fn(v)) if isinstance(v, Arr) else fn(v)

        return [walk(a) for a in self.args], {k: walk(v) for k, v in self.kwargs.items()}

    def floats(self) -> list[Arr]:
        args = itertools.chain.from_iterable(a if isinstance(a, list) else [a] for a in [*self.args, *self.kwargs.values()])
        return [a for a in args if isinstance(a, Arr) and a.kind == "float"]


def split_top(text: str, sep: str) -> list[str]:
    parts, depth, cur, quote = [], 0, "", ""
    for ch in text:
        if quote:
            quote = "" if ch == quote else quote
        elif ch in "'\"":
            quote = ch
        else:
            depth += ch in "([{"
            depth -= ch in ")]}"
        if ch == sep and depth == 0 and not quote:
            parts.append(cur.strip())
            cur = ""
        else:
            cur += ch
    return [p for p in [*parts, cur.strip()] if p]


def namespace(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def T(*shape: int, lo: float | None = None, hi: float | None = None) -> Arr:
        if lo is None and hi is None:
            n = math.prod(shape)
            # distinct values, no ties and none within 0.02 of zero: kinks stay away from finite differences
            v = (np.arange(n) - n / 2 + 0.5) * (3.0 / max(n, 4)) + rng.uniform(0.02, 0.04, n)
            v = np.where(np.abs(v) < 0.02, 0.05, v)
            return Arr(rng.permutation(v).reshape(shape), "float")
        low, high = (lo if lo is not None else -1.0), (hi if hi is not None else 1.0)
        return Arr(rng.uniform(low, high, shape), "float")

    def C(*shape: int, lo: float | None = None, hi: float | None = None) -> Arr:
        return Arr(T(*shape, lo=lo, hi=hi).data, "const")

    def I(*shape: int, lo: int = 0, hi: int = 5) -> Arr:  # noqa: E743
        return Arr(rng.integers(lo, hi, shape), "int")

    def B(*shape: int) -> Arr:
        return Arr(rng.integers(0, 2, shape).astype(bool), "bool")

    def PERM(*shape: int, dim: int = 0) -> Arr:
        # integers that differ along dim: positions to write to without overlap
        return Arr(np.argsort(rng.random(shape), axis=dim), "int")

    def W(*shape: int) -> Arr:  # well conditioned matrices
        return Arr(T(*shape).data + 3 * np.eye(*shape[-2:]), "float")

    def SYM(*shape: int) -> Arr:  # symmetric ones, made from all elements of the tensor that is differentiated
        return Arr(T(*shape).data, "float", lambda t: t + t.mT)

    def SPD(*shape: int) -> Arr:  # positive definite ones, likewise
        return Arr(W(*shape).data, "float", lambda t: t @ t.mT)

    def TRI(*shape: int, upper: bool = False) -> Arr:  # triangular ones, likewise
        return Arr(W(*shape).data, "float", lambda t: t.triu() if upper else t.tril())

    def PIV(*shape: int) -> Arr:  # row swaps of a factorisation, counted from 1
        first = np.arange(1, shape[-1] + 1)
        return Arr(rng.integers(first, shape[-1] + 1, shape).astype(np.int32), "int")

    return {
        "W": W, "SYM": SYM, "SPD": SPD, "TRI": TRI, "PIV": PIV, "T": T, "C": C, "I": I, "B": B, "PERM": PERM, "IDX": Index, "DT": DType, "call": lambda *a, **k: (list(a), k),
        "inf": math.inf, "nan": math.nan, "__builtins__": {"float": float, "int": int, "bool": bool},
    }


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode())


def pointwise_calls(op: dict[str, Any]) -> list[Call]:
    """Row samples "lo:hi;scalar;scalar": tensors of several shapes in the range, scalars where the row has them."""
    rng_text, *scalars = op["samples"].split(";")
    lo, hi = (float(x) for x in rng_text.split(":"))
    env = namespace(seed_of(op["name"]))
    kinds = [p["type"] for p in op["params"]]
    calls = []

    def tensor(shape: tuple[int, ...]) -> Arr:
        # spread over the range without ties, so that neither max nor sign meets a kink
        a = env["T"](*shape, lo=lo, hi=hi)
        if "Bits" in op["notes"] or op["name"].startswith("bitwise"):
            return Arr(np.abs(a.data).astype(np.int64), "int")
        return a

    for shapes in [((3, 4),) * 3, ((3, 4), (4,), (3, 1)), ((), (), ()), ((0, 3), (0, 3), (0, 3)), ((2, 1, 3), (4, 1), (1,))]:
        args, left = [], list(scalars)
        for kind, shape in zip(kinds, shapes):
            if kind == "Scalar":
                v = float(left.pop(0)) if left else lo
                args.append(int(v) if v == int(v) and op["base"] == "polygamma" else v)
            elif op["base"] == "where" and not args:
                args.append(env["B"](*shape))
            else:
                args.append(tensor(shape))
        calls.append(Call(op, args, {}, f"shapes {shapes}"))
    if kinds.count("Operand") == 2 and len(kinds) == 2:
        s = 2 if op["name"].startswith("bitwise") else (lo + hi) / 2 or 0.7
        calls.append(Call(op, [tensor((3, 4)), s], {}, "tensor, number"))
        calls.append(Call(op, [s, tensor((3, 4))], {}, "number, tensor"))
    return calls


def samples(op: dict[str, Any]) -> list[Call]:
    if re.fullmatch(r"-?[\d.]+:-?[\d.]+(;-?[\d.]+)*", op["samples"].strip()):
        return pointwise_calls(op)
    env = namespace(seed_of(op["name"]))
    calls = []
    for text in split_top(op["samples"], ";"):
        args, kwargs = eval(f"call({text})", env)
        calls.append(Call(op, args, kwargs, text))
    return calls


# ---- running a call here and with the oracle

NP_OF = {"float64": np.float64, "float32": np.float32, "int64": np.int64, "bool": np.bool_}


def to_tg(v: Any, dtype: str = "float64", grad: bool = False) -> Any:
    if isinstance(v, Arr):
        t = tg.tensor(v.data.reshape(-1)).reshape(v.data.shape)  # a 0-d array alone would be a float32 number
        if v.kind in ("float", "const"):
            t = t.to(getattr(tg, dtype))
            if grad and v.kind == "float":
                t.requires_grad_(True)
        return t
    if isinstance(v, DType):
        return getattr(tg, v.name)
    if isinstance(v, Index):
        return eval_index(v.text, lambda a: tg.tensor(a))
    return v


def to_torch(v: Any, dtype: str = "float64", grad: bool = False) -> Any:
    if isinstance(v, Arr):
        t = torch.from_numpy(np.array(v.data))
        if v.kind in ("float", "const"):
            t = t.to(getattr(torch, dtype))
            if grad and v.kind == "float":
                t.requires_grad_(True)
        return t
    if isinstance(v, DType):
        return getattr(torch, v.name)
    if isinstance(v, Index):
        return eval_index(v.text, lambda a: torch.tensor(a))
    return v


class _Catch:
    def __getitem__(self, key: Any) -> Any:
        return key


def eval_index(text: str, tensor: Callable[[Any], Any]) -> Any:
    env = namespace(99)
    wrap = {k: (lambda f: lambda *a, **kw: tensor(f(*a, **kw).data.tolist()))(env[k]) for k in ("T", "I", "B")}
    return eval(f"catch[{text}]", {"catch": _Catch(), "L": lambda *a: tensor(list(a)), **wrap})


def run_tg(call: Call, dtype: str = "float64", grad: bool = False, inputs: list[Any] | None = None, name: str | None = None) -> Any:
    """Runs the op by its full name; collects the float inputs into `inputs`."""

    def conv(v: Any) -> Any:
        t = to_tg(v, dtype, grad)
        if inputs is not None and isinstance(v, Arr) and v.kind == "float":
            inputs.append(t)
        return t

    args, kwargs = call.map(conv)
    return tg._C._call_op(name or call.op["name"], *args, **kwargs)


def torch_function(op: dict[str, Any]) -> Callable[..., Any] | None:
    name = op["torch"] or op["base"]
    if name.startswith("linalg_"):
        name = name.replace("linalg_", "linalg.", 1)
    if name == "none" or torch is None:
        return None
    if "." in name:
        obj: Any = torch
        for part in name.removeprefix("torch.").split("."):
            obj = getattr(obj, part)
        return obj
    for owner in (torch, torch.nn.functional, torch.Tensor, torch.special, torch.linalg):
        if hasattr(owner, name):
            return getattr(owner, name)
    raise AttributeError(f"{op['name']}: PyTorch has no {name}; set .torch in the op table")


def run_torch(call: Call, dtype: str = "float64", grad: bool = False, inputs: list[Any] | None = None) -> Any:
    def conv(v: Any) -> Any:
        t = to_torch(v, dtype, grad)
        if inputs is not None and isinstance(v, Arr) and v.kind == "float":
            inputs.append(t)
        return t

    args, kwargs = call.map(conv)
    fn = torch_function(call.op)
    if call.op["base"] == "index":
        return args[0][args[1]]
    if call.op["base"] == "einsum":
        return fn(args[0], *args[1])
    if call.op["base"] in ("broadcast_tensors", "block_diag", "cartesian_prod"):
        return fn(*args[0])
    if call.op["pointwise"] and all(p["type"] == "Operand" for p in call.op["params"]):
        try:
            return fn(*args, **kwargs)
        except TypeError:  # some of PyTorch's take no numbers: a 0-d tensor does the same
            args_dtype = next(a.dtype for a in args if isinstance(a, torch.Tensor))
            return fn(*[a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=args_dtype) for a in args])
    return fn(*args, **kwargs)


def outputs(r: Any) -> list[Any]:
    if isinstance(r, (tuple, list)) and not isinstance(r, tg.Tensor):
        return list(r)
    return [r]


def to_np(t: Any) -> Any:
    """NumPy array of a tensor of either side (half types as float32); plain values pass."""
    if isinstance(t, tg.Tensor):
        t = t.detach()
        return (t.to(tg.float32) if t.dtype in (tg.float16, tg.bfloat16) else t).numpy()
    if torch is not None and isinstance(t, torch.Tensor):
        t = t.detach().resolve_neg().resolve_conj()
        return (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t).numpy()
    return np.asarray(t)


def dtype_name(t: Any) -> str:
    return str(t.dtype).rsplit(".", 1)[-1]


def weights(shape: tuple[int, ...], salt: int) -> np.ndarray:
    return np.random.default_rng(salt).uniform(0.5, 1.5, shape)


def layouts(a: np.ndarray) -> dict[str, Callable[[Any], Any]]:
    """Ways to give the same values another memory layout: name -> function of a tensor with those values."""

    def sliced(t: Any) -> Any:
        big = tg.zeros([s + 3 for s in t.shape], dtype=t.dtype)
        view = big[tuple(slice(1, s + 1) for s in t.shape)]
        view.copy_(t)
        return view

    def stepped(t: Any) -> Any:
        big = tg.zeros([2 * s for s in t.shape], dtype=t.dtype)
        view = big[tuple(slice(None, None, 2) for _ in t.shape)]
        view.copy_(t)
        return view

    def negative(t: Any) -> Any:
        rev = tuple(slice(None, None, -1) for _ in t.shape)
        return t[rev].clone()[rev]

    def offset(t: Any) -> Any:
        flat = tg.zeros([t.numel() + 5], dtype=t.dtype)
        view = flat[5:].view(*t.shape)
        view.copy_(t)
        return view

    out: dict[str, Callable[[Any], Any]] = {}
    if a.ndim >= 1:
        out |= {"sliced": sliced, "stepped": stepped, "negative": negative, "offset": offset}
    if a.ndim >= 2:
        perm = list(range(a.ndim))[::-1]
        out["transposed"] = lambda t: t.permute(perm).contiguous().permute(perm)
    return out


EDGE_SIZES = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129]


def ulp(x: np.ndarray, dtype: str) -> np.ndarray:
    """Distance between neighbouring values of the half type at |x|."""
    bits, emin, tiny = {"float16": (10, -14, 2.0**-24), "bfloat16": (7, -126, 2.0**-133)}[dtype]
    with np.errstate(divide="ignore"):
        e = np.floor(np.log2(np.maximum(np.abs(x), 2.0**emin)))
    return np.maximum(2.0 ** (e - bits), tiny)


def product(*lists: list[Any]) -> list[tuple[Any, ...]]:
    return list(itertools.product(*lists))
