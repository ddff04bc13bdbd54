"""Products by cuBLASLt, by cuBLAS and by the own kernel: biases, layouts, TF32. Which one is asked is set per process."""

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run

F = tg.nn.functional
emulated = pytest.mark.skipif(not tg.cuda.is_emulated(), reason="the emulation's libraries can be taken away")

# Largest error of a sum of k products in float32, over the sum of their magnitudes: k roundings of 2^-24, and one of the
# result's type.
EPS = {tg.float32: 2.0**-24, tg.float64: 2.0**-53, tg.bfloat16: 2.0**-8, tg.float16: 2.0**-11}


def linear_cases(dtype):
    """(input, weight, bias): rows of one and many, batches, transposed and sliced operands, unaligned memory."""

    def t(*shape):
        return tg.randn(*shape).to(dtype)

    yield t(5, 7), t(3, 7), t(3)
    yield t(1, 40), t(17, 40), t(17)
    yield t(2, 3, 33), t(8, 33), t(8)
    yield t(40, 6).T, t(9, 40), t(9)
    yield t(6, 80)[:, ::2], t(40, 9).T, t(9)
    yield t(65)[1:].view(8, 8), t(5, 8), t(6)[1:]
    yield t(4, 8), t(1, 8), t(1)
    yield t(1, 8), t(1, 8), t(1)
    yield t(4, 8), t(3, 8), t(6)[::2]
    yield t(4, 0), t(3, 0), t(3)
    yield t(0, 4), t(3, 4), t(3)


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
def test_linear_adds_its_bias(dtype):
    for x, w, b in linear_cases(dtype):
        got = F.linear(x.to("cuda"), w.to("cuda"), b.to("cuda"))
        wide = [v.double() for v in (x, w, b)]
        want, scale = F.linear(*wide), F.linear(*(v.abs() for v in wide))
        k = w.shape[1]
        sums = EPS[tg.float64 if dtype == tg.float64 else tg.float32] * (k + 2)
        assert got.dtype == dtype and got.device.type == "cuda"
        bound = scale * (sums + 2 * EPS[dtype])  # rounded once; twice where the bias is written first
        assert ((got.cpu().double() - want).abs() <= bound).all(), (dtype, tuple(x.shape), tuple(w.shape))


def test_linear_in_training_is_one_launch_less():
    x, w, b = tg.randn(4, 8, device="cuda"), tg.randn(3, 8, device="cuda"), tg.randn(3, device="cuda")

    def launches(call):
        before = tg._C._cuda_launches()
        call()
        return tg._C._cuda_launches() - before

    assert launches(lambda: F.linear(x, w, b)) == 0  # the library's product alone, which is not counted
    assert launches(lambda: F.linear(x.double(), w.double(), b.double())) == 4  # three casts; the bias is written first


def gelu(x):
    return F.gelu(x, approximate="tanh")


def gelu_cases(dtype):
    """Those of linear, which have odd numbers of columns or few, with and without bias, and some that are multiples of 8,
    as the library wants them where it stores what gelu is applied to."""
    for x, w, b in [*linear_cases(dtype), *(tuple(tg.randn(*s).to(dtype) for s in ((n, k), (m, k), (m,)))
                                            for n, k, m in [(5, 7, 8), (3, 40, 16), (1, 9, 24)])]:
        yield x, w, b
        yield x, w, None
    x, w = tg.randn(2, 3, 33).to(dtype), tg.randn(8, 33).to(dtype)
    yield x, w, tg.randn(9).to(dtype)[1:]
    yield x.transpose(0, 1), w, None


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
def test_gelu_in_the_pass_of_the_product(dtype):
    """Its slope is at most 1.13, so errors of the product grow no more than that; both results are rounded."""
    for grad, (x, w, b) in [(g, c) for g in (False, True) for c in gelu_cases(dtype)]:
        given = [None if v is None else v.to("cuda").detach().requires_grad_(grad) for v in (x, w, b)]
        got = F.linear_gelu(*given)
        assert got.dtype == dtype and got.requires_grad == grad
        x, w, b = (None if v is None else v.double() for v in (x, w, b))
        want, scale = gelu(F.linear(x, w, b)), F.linear(x.abs(), w.abs(), None if b is None else b.abs())
        sums = EPS[tg.float64 if dtype == tg.float64 else tg.float32] * (w.shape[1] + 8)
        bound = 1.13 * scale * (sums + 2 * EPS[dtype]) + want.abs() * 2 * EPS[dtype]
        assert ((got.detach().cpu().double() - want).abs() <= bound).all(), (dtype, grad, x.shape, w.shape)


