"""Graphs: recorded work that is replayed; what cannot be recorded is refused. And what errors of kernels say."""

import pytest
import tinygrad_cpp as tg
from programs import run

cuda, nn, F = tg.cuda, tg.nn, tg.nn.functional
SEEDS = range(2, 6)
emulated = pytest.mark.skipif(not cuda.is_emulated(), reason="needs the emulation's order of work, or its faults")


def test_replays_follow_their_inputs():
    x, w = tg.zeros(4, 3, device="cuda"), tg.randn(3, 5, device="cuda")
    g = cuda.CUDAGraph()
    assert not cuda.is_current_stream_capturing()
    with cuda.graph(g):
        assert cuda.is_current_stream_capturing()
        y = F.softmax((x @ w).tanh() * 2 + x.sum(1, keepdim=True), 1)
        top = y.cumsum(1).sort(1).values
    assert not cuda.is_current_stream_capturing()
    for _ in range(3):
        new = tg.randn(4, 3, device="cuda")
        x.copy_(new)
        g.replay()
        want = F.softmax((new @ w).tanh() * 2 + new.sum(1, keepdim=True), 1)
        assert y.equal(want) and top.equal(want.cumsum(1).sort(1).values)  # the same kernels on the same values
    g.reset()
    with pytest.raises(tg.ValueError, match="nothing was recorded"):
        g.replay()
    assert y.equal(want)  # what is alive stays


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_training_in_a_graph(momentum):
    def make():
        tg.manual_seed(3)
        net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to("cuda")  # no indices: they are checked by the host
        return net, tg.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)

    batches = [(tg.randn(6, 4, device="cuda"), tg.randn(6, 3, device="cuda")) for _ in range(5)]
    net, optimizer = make()
    eager = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        eager.append(loss.item())

    net, optimizer = make()
    x, y = (t.clone() for t in batches[0])
    g = cuda.CUDAGraph()
    replayed = []
    if momentum:  # the first step is another one
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        replayed.append(loss.item())
    before = [p.detach().clone() for p in net.parameters()]
    optimizer.zero_grad()
    with cuda.graph(g):
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
    assert all(a.equal(b) for a, b in zip(before, net.parameters()))  # recording has run nothing
    for new_x, new_y in batches[len(replayed) :]:
        x.copy_(new_x), y.copy_(new_y)
        g.replay()
        replayed.append(loss.item())
    assert replayed == eager


@pytest.mark.parametrize("cache", "01")
def test_a_graph_keeps_its_memory(cache):
    """What the recording freed is still the graph's: others' values survive replays, and the graph survives others."""
    program = """
x = tg.zeros(1000, device="cuda")
g = cuda.CUDAGraph()
with cuda.graph(g):
    y = ((x * 2 + 1) * 3).sqrt() ** 2  # every intermediate result is freed on the way
others = [tg.full((1000,), 7.0, device="cuda") for _ in range(8)]
x.fill_(4)
cuda.empty_cache()
g.replay()
assert all(o.min().item() == o.max().item() == 7 for o in others)
assert abs(y.max().item() - 27) < 1e-4 and abs(y.min().item() - 27) < 1e-4
value = y.clone()
held = cuda.memory_reserved()
g.reset()
assert cuda.memory_reserved() < held and y.equal(value)
del y, value, others, x
cuda.synchronize(); cuda.empty_cache()
assert cuda.memory_allocated() == 0 == cuda.memory_reserved(), cuda.memory_summary()
"""
    run(program, TG_EMU_CACHE=cache)


def test_graphs_share_a_pool():
    x = tg.ones(1000, device="cuda")
    a, b = cuda.CUDAGraph(), cuda.CUDAGraph()
    handle = cuda.graph_pool_handle()
    with cuda.graph(a, pool=handle):
        y = (x * 2).exp()
    with cuda.graph(b, pool=handle):
        z = (y + 1) * 2
    assert a.pool() == b.pool()
    a.replay(), b.replay()
    assert abs(z[0].item() - 2 * (tg.tensor(2.0).exp().item() + 1)) < 1e-4
    a.reset()
    b.replay()
    assert z.isfinite().all().item()


FORK = """
s, side = cuda.Stream(), cuda.Stream()
x = tg.zeros(100, device="cuda")
g = cuda.CUDAGraph()
with cuda.graph(g, stream=s):
    x1 = x + 1
    {fork}
    with cuda.stream(side):
        b = x1
        for _ in range(4): b = b * 2
    a = x1 * 3
    {join}
    y = a + b
for i in range(3):
    x.fill_(i); g.replay(); assert y.equal(tg.full((100,), (i + 1) * 19.0, device="cuda")), y[0].item()
"""


