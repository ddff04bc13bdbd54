"""Graphs: recorded work that is replayed, indices and random numbers included; what cannot be recorded is refused. And what
errors of kernels say."""

import re

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
        net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to("cuda")
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


def random_graph():
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        tg.rand(3, device="cuda")
    return g


def test_what_a_graph_cannot_do_is_refused():
    x = tg.ones(4, device="cuda", requires_grad=True)
    refusals = [
        (lambda: x.sum().item(), tg.DeviceError, "captur"),
        (lambda: x.detach().cpu(), tg.DeviceError, "captur"),
        (cuda.synchronize, tg.DeviceError, "captur"),
        (lambda: cuda.current_stream().query(), tg.DeviceError, "captur"),
        (lambda: tg.rand(3, device="cuda", generator=tg.Generator()), tg.NotImplementedError, "random"),
        (lambda: (tg.manual_seed(1), F.dropout(x, 0.5)), tg.NotImplementedError, "random"),
        (lambda: (F.dropout(x, 0.5), tg.manual_seed(7)), tg.NotImplementedError, "seeded anew"),
        (lambda: (F.dropout(x, 0.5), tg.manual_seed(tg.initial_seed())), tg.NotImplementedError, "seeded anew"),
        (lambda: (F.dropout(x, 0.5), tg.rand(3)), tg.NotImplementedError, "drawn from by other work"),
        (random_graph().replay, tg.NotImplementedError, "within another"),
        (lambda: step(tg.optim.Adam([x])), tg.NotImplementedError, "Adam.*capturable=True"),
        (lambda: step(tg.optim.NAdam([x], capturable=True)), tg.NotImplementedError, "NAdam.*outside"),
        (lambda: step(tg.optim.Adam([x], capturable=True)), tg.NotImplementedError, "first step"),
        (lambda: step(tg.optim.SGD([x], lr=0.1, momentum=0.9)), tg.NotImplementedError, "first step"),
    ]
    for call, error, text in refusals:
        g = cuda.CUDAGraph()
        with pytest.raises(error, match=text), cuda.graph(g):
            call()
        with pytest.raises(tg.ValueError, match="nothing was recorded"):
            g.replay()
        assert (x.detach() * 2).tolist() == [2.0] * 4 and cuda.current_stream() == cuda.default_stream()


LOOKUPS = [
    lambda w, i: w.gather(1, i[:, :5] % 7),
    lambda w, i: F.embedding(i, w),
    lambda w, i: w.index_select(0, i[0]),
    lambda w, i: w[i] + w[-1 - i],
    lambda w, i: tg.take_along_dim(w, -1 - i[:1, :7] % 7, 1),
    lambda w, i: w.take(i),
    lambda w, i: tg.scatter_add(w, 0, i[:, :7], w[: i.shape[0]]),
    lambda w, i: w.index_add(0, i[0], w[i[0]]),
    lambda w, i: F.one_hot(i, 9).to(w.dtype),
]


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_indices_are_followed_in_replays(lookup):
    w = tg.randn(9, 7, device="cuda", requires_grad=True)
    i = tg.zeros(3, 9, dtype=tg.int64, device="cuda")
    g = cuda.CUDAGraph()
    w.grad = tg.zeros_like(w)
    with cuda.graph(g):
        y = lookup(w, i)
        if y.requires_grad:
            (y * y).sum().backward()
    for _ in range(3):
        i.copy_(tg.randint(0, 9, (3, 9)))
        w.grad.zero_()
        g.replay()
        got, v = w.grad.clone(), w.detach().clone().requires_grad_()
        want = lookup(v, i)
        assert y.equal(want)
        if y.requires_grad:
            (want * want).sum().backward()
            assert got.equal(v.grad)


def test_a_wrong_index_of_a_replay_is_an_error_at_the_next_wait():
    w, i = tg.randn(4, 3, device="cuda"), tg.zeros(5, dtype=tg.int64, device="cuda")
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        y = F.embedding(i, w).sum()
        F.cross_entropy(w[i, :], i % 3)
    for bad in (4, -1, 2**62, -(2**62)):
        i[2] = bad
        g.replay()
        with pytest.raises(tg.IndexError, match=rf"embedding: an index is out of bounds for dimension 0 with size 4, found {bad} in"):
            y.item()
        if bad == -1:
            cuda.synchronize()  # -1 counts from the end in w[i], and -1 % 3 is 2
        else:
            with pytest.raises(tg.IndexError, match=f"found {bad} in"):
                cuda.synchronize()
        cuda.synchronize()  # told once
    i.fill_(1)
    g.replay()
    assert y.item() == pytest.approx(5 * w[1].sum().item(), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"label_smoothing": 0.1, "ignore_index": 2}, {"reduction": "sum"}], ids=str)
