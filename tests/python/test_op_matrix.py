"""One matrix over the op table: values, gradients, layouts, sizes, half types, in-place forms, backends, fast paths.

The parameters are the rows of the table. An op without sample inputs fails; an op missing from the table cannot be called.
"""

from __future__ import annotations

import itertools

import numpy as np
import opmatrix as om
import pytest
import tinygrad_cpp as tg
from opmatrix import Arr, Call, count

FORWARD = [op for op in om.TABLE if not op["inplace_of"]]
INPLACE = [op for op in om.TABLE if op["inplace_of"]]
DIFFERENTIABLE = [op for op in FORWARD if op["differentiable"]]
POINTWISE = [op for op in FORWARD if op["pointwise"]]
FAST = [op for op in FORWARD if op["composite"] and op["primitive"] and not op["inplace_of"]]


def ids(ops):
    return [op["name"] for op in ops]


def random_op(op) -> bool:
    return "random" in op["notes"].split() or op["is_random"]


def arbitrary_signs(op) -> bool:
    """Of the vectors in the result, which therefore are compared in a test of their own."""
    return "signs" in op["notes"].split()


def differentiable_calls(op):
    """Samples of an op whose result depends differentiably on a float tensor."""
    for call in om.samples(op):
        if not call.floats():
            continue
        outs = om.outputs(om.run_tg(call, grad=True))
        if any(isinstance(o, tg.Tensor) and o.requires_grad for o in outs):
            yield call


def rtol_for(dtype: str) -> dict[str, float]:
    # float32: both sides round differently, sums of n terms by about sqrt(n) half-ULPs; n < 200 in the samples
    return {"float64": dict(rtol=1e-9, atol=1e-11), "float32": dict(rtol=2e-5, atol=2e-6)}[dtype]


def compare(mine, theirs, what: str, **tol) -> None:
    mine, theirs = om.outputs(mine), om.outputs(theirs)
    assert len(mine) == len(theirs), f"{what}: {len(mine)} results, PyTorch gives {len(theirs)}"
    for a, b in zip(mine, theirs):
        if isinstance(a, tg.Tensor):
            assert tuple(a.shape) == tuple(b.shape), f"{what}: shape {tuple(a.shape)}, PyTorch {tuple(b.shape)}"
            assert om.dtype_name(a) == om.dtype_name(b), f"{what}: dtype {a.dtype}, PyTorch {b.dtype}"
        np.testing.assert_allclose(om.to_np(a), om.to_np(b), err_msg=what, **tol)


@pytest.mark.parametrize("op", om.TABLE, ids=ids(om.TABLE))
def test_has_doc_and_samples(op):
    assert op["doc"].strip(), f"{op['name']} has no doc"
    if not op["inplace_of"]:
        assert om.samples(op), f"{op['name']} has no sample inputs"
        count("samples", len(om.samples(op)))
    count("ops")


@pytest.mark.oracle
@pytest.mark.parametrize("op", FORWARD, ids=ids(FORWARD))
def test_forward_matches_pytorch(op):
    fn = om.torch_function(op)
    if fn is None:
        assert op["torch"] == "none"
        return
    for call, dtype in itertools.product(om.samples(op), ["float64", "float32"]):
        mine, theirs = om.run_tg(call, dtype), om.run_torch(call, dtype)
        if random_op(op) or arbitrary_signs(op):
            for a, b in zip(om.outputs(mine), om.outputs(theirs)):
                assert tuple(a.shape) == tuple(b.shape) and om.dtype_name(a) == om.dtype_name(b), call.text
        else:
            compare(mine, theirs, f"{op['name']}({call.text}) {dtype}", **rtol_for(dtype))
        count("forward against PyTorch")