@emulated
def test_streams_inside_of_a_graph():
    for seed in SEEDS:
        run(FORK.format(fork="side.wait_stream(s)", join="s.wait_stream(side)"), TG_EMU_SEED=str(seed))
    assert "unjoined" in run(FORK.format(fork="side.wait_stream(s)", join=""), ok=False)
    early = FORK.replace("x1 = x + 1\n    {fork}", "side.wait_stream(s)\n    x1 = x + 1").replace("{join}", "s.wait_stream(side)")
    assert any("AssertionError" in failure(early, seed) for seed in SEEDS)  # planted: the fork comes too early


def failure(program: str, seed: int) -> str:
    try:
        return run(program, ok=False, TG_EMU_SEED=str(seed))
    except AssertionError:
        return ""


def test_what_a_graph_cannot_do_is_refused():
    x = tg.ones(4, device="cuda", requires_grad=True)
    refusals = [
        (lambda: x.sum().item(), tg.DeviceError, "captur"),
        (lambda: x.detach().cpu(), tg.DeviceError, "captur"),
        (lambda: F.cross_entropy(x[None], tg.zeros(1, dtype=tg.int64, device="cuda")), tg.DeviceError, "cross_entropy.*captur"),
        (cuda.synchronize, tg.DeviceError, "captur"),
        (lambda: cuda.current_stream().query(), tg.DeviceError, "captur"),
        (lambda: tg.rand(3, device="cuda"), tg.NotImplementedError, "random"),
        (lambda: F.dropout(x, 0.5), tg.NotImplementedError, "random"),
        (lambda: step(tg.optim.Adam([x])), tg.NotImplementedError, "Adam"),
        (lambda: step(tg.optim.SGD([x], lr=0.1, momentum=0.9)), tg.NotImplementedError, "first step"),
    ]
    for call, error, text in refusals:
        g = cuda.CUDAGraph()
        with pytest.raises(error, match=text), cuda.graph(g):
            call()
        with pytest.raises(tg.ValueError, match="nothing was recorded"):
            g.replay()
        assert (x.detach() * 2).tolist() == [2.0] * 4 and cuda.current_stream() == cuda.default_stream()


def step(optimizer):
    for p in optimizer.param_groups[0]["params"]:
        p.grad = tg.ones_like(p)
    optimizer.step()


def test_wrong_calls():
    g = cuda.CUDAGraph()
    with pytest.raises(tg.ValueError, match="default stream"):
        g.capture_begin()
    with pytest.raises(tg.ValueError, match="nothing is being recorded"):
        g.capture_end()
    with cuda.stream(cuda.Stream()):
        g.capture_begin()
        with pytest.raises(tg.ValueError, match="reset"):
            g.capture_begin()
        with pytest.raises(tg.ValueError, match="already"):
            cuda.CUDAGraph().capture_begin()
        tg.ones(2, device="cuda")
        g.capture_end()
        g.replay()
    with pytest.raises(KeyError), cuda.graph(cuda.CUDAGraph()):
        raise KeyError
    assert tg.ones(2, device="cuda").tolist() == [1, 1]


def test_profilers_ranges_nest():
    nvtx = cuda.nvtx
    assert (nvtx.range_push("a"), nvtx.range_push("b"), nvtx.range_pop(), nvtx.range_pop(), nvtx.range_pop()) == (0, 1, 1, 0, 0)
    nvtx.mark("here")
    with pytest.raises(KeyError), nvtx.range("step {}", 3):
        assert nvtx.range_push("inner") == 1 and nvtx.range_pop() == 1
        raise KeyError
    assert nvtx.range_push("a") == 0 and nvtx.range_pop() == 0


@emulated
def test_a_failing_kernel_is_named():
    """A kernel fails when it runs, which is at a later call; or at once, with the op, if launches are waited for."""
    program = """
x = tg.ones(10, device="cuda")
cuda.synchronize()
try:
    y = x.exp()
    z = y.sum()
    print(z.item())
except tg.DeviceError as e: print(e)
else: raise AssertionError
"""
    late = run(program, TG_EMU_FAULT="2")
    assert "cudaErrorLaunchFailure" in late and "a kernel launched before" in late and "TG_CUDA_LAUNCH_BLOCKING" in late
    at_once = run(program, TG_EMU_FAULT="2", TG_CUDA_LAUNCH_BLOCKING="1")
    assert at_once.startswith("exp: cuda: ") and "input=f32[10]@cuda:0" in at_once and "launched before" not in at_once
