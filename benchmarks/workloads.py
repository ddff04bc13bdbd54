"""The workloads, written once for every framework with PyTorch's names: small ops and training steps here, the rest in
workloads_ops.py. All data is float32 unless the name says otherwise.
"""

from __future__ import annotations

from registry import workload

# ---- many small ops


@workload("add 3x4", {"torch": 0.35}, calls=100)
def add_small(t, compiled):
    a, b = t.rand(3, 4), t.rand(3, 4)

    def step():
        with t.no_grad():
            for _ in range(100):
                a + b

    return step


@workload("x*y+z and gradient", {"torch": 0.12, "jax": 0.4}, calls=20)
def xyz(t, compiled):
    x, y, z = (t.rand(3, 4, requires_grad=True) for _ in range(3))
    f = compiled(lambda x, y, z: (x * y + z).sum())

    def step():
        for _ in range(20):
            x.grad = y.grad = z.grad = None
            f(x, y, z).backward()

    return step


@workload("scalar MLP 2-16-16-1 SGD", {"torch": 0.15}, calls=5, training=True)
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


@workload("MLP 784-512-512-10 Adam, 128", {"torch": 0.7, "jax": 1.0}, training=True)
def mlp(t, compiled):
    nn = t.nn
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    opt = t.optim.Adam(model.parameters(), lr=1e-3)
    return training_step(t, compiled, model, opt, t.randn(128, 784), t.randint(0, 10, (128,)))


@workload("CNN 1-32-64, 64x28x28", {"best": 0.7}, training=True)
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


@workload("residual block 64x32x32, 16", {"best": 1.0}, training=True)
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


def tanh_gelu_of(t):
    """gelu(linear(x)) by the tanh formula: one op here, two in PyTorch."""
    functional = t.nn.functional
    if hasattr(functional, "linear_gelu"):
        return lambda linear, x: functional.linear_gelu(x, linear.weight, linear.bias)
    return lambda linear, x: functional.gelu(linear(x), approximate="tanh")


def gpt(t, layers, width, heads, vocabulary, context, approximate="none"):
    """`approximate`: the formula of GELU, as gelu() names it; GPT-2 was trained with "tanh"."""
    nn, functional = t.nn, t.nn.functional
    linear_gelu = tanh_gelu_of(t) if approximate == "tanh" else lambda linear, x: functional.gelu(linear(x))

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
            return x + self.down(linear_gelu(self.up, self.norm2(x)))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x):
            h = self.tokens(x) + self.places(t.arange(x.shape[1], device=x.device))
            return self.head(self.norm(self.blocks(h)))

    return GPT()


def gpt_step(layers, width, heads, vocabulary, batch, length, dtype="float32", approximate="none"):
    def make(t, compiled):
        model = gpt(t, layers, width, heads, vocabulary, length, approximate).to(getattr(t, dtype))
        opt = t.optim.AdamW(model.parameters(), lr=3e-4)
        x, y = (t.randint(0, vocabulary, (batch, length)) for _ in range(2))
        loss = compiled(lambda: t.nn.functional.cross_entropy(model(x).view(-1, vocabulary), y.view(-1)))

        def step():
            opt.zero_grad()
            loss().backward()
            opt.step()

        return step

    return make


workload("GPT 4/128, 12x64", {"best": 0.7}, training=True)(gpt_step(4, 128, 4, 65, 12, 64))
workload("GPT 6/384, 4x256", {"best": 0.75}, training=True)(gpt_step(6, 384, 6, 65, 4, 256))
workload("GPT-2 124M, 1x64", {"best": 0.6}, training=True)(gpt_step(12, 768, 12, 50257, 1, 64))
workload("GPT-2 124M, 4x256", {"best": 0.6}, training=True)(gpt_step(12, 768, 12, 50257, 4, 256))


@workload("LSTM 256, 32x64", {"best": 0.85}, training=True)
def lstm(t, compiled):
    model, head = t.nn.LSTM(256, 256, batch_first=True), t.nn.Linear(256, 10)
    x = t.randn(32, 64, 256)
    loss = compiled(lambda: head(model(x)[0]).square().mean())

    def step():
        model.zero_grad()
        head.zero_grad()
        loss().backward()

    return step


@workload("generate 32 characters, GPT 4/128")
def generate(t, compiled):
    model = gpt(t, 4, 128, 4, 65, 64).eval()
    following = compiled(lambda x: model(x[:, -64:])[:, -1:].argmax(-1))

    def step():
        x = t.zeros((1, 1), dtype=t.int64)
        with t.no_grad():
            for _ in range(32):
                x = t.cat([x, following(x)], 1)

    return step


for _kind in ("bfloat16", "float16"):
    workload(f"GPT 4/128, 12x64 {_kind}", training=True)(gpt_step(4, 128, 4, 65, 12, 64, _kind))

import workloads_ops  # noqa: E402, F401 - registers the others, which follow in the tables
