// Optimizers and schedulers as C++ programs use them. The arithmetic is compared with PyTorch's in tests/python.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "autograd/autograd.h"
#include "ops/ops.h"
#include "optim/clip.h"
#include "optim/lr_scheduler.h"

using namespace tg;
using namespace tg::optim;

namespace {

Tensor parameter(IntList sizes, double value) {
  Tensor t = full(sizes, value);
  t.set_requires_grad(true);
  return t;
}

void backward_of_squares(const std::vector<Tensor>& params) {
  Tensor loss = zeros({});
  for (const Tensor& p : params) loss = loss + sum(p * p);
  loss.backward();
}

double value(const Tensor& t) { return t.reshape({-1})[0].item(); }

}  // namespace

TEST_CASE("optim: SGD follows its formula, groups keep their own settings") {
  Tensor a = parameter({2}, 1), b = parameter({3}, 2);
  SGD opt({ParamGroup{{a}}, ParamGroup{{b}, {{"lr", 0.25}}}}, {.lr = 0.1, .momentum = 0.5});
  REQUIRE(opt.param_groups.size() == 2);
  backward_of_squares({a, b});
  opt.step();
  CHECK(value(a) == doctest::Approx(1 - 0.1 * 2));
  CHECK(value(b) == doctest::Approx(2 - 0.25 * 4));
  opt.zero_grad();
  CHECK_FALSE(a.grad().defined());
  backward_of_squares({a, b});
  opt.param_groups[0]["lr"] = 1.0;
  opt.step();
  CHECK(value(a) == doctest::Approx(0.8 - (0.5 * 2 + 1.6)));
}

TEST_CASE("optim: every optimizer finds the minimum of a square") {
  auto minimize = [](auto make) {
    Tensor w = parameter({4}, 1);
    auto opt = make(std::vector<Tensor>{w});
    double first = 0, last = 0;
    for (int i = 0; i < 300; ++i) {
      last = opt->step([&] {
                  opt->zero_grad();
                  Tensor loss = sum(w * w);
                  loss.backward();
                  return loss;
                })
                 .item();
      if (i == 0) first = last;
    }
    CHECK(last < 0.2 * first);
  };
  minimize([](auto p) { return std::make_unique<SGD>(p, SGDOptions{.lr = 0.1, .momentum = 0.9, .nesterov = true}); });
  minimize([](auto p) { return std::make_unique<Adam>(p, AdamOptions{.lr = 0.05, .amsgrad = true}); });
  minimize([](auto p) { return std::make_unique<AdamW>(p, AdamWOptions{.lr = 0.05}); });
  minimize([](auto p) { return std::make_unique<Adamax>(p, AdamaxOptions{.lr = 0.05}); });
  minimize([](auto p) { return std::make_unique<NAdam>(p, NAdamOptions{.lr = 0.05}); });
  minimize([](auto p) { return std::make_unique<RAdam>(p, RAdamOptions{.lr = 0.05}); });
  minimize([](auto p) { return std::make_unique<ASGD>(p, ASGDOptions{.lr = 0.1}); });
  minimize([](auto p) { return std::make_unique<Rprop>(p, RpropOptions{}); });
  minimize([](auto p) { return std::make_unique<RMSprop>(p, RMSpropOptions{.lr = 0.01, .centered = true}); });
  minimize([](auto p) { return std::make_unique<Adagrad>(p, AdagradOptions{.lr = 0.1}); });
  minimize([](auto p) { return std::make_unique<Adadelta>(p, AdadeltaOptions{}); });
}

TEST_CASE("optim: state goes from one optimizer to another") {
  Tensor a = parameter({3}, 1), b = parameter({3}, 1);
  Adam first({a}, {.lr = 0.1}), second({b}, {.lr = 0.5});
  for (int i = 0; i < 3; ++i) {
    first.zero_grad();
    backward_of_squares({a});
    first.step();
  }
  {
    NoGrad guard;
    b.copy_(a);
  }
  second.load_state_dict(first.state_dict());
  CHECK(second.param_groups[0].options.number("lr") == 0.1);
  CHECK(second.state_dict().state.at(0).find("step")->item() == 3);
  CHECK_FALSE(second.state(b)["exp_avg"].is_same(first.state(a)["exp_avg"]));
  first.zero_grad();
  backward_of_squares({a, b});
  first.step();
  second.step();
  CHECK(equal(a, b));
  Adam other({a, b});
  CHECK_THROWS_AS(other.load_state_dict(first.state_dict()), ValueError);
  StateDict wrong = first.state_dict();
  wrong.param_groups[0].options["lr"] = -1.0;
  CHECK_THROWS_AS(second.load_state_dict(wrong), ValueError);
  CHECK(second.param_groups[0].options.number("lr") == 0.1);
}