@pytest.mark.oracle
@pytest.mark.parametrize("op", [o for o in DIFFERENTIABLE if not random_op(o)], ids=lambda o: o["name"])
def test_gradients_match_pytorch(op):
    if om.torch_function(op) is None or arbitrary_signs(op):
        return
    for call in differentiable_calls(op):
        mine_in, their_in = [], []
        mine = om.outputs(om.run_tg(call, grad=True, inputs=mine_in))
        theirs = om.outputs(om.run_torch(call, grad=True, inputs=their_in))
        a = sum((m * tg.tensor(om.weights(tuple(m.shape), i))).sum() for i, m in enumerate(mine) if m.requires_grad)
        b = sum((t * om.torch.tensor(om.weights(tuple(t.shape), i))).sum() for i, t in enumerate(theirs) if t.requires_grad)
        try:
            b.backward()
        except RuntimeError:  # no derivative there (remainder of a number), or none for this broadcast (clamp)
            count("gradients PyTorch does not have")
            continue
        a.backward()
        for x, y in zip(mine_in, their_in):
            gx = np.zeros(tuple(x.shape)) if x.grad is None else x.grad.numpy()
            gy = np.zeros(tuple(y.shape)) if y.grad is None else y.grad.numpy()
            rtol = 1e-7 if op["base"] == "hardsigmoid" else 1e-8  # PyTorch multiplies by a float32 1/6 there
            np.testing.assert_allclose(gx, gy, rtol=rtol, atol=1e-10, err_msg=f"{op['name']}({call.text})")
            count("gradients against PyTorch")


def gradcheck_call(op, call: Call, second: bool) -> None:
    inputs: list = []
    om.run_tg(call, grad=True, inputs=inputs)

    def fn(*xs):
        it = iter(xs)
        args, kwargs = call.map(lambda v: next(it) if isinstance(v, Arr) and v.kind == "float" else om.to_tg(v))
        if random_op(op):
            tg.manual_seed(7)
        r = om.outputs(tg._C._call_op(op["name"], *args, **kwargs))
        return tuple(o for o in r if isinstance(o, tg.Tensor) and o.dtype == tg.float64)

    check = tg.autograd.gradgradcheck if second else tg.autograd.gradcheck
    check(fn, tuple(inputs), raise_exception=True)
    count("gradgradcheck" if second else "gradcheck")


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=ids(DIFFERENTIABLE))
def test_gradcheck(op):
    done = 0
    for call in differentiable_calls(op):
        gradcheck_call(op, call, second=False)
        done += 1
    assert done, f"{op['name']}: no sample has a differentiable input; give one or flag the op kNoGrad"


@pytest.mark.parametrize("op", [o for o in DIFFERENTIABLE if "nograd2" not in o["notes"].split()], ids=lambda o: o["name"])
def test_gradgradcheck(op):
    for call in differentiable_calls(op):
        gradcheck_call(op, call, second=True)


@pytest.mark.parametrize("op", FORWARD, ids=ids(FORWARD))
def test_layouts(op):
    """Other strides, same values: bit-equal results, and the gradient arrives in the right place."""
    if random_op(op) or "layout" in op["notes"].split():
        return
    for call in om.samples(op):
        plain = om.outputs(om.run_tg(call))
        for name in ["sliced", "stepped", "negative", "offset", "transposed"]:
            used = False

            def conv(v, name=name):
                nonlocal used
                t = om.to_tg(v)
                if isinstance(v, Arr) and name in om.layouts(v.data):
                    used = True
                    t = om.layouts(v.data)[name](t)
                return t

            args, kwargs = call.map(conv)
            if not used:
                continue
            other = om.outputs(tg._C._call_op(op["name"], *args, **kwargs))
            for a, b in zip(plain, other):
                tol = {"rtol": 1e-12, "atol": 1e-13}  # sums may be taken in another order
                np.testing.assert_allclose(om.to_np(a), om.to_np(b), err_msg=f"{op['name']}({call.text}) {name}", **tol)
            count("layouts")


def in_layout(x, name):
    """x with its values in another layout, differentiably; None where its shape does not allow it."""
    if x.ndim < (2 if name == "transposed" else 1):
        return None
    if name == "transposed":
        perm = list(range(x.ndim))[::-1]
        return x.permute(perm).contiguous().permute(perm)
    if name == "sliced":
        return tg.nn.functional.pad(x, [1, 2] * x.ndim)[tuple(slice(1, s + 1) for s in x.shape)]
    if name == "stepped":
        return tg.stack([x, x], 1).flatten(0, 1)[::2]
    if name == "negative":
        return x.flip(0)[::-1]
    return tg.cat([tg.zeros(5, dtype=x.dtype), x.flatten()])[5:].view(x.shape)  # offset


LAYOUTS = [o for o in DIFFERENTIABLE if not random_op(o) and "layout" not in o["notes"].split()]


