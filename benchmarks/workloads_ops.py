"""Workloads of one op, or a few, with gradients: memory-bound ops, products, reductions, convolutions, half types."""

from __future__ import annotations

from registry import workload

MILLION = 1 << 20


def chain(name, apply, goals=None, dtype="float32"):
    """Element-wise ops on 4M elements, summed, and the gradient."""

    @workload(name, goals)
    def make(t, compiled):
        x = t.randn(4 * MILLION).to(getattr(t, dtype)).requires_grad_()
        f = compiled(lambda x: apply(t, x).sum())

        def step():
            x.grad = None
            f(x).backward()

        return step


def six(t, x):
    return (t.tanh(x * 2.0 + 1.0) * t.sigmoid(x)).square()


chain("chain of 6, 4M, and gradient", six, {"torch": 0.8})
chain("chain of 3, 4M, and gradient", lambda t, x: t.relu(x * 3.0 + 1.0), {"torch": 0.8})


def with_gradient(goal, name, shape, apply):
    """A workload that runs apply(t, x) and its gradient for a tensor of ones."""

    @workload(name, {"best": goal})
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


@workload("cross_entropy 256x50304", {"best": 0.7})
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


def adamw(name, **options):
    @workload(name, {"best": 0.7} if not options else None)
    def make(t, compiled):
        shapes = [(768, 2304), (768, 768), (768, 3072), (3072, 768), (2304,), (768,), (3072,), (768,), (3900, 768)]
        params = [t.nn.Parameter(t.randn(*s)) for s in shapes]
        for p in params:
            p.grad = t.randn(*p.shape)
        return t.optim.AdamW(params, lr=1e-3, **options).step


adamw("AdamW 10M parameters")
adamw("AdamW 10M parameters, fused=True", fused=True)


def forward_only(name, make_inputs, apply, goals=None, calls=1):
    @workload(name, goals, calls)
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
        goals={"best": 1.02},
        calls=max(1, 256 // _n) ** 2,
    )
BMM = ((512, 64), (128, 128), (48, 256), (16, 512), (8, 1024), (2, 2048))
for _b, _n in BMM:
    forward_only(
        f"bmm {_b}x{_n}",
        lambda t, b=_b, n=_n: (t.randn(b, n, n), t.randn(b, n, n)),
        lambda t, a, b: t.bmm(a, b),
        goals={"best": 1.02},
    )
for _name in ("sum", "mean", "amax"):
    for _dim in (0, 1):
        forward_only(
            f"{_name} over {'outer' if _dim == 0 else 'inner'} axis, 4096x1024",
            lambda t: (t.randn(4096, 1024),),
            lambda t, x, f=_name, d=_dim: getattr(x, f)(d),
        )
forward_only(
    "transposed copy 4096x4096", lambda t: (t.randn(4096, 4096),), lambda t, x: x.t().contiguous(), {"best": 0.4}
)
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

# Every shape of a convolution in ResNet-18: channels in and out, side of the image, side of the kernel, stride.
RESNET18 = (
    (3, 64, 224, 7, 2),
    (64, 64, 56, 3, 1),
    (64, 128, 56, 3, 2),
    (64, 128, 56, 1, 2),
    (128, 128, 28, 3, 1),
    (128, 256, 28, 3, 2),
    (128, 256, 28, 1, 2),
    (256, 256, 14, 3, 1),
    (256, 512, 14, 3, 2),
    (256, 512, 14, 1, 2),
    (512, 512, 7, 3, 1),
)


def conv_name(cin, cout, size, k, stride):
    return f"conv {cin}-{cout} {k}x{k}/{stride} at {size}, 4"


for _shape in RESNET18:

    def conv(t, compiled, gradients, cin, cout, size, k, stride):
        x = t.randn(4, cin, size, size, requires_grad=gradients)
        w = t.randn(cout, cin, k, k, requires_grad=gradients)
        f = compiled(lambda x, w: t.nn.functional.conv2d(x, w, None, stride, k // 2))
        g = t.ones(*f(x, w).shape)

        def step():
            x.grad = w.grad = None
            y = f(x, w)
            if gradients:
                y.backward(g)

        return step

    workload(conv_name(*_shape))(lambda t, compiled, s=_shape: conv(t, compiled, False, *s))
    workload(conv_name(*_shape) + ", gradients")(lambda t, compiled, s=_shape: conv(t, compiled, True, *s))


# ---- half types: storage in 16 bits

for _kind in ("bfloat16", "float16"):

    def _pair(t, kind=_kind):
        return [t.randn(1024, 1024).to(getattr(t, kind)) for _ in range(2)]

    _goals = {"torch": 0.6} if _kind == "bfloat16" else None
    forward_only(f"matmul 1024 {_kind}", _pair, lambda t, a, b: a @ b, _goals)
    forward_only(
        f"matmul 1024 {_kind} by float32",
        _pair,
        lambda t, a, b, kind=_kind: (a.float() @ b.float()).to(getattr(t, kind)),
    )
    chain(f"chain of 6, 4M {_kind}, and gradient", six, dtype=_kind)
