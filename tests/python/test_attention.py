"""Attention in tiles: float32 against the composite in float64, around the edges of tiles, in odd layouts."""

import itertools

import numpy as np
import pytest
import tinygrad_cpp as tg

F = tg.nn.functional
SIZES = [(1, 1), (5, 3), (15, 16), (16, 17), (64, 64), (65, 63), (63, 130), (129, 65), (70, 1100), (1100, 70)]


def arrays(queries, keys, heads=2, features=7, width=5):
    rng = np.random.default_rng(queries * 4099 + keys)
    sizes = ((queries, features), (keys, features), (keys, width))
    return [rng.standard_normal((2, heads, n, f)) for n, f in sizes]


def heads_inside(a):
    """The same values with the heads inside the positions in memory, as a projection leaves them."""
    return tg.tensor(np.ascontiguousarray(a.transpose(0, 2, 1, 3))).transpose(1, 2)


LAYOUTS = {
    "plain": tg.tensor,
    "heads inside": heads_inside,
    "transposed": lambda a: tg.tensor(np.ascontiguousarray(a.swapaxes(2, 3))).transpose(2, 3),
    "stepped": lambda a: tg.tensor(np.repeat(a, 2, axis=3))[..., ::2],
    "reversed": lambda a: tg.tensor(np.ascontiguousarray(a[:, :, ::-1])).flip(2),
}


def attend(query, key, value, is_causal=False, scale=None):
    """In tiles for every size; F.scaled_dot_product_attention keeps few weights instead."""
    if query.dtype == tg.float64:
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)
    return tg._C._call_op("tiled_attention", query, key, value, is_causal, scale or query.size(-1) ** -0.5)


def run(inputs, dtype, layout, fast=True, **options):
    leaves = [layout(a).to(dtype).detach().requires_grad_() for a in inputs]
    tg._C._set_fast_paths(fast)
    try:
        y = attend(*leaves, **options)
        weights = tg.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape))).to(dtype)
        (y * weights).sum().backward()
    finally:
        tg._C._set_fast_paths(True)
    return [y.detach().numpy(), *(x.grad.numpy() for x in leaves)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients_around_tile_edges(sizes, causal):
    for name, layout in LAYOUTS.items() if sizes[0] * sizes[1] < 5000 else [("plain", tg.tensor)]:
        inputs = arrays(*sizes)
        found = run(inputs, tg.float32, layout, is_causal=causal)
        want = run(inputs, tg.float64, layout, fast=False, is_causal=causal)
        for a, b, of in zip(found, want, ("output", "query", "key", "value")):
            # A chain of two products of at most `terms` float terms of order 1 and one exponential: each rounds by
            # 2^-24 of the terms' magnitudes, which add up to less than 8 * sqrt(terms) here.
            bound = 2.0**-24 * 64 * (1 + np.sqrt(max(sizes)))
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=bound, err_msg=f"{name}: {of}")


@pytest.mark.parametrize("causal", [False, True])
def test_dimensions_and_scale(causal):
    q, k, v = arrays(9, 9)
    for cut in (lambda a: a, lambda a: a[0], lambda a: a[0, 0]):
        inputs = [cut(a) for a in (q, k, v)]
        found, want = (run(inputs, t, tg.tensor, is_causal=causal, scale=0.7) for t in (tg.float32, tg.float64))
        for a, b in zip(found, want):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)  # as above, with 9 terms


def test_half_types_go_through_float32():
    inputs = arrays(33, 40)
    for t, eps in ((tg.float16, 2.0**-11), (tg.bfloat16, 2.0**-8)):
        halves = [tg.tensor(a).to(t) for a in inputs]
        exact = F.scaled_dot_product_attention(*(h.to(tg.float64) for h in halves)).numpy()
        found = F.scaled_dot_product_attention(*halves)
        assert found.dtype == t
        # one rounding of the result, of magnitude below 4
        np.testing.assert_allclose(found.to(tg.float64).numpy(), exact, rtol=eps, atol=4 * 2.0**-20)


