"""The workloads of workloads.py that JAX has, jitted. Same names, sizes and kinds of data."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import registry
import workloads  # noqa: F401 - fills the registry
from registry import Workload
from workloads_ops import BMM, RESNET18, conv_name

WORKLOADS: dict[str, Workload] = {}
_keys = iter(jax.random.split(jax.random.key(0), 100000))


def randn(*shape):
    return jax.random.normal(next(_keys), shape, jnp.float32)


def labels(high, *shape):
    return jax.random.randint(next(_keys), shape, 0, high)


def workload(name):
    calls = registry.WORKLOADS[name].calls

    def register(f):
        WORKLOADS[name] = Workload(lambda t, compiled: f(), calls)
        return f

    return register


def repeated(name, *inputs):
    """step() calls the jitted function as often as the workload says and waits for the last result."""
    calls = registry.WORKLOADS[name].calls

    def make(f):
        f = jax.jit(f)

        def step():
            for _ in range(calls):
                out = f(*inputs)
            jax.block_until_ready(out)

        return step

    return make


def forward(name, make_inputs, f):
    @workload(name)
    def make():
        return repeated(name, *make_inputs())(f)


def gradient(name, make_inputs, f, argnums=0):
    """Value and gradient of the sum of f."""

    @workload(name)
    def make():
        return repeated(name, *make_inputs())(jax.value_and_grad(lambda *xs: f(*xs).sum(), argnums=argnums))


def training(name, params, loss, update, state):
    """A step that carries parameters and optimizer state on."""
    calls = registry.WORKLOADS[name].calls
    run = jax.jit(lambda p, s: update(p, jax.grad(loss)(p), s), donate_argnums=(0, 1))
    held = [params, state]

    def step():
        for _ in range(calls):
            held[0], held[1] = run(*held)
        jax.block_until_ready(held)

    return step


def adam(lr, decay=0.0):
    def start(params):
        return *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)), jnp.zeros(())

    def update(params, grads, state):
        m, v, n = state
        n = n + 1
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        rate, root = lr / (1 - 0.9**n), jnp.sqrt(1 - 0.999**n)
        params = jax.tree.map(
            lambda p, a, b: (p * (1 - lr * decay) - rate * a / (jnp.sqrt(b) / root + 1e-8)).astype(p.dtype),
            params,
            m,
            v,
        )
        return params, (m, v, n)

    return start, update


def dense(n_in, n_out):
    return randn(n_in, n_out) / math.sqrt(n_in), jnp.zeros(n_out)


def cross_entropy(logits, target):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1).mean()


forward("add 3x4", lambda: (randn(3, 4), randn(3, 4)), lambda a, b: a + b)
gradient("x*y+z and gradient", lambda: [randn(3, 4) for _ in range(3)], lambda x, y, z: x * y + z, (0, 1, 2))


@workload("scalar MLP 2-16-16-1 SGD")
def scalar_mlp():
    params = [dense(2, 16), dense(16, 16), dense(16, 1)]
    x, y = randn(100, 2), randn(100, 1)

    def loss(params):
        (a, b), (c, d), (e, f) = params
        return ((jnp.tanh(jnp.tanh(x @ a + b) @ c + d) @ e + f - y) ** 2).mean()

    def update(params, grads, state):
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), state

    return training("scalar MLP 2-16-16-1 SGD", params, loss, update, ())


@workload("MLP 784-512-512-10 Adam, 128")
def mlp():
    params = [dense(784, 512), dense(512, 512), dense(512, 10)]
    x, y = randn(128, 784), labels(10, 128)

    def loss(params):
        (a, b), (c, d), (e, f) = params
        return cross_entropy(jax.nn.relu(jax.nn.relu(x @ a + b) @ c + d) @ e + f, y)

    start, update = adam(1e-3)
    return training("MLP 784-512-512-10 Adam, 128", params, loss, update, start(params))


def convolve(x, w, stride=1, pad=0):
    return jax.lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad), (pad, pad)])


@workload("CNN 1-32-64, 64x28x28")
def cnn():
    params = [(randn(32, 1, 3, 3) / 3, jnp.zeros(32)), (randn(64, 32, 3, 3) / 17, jnp.zeros(64))]
    params += [dense(9216, 128), dense(128, 10)]
    x, y = randn(64, 1, 28, 28), labels(10, 64)

    def loss(params):
        (a, b), (c, d), (e, f), (g, h) = params
        z = jax.nn.relu(convolve(x, a) + b[:, None, None])
        z = jax.nn.relu(convolve(z, c) + d[:, None, None])
        z = jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return cross_entropy(jax.nn.relu(z.reshape(64, -1) @ e + f) @ g + h, y)

    start, update = adam(1e-3)
    return training("CNN 1-32-64, 64x28x28", params, loss, update, start(params))


@workload("residual block 64x32x32, 16")
def residual():
    def batch_norm(x, weight, bias):
        mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * weight[:, None, None] + bias[:, None, None]

    def loss(x, params):
        (a, b, c), (d, e, f) = params
        h = jax.nn.relu(batch_norm(convolve(x, a, 1, 1), b, c))
        return (jax.nn.relu(batch_norm(convolve(h, d, 1, 1), e, f) + x) ** 2).mean()

    params = [(randn(64, 64, 3, 3) / 24, jnp.ones(64), jnp.zeros(64)) for _ in range(2)]
    return repeated("residual block 64x32x32, 16", randn(16, 64, 32, 32), params)(jax.grad(loss, (0, 1)))


def gpt_logits(p, x, heads):
    def norm(z, weight, bias):
        mean = z.mean(-1, keepdims=True)
        return (z - mean) * jax.lax.rsqrt(z.var(-1, keepdims=True) + 1e-5) * weight + bias

    def attend(z, block):
        b, n, width = z.shape
        q, k, v = jnp.split(z @ block["qkv"][0] + block["qkv"][1], 3, -1)
        q, k, v = (part.reshape(b, n, heads, width // heads) for part in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(b, n, width)

    h = p["tokens"][x] + p["places"][: x.shape[1]]
    for block in p["blocks"]:
        h = h + attend(norm(h, *block["norm1"]), block) @ block["out"][0] + block["out"][1]
        up = jax.nn.gelu(norm(h, *block["norm2"]) @ block["up"][0] + block["up"][1], approximate=False)
        h = h + up @ block["down"][0] + block["down"][1]
    return norm(h, *p["norm"]) @ p["tokens"].T


def gpt_params(layers, width, vocabulary, length):
    def unit():
        return jnp.ones(width), jnp.zeros(width)

    sizes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    blocks = [{"norm1": unit(), "norm2": unit(), **{k: dense(*s) for k, s in sizes.items()}} for _ in range(layers)]
    tokens, places = randn(vocabulary, width) / 50, randn(length, width) / 50
    return {"tokens": tokens, "places": places, "norm": unit(), "blocks": blocks}


def gpt(name, layers, width, heads, vocabulary, batch, length, dtype=jnp.float32):
    @workload(name)
    def make():
        x, y = labels(vocabulary, batch, length), labels(vocabulary, batch, length)
        params = jax.tree.map(lambda p: p.astype(dtype), gpt_params(layers, width, vocabulary, length))

        def loss(p):
            return cross_entropy(gpt_logits(p, x, heads).reshape(-1, vocabulary), y.reshape(-1))

        start, update = adam(3e-4, 0.01)
        return training(name, params, loss, update, start(params))


gpt("GPT 4/128, 12x64", 4, 128, 4, 65, 12, 64)
gpt("GPT 6/384, 4x256", 6, 384, 6, 65, 4, 256)
gpt("GPT-2 124M, 1x64", 12, 768, 12, 50257, 1, 64)
gpt("GPT-2 124M, 4x256", 12, 768, 12, 50257, 4, 256)

for _kind in ("bfloat16", "float16"):
    gpt(f"GPT 4/128, 12x64 {_kind}", 4, 128, 4, 65, 12, 64, jnp.dtype(_kind))


@workload("generate 32 characters, GPT 4/128")
def generate():
    """In a buffer of 33 characters: a shape for each length would be compiled anew."""
    params = gpt_params(4, 128, 65, 64)

    @jax.jit
    def following(p, x, i):
        return x.at[:, i + 1].set(gpt_logits(p, x, 4)[:, i].argmax(-1))

    def step():
        x = jnp.zeros((1, 33), jnp.int32)
        for i in range(32):
            x = following(params, x, i)
        jax.block_until_ready(x)

    return step


@workload("LSTM 256, 32x64")
def lstm():
    x, n = randn(32, 64, 256), 256

    def loss(params):
        (w_in, b_in), (w, b), (w_out, b_out) = params
        gates = jnp.swapaxes(x @ w_in + b_in + b, 0, 1)  # of the inputs, for all times at once

        def cell(carry, gate):
            h, c = carry
            i, f, g, o = jnp.split(gate + h @ w, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((32, n))
        hidden = jax.lax.scan(cell, (zeros, zeros), gates)[1]
        return ((hidden @ w_out + b_out) ** 2).mean()

    params = [dense(256, 4 * n), dense(n, 4 * n), dense(n, 10)]
    return repeated("LSTM 256, 32x64", params)(jax.grad(loss))


def six(x):
    return jnp.square(jnp.tanh(x * 2.0 + 1.0) * jax.nn.sigmoid(x))


def three(x):
    return jax.nn.relu(x * 3.0 + 1.0)


gradient("chain of 6, 4M, and gradient", lambda: (randn(1 << 22),), six)
gradient("chain of 3, 4M, and gradient", lambda: (randn(1 << 22),), three)
for _kind in ("bfloat16", "float16"):
    gradient(f"chain of 6, 4M {_kind}, and gradient", lambda k=_kind: (randn(1 << 22).astype(k),), six)
    forward(
        f"matmul 1024 {_kind}",
        lambda k=_kind: [randn(1024, 1024).astype(k) for _ in range(2)],
        lambda a, b: a @ b,
    )
gradient("softmax 4096x1024", lambda: (randn(4096, 1024), randn(4096, 1024)), lambda x, g: jax.nn.softmax(x) * g)


def layer_norm(x, g):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * g


gradient("layer_norm 4096x1024", lambda: (randn(4096, 1024), randn(4096, 1024)), layer_norm)
gradient(
    "dropout 4M",
    lambda: (randn(4096, 1024), next(_keys)),
    lambda x, key: jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0),
)
gradient("cross_entropy 256x50304", lambda: (randn(256, 50304), labels(50304, 256)), cross_entropy)
gradient("embedding 50304x768, 4x256", lambda: (randn(50304, 768), labels(50304, 4, 256)), lambda w, i: w[i])


@workload("AdamW 10M parameters")
def adamw():
    shapes = [(768, 2304), (768, 768), (768, 3072), (3072, 768), (2304,), (768,), (3072,), (768,), (3900, 768)]
    params, grads = ([randn(*s) for s in shapes] for _ in range(2))
    start, update = adam(1e-3, 0.01)
    held = [params, start(params)]
    run = jax.jit(lambda p, s, g: update(p, g, s), donate_argnums=(0, 1))

    def step():
        held[:] = run(*held, grads)
        jax.block_until_ready(held)

    return step


for _n in (64, 128, 256, 512, 1024, 2048):
    forward(f"matmul {_n}", lambda n=_n: (randn(n, n), randn(n, n)), lambda a, b: a @ b)
for _b, _n in BMM:
    forward(f"bmm {_b}x{_n}", lambda b=_b, n=_n: (randn(b, n, n), randn(b, n, n)), lambda a, b: a @ b)
for _name, _f in (("sum", jnp.sum), ("mean", jnp.mean), ("amax", jnp.max)):
    for _dim, _where in enumerate(("outer", "inner")):
        _title = f"{_name} over {_where} axis, 4096x1024"
        forward(_title, lambda: (randn(4096, 1024),), lambda x, f=_f, d=_dim: f(x, axis=d))
forward("transposed copy 4096x4096", lambda: (randn(4096, 4096),), lambda x: x.T + 0)
forward("cat 8 of 512x1024", lambda: [randn(512, 1024) for _ in range(8)], lambda *xs: jnp.concatenate(xs, 0))
forward("cat of two 3x4", lambda: (randn(3, 4), randn(3, 4)), lambda a, b: jnp.concatenate([a, b]))
forward("sum of 3x4", lambda: (randn(3, 4),), jnp.sum)
forward(
    "gather 4096x1024",
    lambda: (randn(4096, 1024), labels(1024, 4096, 1024)),
    lambda x, i: jnp.take_along_axis(x, i, 1),
)
forward(
    "scatter_add 1024x1024",
    lambda: (jnp.zeros((1024, 1024)), labels(1024, 1024, 1024), randn(1024, 1024)),
    lambda x, i, s: x.at[i, jnp.arange(1024)].add(s),
)
for _shape in RESNET18:

    def _inputs(shape=_shape):
        cin, cout, size, k, _ = shape
        return randn(4, cin, size, size), randn(cout, cin, k, k)

    def _apply(x, w, shape=_shape):
        return convolve(x, w, shape[4], shape[3] // 2)

    forward(conv_name(*_shape), _inputs, _apply)
    gradient(conv_name(*_shape) + ", gradients", _inputs, _apply, (0, 1))