@emulated
@pytest.mark.parametrize("dtype", list(EPS), ids=str)
def test_gradients_through_gelu_are_those_of_the_two_steps(dtype):
    """To the bit: what is kept is what the product alone gives."""
    for case in gelu_cases(dtype):
        grads = []
        for f in (F.linear_gelu, lambda *v: gelu(F.linear(*v))):
            leaves = [v.to("cuda").detach().requires_grad_() for v in case if v is not None]
            y = f(*leaves)
            grads.append(tg.autograd.grad(y, leaves, tg.arange(y.numel(), device="cuda").reshape(y.shape).to(dtype) - 4))
        assert all(a.equal(b) for a, b in zip(*grads)), [v.shape for v in case if v is not None]


@emulated
@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16], ids=str)
def test_gelu_of_halves_is_rounded_once(dtype):
    x, w, b = (tg.randn(*s).to(dtype) for s in ((16, 8), (24, 8), (24,)))
    for grad in (False, True):
        got = F.linear_gelu(x.to("cuda"), w.to("cuda"), b.to("cuda").requires_grad_(grad)).detach().cpu().double()
        want = gelu(F.linear(x.double(), w.double(), b.double()))
        assert ((got - want).abs() <= want.abs() * EPS[dtype] + 2.0**-20).all()


GELU = """
F = tg.nn.functional
def launches(columns, grad, bias=True):
    x, w, b = tg.ones(4, 8, device='cuda'), tg.ones(columns, 8, device='cuda'), tg.ones(columns, device='cuda')
    w.requires_grad_(grad)
    before = tg._C._cuda_launches()
    y = F.linear_gelu(x, w, b if bias else None)
    made = tg._C._cuda_launches() - before
    assert ((y.detach() - (9 if bias else 8)).abs() < 1e-5).all()
    return made
print(launches(16, False), launches(16, False, bias=False), launches(16, True), launches(15, False), launches(15, True))
"""


@emulated
@pytest.mark.parametrize(
    ("off", "launches"), [("", "0 0 0 0 1"), ("TG_EMU_NO_BLASLT", "2 1 2 2 2"), ("TG_EMU_NO_BLAS", "3 2 3 3 3")]
)
def test_gelu_is_a_launch_of_its_own_where_the_library_does_not_take_it(off, launches):
    """With a gradient and columns that are no multiple of 8, without cuBLASLt (the bias is one too), without cuBLAS."""
    assert run(GELU, **({off: "1"} if off else {})) == launches


PROGRAM = """
import numpy as np
F = tg.nn.functional
tg.manual_seed(0)
for dtype in (tg.float32, tg.float64, tg.bfloat16, tg.float16, tg.int64):
    def t(*s): return (tg.randn(*s) * 4).round().to(dtype).to('cuda')
    pairs = [(t(5, 7), t(7, 3)), (t(2, 5, 40), t(40, 3)), (t(4, 5, 7), t(4, 7, 3)), (t(7, 5).T, t(3, 7).T), (t(1, 7), t(7, 1)),
             (t(5, 14)[:, ::2], t(7, 6)[:, ::2]), (t(3, 5, 7).transpose(0, 1), t(5, 7, 2)), (t(5, 0), t(0, 3))]
    for a, b in pairs:
        got = (a @ b).cpu()
        want = np.matmul(a.cpu().double().numpy(), b.cpu().double().numpy())
        want = tg.tensor(want).to(dtype)
        assert got.equal(want), (dtype, a.shape, b.shape)
    x, w, c = t(5, 40), t(40, 6), t(6)
    if dtype != tg.int64:
        got = F.linear(x, w.T, c).cpu()
        assert got.equal(F.linear(x.cpu().double(), w.T.cpu().double(), c.cpu().double()).to(dtype)), dtype
    got = tg.addmm(t(6), x, w, beta=2, alpha=3)
    assert got.shape == (5, 6)
tg.backends.cuda.matmul.allow_tf32 = True
a = tg.full((1, 1), 1 + 2.0**-12, device='cuda')
print((a @ a).item() == 1)
"""


@emulated
@pytest.mark.parametrize("off", ["", "TG_EMU_NO_BLASLT", "TG_EMU_NO_BLAS"])
def test_every_way_gives_the_same_integers(off):
    """Sums of small integers are exact in every type, so all ways agree to the bit (and in float16 to its rounding)."""
    tf32 = run(PROGRAM, **({off: "1"} if off else {}))
    assert tf32 == str(off != "TG_EMU_NO_BLAS")  # the own kernel never rounds its operands


MISSING = """
x, b = tg.full((4, 4), 8.0, device='cuda'), tg.full((4,), 8.0, device='cuda')
before = tg._C._cuda_launches()
y = tg.nn.functional.linear(x, x, b)
print(tg._C._cuda_launches() - before, y.unique().tolist())
"""


