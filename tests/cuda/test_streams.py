"""Streams and events. On the emulated device queued work runs late and in an order drawn from TG_EMU_SEED, so that a
wait that is missing shows as a wrong value."""

import gc
import threading

import pytest
import tinygrad_cpp as tg
from programs import run

cuda = tg.cuda
SEEDS = range(2, 8)
emulated = pytest.mark.skipif(not cuda.is_emulated(), reason="the order of a real GPU is not drawn")

# Work on stream a writes x, work on stream b reads it; `wait` says what stands between them.
PROGRAM = """
import tinygrad_cpp as tg
cuda = tg.cuda
a, b = cuda.Stream(), cuda.Stream()
x, y = tg.zeros(100, device="cuda"), tg.zeros(100, device="cuda")
cuda.synchronize()
with cuda.stream(a):
    for _ in range(5):
        x += 1
{wait}
with cuda.stream(b):
    y += x
b.synchronize()
with cuda.stream(b):
    print(y.cpu().sum().item() / 100)
"""
WAITS = {
    "stream": "b.wait_stream(a)",
    "event": "b.wait_event(a.record_event())",
    "event.wait": "e = a.record_event()\nwith cuda.stream(b): e.wait()",
    "a recorded event": "e = cuda.Event()\nwith cuda.stream(a): e.record()\ne.wait(b)",
    "host, by the stream": "a.synchronize()",
    "host, by an event": "a.record_event().synchronize()",
    "host, by asking": "e = a.record_event()\nwhile not e.query(): pass",
    "host, by asking the stream": "while not a.query(): pass",
    "device": "cuda.synchronize()",
    "over a third stream": "c = cuda.Stream(); c.wait_stream(a); b.wait_stream(c)",
}


def values(wait: str) -> list[float]:
    return [float(run(PROGRAM.format(wait=wait), TG_EMU_SEED=str(seed))) for seed in SEEDS]


@emulated
def test_a_missing_wait_shows():
    assert set(values("pass")) - {5.0}
    assert set(values("e = a.record_event()\na.wait_event(e)")) - {5.0}  # the wrong stream waits


@emulated
@pytest.mark.parametrize("wait", WAITS)
def test_waits_order_streams(wait):
    assert set(values(WAITS[wait])) == {5.0}


def test_the_current_stream_is_a_threads():
    s, seen = cuda.Stream(), []
    default = cuda.default_stream()
    assert cuda.current_stream() == default and default.stream_id == 0 != s.stream_id
    with cuda.stream(s):
        assert cuda.current_stream() == s and cuda.current_stream() != default and hash(s) == hash(cuda.current_stream())
        other = threading.Thread(target=lambda: seen.append(cuda.current_stream()))
        other.start()
        other.join()
        with cuda.stream(default), cuda.stream(None):
            assert cuda.current_stream() == default
        assert cuda.current_stream() == s
    with s:
        assert cuda.current_stream() == s
    assert seen == [default] and cuda.current_stream() == default
    try:
        cuda.set_stream(s)
        assert cuda.current_stream() == s
        cuda.set_stream(None)
        assert cuda.current_stream() == s
    finally:
        cuda.set_stream(default)
    assert "cuda:0" in repr(s) and s.device == tg.device("cuda:0") and cuda.ExternalStream(s.cuda_stream) == s


def test_streams_come_from_a_pool():
    streams = {cuda.Stream().cuda_stream for _ in range(100)}
    urgent = {cuda.Stream(priority=-1).cuda_stream for _ in range(40)}
    assert len(streams) == len(urgent) == 32 and not streams & urgent
    assert cuda.Stream(priority=-3).priority == -1 and cuda.Stream(priority=2).priority == 0


def test_events():
    e, later = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    assert e.query() and e.cuda_event == 0
    e.wait(), e.synchronize()  # never recorded: nothing to wait for
    with pytest.raises(tg.ValueError, match="record"):
        e.elapsed_time(later)
    e.record()
    for _ in range(5):
        tg.ones(1000, device="cuda").exp()
    later.record()
    later.synchronize()
    assert e.query() and later.query() and e.elapsed_time(later) >= 0 >= later.elapsed_time(e) and e.cuda_event
    plain = cuda.Event()
    plain.record()
    with pytest.raises(tg.ValueError, match="enable_timing"):
        plain.elapsed_time(later)
    with pytest.raises(tg.NotImplementedError, match="processes"):
        cuda.Event(interprocess=True)


@emulated
def test_an_event_is_not_reached_before_its_work_is_done():
    e = cuda.Event()
    x = tg.ones(100, device="cuda")
    cuda.synchronize()
    for _ in range(5):
        x += 1
    e.record()
    assert not e.query() and not cuda.current_stream().query()
    e.synchronize()
    assert e.query() and x[0].item() == 6