@pytest.mark.parametrize("op", LAYOUTS, ids=ids(LAYOUTS))
def test_gradient_of_layouts(op):
    """G1: gradcheck through inputs in every layout that keeps the values."""
    for call in list(differentiable_calls(op))[:2]:
        for name in ["transposed", "sliced", "stepped", "negative", "offset"]:
            inputs = [tg.tensor(a.data, dtype=tg.float64, requires_grad=True) for a in call.floats()]
            if all(in_layout(x, name) is None for x in inputs):
                continue

            def fn(*xs, name=name):
                it = iter(xs)

                def conv(v):
                    if not (isinstance(v, Arr) and v.kind == "float"):
                        return om.to_tg(v)
                    x = next(it)
                    other = in_layout(x, name)
                    return x if other is None else other

                args, kwargs = call.map(conv)
                r = om.outputs(tg._C._call_op(op["name"], *args, **kwargs))
                return tuple(o for o in r if isinstance(o, tg.Tensor) and o.dtype == tg.float64) or (sum(x.sum() for x in xs),)

            tg.autograd.gradcheck(fn, tuple(inputs), raise_exception=True)
            count("gradcheck of layouts")


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("op", LAYOUTS, ids=ids(LAYOUTS))
def test_expanded_inputs(op, axis):
    """G1: an input expanded along an axis (stride 0) gives the values and gradients of its copy."""
    for call in differentiable_calls(op):
        results = []
        for copied in (False, True):
            leaves = []

            def conv(v, copied=copied, leaves=leaves):
                if not (isinstance(v, Arr) and v.kind == "float" and v.data.ndim and v.data.size):
                    return om.to_tg(v)
                leaves.append(tg.tensor(v.data.take([0], axis), dtype=tg.float64, requires_grad=True))
                x = leaves[-1].expand(v.data.shape)
                return x.clone(memory_format=tg.contiguous_format) if copied else x

            args, kwargs = call.map(conv)
            try:
                outs = om.outputs(tg._C._call_op(op["name"], *args, **kwargs))
            except tg.Error as e:  # a matrix of equal rows has no inverse
                results.append(type(e))
                continue
            live = [o for o in outs if isinstance(o, tg.Tensor) and o.requires_grad]
            seeds = [tg.tensor(om.weights(tuple(o.shape), i)) for i, o in enumerate(live)]
            grads = tg.autograd.grad(live, leaves, seeds, allow_unused=True) if live and leaves else []
            results.append([om.to_np(t) for t in [*outs, *grads] if t is not None])
        if isinstance(results[0], type):
            assert results[0] is results[1], call.text
            continue
        assert len(results[0]) == len(results[1])
        for a, b in zip(*results):  # sums may be taken in another order
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=f"{op['name']}({call.text}) axis {axis}")
        count("expanded inputs")


POINTWISE_GRADIENTS = [o for o in POINTWISE if o in DIFFERENTIABLE]


@pytest.mark.parametrize("op", POINTWISE_GRADIENTS, ids=ids(POINTWISE_GRADIENTS))
def test_gradient_of_sizes(op):
    """G1: gradcheck of 0-d and zero-size tensors and of every length around vector and tile edges."""
    call = next(differentiable_calls(op))
    for shape in [(), *((n,) for n in om.EDGE_SIZES)]:
        args, kwargs = call.map(lambda v, s=shape: Arr(np.resize(v.data, s), v.kind) if isinstance(v, Arr) else v)
        gradcheck_call(op, Call(op, args, kwargs, f"{call.text} resized to {shape}"), second=False)


@pytest.mark.parametrize("op", POINTWISE, ids=ids(POINTWISE))
def test_sizes_around_vector_edges(op):
    """Every length around vector and tile edges gives the bits of the reference backend."""
    call = om.samples(op)[0]
    for n in om.EDGE_SIZES:
        def conv(v, n=n):
            if isinstance(v, Arr):
                v = Arr(np.resize(v.data, n), v.kind)
            return om.to_tg(v, "float32")

        args, kwargs = call.map(conv)
        mine = tg._C._call_op(op["name"], *args, **kwargs)
        tg._C._use_ref_backend(True)
        try:
            ref = tg._C._call_op(op["name"], *args, **kwargs)
        finally:
            tg._C._use_ref_backend(False)
        np.testing.assert_array_equal(mine.numpy(), ref.numpy(), err_msg=f"{op['name']} n={n}")
        count("sizes")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", [o for o in POINTWISE if "nohalf" not in o["notes"]], ids=lambda o: o["name"])