WARNED = """
import warnings
from tinygrad_cpp import _doctor
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    x = tg.ones(4, 4, device="cuda")
    (x.long() @ x.long()), tg.ones(4, 0, device="cuda") @ tg.ones(0, 4, device="cuda")
    others = len(said)
    for _ in range(3):
        x @ x
print(others, len(said), all("libcublas" in str(w.message) and _doctor.CUBLAS in str(w.message) for w in said))
"""


@emulated
@pytest.mark.parametrize(("env", "count"), [("", 0), ("TG_EMU_NO_BLASLT", 0), ("TG_EMU_NO_BLAS", 1)])
def test_the_slow_kernel_is_told_once_with_what_to_install(env, count):
    """Not for integers, which it always makes, nor where nothing is added up, nor where the user left cuBLAS out."""
    assert run(WARNED, **({env: "1"} if env else {})) == f"0 {count} True"
    if count:
        assert run(WARNED, TG_CUDA_WITHOUT="cublas:cublasLt", **{env: "1"}) == "0 0 True"


@emulated
@pytest.mark.parametrize(("off", "launches"), [("", 0), ("TG_EMU_NO_BLASLT", 1), ("TG_EMU_NO_BLAS", 2)])
def test_without_the_libraries_own_kernels_take_their_place(off, launches):
    """Without cuBLASLt a kernel writes the bias first; without cuBLAS another makes the product."""
    assert run(MISSING, **({off: "1"} if off else {})) == f"{launches} [264.0]"


def test_tf32_only_where_it_was_asked_for():
    """1 + 2^-12 lies between numbers of TF32, which has 10 bits of fraction."""
    a = tg.full((8, 8), 1 + 2.0**-12, device="cuda")
    exact, rounded = 8 * (1 + 2.0**-12) ** 2, 8.0
    matmul = tg.backends.cuda.matmul

    def product():
        return (a @ a)[0, 0].item()

    assert not matmul.allow_tf32 and tg.get_float32_matmul_precision() == "highest"
    assert np.float32(exact) == product()
    try:
        matmul.allow_tf32 = True
        assert matmul.allow_tf32 and tg.get_float32_matmul_precision() == "high"
        assert product() == rounded
        assert (a.double() @ a.double())[0, 0].item() == exact
        for precision, on in (("highest", False), ("high", True), ("medium", True), ("highest", False)):
            tg.set_float32_matmul_precision(precision)
            assert matmul.allow_tf32 is on and product() == np.float32(rounded if on else exact)
            assert tg.get_float32_matmul_precision() == precision
        matmul.fp32_precision = "tf32"
        assert matmul.allow_tf32 and product() == rounded
        matmul.fp32_precision = "ieee"
        assert not matmul.allow_tf32 and product() == np.float32(exact)
        with matmul.flags(allow_tf32=True):
            assert product() == rounded
        assert product() == np.float32(exact)
        with pytest.raises(tg.ValueError, match="fp32_precision"):
            matmul.fp32_precision = "half"
    finally:
        matmul.allow_tf32 = False


def test_many_shapes_do_not_mix_up_their_plans():
    """Every product twice, in an order that meets each plan again; 16-byte and other addresses, also of the bias, are
    different plans. The emulation ends the program where one serves a worse address than it was chosen for."""
    base = tg.randn(200, device="cuda")
    for _ in range(2):
        for n in range(1, 40):
            for offset in (0, 1, 4):
                x, w = base[offset : offset + n].view(1, n), base[offset : offset + 2 * n].view(2, n)
                want = x.cpu().double() @ w.cpu().double().T
                bound = (x.abs().cpu().double() @ w.abs().cpu().double().T) * (n + 1) * 2.0**-24
                assert (((x @ w.T).cpu().double() - want).abs() <= bound).all()
                for at in (0, 1, 4):
                    b = base[at : at + 2]
                    got, sums = F.linear(x, w, b).cpu().double(), want + b.cpu().double()
                    assert ((got - sums).abs() <= bound + (b.abs().cpu().double() + sums.abs()) * 2.0**-23).all()


def test_long_sums_of_halves_are_rounded_once():
    """A sum split into parts that are added up in bfloat16 would not leave 256, whose neighbour is 258."""
    x = tg.tensor([256.0] + [2.0**-5] * 63).to("cuda", tg.bfloat16)
    for rows in (1, 8):
        assert (x.expand(rows, 64) @ tg.ones(64, 3, device="cuda", dtype=tg.bfloat16) == 258).all()
        assert (F.linear(x.expand(rows, 64), tg.ones_like(x).expand(3, 64).contiguous()) == 258).all()
