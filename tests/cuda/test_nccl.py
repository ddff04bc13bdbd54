"""Collectives over tensors of several devices. The emulation has as many as one asks for: the first test runs the others
there, in several orders of the streams' work."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run

cuda = tg.cuda
nccl = cuda.nccl
DEVICES = cuda.device_count()
emulated = pytest.mark.skipif(not cuda.is_emulated(), reason="needs the emulation's devices")
several = pytest.mark.skipif(DEVICES < 2, reason="needs two devices")
FLOATS = [tg.float32, tg.float64, tg.float16, tg.bfloat16]
INTS = [tg.int8, tg.uint8, tg.int32, tg.int64]


@emulated
@pytest.mark.skipif(DEVICES > 1, reason="there are several devices already")
@pytest.mark.parametrize("seed", range(4))
def test_with_three_emulated_devices(seed):
    env = {**os.environ, "TG_CUDA_EMULATE_DEVICES": "3", "TG_EMU_SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50 and "EMULATION" in done.stdout


def tensors(n: int = 7, dtype=tg.float32, order=range(DEVICES)) -> list[tg.Tensor]:
    """Small whole numbers, whose sums, products and extremes every type holds."""
    return [(tg.arange(n) % 4 + 1 + i).to(dtype).to(f"cuda:{d}") for i, d in enumerate(order)]


def values(ts) -> list[np.ndarray]:
    return [t.cpu().double().numpy() for t in ts]


@several
@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)
@pytest.mark.parametrize(("op", "of"), [("SUM", np.sum), ("PROD", np.prod), ("MAX", np.max), ("MIN", np.min)])
def test_reductions(op, of, dtype):
    """All ways in which a reduction may end, exactly; inputs that are not outputs stay as they are."""
    number, ins = getattr(nccl, op), tensors(2 * DEVICES, dtype)
    before = values(ins)
    want = of(before, axis=0)
    outs = [tg.empty_like(t) for t in ins]
    nccl.all_reduce(ins, outs, op=number)
    assert all(np.array_equal(v, want) for v in values(outs))
    for root in range(DEVICES):
        out = tg.empty_like(ins[root])
        nccl.reduce(ins, out, root, number)
        assert np.array_equal(values([out])[0], want)
    parts = [tg.empty(2, dtype=dtype, device=t.device) for t in ins]
    nccl.reduce_scatter(ins, parts, op=number)
    assert np.array_equal(np.concatenate(values(parts)), want)
    assert np.array_equal(values(ins), before)
    nccl.reduce(ins, root=1, op=number)
    assert np.array_equal(values(ins)[1], want) and np.array_equal(values(ins)[0], before[0])
    ins = tensors(2 * DEVICES, dtype)
    nccl.all_reduce(ins, op=number)
    assert all(np.array_equal(v, want) for v in values(ins))


@several
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_averages(dtype):
    ins = tensors(dtype=dtype)
    want = np.mean(values(ins), axis=0)
    nccl.all_reduce(ins, op=nccl.AVG)
    # a sum whose terms are whole numbers, or were divided before: each may be rounded once, and so may each sum
    tolerance = 2 * DEVICES * tg.finfo(dtype).eps / 2
    assert all(np.allclose(v, want, rtol=tolerance, atol=0) for v in values(ins))


@several
@pytest.mark.parametrize("dtype", [*FLOATS, *INTS, tg.int16, tg.bool], ids=str)
def test_copies(dtype):
    ins = [(t % 2).to(dtype) for t in tensors()]
    before = values(ins)
    outs = [tg.empty(DEVICES, 7, dtype=dtype, device=t.device) for t in ins]
    nccl.all_gather(ins, outs)
    assert all(np.array_equal(v, before) for v in values(outs)) and np.array_equal(values(ins), before)
    for root in range(DEVICES):
        copies = [t.clone() for t in ins]
        nccl.broadcast(copies, root)
        assert all(np.array_equal(v, before[root]) for v in values(copies))


@several
def test_results_may_lie_within_inputs_where_nccl_allows_it():
    rows = [tg.zeros(DEVICES, 7, device=t.device) for t in tensors()]
    mine = [row[i] for i, row in enumerate(rows)]
    for t, source in zip(mine, tensors()):
        t.copy_(source)
    nccl.all_gather(mine, rows)
    assert all(np.array_equal(v, values(tensors())) for v in values(rows))
    nccl.reduce_scatter(rows, mine)
    assert all(np.array_equal(v, DEVICES * w) for v, w in zip(values(mine), values(tensors())))
    with pytest.raises(tg.ValueError, match=r"nccl.all_gather: outputs\[0\] shares memory with its input"):
        nccl.all_gather([row[1 - (i > 0)] for i, row in enumerate(rows)], rows)


@several
def test_any_order_of_devices_and_a_part_of_them():
    for order in ([1, 0], [0], [*range(DEVICES)][::-1]):
        ins = tensors(order=order)
        want = np.sum(values(ins), axis=0)
        nccl.all_reduce(ins)
        assert all(np.array_equal(v, want) for v in values(ins))
        nccl.broadcast(tensors(0, order=order))  # nothing to do
    assert cuda.current_device() == 0


@several
@pytest.mark.parametrize("how", ["current", "given"])
def test_work_goes_to_the_streams(how):
    """Inputs that are still being made, and results that are used at once, on streams of their own."""
    streams = [cuda.Stream(d) for d in range(DEVICES)]
    ins = tensors(1000)
    want = np.sum([v + 6 for v in values(ins)], axis=0) * 2
    cuda.synchronize()
    with cuda.stream(streams[0]), cuda.stream(streams[1]), cuda.stream(streams[-1]):
        for t in ins:
            for k in range(1, 4):
                t += k
        if how == "current":
            nccl.all_reduce(ins)
    if how == "given":
        nccl.all_reduce(ins, streams=streams)
    with cuda.stream(streams[0]), cuda.stream(streams[1]), cuda.stream(streams[-1]):
        for t in ins:
            t *= 2
        assert all(np.array_equal(v, want) for v in values(ins))


@emulated
def test_a_stream_that_is_not_waited_for_shows():
    """Planted: inputs are made on another stream than the sum's. Some order of the work gives another sum."""
    program = """
x, y = tg.zeros(100, device=0), tg.zeros(100, device=1)
cuda.synchronize()
s = cuda.Stream(1)
with cuda.stream(s):
    for _ in range(5): y += 1
{wait}
cuda.nccl.all_reduce([x, y])
print(x.sum().item() / 100)
"""
    planted, right = (
        {run(program.format(wait=w), TG_CUDA_EMULATE_DEVICES="2", TG_EMU_SEED=str(seed)) for seed in range(2, 8)}
        for w in ("", "cuda.default_stream(1).wait_stream(s)")
    )
    assert planted - {"5.0"} and right == {"5.0"}


