// What the conformance tests share: strided buffers in every layout, made twice with the same bytes so that ref and cpu
// each write their own, and a comparison of the whole buffers, bytes between the elements included.
#pragma once
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "tests/cpp/cuda_util.h"

namespace tg::test {

using Rng = std::mt19937_64;

inline const DType kAllDTypes[] = {DType::Bool, DType::U8,  DType::I8,   DType::I16, DType::I32,
                                   DType::I64,  DType::F16, DType::BF16, DType::F32, DType::F64};
inline const int64_t kEdges[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129, 1025};

enum class Layout { Contiguous, Transposed, Sliced, Negative, Offset, Expanded };
inline const Layout kOutLayouts[] = {Layout::Contiguous, Layout::Transposed, Layout::Sliced, Layout::Negative,
                                     Layout::Offset};
inline const Layout kInLayouts[] = {Layout::Contiguous, Layout::Transposed, Layout::Sliced,
                                    Layout::Negative,   Layout::Offset,     Layout::Expanded};

enum class Values { Plain, Special, Positive, NearOne };

inline int64_t draw(Rng& r, int64_t lo, int64_t hi) { return lo + int64_t(r() % uint64_t(hi - lo + 1)); }
inline double draw01(Rng& r) { return double(r() >> 11) * 0x1p-53; }

// A number of the kind asked for; integers lie in [-9, 9], or [0, 9] if the dtype or kind has no sign.
inline double draw_value(Rng& r, DType t, Values kind) {
  if (!is_float(t)) {
    bool positive = t == DType::Bool || t == DType::U8 || kind == Values::Positive;
    return kind == Values::NearOne ? double(draw(r, 1, 2)) : double(draw(r, positive ? 0 : -9, 9));
  }
  if (kind == Values::NearOne) return 0.9 + 0.2 * draw01(r);
  if (kind == Values::Positive) return 0.01 + 3 * draw01(r);
  if (kind == Values::Special && r() % 4 == 0) {
    const double inf = std::numeric_limits<double>::infinity();
    const double s[] = {0.0, -0.0, 1, -1, 2, 0.5, inf, -inf, std::nan(""), 1e-41, -1e-41, 1e30, -1e30, 88.7, -104, 4};
    return s[r() % std::size(s)];
  }
  return 6 * draw01(r) - 3;
}

// One array held twice, for the two backends. Only moves: the views point into the bytes.
struct Pair {
  Pair() = default;
  Pair(Pair&&) = default;
  Pair& operator=(Pair&&) = default;
  std::vector<char> ref_bytes, cpu_bytes;
  View ref, cpu;
  DType dtype() const { return ref.dtype; }
  int64_t elements() const { return int64_t(ref_bytes.size()) / itemsize(ref.dtype); }
};

inline double get(const View& v, int64_t i) {
  return visit(v.dtype,
               [&](auto tag) { return convert<double>(static_cast<const typename decltype(tag)::type*>(v.data)[i]); });
}
inline void put(const View& v, int64_t i, double x) {
  visit(v.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    static_cast<T*>(v.data)[i] = convert<T>(x);
  });
}

// Strides of `shape` in the layout, the elements they span and the position of index 0.
inline Dims layout_strides(const Dims& shape, Layout l, int64_t& span, int64_t& start) {
  Dims st = Dims::filled(shape.size(), 0);
  int64_t run = l == Layout::Sliced ? 2 : 1;
  auto lay = [&](int d) {
    st[d] = run;
    run *= std::max<int64_t>(shape[d], 1) + (l == Layout::Sliced ? 1 : 0);
  };
  if (l == Layout::Transposed)
    for (int d = 0; d < shape.size(); ++d) lay(d);
  else
    for (int d = shape.size() - 1; d >= 0; --d) lay(d);
  start = l == Layout::Offset ? 3 : 0;
  if (l == Layout::Expanded && !shape.empty()) st[shape.size() > 1 ? shape.size() - 2 : 0] = 0;
  if (l == Layout::Negative)
    for (int d = 0; d < shape.size(); ++d) {
      start += std::max<int64_t>(shape[d] - 1, 0) * st[d];
      st[d] = -st[d];
    }
  span = run + 5;
  return st;
}

inline Pair make_pair_of(const Dims& shape, DType t, Layout l, Rng& r, Values kind = Values::Plain) {
  Pair p;
  int64_t span, start;
  Dims st = layout_strides(shape, l, span, start);
  p.ref_bytes.resize(size_t(span * itemsize(t)));
  View v;
  v.data = p.ref_bytes.data();
  v.dtype = t;
  for (int64_t i = 0; i < span; ++i) put(v, i, draw_value(r, t, kind));
  p.cpu_bytes = p.ref_bytes;
  v.shape = shape;
  v.stride = st;
  v.data = p.ref_bytes.data() + start * itemsize(t);
  p.ref = v;
  v.data = p.cpu_bytes.data() + start * itemsize(t);
  p.cpu = v;
  return p;
}

// Steps between two values of a dtype; 0 if both are NaN.
inline double steps_apart(DType t, double a, double b) {
  if (a == b || (a != a && b != b)) return 0;
  if (!is_float(t) || !std::isfinite(a) || !std::isfinite(b)) return std::numeric_limits<double>::infinity();
  int digits = t == DType::F64 ? 53 : t == DType::F32 ? 24 : t == DType::F16 ? 11 : 8;
  int lowest = t == DType::F64 ? -1074 : t == DType::F32 ? -149 : t == DType::F16 ? -24 : -133;
  double m = std::max(std::fabs(a), std::fabs(b));
  int e = 0;
  std::frexp(m, &e);
  return std::fabs(a - b) / std::ldexp(1.0, std::max(e - digits, lowest));
}

// "" if every element of both buffers agrees within `ulp` steps or `abs`; else the first that does not. -0 differs from
// 0 only for `bits`.
inline std::string difference(const Pair& p, double ulp = 0, double abs = 0, bool bits = false) {
  View a = p.ref, b = p.cpu;
  a.data = const_cast<char*>(p.ref_bytes.data());
  b.data = const_cast<char*>(p.cpu_bytes.data());
  for (int64_t i = 0; i < p.elements(); ++i) {
    double x = get(a, i), y = get(b, i);
    bool same = p.dtype() == DType::I64
                    ? static_cast<const int64_t*>(a.data)[i] == static_cast<const int64_t*>(b.data)[i]
                    : steps_apart(p.dtype(), x, y) <= ulp || std::fabs(x - y) <= abs;
    if (bits && x == 0 && y == 0) same = same && std::signbit(x) == std::signbit(y);
    if (!same) return str("element ", i, " of ", p.dtype(), p.ref.shape, ": ref ", x, ", cpu ", y);
  }
  return {};
}

struct Count {
  const char* what;
  int64_t n = 0;
  explicit Count(const char* w) : what(w) {}
  ~Count() { std::printf("%s: %lld comparisons\n", what, static_cast<long long>(n)); }
};

}  // namespace tg::test

// Compares and counts; the message names the case.
#define CHECK_SAME(count, pair, ulp, abs, ...)                           \
  do {                                                                   \
    ++(count).n;                                                         \
    std::string diff_ = ::tg::test::difference(pair, ulp, abs);          \
    if (!diff_.empty()) FAIL_CHECK(::tg::str(__VA_ARGS__, ": ", diff_)); \
  } while (0)
