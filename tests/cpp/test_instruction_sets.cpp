// Every instruction set's loops, by their tables: those whose lanes are written out give the same bits on all.
#include <doctest/doctest.h>

#include "backends/cpu/loops.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

constexpr int64_t kMost = 4096;
const int64_t kLengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 129, 1023, 1024, 1025, 2050, kMost};

std::vector<const cpu::Loops*> tables() {
  std::vector<const cpu::Loops*> all;
  for (const char* isa : {"base", "avx2", "avx512"})
    if (const cpu::Loops* l = cpu::loops_of(isa)) all.push_back(l);
  return all;
}

// Values around 1 of either sign, zeros of either sign; with `special` now and then what is no number or infinite.
template <class T>
std::vector<T> values(int64_t n, uint64_t seed, bool special = false) {
  Rng rng(seed);
  std::vector<T> v;
  for (int64_t i = 0; i < n; ++i) {
    const auto kind = rng() % 40;
    if constexpr (std::is_integral_v<T>) {
      v.push_back(kind < 4 ? 0 : T(rng() % 7) - 3);
    } else {
      const T x = (kind % 2 ? -1 : 1) * T(1 + double(rng() % 1000) / 1000);
      const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
      v.push_back(kind == 0 ? T(0) : kind == 1 ? T(-0.0) : kind == 2 && special ? inf : kind == 3 && special ? nan : x);
    }
  }
  return v;
}

// NaN has no bits of its own to keep.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0 && !(a[i] != a[i] && b[i] != b[i])) return false;
  return a.size() == b.size();
}

// Memory that begins with a line of the cache.
class AlignedFloats {
 public:
  explicit AlignedFloats(int64_t n) : n_(n), all_(size_t(n) + 16) {
    first_ = all_.data() + (64 - reinterpret_cast<uintptr_t>(all_.data()) % 64) / sizeof(float) % 16;
  }
  AlignedFloats(const AlignedFloats&) = delete;
  AlignedFloats& operator=(const AlignedFloats&) = delete;
  float* data() { return first_; }
  std::vector<float> copy() const { return {first_, first_ + n_}; }

 private:
  int64_t n_;
  std::vector<float> all_;
  float* first_;
};

// Results of f with each table, compared with the first's.
template <class F>
void compare(int& compared, const std::string& what, F f) {
  const auto all = tables();
  const auto first = f(*all[0]);
  for (size_t k = 1; k < all.size(); ++k, ++compared) {
    INFO(what, ": ", all[0]->isa, " and ", all[k]->isa);
    CHECK(same(f(*all[k]), first));
  }
}

template <class T, class A>
void compare_reductions(int& compared, int type) {
  constexpr int64_t kRows = 37;
  for (int op = 0; op < cpu::kRedOps; ++op)
    for (int64_t n : kLengths)
      for (bool special : {false, true}) {
        const std::string what = str("reduction ", op, " of type ", type, ", length ", n, special ? ", special" : "");
        const std::vector<T> x = values<T>(n, uint64_t(n), special);
        const std::vector<A> start = values<A>(n, uint64_t(n) + 1);
        compare(compared, what, [&](const cpu::Loops& l) {
          std::vector<A> acc{start[0]};
          l.row[op][type](x.data(), n, acc.data());
          return acc;
        });
        compare(compared, what + ", merged", [&](const cpu::Loops& l) {
          std::vector<A> acc = start;
          l.merge[op][type](values<A>(n, 3).data(), acc.data(), n);
          return acc;
        });
        if (n > 129) continue;
        const std::vector<T> rows = values<T>(kRows * (n + 3), 5, special);
        compare(compared, what + ", columns", [&](const cpu::Loops& l) {
          std::vector<A> acc = start;
          l.col[op][type](rows.data(), n + 3, kRows, acc.data(), n);
          return acc;
        });
      }
}

