// A kernel of one's own: two matrices are added by blocks of 4 x 3 threads, forward and backward.
//
// On a GPU the text is compiled by NVRTC. Without one the emulation runs it on the CPU, thread by thread, and says so.
#include <tg/tg.h>

#include <iostream>

const char* const kSource = R"(
__global__ void matrixAdd(const float* A, const float* B, float* C, int Nx, int Ny) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  int j = blockIdx.y * blockDim.y + threadIdx.y;
  if (i < Nx && j < Ny) C[j * Nx + i] = A[j * Nx + i] + B[j * Nx + i];
}
)";
const int Nx = 12, Ny = 6;

int main() {
  if (!tg::cuda::is_available()) tg::cuda::emulate(true);
  tg::cuda::RawKernel matrix_add(kSource, "matrixAdd");
  const tg::cuda::Dim3 block(4, 3), grid(Nx / block.x, Ny / block.y);
  std::cout << Nx << " x " << Ny << " elements: " << grid.x * grid.y << " blocks of " << block.x * block.y
            << " threads\n";

  // An op with a gradient of its own: dC passes on to A and to B.
  tg::CustomFunction add;
  add.name = "MatrixAdd";
  add.forward = [&](tg::FunctionCtx&, const std::vector<tg::Tensor>& in) {
    tg::Tensor c = tg::empty_like(in[0]);
    matrix_add(grid, block, {in[0], in[1], c, Nx, Ny});
    return std::vector<tg::Tensor>{c};
  };
  add.backward = [](tg::FunctionCtx&, const std::vector<tg::Tensor>& grad) {
    return std::vector<tg::Tensor>{grad[0], grad[0]};
  };

  tg::manual_seed(0);
  const tg::Device cuda("cuda"), cpu("cpu");
  tg::Tensor a = tg::randn({Ny, Nx}).to(cuda).set_requires_grad(true);
  tg::Tensor b = tg::randn({Ny, Nx}).to(cuda).set_requires_grad(true);
  tg::Tensor c = tg::apply_function(add, {a, b})[0];
  const tg::Tensor sum = a.detach().to(cpu) + b.detach().to(cpu);
  bool right = tg::equal(c.detach().to(cpu), sum);
  std::cout << "ran on: " << matrix_add.ran_on() << "\nC = A + B: " << (right ? "right" : "wrong") << "\n";

  tg::Tensor w = tg::randn({Ny, Nx});
  c.backward(w.to(cuda));
  bool same = tg::equal(a.grad().to(cpu), w) && tg::equal(b.grad().to(cpu), w);
  std::cout << "gradients of sum(W * C) are W: " << (same ? "right" : "wrong") << "\n";
  return right && same ? 0 : 1;
}
