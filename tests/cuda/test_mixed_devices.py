"""Tensors on different devices: an error that names the op and both, or the right values; never memory of another device."""

from __future__ import annotations

import itertools

import numpy as np
import opmatrix as om
import pytest
import tinygrad_cpp as tg


def placed(call, there) -> tuple[tuple, list]:
    """The arguments of a sample, tensor i on the device if there(i); and its tensors."""
    tensors = []

    def place(value):
        t = om.to_tg(value, "float32")
        if isinstance(t, tg.Tensor):
            t = t.cuda() if there(len(tensors)) else t
            tensors.append(t)
        return t

    return call.map(place), tensors


def run(op, arguments) -> list:
    tg.manual_seed(5)
    return om.outputs(tg._C._call_op(op["name"], *arguments[0], **arguments[1]))


def same(got, want) -> bool:
    if not isinstance(want, tg.Tensor):
        return got == want
    return np.allclose(om.to_np(got.cpu()), om.to_np(want), rtol=1e-3, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("op", om.TABLE, ids=lambda op: op["name"])
def test_each_tensor_apart(op):
    base = om.BY_NAME[op["inplace_of"]] if op["inplace_of"] else op
    for call in itertools.islice(om.samples(base), 4):
        try:
            on_cpu, tensors = placed(call, lambda i: False)
            want = run(op, on_cpu)
        except tg.Error:  # a sample of another dtype, or not of the in-place form
            continue
        for k, alone_there in itertools.product(range(len(tensors)) if len(tensors) > 1 else (), (False, True)):
            mixed, _ = placed(call, lambda i, k=k, there=alone_there: (i == k) == there)
            try:
                got = run(op, mixed)
            except tg.DeviceError as error:
                assert "cpu" in str(error) and "cuda:0" in str(error), error
                continue
            except tg.ShapeError:  # a number on the CPU, written into in place, beside larger tensors of the device
                assert tensors[0].ndim == 0 and op["inplace_of"]
                continue
            assert all(same(g, w) for g, w in zip(got, want, strict=True)), f"{call.text}: tensor {k} apart"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("linear", lambda x, y: tg.nn.functional.linear(y, y, x[0])),
        ("addmm", lambda x, y: tg.addmm(x, y, y)),
        ("batch_norm", lambda x, y: tg.nn.functional.batch_norm(y, None, None, x[0], x[0], True)),
        ("embedding", lambda x, y: tg.nn.functional.embedding(tg.tensor([0, 1], device="cuda"), x)),
        ("meshgrid", lambda x, y: tg.meshgrid(x[0], y[0])),
        ("scatter_add", lambda x, y: y.scatter_add(0, tg.zeros(2, 2, dtype=tg.int64, device="cuda"), x)),
        ("bincount", lambda x, y: tg.bincount(tg.tensor([0, 1], device="cuda"), x[0])),
    ],
)
def test_the_op_that_was_called_is_named(name, call):
    x = tg.ones(2, 2)
    with pytest.raises(tg.DeviceError, match=rf"^{name}\b.*cpu.*cuda:0|^{name}\b.*cuda:0.*cpu"):
        call(x, x.cuda())


@pytest.mark.parametrize("apply", [lambda x: x * 2, lambda x: tg.softmax(x, 0), lambda x: x[0]])
def test_a_gradient_lies_where_its_tensor_does(apply):
    x = tg.ones(3, 4, device="cuda", requires_grad=True)
    y = apply(x)
    with pytest.raises(tg.DeviceError, match="backward: gradient 0 .*cpu.*cuda:0"):
        y.backward(tg.ones(*y.shape))
    assert x.grad is None


def test_freed_memory_has_no_holder():
    x = tg.ones(1000, device="cuda")
    kept = [x * 2 for _ in range(10)]
    del x, kept
    with pytest.raises(tg.OutOfMemoryError) as caught:
        tg.empty(1 << 50, device="cuda")
    assert "4.00 KiB" not in str(caught.value)
