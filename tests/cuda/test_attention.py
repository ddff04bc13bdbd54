"""Attention on a device against the composite in float64 on the CPU: values, gradients, and what is not a number."""

import numpy as np
import pytest
import tinygrad_cpp as tg

F = tg.nn.functional
SIZES = [(1, 1), (1, 70), (70, 1), (31, 33), (65, 64), (100, 130)]
# Of float32 arithmetic: as in tests/python/test_attention.py. Half types round weights, slopes and results: each sum is
# of at most 16 in magnitude. (tests/cpp/test_backend_attention.cpp derives bounds from the operands.)
EPS = {tg.float32: 0.0, tg.float16: 2.0**-11, tg.bfloat16: 2.0**-8, tg.float64: 0.0}


def arrays(queries, keys, heads=2, features=7, width=5):
    rng = np.random.default_rng(queries * 4099 + keys)
    sizes = ((queries, features), (keys, features), (keys, width))
    return [rng.standard_normal((1, heads, n, f)) for n, f in sizes]


def run(leaves, weights, **options):
    leaves = [x.detach().requires_grad_() for x in leaves]
    y = F.scaled_dot_product_attention(*leaves, **options)
    (y * weights.to(y.dtype).to(y.device)).sum().backward()
    return [y.detach(), *(x.grad for x in leaves)]


def compare(leaves, where="", magnitude=1.0, **options):
    """On the device in the leaves' dtype, and of the same numbers in float64 on the CPU."""
    dtype = leaves[0].dtype
    weights = tg.tensor(np.random.default_rng(1).standard_normal((*leaves[0].shape[:-1], leaves[2].shape[-1])))
    weights = weights.to(dtype)
    found = run([x.to("cuda") for x in leaves], weights, **options)
    want = run([x.double() for x in leaves], weights.double(), **options)
    terms = max(leaves[0].shape[-2], leaves[1].shape[-2])
    bound = 2.0**-24 * 64 * (1 + np.sqrt(terms)) * magnitude
    for a, b, of in zip(found, want, ("output", "query", "key", "value")):
        assert a.dtype == dtype and a.device.type == "cuda"
        a, b = a.cpu().double().numpy(), b.numpy()
        np.testing.assert_allclose(
            a, b, rtol=max(1e-5, EPS[dtype]), atol=bound + 16 * EPS[dtype], err_msg=f"{where} {of}"
        )


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients(sizes, causal, dtype):
    compare([tg.tensor(a).to(dtype) for a in arrays(*sizes)], is_causal=causal)


@pytest.mark.parametrize("features", [16, 64, 65, 128])
def test_head_sizes(features):
    compare([tg.tensor(a).float() for a in arrays(9, 40, 1, features, features)], is_causal=True)


def test_larger_heads_go_through_the_composite():
    compare([tg.tensor(a).float() for a in arrays(5, 6, 1, 130, 3)])
    compare([tg.tensor(a).float() for a in arrays(5, 6, 1, 3, 130)])


def test_layouts_and_dimensions():
    q, k, v = arrays(20, 20)
    inside = [tg.tensor(np.ascontiguousarray(a.transpose(0, 2, 1, 3))).float().transpose(1, 2) for a in (q, k, v)]
    compare(inside, "heads inside", is_causal=True)
    compare([tg.tensor(a[0]).float() for a in (q, k, v)], "three")
    compare([tg.tensor(a[0, 0]).float() for a in (q, k, v)], "two", scale=0.7)
    compare([tg.tensor(np.repeat(a, 2, axis=3)).float()[..., ::2] for a in (q, k, v)], "stepped")


def test_no_matrix_of_weights_in_memory():
    """Queries times keys would be 4 MB a head; what attention takes is less than the operands' 1 MB twice."""
    q, k, v = (tg.randn(1, 2, 1024, 8, device="cuda") for _ in range(3))
    tg.cuda.reset_peak_memory_stats()
    before = tg.cuda.memory_allocated()
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    tg.cuda.synchronize()
    assert tg.cuda.max_memory_allocated() - before < 1 << 20 and y.shape == q.shape


@pytest.mark.parametrize("causal", [False, True])
def test_large_scores_do_not_overflow(causal):
    """Scores of up to 9 * 40 * 40 = 14400 are exact. The gradient of one is a difference of sums of values of up to 40,
    and meets queries and keys of up to 40."""
    rng = np.random.default_rng(3)
    leaves = [tg.tensor(rng.integers(-40, 41, (1, 1, 70, 9)).astype(np.float32)) for _ in range(3)]
    compare(leaves, magnitude=40 * 40, is_causal=causal, scale=1.0)


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_not_a_number_stays_in_its_row(causal):
    q, k, v = (tg.tensor(a).float() for a in arrays(70, 70, heads=1))
    for at, x in ((3, float("nan")), (40, float("inf")), (66, float("-inf"))):
        q[0, 0, at, 0] = x
    k[0, 0, 0, 0] = 1.0  # so that inf gives inf
    on_device = [x.to("cuda") for x in (q, k, v)]
    found = F.scaled_dot_product_attention(*on_device, is_causal=causal).cpu()
    want = F.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), is_causal=causal)
    assert tg.isnan(found).equal(tg.isnan(want))
    rows = [i for i in range(70) if i not in (3, 40, 66)]
    np.testing.assert_allclose(found[0, 0, rows].numpy(), want[0, 0, rows].numpy(), rtol=1e-5, atol=1e-5)


def test_rows_of_minus_infinity():
    """Nothing to look at: 0 if causal, as a mask's rows give; else no number."""
    q, k, v = tg.ones(5, 2), tg.full((5, 2), -float("inf")), tg.ones(5, 2)
    for causal in (False, True):
        found = F.scaled_dot_product_attention(*(x.to("cuda") for x in (q, k, v)), is_causal=causal).cpu()
        want = F.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), is_causal=causal)
        assert tg.isnan(found).equal(tg.isnan(want)) and (found == 0).equal(want == 0)


def test_same_bits_each_time():
    leaves = [tg.tensor(a).float().to("cuda") for a in arrays(100, 90)]
    weights = tg.randn(1, 2, 100, 5)
    for a, b in zip(run(leaves, weights), run(leaves, weights)):
        assert a.cpu().equal(b.cpu())


def test_in_a_graph():
    q, k, v = (tg.tensor(a).float().to("cuda") for a in arrays(40, 70))
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        y = F.scaled_dot_product_attention(q, k, v)
    q.copy_(tg.randn(*q.shape, device="cuda"))
    graph.replay()
    assert y.equal(F.scaled_dot_product_attention(q, k, v))
