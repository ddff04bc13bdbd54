"""The op matrix of a device: every sample of every op there and on the CPU, values and gradients compared.

    python tests/python/device_matrix.py --device cuda [--only REGEX] [--few] [--json FILE]

The CPU is the oracle here: test_op_matrix.py compares it with PyTorch, the reference loops and differences.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import opmatrix as om
import tinygrad_cpp as tg

# Both sides compute in the same type from the same scalar functions; sums are cut in other places, exp and its like may
# differ in the last bits. Sums of n < 200 terms in the samples: about sqrt(n) roundings. Halves: each side rounds its
# float32 result once more, so they differ by one unit in the last place at most, plus that of a step in between.
TOLERANCE = {
    "float64": {"rtol": 1e-9, "atol": 1e-11},
    "float32": {"rtol": 2e-5, "atol": 4e-6},
    "float16": {"rtol": 2**-9, "atol": 2**-9},
    "bfloat16": {"rtol": 2**-6, "atol": 2**-6},
}
# The input's gradient of a convolution in halves may be a sum of a window's columns, up to 12 here, each rounded to the
# half type, and the sum after each: about sqrt(24) roundings of numbers up to 2, where a library rounds one float32 sum.
WINDOW_SUMS = {"float16": {"rtol": 2**-9, "atol": 2**-7}, "bfloat16": {"rtol": 2**-6, "atol": 2**-4}}
# What a device is known to give otherwise than the CPU: the op, the types it does so in, and why.
EXCEPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "device_copy": (
        tuple(TOLERANCE),
        "its sample asks for a copy on the CPU, whose gradient would have to be there as well",
    ),
    "standardize_backward": (
        ("float16", "bfloat16"),
        "two samples have mean and variance in the half type, which forward never returns: the device goes by the "
        "composite then, whose gradients are float32",
    ),
}
FEW = ("add", "exp", "sum", "matmul", "softmax", *EXCEPTIONS)  # what --few compares
LEFT_OPEN = ("empty", "empty_like", "new_empty", "empty_strided")  # values that the op leaves open
LAYOUTS = ("plain", "transposed", "stepped", "negative", "offset")
COUNTS = {"ops": 0, "calls": 0, "results": 0, "gradients": 0, "same errors": 0, "exceptions": 0}  # compared so far


class Unlike(AssertionError):
    """A result that differs from the CPU's."""


def place(v: Any, device: str, dtype: str, layout: str, grad: bool, leaves: list[Any]) -> Any:
    """The argument on the device; float tensors that are differentiated are collected."""
    t = om.to_tg(v, dtype)
    if not isinstance(t, tg.Tensor):
        return [place(x, device, dtype, layout, grad, leaves) for x in t] if isinstance(t, list) else to_device(t, device)
    if isinstance(v, om.Arr) and layout != "plain" and layout in (ways := om.layouts(v.data)):
        t = ways[layout](t.to(device)) if device == "cpu" else keep_strides(ways[layout](t), device)
    else:
        t = t.to(device)
    if grad and isinstance(v, om.Arr) and v.kind == "float":
        leaves.append(t.requires_grad_(True))
    return t


def keep_strides(t: Any, device: str) -> Any:
    """A view with the strides of `t` over memory of the device."""
    span = 1 + sum((n - 1) * abs(s) for n, s in zip(t.shape, t.stride()))
    low = sum((n - 1) * -s for n, s in zip(t.shape, t.stride()) if s < 0)
    if t.numel() == 0 or low:  # as_strided takes no negative strides: flip there what is flipped here
        axes = [d for d, s in enumerate(t.stride()) if s < 0]
        index = tuple(slice(None, None, -1) if d in axes else slice(None) for d in range(t.ndim))
        return t[index].contiguous().to(device)[index] if axes else t.to(device)
    base = tg.zeros(span, dtype=t.dtype, device=device)
    return base.as_strided(t.shape, t.stride()).copy_(t.to(device))


def to_device(v: Any, device: str) -> Any:
    if isinstance(v, tuple):
        return tuple(to_device(x, device) for x in v)
    return v.to(device) if isinstance(v, tg.Tensor) else v


def outcome(op: dict, call: om.Call, device: str, dtype: str, layout: str, grad: bool) -> list[tuple[str, Any]]:
    """Results and gradients as ("name", tensor); an error of the op is one as well, by its class."""
    leaves: list[Any] = []
    try:
        args, kwargs = call.map(lambda v: place(v, device, dtype, layout, grad, leaves))
        tg.manual_seed(5)
        if any(p["name"] == "device" for p in op["params"]) and not any(isinstance(v, tg.Tensor) for v in args):
            kwargs = {"device": device, **kwargs}
        outs = om.outputs(tg._C._call_op(op["name"], *args, **kwargs))
        found: list[tuple[str, Any]] = [(f"result {i}", o) for i, o in enumerate(outs)]
        live = [o for o in outs if isinstance(o, tg.Tensor) and o.requires_grad]
        if grad and live:
            seeds = [tg.tensor(om.weights(tuple(o.shape), i)).to(device=device, dtype=o.dtype) for i, o in enumerate(live)]
            grads = tg.autograd.grad(live, leaves, seeds, allow_unused=True)
            found += [(f"gradient {i}", g) for i, g in enumerate(grads) if g is not None]
        return found
    except (tg.DTypeError, tg.NotImplementedError, tg.ValueError, tg.ShapeError, tg.IndexError, tg.TypeError) as error:
        return [("error", type(error).__name__)]


