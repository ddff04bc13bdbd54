"""The benchmark cases, written once for both frameworks.

A case is made by `make(t, wrap)`: `t` is the framework, `wrap` what its mode does to a function (nothing, autocast,
torch.compile). It returns the step that is timed. Everything is made while `with t.device("cuda")` is on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: both folders have a report.py

import workloads

DRY = bool(os.environ.get("TG_GPU_DRY"))
HALF = 2  # bytes of a half type

Step = Callable[[], Any]


@dataclass
class Case:
    make: Callable[[Any, Callable], Step]
    group: str
    calls: int = 1  # how often a step repeats what is measured
    bytes: float = 0  # that an ideal kernel reads and writes per call
    flops: float = 0
    tokens: int = 0
    goal: float | None = None  # see `peer`
    # what the goal compares with: "copy" (fraction of the device-copy bandwidth, at least), "cublaslt" (fraction of its
    # speed, at least), "torch" and "compile" (our time over theirs, at most)
    peer: str = ""
    more_goals: dict[str, float] = field(default_factory=dict)
    modes: tuple[str, ...] = ("tg", "torch")
    product: str = ""  # of cublaslt_best: KIND:M:N:K
    kind: str = "float32"  # float32, tf32, bfloat16 (autocast for training steps)
    wall: bool = False  # timed on the host's clock: what matters is the time of launching
    memory: bool = False


CASES: dict[str, Case] = {}


# By the weight of their goals: training steps are what the rest is for.
GROUPS = ("training", "products", "attention", "latency", "memory", "convolutions")


def importance(case: Case) -> tuple[bool, int]:
    """What sorts cases: those with a goal first."""
    return case.goal is None, GROUPS.index(case.group)


def case(name: str, **settings: Any) -> Callable:
    def register(make: Callable[[Any, Callable], Step]) -> Callable:
        CASES[name] = Case(make, **settings)
        return make

    return register


def size(full: int, tiny: int) -> int:
    """The size on a GPU, or the one of a dry run."""
    return tiny if DRY else full


# ---- latency: what the host needs to launch


@case("add 3x4", group="latency", calls=100, goal=0.5, peer="torch", wall=True)
def add_small(t: Any, wrap: Callable) -> Step:
    a, b = t.rand(3, 4), t.rand(3, 4)

    def step() -> None:
        with t.no_grad():
            for _ in range(100):
                a + b

    return step


@case(
    "chain of 10 small ops",
    group="latency",
    calls=20,
    goal=0.5,
    peer="torch",
    wall=True,
    modes=("tg", "torch", "compile"),
)
def small_chain(t: Any, wrap: Callable) -> Step:
    x = t.rand(64, 64)

    def chain(v: Any) -> Any:
        for _ in range(5):
            v = (v * 1.01 + 0.1).tanh()
        return v

    f = wrap(chain)

    def step() -> None:
        with t.no_grad():
            for _ in range(20):
                f(x)

    return step


@case("x*y+z and gradient, 3x4", group="latency", calls=20, goal=0.5, peer="torch", wall=True)
def xyz(t: Any, wrap: Callable) -> Step:
    return workloads.xyz(t, wrap)


# ---- memory-bound kernels, as fractions of the bandwidth of a device copy

N = size(1 << 28, 1 << 12)  # 1 GiB of float32: far beyond any L2
ROWS, COLS = size(1 << 18, 16), size(1024, 64)
VOCABULARY, TOKENS = size(50304, 640), size(8192, 8)


def bound(name: str, bytes: float, inputs: Callable, apply: Callable, goal: float | None = 0.9, **more: Any) -> None:
    @case(name, group="memory", bytes=bytes, goal=goal, peer="copy", **more)
    def make(t: Any, wrap: Callable) -> Step:
        xs, f = inputs(t), wrap(lambda *xs: apply(t, *xs))

        def step() -> None:
            with t.no_grad():
                f(*xs)

        return step


bound("copy", 8.0 * N, lambda t: (t.empty(N), t.randn(N)), lambda t, y, x: y.copy_(x), goal=0.95)
for _kind, _b in (("float32", 4), ("bfloat16", 2)):
    _of = lambda t, *s, k=_kind: t.randn(*s).to(getattr(t, k))
    bound(f"x + y {_kind}", 3.0 * _b * N, lambda t, o=_of: (o(t, N), o(t, N)), lambda t, x, y: x + y)
    bound(f"gelu {_kind}", 2.0 * _b * N, lambda t, o=_of: (o(t, N),), lambda t, x: t.nn.functional.gelu(x))
    bound(f"sum of all {_kind}", 1.0 * _b * N, lambda t, o=_of: (o(t, N),), lambda t, x: x.sum())
    _n = ROWS * COLS
    bound(f"sum over rows {_kind}", 1.0 * _b * _n, lambda t, o=_of: (o(t, ROWS, COLS),), lambda t, x: x.sum(0))
    bound(f"softmax {_kind}", 2.0 * _b * _n, lambda t, o=_of: (o(t, ROWS, COLS),), lambda t, x: t.softmax(x, -1))
    bound(
        f"layer_norm {_kind}",
        2.0 * _b * _n,
        lambda t, o=_of: (o(t, ROWS, COLS), o(t, COLS), o(t, COLS)),
        lambda t, x, w, b: t.nn.functional.layer_norm(x, (COLS,), w, b),
    )
    bound(
        f"rms_norm {_kind}",
        2.0 * _b * _n,
        lambda t, o=_of: (o(t, ROWS, COLS), o(t, COLS)),
        lambda t, x, w: t.nn.functional.rms_norm(x, (COLS,), w),
    )
bound("transposed copy float32", 8.0 * _n, lambda t: (t.randn(ROWS, COLS),), lambda t, x: x.t().contiguous(), goal=None)
bound("dropout float32", 8.0 * N, lambda t: (t.randn(N),), lambda t, x: t.nn.functional.dropout(x, 0.1), goal=None)


def with_gradient(name: str, bytes: float, inputs: Callable, apply: Callable, goal: float | None = 0.9) -> None:
    @case(name, group="memory", bytes=bytes, goal=goal, peer="copy")
    def make(t: Any, wrap: Callable) -> Step:
        x, *rest = inputs(t)
        f = wrap(lambda *xs: apply(t, *xs))

        def step() -> None:
            x.grad = None
            f(x, *rest).backward()

        return step


# forward reads the logits, backward reads them and writes their gradient
with_gradient(
    "cross_entropy and gradient float32",
    12.0 * VOCABULARY * TOKENS,
    lambda t: (t.randn(TOKENS, VOCABULARY, requires_grad=True), t.randint(0, VOCABULARY, (TOKENS,))),
    lambda t, x, y: t.nn.functional.cross_entropy(x, y),
)


def adamw(name: str, shapes: list[tuple[int, ...]], modes: tuple[str, ...] = ("tg", "torch")) -> None:
    count = sum(s[0] * (s[1] if len(s) > 1 else 1) for s in shapes)

    # reads parameter, gradient and two moments, writes all but the gradient
    @case(name, group="memory", bytes=28.0 * count, goal=0.9, peer="copy", modes=modes)
    def make(t: Any, wrap: Callable) -> Step:
        params = [t.nn.Parameter(t.randn(*s)) for s in shapes]
        for p in params:
            p.grad = t.randn(*p.shape)
        fast = {} if t.__name__ == "tinygrad_cpp" else {"fused": not DRY}
        return t.optim.AdamW(params, lr=1e-3, **fast).step


_W = size(768, 32)
_layer = [(_W, 3 * _W), (_W, _W), (_W, 4 * _W), (4 * _W, _W), (3 * _W,), (_W,), (4 * _W,), (_W,), (_W,), (_W,)]
adamw("AdamW 10M", [*_layer, (size(3900, 50), _W)])
adamw("AdamW 124M", [*_layer * size(12, 2), (size(50257, 100), _W), (size(1024, 20), _W)])


# ---- products, attention, convolutions


def product(n: int, kind: str, goal: float | None) -> None:
    storage = kind if kind == "bfloat16" else "float32"

    @case(
        f"matmul {n} {kind}",
        group="products",
        flops=2.0 * n**3,
        calls=size(max(1, (4096 // n) ** 3), 1),
        goal=goal,
        peer="cublaslt",
        product=f"{kind}:{n}:{n}:{n}",
        kind=kind,
    )
    def make(t: Any, wrap: Callable) -> Step:
        a, b = (t.randn(n, n).to(getattr(t, storage)) for _ in range(2))
        calls = CASES[f"matmul {n} {kind}"].calls

        def step() -> None:
            with t.no_grad():
                for _ in range(calls):
                    a @ b

        return step


for _kind in ("float32", "tf32", "bfloat16"):
    for _n in (32,) if DRY else (1024, 2048, 4096, 8192):
        product(_n, _kind, 0.98 if _kind == "bfloat16" and _n == 8192 else None)


def attention(batch: int, heads: int, length: int, width: int, causal: bool, kind: str) -> None:
    name = f"attention {batch}x{heads}x{length}x{width}{' causal' if causal else ''} {kind}, gradients"
    # two products forward, five backward; half of them where the mask is causal
    flops = 7 * 2.0 * batch * heads * length * length * width * (0.5 if causal else 1)

    @case(name, group="attention", flops=flops, peer="torch", goal=1.0)
    def make(t: Any, wrap: Callable) -> Step:
        q, k, v = (t.randn(batch, heads, length, width).to(getattr(t, kind)).requires_grad_() for _ in range(3))
        g = t.randn(batch, heads, length, width).to(getattr(t, kind))
        f = wrap(lambda q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal))

        def step() -> None:
            q.grad = k.grad = v.grad = None
            f(q, k, v).backward(g)

        return step


for _kind in ("bfloat16", "float32"):
    attention(size(8, 1), size(12, 2), size(1024, 16), size(64, 8), True, _kind)
attention(size(2, 1), size(16, 2), size(4096, 32), size(128, 16), True, "bfloat16")

# of ResNet-18: channels in and out, image, kernel, stride
RESNET18 = ((3, 64, 224, 7, 2), (64, 64, 56, 3, 1), (64, 128, 56, 3, 2), (128, 128, 28, 3, 1), (256, 256, 14, 3, 1))
BATCH = size(64, 1)
for _cin, _cout, _size, _k, _stride in RESNET18 if not DRY else ((3, 4, 8, 3, 1),):
    for _kind in ("float32", "bfloat16"):

        @case(
            f"conv {_cin}-{_cout} {_k}x{_k}/{_stride} at {_size}, {BATCH} {_kind}, gradients",
            group="convolutions",
            flops=6.0 * BATCH * _cin * _cout * _k**2 * (_size // _stride) ** 2,
            peer="torch",
            goal=1.0,
        )
        def conv(t, wrap, cin=_cin, cout=_cout, n=_size, k=_k, stride=_stride, kind=_kind):
            x = t.randn(BATCH, cin, n, n).to(getattr(t, kind)).requires_grad_()
            w = t.randn(cout, cin, k, k).to(getattr(t, kind)).requires_grad_()
            f = wrap(lambda x, w: t.nn.functional.conv2d(x, w, None, stride, k // 2))
            g = t.ones_like(f(x, w))

            def step() -> None:
                x.grad = w.grad = None
                f(x, w).backward(g)

            return step


# ---- training steps


def gpt_flops(layers: int, width: int, vocabulary: int, batch: int, length: int) -> float:
    """Of a training step: 6 per weight and token, and the products of attention (arXiv:2204.02311, appendix B)."""
    weights = layers * 12 * width * width + vocabulary * width
    return batch * length * (6.0 * weights + 12.0 * layers * length * width)


def training(name: str, make: Callable, kinds: tuple[str, ...], goals: dict[str, float], **settings: Any) -> None:
    for kind in kinds:
        wanted = goals if kind == "bfloat16" or len(kinds) == 1 or "float32" in settings.get("also", ()) else {}
        rest = {k: v for k, v in settings.items() if k != "also"}
        peer = next(iter(wanted), "torch")
        CASES[f"{name} {kind}"] = Case(
            make,
            group="training",
            kind=kind,
            peer=peer,
            goal=wanted.get(peer),
            more_goals={k: v for k, v in wanted.items() if k != peer},
            modes=("tg", "torch", "compile"),
            memory=True,
            **rest,
        )


def tiny(t: Any, wrap: Callable) -> Step:
    """What a dry run trains instead."""
    nn = t.nn
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    opt = t.optim.Adam(model.parameters(), lr=1e-3)
    return workloads.training_step(t, wrap, model, opt, t.randn(2, 1, 6, 6), t.randint(0, 3, (2,)))


training(
    "MLP 784-512-512-10 Adam, 128",
    tiny if DRY else workloads.mlp,
    ("float32", "bfloat16"),
    {"torch": 0.7},
    also=("float32",),
)
training(
    "CNN 1-32-64, 64x28x28", tiny if DRY else workloads.cnn, ("float32", "bfloat16"), {"torch": 0.7}, also=("float32",)
)
_gpt = (2, 16, 2, 65, 2, 8) if DRY else (12, 768, 12, 50257, 8, 1024)
_layers, _width, _heads, _vocabulary, _batch, _length = _gpt
training(
    f"GPT-2 {'tiny' if DRY else '124M'}, {_batch}x{_length}",
    workloads.gpt_step(*_gpt, approximate="tanh"),
    ("float32", "bfloat16"),
    {"torch": 0.77, "compile": 1.0},
    flops=gpt_flops(_layers, _width, _vocabulary, _batch, _length),
    tokens=_batch * _length,
)
