// Every primitive of the CPU backend against a floor measured in the same run: the BLAS called directly for products,
// plain streams over memory for the rest.
//
//   primitives                 a table; "MISS" where a goal is not reached
//   primitives --tsv           the same for programs: primitive, case, seconds, floor, fraction of it, goal (0: none)
//   primitives --only=gather   the table of one primitive; after any of these, the number of threads
//   primitives --floors N      seconds of the floors with N threads: sgemm of 1024, copy, add and read of 64 MB
//
// A fraction of 0.8 means: the floor moves the same bytes (multiplies the same matrices) in 0.8 of the time. Goals: 0.8
// for primitives that are contiguous and bound by memory, 0.95 for products. The others have no goal: their work is
// arithmetic, order or random access.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "backends/backend.h"
#include "backends/cpu/blas.h"
#include "backends/cpu/loops.h"
#include "core/allocator.h"
#include "core/pool.h"

namespace {

using namespace tg;

constexpr double kStream = 0.8, kProduct = 0.95, kNone = 0;
constexpr int64_t kSide = 4096, kCount = kSide * kSide;  // 64 MB of floats: more than the caches hold

using Run = std::function<void()>;

double seconds_of(const Run& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Calls in a row so that a measurement takes 2 ms.
int calls_for(const Run& f) {
  f();
  return std::max(1, int(2e-3 / std::max(1e-9, seconds_of(f))));
}

// The shortest times of two functions that take turns, so that both see the same machine. `pause`: before each turn of
// f.
std::pair<double, double> best_of_both(const Run& f, const Run& g, int rounds = 9,
                                       std::chrono::milliseconds pause = {}) {
  const int nf = calls_for(f), ng = calls_for(g);
  double bf = 1e30, bg = 1e30;
  for (int round = 0; round < rounds; ++round) {
    if (pause.count() > 0) {
      std::this_thread::sleep_for(pause);
      for (int i = 0; i < nf; ++i) f();  // our threads slept as well
    }
    bf = std::min(bf, seconds_of([&] {
                        for (int i = 0; i < nf; ++i) f();
                      }) / nf);
    bg = std::min(bg, seconds_of([&] {
                        for (int i = 0; i < ng; ++i) g();
                      }) / ng);
  }
  return {bf, bg};
}

// ---- floors

enum class Stream { Copy, Add, Read };
constexpr const char* kStreamNames[] = {"copy", "add", "read"};
constexpr double kStreamBytes[] = {8.0 * kCount, 12.0 * kCount, 4.0 * kCount};

typedef float Vec __attribute__((vector_size(64), aligned(4)));

#if defined(__x86_64__) && defined(__gnu_linux__)
#define EACH_ISA __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define EACH_ISA
#endif

// Streaming stores: nobody reads what is written before it has left the caches.
void store(float* to, const float* a, const float* b) {
#ifdef __SSE2__
  _mm_stream_ps(to, b ? _mm_add_ps(_mm_loadu_ps(a), _mm_loadu_ps(b)) : _mm_loadu_ps(a));
#else
  for (int i = 0; i < 4; ++i) to[i] = b ? a[i] + b[i] : a[i];
#endif
}

void copy_range(const float* a, float* c, int64_t n) {
  for (int64_t i = 0; i < n; i += 4) store(c + i, a + i, nullptr);
}

void add_range(const float* a, const float* b, float* c, int64_t n) {
  for (int64_t i = 0; i < n; i += 4) store(c + i, a + i, b + i);
}

EACH_ISA float read_range(const float* a, int64_t n) {
  Vec s[4] = {};
  for (int64_t i = 0; i < n; i += 64)
    for (int k = 0; k < 4; ++k) {
      Vec v;
      std::memcpy(&v, a + i + 16 * k, sizeof v);
      s[k] += v;
    }
  const Vec t = s[0] + s[1] + s[2] + s[3];
  float sum = 0;
  for (int k = 0; k < 16; ++k) sum += t[k];
  return sum;
}

// Memory of the framework's allocator: floors and primitives then have the same kind of pages.
template <class T>
class Array {
 public:
  explicit Array(int64_t n, T value = T()) : n_(n), p_(static_cast<T*>(allocator(Device{}).allocate(bytes()))) {
    std::fill(begin(), end(), value);
  }
  ~Array() { allocator(Device{}).deallocate(p_, bytes()); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* data() { return p_; }
  T* begin() { return p_; }
  T* end() { return p_ + n_; }

 private:
  size_t bytes() const { return size_t(n_) * sizeof(T); }
  int64_t n_;
  T* p_;
};

struct Floats {
  Array<float> a{kCount}, b{kCount}, c{kCount};
  Floats() {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> draw(-2, 2);
    for (float& x : a) x = draw(random);
    std::reverse_copy(a.begin(), a.end(), b.begin());
  }
};
Floats& floats() {
  static Floats f;
  return f;
}

void stream(Stream kind) {
  Floats& f = floats();
  parallel_for(kCount, kCount / num_threads(), [&](int64_t b, int64_t e) {
    volatile float keep = 0;
    if (kind == Stream::Copy) copy_range(f.a.data() + b, f.c.data() + b, e - b);
    if (kind == Stream::Add) add_range(f.a.data() + b, f.b.data() + b, f.c.data() + b, e - b);
    if (kind == Stream::Read) keep = read_range(f.a.data() + b, e - b);
    (void)keep;
  });
}

void blas_threads(int n) {
#ifdef TG_BLAS_OPENBLAS
  TG_OPENBLAS(set_num_threads)(n);
#else
  (void)n;
#endif
}

void direct_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  blas_threads(num_threads());
  TG_CBLAS(sgemm)(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, int(m), int(n), int(k),
                  1.0f, a, int(ta ? m : k), b, int(tb ? k : n), 0.0f, c, int(n));
  blas_threads(1);  // as the backend wants it
}

void print_floors() {
  Floats& f = floats();
  auto best = [](const Run& run) { return best_of_both(run, [] {}, 5).first; };
  std::printf("sgemm 1024\t%.9g\n",
              best([&] { direct_product(false, false, 1024, 1024, 1024, f.a.data(), f.b.data(), f.c.data()); }));
  for (Stream kind : {Stream::Copy, Stream::Add, Stream::Read})
    std::printf("%s 64 MB\t%.9g\n", kStreamNames[int(kind)], best([&] { stream(kind); }));
}

// ---- the table

class Table {
 public:
  Table(bool tsv, std::string only) : tsv_(tsv), only_(std::move(only)) {
    if (!tsv) std::printf("instruction set %s, %d threads\n", cpu::loops().isa, num_threads());
  }

  // `bytes` is what the primitive has to read and write; its floor is a stream with the same mix of both.
  void memory(const char* primitive, const char* what, Stream kind, double bytes, double goal, const Run& run) {
    if (!wanted(primitive)) return;
    const auto [ours, floor] = best_of_both(run, [&] { stream(kind); });
    line(primitive, what, ours, std::string("stream ") + kStreamNames[int(kind)],
         floor * bytes / kStreamBytes[int(kind)] / ours, goal);
  }
  void product(const char* primitive, const char* what, double goal, const Run& run, const Run& direct) {
    if (!wanted(primitive)) return;
    // The BLAS's other threads wait for its next call at full speed for a while, on processors that ours should have.
    const std::chrono::milliseconds pause(num_threads() > 1 ? 120 : 0);
    const auto [ours, floor] = best_of_both(run, direct, 15, pause);
    line(primitive, what, ours, "sgemm", floor / ours, goal);
  }

 private:
  bool wanted(const char* primitive) const { return only_.empty() || only_ == primitive; }
  void line(const char* primitive, const char* what, double seconds, const std::string& floor, double fraction,
            double goal) {
    if (tsv_)
      std::printf("%s\t%s\t%.9g\t%s\t%.4f\t%g\n", primitive, what, seconds, floor.c_str(), fraction, goal);
    else
      std::printf("%-18s %-34s %12.1f us  %5.2f of %-12s %s\n", primitive, what, seconds * 1e6, fraction, floor.c_str(),
                  goal == 0          ? ""
                  : fraction >= goal ? "pass"
                                     : "MISS");
    std::fflush(stdout);
  }
  bool tsv_;
  std::string only_;
};

// ---- views

template <class T>
View view(Array<T>& x, DType t, Dims shape) {
  View v;
  v.data = x.data();
  v.dtype = t;
  v.shape = shape;
  v.stride = contiguous_strides(shape);
  return v;
}
View matrix(Array<float>& x) { return view(x, DType::F32, {kSide, kSide}); }
View line(Array<float>& x) { return view(x, DType::F32, {kCount}); }
View strided(View v, Dims stride) {
  v.stride = stride;
  return v;
}
// Of a matrix: one value per row, or one per column.
View per_row(View v) { return strided(v, {1, 0}); }
View per_column(View v) { return strided(v, {0, 1}); }

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

// ---- primitives

void bench_map(Table& table, Backend& be) {
  Floats& f = floats();
  const View a = line(f.a), b = line(f.b), c = line(f.c);
  auto unary = [&](const char* what, Opc op, double goal) {
    table.memory("map", what, Stream::Copy, 8.0 * kCount, goal, [&, op] { be.map(one(op, 1), list({a}), list({c})); });
  };
  table.memory("map", "add", Stream::Add, 12.0 * kCount, kStream,
               [&] { be.map(one(Opc::add, 2), list({a, b}), list({c})); });
  const FlatOperand flat[] = {{f.a.data(), false}, {f.b.data(), false}};
  table.memory("map_flat", "add", Stream::Add, 12.0 * kCount, kStream,
               [&] { be.map_flat(Opc::add, DType::F32, flat, 2, f.c.data(), kCount); });
  unary("copy", Opc::Identity, kStream);
  unary("relu", Opc::relu, kStream);
  unary("exp", Opc::exp, kNone);
  unary("tanh", Opc::tanh, kNone);
  table.memory("map", "add to itself", Stream::Copy, 8.0 * kCount, kStream,
               [&] { be.map(one(Opc::add, 2), list({c, c}), list({c})); });
  std::fill(f.c.begin(), f.c.end(), 0.0f);
  Array<uint16_t> half(kCount);
  const View h = view(half, DType::BF16, {kCount});
  table.memory("map", "float32 to bfloat16", Stream::Copy, 6.0 * kCount, kStream,
               [&] { be.map(one(Opc::Identity, 1), list({a}), list({h})); });
  table.memory("map", "bfloat16 to float32", Stream::Copy, 6.0 * kCount, kStream,
               [&] { be.map(one(Opc::Identity, 1), list({h}), list({c})); });
  table.memory("map", "random uniform", Stream::Copy, 4.0 * kCount, kNone,
               [&] { be.map(one(Opc::RandUniform, 0), {}, list({c})); });
  table.memory("map", "transposed copy", Stream::Copy, 8.0 * kCount, kNone,
               [&] { be.map(one(Opc::Identity, 1), list({strided(matrix(f.a), {1, kSide})}), list({matrix(f.c)})); });
}

void bench_reductions(Table& table, Backend& be) {
  Floats& f = floats();
  const View in = matrix(f.a);
  Array<float> values(kSide);
  Array<int64_t> where(kSide);
  const View out = strided(in, {0, 0}), inner = per_row(in), outer = per_column(in);
  auto reduce = [&](const char* what, ReduceOp op, View to) {
    to.data = values.data();
    table.memory("reduce", what, Stream::Read, 4.0 * kCount, kStream,
                 [&, op, to] { be.reduce(op, DType::F32, nullptr, list({in}), nullptr, to); });
  };
  reduce("sum of all", ReduceOp::Sum, out);
  reduce("sum, inner axis", ReduceOp::Sum, inner);
  reduce("sum, outer axis", ReduceOp::Sum, outer);
  reduce("max, inner axis", ReduceOp::Max, inner);
  reduce("max, outer axis", ReduceOp::Max, outer);
  reduce("prod, inner axis", ReduceOp::Prod, inner);
  reduce("any, inner axis", ReduceOp::Any, inner);
  for (int axis : {1, 0}) {
    const Dims shape = axis == 1 ? Dims{kSide, 1} : Dims{1, kSide};
    const View v = view(values, DType::F32, shape), i = view(where, DType::I64, shape);
    table.memory("arg_reduce", axis ? "max, inner axis" : "max, outer axis", Stream::Read, 4.0 * kCount, kStream,
                 [&, axis, v, i] { be.arg_reduce(true, in, axis, v, i); });
    table.memory("scan", axis ? "sum, inner axis" : "sum, outer axis", Stream::Copy, 8.0 * kCount, kStream,
                 [&, axis] { be.scan(ScanOp::Sum, in, axis, matrix(f.c), View()); });
  }
}

void bench_index(Table& table, Backend& be) {
  Floats& f = floats();
  Array<int64_t> index(kCount), rows(kSide);
  std::vector<int64_t> found;
  std::mt19937 random(2);
  for (int64_t& i : index) i = int64_t(random() % kSide);
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), random);
  const View a = matrix(f.a), c = matrix(f.c), all = view(index, DType::I64, {kSide, kSide});
  View of_rows = all;
  of_rows.data = rows.data(), of_rows.stride = {1, 0};
  // positions of every second element or so
  table.memory("nonzero", "half of the elements", Stream::Copy, 4.0 * kCount + 8.0 * kCount / 2, kNone, [&] {
    found.clear();
    be.nonzero(view(f.a, DType::F32, {kCount}), found);
  });
  table.memory("int_range", "index", Stream::Read, 8.0 * kCount, kStream, [&] { (void)be.int_range(all); });
  table.memory("gather", "rows", Stream::Copy, 8.0 * kCount, kStream, [&] { be.gather(a, 0, of_rows, c); });
  table.memory("gather", "elements of a row", Stream::Add, 16.0 * kCount, kNone, [&] { be.gather(a, 1, all, c); });
  table.memory("gather_checked", "elements of a row", Stream::Add, 16.0 * kCount, kNone,
               [&] { be.gather_checked(a, 1, all, c); });
  table.memory("scatter", "set rows", Stream::Copy, 8.0 * kCount, kStream,
               [&] { be.scatter(ScatterOp::Set, a, 0, of_rows, c); });
  table.memory("scatter", "add elements of a row", Stream::Add, 20.0 * kCount, kNone,
               [&] { be.scatter(ScatterOp::Add, a, 1, all, c); });
  table.memory("fold", "without overlap", Stream::Add, 12.0 * kCount, kStream, [&] { be.fold(a, c); });
  // windows of 4 at each position: three quarters of the sums land in cache
  View in = a, windows = c;
  in.shape = windows.shape = {kSide, kSide - 3, 4}, in.stride = {0, 1, 1}, windows.stride = {kSide, 1, 1};
  table.memory("fold", "windows of 4", Stream::Copy, 8.0 * kCount, kNone, [&] { be.fold(in, windows); });
  const int64_t sorted = 1 << 20;
  View keys = view(f.a, DType::F32, {1024, 1024}), to = view(f.c, DType::F32, {1024, 1024});
  View at = view(index, DType::I64, {1024, 1024});
  table.memory("sort", "1024 rows of 1024", Stream::Copy, 16.0 * double(sorted), kNone,
               [&] { be.sort(keys, 1, false, to, at); });
  table.memory("copy_bytes", "64 MB", Stream::Copy, 8.0 * kCount, kStream,
               [&] { be.copy_bytes(f.c.data(), f.a.data(), size_t(kCount) * 4); });
  table.memory("synchronize", "nothing to wait for", Stream::Copy, 0, kNone, [&] { be.synchronize(); });
}

