// The workloads of a few small ops without Python: what Python costs, and what instruction counts are taken of.
//
//   small_ops                  names of the workloads, and the compiler this was built with
//   small_ops count NAME N     runs it N times (benchmarks/instructions.py counts under callgrind)
//   small_ops time NAME SEC    the shortest time of one run, in seconds
//
// Names and sizes are those of benchmarks/workloads.py, but for the row kernels, which are only counted.
#include <tg/tg.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "core/pool.h"

namespace {

using tg::Tensor;

std::function<void()> add() {
  Tensor a = tg::rand({3, 4}), b = tg::rand({3, 4});
  return [=] {
    tg::NoGrad no_grad;
    Tensor c = a + b;
  };
}

std::function<void()> multiply_add() {
  std::vector<Tensor> xyz;
  for (int i = 0; i < 3; ++i) xyz.push_back(tg::rand({3, 4}).set_requires_grad(true));
  return [=] {
    for (const Tensor& t : xyz) t.set_grad(Tensor());
    tg::sum(xyz[0] * xyz[1] + xyz[2]).backward();
  };
}

std::function<void()> scalar_mlp() {
  tg::nn::Sequential model(tg::nn::Linear(2, 16), tg::nn::Tanh(), tg::nn::Linear(16, 16), tg::nn::Tanh(),
                           tg::nn::Linear(16, 1));
  auto optimizer = std::make_shared<tg::optim::SGD>(model->parameters(), tg::optim::SGDOptions{.lr = 0.01});
  Tensor x = tg::randn({100, 2}), y = tg::randn({100, 1});
  return [=] {
    optimizer->zero_grad();
    tg::mse_loss(model(x), y).backward();
    optimizer->step();
  };
}

// Kernels whose lanes are written out: callgrind sees what a processor without AVX-512 runs.
std::function<void()> row_kernels() {
  Tensor x = tg::randn({4, 512});
  return [=] {
    tg::NoGrad no_grad;
    tg::softmax(x, -1), tg::layer_norm(x, {512}), tg::amax(x, {-1}), tg::amax(x, {0}), tg::sum(x, {-1});
  };
}

struct SmallOp {
  const char* name;
  std::function<void()> (*make)();
};
constexpr SmallOp kOps[] = {{"add 3x4", add},
                            {"x*y+z and gradient", multiply_add},
                            {"scalar MLP 2-16-16-1 SGD", scalar_mlp},
                            {"row kernels 4x512", row_kernels}};

// The best of batches of 20 runs, per run; a batch outlasts the clock's own cost by far.
double best_seconds(const std::function<void()>& run, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  double best = 1e30, past = 0;
  while (past < seconds || best == 1e30) {
    const auto t0 = Clock::now();
    for (int i = 0; i < 20; ++i) run();
    const auto t1 = Clock::now();
    best = std::min(best, std::chrono::duration<double>(t1 - t0).count() / 20);
    past = std::chrono::duration<double>(t1 - start).count();
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    for (const SmallOp& op : kOps) std::printf("%s\n", op.name);
#ifdef __clang__
    std::printf("compiler: clang %d\n", __clang_major__);
#else
    std::printf("compiler: gcc %d\n", __GNUC__);
#endif
    return 0;
  }
  const std::string how = argv[1], name = argc == 4 ? argv[2] : "";
  for (const SmallOp& op : kOps) {
    if (name != op.name) continue;
    tg::set_num_threads(1);
    tg::manual_seed(0);
    const auto run = op.make();
    if (how == "count")
      for (long n = std::atol(argv[3]); n > 0; --n) run();
    else
      std::printf("%.9g\n", best_seconds(run, std::atof(argv[3])));
    return 0;
  }
  std::fprintf(stderr, "small_ops: no workload '%s'\n", name.c_str());
  return 1;
}