TEST_CASE("optim: what cannot be optimized is refused") {
  Tensor a = parameter({2}, 1);
  CHECK_THROWS_AS(SGD(std::vector<Tensor>{}), ValueError);
  CHECK_THROWS_AS(SGD({a * 2}), ValueError);
  CHECK_THROWS_AS(SGD({a, a}), ValueError);
  CHECK_THROWS_AS(SGD({a}, {.lr = -1}), ValueError);
  CHECK_THROWS_AS(Adam({a}, {.betas = {0.9, 1.0}}), ValueError);
  CHECK_THROWS_AS(Adam({a}, {.eps = std::nan("")}), ValueError);
  CHECK_THROWS_AS(SGD({a}, {.nesterov = true}), ValueError);
  CHECK_THROWS_AS(find_rule("Nothing"), ValueError);
  SGD opt({a});
  opt.param_groups[0]["lr"] = true;
  CHECK_NOTHROW(opt.step());
  backward_of_squares({a});
  opt.param_groups[0]["lr"] = std::monostate();
  CHECK_THROWS_AS(opt.step(), ValueError);
}

TEST_CASE("optim: schedulers set the rate of every group") {
  Tensor a = parameter({2}, 1);
  auto run = [&](auto make, int n) {
    SGD opt({a}, {.lr = 1.0, .momentum = 0.9});
    auto scheduler = make(opt);
    for (int i = 0; i < n; ++i) scheduler->step();
    CHECK(scheduler->last_epoch() == n);
    return scheduler->get_last_lr().at(0);
  };
  CHECK(run([](Optimizer& o) { return std::make_unique<StepLR>(o, 2, 0.5); }, 5) == doctest::Approx(0.25));
  CHECK(run([](Optimizer& o) { return std::make_unique<MultiStepLR>(o, std::vector<int64_t>{1, 3, 3}, 0.5); }, 3) ==
        doctest::Approx(0.125));
  CHECK(run([](Optimizer& o) { return std::make_unique<ConstantLR>(o, 0.5, 2); }, 1) == doctest::Approx(0.5));
  CHECK(run([](Optimizer& o) { return std::make_unique<ConstantLR>(o, 0.5, 2); }, 3) == doctest::Approx(1));
  CHECK(run([](Optimizer& o) { return std::make_unique<LinearLR>(o, 0.5, 1.0, 4); }, 2) == doctest::Approx(0.75));
  CHECK(run([](Optimizer& o) { return std::make_unique<ExponentialLR>(o, 0.5); }, 3) == doctest::Approx(0.125));
  CHECK(run([](Optimizer& o) { return std::make_unique<PolynomialLR>(o, 4, 2); }, 2) == doctest::Approx(0.25));
  CHECK(run([](Optimizer& o) { return std::make_unique<CosineAnnealingLR>(o, 4); }, 2) == doctest::Approx(0.5));
  CHECK(run([](Optimizer& o) { return std::make_unique<CosineAnnealingWarmRestarts>(o, 4, 2); }, 4) ==
        doctest::Approx(1));
  CHECK(run([](Optimizer& o) { return std::make_unique<LambdaLR>(o, [](int64_t e) { return 1.0 / double(1 + e); }); },
            3) == doctest::Approx(0.25));
  OneCycleOptions cycle{.total_steps = 10, .pct_start = 0.5};
  CHECK(run([&](Optimizer& o) { return std::make_unique<OneCycleLR>(o, 2.0, cycle); }, 4) == doctest::Approx(2));
  auto sequence = [](Optimizer& o) {
    std::vector<std::shared_ptr<LRScheduler>> parts{std::make_shared<ConstantLR>(o, 0.1, 100),
                                                    std::make_shared<ExponentialLR>(o, 0.5)};
    return std::make_unique<SequentialLR>(o, parts, std::vector<int64_t>{2});
  };
  CHECK(run(sequence, 1) == doctest::Approx(0.1));
  CHECK(run(sequence, 4) == doctest::Approx(0.25));

  SGD opt({a}, {.lr = 1.0});
  CHECK_THROWS_AS(OneCycleLR(opt, 1.0, OneCycleOptions{}), ValueError);
  CHECK_THROWS_AS(StepLR(opt, 0), ValueError);
  CHECK_THROWS_AS(ReduceLROnPlateau(opt, PlateauOptions{.mode = "best"}), ValueError);
  ReduceLROnPlateau plateau(opt, {.factor = 0.5, .patience = 1});
  for (double loss : {1.0, 1.0, 1.0}) plateau.step(loss);
  CHECK(plateau.get_last_lr().at(0) == doctest::Approx(0.5));
  ExponentialLR again(opt, 0.5);
  again.load_state_dict({{"last_epoch", 7.0}});
  CHECK(again.last_epoch() == 7);
}

