#include <doctest/doctest.h>
#include <pthread.h>

#include <cmath>
#include <thread>

#include "autograd/autograd.h"
#include "ops/ops.h"

using namespace tg;

static Tensor leaf(std::initializer_list<double> v) {
  Tensor t = empty_tensor({int64_t(v.size())}, DType::F64);
  std::copy(v.begin(), v.end(), t.data<double>());
  return t.set_requires_grad(true);
}

TEST_CASE("x*y+z: the lecture's gradients") {
  Tensor x = rand({3, 4}).set_requires_grad(true), y = rand({3, 4}).set_requires_grad(true),
         z = rand({3, 4}).set_requires_grad(true);
  Tensor c = sum(x * y + z);
  c.backward();
  CHECK(equal(x.grad(), y.detach()));
  CHECK(equal(y.grad(), x.detach()));
  CHECK(equal(z.grad(), ones_like(z)));
}

TEST_CASE("gradients accumulate, graphs are freed, second pass is an error") {
  Tensor x = leaf({2, 3});
  Tensor y = sum(x * x);
  y.backward();
  CHECK(x.grad().data<double>()[0] == 4);
  CHECK_THROWS_WITH_AS(y.backward(), doctest::Contains("second time"), AutogradError);
  Tensor z = sum(x * x);
  z.backward({}, true);
  z.backward();
  CHECK(x.grad().data<double>()[1] == 18);
}

TEST_CASE("double backward") {
  Tensor x = leaf({2});
  Tensor y = x * x * x;
  Tensor g = grad({y}, {x}, {ones_like(y)}, true, true)[0];
  CHECK(g.item() == 12);
  Tensor g2 = grad({g}, {x}, {ones_like(g)})[0];
  CHECK(g2.item() == 12);
}

TEST_CASE("an in-place edit of a saved value is an error that names both sites") {
  Tensor x = leaf({1, 2});
  Tensor a = x * 2.0;
  Tensor b = sum(exp(a) * a);
  add_(a, 1.0);
  CHECK_THROWS_WITH_AS(b.backward(), doctest::Contains("modified in place by add_"), AutogradError);
  CHECK(!x.grad().defined());
}

TEST_CASE("in-place on a view reaches the base and other views") {
  Tensor x = leaf({1, 2, 3, 4});
  Tensor y = x * 1.0, v = narrow(y, 0, 1, 2), w = narrow(y, 0, 0, 2);
  mul_(v, v * 3.0);
  sum(y + 0.0).backward({}, true);
  Tensor g = x.grad();
  CHECK(g.data<double>()[0] == 1);
  CHECK(g.data<double>()[1] == 12);  // 3 v^2 -> 6 v
  CHECK(g.data<double>()[2] == 18);
  x.set_grad({});
  sum(w).backward();  // w sees the edit of v in y[1]
  CHECK(x.grad().data<double>()[1] == 12);
  CHECK(x.grad().data<double>()[2] == 0);
  CHECK_THROWS_AS(add_(x, 1.0), AutogradError);
  {
    NoGrad guard;
    CHECK_NOTHROW(add_(x, 1.0));
  }
}

TEST_CASE("hooks, retain_grad, detach") {
  Tensor x = leaf({1, 2});
  Tensor y = x * 3.0;
  y.retain_grad();
  int calls = 0;
  uint64_t id = add_hook(y, [&](const Tensor& g) { return ++calls, g * 2.0; });
  sum(y).backward({}, true);
  CHECK(calls == 1);
  CHECK(x.grad().data<double>()[0] == 6);
  CHECK(y.grad().data<double>()[0] == 2);
  CHECK(remove_hook(y, id));
  CHECK(!y.detach().requires_grad());
  add_(y.detach(), 1.0);  // shares memory: the version counter tells
  CHECK(y.data<double>()[0] == 4);
}

TEST_CASE("custom function, also twice differentiable") {
  auto cube = [](const Tensor& t) {
    return apply_function({"Cube",
                           [](FunctionCtx& c, const std::vector<Tensor>& in) {
                             c.save_for_backward({in[0]});
                             return std::vector<Tensor>{in[0] * in[0] * in[0]};
                           },
                           [](FunctionCtx& c, const std::vector<Tensor>& g) {
                             Tensor x = c.saved()[0];
                             return std::vector<Tensor>{g[0] * 3.0 * x * x};
                           }},
                          {t})[0];
  };
  Tensor x = leaf({0.5, -1.5});
  CHECK(gradcheck([&](auto& in) { return std::vector<Tensor>{cube(in[0])}; }, {x}) == "");
  CHECK(gradgradcheck([&](auto& in) { return std::vector<Tensor>{cube(in[0])}; }, {x}) == "");
}

TEST_CASE("gradcheck finds a wrong gradient") {
  auto wrong = [](const std::vector<Tensor>& in) {
    return apply_function(
        {"Wrong", [](FunctionCtx&, const std::vector<Tensor>& v) { return std::vector<Tensor>{v[0] * v[0]}; },
         [](FunctionCtx&, const std::vector<Tensor>& g) { return std::vector<Tensor>{g[0] * 2.0}; }},
        in);
  };
  CHECK(gradcheck(wrong, {leaf({0.5, -1.5})}) != "");
}

TEST_CASE("anomaly detection names the node") {
  DetectAnomaly on;
  Tensor x = leaf({0});
  Tensor y = sqrt(x) * 0.0;
  CHECK_THROWS_WITH_AS(sum(y).backward(), doctest::Contains("SqrtBackward0"), AutogradError);
}

TEST_CASE("no_grad, inference_mode") {
  Tensor x = leaf({1});
  {
    NoGrad guard;
    CHECK(!(x * 2.0).requires_grad());
  }
  CHECK((x * 2.0).requires_grad());
  CHECK_THROWS_AS(grad({x * 2.0}, {leaf({1})}, {ones_like(x)}), AutogradError);
}

static void* million_nodes(void* result) {
  Tensor x = leaf({1}), y = x;
  for (int i = 0; i < 1'000'000; ++i) y = add(y, 1e-6);
  y.backward();
  bool ok = x.grad().item() == 1 && std::fabs(y.item() - 2) < 1e-6;
  y = Tensor();  // frees the chain on this stack
  *static_cast<bool*>(result) = ok;
  return nullptr;
}

TEST_CASE("a graph of a million nodes on a 256 KiB stack") {
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 256 * 1024);
  pthread_t thread;
  bool ok = false;
  REQUIRE(pthread_create(&thread, &attr, million_nodes, &ok) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attr);
  CHECK(ok);
}

TEST_CASE("threads build and run graphs of their own") {
  std::vector<std::thread> t;
  std::atomic<int> good{0};
  for (int k = 0; k < 8; ++k)
    t.emplace_back([&, k] {
      Tensor x = leaf({double(k)});
      for (int i = 0; i < 100; ++i) sum(x * x).backward();
      good += x.grad().item() == 200.0 * k;
    });
  for (auto& th : t) th.join();
  CHECK(good == 8);
}
