"""Attention on a device against the composite in float64 on the CPU: values, gradients, and what is not a number."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run as run_program

F = tg.nn.functional
cudnn = tg.backends.cudnn
emulated = pytest.mark.skipif(not tg.cuda.is_emulated(), reason="the emulation's libraries can be taken away")
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


def test_more_features_than_a_tile_has():
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
def test_a_first_query_of_low_scores(causal):
    """Places of a tile beyond the last query have scores of 0, far above this query's maximum."""
    q, k, v = (tg.tensor(a).float() for a in arrays(5, 6, heads=1))
    q[0, 0, 0], k = -100.0, k.abs() + 1
    compare([q, k, v], magnitude=100, is_causal=causal)


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


# ---- by cuDNN, whose launches are not counted: on a GPU where it is installed it must not be silent about refusing


def have_cudnn(least=92100):
    return tg.cuda.is_emulated() or (cudnn.is_available() and cudnn.version() >= least)


needs_cudnn = pytest.mark.skipif(not have_cudnn(), reason="needs cuDNN 9.21, whose attention has causal masks")


def launched(*leaves, **options):
    """Own kernels of one call, and its result. A first call compares the two ways and is not counted."""
    F.scaled_dot_product_attention(*leaves, **options)
    before = tg._C._cuda_launches()
    y = F.scaled_dot_product_attention(*leaves, **options)
    return tg._C._cuda_launches() - before, y


def halves(queries, keys, features=64, width=64, dtype=tg.float16, heads=2):
    return [tg.tensor(a).to(dtype) for a in arrays(queries, keys, heads, features, width)]


@needs_cudnn
@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(128, 128, 64, 64), (131, 200, 72, 128), (300, 129, 128, 8)], ids=str)
def test_cudnn(sizes, causal, dtype):
    leaves = halves(*sizes, dtype)
    compare(leaves, is_causal=causal)
    assert launched(*(x.to("cuda") for x in leaves), is_causal=causal)[0] == 0
    with cudnn.flags(enabled=False):
        compare(leaves, is_causal=causal)
        assert launched(*(x.to("cuda") for x in leaves), is_causal=causal)[0] == 1


@needs_cudnn
def test_cudnn_in_any_layout_of_heads():
    q, k, v = halves(130, 140)
    inside = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    compare(inside, "heads inside", is_causal=True)
    compare([x[0] for x in (q, k, v)], "three", is_causal=True)
    compare([x[0, 0] for x in (q, k, v)], "two")
    together = tg.cat([q[:, :, :130], k[:, :, :130], v[:, :, :130]], -1).to("cuda")
    parts = [together[..., i * 64 : i * 64 + 64] for i in range(3)]
    for leaves in ([x.to("cuda") for x in inside], [x[0].to("cuda") for x in (q, k, v)], parts):
        assert launched(*leaves, is_causal=True)[0] == 0
    compare([x.cpu() for x in parts], "within rows of three", is_causal=True)


@needs_cudnn
def test_one_plan_serves_every_scale():
    leaves = [x.to("cuda") for x in halves(128, 128)]
    for scale in (0.125, 1.0, 1e-3):
        n, found = launched(*leaves, scale=scale)
        want = F.scaled_dot_product_attention(*(x.cpu().double() for x in leaves), scale=scale)
        assert n == 0
        np.testing.assert_allclose(found.cpu().double().numpy(), want.numpy(), rtol=2.0**-11, atol=16 * 2.0**-11)


def shifted(x):
    """The same numbers two bytes further on."""
    return tg.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


