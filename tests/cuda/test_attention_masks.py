"""Attention on a device with masks and dropout: by tiles, against the composite in float64 on the CPU, which draws the
same numbers. tests/cuda/test_attention_cases.py has operands of other sizes, graphs, and what is in memory."""

import os

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run as run_program

attention = tg.nn.functional.scaled_dot_product_attention
emulated = pytest.mark.skipif(not tg.cuda.is_emulated(), reason="the emulation's memory can be taken away")
INF = float("inf")
# Half a unit of rounding of each type's fraction, see tests/cuda/test_attention.py.
EPS = {tg.float32: 0.0, tg.float16: 2.0**-11, tg.bfloat16: 2.0**-8, tg.float64: 0.0}


def operands(queries=70, keys=67, features=6, width=5, batch=2, heads=2, dtype=tg.float32):
    rng = np.random.default_rng(queries * 4099 + keys)
    sizes = ((queries, features), (keys, features), (keys, width))
    return [tg.tensor(rng.standard_normal((batch, heads, *s))).to(dtype) for s in sizes]


def bools(*shape):
    """Hides a third, and all of row 3 where there are rows."""
    mask = tg.tensor(np.random.default_rng(len(shape)).random(shape) > 0.3)
    if len(shape) > 1 and shape[-2] > 3:
        mask[..., 3, :] = False
    return mask


def added(*shape):
    """Values of order 1, and -inf where bools() hides."""
    values = np.random.default_rng(7).standard_normal(shape)
    return tg.where(bools(*shape), tg.tensor(values).float(), -INF)


