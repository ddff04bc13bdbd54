"""Attention on a device: operands of more dimensions and of other sizes than the query's, dropout of 1 and in graphs,
devices with little memory a block, and what is in memory meanwhile. As in test_attention_masks.py, against the
composite in float64 on the CPU."""

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run as run_program
from test_attention_masks import added, attention, bools, compare, emulated, launches, operands

cuda = tg.cuda


def of_sizes(*sizes):
    rng = np.random.default_rng(len(sizes))
    return [tg.tensor(rng.standard_normal(s)).float() for s in sizes]


LEADING = [(2, 3, 2), (2, 1, 3), (3, 1, 2, 2), (1, 1, 1, 2, 1, 2)]


@pytest.mark.parametrize("lead", LEADING, ids=str)
def test_more_dimensions(lead):
    leaves = of_sizes((*lead, 20, 6), (*lead, 18, 6), (*lead, 18, 5))
    compare(leaves, is_causal=True)
    compare(leaves, added(20, 18), dropout_p=0.3, magnitude=4.0)
    compare(leaves, added(*lead, 20, 18).requires_grad_(), dropout_p=0.3, magnitude=4.0)
    for repeated in range(len(lead)):
        sizes = [1 if d == repeated else n for d, n in enumerate(lead)]
        compare(leaves, added(*sizes, 20, 18).requires_grad_(), magnitude=4.0, where=str(repeated))
        compare(leaves, added(*sizes, 1, 18).requires_grad_(), magnitude=4.0, where=str(repeated))
    assert launches(*leaves) == 1  # axes that lie evenly are joined


def test_more_dimensions_in_any_layout():
    """Axes that cannot be joined are gone through: nothing is copied."""
    sizes = ((3, 2, 4, 20, 6), (3, 2, 4, 18, 6), (3, 2, 4, 18, 5))
    orders = [(0, 1, 2, 3, 4), (2, 1, 0, 3, 4), (3, 0, 1, 2, 4), (4, 2, 3, 0, 1)]
    for order in orders:
        back = [order.index(d) for d in range(5)]
        leaves = [x.permute(order).contiguous().permute(back) for x in of_sizes(*sizes)]
        assert leaves[0].stride() == of_sizes(sizes[0])[0].permute(order).contiguous().permute(back).stride()
        mask = added(3, 2, 4, 20, 18).permute(order).contiguous().permute(back)
        compare(leaves, mask.requires_grad_(), dropout_p=0.2, magnitude=4.0, where=str(order))
        compare([leaves[0], leaves[1][:, :1], leaves[2][:1, :, :1]], bools(2, 1, 1, 18), where=str(order))


REPEATED = [
    ((2, 2, 20, 6), (2, 1, 18, 6), (1, 2, 18, 5)),
    ((1, 1, 20, 6), (2, 3, 18, 6), (2, 3, 18, 5)),
    ((20, 6), (3, 18, 6), (2, 1, 18, 5)),
    ((3, 20, 6), (18, 6), (18, 5)),
    ((4, 20, 6), (2, 1, 18, 6), (18, 5)),
]


@pytest.mark.parametrize("sizes", REPEATED, ids=str)
def test_operands_that_repeat(sizes):
    compare(of_sizes(*sizes), dropout_p=0.3, is_causal=True, magnitude=4.0)
    compare(of_sizes(*sizes), added(20, 18).requires_grad_(), magnitude=4.0)
    assert launches(*of_sizes(*sizes)) == 1


@pytest.mark.parametrize("shape", [(3, 1, 1, 20, 18), (4, 2, 20, 18), (3, 1, 1, 1, 18)], ids=str)
@pytest.mark.parametrize("make", [bools, added])
def test_masks_larger_than_the_scores(shape, make):
    leaves = of_sizes((2, 20, 6), (2, 18, 6), (2, 18, 5))
    mask = make(*shape)
    compare(leaves, mask.requires_grad_() if make is added else mask, dropout_p=0.3, magnitude=8.0)
    assert launches(*leaves, attn_mask=mask.detach().to("cuda")) == 1


