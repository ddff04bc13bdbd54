"""A kernel of one's own: two matrices are added by blocks of 4 x 3 threads, forward and backward.

On a GPU the text is compiled by NVRTC. Without one the emulation runs it on the CPU, thread by thread, and says so.
"""

import tinygrad_cpp as tg

SOURCE = """
__global__ void matrixAdd(const float* A, const float* B, float* C, int Nx, int Ny) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  int j = blockIdx.y * blockDim.y + threadIdx.y;
  if (i < Nx && j < Ny) C[j * Nx + i] = A[j * Nx + i] + B[j * Nx + i];
}
"""
NX, NY = 12, 6
BLOCK = (4, 3)  # threads of a block, x first
GRID = (NX // BLOCK[0], NY // BLOCK[1])

matrix_add = tg.cuda.RawKernel(SOURCE, "matrixAdd")


class MatrixAdd(tg.autograd.Function):
    """C = A + B by the kernel above; its gradient is passed on to both."""

    @staticmethod
    def forward(ctx, a, b):
        c = tg.empty_like(a)
        matrix_add(GRID, BLOCK, (a, b, c, NX, NY))
        return c

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


if not tg.cuda.is_available():
    tg.cuda.emulate()
print(f"{NX} x {NY} elements: {GRID[0] * GRID[1]} blocks of {BLOCK[0] * BLOCK[1]} threads")

tg.manual_seed(0)
a = tg.randn(NY, NX).to("cuda").requires_grad_()
b = tg.randn(NY, NX).to("cuda").requires_grad_()
c = MatrixAdd.apply(a, b)
print("ran on:", matrix_add.ran_on)
assert tg.equal(c.detach().cpu(), a.detach().cpu() + b.detach().cpu())
print("C = A + B: right")

w = tg.randn(NY, NX)
c.backward(w.to("cuda"))
assert tg.equal(a.grad.cpu(), w) and tg.equal(b.grad.cpu(), w)
print("gradients of sum(W * C) are W: right")
