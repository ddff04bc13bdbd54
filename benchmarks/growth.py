"""How cost grows over three decades of elements, batch, sequence length and depth.

A family is a workload with one size. Its slope is the exponent p in time ~ size^p, fitted to the last decade, where
fixed costs have become small. A surprise is a slope above what the arithmetic asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from workloads import gpt


class Family(NamedTuple):
    make: Callable[[Any, int], Callable[[], Any]]
    sizes: tuple[int, ...]
    over: str  # what the size counts
    order: float  # the exponent that the arithmetic has for large sizes


FAMILIES: dict[str, Family] = {}


def family(name: str, over: str, sizes: tuple[int, ...], order: float = 1.0):
    def register(make):
        FAMILIES[name] = Family(make, sizes, over, order)
        return make

    return register


ELEMENTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
DECADES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LENGTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@family("x*y+z and gradient", "elements", ELEMENTS)
def elementwise(t, n):
    x, y, z = (t.rand(n, requires_grad=True) for _ in range(3))

    def step():
        x.grad = y.grad = z.grad = None
        (x * y + z).sum().backward()

    return step


@family("softmax of rows of 100 and gradient", "elements", ELEMENTS)
def softmax(t, n):
    x, g = t.randn(n // 100, 100, requires_grad=True), t.ones(n // 100, 100)

    def step():
        x.grad = None
        t.softmax(x, -1).backward(g)

    return step


@family("MLP 256-256-10, SGD step", "batch", DECADES)
def mlp(t, n):
    model = t.nn.Sequential(t.nn.Linear(256, 256), t.nn.ReLU(), t.nn.Linear(256, 10))
    opt = t.optim.SGD(model.parameters(), lr=0.01)
    x, y = t.randn(n, 256), t.randint(0, 10, (n,))

    def step():
        opt.zero_grad()
        t.nn.functional.cross_entropy(model(x), y).backward()
        opt.step()

    return step


@family("causal attention, 4 heads of 32, and gradient", "length", LENGTHS, 2.0)
def attention(t, n):
    q, k, v = (t.randn(1, 4, n, 32, requires_grad=True) for _ in range(3))

    def step():
        q.grad = k.grad = v.grad = None
        t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()

    return step


@family("GPT 2/64/4 heads, training step", "length", LENGTHS, 2.0)
def transformer(t, n):
    model = gpt(t, 2, 64, 4, 65, n)
    opt = t.optim.SGD(model.parameters(), lr=0.01)
    x, y = (t.randint(0, 65, (1, n)) for _ in range(2))

    def step():
        opt.zero_grad()
        t.nn.functional.cross_entropy(model(x).view(-1, 65), y.view(-1)).backward()
        opt.step()

    return step


@family("MLP of layers 32-32, training step", "depth", DECADES)
def deep(t, n):
    layers = [layer for _ in range(n) for layer in (t.nn.Linear(32, 32), t.nn.Tanh())]
    model, x = t.nn.Sequential(*layers), t.randn(16, 32)
    opt = t.optim.SGD(model.parameters(), lr=0.01)

    def step():
        opt.zero_grad()
        model(x).square().mean().backward()
        opt.step()

    return step


def slope(points: list[tuple[float, float]]) -> float:
    """Least-squares slope of log time over log size, for the sizes within a decade of the largest."""
    top = max(size for size, _ in points)
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points if size >= top / 10.1]
    mx, my = (sum(c) / len(logs) for c in zip(*logs))
    return sum((x - mx) * (y - my) for x, y in logs) / sum((x - mx) ** 2 for x, _ in logs)


def steepest(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The largest slope between two neighbouring sizes, and where it starts."""
    points = sorted(points)
    return max((math.log(t1 / t0) / math.log(s1 / s0), s0) for (s0, t0), (s1, t1) in zip(points, points[1:]))


# Data that outgrows a cache costs up to this much more per element over the decade; anything beyond is a surprise.
CACHE_STEPS = 0.3


def surprise(name: str, points: list[tuple[float, float]]) -> bool:
    return slope(points) > FAMILIES[name].order + CACHE_STEPS