def test_one_query_under_several_rows_of_a_mask():
    leaves = of_sizes((2, 1, 6), (2, 18, 6), (2, 18, 5))
    compare(leaves, added(7, 18).requires_grad_(), magnitude=4.0)
    with pytest.raises(tg.ShapeError, match="attn_mask is for 7 keys, there are 1"):
        attention(leaves[0], leaves[1][:, :1], leaves[2][:, :1], added(7, 7))


def test_dropout_of_everything():
    """Zeros, and no numbers are drawn."""
    for mask in (None, added(70, 67).requires_grad_()):
        compare(operands(), mask, dropout_p=1.0)
    leaves = [x.to("cuda").requires_grad_() for x in operands()]
    place = tg.get_rng_state()
    y = attention(*leaves, dropout_p=1.0)
    y.sum().backward()
    assert all((x == 0).all().item() for x in (y, *(x.grad for x in leaves)))
    assert place.equal(tg.get_rng_state()) and launches(*operands(), dropout_p=1.0) == 1


def test_doubles_beyond_float32_in_a_mask():
    """Finite numbers stay finite: a row of the lowest is an average, the largest one takes all."""
    q, k, v = operands(4, 5)
    mask = tg.zeros(4, 5, dtype=tg.float64)
    mask[0], mask[1, 2], mask[2], mask[3, 1] = tg.finfo(tg.float64).min, 1e300, -float("inf"), float("nan")
    y = attention(*(x.to("cuda") for x in (q, k, v)), mask.to("cuda")).cpu()
    np.testing.assert_allclose(y[:, :, 0].numpy(), v.mean(2).numpy(), rtol=1e-5, atol=1e-6)
    assert y[:, :, 1].equal(v[:, :, 2]) and (y[:, :, 2] == 0).all().item() and tg.isnan(y[:, :, 3]).all().item()


# ---- graphs


def test_dropout_in_a_graph():
    """Each replay draws the numbers that an eager call would, forward and backward, in one graph or in two."""
    mask = added(20, 20).to("cuda")
    leaves = [x.to("cuda").requires_grad_() for x in operands(20, 20)]
    weights = tg.randn(2, 2, 20, 5, device="cuda")

    def eager():
        y = attention(*leaves, mask, dropout_p=0.5)
        return [x.cpu() for x in (y.detach(), *tg.autograd.grad((y * weights).sum(), leaves))]

    tg.manual_seed(4)
    want = [eager() for _ in range(3)]
    for split in (False, True):
        tg.manual_seed(4)
        first, second = cuda.CUDAGraph(), cuda.CUDAGraph()
        with cuda.graph(first):
            y = attention(*leaves, mask, dropout_p=0.5)
            if not split:
                grads = tg.autograd.grad((y * weights).sum(), leaves)
        if split:
            with cuda.graph(second, pool=first.pool()):
                grads = tg.autograd.grad((y * weights).sum(), leaves)
        for expected in want:
            first.replay()
            if split:
                second.replay()
            found = [x.cpu() for x in (y.detach(), *grads)]
            assert (found[0] == 0).equal(expected[0] == 0)
            for a, b in zip(found, expected):
                assert a.equal(b)  # the same kernels and numbers
        del y, grads


def test_second_derivatives_in_a_graph():
    """By the composite, which draws the same numbers again from where they were kept."""
    leaves = [x.to("cuda").requires_grad_() for x in operands(6, 6, batch=1)]

    def second():
        y = attention(*leaves, dropout_p=0.3)
        grads = tg.autograd.grad((y * y).sum(), leaves, create_graph=True)
        return tg.autograd.grad(sum((g * g).sum() for g in grads), leaves)

    tg.manual_seed(2)
    want = [[x.cpu() for x in second()] for _ in range(2)]
    tg.manual_seed(2)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        recorded = second()
    for expected in want:
        graph.replay()
        for a, b in zip(recorded, expected):
            np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-4, atol=1e-4)


# ---- memory


def wide(*sizes):
    return [tg.randn(*s, device="cuda").requires_grad_() for s in sizes]


