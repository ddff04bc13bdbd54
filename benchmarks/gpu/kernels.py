"""Every kernel once, at sizes that leave blocks partly filled: for sanitizers, and to give the same bits twice.

That none is left out is what tests/cuda/test_kernel_cases.py checks.

python kernels.py [--hash] [--device cuda]     --hash prints a digest per kernel; two runs must agree
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import sys
from collections.abc import Callable
from typing import Any

import tinygrad_cpp as tg

DEVICE = "cuda"

F = tg.nn.functional


def inputs(*shapes: tuple[int, ...], dtype: Any = None, grad: bool = False) -> list[Any]:
    ts = [tg.randn(*s, device=DEVICE) for s in shapes]
    ts = [t.to(dtype) if dtype else t for t in ts]
    return [t.requires_grad_() for t in ts] if grad else ts


def pointwise(dtype: Any) -> list[Any]:
    x, y = inputs((33, 65), (33, 65), dtype=dtype)
    row = y[:1]
    return [x + y, x.t() * 2.0, x + row, tg.exp(x[:, ::2]), tg.where(x > 0, x, y), F.gelu(x).to(tg.float32)]


def reductions(dtype: Any) -> list[Any]:
    (x,) = inputs((37, 129), dtype=dtype)
    scans = [x.cumsum(1), x[:, :20].cumsum(1)]
    return [x.sum(), x.sum(0), x.mean(1), x.amax(0), x.amin(1), x.argmax(1), *scans, x.prod(0)]


def rows(dtype: Any) -> list[Any]:
    x, w, b = inputs((19, 129), (129,), (129,), dtype=dtype)
    return [tg.softmax(x, -1), tg.log_softmax(x, 0), F.layer_norm(x, (129,), w, b), F.rms_norm(x, (129,), w)]


def long_lines(dtype: Any) -> list[Any]:
    """Lines that several blocks share, or that take several tiles."""
    (x,) = inputs((2, 33000), dtype=dtype)
    return [x.cumsum(1), x.sum(1), x.amax(1), x.sum(), x[:, :1300].sort(1)[0]]


def indexing(dtype: Any) -> list[Any]:
    x, s = inputs((29, 31), (29, 31), dtype=dtype)
    i = tg.randint(0, 29, (29, 31), device=DEVICE)
    return [
        x.gather(0, i),
        x.scatter(0, i, s),
        tg.scatter_add(x, 0, i, s),
        x[i[:, 0]],
        x.sort(1)[0],
        x[x > 0],
        x.nonzero(),
    ]


def products(dtype: Any) -> list[Any]:
    a, b, c = inputs((33, 65), (65, 17), (5, 17, 9), dtype=dtype)
    return [a @ b, a.t() @ a, (b @ c[0]).contiguous(), tg.bmm(c, c.transpose(1, 2))]


def gradients(f: Callable[..., Any], *shapes: tuple[int, ...], dtype: Any = None) -> list[Any]:
    xs = inputs(*shapes, dtype=dtype, grad=True)
    out = f(*xs)
    out.backward(tg.ones_like(out))
    return [out.detach(), *(x.grad for x in xs)]


def row_gradients(dtype: Any) -> list[Any]:
    """Of the kernels over rows."""
    layer_norm = lambda x, w, b: F.layer_norm(x, (129,), w, b)
    rms_norm = lambda x, w: F.rms_norm(x, (129,), w)
    return [
        *gradients(lambda x: tg.softmax(x, -1), (19, 129), dtype=dtype),
        *gradients(lambda x: tg.log_softmax(x, -1), (19, 129), dtype=dtype),
        *gradients(layer_norm, (19, 129), (129,), (129,), dtype=dtype),
        *gradients(rms_norm, (19, 129), (129,), dtype=dtype),
    ]


def cross_entropy() -> list[Any]:
    y = tg.randint(0, 77, (13,), device=DEVICE)
    return gradients(lambda x: F.cross_entropy(x, y), (13, 77))


def embedding() -> list[Any]:
    """Few rows, and so many that their order is looked for first."""
    few, many = (tg.randint(0, 11, (n,), device=DEVICE) for n in (40, 100))
    return [*gradients(lambda w: F.embedding(few, w), (11, 33)), *gradients(lambda w: F.embedding(many, w), (11, 33))]


def training() -> list[Any]:
    nn = tg.nn
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, 5)]
    model = nn.Sequential(*layers).to(DEVICE)
    optimizer = tg.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = tg.randn(6, 1, 8, 8, device=DEVICE), tg.randint(0, 5, (6,), device=DEVICE)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        tg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def attention(dtype: Any) -> list[Any]:
    """Tiles of 32 and of 64 positions, filled in part; as many queries as keys and not. Half types of the last size are
    cuDNN's where it is there."""
    results = []
    for causal, queries, keys, features in ((True, 70, 70, 16), (False, 37, 70, 80), (True, 130, 140, 64)):
        q, k = (2, 3, queries, features), (2, 3, keys, features)
        f = functools.partial(F.scaled_dot_product_attention, is_causal=causal)
        results += gradients(f, q, k, k, dtype=dtype)
    return results


