"""Copies between the host and devices: page-locked memory, copies that return early, several devices, DLPack."""

import collections

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run

cuda = tg.cuda
SEEDS = range(2, 6)
emulated = pytest.mark.skipif(not cuda.is_emulated(), reason="needs the emulation's order of work, or its devices")


Pair = collections.namedtuple("Pair", "x y")

# ---- page-locked memory


def test_pinned_memory_is_the_hosts():
    x = tg.arange(12.0).reshape(3, 4)
    assert not x.is_pinned()
    for source in (x, x.t(), x[1:, ::2], tg.tensor(3), tg.tensor([True, False])):
        p = source.pin_memory()
        assert p.is_pinned() and p.device.type == "cpu" and p.equal(source) and p.is_contiguous()
        assert p.dtype == source.dtype and p.pin_memory() is p and p.view(-1)[-1:].is_pinned()
    assert np.array_equal(x.pin_memory().numpy(), x.numpy())
    assert tg.zeros(3, pin_memory=True).is_pinned() and tg.tensor([1.0], pin_memory=True).is_pinned()
    made = tg.ones(3, pin_memory=True, requires_grad=True)
    assert made.is_pinned() and made.requires_grad and not tg.empty(0).pin_memory().is_pinned()
    with pytest.raises(tg.DeviceError, match="pin_memory"):
        x.cuda().pin_memory()
    assert not x.cuda().is_pinned()


@emulated
def test_copies_from_pinned_memory_return_before_they_are_done():
    """So that a value written to the source too early is what arrives: nothing is copied behind the caller's back."""
    p = tg.zeros(100, pin_memory=True)
    y = p.to("cuda", non_blocking=True)
    p.fill_(7)
    assert y.cpu().tolist() == [7.0] * 100
    pageable = tg.zeros(100)
    y = pageable.to("cuda", non_blocking=True)
    pageable.fill_(7)
    assert y.cpu().tolist() == [0.0] * 100  # not page-locked: has been read when the call returns
    p.zero_()
    for blocking in (p.to("cuda"), p.cuda(), p.cuda(non_blocking=False)):
        p.fill_(7)
        assert blocking.sum().item() == 0
        p.zero_()


@emulated
def test_copies_in_place_return_before_they_are_done():
    source, y = tg.ones(100, pin_memory=True), tg.zeros(100, device="cuda")
    y.copy_(source, non_blocking=True)
    source.fill_(7)
    assert y.cpu().tolist() == [7.0] * 100
    y.copy_(source)
    source.fill_(1)
    assert y.cpu().tolist() == [7.0] * 100
    halves = tg.zeros(4, 25, dtype=tg.float16, device="cuda")  # converted there
    halves.copy_(source.view(4, 25), non_blocking=True)
    halves.t().copy_(source.view(4, 25)[:1].t(), non_blocking=True)
    source.fill_(3)
    assert halves.cpu().tolist() == [[3.0] * 25] * 4
    y.copy_(source.view(4, 25).t().reshape(25, 4)[:, :1].expand(25, 4).reshape(100), non_blocking=True)
    source.fill_(5)  # what had to be made contiguous lies in memory that is not page-locked, and has been read
    assert y.cpu().tolist() == [3.0] * 100
    host = tg.zeros(100, pin_memory=True)
    host.copy_(y, non_blocking=True)
    assert host.tolist() == [3.0] * 100


@emulated
@pytest.mark.parametrize("cache", "01")
@pytest.mark.parametrize("copy", ["y.copy_(p, non_blocking=True)", "y = p.to('cuda', non_blocking=True)"])
def test_copies_are_recorded_in_graphs(copy, cache):
    """What replays read is kept until the graph ends, although nothing else holds it."""
    program = f"""
y = tg.zeros(1000, device="cuda")
g = cuda.CUDAGraph()
p = tg.full((1000,), 3.0).pin_memory()
place = p.data_ptr()
with cuda.graph(g):
    {copy}
    z = y * 2
assert z.data_ptr() and y.numel() == 1000
g.replay()
p.fill_(4)
assert z.tolist() == [8.0] * 1000
del p
others = [tg.full((1000,), 9.0).pin_memory() for _ in range(8)]
for _ in range(2):
    g.replay()
    assert z.tolist() == [8.0] * 1000 and all(o.tolist() == [9.0] * 1000 for o in others)
x = tg.zeros(1000, pin_memory=True)
g.reset()
del others, x
cuda.synchronize()
print(place in [tg.zeros(1000, pin_memory=True).data_ptr()] if {cache} else True)
"""
    for seed in SEEDS:
        run(program, TG_EMU_SEED=str(seed), TG_EMU_CACHE=cache)