CASES = {
    "a mask": lambda n: (wide(*[(1, 2, n, 8)] * 3), {"attn_mask": tg.rand(n, device="cuda") > 0.2}),
    "causal dropout": lambda n: (wide(*[(1, 2, n, 8)] * 3), {"dropout_p": 0.1, "is_causal": True}),
    "five dimensions": lambda n: (wide(*[(1, 2, 1, n, 8)] * 3), {"dropout_p": 0.1}),
    "repeated": lambda n: (wide((2, n, 8), (1, n, 8), (n, 8)), {"attn_mask": tg.rand(1, 1, n, device="cuda") > 0.2}),
    "nothing left": lambda n: (wide(*[(1, 2, n, 8)] * 3), {"dropout_p": 1.0}),
    "doubles": lambda n: (wide(*[(1, 2, n, 8)] * 3), {"attn_mask": tg.randn(n, device="cuda").double()}),
    "a bias of keys": lambda n: (wide(*[(2, 1, n, 8)] * 3), {"attn_mask": wide((n,))[0], "dropout_p": 0.1}),
    "a bias of queries": lambda n: (wide(*[(2, 1, n, 8)] * 3), {"attn_mask": wide((2, 1, n, 1))[0]}),
}


@pytest.mark.parametrize("name", CASES)
def test_no_matrix_of_weights_in_memory(name):
    """Queries times keys are 2 * 1024 * 1024 weights of 4 bytes; a byte a weight would be more than is taken."""
    leaves, options = CASES[name](1024)
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    attention(*leaves, **options).sum().backward()
    cuda.synchronize()
    assert cuda.max_memory_allocated() - before < 2 * 1024 * 1024


def test_one_matrix_for_the_gradient_of_a_matrix():
    """4 MB for each of two heads: the gradient alone, of a mask that all share, and of one that nobody does."""
    leaves = wide(*[(1, 2, 1024, 8)] * 3)
    for heads in (1, 2):
        mask = wide((heads, 1024, 1024))[0]
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        y = attention(*leaves, mask)
        tg.autograd.grad(y.sum(), [mask])
        cuda.synchronize()
        assert cuda.max_memory_allocated() - before < heads * 1024 * 1024 * 4 + (2 << 20)


def test_no_matrix_of_weights_in_a_graph():
    leaves = wide(*[(1, 2, 1024, 8)] * 3)
    cuda.synchronize()
    graph = cuda.CUDAGraph()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    with cuda.graph(graph):
        attention(*leaves, dropout_p=0.1).sum().backward()
    assert cuda.max_memory_allocated() - before < 2 * 1024 * 1024


LEFT_OUT = """
import numpy as np
leaves = [tg.randn(3, 2, 33, 7) for _ in range(3)]
bias = tg.randn(2, 1, 33)
results = []
for device in ("cuda", "cpu"):
    there = [x.to(device).requires_grad_() for x in (*leaves, bias)]
    tg.manual_seed(6)
    tg.nn.functional.scaled_dot_product_attention(*there, 0.3).pow(2).sum().backward()
    results.append([x.grad.cpu().numpy() for x in there])
for a, b in zip(*results):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
there = [tg.randn(2, 1024, 4, device="cuda").requires_grad_() for _ in range(3)]
cuda.reset_peak_memory_stats()
before = cuda.memory_allocated()
tg.nn.functional.scaled_dot_product_attention(*there, is_causal=True).sum().backward()
cuda.synchronize()
print("same", (cuda.max_memory_allocated() - before) >> 20)
"""


@emulated
@pytest.mark.parametrize("kilobytes", ["16", "60"])
def test_devices_with_little_shared_memory(kilobytes):
    """Without the kernels, or those of backward, slices of 2^20 weights draw the same numbers again: six of 4 MB live
    at once at most, of 2 * 2^20 weights that would be twice as many."""
    same, megabytes = run_program(LEFT_OUT, TG_EMU_SHARED_KB=kilobytes).split()
    assert same == "same" and int(megabytes) < 7 * 4
