"""Ops that need positions, counts or checks beside their inputs, recorded in graphs: forward and backward replay as outside of
one, bit for bit; wrong values are late errors; what draws on the host is refused."""

import re

import pytest
import tinygrad_cpp as tg

cuda, nn, F = tg.cuda, tg.nn, tg.nn.functional


def rand(*sizes):
    return tg.rand(*sizes) * 0.9 + 0.05


# name -> (op, makers of its inputs)
CASES = {
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1, 2, True), [lambda: tg.randn(2, 3, 11)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [lambda: tg.randn(2, 3, 6, 7)]),
    "max_pool2d padded": (lambda x: F.max_pool2d(x, 3, 2, 1), [lambda: tg.randn(2, 3, 6, 7)]),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2, 1, 1), [lambda: tg.randn(2, 4, 5, 3)]),
    "avg_pool2d padded": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), [lambda: tg.randn(2, 3, 6, 7)]),
    "avg_pool3d padded": (lambda x: F.avg_pool3d(x, 2, 2, 1), [lambda: tg.randn(2, 4, 5, 3)]),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2.0, 2), [lambda: rand(2, 3, 6, 6)]),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, [3, 4]), [lambda: tg.randn(2, 3, 7, 5)]),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, [3, 4]), [lambda: tg.randn(2, 3, 7, 5)]),
    "max_unpool2d": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        [lambda: tg.randn(2, 3, 6, 6)],
    ),
    "nearest": (lambda x: F.interpolate(x, size=(7, 3)), [lambda: tg.randn(2, 3, 4, 5)]),
    "nearest-exact": (lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest-exact"), [lambda: tg.randn(2, 3, 5)]),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), [lambda: tg.randn(2, 3, 4, 5)]),
    "bilinear corners": (
        lambda x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True),
        [lambda: tg.randn(2, 3, 4, 5)],
    ),
    "bicubic": (lambda x: F.interpolate(x, size=(6, 7), mode="bicubic"), [lambda: tg.randn(2, 3, 4, 5)]),
    "area": (lambda x: F.interpolate(x, size=(3, 3), mode="area"), [lambda: tg.randn(2, 3, 7, 5)]),
    "reflect": (lambda x: F.pad(x, (2, 1, 1, 3), "reflect"), [lambda: tg.randn(2, 3, 4, 5)]),
    "replicate": (lambda x: F.pad(x, (2, 7, 1, -1), "replicate"), [lambda: tg.randn(2, 3, 4, 5)]),
    "circular": (lambda x: F.pad(x, (2, 5, 1, -1), "circular"), [lambda: tg.randn(2, 3, 4, 5)]),
    "cumprod": (lambda x: x.cumprod(1), [lambda: tg.randn(3, 5)]),
    "cumprod with zeros": (lambda x: x.cumprod(1), [lambda: tg.randint(-1, 3, (3, 9)).float()]),
    "binary_cross_entropy": (F.binary_cross_entropy, [lambda: rand(3, 5), lambda: rand(3, 5)]),
    "gaussian_nll_loss": (F.gaussian_nll_loss, [lambda: tg.randn(3, 5), lambda: tg.randn(3, 5), lambda: rand(3, 5)]),
    "quantile": (lambda x: x.quantile(0.3, 1), [lambda: tg.randn(3, 5)]),
    "quantile of several": (lambda x, q: x.quantile(q, 1), [lambda: tg.randn(3, 5), lambda: rand(2)]),
    "nanquantile": (lambda x: x.nanquantile(0.7), [lambda: tg.randn(3, 5)]),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, 1), [lambda: tg.randn(2, 3)]),
}


@pytest.mark.parametrize("name", CASES)
def test_replays_as_outside_of_a_graph(name):
    op, makers = CASES[name]

    def run(inputs):
        y = op(*inputs)
        (y * y).sum().backward()
        return y

    inputs = [make().cuda().requires_grad_() for make in makers]
    for x in inputs:
        x.grad = tg.zeros_like(x)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        y = run(inputs)
    for _ in range(3):
        new = [make().cuda() for make in makers]
        for x, value in zip(inputs, new):
            with tg.no_grad():
                x.copy_(value)
            x.grad.zero_()
        g.replay()
        outside = [value.requires_grad_() for value in new]
        want = run(outside)
        assert y.equal(want)
        for x, o in zip(inputs, outside):
            assert x.grad.equal(o.grad)