@several
def test_the_same_bits_each_time():
    ins = [tg.randn(1001).to(f"cuda:{d}") for d in range(DEVICES)]
    first, second = ([t.clone() for t in ins] for _ in range(2))
    nccl.all_reduce(first)
    nccl.all_reduce(second)
    assert all(a.equal(b) for a, b in zip(first, second))
    assert all(a.cpu().equal(first[0].cpu()) for a in first)


@emulated
def test_the_switch_does_not_add_up_unless_it_is_asked_to():
    """Planted: with it the emulation's sums have another order each time."""
    program = """
ins = [tg.randn(1001).to(f"cuda:{d}") for d in range(3)]
outs = [[tg.empty_like(t) for t in ins] for _ in range(2)]
for out in outs:
    cuda.nccl.all_reduce(ins, out)
print(outs[0][0].equal(outs[1][0]))
"""
    assert run(program, TG_CUDA_EMULATE_DEVICES="3") == "True"
    assert run(program, TG_CUDA_EMULATE_DEVICES="3", NCCL_NVLS_ENABLE="1") == "False"


# ---- what is there, and what is refused


def test_what_is_there():
    version = nccl.version()
    assert version >= (2, 18, 0) and len(version) == 3
    assert nccl.is_available([tg.ones(1, device="cuda")]) and nccl.is_available([])
    assert not nccl.is_available([tg.ones(1)]) and not nccl.is_available([tg.ones(2, 2, device="cuda").t()])
    assert not nccl.is_available([tg.ones(1, device="cuda")] * 2)
    assert not nccl.is_available([tg.ones(2, 2, device="cuda").to_sparse()])


def test_one_device_is_enough():
    x = tg.arange(4.0, device="cuda")
    out = tg.empty_like(x)
    nccl.all_reduce([x], [out])
    assert out.tolist() == x.tolist()