// The running sums or products of lines, one element after the other.
std::vector<float> in_order(const std::vector<float>& x, int64_t lines, int64_t stride, int64_t n, bool product) {
  std::vector<float> y(x.size());
  for (int64_t r = 0; r < lines; ++r) {
    double acc = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double v = double(x[size_t(r * stride + i)]);
      acc = i == 0 ? v : product ? acc * v : acc + v;
      y[size_t(r * stride + i)] = float(acc);
    }
  }
  return y;
}

}  // namespace

TEST_CASE("instruction sets: reductions have the same bits on all" * doctest::skip(on_device())) {
  int compared = 0;
  compare_reductions<float, double>(compared, 0);
  compare_reductions<double, double>(compared, 1);
  compare_reductions<int64_t, int64_t>(compared, 2);
  std::printf("instruction sets, reductions: %d comparisons of %d tables\n", compared, int(tables().size()));
}

TEST_CASE("instruction sets: kernels over rows have the same bits on all" * doctest::skip(on_device())) {
  int compared = 0;
  for (int k = 0; k < cpu::kFusedKernels; ++k)
    for (int64_t n : kLengths)
      for (bool special : {false, true})
        compare(compared, str("kernel ", k, ", length ", n, special ? ", special" : ""), [&](const cpu::Loops& l) {
          std::vector<float> ins[5], outs[3];
          const float* in[5];
          float* out[3];
          for (int i = 0; i < 5; ++i) {
            ins[i] = values<float>(n, uint64_t(10 * n + i), special && i < 2);
            // means and variances: the third to fifth
            if (i > 1)
              for (float& v : ins[i]) v = std::fabs(v);
            in[i] = ins[i].data();
          }
          for (int i = 0; i < 3; ++i) outs[i] = values<float>(n, uint64_t(i)), out[i] = outs[i].data();
          l.fused[k](in, out, n, k == int(Fused::Norm) || k >= int(Fused::NormGrad) ? 1e-5 : 0);
          for (int i = 1; i < 3; ++i) outs[0].insert(outs[0].end(), outs[i].begin(), outs[i].end());
          return outs[0];
        });
  // The steps of an LSTM: the gates are rows of four times the length.
  for (int64_t n : kLengths)
    for (bool special : {false, true})
      for (bool back : {false, true})
        compare(compared, str(back ? "LSTM's gradients" : "LSTM", ", units ", n), [&](const cpu::Loops& l) {
          std::vector<float> ins[5], outs[3], all;
          const float* in[5];
          float* out[3];
          const int gates_in = back ? 2 : -1, gates_out = back ? 1 : 0;
          for (int i = 0; i < 5; ++i)
            ins[i] = values<float>(i == gates_in ? 4 * n : n, uint64_t(10 * n + i), special), in[i] = ins[i].data();
          for (int i = 0; i < 3; ++i)
            outs[i] = values<float>(i == gates_out ? 4 * n : n, uint64_t(i), special), out[i] = outs[i].data();
          (back ? l.lstm_step_grad : l.lstm_step)(in, out, n, 0);
          for (auto& o : outs) all.insert(all.end(), o.begin(), o.end());
          return all;
        });
  std::printf("instruction sets, kernels over rows: %d comparisons\n", compared);
}

TEST_CASE("instruction sets: lines scanned together equal lines scanned alone" * doctest::skip(on_device())) {
  int compared = 0;
  for (const cpu::Loops* l : tables())
    for (int64_t n : {1, 7, 8, 9, 15, 16, 17, 37, 100})
      for (bool product : {false, true})
        for (bool special : {false, true})
          for (bool streams : {false, true}) {
            const int64_t lines = l->lines.count, stride = (n + 16) / 16 * 16;
            if (lines == 0) continue;
            std::vector<float> x = values<float>(lines * stride, uint64_t(n), special);
            for (int64_t r = 0; r < lines; r += 2) x[size_t(r * stride)] = -0.0f;
            AlignedFloats y(lines * stride);
            (product ? l->lines.product : l->lines.sum)(x.data(), stride, y.data(), stride, n, streams);
            INFO(l->isa, " length ", n, " product ", product, " special ", special, " streams ", streams);
            CHECK(same(y.copy(), in_order(x, lines, stride, n, product)));
            ++compared;
          }
  std::printf("instruction sets, lines scanned together: %d comparisons\n", compared);
}

