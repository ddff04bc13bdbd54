"""Kernels of users: arguments, errors, gradients, and the disk they are kept on."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tinygrad_cpp as tg
from programs import run
from tinygrad_cpp.cuda import RawKernel

ADD = """
__global__ void matrixAdd(const float* A, const float* B, float* C, int Nx, int Ny) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  int j = blockIdx.y * blockDim.y + threadIdx.y;
  if (i < Nx && j < Ny) C[j * Nx + i] = A[j * Nx + i] + B[j * Nx + i];
}
"""
GRID, BLOCK = (3, 2), (4, 3)
WHERE = "emulation" if tg.cuda.is_emulated() else tg.cuda.get_device_name() if tg.cuda.is_available() else ""
add = RawKernel(ADD, "matrixAdd")


@pytest.fixture
def abc():
    return tuple(tg.randn(6, 12).to("cuda") for _ in range(3))


def test_adds(abc):
    a, b, c = abc
    add(GRID, BLOCK, (a, b, c, 12, 6))
    assert tg.equal(c.cpu(), a.cpu() + b.cpu())
    assert add.ran_on == WHERE


def test_what_is_written_counts_as_written(abc):
    a, b, c = abc
    before = a._version, b._version, c._version
    add(GRID, BLOCK, (a, b, c, np.int32(12), 6))
    assert (a._version, b._version, c._version) == (before[0], before[1], before[2] + 1)


def test_an_edit_by_a_kernel_is_seen_by_backward(abc):
    a, b, c = abc
    w = tg.ones(6, 12).to("cuda").requires_grad_()
    y = w * c
    add(GRID, BLOCK, (a, b, c, 12, 6))
    with pytest.raises(tg.AutogradError, match="RawKernel"):
        y.backward(tg.ones_like(y))


def test_a_gradient_is_never_dropped(abc):
    a, b, c = abc
    a.requires_grad_()
    with pytest.raises(tg.AutogradError, match="argument 0 of 5 requires grad"):
        add(GRID, BLOCK, (a, b, c, 12, 6))
    with tg.no_grad():
        add(GRID, BLOCK, (a, b, c, 12, 6))


SQUARE = """
__global__ void square(const double* x, double* y, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * x[i];
}
__global__ void square_grad(const double* g, const double* x, double* dx, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) dx[i] = 2 * g[i] * x[i];
}
"""
square, square_grad = RawKernel(SQUARE, "square"), RawKernel(SQUARE, "square_grad")


class Square(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        y = tg.empty_like(x)
        square((x.numel() + 31) // 32, 32, (x, y, x.numel()))
        return y

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        dx = tg.empty_like(x)
        square_grad((x.numel() + 31) // 32, 32, (g.contiguous(), x, dx, x.numel()))
        return dx


def test_an_op_with_its_own_gradient():
    x = tg.randn(5, 13, dtype=tg.float64).to("cuda").requires_grad_()
    y = Square.apply(x)
    y.backward(tg.full_like(y, 3.0))
    assert tg.equal(x.grad.cpu(), 6 * x.detach().cpu())


MANY = """
__global__ void many(bool b, int i, long long l, float f, double d, unsigned u, double* out) {
  out[0] = b; out[1] = i; out[2] = l; out[3] = f; out[4] = d; out[5] = u;
}
"""


@pytest.mark.parametrize(
    "args, values",
    [
        ((True, -3, 2**40, 0.5, 0.1, 2**32 - 1), (1, -3, 2**40, 0.5, 0.1, 2**32 - 1)),
        ((np.bool_(0), np.int32(-3), np.int64(9), np.float32(0.25), np.float64(0.1), 7), (0, -3, 9, 0.25, 0.1, 7)),
        ((0, 0, 0, 1, 2, 0), (0, 0, 0, 1, 2, 0)),
    ],
)
def test_numbers(args, values):
    out = tg.zeros(6, dtype=tg.float64).to("cuda")
    RawKernel(MANY, "many")(1, 1, (*args, out))
    assert out.cpu().tolist() == list(values)


BLOCKWISE = """
template <class T, int N> __global__ void reverse(T* x) {
  __shared__ T tile[N];
  extern __shared__ T more[];
  tile[threadIdx.x] = x[blockIdx.x * N + threadIdx.x];
  more[threadIdx.x] = T(blockIdx.x);
  __syncthreads();
  x[blockIdx.x * N + threadIdx.x] = tile[N - 1 - threadIdx.x] + more[(threadIdx.x + 1) % N];
}
"""


@pytest.mark.parametrize("dtype, name", [(tg.float32, "float"), (tg.int32, "int"), (tg.int64, "long long")])
def test_templates_and_shared_memory(dtype, name):
    x = tg.arange(64, dtype=dtype).to("cuda")
    RawKernel(BLOCKWISE, f"reverse<{name}, 32>")(2, 32, (x,), shared_mem=32 * x.element_size())
    expected = np.arange(64).reshape(2, 32)[:, ::-1] + np.array([[0], [1]])
    assert x.cpu().tolist() == expected.reshape(-1).tolist()


def test_too_much_shared_memory_names_the_kernel_and_the_limit():
    x = tg.zeros(64, device="cuda")
    kernel = RawKernel(BLOCKWISE, "reverse<float, 32>")
    with pytest.raises(ValueError, match=r"reverse.*10000000 bytes of shared memory.*at most \d+"):
        kernel(2, 32, (x,), shared_mem=10**7)
    kernel(2, 32, (x,), shared_mem=128)  # nothing is left behind


def test_options_define():
    x = tg.zeros(1).to("cuda")
    RawKernel("__global__ void f(float* x) { x[0] = VALUE; }", "f", ("-DVALUE=7",))(1, 1, (x,))
    assert x.item() == 7


@pytest.mark.parametrize(
    "args, error, text",
    [
        (lambda a, b, c: (a, b, c, 12), tg.TypeError, "takes 5 arguments .*int32, int32.*, given 4"),
        (lambda a, b, c: (a, b, c, 12, 6.0), tg.TypeError, "argument 4 of 5 is the floating-point number 6"),
        (lambda a, b, c: (a, b, c, np.int64(12), 6), tg.DTypeError, "argument 3 of 5 is int64, the parameter is int32"),
        (
            lambda a, b, c: (a, b, c, 2**31, 6),
            tg.ValueError,
            "argument 3 of 5 is 2147483648, which int32 does not hold",
        ),
        (lambda a, b, c: (a, b, c, np.int16(2), 6), tg.TypeError, "NumPy int16"),
        (lambda a, b, c: (a.double(), b, c, 12, 6), tg.DTypeError, r"f64\[6,12\].*pointer to const float32"),
        (lambda a, b, c: (a.T, b, c, 12, 6), tg.ValueError, r"strides \[1, 12\].*contiguous"),
        (lambda a, b, c: (a, 1.0, c, 12, 6), tg.TypeError, "argument 1 of 5 is a number"),
        (lambda a, b, c: (a, b, c, a, 6), tg.TypeError, "argument 3 of 5 is a tensor, the parameter is int32"),
        (lambda a, b, c: (a, b.cpu(), c, 12, 6), tg.DeviceError, "argument 1 of 5 is .*@cpu"),
        (lambda a, b, c: (a, b, c, "12", 6), tg.TypeError, "argument 3 is a str"),
    ],
)
def test_arguments_that_do_not_fit(abc, args, error, text):
    with pytest.raises(error, match=text):
        add(GRID, BLOCK, args(*abc))


@pytest.mark.parametrize(
    "grid, block, error, text",
    [
        (0, 1, tg.ValueError, "grid"),
        ((1, 1, 1, 1), 1, tg.TypeError, "grid"),
        (1, 2048, tg.ValueError, "at most 1024"),
        (1, (1, 1, 65), tg.ValueError, "64 of them in z"),
        ((1, 70000), 1, tg.ValueError, "65535"),
        (1, "x", tg.TypeError, "block"),
    ],
)
def test_sizes_that_no_gpu_has(abc, grid, block, error, text):
    with pytest.raises(error, match=text):
        add(grid, block, (*abc, 12, 6))


def test_a_kernel_that_does_not_compile_shows_message_and_line():
    x = tg.zeros(1).to("cuda")
    with pytest.raises(tg.CompileError) as e:
        RawKernel("__global__ void f(float* x) {\n  int n = 3;\n  x[n] = missing;\n}", "f")(1, 1, (x,))
    assert "kernel 'f' does not compile" in str(e.value)
    assert ("kernel.cu:3:" if tg.cuda.is_emulated() else "kernel.cu(3)") in str(e.value)
    assert "x[n] = missing;" in str(e.value)


@pytest.mark.parametrize("name", ["g", "f<float>", "ns::f"])
def test_a_name_that_the_source_does_not_have(name):
    with pytest.raises(tg.CompileError, match=f"^kernel '{name}': the source has no kernel of that name [(]") as e:
        RawKernel("__global__ void f(float* x) {}", name).compile()
    assert "tg_" not in str(e.value) and "TG_" not in str(e.value)


@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16])
def test_halves_are_bits_to_a_kernel(dtype):
    x = tg.tensor([1.0, -2.0, 0.5], dtype=dtype).to("cuda")
    y = tg.empty_like(x)
    body = "{ y[threadIdx.x] = x[threadIdx.x] ^ 0x8000; }"
    RawKernel(f"__global__ void minus(const unsigned short* x, unsigned short* y) {body}", "minus")(1, 3, (x, y))
    assert y.cpu().tolist() == [-1.0, 2.0, -0.5]
    with pytest.raises(tg.DTypeError, match=r"the parameter is pointer to int16"):
        RawKernel("__global__ void f(short* x) {}", "f")(1, 1, (x,))
    with pytest.raises(tg.DTypeError, match=r"the parameter is pointer to uint16"):
        RawKernel("__global__ void f(unsigned short* x) {}", "f")(1, 1, (x.float(),))


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="of the emulation, which has no headers of the toolkit")
def test_headers_of_the_toolkit_are_not_there_under_the_emulation():
    source = "#include <cuda_fp16.h>\n__global__ void f(__half* x) {}"
    with pytest.raises(tg.CompileError, match="takes halves as unsigned short, see docs/cuda.md"):
        RawKernel(source, "f").compile()


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="needs the emulation's devices")
def test_the_stream_is_of_the_tensors_device():
    program = """