void bench_fused(Table& table, Backend& be) {
  Floats& f = floats();
  const View x = matrix(f.a), g = matrix(f.b), y = matrix(f.c);
  Array<float> row_values(kSide, 1.0f), more_values(kSide, 1.0f), weights(kSide, 1.0f), biases(kSide, 0.5f);
  auto rows_of = [&](Array<float>& v) { return per_row(view(v, DType::F32, {kSide, kSide})); };
  auto columns_of = [&](Array<float>& v) { return per_column(view(v, DType::F32, {kSide, kSide})); };
  const View shift = rows_of(row_values), scale = rows_of(more_values);
  const View weight = columns_of(weights), bias = columns_of(biases);
  auto run = [&](const char* what, Stream kind, double floats_moved, Fused kernel, Views in, Views out, double arg) {
    table.memory("fused", what, kind, 4 * floats_moved * kCount, kNone, [&, kernel, in, out, arg] {
      if (!be.fused(kernel, in, out, arg)) std::abort();
    });
  };
  run("softmax", Stream::Copy, 2, Fused::Softmax, list({x}), list({y}), 0);
  run("softmax, gradient", Stream::Add, 3, Fused::SoftmaxGrad, list({x, g}), list({y}), 0);
  run("log_softmax", Stream::Copy, 2, Fused::LogSoftmax, list({x}), list({y}), 0);
  run("log_softmax, gradient", Stream::Add, 3, Fused::LogSoftmaxGrad, list({x, g}), list({y}), 0);
  run("logsumexp", Stream::Read, 1, Fused::LogSumExp, list({x}), list({shift}), 0);
  run("scaled exp", Stream::Copy, 2, Fused::ScaledExp, list({x, shift, scale}), list({y}), 0);
  run("norm", Stream::Copy, 2, Fused::Norm, list({x, weight, bias}), list({y, shift, scale}), 1e-5);
  run("norm, gradient", Stream::Add, 3, Fused::NormGrad, list({x, g, weight, shift, scale}), list({y}), 1e-5);
  run("norm, gradients of weights", Stream::Add, 2, Fused::NormWeights, list({x, g, shift, scale}),
      list({weight, bias}), 1e-5);
}

