// Results so large that the CPU backend writes them past the caches: the values of plain loops, at ends that are not
// aligned to a line as well.
#include <doctest/doctest.h>

#include "backends/cpu/stream.h"
#include "core/pool.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

constexpr int64_t kMany = cpu::kStreamed / 4 + 37, kWidth = 1031, kRows = kMany / kWidth + 1;

// Memory that begins `behind` elements behind the start of a line.
template <class T>
class Memory {
 public:
  explicit Memory(int64_t n, int64_t behind = 1) : all_(size_t(n) + 64 / sizeof(T) + 1) {
    const auto at = reinterpret_cast<uintptr_t>(all_.data()) / sizeof(T) % (64 / sizeof(T));
    first_ = all_.data() + (64 / sizeof(T) - at) + behind;
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

// Rows that begin with lines of the cache take loops of their own; of some, elements are left at the end of a row.
TEST_CASE("stream: running sums and products of aligned rows" * doctest::skip(on_device())) {
  constexpr int64_t kRow = 1104, kLines = cpu::kStreamed / 4 / kRow + 9;
  Memory<float> x(kLines * kRow, 0), y(kLines * kRow, 0);
  for (int64_t i = 0; i < kLines * kRow; ++i) x[i] = 1 + float(i * 7919 % 1000 - 500) * 1e-5f;
  for (int64_t used : {kRow, kRow - 5})
    for (ScanOp op : {ScanOp::Sum, ScanOp::Prod})
      for (int axis : {0, 1}) {
        View in = x.view(DType::F32, {kLines, kRow}), out = y.view(DType::F32, {kLines, kRow});
        in.shape = out.shape = {kLines, used};
        for (int64_t i = 0; i < kLines * kRow; ++i) y[i] = -7;
        cpu_backend().scan(op, in, axis, out, View());
        std::vector<double> running(size_t(axis == 0 ? kRow : kLines), op == ScanOp::Sum ? -0.0 : 1.0);
        INFO("elements ", used, " op ", int(op), " axis ", axis);
        CHECK(count_wrong(kLines * kRow, [&](int64_t i) {
                if (i % kRow >= used) return y[i] == -7;
                double& r = running[size_t(axis == 0 ? i % kRow : i / kRow)];
                r = op == ScanOp::Sum ? r + double(x[i]) : r * double(x[i]);
                return y[i] == float(r);
              }) == 0);
      }
}

TEST_CASE("stream: rows by checked indices, sets of rows" * doctest::skip(on_device())) {
  const Dims shape{kRows, kWidth};
  Memory<float> x = numbers(kRows * kWidth, 99991), y(kRows * kWidth);
  Memory<int64_t> rows(kRows);
  for (int64_t r = 0; r < kRows; ++r) rows[r] = (r * 37 + 5) % kRows;
  View index = rows.view(DType::I64, {kRows});
  index.shape = shape, index.stride = {1, 0};
  const View from = x.view(DType::F32, shape), to = y.view(DType::F32, shape);
  CHECK(cpu_backend().gather_checked(from, 0, index, to) == std::pair<int64_t, int64_t>(0, kRows - 1));
  CHECK(count_wrong(kRows * kWidth, [&](int64_t i) { return y[i] == x[rows[i / kWidth] * kWidth + i % kWidth]; }) == 0);
  rows[kRows / 2] = kRows + 1000000;  // nothing is read there
  CHECK(cpu_backend().gather_checked(from, 0, index, to).second == kRows + 1000000);
  rows[kRows / 2] = -3;
  CHECK(cpu_backend().gather_checked(from, 0, index, to).first == -3);
  // Of rows with one index the last stays, for any number of threads: also of two where one thread ends and one begins.
  const int before = num_threads();
  for (int64_t r = 0; r < kRows; ++r) rows[r] = (r + 1) / 2;
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    cpu_backend().scatter(ScatterOp::Set, from, 0, index, to);
    CHECK(count_wrong(kRows / 2 * kWidth,
                      [&](int64_t i) { return y[i] == x[2 * (i / kWidth) * kWidth + i % kWidth]; }) == 0);
  }
  set_num_threads(before);
}