def masked_attention(dtype: Any) -> list[Any]:
    """A mask that all heads share, one that is added, also with a gradient, and dropout, whose numbers backward draws
    again."""
    seen = tg.rand(37, 70, device=DEVICE) > 0.3
    (added,) = inputs((2, 1, 37, 70), dtype=dtype)
    ways = [{"attn_mask": seen}, {"attn_mask": added}, {"attn_mask": seen, "dropout_p": 0.25}]
    results = []
    for options in [*ways, {"is_causal": True, "dropout_p": 0.25}]:
        f = functools.partial(F.scaled_dot_product_attention, **options)
        results += gradients(f, (2, 3, 37, 80), (2, 3, 70, 80), (2, 3, 70, 80), dtype=dtype)
    for mask in ((37, 70), (2, 1, 1, 70), (3, 37, 1)):
        f = F.scaled_dot_product_attention
        results += gradients(f, (2, 3, 37, 80), (2, 3, 70, 80), (2, 3, 70, 80), mask, dtype=dtype)
    return results


def convolutions(dtype: Any) -> list[Any]:
    """By cuDNN where it is there, and by products."""
    results = []
    for enabled in (True, False):
        with tg.backends.cudnn.flags(enabled=enabled):
            results += gradients(lambda x, w: F.conv2d(x, w, None, 2, 1), (2, 3, 9, 11), (4, 3, 3, 3), dtype=dtype)
            results += gradients(lambda x, w: F.conv1d(x, w, None, 1, 2), (2, 3, 33), (4, 3, 5), dtype=dtype)
    return results


def scaled_steps(dtype: Any) -> list[Any]:
    """Gradients looked at for infinities: before the step in float32, within it for halves that keep float32 copies."""
    params = inputs((33, 65), (4099,), (3,), dtype=dtype, grad=True)
    half = dtype != tg.float32
    optimizer = tg.optim.AdamW(params, lr=1e-2, master_weights=half)
    scaler = tg.amp.GradScaler(DEVICE, init_scale=8.0)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(tg.stack([p.float().square().mean() for p in params]).sum()).backward()
        if not half:
            scaler.unscale_(optimizer)
            tg.nn.utils.clip_grad_norm_(params, 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert scaler.skipped_steps == 0
    copies = [optimizer.state[p]["master_weight"] for p in params] if half else []
    return [*params, *copies]


def replayed() -> list[Any]:
    """A graph that looks up rows, draws numbers and takes steps of Adam that the device counts."""
    nn = tg.nn
    layers = [nn.Embedding(11, 8), nn.Dropout(0.3), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 11)]
    model = nn.Sequential(*layers).to(DEVICE)
    optimizer = tg.optim.AdamW(model.parameters(), lr=1e-2, capturable=True)
    x, y = (tg.randint(0, 11, (6,), device=DEVICE) for _ in range(2))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    step()  # makes the optimizer's state, which a recording cannot
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        step()
    for _ in range(3):
        x.copy_(x.roll(1))
        graph.replay()
    return list(model.parameters())


REVERSE = """
template <typename T, int N>
__global__ void reverse(const T* x, T* y, int n) {
  __shared__ T tile[N];
  int first = blockIdx.x * N, length = min(N, n - first);
  if (threadIdx.x < length) tile[threadIdx.x] = x[first + threadIdx.x];
  __syncthreads();
  if (threadIdx.x < length) y[first + threadIdx.x] = tile[length - 1 - threadIdx.x];
}"""


def raw_kernel() -> list[Any]:
    """A user's kernel, whose last block is filled in part."""
    (x,) = inputs((1000,))
    y = tg.empty_like(x)
    tg.cuda.RawKernel(REVERSE, "reverse<float, 64>")(16, 64, (x, y, 1000))
    return [y]


FAMILIES = (
    pointwise,
    reductions,
    long_lines,
    rows,
    row_gradients,
    indexing,
    products,
    attention,
    masked_attention,
    convolutions,
)


def kernels() -> dict[str, Callable[[], list[Any]]]:
    found: dict[str, Callable[[], list[Any]]] = {}
    for dtype in (tg.float32, tg.bfloat16, tg.float16, tg.float64):
        for f in FAMILIES:
            found[f"{f.__name__} {dtype.name}"] = lambda f=f, dtype=dtype: f(dtype)
    for dtype in (tg.float32, tg.bfloat16, tg.float16):
        found[f"scaled_steps {dtype.name}"] = lambda dtype=dtype: scaled_steps(dtype)
    found["integers"] = lambda: [
        tg.arange(100, device=DEVICE) * 3 % 7,
        tg.ones(5, 9, device=DEVICE, dtype=tg.int64).sum(0),
    ]
    found["random numbers"] = lambda: [
        tg.rand(1001, device=DEVICE),
        tg.randn(77, device=DEVICE),
        tg.randperm(50, device=DEVICE),
    ]
    found["cross entropy"], found["embedding"], found["training"] = cross_entropy, embedding, training
    if DEVICE != "cpu":
        found["graph"], found["raw kernel"] = replayed, raw_kernel
    return found


def digest(tensors: list[Any]) -> str:
    h = hashlib.sha256()
    for t in tensors:
        h.update(t.detach().cpu().reshape(-1).contiguous().view(tg.uint8).numpy().tobytes())
    return h.hexdigest()[:32]


def run(make: Callable[[], list[Any]]) -> list[Any]:
    tg.manual_seed(7)
    results = make()
    if DEVICE != "cpu":
        tg.cuda.synchronize()
    return results


def main() -> int:
    global DEVICE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hash", action="store_true")
    parser.add_argument("--device", default=DEVICE)
    arguments = parser.parse_args()
    hashing, DEVICE = arguments.hash, arguments.device
    failures = 0
    for name, make in kernels().items():
        try:
            if not hashing:
                run(make)
                continue
            first, second = digest(run(make)), digest(run(make))
            print(first if first == second else f"differs: {first} {second}", name)
            failures += first != second
        except tg.Error as error:
            failures += 1
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