def test_cross_entropy_in_a_graph(options):
    """Within a rounding of the mean, which is a sum over the number of targets that count here, and a mean outside."""
    x, t = tg.randn(6, 5, device="cuda", requires_grad=True), tg.zeros(6, dtype=tg.int64, device="cuda")
    x.grad = tg.zeros_like(x)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        loss = F.cross_entropy(x, t, **options)
        loss.backward()
    for _ in range(3):
        t.copy_(tg.randint(0, 5, (6,)))
        x.grad.zero_()
        g.replay()
        v = x.detach().clone().requires_grad_()
        want = F.cross_entropy(v, t, **options)
        want.backward()
        assert abs(loss.item() - want.item()) <= 4 * 2.0**-24 * abs(want.item())
        assert (x.grad - v.grad).abs().max().item() <= 4 * 2.0**-24
    if "ignore_index" in options:
        t.fill_(7)
        g.replay()
        with pytest.raises(tg.IndexError, match="cross_entropy: a target is out of range for 5 classes, found 7"):
            loss.item()


def test_replays_continue_the_generator():
    """The numbers of an eager run, whatever is drawn between replays; the recording itself draws none."""

    def draws(x):
        return F.dropout(x, 0.5), tg.randn(7, device="cuda"), tg.rand_like(x), tg.randint(0, 100, (5,), device="cuda"), tg.randperm(9, device="cuda")

    x = tg.ones(33, device="cuda")
    tg.manual_seed(5)
    eager = []
    for _ in range(3):
        eager.append([t.cpu() for t in draws(x)])
        eager[-1].append(tg.rand(2))
    tg.manual_seed(5)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        recorded = draws(x)
    for want in eager:
        g.replay()
        assert all(a.cpu().equal(b) for a, b in zip(recorded, want[:-1]))
        assert tg.rand(2).equal(want[-1])
    tg.manual_seed(5)  # another seed counts for later replays
    g.replay(), g.replay()  # two under way at once
    assert all(a.cpu().equal(b) for a, b in zip(recorded, draws_after(eager, draws, x)))


def draws_after(eager, draws, x):
    tg.manual_seed(5)
    draws(x)
    return [t.cpu() for t in draws(x)]


def test_graphs_that_draw_share_the_generator():
    tg.manual_seed(9)
    want = [tg.rand(4, device="cuda").cpu() for _ in range(4)]
    a, b = cuda.CUDAGraph(), cuda.CUDAGraph()
    with cuda.graph(a):
        x = tg.rand(4, device="cuda")
    with cuda.graph(b):
        y, z = tg.rand(4, device="cuda"), tg.rand(4, device="cuda")
    tg.manual_seed(9)
    b.replay(), a.replay()
    assert y.cpu().equal(want[0]) and z.cpu().equal(want[1]) and x.cpu().equal(want[2])
    assert tg.rand(4).equal(want[3])


