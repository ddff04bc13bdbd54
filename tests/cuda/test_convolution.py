"""Convolutions on a device, by cuDNN and by products, against the CPU in float64."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run

F = tg.nn.functional
cudnn = tg.backends.cudnn
emulated = pytest.mark.skipif(not tg.cuda.is_emulated(), reason="the emulation's libraries can be taken away")

# input, weight, options
CASES = [
    ((2, 3, 9, 8), (4, 3, 3, 3), {}),
    ((2, 3, 9, 8), (4, 3, 3, 2), {"padding": (1, 2)}),
    ((1, 4, 11, 10), (6, 2, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((2, 4, 7, 9), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
    ((1, 2, 12, 9), (3, 2, 3, 2), {"stride": (3, 2), "dilation": (2, 3), "padding": (2, 0)}),
    ((2, 3, 5, 5), (4, 3, 1, 1), {}),
    ((2, 3, 17), (4, 3, 5), {"stride": 2, "padding": 3, "dilation": 2}),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1)}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
]
EPS = {tg.float32: 2.0**-24, tg.float16: 2.0**-11, tg.bfloat16: 2.0**-8, tg.float64: 2.0**-53}


def convolve(n):
    return getattr(F, f"conv{n - 2}d")


def results(x, w, g, **options):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = convolve(x.dim())(x, w, **options)
    y.backward(g)
    return [y.detach(), x.grad, w.grad]


def operands(x_shape, w_shape, dtype, **options):
    tg.manual_seed(len(x_shape) + x_shape[-1])
    x, w = tg.randn(*x_shape).to(dtype), tg.randn(*w_shape).to(dtype)
    return x, w, tg.randn(*convolve(x.dim())(x, w, **options).shape).to(dtype)


@pytest.mark.parametrize("enabled", [True, False], ids=["cudnn", "products"])
@pytest.mark.parametrize("dtype", list(EPS), ids=str)
def test_values_and_gradients(dtype, enabled):
    for x_shape, w_shape, options in CASES:
        tensors = operands(x_shape, w_shape, dtype, **options)
        with cudnn.flags(enabled=enabled):
            found = results(*(t.to("cuda") for t in tensors), **options)
        want = results(*(t.double() for t in tensors), **options)
        scale = results(*(t.abs().double() for t in tensors), **options)
        terms = int(np.prod(x_shape)) + int(np.prod(w_shape))
        for a, b, s in zip(found, want, scale):
            assert a.dtype == dtype
            # a sum of fewer than `terms` products in float32 or double, rounded once to the result's type; without
            # cuDNN the sum of each step of the kernel is rounded to it too
            sums = EPS[tg.float64 if dtype == tg.float64 else tg.float32] * terms
            bound = s * (sums + 8 * EPS[dtype])
            assert ((a.cpu().double() - b).abs() <= bound).all(), (x_shape, w_shape, options)


def test_transposed_with_output_padding():
    """More room than there are windows: one of two strides fits a window more, which cuDNN does not take."""
    for stride, extra, dilation in ((2, 1, 1), (1, 1, 2), (3, 2, 1)):
        x, w = tg.randn(2, 4, 5, 6), tg.randn(4, 3, 3, 3)
        options = {"stride": stride, "output_padding": extra, "dilation": dilation, "padding": 1}
        found, want = [], []
        for out, move in ((found, lambda t: t.to("cuda")), (want, lambda t: t.double())):
            a, b = move(x).requires_grad_(), move(w).requires_grad_()
            y = F.conv_transpose2d(a, b, **options)
            (y * y).sum().backward()
            out += [y.detach(), a.grad, b.grad]
        for a, b in zip(found, want):
            np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_second_derivatives():
    found, want = [], []
    x, w = tg.randn(1, 2, 5, 5), tg.randn(3, 2, 3, 3)
    for out, move in ((found, lambda t: t.to("cuda")), (want, lambda t: t.double())):
        leaves = [move(t).requires_grad_() for t in (x, w)]
        y = F.conv2d(*leaves, padding=1, stride=2)
        grads = tg.autograd.grad((y * y).sum(), leaves, create_graph=True)
        out += tg.autograd.grad(sum((g * g).sum() for g in grads), leaves)
    for a, b in zip(found, want):
        np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_same_bits_each_time():
    tensors = [t.to("cuda") for t in operands(*CASES[2][:2], tg.float32, **CASES[2][2])]
    for a, b in zip(results(*tensors, **CASES[2][2]), results(*tensors, **CASES[2][2])):
        assert a.cpu().equal(b.cpu())


def test_tf32_only_where_it_was_asked_for():
    """1 + 2^-12 lies between numbers of TF32, which has 10 bits of fraction."""
    x, w = tg.full((1, 8, 4, 4), 1 + 2.0**-12, device="cuda"), tg.ones(8, 8, 3, 3, device="cuda")
    exact = np.float32(72 * (1 + 2.0**-12))

    def corner():
        return F.conv2d(x, w)[0, 0, 0, 0].item()

    assert not cudnn.allow_tf32 and corner() == exact
    with tg.backends.cuda.matmul.flags(allow_tf32=True):
        assert corner() == exact  # a switch of products
    with cudnn.flags(allow_tf32=True):
        assert cudnn.allow_tf32
        if tg.cuda.is_emulated():
            assert corner() == 72
    assert not cudnn.allow_tf32 and corner() == exact


@emulated
def test_many_groups_that_cudnn_refuses_go_through_products():
    """The emulated cuDNN refuses more than 64 groups."""
    x, w, g = operands((1, 65, 4, 4), (65, 1, 3, 3), tg.float32, groups=65)
    found = results(*(t.to("cuda") for t in (x, w, g)), groups=65)
    for a, b in zip(found, results(*(t.double() for t in (x, w, g)), groups=65)):
        np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


@emulated
def test_without_cudnn():
    """Where it is not installed the products serve, which the switch does not concern."""
    program = """