@emulated
def test_inputs_of_graphs_come_from_pinned_memory():
    x = tg.zeros(100, device="cuda")
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        y = x * 2
    for i in range(4):
        x.copy_(tg.full((100,), float(i)).pin_memory(), non_blocking=True)
        g.replay()
        assert y.tolist() == [2.0 * i] * 100


@emulated
@pytest.mark.parametrize("cache", "01")
def test_pinned_memory_is_not_reused_while_it_is_read(cache):
    """The source dies right after the copy was queued; its memory must not be the next source's before."""
    program = """
s = cuda.Stream()
with cuda.stream(s):
    got = [tg.full((1000,), float(i)).pin_memory().to("cuda", non_blocking=True) for i in range(8)]
s.synchronize()
with cuda.stream(s): print([g.max().item() for g in got] == [g.min().item() for g in got] == [float(i) for i in range(8)])
"""
    for seed in SEEDS:
        assert run(program, TG_EMU_SEED=str(seed), TG_EMU_CACHE=cache) == "True"


def test_copies_to_the_host_have_arrived():
    x = tg.ones(1000, device="cuda")
    for _ in range(3):
        x += 1
    assert x.to("cpu", non_blocking=True).tolist() == [4.0] * 1000 == x.cpu().tolist()
    p = tg.zeros(1000, pin_memory=True)
    p.copy_(x, non_blocking=True)
    assert p.tolist() == [4.0] * 1000


def test_gradients_pass_an_early_copy():
    w = tg.ones(3, requires_grad=True)
    (w.pin_memory().to("cuda", non_blocking=True) * 2).sum().backward()
    assert w.grad.tolist() == [2, 2, 2]
    w.grad = None
    (w.to("cuda", non_blocking=True) * 2).sum().backward()
    assert w.grad.tolist() == [2, 2, 2]


def test_module_and_loader():
    net = tg.nn.Linear(3, 2)
    values = net.weight.tolist()
    assert net.to("cuda", non_blocking=True).weight.cpu().tolist() == values
    data = [Pair(tg.ones(2) * i, {"n": i, "name": "a"}) for i in range(4)]
    for workers in (0, 1):
        for batch in tg.utils.data.DataLoader(data, batch_size=2, pin_memory=True, num_workers=workers):
            assert batch.x.is_pinned() and batch.y["n"].is_pinned() and batch.y["name"] == ["a", "a"]
            assert type(batch).__name__ == "Pair" and batch.x.cuda(non_blocking=True).cpu().equal(batch.x)
    (plain,) = tg.utils.data.DataLoader(tg.ones(2, 2), batch_size=2)
    assert not plain.is_pinned()


# ---- several devices


@emulated
def test_several_devices():
    program = """
assert cuda.device_count() == 2 and cuda.current_device() == 0
x = tg.arange(4.0, device="cuda:0")
y = x.to("cuda:1")
assert y.device == tg.device("cuda:1") and y.tolist() == [0, 1, 2, 3] and y.get_device() == 1
with cuda.device(1):
    assert cuda.current_device() == 1 and tg.ones(1, device="cuda").device.index == 1 == tg.ones(1).cuda().device.index
    with cuda.device(-1), cuda.device(None): assert cuda.current_device() == 1
    with cuda.device("cuda:0"): assert cuda.current_device() == 0
    with tg.device("cuda"): assert tg.ones(1).device.index == 1 and (y * 2).device.index == 1
    with cuda.device_of(x): assert cuda.current_device() == 0
assert cuda.current_device() == 0 and cuda.current_stream(1).device_index == 1
cuda.set_device(1); assert cuda.current_stream().device_index == 1; cuda.set_device("cuda:0")
assert tg.accelerator.current_accelerator().type == "cuda" and tg.accelerator.device_count() == 2
try: x + y
except tg.DeviceError as e: assert "add" in str(e) and "cuda:0" in str(e) and "cuda:1" in str(e)
else: raise AssertionError
s = cuda.Stream(1)
with cuda.stream(s):
    assert cuda.current_device() == 1 and cuda.current_stream() == s and cuda.current_stream(0) == cuda.default_stream(0)
assert cuda.current_device() == 0
try: cuda.Event().record(s), s.record_event(cuda.default_stream(0).record_event())
except tg.ValueError as e: assert "cuda:0" in str(e)
else: raise AssertionError
z = x.cuda(1).requires_grad_(); (z.to(0) * x).sum().backward(); assert z.grad.tolist() == [0, 1, 2, 3] and z.grad.get_device() == 1
free = [cuda.mem_get_info(i)[0] for i in range(2)]
big = tg.zeros(1 << 16, device=1)
assert cuda.mem_get_info(0)[0] == free[0] and cuda.mem_get_info(1)[0] < free[1]
assert cuda.memory_allocated(1) - cuda.memory_allocated(0) > 200000 and len(cuda.get_rng_state_all()) == 2
assert cuda.can_device_access_peer(0, 1) and not cuda.can_device_access_peer(0, 0)
"""
    run(program, TG_CUDA_EMULATE_DEVICES="2")