def test_what_cudnn_does_not_take():
    """Each goes through the own kernel, which gives what the composite in float64 gives."""
    q, k, v = (x.to("cuda") for x in halves(128, 128))
    cases = {
        "few queries": (q[:, :, :127], k, v),
        "few keys": (q, k[:, :, :127], v[:, :, :127]),
        "features off 8": (q[..., :60], k[..., :60], v),
        "width off 8": (q, k, v[..., :60]),
        "steps between features": (*(x.repeat_interleave(2, -1)[..., ::2] for x in (q, k)), v),
        "addresses off 16 bytes": (shifted(q), k, v),
        "rows off 16 bytes": (q, k, tg.cat([v, v[..., :4]], -1)[..., :64]),
        "repeated heads": (q, k[:, :1].expand(-1, 2, -1, -1), v),
        "float32": (q.float(), k.float(), v.float()),
    }
    for name, leaves in cases.items():
        n, found = launched(*leaves)
        want = F.scaled_dot_product_attention(*(x.cpu().double() for x in leaves))
        assert n >= 1, name
        np.testing.assert_allclose(
            found.cpu().double().numpy(), want.numpy(), rtol=2.0**-11, atol=16 * 2.0**-11, err_msg=name
        )
    for scale in (-0.125, 0.0, float("inf")):
        assert launched(q, k, v, scale=scale)[0] == 1, scale


PROGRAM = """
q = tg.randn(1, 1, 128, 64).half().to('cuda')
counts = []
for causal in (False, True):
    for repeat in range(2):
        before = tg._C._cuda_launches()
        y = tg.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=causal)
        counts.append(tg._C._cuda_launches() - before)
print(*counts)
"""


@emulated
@pytest.mark.parametrize(
    ("env", "launches"),
    [
        ({}, "2 0 2 0"),  # the first of each is compared, with two masks
        ({"TG_EMU_DNN_VERSION": "92100"}, "2 0 2 0"),
        ({"TG_EMU_DNN_VERSION": "91900"}, "2 0 1 1"),  # no masks yet
        ({"TG_EMU_DNN_VERSION": "91300"}, "1 1 1 1"),
        ({"TG_EMU_NO_DNN": "1"}, "1 1 1 1"),
    ],
    ids=str,
)
def test_versions_of_cudnn(env, launches):
    assert run_program(PROGRAM, **env) == launches


WRONG = """
import os
os.dup2(1, 2)  # the warning is looked for too
F = tg.nn.functional.scaled_dot_product_attention
tg.manual_seed(1)
leaves = [tg.randn({sizes}).to(tg.{dtype}).to('cuda') for _ in range(3)]
for repeat in range(2):
    before = tg._C._cuda_launches()
    found = F(*leaves, is_causal={causal})
    launches = tg._C._cuda_launches() - before
    with tg.backends.cudnn.flags(enabled=False):
        print(launches, found.equal(F(*leaves, is_causal={causal})))
print(*tg._C._cudnn_attention_counts())
"""
LONG = "1, 1, 1100, 8"  # late rows are small: averages of many values


@emulated
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("wrong", "sizes", "causal"),
    [
        *((wrong, "2, 2, 130, 64", True) for wrong in ("mask", "scale", "first", "middle", "tail", "nan", "late")),
        ("late", LONG, True),
        ("keys", LONG, False),
    ],
)
def test_a_library_that_is_wrong_is_not_used(wrong, sizes, causal, dtype):
    """Its first result is compared, and the own kernel's given, as from then on. It is told once."""
    out = run_program(WRONG.format(sizes=sizes, causal=causal, dtype=dtype), TG_EMU_DNN_WRONG=wrong).splitlines()
    assert out[-3:] == ["3 True", "1 True", "0 2 1"]
    warnings = [line for line in out if "attention by cuDNN 9.24.0" in line]
    assert len(warnings) == 1 and sizes in warnings[0] and dtype in warnings[0]


@emulated
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_long_text_is_believed(causal, dtype):
    """Rounding alone is not taken for a mistake."""
    out = run_program(WRONG.format(sizes=LONG, causal=causal, dtype=dtype)).splitlines()
    assert [line.split()[0] for line in out] == ["2", "0", "2"] and out[-1] == "2 0 0"


@emulated
def test_a_plan_that_fails_leaves_no_error_behind():
    """The own kernel is launched next, and must not be blamed."""
    out = run_program(WRONG.format(sizes="1, 1, 130, 64", causal=True, dtype="float16"), TG_EMU_DNN_WRONG="refuse")
    assert out.splitlines() == ["1 True", "1 True", "0 2 0"]


