// Primitives of the CPU backend against a hand-written loop, memcpy's stream and BLAS called directly.
// One line per case: time, and how many times the yardstick takes it.
#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "backends/backend.h"
#include "backends/cpu/loops.h"
#include "core/pool.h"

#ifdef TG_BLAS_SCIPY
#define TG_SGEMM scipy_cblas_sgemm
#else
#define TG_SGEMM cblas_sgemm
#endif

namespace {

using namespace tg;

// Best of several runs, in nanoseconds per call.
template <class F>
double time_ns(F&& f) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  int64_t reps = 1;
  for (int round = 0; round < 12;) {
    auto t0 = Clock::now();
    for (int64_t i = 0; i < reps; ++i) f();
    double ns = std::chrono::duration<double, std::nano>(Clock::now() - t0).count();
    if (ns < 2e6) {
      reps *= 2;
      continue;
    }
    best = std::min(best, ns / double(reps));
    ++round;
  }
  return best;
}

View view(std::vector<float>& x, Dims shape) {
  View v;
  v.data = x.data();
  v.shape = shape;
  v.stride = contiguous_strides(shape);
  return v;
}

Views list(std::initializer_list<View> views) {
  Views r;
  for (const View& v : views) r.push_back(v);
  return r;
}

Program one(Opc op, int inputs) {
  Program p;
  p.n_inputs = inputs;
  p.code.push_back({op, {0, uint8_t(inputs > 1), 0}});
  p.outs.push_back(p.code_reg(0));
  return p;
}

void report(const char* what, int64_t n, double ns, const char* against, double yardstick) {
  std::printf("%-14s n=%-9lld %12.1f ns   %6.2f x %s (%.1f ns)\n", what, static_cast<long long>(n), ns, ns / yardstick,
              against, yardstick);
}

void bench_map(int64_t n) {
  std::vector<float> a(size_t(n), 1.5f), b(size_t(n), 0.5f), c(size_t(n), 0.0f);
  Backend& be = cpu_backend();
  const Views two = list({view(a, {n}), view(b, {n})}), in = list({view(a, {n})}), out = list({view(c, {n})});
  const Program add = one(Opc::add, 2), exp = one(Opc::exp, 1);
  float *pa = a.data(), *pb = b.data(), *pc = c.data();
  double loop = time_ns([&] {
    parallel_for(n, 1 << 15, [&](int64_t s, int64_t e) {
      for (int64_t i = s; i < e; ++i) pc[i] = pa[i] + pb[i];
    });
    asm volatile("" ::: "memory");
  });
  report("add", n, time_ns([&] { be.map(add, two, out); }), "plain loop", loop);
  double copy = time_ns([&] {
    std::memcpy(pc, pa, size_t(n) * 4);
    asm volatile("" ::: "memory");
  });
  report("exp", n, time_ns([&] { be.map(exp, in, out); }), "memcpy", copy);
}

void bench_sum(int64_t rows, int64_t cols) {
  std::vector<float> a(size_t(rows * cols), 1.5f), c(size_t(std::max(rows, cols)), 0.0f);
  Backend& be = cpu_backend();
  const Views in = list({view(a, {rows, cols})});
  View out = view(c, {rows, cols});
  std::vector<float> d(a.size());
  double copy = time_ns([&] {
    std::memcpy(d.data(), a.data(), a.size() * 4);
    asm volatile("" ::: "memory");
  });
  auto run = [&](const char* what, int64_t sr, int64_t sc) {
    out.stride = {sr, sc};
    report(what, rows * cols, time_ns([&] { be.reduce(ReduceOp::Sum, DType::F32, nullptr, in, nullptr, out); }),
           "memcpy", copy);
  };
  run("sum all", 0, 0);
  run("sum rows", 1, 0);
  run("sum columns", 0, 1);
}

void bench_gemm(int64_t m, int64_t n, int64_t k) {
  std::vector<float> a(size_t(m * k), 0.5f), b(size_t(k * n), 0.25f), c(size_t(m * n), 0.0f);
  const View va = view(a, {1, m, k}), vb = view(b, {1, k, n}), vc = view(c, {1, m, n});
  Backend& be = cpu_backend();
  double ns = time_ns([&] { be.gemm(1, va, vb, 0, vc); });
  double direct = time_ns([&] {
    TG_SGEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, int(m), int(n), int(k), 1.0f, a.data(), int(k), b.data(),
             int(n), 0.0f, c.data(), int(n));
  });
  report("gemm", m, ns, "sgemm, 1 thread", direct);
  std::printf("               %.1f GFLOP/s\n", 2e0 * double(m) * double(n) * double(k) / ns);
}

}  // namespace

int main() {
  std::printf("instruction set %s, %d threads\n", cpu::loops().isa, num_threads());
  for (int64_t n : {12, 1000, 32768, 1 << 20, 1 << 22}) bench_map(n);
  bench_sum(8, 8);
  bench_sum(1024, 1024);
  bench_sum(2048, 2048);
  bench_gemm(16, 16, 16);
  bench_gemm(128, 128, 128);
  bench_gemm(512, 512, 512);
  bench_gemm(1024, 1024, 1024);
  bench_gemm(1, 2048, 2048);
}