k = cuda.RawKernel("__global__ void put(float* x) { x[0] = 1; }", "put")
x = tg.zeros(1, device="cuda:1")
class Bare:
    def __init__(self, s): self.cuda_stream = s.cuda_stream
s = cuda.Stream(0)
for stream in (s, cuda.default_stream(0), Bare(s)):
    try: k(1, 1, (x,), stream=stream)
    except tg.DeviceError as e: assert str(e) == "RawKernel 'put': the stream is of cuda:0, the tensors are on cuda:1", e
    else: raise AssertionError
for stream in (5, "x"):
    try: k(1, 1, (x,), stream=stream)
    except tg.TypeError as e: assert "expected a cuda.Stream" in str(e), e
    else: raise AssertionError
for stream in (None, cuda.Stream(1), cuda.default_stream(1), Bare(cuda.Stream(1)), Bare(cuda.default_stream(1))):
    x.zero_(); cuda.synchronize(1)
    k(1, 1, (x,), stream=stream)
    cuda.synchronize(1)
    assert x.item() == 1
"""
    run(program, TG_CUDA_EMULATE_DEVICES="2")


SCALE = """
import tinygrad_cpp as tg
k = tg.cuda.RawKernel("__global__ void scale(float* x) { x[threadIdx.x] *= 2; }", "scale")
x = tg.ones(4).to("cuda")
k(1, 4, (x,))
print(x.cpu().tolist(), k.ran_on)
"""


def child(**env):
    command = [sys.executable, "-c", SCALE]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **env})


def test_kept_on_disk_and_damage_is_noticed(tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    right = f"[2.0, 2.0, 2.0, 2.0] {WHERE}\n"
    assert child(**cache).stdout == right
    (kept,) = (tmp_path / "tinygrad_cpp" / "kernels").iterdir()
    whole = kept.read_bytes()
    assert child(**cache).stdout == right and kept.read_bytes() == whole
    kept.write_bytes(whole[: len(whole) // 2])
    assert child(**cache).stdout == right
    assert len(kept.read_bytes()) == len(whole)


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="about the emulation")
def test_without_compiler(tmp_path):
    done = child(XDG_CACHE_HOME=str(tmp_path), TG_HOST_CXX="no-such-compiler")
    assert done.returncode == 1
    assert "DeviceError: kernel 'scale': there is no GPU, and no C++ compiler for the emulation either" in done.stderr


DIALECT = """
__global__ void all(const unsigned* bits, const float* x, unsigned* u, int* i, float* f, long long* l, unsigned* at) {
  unsigned n = threadIdx.x, a = bits[n], b = bits[31 - n];
  u[n] = __brev(a);
  u[32 + n] = __umul24(a, b);
  u[64 + n] = __float_as_uint(x[n]);
  u[96 + n] = __activemask();
  i[n] = __mul24((int)a, (int)b);
  i[32 + n] = __mulhi((int)a, (int)b);
  i[64 + n] = __float_as_int(x[n]);
  i[96 + n] = __clzll((long long)a << n);
  i[128 + n] = __ffsll((long long)a << n);
  f[n] = __int_as_float(__float_as_int(x[n]));
  f[32 + n] = __fmaf_rn(x[n], x[31 - n], __ldg(x + n));
  f[64 + n] = __saturatef(x[n]);
  f[96 + n] = __uint_as_float(__float_as_uint(x[n])) + __fmul_rn(x[n], 3.0f);
  l[n] = __double_as_longlong(__longlong_as_double((long long)(a >> 1)));
  l[32 + n] = __brevll(a);
  long long before = clock64();
  l[64 + n] = clock64() >= before;
  atomicSub(at, n);
  atomicAnd(at + 1, ~(1u << n));
  atomicXor(at + 2, a);
  atomicInc(at + 3, 6);
  atomicDec(at + 4, 6);
}
"""


def test_functions_of_cuda_are_as_defined():
    rng = np.random.default_rng(0)
    bits, x = rng.integers(0, 2**32, 32, dtype=np.uint32), rng.standard_normal(32).astype(np.float32)
    bits[:3] = 0, 1, 2**32 - 1
    u, i, at = (tg.zeros(n, dtype=tg.int32).cuda() for n in (128, 160, 5))
    f, wide = tg.zeros(128).cuda(), tg.zeros(96, dtype=tg.int64).cuda()
    at[1] = -1
    RawKernel(DIALECT, "all")(1, 32, (tg.tensor(bits.view(np.int32)).cuda(), tg.tensor(x).cuda(), u, i, f, wide, at))
    a, b = [int(v) for v in bits], [int(v) for v in bits[::-1]]

    def signed(v, width=32):
        return (v & (1 << width) - 1) - ((v >> width - 1 & 1) << width)

    def reverse(v, width):
        return int(format(v, f"0{width}b")[::-1], 2)

    words = [v & 0xFFFFFFFF for v in u.tolist()]
    assert words[:32] == [reverse(v, 32) for v in a]
    assert words[32:64] == [(v & 0xFFFFFF) * (w & 0xFFFFFF) & 0xFFFFFFFF for v, w in zip(a, b)]
    assert words[64:96] == [int(v) for v in x.view(np.uint32)] and words[96:] == [0xFFFFFFFF] * 32
    numbers = i.tolist()
    assert numbers[:32] == [signed(signed(v, 24) * signed(w, 24)) for v, w in zip(a, b)]
    assert numbers[32:64] == [signed(v) * signed(w) >> 32 for v, w in zip(a, b)]
    assert numbers[64:96] == [int(v) for v in x.view(np.int32)]
    shifted = [v << n for n, v in enumerate(a)]  # below 2^63
    assert numbers[96:128] == [64 - v.bit_length() for v in shifted]
    assert numbers[128:] == [(v & -v).bit_length() for v in shifted]
    floats = f.cpu().numpy()
    fused = (x.astype(np.float64) * x[::-1].astype(np.float64) + x.astype(np.float64)).astype(np.float32)
    assert np.array_equal(floats[:32], x) and np.abs(floats[32:64] - fused).max() <= np.spacing(np.abs(fused).max())
    assert np.array_equal(floats[64:96], np.clip(x, 0, 1)) and np.array_equal(floats[96:], x + x * np.float32(3))
    longs = wide.tolist()
    assert longs[:32] == [v >> 1 for v in a] and longs[64:] == [1] * 32
    assert [v & 2**64 - 1 for v in longs[32:64]] == [reverse(v, 64) for v in a]
    assert at.tolist() == [-sum(range(32)), 0, signed(int(np.bitwise_xor.reduce(bits))), 32 % 7, (0 - 32) % 7]


def test_a_source_without_a_kernel_is_refused():
    with pytest.raises(tg.CompileError, match="kernel 'f'"):
        RawKernel("void f(float* x) { x[0] = 1; }", "f").compile()