@emulated
def test_results_that_are_not_finite_cannot_be_compared():
    """They are the own kernel's, and the plan is tried again."""
    program = WRONG.replace("for repeat", "leaves[2][0, 0, 0, 0] = float('nan')\nfor repeat").replace(
        "found.equal(F(*leaves, is_causal={causal}))", "tg.isnan(found[0, 0, :, 0]).all().item()"
    )
    out = run_program(program.format(sizes="1, 1, 130, 64", causal=True, dtype="float16"))
    assert out.splitlines() == ["3 True", "3 True", "0 2 0"]


@needs_cudnn
def test_each_thread_has_plans_of_its_own():
    """A plan is made with a thread's handle; the emulated cuDNN refuses to run it with another."""
    leaves = [x.to("cuda") for x in halves(130, 140)]
    want = F.scaled_dot_product_attention(*leaves)
    tg.cuda.synchronize()

    def work():
        n, found = launched(*leaves)
        return n, found.equal(want)

    with ThreadPoolExecutor(2) as pool:
        assert [f.result() for f in [pool.submit(work) for _ in range(2)]] == [(0, True)] * 2


@emulated
def test_a_thread_without_a_handle_makes_none_while_it_records():
    q, k, v = (x.to("cuda") for x in halves(130, 140))

    def record():
        graph = tg.cuda.CUDAGraph()
        with tg.cuda.graph(graph):
            before = tg._C._cuda_launches()
            y = F.scaled_dot_product_attention(q, k, v)
            n = tg._C._cuda_launches() - before
        graph.replay()
        return n, y.cpu()

    want = F.scaled_dot_product_attention(q, k, v).cpu()
    with ThreadPoolExecutor(1) as pool:
        n, found = pool.submit(record).result()
    assert n == 1
    np.testing.assert_allclose(found.float().numpy(), want.float().numpy(), rtol=2.0**-10, atol=2.0**-10)


@needs_cudnn
def test_what_says_nothing_is_compared_again():
    """The average of equal values is the same with and without a mask."""
    x = tg.ones(1, 1, 136, 64, device="cuda").half()
    for _ in range(2):
        before = tg._C._cuda_launches()
        y = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        assert (y == 1).all().item() and tg._C._cuda_launches() - before >= 2
    x = tg.randn(1, 1, 136, 64, device="cuda").half()
    assert launched(x, x, x, is_causal=True)[0] == 0


@emulated
def test_no_room_for_cudnns_workspace():
    q, k, v = (x.to("cuda") for x in halves(128, 128))
    assert launched(q, k, v)[0] == 0
    tg.memory.set_limit(tg.memory.live("cuda") + q.nbytes + 128, "cuda")  # it wants 256 bytes
    try:
        n, found = launched(q, k, v)
    finally:
        tg.memory.set_limit(0, "cuda")
    want = F.scaled_dot_product_attention(*(x.cpu().double() for x in (q, k, v)))
    assert n == 1
    np.testing.assert_allclose(found.cpu().double().numpy(), want.numpy(), rtol=2.0**-11, atol=16 * 2.0**-11)


@needs_cudnn
@pytest.mark.parametrize("causal", [False, True])
def test_cudnn_gives_the_same_bits_and_in_a_graph(causal):
    q, k, v = (x.to("cuda") for x in halves(130, 140))
    want = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert want.equal(F.scaled_dot_product_attention(q, k, v, is_causal=causal))
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    q.copy_(tg.randn(*q.shape, device="cuda"))
    graph.replay()
    assert y.equal(F.scaled_dot_product_attention(q, k, v, is_causal=causal)) and not y.equal(want)


@emulated
def test_half_types_that_a_device_refuses_are_not_tried_in_float32():
    """Without shared memory for any type as many kernels are launched as for float32."""
    program = """
leaves = [tg.randn(1, 1, 5, 6, device='cuda') for _ in range(3)]
for half in (False, True):
    before = tg._C._cuda_launches()
    tg.nn.functional.scaled_dot_product_attention(*(x.half() if half else x for x in leaves))
    print(tg._C._cuda_launches() - before - 3 * half)
"""
    of_float32, of_half = run_program(program, TG_EMU_SHARED_KB="16").split()
    assert of_half == of_float32 != "1"
