#include <tg/tg.h>

#include <cstdio>

#include "core/version.h"

int main() {
  std::printf("tinygrad_cpp %s\n", TG_VERSION);
  tg::Tensor x = tg::empty_tensor({1}, tg::DType::F32);
  x.data<float>()[0] = 3;
  x.set_requires_grad(true);
  tg::Tensor y = x * x + 2 * x;
  y.backward();
  std::printf("dy/dx = %g\n", x.grad().item());
}
