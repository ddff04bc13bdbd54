"""The workloads, written once for every framework with PyTorch's names.

A workload is a function (t, compiled) -> step: `t` is the framework, `compiled` turns a function into its compiled form
(the identity for eager frameworks), `step()` is what gets timed. All data is float32 unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Workload(NamedTuple):
    make: Callable[..., Callable[[], Any]]
    calls: int  # how often a step repeats the thing that is measured
    goal: float | None  # the ratio to the best peer that the project aims at
    peer: str  # the peer that goal speaks of: "best", "torch", "jax"


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, goal: float | None = None, peer: str = "best", calls: int = 1):
    def register(f):
        WORKLOADS[name] = Workload(f, calls, goal, peer)
        return f

    return register


# ---- many small ops


@workload("add 3x4", goal=0.35, peer="torch", calls=100)
def add_small(t, compiled):
    a, b = t.rand(3, 4), t.rand(3, 4)

    def step():
        with t.no_grad():
            for _ in range(100):
                a + b

    return step


@workload("x*y+z and gradient", goal=0.12, peer="torch", calls=20)
def xyz(t, compiled):
    x, y, z = (t.rand(3, 4, requires_grad=True) for _ in range(3))
    f = compiled(lambda x, y, z: (x * y + z).sum())

    def step():
        for _ in range(20):
            x.grad = y.grad = z.grad = None
            f(x, y, z).backward()

    return step


@workload("scalar MLP 2-16-16-1 SGD", goal=0.15, peer="torch", calls=5)
def scalar_mlp(t, compiled):
    nn = t.nn
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x, y = t.randn(100, 2), t.randn(100, 1)
    opt = t.optim.SGD(model.parameters(), lr=0.01)
    loss = compiled(lambda: t.nn.functional.mse_loss(model(x), y))

    def step():
        for _ in range(5):
            opt.zero_grad()
            loss().backward()
            opt.step()

    return step


# ---- training steps of whole models


def training_step(t, compiled, model, optimizer, x, y):
    forward = compiled(lambda: t.nn.functional.cross_entropy(model(x), y))

    def step():
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    return step


@workload("MLP 784-512-512-10 Adam, 128", goal=0.7, peer="torch")
def mlp(t, compiled):
    nn = t.nn
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    opt = t.optim.Adam(model.parameters(), lr=1e-3)
    return training_step(t, compiled, model, opt, t.randn(128, 784), t.randint(0, 10, (128,)))


@workload("CNN 1-32-64, 64x28x28", goal=0.7)
def cnn(t, compiled):
    nn = t.nn
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    opt = t.optim.Adam(model.parameters(), lr=1e-3)
    return training_step(t, compiled, model, opt, t.randn(64, 1, 28, 28), t.randint(0, 10, (64,)))


@workload("residual block 64x32x32, 16", goal=1.0)
def residual(t, compiled):
    nn = t.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
            self.conv2, self.norm2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)

        def forward(self, x):
            h = t.relu(self.norm1(self.conv1(x)))
            return t.relu(self.norm2(self.conv2(h)) + x)

    block, x = Block(), t.randn(16, 64, 32, 32, requires_grad=True)
    f = compiled(lambda: (block(x) ** 2).mean())

    def step():
        block.zero_grad()
        x.grad = None
        f().backward()

    return step


def gpt(t, layers, width, heads, vocabulary, context):
    nn, functional = t.nn, t.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            b, n, _ = x.shape
            q, k, v = (
                part.view(b, n, heads, width // heads).transpose(1, 2)
                for part in self.qkv(self.norm1(x)).split(width, 2)
            )
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, n, width))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x):
            h = self.tokens(x) + self.places(t.arange(x.shape[1]))
            return self.head(self.norm(self.blocks(h)))

    return GPT()


def gpt_step(layers, width, heads, vocabulary, batch, length):
    def make(t, compiled):
        model = gpt(t, layers, width, heads, vocabulary, length)
        opt = t.optim.AdamW(model.parameters(), lr=3e-4)
        x, y = (t.randint(0, vocabulary, (batch, length)) for _ in range(2))
        loss = compiled(lambda: t.nn.functional.cross_entropy(model(x).view(-1, vocabulary), y.view(-1)))

        def step():
            opt.zero_grad()
            loss().backward()
            opt.step()

        return step

    return make


workload("GPT 4/128, 12x64", goal=0.7)(gpt_step(4, 128, 4, 65, 12, 64))
workload("GPT 6/384, 4x256", goal=0.75)(gpt_step(6, 384, 6, 65, 4, 256))
workload("GPT-2 124M, 1x64", goal=0.6)(gpt_step(12, 768, 12, 50257, 1, 64))
workload("GPT-2 124M, 4x256", goal=0.6)(gpt_step(12, 768, 12, 50257, 4, 256))


@workload("LSTM 256, 32x64", goal=0.85)
def lstm(t, compiled):
    model, head = t.nn.LSTM(256, 256, batch_first=True), t.nn.Linear(256, 10)
    x = t.randn(32, 64, 256)

    def step():
        model.zero_grad()
        head.zero_grad()
        head(model(x)[0]).square().mean().backward()

    return step


@workload("generate 32 characters, GPT 4/128")
def generate(t, compiled):
    model = gpt(t, 4, 128, 4, 65, 64).eval()

    def step():
        x = t.zeros((1, 1), dtype=t.int64)
        with t.no_grad():
            for _ in range(32):
                x = t.cat([x, model(x[:, -64:])[:, -1:].argmax(-1)], 1)

    return step


# ---- memory-bound ops

MILLION = 1 << 20


@workload("chain of 6, 4M, and gradient", goal=0.8, peer="torch")
def chain(t, compiled):
    x = t.randn(4 * MILLION, requires_grad=True)
    f = compiled(lambda x: (t.tanh(x * 2.0 + 1.0) * t.sigmoid(x)).square().sum())

    def step():
        x.grad = None
        f(x).backward()

    return step


def with_gradient(goal, name, shape, apply):
    """A workload that runs apply(t, x) and its gradient for a tensor of ones."""

    @workload(name, goal=goal)
    def make(t, compiled):
        x = t.randn(*shape, requires_grad=True)
        f = compiled(lambda x: apply(t, x))
        g = t.ones(*f(x).shape)

        def step():
            x.grad = None
            f(x).backward(g)

        return step


with_gradient(0.9, "softmax 4096x1024", (4096, 1024), lambda t, x: t.softmax(x, -1))
with_gradient(0.9, "layer_norm 4096x1024", (4096, 1024), lambda t, x: t.nn.functional.layer_norm(x, (1024,)))
with_gradient(0.9, "dropout 4M", (4096, 1024), lambda t, x: t.nn.functional.dropout(x, 0.1))


@workload("cross_entropy 256x50304", goal=0.7)
def cross_entropy(t, compiled):
    x, y = t.randn(256, 50304, requires_grad=True), t.randint(0, 50304, (256,))
    f = compiled(lambda x: t.nn.functional.cross_entropy(x, y))

    def step():
        x.grad = None
        f(x).backward()

    return step


@workload("embedding 50304x768, 4x256")
def embedding(t, compiled):
    w, i = t.randn(50304, 768, requires_grad=True), t.randint(0, 50304, (4, 256))

    def step():
        w.grad = None
        t.nn.functional.embedding(i, w).sum().backward()

    return step


@workload("AdamW 10M parameters", goal=0.7)
def adamw(t, compiled):
    shapes = [(768, 2304), (768, 768), (768, 3072), (3072, 768), (2304,), (768,), (3072,), (768,), (3900, 768)]
    params = [t.nn.Parameter(t.randn(*s)) for s in shapes]
    for p in params:
        p.grad = t.randn(*p.shape)
    opt = t.optim.AdamW(params, lr=1e-3)
    return opt.step


def forward_only(name, make_inputs, apply, goal=None, calls=1):
    @workload(name, goal=goal, calls=calls)
    def make(t, compiled):
        inputs = make_inputs(t)
        f = compiled(lambda *xs: apply(t, *xs))

        def step():
            with t.no_grad():
                for _ in range(calls):
                    f(*inputs)

        return step


for _n in (64, 128, 256, 512, 1024, 2048):
    forward_only(
        f"matmul {_n}",
        lambda t, n=_n: (t.randn(n, n), t.randn(n, n)),
        lambda t, a, b: a @ b,
        goal=1.02,
        calls=max(1, 256 // _n) ** 2,
    )
for _b, _n in ((512, 64), (48, 256), (8, 1024)):
    forward_only(
        f"bmm {_b}x{_n}",
        lambda t, b=_b, n=_n: (t.randn(b, n, n), t.randn(b, n, n)),
        lambda t, a, b: t.bmm(a, b),
        goal=1.02,
    )
for _name in ("sum", "mean", "amax"):
    for _dim in (0, 1):
        forward_only(
            f"{_name} over {'outer' if _dim == 0 else 'inner'} axis, 4096x1024",
            lambda t: (t.randn(4096, 1024),),
            lambda t, x, f=_name, d=_dim: getattr(x, f)(d),
        )
forward_only("transposed copy 4096x4096", lambda t: (t.randn(4096, 4096),), lambda t, x: x.t().contiguous(), goal=0.4)
forward_only("cat 8 of 512x1024", lambda t: [t.randn(512, 1024) for _ in range(8)], lambda t, *xs: t.cat(list(xs), 0))
forward_only("cat of two 3x4", lambda t: (t.randn(3, 4), t.randn(3, 4)), lambda t, a, b: t.cat([a, b]), calls=100)
forward_only("sum of 3x4", lambda t: (t.randn(3, 4),), lambda t, x: x.sum(), calls=100)
forward_only(
    "gather 4096x1024",
    lambda t: (t.randn(4096, 1024), t.randint(0, 1024, (4096, 1024))),
    lambda t, x, i: t.gather(x, 1, i),
)
forward_only(
    "scatter_add 1024x1024",
    lambda t: (t.zeros(1024, 1024), t.randint(0, 1024, (1024, 1024)), t.randn(1024, 1024)),
    lambda t, x, i, s: t.scatter_add(x, 0, i, s),
)

RESNET18 = ((3, 64, 224, 7, 2), (64, 64, 56, 3, 1), (64, 128, 56, 3, 2), (128, 128, 28, 3, 1), (256, 256, 14, 3, 1))
for _cin, _cout, _size, _k, _stride in RESNET18:

    @workload(f"conv {_cin}-{_cout} {_k}x{_k}/{_stride} at {_size}, 4, gradients")
    def conv(t, compiled, cin=_cin, cout=_cout, size=_size, k=_k, stride=_stride):
        x = t.randn(4, cin, size, size, requires_grad=True)
        w = t.randn(cout, cin, k, k, requires_grad=True)
        f = compiled(lambda x, w: t.nn.functional.conv2d(x, w, None, stride, k // 2))
        g = t.ones(*f(x, w).shape)

        def step():
            x.grad = w.grad = None
            f(x, w).backward(g)

        return step


# ---- half types: storage in 16 bits


def half(kind):
    goal = 0.6 if kind == "bfloat16" else None

    @workload(f"matmul 1024 {kind}", goal=goal, peer="torch")
    def matmul(t, compiled):
        a, b = (t.randn(1024, 1024).to(getattr(t, kind)) for _ in range(2))
        f = compiled(lambda a, b: a @ b)

        def step():
            with t.no_grad():
                f(a, b)

        return step

    @workload(f"chain of 6, 4M {kind}, and gradient")
    def chain(t, compiled):
        x = t.randn(4 * MILLION).to(getattr(t, kind)).requires_grad_()
        f = compiled(lambda x: (t.tanh(x * 2.0 + 1.0) * t.sigmoid(x)).square().sum())

        def step():
            x.grad = None
            f(x).backward()

        return step

    @workload(f"GPT 4/128, 12x64 {kind}")
    def step_of_gpt(t, compiled):
        model = gpt(t, 4, 128, 4, 65, 64).to(getattr(t, kind))
        opt = t.optim.AdamW(model.parameters(), lr=3e-4)
        x, y = (t.randint(0, 65, (12, 64)) for _ in range(2))
        loss = compiled(lambda: t.nn.functional.cross_entropy(model(x).view(-1, 65), y.view(-1)))

        def step():
            opt.zero_grad()
            loss().backward()
            opt.step()

        return step


half("bfloat16")
half("float16")