def test_second_derivatives():
    leaves = [tg.tensor(a).float().requires_grad_() for a in arrays(6, 6, heads=1)]

    def second():
        y = attend(*leaves, is_causal=True)
        grads = tg.autograd.grad((y * y).sum(), leaves, create_graph=True)
        return tg.autograd.grad(sum((g * g).sum() for g in grads), leaves)

    wide = [x.detach().double().requires_grad_() for x in leaves]
    found, leaves = second(), wide
    for a, b in zip(found, second()):  # derivatives of order 10 through six products of float terms
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [tg.float32, tg.float64], ids=str)
def test_rows_of_the_lowest_number_are_averages(dtype, fast):
    """Added to every score of a row it leaves them equal; only rows of -inf are 0."""
    q, k, v = (tg.tensor(a).to(dtype) for a in arrays(3, 5))
    mask = tg.zeros(3, 5, dtype=dtype)
    mask[1], mask[2] = tg.finfo(dtype).min, -float("inf")
    tg._C._set_fast_paths(fast)
    try:
        y = F.scaled_dot_product_attention(q, k, v, mask)
    finally:
        tg._C._set_fast_paths(True)
    np.testing.assert_allclose(y[:, :, 1].numpy(), v.mean(2).numpy(), rtol=1e-5, atol=1e-6)
    assert (y[:, :, 2] == 0).all().item() and not (y[:, :, 0] == 0).any().item()


def test_the_same_bits_for_any_number_of_threads():
    inputs, before, results = arrays(150, 150), tg.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            tg.set_num_threads(n)
            results.append(run(inputs, tg.float32, tg.tensor, is_causal=True))
    finally:
        tg.set_num_threads(before)
    for other, (i, want) in itertools.product(results[1:], enumerate(results[0])):
        assert (other[i] == want).all()


INF = float("inf")


def hidden(*shape):
    """Values of order 1, and -inf at a tenth and in all of row 3."""
    rng = np.random.default_rng(len(shape))
    values = np.where(rng.random(shape) < 0.1, -INF, rng.standard_normal(shape))
    if len(shape) > 1 and shape[-2] > 3:
        values[..., 3, :] = -INF
    return tg.tensor(values)


def with_rule(leaves, dtype, mask=None, p=0.0, causal=False, fast=True):
    """Result and gradients of tiled_attention, also of a mask that wants one; otherwise by the composite."""
    leaves = [x.to(dtype).detach().requires_grad_() for x in leaves]
    if mask is not None and mask.requires_grad:
        mask = mask.detach().requires_grad_()
        leaves.append(mask)
    tg._C._set_fast_paths(fast)
    try:
        y = tg._C._call_op("tiled_attention", *leaves[:3], causal, 0.4, mask, p, 3, 1)
        weights = tg.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape))).to(dtype)
        (y * weights).sum().backward()
    finally:
        tg._C._set_fast_paths(True)
    return [y.detach(), *(x.grad for x in leaves)]


# One head, several and parts of one are a slice of 2^16 weights where there is no kernel.
RULES = [(9, 11), (65, 63), (130, 140), (300, 500)]


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64, tg.float16, tg.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", RULES, ids=str)
def test_masks_and_dropout(sizes, dtype):
    eps = {tg.float16: 2.0**-11, tg.bfloat16: 2.0**-8}.get(dtype, 0.0)
    leaves = [tg.tensor(a).to(dtype) for a in arrays(*sizes)]
    mask = hidden(*sizes).to(dtype)
    cases = [
        dict(mask=hidden(*sizes) == -INF),
        dict(mask=mask),
        dict(p=0.4, causal=True),
        dict(mask=hidden(2, 1, *sizes).to(dtype), p=0.3),
        dict(mask=mask.detach().requires_grad_(), p=0.3),
        dict(mask=hidden(2, 2, *sizes).to(dtype).requires_grad_(), causal=True),
        dict(mask=hidden(2, 1, 1, sizes[1]).to(dtype).requires_grad_()),
        dict(mask=hidden(2, sizes[0], 1).to(dtype).requires_grad_(), p=0.3),
        dict(p=1.0),
    ]
    for case in cases:
        found = with_rule(leaves, dtype, **case)
        case = {k: v.double() if k == "mask" and v.dtype != tg.bool else v for k, v in case.items()}
        if "mask" in case and case["mask"].grad_fn is not None:
            case["mask"] = case["mask"].detach().requires_grad_()
        want = with_rule(leaves, tg.float64, **case, fast=False)
        assert len(found) == len(want)
        for a, b, of in zip(found, want, ("output", "query", "key", "value", "mask")):
            # As above; the gradient of a mask sums up to 4 * 500 slopes, dropout makes terms up to 1 / 0.6 larger.
            bound = 2.0**-24 * 64 * (1 + np.sqrt(max(sizes))) * 4 + 16 * eps
            np.testing.assert_allclose(
                a.double().numpy(), b.numpy(), rtol=max(1e-5, eps), atol=bound, err_msg=f"{case.keys()}: {of}"
            )