@emulated
def test_copies_between_devices_keep_the_order():
    """The source's pending work comes before the copy, and what is done to the source next comes after it."""
    program = """
x = tg.zeros(500, device=0)
for d in (0, 1): cuda.synchronize(d)
for _ in range(4): x += 1
y = x.to("cuda:1")
x.fill_(100)
y *= 2
del x
z = tg.full((500,), 50.0, device=0)
print(y.max().item(), y.min().item())
"""
    for seed in SEEDS:
        assert run(program, TG_CUDA_EMULATE_DEVICES="2", TG_EMU_SEED=str(seed)) == "8.0 8.0"


# ---- the generator, which serves all devices


def test_random_state():
    cuda.manual_seed(5)
    a = tg.rand(3, device="cuda")
    cuda.manual_seed_all(5)
    state = cuda.get_rng_state()
    assert tg.rand(3, device="cuda").tolist() == a.tolist() and cuda.initial_seed() == 5
    cuda.set_rng_state(state)
    assert tg.rand(3, device="cuda").tolist() == a.tolist()
    cuda.set_rng_state_all([state] * cuda.device_count())
    assert tg.rand(3).tolist() == a.tolist()  # one generator for all devices
    cuda.seed_all()
    assert cuda.initial_seed() != 5


# ---- DLPack


class Foreign:
    """A library that speaks the protocol, and notes what it was asked."""

    def __init__(self, t: tg.Tensor) -> None:
        self.t, self.asked = t, None

    def __dlpack_device__(self):
        return self.t.__dlpack_device__()

    def __dlpack__(self, **options):
        self.asked = options
        return self.t.__dlpack__(**options)


def test_dlpack_shares_memory_of_a_device():
    x = tg.arange(6.0, device="cuda").reshape(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    f = Foreign(x.t())
    y = tg.from_dlpack(f)
    assert y.device == x.device and y.data_ptr() == x.data_ptr() and y.stride() == (1, 3) and f.asked["stream"] == 1
    x.zero_()
    assert y.sum().item() == 0
    s = cuda.Stream()
    with cuda.stream(s):
        tg.from_dlpack(f)
    assert f.asked["stream"] == s.cuda_stream
    host = tg.from_dlpack(tg.ones(2, device="cuda"), device="cpu")
    assert host.device.type == "cpu" and host.tolist() == [1, 1]
    assert tg.from_dlpack(x.__dlpack__(dl_device=(1, 0))).device.type == "cpu"
    assert tg.from_dlpack(tg.ones(2), device="cuda").is_cuda and tg.from_dlpack(x, copy=True).data_ptr() != x.data_ptr()
    for bad in (0, 2, -2, "a"):
        with pytest.raises(BufferError, match="stream"):
            x.__dlpack__(stream=bad)
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError):
        tg.from_dlpack(x, device="cpu", copy=False)
    with pytest.raises(BufferError, match="no stream"):
        tg.ones(1).__dlpack__(stream=1)


@emulated
@pytest.mark.parametrize("stream", ["None", "b.cuda_stream", "-1"])
def test_dlpack_orders_streams(stream):
    """The consumer's stream waits for the producer's, unless it asks not to."""
    program = f"""
a, b = cuda.Stream(), cuda.Stream()
x, y = tg.zeros(100, device="cuda"), tg.zeros(100, device="cuda")
cuda.synchronize()
with cuda.stream(a):
    for _ in range(5): x += 1
    capsule = x.__dlpack__(stream={stream})
with cuda.stream(cuda.default_stream() if {stream} is None else b):
    y += tg.from_dlpack(capsule)
    print(y.sum().item() / 100)
"""
    got = {float(run(program, TG_EMU_SEED=str(seed))) for seed in range(2, 8)}
    assert got - {5.0} if stream == "-1" else got == {5.0}