TEST_CASE("instruction sets: columns scanned past the caches equal others" * doctest::skip(on_device())) {
  int compared = 0;
  for (const cpu::Loops* l : tables())
    for (int64_t rows : {1, 7, 8, 9, 31})
      for (int64_t width : {16, 48, 1040})
        for (bool product : {false, true}) {
          const cpu::ScanLoop streamed = product ? l->stream_prod : l->stream_sum;
          if (!streamed) continue;
          const std::vector<float> x = values<float>(rows * width, uint64_t(rows + width), true);
          AlignedFloats y(rows * width), z(rows * width);
          std::vector<double> running = values<double>(width, 9), again = running;
          streamed(x.data(), width, y.data(), width, rows, running.data(), width);
          (product ? l->scan_prod : l->scan_sum)[0](x.data(), width, z.data(), width, rows, again.data(), width);
          INFO(l->isa, " rows ", rows, " width ", width, " product ", product);
          CHECK(same(y.copy(), z.copy()));
          CHECK(same(running, again));
          ++compared;
        }
  std::printf("instruction sets, columns past the caches: %d comparisons\n", compared);
}

TEST_CASE("instruction sets: searches find the same on all" * doctest::skip(on_device())) {
  int compared = 0;
  for (int64_t n : kLengths)
    for (bool special : {false, true})
      for (bool largest : {false, true}) {
        if (n > 1025) continue;
        constexpr int64_t kRows = 43;
        const int64_t stride = n + 3;
        std::vector<float> x = values<float>(kRows * stride, uint64_t(n), special);
        // later rows beat earlier ones in some columns, so that every path is taken
        for (int64_t r = 0; r < kRows; ++r)
          for (int64_t i = 0; i < n; i += 5) x[size_t(r * stride + i)] *= float(r);
        const std::vector<float> start = values<float>(n, 4, special);
        compare(compared, str("search, length ", n, largest ? ", largest" : ", smallest", special ? ", special" : ""),
                [&](const cpu::Loops& l) {
                  std::vector<float> found = start;
                  std::vector<int64_t> at(size_t(n), 0);
                  l.search[largest][0](x.data(), stride, kRows, 1, found.data(), at.data(), n);
                  for (int64_t i : at) found.push_back(float(i));
                  return found;
                });
        // where one of `start` is, and what is nowhere
        for (int64_t k : {int64_t(0), n / 2, n - 1})
          compare(compared, str("find, length ", n, ", element ", k, special ? ", special" : ""),
                  [&](const cpu::Loops& l) {
                    const float nowhere = 77;
                    return std::vector<int64_t>{l.find[0](start.data(), &start[size_t(k)], n),
                                                l.find[0](start.data(), &nowhere, n)};
                  });
      }
  std::printf("instruction sets, searches: %d comparisons\n", compared);
}

TEST_CASE("scan: contiguous lines of any number, whatever is taken together" * doctest::skip(on_device())) {
  for (int64_t lines : {7, 8, 9, 15, 16, 17, 33})
    for (int64_t n : {1, 7, 16, 37, 3000}) {
      std::vector<float> x = values<float>(lines * n, uint64_t(lines)), y(x.size());
      for (int64_t r = 0; r < lines; ++r) x[size_t(r * n)] = -0.0f;
      View in, out;
      in.data = x.data(), in.dtype = DType::F32, in.shape = {lines, n}, in.stride = {n, 1};
      out = in, out.data = y.data();
      cpu_backend().scan(ScanOp::Sum, in, 1, out, View());
      INFO(lines, " lines of ", n);
      CHECK(same(y, in_order(x, lines, n, n, false)));
    }
}