def test_operands_of_any_sizes():
    """More dimensions, operands that repeat along others, and masks larger than all: values and gradients."""
    shapes = [
        ((2, 3, 2, 60, 6), (2, 3, 2, 50, 6), (2, 3, 2, 50, 5), (2, 1, 1, 1, 50)),
        ((2, 1, 60, 6), (1, 3, 50, 6), (2, 3, 50, 5), (60, 50)),
        ((60, 6), (2, 50, 6), (3, 1, 50, 5), (1, 60, 1)),
        ((2, 60, 6), (2, 50, 6), (2, 50, 5), (4, 1, 60, 50)),
        ((2, 1, 6), (2, 2400, 6), (2, 2400, 5), (3, 2400)),
    ]
    for sizes in shapes:
        rng = np.random.default_rng(len(sizes[0]))
        made = [tg.tensor(rng.standard_normal(s)) for s in sizes]
        results = []
        for dtype, fast in ((tg.float32, True), (tg.float64, True), (tg.float64, False)):
            leaves = [x.to(dtype).detach().requires_grad_() for x in made]
            tg.manual_seed(5)
            tg._C._set_fast_paths(fast)
            try:
                y = F.scaled_dot_product_attention(*leaves, 0.2)
                y.pow(2).sum().backward()
            finally:
                tg._C._set_fast_paths(True)
            results.append([y.detach().numpy(), *(x.grad.numpy() for x in leaves)])
        for found in results[:2]:
            for a, b in zip(found, results[2]):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4, err_msg=str(sizes))  # of up to 12 * 2400 terms


def test_dropout_of_everything():
    """Zeros, and no numbers are drawn."""
    for sizes in ((9, 9), (70, 70)):
        leaves = [tg.tensor(a).float().requires_grad_() for a in arrays(*sizes)]
        place = tg.get_rng_state()
        y = F.scaled_dot_product_attention(*leaves, dropout_p=1.0)
        y.sum().backward()
        assert all((x == 0).all().item() for x in (y, *(x.grad for x in leaves)))
        assert place.equal(tg.get_rng_state())


def test_masks_of_doubles():
    """Finite numbers stay finite in float32: a row of the lowest is an average, the largest one takes all."""
    q, k, v = (tg.tensor(a).float() for a in arrays(60, 50))
    mask = tg.zeros(60, 50, dtype=tg.float64)
    mask[0], mask[1, 2], mask[2], mask[3, 1] = tg.finfo(tg.float64).min, 1e300, -INF, float("nan")
    y = F.scaled_dot_product_attention(q, k, v, mask)
    assert y.dtype == tg.float32
    np.testing.assert_allclose(y[:, :, 0].numpy(), v.mean(2).numpy(), rtol=1e-5, atol=1e-6)
    assert y[:, :, 1].equal(v[:, :, 2]) and (y[:, :, 2] == 0).all().item() and tg.isnan(y[:, :, 3]).all().item()


T = 2048
CASES = {
    "causal": dict(is_causal=True),
    "a mask": dict(attn_mask=lambda: tg.rand(T) > 0.2),
    "dropout": dict(dropout_p=0.1),
    "all dropped": dict(dropout_p=1.0),
    "float64": dict(dtype=tg.float64, is_causal=True),
    "a bias of keys": dict(attn_mask=lambda: tg.randn(T).requires_grad_(), dropout_p=0.1),
    "doubles": dict(attn_mask=lambda: tg.randn(T, dtype=tg.float64)),
    "five dimensions": dict(lead=(1, 1, 1), dropout_p=0.1),
    "repeated": dict(lead=(), attn_mask=lambda: tg.rand(1, 1, 1, T) > 0.2),
}


@pytest.mark.parametrize("name", CASES)
def test_no_matrix_of_all_weights_is_in_memory(name):
    case = dict(CASES[name])
    lead, dtype = case.pop("lead", (1, 1)), case.pop("dtype", tg.float32)
    leaves = [tg.randn(*lead, T, 16, dtype=dtype).requires_grad_() for _ in range(3)]
    if "attn_mask" in case:
        case["attn_mask"] = case["attn_mask"]()
    tg.memory.reset_peak()
    before = tg.memory.peak()
    F.scaled_dot_product_attention(*leaves, **case).sum().backward()
    assert tg.memory.peak() - before < T * T * 4 / 4