x, w = tg.full((1, 8, 4, 4), 1 + 2.0**-12, device='cuda'), tg.ones(8, 8, 3, 3, device='cuda')
tg.backends.cudnn.allow_tf32 = True
print(tg.nn.functional.conv2d(x, w)[0, 0, 0, 0].item() - 72)
"""
    assert float(run(program, TG_EMU_NO_DNN="1")) == 72 * 2.0**-12
    assert float(run(program)) == 0


@emulated
@pytest.mark.parametrize(("room", "by_cudnn"), [(0, True), (64 << 10, True), (16 << 10, False)])
def test_no_room_for_the_workspace_of_the_fastest_algorithm(room, by_cudnn):
    """128 KB for the fastest that the emulated cuDNN proposes, 32 KB for the next; without room for either, products."""
    tensors = operands((2, 3, 5, 4), (4, 3, 3, 3), tg.float32, padding=1)
    on_device = [t.to("cuda") for t in tensors]
    if room:
        tg.memory.set_limit(tg.memory.live("cuda") + room, "cuda")
    before = tg._C._cuda_launches()
    try:
        found = results(*on_device, padding=1)
    finally:
        tg.memory.set_limit(0, "cuda")
    assert (tg._C._cuda_launches() == before) == by_cudnn
    for a, b in zip(found, results(*(t.double() for t in tensors), padding=1)):
        np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


@emulated
def test_no_copy_is_made_to_pad():
    x, w = tg.randn(2, 3, 8, 8, device="cuda", requires_grad=True), tg.randn(4, 3, 3, 3, device="cuda")

    def launches():
        before = tg._C._cuda_launches()
        F.conv2d(x, w, padding=1)
        return tg._C._cuda_launches() - before

    assert launches() == 0  # the library's own are not counted
    with cudnn.flags(enabled=False):
        assert launches() > 0


def test_more_shapes_than_plans_are_kept():
    """1100 different convolutions, each right, and the first again."""
    w = tg.ones(1, 1, 1, device="cuda")
    for n in [*range(1, 1100), 1]:
        x = tg.ones(1, 1, n, device="cuda")
        y = F.conv1d(x, w)
        assert y.shape[-1] == n
    assert y.item() == 1


def test_in_a_graph():
    x, w = tg.randn(1, 3, 8, 8, device="cuda"), tg.randn(4, 3, 3, 3, device="cuda")
    F.conv2d(x, w, padding=1)  # what cuDNN keeps of its own is made before
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        y = F.conv2d(x, w, padding=1)
    x.copy_(tg.randn(1, 3, 8, 8, device="cuda"))
    graph.replay()
    assert y.equal(F.conv2d(x, w, padding=1))


@emulated
@pytest.mark.parametrize("known", [False, True])
def test_what_is_new_while_a_graph_is_recorded_goes_through_products(known):
    """Neither a choice of algorithms nor a thread's handle is made then."""
    shape = (1, 3, 9, 8 + known)
    x, w = tg.randn(*shape, device="cuda"), tg.randn(4, 3, 3, 3, device="cuda")
    if known:  # by another thread
        F.conv2d(x, w, padding=1)
    tg.cuda.synchronize()

    def record():
        graph = tg.cuda.CUDAGraph()
        with tg.cuda.graph(graph):
            before = tg._C._cuda_launches()
            y = F.conv2d(x, w, padding=1)
            n = tg._C._cuda_launches() - before
        graph.replay()
        return n, y.cpu()

    with ThreadPoolExecutor(1) as pool:
        n, found = pool.submit(record).result()
    assert n > 0
    np.testing.assert_allclose(found.numpy(), F.conv2d(x, w, padding=1).cpu().numpy(), rtol=1e-5, atol=1e-5)
