// Mixed precision as C++ programs use it. Result types and arithmetic are compared with PyTorch's in tests/python.
#include <doctest/doctest.h>

#include "autograd/autograd.h"
#include "core/modes.h"
#include "ops/ops.h"
#include "optim/optimizer.h"
#include "optim/unscale.h"

using namespace tg;

TEST_CASE("amp: a region lowers products, gradients come in the type of their parameters") {
  Tensor x = ones({4, 3}), w = ones({2, 3});
  w.set_requires_grad(true);
  Tensor y, loss;
  {
    AutocastMode half(DeviceType::CPU, DType::BF16);
    y = linear(x, w);
    loss = sum(y);
    AutocastMode off(DeviceType::CPU, DType::BF16, false);
    CHECK(linear(x, w).dtype() == DType::F32);
  }
  CHECK(y.dtype() == DType::BF16);
  CHECK(loss.dtype() == DType::F32);
  CHECK(linear(x, w).dtype() == DType::F32);
  loss.backward();
  CHECK(w.grad().dtype() == DType::F32);
  CHECK(sum(w.grad()).item() == 24);
  CHECK_THROWS_AS(AutocastMode(DeviceType::CPU, DType::F64), DTypeError);
}

TEST_CASE("amp: a scaled training loop with float32 masters of half weights") {
  Tensor w = ones({8}, DType::F16);
  w.set_requires_grad(true);
  optim::SGD opt({w}, {.lr = 1e-4});
  opt.param_groups[0]["master_weights"] = true;
  optim::LossScale scale{1024, 2, 0.5, 50};
  for (int step = 0; step < 100; ++step) {
    opt.zero_grad();
    mul(sum(w), scale.scale).backward();
    const bool overflow = optim::unscale({w.grad()}, 1 / scale.scale) >= 0;
    if (!overflow) opt.step();
    scale.update(overflow);
  }
  CHECK(scale.scale == 4096);
  CHECK(opt.state(w)["master_weight"][0].item() == doctest::Approx(0.99));
  CHECK(w[0].item() == doctest::Approx(0.99).epsilon(1e-3));
  optim::StateDict saved = opt.state_dict();
  opt.load_state_dict(saved);
  CHECK(opt.state(w)["master_weight"].dtype() == DType::F32);
}

TEST_CASE("amp: overflow is found, the first gradient that has it named, the scale backs off") {
  optim::LossScale scale{1024, 2, 0.5, 2, 1};
  Tensor good = ones({3}), bad = full({3}, std::numeric_limits<double>::infinity());
  CHECK(optim::unscale({good, bad, bad}, 0.5) == 1);
  CHECK(good[0].item() == 0.5);
  scale.update(true);
  CHECK(scale.scale == 512);
  CHECK(scale.tracker == 0);
}
