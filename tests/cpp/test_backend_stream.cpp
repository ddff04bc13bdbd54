// Results so large that the CPU backend writes them past the caches: the values of plain loops, at ends that are not
// aligned to a line as well.
#include <doctest/doctest.h>

#include "backends/cpu/stream.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

constexpr int64_t kMany = cpu::kStreamed / 4 + 37, kWidth = 1031, kRows = kMany / kWidth + 1;

// Memory that begins one element behind the start of a line.
template <class T>
class Memory {
 public:
  explicit Memory(int64_t n) : all_(size_t(n) + 64 / sizeof(T) + 1) {
    const auto at = reinterpret_cast<uintptr_t>(all_.data()) / sizeof(T) % (64 / sizeof(T));
    first_ = all_.data() + (64 / sizeof(T) - at) + 1;
  }
  Memory(Memory&&) = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  T& operator[](int64_t i) { return first_[i]; }
  View view(DType t, const Dims& shape) {
    View v;
    v.data = first_, v.dtype = t, v.shape = shape, v.stride = contiguous_strides(shape);
    return v;
  }

 private:
  std::vector<T> all_;
  T* first_;
};

Memory<float> numbers(int64_t n, int64_t period) {
  Memory<float> m(n);
  for (int64_t i = 0; i < n; ++i) m[i] = float(i % period) * 0.5f - 100;
  return m;
}

void run(Opc op, DType compute, const Views& ins, const View& out) {
  Program p;
  p.compute = compute, p.n_inputs = uint8_t(ins.size());
  p.code.push_back({op, {0, 1, 0}});
  p.outs.push_back(p.code_reg(0));
  Views outs;
  outs.push_back(out);
  cpu_backend().map(p, ins, outs);
}

template <class F>
int64_t count_wrong(int64_t n, F right) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) wrong += !right(i);
  return wrong;
}

}  // namespace

TEST_CASE("stream: sums and conversions" * doctest::skip(on_device())) {
  Memory<float> x = numbers(kMany, 1000), y = numbers(kMany, 77), z(kMany);
  const Dims shape{kMany};
  Views both;
  both.push_back(x.view(DType::F32, shape)), both.push_back(y.view(DType::F32, shape));
  run(Opc::add, DType::F32, both, z.view(DType::F32, shape));
  CHECK(count_wrong(kMany, [&](int64_t i) { return z[i] == x[i] + y[i]; }) == 0);
  both[0] = z.view(DType::F32, shape);
  run(Opc::add, DType::F32, both, both[0]);
  CHECK(count_wrong(kMany, [&](int64_t i) { return z[i] == x[i] + y[i] + y[i]; }) == 0);
  both.resize(1);
  run(Opc::Identity, DType::F32, both, y.view(DType::F32, shape));
  CHECK(count_wrong(kMany, [&](int64_t i) { return y[i] == z[i]; }) == 0);
  Memory<BFloat16> half(2 * kMany);
  Memory<float> wide = numbers(2 * kMany, 500), back(2 * kMany);
  const Dims twice{2 * kMany};
  Views one;
  one.push_back(wide.view(DType::F32, twice));
  run(Opc::Identity, DType::F32, one, half.view(DType::BF16, twice));
  one[0] = half.view(DType::BF16, twice);
  run(Opc::Identity, DType::F32, one, back.view(DType::F32, twice));
  CHECK(count_wrong(2 * kMany, [&](int64_t i) { return back[i] == convert<float>(convert<BFloat16>(wide[i])); }) == 0);
}

TEST_CASE("stream: rows by gather and scatter" * doctest::skip(on_device())) {
  const Dims shape{kRows, kWidth};
  Memory<float> x = numbers(kRows * kWidth, 99991), y(kRows * kWidth);
  Memory<int64_t> rows(kRows);
  for (int64_t r = 0; r < kRows; ++r) rows[r] = r * 37 % (kRows - 100);  // some of them twice
  View index = rows.view(DType::I64, {kRows});
  index.shape = shape, index.stride = {1, 0};
  cpu_backend().gather(x.view(DType::F32, shape), 0, index, y.view(DType::F32, shape));
  CHECK(count_wrong(kRows * kWidth, [&](int64_t i) { return y[i] == x[rows[i / kWidth] * kWidth + i % kWidth]; }) == 0);
  std::vector<int64_t> last(size_t(kRows), -1);
  for (int64_t r = 0; r < kRows; ++r) last[size_t(rows[r])] = r;
  for (int64_t i = 0; i < kRows * kWidth; ++i) y[i] = -1;
  cpu_backend().scatter(ScatterOp::Set, x.view(DType::F32, shape), 0, index, y.view(DType::F32, shape));
  CHECK(count_wrong(kRows * kWidth, [&](int64_t i) {
          const int64_t r = last[size_t(i / kWidth)];
          return y[i] == (r < 0 ? -1.0f : x[r * kWidth + i % kWidth]);
        }) == 0);
}

TEST_CASE("stream: running sums down columns, and bytes" * doctest::skip(on_device())) {
  const Dims shape{kRows, kWidth};
  Memory<float> x = numbers(kRows * kWidth, 9973), y(kRows * kWidth);
  cpu_backend().scan(ScanOp::Sum, x.view(DType::F32, shape), 0, y.view(DType::F32, shape), View());
  std::vector<double> sum(size_t(kWidth), -0.0);
  CHECK(count_wrong(kRows * kWidth, [&](int64_t i) {
          double& s = sum[size_t(i % kWidth)];
          return y[i] == float(s += double(x[i]));
        }) == 0);
  cpu_backend().copy_bytes(&y[0], &x[0], size_t(kRows * kWidth) * sizeof(float));
  CHECK(count_wrong(kRows * kWidth, [&](int64_t i) { return y[i] == x[i]; }) == 0);
}