def gradients(leaves, mask=None, seed=5, **options):
    """The result, and gradients of the leaves and of a mask that wants one."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    if mask is not None and mask.requires_grad:
        leaves.append(mask)
    tg.manual_seed(seed)
    y = attention(*leaves[:3], mask, **options)
    place = tg.get_rng_state()
    weights = tg.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape))).to(y.dtype).to(y.device)
    (y * weights).sum().backward()
    return [y.detach(), *(x.grad for x in leaves)], place


def compare(leaves, mask=None, magnitude=1.0, where="", **options):
    dtype = leaves[0].dtype
    wide = mask.double() if mask is not None and mask.dtype != tg.bool else mask
    there = None if mask is None else mask.detach().to("cuda")
    if mask is not None and mask.requires_grad:
        wide, there = wide.detach().requires_grad_(), there.requires_grad_()
    found, place = gradients([x.to("cuda") for x in leaves], there, **options)
    tg._C._set_fast_paths(False)  # the composite
    try:
        want, same_place = gradients([x.double() for x in leaves], wide, **options)
    finally:
        tg._C._set_fast_paths(True)
    assert place.equal(same_place)
    terms = max(leaves[0].shape[-2], leaves[1].shape[-2])
    bound = (2.0**-24 * 64 * (1 + np.sqrt(terms)) + 16 * EPS[dtype]) * magnitude
    for a, b, of in zip(found, want, ("output", "query", "key", "value", "mask")):
        assert a.device.type == "cuda" and a.dtype == (mask.dtype if of == "mask" else dtype)
        np.testing.assert_allclose(
            a.cpu().double().numpy(), b.numpy(), rtol=max(1e-5, EPS[a.dtype]), atol=bound, err_msg=f"{where} {of}"
        )


def launches(*leaves, **options):
    leaves = [x.to("cuda") for x in leaves]
    before = tg._C._cuda_launches()
    attention(*leaves, **options)
    return tg._C._cuda_launches() - before


SHAPES = [(), (1,), (67,), (70, 1), (70, 67), (1, 70, 67), (2, 70, 67), (2, 1, 1, 67), (2, 2, 70, 67), (1, 1, 1, 1)]


@pytest.mark.parametrize("make", [bools, added])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_of_every_shape(shape, make):
    compare(operands(), make(*shape))
    assert launches(*operands(), attn_mask=make(*shape).to("cuda")) == 1


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize("kind", ["bool", "float16", "bfloat16", "float32", "float64"])
def test_types_of_masks(kind, dtype):
    mask = bools(70, 67) if kind == "bool" else added(70, 67).to(getattr(tg, kind))
    compare(operands(dtype=dtype), mask)


def test_layouts_of_masks():
    mask = added(2, 2, 70, 67)
    steps = mask.repeat_interleave(2, -1)[..., ::2]
    for m in (mask.transpose(2, 3).contiguous().transpose(2, 3), steps, mask.flip(3).flip(3), mask[:, 1:2], mask[1, 0]):
        compare(operands(), m)
    compare([x[0] for x in operands()], mask[0, 0], where="three dimensions")
    compare([x[0, 0] for x in operands()], mask[0, 0], where="two dimensions")


FAR = """
import numpy as np
row = 2**31 + 64
memory = tg.empty(row + 67, dtype=tg.bool, device="cuda")
mask = memory.as_strided((2, 67), (row, 1))
near = tg.tensor(np.random.default_rng(0).random((2, 67)) > 0.3)
mask.copy_(near)
q, k, v = (tg.randn(1, 1, n, 4) for n in (2, 67, 67))
attention = tg.nn.functional.scaled_dot_product_attention
found = attention(*(x.to("cuda") for x in (q, k, v)), mask).cpu()
np.testing.assert_allclose(found.numpy(), attention(q, k, v, near).numpy(), rtol=1e-5, atol=1e-5)
print("same")
"""


@pytest.mark.skipif(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 8 << 30, reason="takes 2 GiB")
def test_rows_of_a_mask_may_lie_far_apart():
    """Beyond 2^31 elements."""
    assert run_program(FAR) == "same"


def test_rows_that_see_nothing():
    """0, and no gradient, however they are hidden; as on the CPU, rows of the lowest number are averages."""
    leaves = operands(40, 33)
    hidden = tg.zeros(40, 33, dtype=tg.bool)
    for mask in (hidden, tg.where(hidden, 0.0, -INF)):
        found, _ = gradients([x.to("cuda") for x in leaves], mask.to("cuda"))
        assert all((x == 0).all().item() for x in found)
    for dtype in (tg.float32, tg.float64):
        lowest = tg.full((40, 33), tg.finfo(dtype).min, dtype=dtype)
        y = attention(*(x.to(dtype).to("cuda") for x in leaves), lowest.to("cuda")).cpu()
        np.testing.assert_allclose(y.numpy(), leaves[2].mean(2, keepdim=True).expand(y.shape).numpy(), atol=1e-5)


def test_what_is_hidden_may_be_no_number():
    """A bool mask hides scores that are NaN; an added -inf does not."""
    q, k, v = operands(20, 20)
    k[0, 0, 4, 0] = float("nan")
    see = tg.ones(20, 20, dtype=tg.bool)
    see[:, 4] = False
    for mask in (see, tg.where(see, 0.0, -INF)):
        found = attention(q.to("cuda"), k.to("cuda"), v.to("cuda"), mask.to("cuda")).cpu()
        want = attention(q.double(), k.double(), v.double(), mask)
        assert tg.isnan(found).equal(tg.isnan(want)) and tg.isnan(found).any().item() == (mask is not see)


@pytest.mark.parametrize("make", [None, bools, added])
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_keeps_what_the_cpu_keeps(causal, make):
    """Of a value that is 1 at its key alone the result is the weight, which is 0 where it was dropped."""
    if causal and make:
        pytest.skip("attention takes a mask or is causal")
    q, k, _ = operands(40, 67)
    v = tg.eye(67).expand(2, 2, 67, 67)
    mask = None if make is None else make(40, 67)
    results = []
    for device in ("cuda", "cpu"):
        tg.manual_seed(3)
        given = None if mask is None else mask.to(device)
        results.append(attention(*(x.to(device) for x in (q, k, v)), given, 0.4, causal).cpu())
    found, want = results
    assert (found == 0).equal(want == 0) and 0.3 < (want[:, :, -1] == 0).float().mean().item() < 0.7
    np.testing.assert_allclose(found.numpy(), want.numpy(), rtol=1e-5)


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize("p", [1e-3, 0.5, 0.9])
def test_dropout_and_its_gradients(p, dtype):
    leaves = operands(dtype=dtype)
    compare(leaves, dropout_p=p, is_causal=True, magnitude=1 / (1 - p))
    compare(leaves, bools(70, 67), dropout_p=p, magnitude=1 / (1 - p))
    assert launches(*leaves, dropout_p=p) == 1


@pytest.mark.parametrize(("features", "width"), [(129, 5), (4, 257), (300, 200)])
def test_masks_and_dropout_of_many_features(features, width):
    leaves = operands(33, 35, features, width)
    compare(leaves, added(33, 35), dropout_p=0.3, magnitude=np.sqrt(features + width))


MASKS = [(70, 67), (2, 2, 70, 67), (2, 1, 70, 67), (2, 1, 67), (2, 1, 1, 67), (70, 1), (2, 2, 70, 1), (1,), (2, 1, 1, 1)]


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_gradient_of_a_mask(shape, p):
    """It sums what the mask was repeated over: up to 67 times 4 rows, whose terms are slopes of order 1."""
    compare(operands(), added(*shape).requires_grad_(), dropout_p=p, magnitude=4.0)


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_types_of_a_masks_gradient(kind, dtype):
    for shape in ((70, 67), (2, 1, 1, 67)):
        mask = added(*shape).to(getattr(tg, kind))
        compare(operands(dtype=dtype), mask.requires_grad_(), magnitude=4.0)


def test_second_derivatives():
    mask = added(6, 6)

    def second(device, dtype):
        leaves = [x.to(dtype).to(device).requires_grad_() for x in operands(6, 6, batch=1)]
        tg.manual_seed(2)
        y = attention(*leaves, mask.to(dtype).to(device), dropout_p=0.3)
        grads = tg.autograd.grad((y * y).sum(), leaves, create_graph=True)
        return tg.autograd.grad(sum((g * g).sum() for g in grads), leaves)

    for a, b in zip(second("cuda", tg.float32), second("cpu", tg.float64)):  # see tests/python/test_attention.py
        np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-4, atol=1e-3)


def test_same_bits_each_time():
    leaves = [x.to("cuda") for x in operands()]
    mask = added(70, 67).to("cuda")
    for a, b in zip(*(gradients(leaves, mask, dropout_p=0.3)[0] for _ in range(2))):
        assert a.equal(b)


def test_a_layer_with_padding_and_dropout():
    """nn.MultiheadAttention hides padded keys by a mask, and drops weights."""
    results = []
    for device in ("cuda", "cpu"):
        tg.manual_seed(1)
        layer = tg.nn.MultiheadAttention(16, 4, dropout=0.2, batch_first=True).to(device)
        x = tg.tensor(np.random.default_rng(2).standard_normal((3, 12, 16))).float().to(device).requires_grad_()
        padding = (tg.arange(12) >= tg.tensor([[12], [7], [3]])).to(device)
        tg.manual_seed(9)
        layer(x, x, x, key_padding_mask=padding, need_weights=False)[0].pow(2).sum().backward()
        results.append([x.grad.cpu(), *(p.grad.cpu() for p in layer.parameters())])
    for a, b in zip(*results):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)
