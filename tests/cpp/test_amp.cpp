// Mixed precision as C++ programs use it. Result types and arithmetic are compared with PyTorch's in tests/python.
#include <doctest/doctest.h>

#include "autograd/autograd.h"
#include "core/modes.h"
#include "ops/ops.h"
#include "optim/clip.h"
#include "optim/grad_scaler.h"

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

TEST_CASE("amp: GradScaler skips overflowing steps, counts them and says why") {
  Tensor w = ones({2}), b = ones({2});
  w.set_requires_grad(true), b.set_requires_grad(true);
  optim::SGD opt({w, b}, {.lr = 0.25});
  optim::GradScaler scaler({.init_scale = 1024, .growth_interval = 2});
  auto step = [&](double factor) {
    opt.zero_grad();
    scaler.scale(sum(w) * factor + sum(b)).backward();
    const bool done = scaler.step(opt);
    scaler.update();
    return done;
  };
  CHECK(step(1));
  CHECK(w[0].item() == 0.75);
  CHECK_FALSE(step(std::numeric_limits<double>::infinity()));
  CHECK(w[0].item() == 0.75);
  CHECK(scaler.skipped_steps == 1);
  CHECK(scaler.last_skip == "the gradient of parameter 0 of group 0 is infinite or NaN at a scale of 1024");
  CHECK(scaler.get_scale() == 512);
  CHECK(step(1));
  CHECK(step(1));
  CHECK(scaler.get_scale() == 1024);
  optim::GradScaler other;
  other.load_state_dict(scaler.state_dict());
  CHECK(other.get_scale() == 1024);
  CHECK_THROWS_AS(other.load_state_dict({{"scale", 2.0}}), ValueError);
  CHECK_THROWS_AS(other.load_state_dict({}), Error);
  CHECK_THROWS_AS(optim::GradScaler({.growth_factor = 1}), ValueError);
}

TEST_CASE("amp: GradScaler refuses steps out of order, and clipping of what is still scaled") {
  Tensor w = ones({2}), apart = ones({2});
  w.set_requires_grad(true), apart.set_requires_grad(true);
  optim::SGD opt({w}, {.lr = 1});
  optim::GradScaler scaler;
  sum(apart).backward();
  scaler.scale(sum(w)).backward();
  CHECK_THROWS_AS(optim::clip_grad_norm_({w}, 1), Error);
  CHECK_THROWS_AS(optim::clip_grad_value_({w}, 1), Error);
  optim::clip_grad_norm_({apart}, 1);
  scaler.unscale_(opt);
  CHECK(w.grad()[0].item() == 1);
  CHECK(optim::clip_grad_norm_({w}, 10).item() == doctest::Approx(std::sqrt(2.0)));
  CHECK_THROWS_AS(scaler.unscale_(opt), Error);
  CHECK(scaler.step(opt));
  CHECK_THROWS_AS(scaler.step(opt), Error);
  CHECK_THROWS_AS(scaler.unscale_(opt), Error);
  scaler.update();
  CHECK_THROWS_AS(scaler.update(), Error);  // nothing was looked at since
  optim::GradScaler off({.enabled = false});
  CHECK(off.scale(w).is_same(w));
  CHECK(off.step(opt));
  CHECK(off.get_scale() == 1);
}

TEST_CASE("amp: GradScaler leaves unscaling of half gradients to the float32 step") {
  Tensor w = zeros({4}, DType::F16);
  w.set_requires_grad(true);
  optim::SGD opt({w}, {.lr = 1});
  optim::GradScaler scaler;
  scaler.scale(sum(cast(w, DType::F32)) * 1e-8).backward();  // 1e-8 is 0 in float16
  CHECK_THROWS_AS(scaler.unscale_(opt), ValueError);
  opt.param_groups[0]["master_weights"] = true;
  CHECK(scaler.step(opt));
  CHECK(opt.state(w)["master_weight"][0].item() == doctest::Approx(-1e-8).epsilon(1e-3));
  CHECK(opt.param_groups[0].options.find("grad_scale") == nullptr);
}