TEST_CASE("optim: vector loops and programs are the same formulas") {
  auto run = [](auto make, bool fast) {
    std::vector<Tensor> params{parameter({5, 7}, 1.5), parameter({}, -2), parameter({0, 3}, 1),
                               parameter({70000}, 0.25)};
    auto opt = make(params);
    modes().fast_paths = fast;
    for (int i = 0; i < 12; ++i) {
      for (const Tensor& p : params) p.set_grad(full_like(p, i % 3 == 0 ? -0.5 * i : 0.25));
      opt->step();
    }
    modes().fast_paths = true;
    return params;
  };
  auto compare = [&](auto make) {
    auto a = run(make, true), b = run(make, false);
    for (size_t i = 0; i < a.size(); ++i) CHECK(allclose(a[i], b[i], 1e-6, 1e-7));
  };
  using P = std::vector<Tensor>;
  compare([](P p) { return std::make_unique<SGD>(p, SGDOptions{.weight_decay = 0.1}); });
  compare([](P p) { return std::make_unique<SGD>(p, SGDOptions{.momentum = 0.9, .nesterov = true}); });
  compare([](P p) { return std::make_unique<Adam>(p, AdamOptions{.amsgrad = true}); });
  compare([](P p) { return std::make_unique<AdamW>(p, AdamWOptions{.maximize = true}); });
  compare([](P p) { return std::make_unique<Adamax>(p); });
  compare([](P p) { return std::make_unique<NAdam>(p); });
  compare([](P p) { return std::make_unique<RAdam>(p); });
  compare([](P p) { return std::make_unique<RMSprop>(p, RMSpropOptions{.momentum = 0.5, .centered = true}); });
  compare([](P p) { return std::make_unique<Adagrad>(p); });
  compare([](P p) { return std::make_unique<Adadelta>(p); });
  compare([](P p) { return std::make_unique<ASGD>(p, ASGDOptions{.t0 = 3}); });
  compare([](P p) { return std::make_unique<Rprop>(p); });
}

TEST_CASE("optim: state of another shape is refused") {
  Tensor a = parameter({3}, 1);
  AdamW opt({a});
  backward_of_squares({a});
  opt.state(a)["exp_avg"] = zeros({4});
  CHECK_THROWS_AS(opt.step(), ShapeError);
  opt.state(a)["exp_avg"] = zeros({3}, DType::I64);
  CHECK_THROWS_AS(opt.step(), DTypeError);
  opt.state(a)["step"] = zeros({2});
  CHECK_THROWS_AS(opt.step(), ValueError);
}

TEST_CASE("optim: clipping") {
  Tensor a = parameter({3}, 1), b = parameter({1}, 2), unused = parameter({1}, 2);
  backward_of_squares({a, b});  // gradients 2, 2, 2 and 4: norm sqrt(28)
  Tensor norm = clip_grad_norm_({a, b, unused}, 1.0);
  CHECK(norm.item() == doctest::Approx(std::sqrt(28.0)));
  CHECK(grad_norm({a, b}).item() == doctest::Approx(1).epsilon(1e-4));
  CHECK(grad_norm({a, b}, INFINITY).item() == doctest::Approx(4 / std::sqrt(28.0)).epsilon(1e-4));
  CHECK(clip_grad_norm_({unused}, 1.0).item() == 0);
  clip_grad_value_({a, b}, 0.5);
  CHECK(value(b.grad()) == doctest::Approx(0.5));
  b.set_grad(full({1}, INFINITY));
  CHECK_THROWS_AS(clip_grad_norm_({b}, 1.0, 2, true), Error);
}