def test_training_with_dropout_and_indices_in_a_graph():
    def make():
        tg.manual_seed(3)
        net = nn.Sequential(nn.Embedding(11, 8), nn.Dropout(0.3), nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 11)).to("cuda")
        return net, tg.optim.SGD(net.parameters(), lr=0.1)

    tokens = [(tg.randint(0, 11, (6,)).to("cuda"), tg.randint(0, 11, (6,)).to("cuda")) for _ in range(5)]
    net, optimizer = make()
    eager = []
    tg.manual_seed(4)
    for x, y in tokens:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        eager.append(loss.item())
    net, optimizer = make()
    x, y = (t.clone() for t in tokens[0])
    g = cuda.CUDAGraph()
    tg.manual_seed(4)
    with cuda.graph(g):
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    for (new_x, new_y), want in zip(tokens, eager):
        x.copy_(new_x), y.copy_(new_y)
        g.replay()
        assert loss.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_counted_steps_in_a_graph(name, amsgrad):
    """Corrections are powers in double on the device and on the host, each within some units of 2^-53: after rounding to
    float32 at most one unit apart, and so are the steps, of size lr."""
    lr = 0.05

    def make(capturable):
        tg.manual_seed(3)
        net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to("cuda")
        optimizer = getattr(tg.optim, name)(net.parameters(), lr=lr, amsgrad=amsgrad, weight_decay=0.1, capturable=capturable)
        return net, optimizer

    batches = [tg.randn(6, 5, device="cuda") for _ in range(6)]

    def train(net, optimizer, x):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    plain, counted, recorded = make(False), make(True), make(True)
    x = batches[0].clone()
    for net, optimizer in (plain, counted, recorded):
        train(net, optimizer, batches[0])  # makes the state
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        train(*recorded, x)
    for new in batches[1:]:
        train(*plain, new), train(*counted, new)
        x.copy_(new)
        g.replay()
    for a, b, c in zip(*(net.parameters() for net, _ in (plain, counted, recorded))):
        assert b.equal(c)  # a replay is the eager step
        assert (a - b).abs().max().item() <= len(batches) * lr * 2.0**-20
    steps = [s["step"] for s in recorded[1].state.values()]
    assert all(s.device.type == "cuda" and s.item() == len(batches) for s in steps)
    state = recorded[1].state_dict()
    fresh = make(True)
    fresh[1].load_state_dict(state)
    fresh[0].load_state_dict(recorded[0].state_dict())
    train(*fresh, x), train(*counted, x)
    for a, b in zip(fresh[0].parameters(), counted[0].parameters()):
        assert a.equal(b)


def test_recomputation_in_a_graph_draws_the_same_again():
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 4)).to("cuda")
    x = tg.randn(3, 4, device="cuda", requires_grad=True)

    def run(recompute):
        return tg.utils.checkpoint.checkpoint(net, x, use_reentrant=False) if recompute else net(x)

    grads = []
    for recompute in (False, True):
        x.grad = tg.zeros_like(x)
        g = cuda.CUDAGraph()
        with cuda.graph(g):
            run(recompute).square().sum().backward()
        tg.manual_seed(2)
        x.grad.zero_()
        g.replay()
        grads.append(x.grad.clone())
    assert grads[0].equal(grads[1]) and grads[0].abs().max().item() > 0


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
    assert re.search(r"newest first: sum \(.*kernel.*\), exp \(.*kernel.*\), ones \(.*kernel", late), late
    at_once = run(program, TG_EMU_FAULT="2", TG_CUDA_LAUNCH_BLOCKING="1")
    assert at_once.startswith("exp: cuda: ") and "input=f32[10]@cuda:0" in at_once and "launched before" not in at_once


@emulated
def test_a_failing_kernel_of_a_training_step_is_named():
    """In backward with the op of the forward pass, in an update with the optimizer; work outside of ops has none."""
    program = """
x = tg.randn(4, 5, device="cuda", requires_grad=True)
other = tg.cuda.RawKernel("__global__ void other(float* p) { p[0] = 1; }", "other")
optimizer = tg.optim.SGD([x], lr=1)
class Same(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 1
    @staticmethod
    def backward(ctx, g): return g.neg()
places = []
def here(): places.append(tg._C._cuda_launches() + 1)
try:
    y = Same.apply(x)
    here()
    y.softmax(-1).backward(tg.ones(4, 5, device="cuda"))
    here()
    optimizer.step()
    here()
    other(1, 1, (tg.empty(1, device="cuda"),))
    cuda.synchronize()
    print(*places)
except tg.DeviceError as e: print(e)
"""
    first, update, own = run(program).split()
    late = run(program, TG_EMU_FAULT=first)
    ops = re.findall(r"[:,] ([^,():]*) \(", late.partition("newest first")[2])
    assert ops[:5] == ["SGD", "neg in the backward of a custom function", "softmax_backward in the backward of softmax", "ones",
                       "softmax"], late
    assert re.search(r"newest first: \w+, SGD \(", run(program, TG_EMU_FAULT=own))
    assert "at work: SGD" in run(program, TG_EMU_FAULT=update, TG_CUDA_LAUNCH_BLOCKING="1")
    assert "at work" not in run(program, TG_EMU_FAULT=own, TG_CUDA_LAUNCH_BLOCKING="1")