void bench_gemm(Table& table, Backend& be) {
  Floats& f = floats();
  struct Shape {
    const char* name;
    int m, n, k;
    bool ta, tb;
  };
  const Shape shapes[] = {{"64", 64, 64, 64, false, false},
                          {"128", 128, 128, 128, false, false},
                          {"256", 256, 256, 256, false, false},
                          {"512", 512, 512, 512, false, false},
                          {"1024", 1024, 1024, 1024, false, false},
                          {"2048", 2048, 2048, 2048, false, false},
                          {"512, a transposed", 512, 512, 512, true, false},
                          {"512, b transposed", 512, 512, 512, false, true},
                          {"1024 x 768 -> 3072", 1024, 3072, 768, false, true},
                          {"vector x 2048 x 2048", 1, 2048, 2048, false, false},
                          {"100 x 16 -> 16", 100, 16, 16, false, true}};
  for (const Shape& s : shapes) {
    const int m = s.m, n = s.n, k = s.k;
    View a = view(f.a, DType::F32, {1, m, k}), b = view(f.b, DType::F32, {1, k, n}),
         c = view(f.c, DType::F32, {1, m, n});
    if (s.ta) a.stride = {0, 1, m};
    if (s.tb) b.stride = {0, 1, k};
    table.product(
        "gemm", s.name, kProduct, [&] { be.gemm(1, a, b, 0, c); },
        [&] { direct_product(s.ta, s.tb, m, n, k, f.a.data(), f.b.data(), f.c.data()); });
  }
  const int m = 1024, n = 1024, k = 256;
  View a = view(f.a, DType::F32, {1, m, k}), b = view(f.b, DType::F32, {1, k, n}), c = view(f.c, DType::F32, {1, m, n});
  View bias = view(f.b, DType::F32, {n});
  table.product(
      "gemm_bias", "1024 x 256 -> 1024", kProduct, [&] { be.gemm_bias(a, b, bias, c); },
      [&] { direct_product(false, false, m, n, k, f.a.data(), f.b.data(), f.c.data()); });
}