def test_half_types(op, dtype):
    """G5: within one ULP of the correctly rounded result of a float64 evaluation on the same half inputs."""
    for call in om.samples(op):
        if not call.floats():
            continue
        args, kwargs = call.map(lambda v: om.to_tg(v, dtype))
        mine = tg._C._call_op(op["name"], *args, **kwargs)
        if mine.dtype not in (tg.float16, tg.bfloat16):
            continue

        def widen(v):
            return v.to(tg.float64) if isinstance(v, tg.Tensor) and v.is_floating_point() else v

        wide = tg._C._call_op(op["name"], *[widen(a) for a in args], **{k: widen(v) for k, v in kwargs.items()}).numpy()
        err = np.abs(mine.to(tg.float64).numpy() - wide)
        bound = om.ulp(wide, dtype)
        bad = ~(err <= bound) & np.isfinite(wide)
        assert not bad.any(), f"{op['name']}({call.text}) {dtype}: error {err[bad][:3]} above one ULP {bound[bad][:3]}"
        count("half types")


INTEGER_OPS = [o for o in POINTWISE if not o["name"].startswith("nan_to_num")]


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("op", INTEGER_OPS, ids=ids(INTEGER_OPS))
def test_integer_types_match_pytorch(op, dtype):
    fn = om.torch_function(op)
    if fn is None:
        return
    tensors = [p for p in op["params"] if p["type"] in ("Tensor", "Operand")]
    if len(tensors) != len(op["params"]) or op["base"] == "where":
        return
    arrays = [np.array([1, 2, 3, 5, 7, 4]) + i for i in range(len(tensors))]
    mine_args = [tg.tensor(a.tolist()).to(getattr(tg, dtype)) for a in arrays]
    their_args = [om.torch.tensor(a).to(getattr(om.torch, dtype)) for a in arrays]
    try:
        theirs = fn(*their_args)
    except (RuntimeError, NotImplementedError):
        count("integer types PyTorch rejects")
        return
    mine = tg._C._call_op(op["name"], *mine_args)
    compare(mine, theirs, f"{op['name']} {dtype}", rtol=2e-5, atol=2e-6)
    count("integer types")


@pytest.mark.parametrize("op", INPLACE, ids=ids(INPLACE))
def test_inplace_equals_functional(op):
    base = om.BY_NAME[op["inplace_of"]]
    if random_op(base):
        return
    done = 0
    for call in om.samples(base):
        args, kwargs = call.map(om.to_tg)
        if not isinstance(args[0], tg.Tensor):
            continue
        want = tg._C._call_op(base["name"], *args, **kwargs)
        if (want.shape != args[0].shape and not base["is_view"]) or not tg.can_cast(want.dtype, args[0].dtype):
            continue
        target = args[0].clone()
        version = target._version
        got = tg._C._call_op(op["name"], target, *args[1:], **kwargs)
        assert got is target, f"{op['name']} does not return its input"
        assert target._version > version, f"{op['name']} does not raise the version"
        np.testing.assert_array_equal(target.numpy(), want.to(target.dtype).numpy(), err_msg=f"{op['name']}({call.text})")
        done += 1
        count("in-place forms")
    assert done, f"{op['name']}: no sample fits the in-place form"


@pytest.mark.parametrize("op", [o for o in INPLACE if om.BY_NAME[o["inplace_of"]]["differentiable"]], ids=lambda o: o["name"])
def test_inplace_gradients(op):
    """The gradient through the in-place form, on a whole tensor and on a view, is that of the functional form."""
    base = om.BY_NAME[op["inplace_of"]]
    if random_op(base):
        return
    for call in om.samples(base):
        floats = call.floats()
        if not floats or not isinstance(call.args[0], Arr) or call.args[0].kind != "float":
            continue
        probe = om.run_tg(call)
        if (tuple(probe.shape) != call.args[0].data.shape and not base["is_view"]) or probe.dtype != tg.float64:
            continue
        grads = []
        for mode in ["functional", "in-place", "view"]:
            inputs: list = []
            args, kwargs = call.map(lambda v: collect(v, inputs))
            x = args[0]
            if mode == "functional":
                y = tg._C._call_op(base["name"], *args, **kwargs)
            elif mode == "in-place":
                y = x.clone()
                tg._C._call_op(op["name"], y, *args[1:], **kwargs)
            else:
                whole = tg.stack([x, x * 2.0])
                y = whole[0]  # it alone takes another geometry; other writes are seen through any view
                tg._C._call_op(op["name"], y, *args[1:], **kwargs)
                y = y if base["is_view"] else whole[0]
                whole[1].sum().backward(retain_graph=True)
                np.testing.assert_array_equal(x.grad.numpy(), np.full(tuple(x.shape), 2.0))
                x.grad = None
                for other in inputs:
                    other.grad = None
            if y.requires_grad:
                (y * tg.tensor(om.weights(tuple(y.shape), 3))).sum().backward()
            grads.append([np.zeros(tuple(i.shape)) if i.grad is None else i.grad.numpy() for i in inputs])
            count("in-place gradients")
        for other in grads[1:]:
            for a, b in zip(grads[0], other):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14, err_msg=f"{op['name']}({call.text})")