def test_a_convolutional_network_trains_in_a_graph():
    def make():
        tg.manual_seed(5)
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 13 * 13, 3)
        ).cuda()
        return net, tg.optim.Adam(net.parameters(), capturable=True)

    batches = [(tg.randn(2, 2, 28, 28).cuda(), tg.tensor([i % 3, (i + 1) % 3]).cuda()) for i in range(4)]

    def step(net, optimizer, x, t):
        optimizer.zero_grad()
        loss = (F.log_softmax(net(x), 1) * F.one_hot(t, 3)).sum() * -0.5
        loss.backward()
        optimizer.step()
        return loss

    net, optimizer = make()
    eager = [step(net, optimizer, *batch).item() for batch in batches]
    weights = [p.detach().clone() for p in net.parameters()]

    net, optimizer = make()
    replayed = [step(net, optimizer, *batches[0]).item()]  # the first step makes the state
    x, t = (b.clone() for b in batches[0])
    g = cuda.CUDAGraph()
    optimizer.zero_grad()
    with cuda.graph(g):
        loss = step(net, optimizer, x, t)
    for new_x, new_t in batches[1:]:
        x.copy_(new_x), t.copy_(new_t)
        g.replay()
        replayed.append(loss.item())
    assert replayed == eager
    assert all(p.equal(w) for p, w in zip(net.parameters(), weights))


DRAWS = {
    "bernoulli": tg.bernoulli,
    "bernoulli_": lambda p: tg.zeros_like(p).bernoulli_(p),
    "multinomial": lambda p: tg.multinomial(p, 3),
    "multinomial with replacement": lambda p: tg.multinomial(p, 9, replacement=True),
    "normal of two": lambda p: tg.normal(p, p * 2),
    "normal of a deviation": lambda p: tg.normal(1.5, p),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_with_parameters_replay_as_outside_of_a_graph(name):
    draw, p = DRAWS[name], rand(2, 5).cuda()
    tg.manual_seed(11)
    eager = [draw(p) for _ in range(3)]
    tg.manual_seed(11)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        y = draw(p)
    for want in eager:
        g.replay()
        assert y.equal(want)


def test_samples_of_categories_in_a_graph():
    categories = tg.distributions.Categorical(rand(2, 5).cuda())
    tg.manual_seed(11)
    eager = [categories.sample((4,)) for _ in range(3)]
    tg.manual_seed(11)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        y = categories.sample((4,))
    for want in eager:
        g.replay()
        assert y.equal(want)


WRONG = {
    "binary_cross_entropy: all elements of input must lie in": (
        lambda x: F.binary_cross_entropy(x, x.detach() * 0),
        1.5,
    ),
    "gaussian_nll_loss: var has a negative element": (lambda x: F.gaussian_nll_loss(x, x, x), -0.5),
    "quantile: q must lie in": (lambda x: tg.arange(5.0, device="cuda").quantile(x), 1.5),
    "bernoulli: probabilities must lie in": (tg.bernoulli, 1.5),
    "normal: standard deviations must not be negative": (lambda x: tg.normal(0.0, x), -1.0),
    "multinomial: weights must be finite and not negative": (lambda x: tg.multinomial(x, 2), float("nan")),
    "multinomial: 3 samples without replacement need": (lambda x: tg.multinomial(x.expand(2, 3), 3), 0.0),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_value_of_a_replay_is_an_error_at_the_next_wait(text):
    op, wrong = WRONG[text]
    x = rand(3).cuda()
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        op(x)
    g.replay()
    cuda.synchronize()
    x[1] = wrong
    g.replay()
    told = []
    for _ in range(2):  # one wait tells of one: an index that follows from a wrong q is another
        try:
            cuda.synchronize()
        except tg.IndexError as e:
            told.append(str(e))
    assert any(re.match(f"{text}.*; the element at fault, found [01] in the replay of a graph", e) for e in told), told
    cuda.synchronize()  # told once
    with pytest.raises(tg.ValueError, match=f"^{text}"):
        op(x)


REFUSED = {
    "poisson": lambda x, n: tg.poisson(x),
    "binomial": lambda x, n: tg.binomial(x, x),
    "repeat_interleave": lambda x, n: x.repeat_interleave(n),
    "tril_indices": lambda x, n: tg.tril_indices(3, 3, device="cuda"),
    "combinations": lambda x, n: tg.combinations(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_made_on_the_host_is_refused(name):
    x, n = rand(3).cuda(), tg.tensor([1, 2, 3], device="cuda")
    g = cuda.CUDAGraph()
    with pytest.raises(tg.NotImplementedError, match=f"^{name}: .*cannot be recorded in a graph"), cuda.graph(g):
        REFUSED[name](x, n)
    with pytest.raises(tg.ValueError, match="nothing was recorded"):
        g.replay()
    assert REFUSED[name](x, n) is not None  # outside it works, and does so after the failure