// Against the product of the same multiplications, whose columns somebody would have had to copy first.
void bench_convolution(Table& table, Backend& be) {
  Floats& f = floats();
  const int64_t batch = 4, channels = 64, side = 56, padded = side + 2, taps = channels * 9,
                points = batch * side * side;
  const ConvShape shape{batch, 1, channels, channels, {3, 3}, {side, side}, {1, 1}, {1, 1}, {padded, padded}};
  const View x = view(f.a, DType::F32, {batch, channels, padded, padded});
  const View w = view(f.b, DType::F32, {channels, channels, 3, 3});
  const View y = view(f.c, DType::F32, {batch, channels, side, side});
  if (!be.convolution(shape, x, w, y)) return;  // no kernel for this processor
  table.product(
      "convolution", "64-64 3x3 at 56, 4", kNone, [&] { be.convolution(shape, x, w, y); },
      [&] { direct_product(false, false, channels, points, taps, f.b.data(), f.a.data(), f.c.data()); });
  table.product(
      "convolution_weight", "64-64 3x3 at 56, 4", kNone, [&] { be.convolution_weight(shape, x, y, w); },
      [&] { direct_product(false, true, channels, taps, points, f.b.data(), f.a.data(), f.c.data()); });
}

// OpenBLAS reads which kernels to use when it is loaded; a yardstick told to use older ones is none.
void start_without_blas_settings(char** argv) {
  bool found = false;
  for (const char* name : {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"})
    if (std::getenv(name)) found = true, unsetenv(name);
  if (found) execv("/proc/self/exe", argv);
}

}  // namespace

int main(int argc, char** argv) {
  start_without_blas_settings(argv);
  const std::string how = argc > 1 ? argv[1] : "";
  if (const int n = argc > 2 ? std::atoi(argv[2]) : 1; n > 0) set_num_threads(n);
  if (how == "--floors") return print_floors(), 0;
  const std::string only = how.rfind("--only=", 0) == 0 ? how.substr(7) : "";
  Table table(how == "--tsv", only);
  Backend& be = cpu_backend();
  bench_map(table, be);
  bench_reductions(table, be);
  bench_index(table, be);
  bench_fused(table, be);
  bench_gemm(table, be);
  bench_convolution(table, be);
}