def collect(v, inputs):
    t = om.to_tg(v, grad=True)
    if isinstance(v, Arr) and v.kind == "float":
        inputs.append(t)
    return t


@pytest.mark.parametrize("op", FORWARD, ids=ids(FORWARD))
def test_ref_backend_agrees(op):
    """ref = cpu for every sample, in float32."""
    if random_op(op) and not op["is_random"]:
        return
    for call in om.samples(op):
        tg.manual_seed(3)
        mine = om.outputs(om.run_tg(call, "float32"))
        tg._C._use_ref_backend(True)
        try:
            tg.manual_seed(3)
            ref = om.outputs(om.run_tg(call, "float32"))
        finally:
            tg._C._use_ref_backend(False)
        for a, b in zip(mine, ref):
            if op["base"].startswith("empty") or op["base"] == "new_empty":
                continue
            np.testing.assert_allclose(om.to_np(a), om.to_np(b), rtol=2e-5, atol=2e-6, err_msg=f"{op['name']}({call.text})")
        count("ref = cpu")


@pytest.mark.parametrize("op", FAST, ids=ids(FAST))
def test_fast_path_equals_body(op):
    for call, grad in itertools.product(om.samples(op), [False, True]):
        results = []
        for fast in (True, False):
            tg._C._set_fast_paths(fast)
            try:
                tg.manual_seed(5)
                inputs: list = []
                outs = om.outputs(om.run_tg(call, grad=grad, inputs=inputs))
                live = [o for o in outs if isinstance(o, tg.Tensor) and o.requires_grad]
                if live:
                    sum((o * tg.tensor(om.weights(tuple(o.shape), 1))).sum() for o in live).backward()
                results.append([om.to_np(o) for o in outs] + [om.to_np(i.grad) for i in inputs if i.grad is not None])
            finally:
                tg._C._set_fast_paths(True)
        assert len(results[0]) == len(results[1])
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=f"{op['name']}({call.text})")
        count("fast path = body")


MUTATIONS = {1: "sign", 2: "factor", 3: "dropped reduction", 4: "transpose", 5: "zero"}


@pytest.mark.parametrize("op", [o for o in DIFFERENTIABLE if o["has_gradient"] and not random_op(o)], ids=lambda o: o["name"])
def test_seeded_wrong_gradients_are_caught(op):
    """G3: a mutant of a gradient rule must fail gradcheck on some sample. A mutation that changes nothing for every
    sample (a zero gradient, a transpose of a symmetric one) is no mutant."""
    calls = list(differentiable_calls(op))[:4]
    for position, param in enumerate(op["params"]):
        if param["type"] not in ("Tensor", "Operand", "Tensors"):
            continue
        for kind, what in MUTATIONS.items():
            changed = caught = False
            for call in calls:
                inputs: list = []
                outs = [o for o in om.outputs(om.run_tg(call, grad=True, inputs=inputs)) if isinstance(o, tg.Tensor) and o.requires_grad]
                seeds = [tg.tensor(om.weights(tuple(o.shape), i)) for i, o in enumerate(outs)]
                right = tg.autograd.grad(outs, inputs, seeds, retain_graph=True, allow_unused=True)
                tg._C._mutate_gradient(op["name"], position, kind)
                try:
                    wrong = tg.autograd.grad(outs, inputs, seeds, allow_unused=True)
                    same = all((a is None and b is None) or np.allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
                               for a, b in zip(right, wrong))
                    if same:
                        continue
                    changed = True
                    try:
                        gradcheck_call(op, call, second=False)
                    except tg.autograd.GradcheckError:
                        caught = True
                finally:
                    tg._C._mutate_gradient(op["name"], position, 0)
                if caught:
                    break
            if changed:
                assert caught, f"{op['name']}: wrong gradient of {param['name']} ({what}) passes gradcheck"
                count("mutants caught")