@emulated
@pytest.mark.parametrize("seed", SEEDS)
def test_training_on_a_stream(seed):
    program = """
import tinygrad_cpp as tg
s = tg.cuda.Stream()
with tg.cuda.stream(s), tg.device("cuda"):
    net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 1))
    optimizer = tg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = tg.randn(8, 3), tg.randn(8, 1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = tg.nn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
    print(loss.item())
"""
    plain = program.replace("tg.cuda.stream(s), ", "")
    assert run("import tinygrad_cpp as tg; tg.manual_seed(1)" + program, TG_EMU_SEED=str(seed)) == run(
        "import tinygrad_cpp as tg; tg.manual_seed(1)" + plain
    )


# ---- memory, with the reuse of blocks that a GPU has

REUSE = """
import tinygrad_cpp as tg
cuda = tg.cuda
def block(stream):
    with cuda.stream(stream): return tg.empty(5000, device="cuda")
a, b = cuda.Stream(), cuda.Stream()
"""


def test_blocks_return_to_their_stream():
    program = (
        REUSE
        + """
x = block(a); at = x.data_ptr(); del x  # freed while another stream is current
y = block(b)
assert y.data_ptr() != at
assert block(a).data_ptr() == at
z = block(None); at = z.data_ptr()
with cuda.stream(a): del z
assert block(a).data_ptr() != at and block(None).data_ptr() == at
x = block(a); at = x.data_ptr(); v = x[10:]; v.record_stream(b)
with cuda.stream(b): b_work = tg.ones(10, device="cuda") + v[:10]
del x, v
assert block(a).data_ptr() != at  # b is not done
cuda.synchronize()
held = [block(a) for _ in range(4)]
assert at in [h.data_ptr() for h in held]
"""
    )
    run(program, TG_EMU_CACHE="1")


@emulated
@pytest.mark.parametrize("recorded", [True, False])
def test_reuse_waits_for_recorded_streams(recorded):
    """A block made on a, read on b, freed, then made and written again on a."""
    program = (
        REUSE
        + f"""
y = tg.zeros(5000, device="cuda")
cuda.synchronize()
x = block(a)
with cuda.stream(a): x.fill_(3)
b.wait_stream(a)
with cuda.stream(b):
    for _ in range(4): y += x
if {recorded}: x.record_stream(b)
del x
x = block(a)
with cuda.stream(a): x.fill_(100)
cuda.synchronize()
print(y.max().item())
"""
    )
    got = {float(run(program, TG_EMU_CACHE="1", TG_EMU_SEED=str(seed))) for seed in SEEDS}
    assert got == {12.0} if recorded else got - {12.0}


@emulated
def test_memory_is_found_again_when_the_others_are_done():
    """Blocks that wait for another stream are given up neither to an error nor to the statistics."""
    program = (
        REUSE
        + """
before = cuda.memory_allocated()
for _ in range(200):
    x = block(a); x.record_stream(b)
    with cuda.stream(b): x.mul(2)
del x
cuda.synchronize()
cuda.empty_cache()
assert cuda.memory_allocated() == before and cuda.memory_reserved() == before, cuda.memory_summary()
"""
    )
    for cache in "01":
        run(program, TG_EMU_CACHE=cache, TG_CUDA_EMULATE_MEMORY_MB="1")


def test_record_stream_wants_the_tensors_device():
    tg.ones(1).record_stream(cuda.Stream())  # of the CPU: nothing to do
    x = tg.ones(1, device="cuda")
    with pytest.raises(tg.TypeError, match="Tensor.record_stream: expected a cuda.Stream, got NoneType"):
        x.record_stream(None)
    del x
    gc.collect()


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: cuda.stream(5), "cuda.stream: expected a cuda.Stream, got int"),
        (lambda: cuda.set_stream("x"), "cuda.set_stream: expected a cuda.Stream, got str"),
        (lambda: cuda.Stream().wait_event(None), "cuda.Stream.wait_event: expected a cuda.Event, got NoneType"),
        (lambda: cuda.Stream().wait_stream(None), "cuda.Stream.wait_stream: expected a cuda.Stream, got NoneType"),
        (lambda: cuda.Stream().record_event(3), "cuda.Stream.record_event: expected a cuda.Event, got int"),
        (lambda: cuda.Event().record("x"), "cuda.Event.record: expected a cuda.Stream, got str"),
        (lambda: cuda.Event().wait(1), "cuda.Event.wait: expected a cuda.Stream, got int"),
        (lambda: cuda.Event().elapsed_time(None), "cuda.Event.elapsed_time: expected a cuda.Event, got NoneType"),
    ],
)
def test_what_is_no_stream_or_event_is_named(call, text):
    with pytest.raises(tg.TypeError, match=text):
        call()


def test_raw_kernel_takes_a_stream():
    k = cuda.RawKernel("__global__ void put(float* x, float v) { x[0] = v; }", "put")
    s = cuda.Stream()
    x = tg.zeros(1, device="cuda")
    s.wait_stream(cuda.default_stream())
    with cuda.stream(s):
        k(1, 1, (x, 2.0))
        assert x.item() == 2
    k(1, 1, (x, 3.0), stream=s)
    s.synchronize()
    with cuda.stream(s):
        k(1, 1, (x, 4.0), stream=cuda.default_stream())  # not the current one
    assert x.item() == 4