def test_errors():
    x, here = tg.ones(4, device="cuda"), tg.ones(4)
    cases = [
        (
            tg.DeviceError,
            r"nccl.all_reduce: inputs\[0\] is f32\[4\]@cpu: NCCL works on",
            lambda: nccl.all_reduce([here]),
        ),
        (tg.DeviceError, r"inputs\[1\] and inputs\[0\] are both on cuda:0", lambda: nccl.all_reduce([x, x.clone()])),
        (tg.DeviceError, r"outputs\[0\] is f32\[4\]@cpu", lambda: nccl.all_reduce([x], [here])),
        (tg.ValueError, "expected at least one tensor", lambda: nccl.all_reduce([])),
        (tg.ValueError, "expected 1 outputs, got 2", lambda: nccl.all_reduce([x], [x, x])),
        (tg.ValueError, r"inputs\[0\] is not contiguous", lambda: nccl.broadcast([tg.ones(2, 2, device="cuda").t()])),
        (tg.ValueError, "op is 5", lambda: nccl.all_reduce([x], op=5)),
        (tg.ValueError, "nccl.broadcast: root is 1, there are 1", lambda: nccl.broadcast([x], 1)),
        (tg.ValueError, "nccl.reduce: root is 2, there are 1", lambda: nccl.reduce([x], root=2)),
        (tg.ValueError, "2 streams for 1 tensors", lambda: nccl.all_reduce([x], streams=[None, None])),
        (tg.ValueError, "output and outputs", lambda: nccl.reduce([x], x, outputs=[x])),
        (tg.ValueError, "shares memory", lambda: nccl.all_reduce([x[:3]], [x[1:]])),
        (tg.DTypeError, "does not add up bool", lambda: nccl.all_reduce([x > 0])),
        (tg.DTypeError, "does not add up int16", lambda: nccl.reduce([x.short()])),
        (tg.DTypeError, r"outputs\[0\] is f64.*its input f32", lambda: nccl.all_reduce([x], [x.double()])),
        (tg.ShapeError, r"outputs\[0\] is f32\[3\]@cuda:0; expected 4 elements", lambda: nccl.all_reduce([x], [x[:3]])),
        (tg.ShapeError, "expected 4 elements", lambda: nccl.all_gather([x], [tg.ones(8, device="cuda")])),
        (tg.TypeError, "inputs should be a list of tensors, got Tensor", lambda: nccl.all_reduce(x)),
        (tg.TypeError, r"inputs\[0\] should be a tensor, got int", lambda: nccl.all_reduce([1])),
        (tg.NotImplementedError, "communicators are made here", lambda: nccl.all_reduce([x], comms=[1])),
        (tg.NotImplementedError, "one process", nccl.unique_id),
        (tg.NotImplementedError, "one process", lambda: nccl.init_rank(2, b"", 0)),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            call()


@several
def test_errors_between_devices():
    a, b = tensors(order=(0, 1))
    with pytest.raises(tg.DTypeError, match=r"inputs\[1\] is f64\[7\]@cuda:1, inputs\[0\] is f32\[7\]@cuda:0"):
        nccl.all_reduce([a, b.double()])
    with pytest.raises(tg.ShapeError, match=r"inputs\[1\] is f32\[6\]@cuda:1, inputs\[0\] is f32\[7\]"):
        nccl.all_reduce([a, b[:6]])
    with pytest.raises(tg.DeviceError, match=r"outputs\[0\] is on cuda:1, its input on cuda:0"):
        nccl.all_reduce([a, b], [b, a])
    with pytest.raises(tg.ShapeError, match="7 elements are no multiple of 2"):
        nccl.reduce_scatter([a, b], [a, b])
    with pytest.raises(tg.DeviceError, match="a stream of cuda:1 for a tensor on cuda:0"):
        nccl.all_reduce([a, b], streams=[cuda.Stream(1), None])


def test_there_are_no_gradients():
    """A tensor that requires grad is refused, and backward notices what was written into."""
    x = tg.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(tg.AutogradError, match="collectives have no gradient"):
        nccl.all_reduce([x])
    with tg.no_grad():
        nccl.all_reduce([x])
    y = x * 2
    z = (y * y).sum()
    nccl.all_reduce([y.detach()])
    with pytest.raises(tg.AutogradError, match="all_reduce"):
        z.backward()


def test_collectives_are_not_recorded():
    x = tg.ones(3, device="cuda")
    with pytest.raises(tg.NotImplementedError, match="not recorded in graphs"), cuda.graph(cuda.CUDAGraph()):
        nccl.all_reduce([x])


@emulated
def test_without_nccl():
    program = """
x = tg.ones(3, device="cuda")
assert not cuda.nccl.is_available([x]) and (x + 1).sum().item() == 6
for call in (cuda.nccl.version, lambda: cuda.nccl.all_reduce([x])):
    try:
        call()
    except tg.DeviceError as error:
        print(error)
"""
    said = run(program, TG_EMU_NO_NCCL="1").splitlines()
    how = 'pip install "nvidia-nccl-cu13>=2.28,<3", or pip install "tinygrad_cpp[cuda]"'
    assert said == [f"cuda: NCCL (libnccl.so.2) was not found; {how}"] * 2


@emulated
def test_a_call_that_fails_is_named_and_leaves_the_device_usable():
    program = """
x = tg.ones(3, device="cuda")
try:
    cuda.nccl.all_reduce([x])
except tg.DeviceError as error:
    print(error)
print((x + 1).tolist())
"""
    said = run(program, TG_EMU_NCCL_FAULT="1").splitlines()
    assert said == ["cuda: ncclAllReduce: emulated NCCL: unhandled cuda error", "[2.0, 2.0, 2.0]"]