def tolerance(op: dict, name: str, t: Any, dtype: str) -> dict[str, float]:
    """How far a result or gradient, computed in `dtype`, may be from the CPU's."""
    if not t.is_floating_point():
        return {"rtol": 0, "atol": 0}
    if name.startswith("gradient") and op["base"].startswith("conv"):
        return WINDOW_SUMS.get(dtype, TOLERANCE[dtype])
    return TOLERANCE[dtype]


def check(op: dict, call: om.Call, device: str, dtype: str, layout: str, grad: bool) -> int:
    """Raises Unlike where the device gives something else than the CPU; returns how many tensors were compared."""
    mine = outcome(op, call, device, dtype, layout, grad)
    wanted = outcome(op, call, "cpu", dtype, layout, grad)
    what = f"{op['name']}({call.text}) {dtype} {layout}"
    if [n for n, _ in mine] != [n for n, _ in wanted]:
        raise Unlike(f"{what}: {[n for n, _ in mine]} instead of {[n for n, _ in wanted]}")
    for (name, a), (_, b) in zip(mine, wanted):
        if not isinstance(b, tg.Tensor):
            if a != b:
                raise Unlike(f"{what}, {name}: {a} instead of {b}")
            continue
        if a.device.type != device.partition(":")[0]:
            raise Unlike(f"{what}, {name}: lies on {a.device}")
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Unlike(f"{what}, {name}: {a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}")
        if "signs" in op["notes"].split() or op["base"] in LEFT_OPEN:
            continue  # values that the op leaves open
        try:
            np.testing.assert_allclose(om.to_np(a.cpu()), om.to_np(b), **tolerance(op, name, b, dtype))
        except AssertionError as error:
            raise Unlike(f"{what}, {name}: {' '.join(str(error).split())[:300]}") from None
        COUNTS["gradients" if name.startswith("gradient") else "results"] += 1
    COUNTS["same errors"] += wanted[0][0] == "error" if wanted else 0
    return len(mine)


def checks(op: dict) -> Iterator[tuple[om.Call, str, str, bool]]:
    """What is compared of an op: samples x types and, in float32, x layouts."""
    differentiable = op["differentiable"] and not op["inplace_of"]
    base = om.BY_NAME[op["inplace_of"]] if op["inplace_of"] else op
    for call in om.samples(base):
        yield call, "float64", "plain", differentiable
        yield call, "float32", "plain", differentiable
        if call.floats():
            for dtype in ("float16", "bfloat16"):
                yield call, dtype, "plain", False  # ops of a backward have kernels only where no gradient is wanted
                if differentiable:
                    yield call, dtype, "plain", True
            # as_strided sees memory rather than elements, and a copy has other memory
            for layout in LAYOUTS[1:] if not op["base"].startswith("as_strided") else ():
                yield call, "float32", layout, differentiable


def differs(op: dict, device: str, what: tuple[om.Call, str, str, bool]) -> bool:
    try:
        check(op, *what[:1], device, *what[1:])
    except (Unlike, tg.DeviceError):
        return True
    return False


def check_op(op: dict, device: str) -> int:
    """All comparisons of an op; Unlike with the first that fails.

    Of those that EXCEPTIONS names one must fail: a reason that no longer holds must go.
    """
    types, why = EXCEPTIONS.get(op["name"], ((), "")) if device != "cpu" else ((), "")
    whats = [w for w in checks(op) if w[1] not in types]
    if types:
        if not any(differs(op, device, w) for w in checks(op) if w[1] in types):
            raise Unlike(f"{op['name']}: no longer differs from the CPU in {', '.join(types)}; EXCEPTIONS says: {why}")
        COUNTS["exceptions"] += 1
    n = 0
    for call, *how in whats:
        n += check(op, call, device, *how)
        COUNTS["calls"] += 1
    COUNTS["ops"] += 1
    return n


def summary(device: str) -> str:
    """What was compared, and on what."""
    emulated = device.startswith("cuda") and tg.cuda.is_emulated()
    return f"op matrix on {device}{' (EMULATED, no GPU)' if emulated else ''}: " + ", ".join(
        f"{n} {what}" for what, n in COUNTS.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="")
    parser.add_argument("--few", action="store_true", help="a few ops, and all that differ from the CPU")
    parser.add_argument("--json")
    a = parser.parse_args()
    ops = [op for op in om.TABLE if re.search(a.only, op["name"]) and (not a.few or op["name"] in FEW)]
    failures, compared = [], 0
    for op in ops:
        try:
            compared += check_op(op, a.device)
        except (Unlike, tg.Error) as error:
            failures.append(f"{type(error).__name__}: {error}" if isinstance(error, tg.Error) else str(error))
            print(op["name"], failures[-1], sep=": ", flush=True)
    known = {op["name"]: EXCEPTIONS[op["name"]][1] for op in ops if op["name"] in EXCEPTIONS and a.device != "cpu"}
    result = {"ops": len(ops), "compared": compared, "exceptions": known, "failures": failures}
    print(summary(a.device), f"{compared} tensors compared, {len(failures)} ops failed", sep="\n")
    if a.json:
        with open(a.json, "w") as f:
            json.dump(result, f, indent=1)
    return int(bool(failures) or not compared)


if __name__ == "__main__":
    sys.exit(main())
