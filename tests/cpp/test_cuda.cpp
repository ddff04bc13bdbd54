// CUDA devices over the emulation: memory, copies, the message when there is none.
#include <doctest/doctest.h>

#include "ops/ops.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

TEST_CASE("cuda: tensors live on the device, answers name the emulation" * doctest::skip(!cuda::emulating())) {
  const Device d("cuda");
  Tensor x = arange(6).reshape({2, 3}).to(d);
  CHECK(x.device() == d);
  Tensor y = (x + 1).transpose(0, 1);
  CHECK(y.device() == d);
  CHECK(y.to(Device()).contiguous().data<int64_t>()[1] == 4);
  CHECK(y[2][0].item() == 3);
  CHECK(to_string(x).find("device='cuda:0' (emulation)") != std::string::npos);
  CHECK_THROWS_AS(x.data<int64_t>(), DeviceError);
  CHECK_THROWS_AS(x + ones({2, 3}), DeviceError);
  CHECK_THROWS_AS(zeros({1}, {}, Device("cuda:7")), DeviceError);
  cuda::Probe p = cuda::probe();
  CHECK(p.emulated);
  CHECK(cuda::runtime().properties(0).name.find("emulation") != std::string::npos);
  CHECK_THROWS_AS(cuda::emulate(false), ValueError);
}

TEST_CASE("cuda: ops of the CPU take operands from the device and give back results and gradients" *
          doctest::skip(!cuda::emulating())) {
  const Device d("cuda");
  auto inverse = [](const Tensor& leaf) {
    const Tensor y = linalg_inv(leaf);
    (y * y).sum().backward();
    return y;
  };
  const Tensor on_cpu = (eye(3) * 3 + ones({3, 3})).set_requires_grad(true);
  const Tensor there = on_cpu.detach().to(d).set_requires_grad(true);
  const Tensor want = inverse(on_cpu), found = inverse(there);
  CHECK(found.device() == d);
  CHECK(there.grad().device() == d);
  CHECK((found.to(Device()) - want).abs().max().item<float>() == 0);
  CHECK((there.grad().to(Device()) - on_cpu.grad()).abs().max().item<float>() == 0);
}
