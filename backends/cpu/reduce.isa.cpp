// Accumulation loops of the reductions. The lanes are fixed by the source, not by the registers of the machine, so
// every instruction set adds in the same order.
#include <cstring>
#include <type_traits>

#include "backends/cpu/loops.h"
#include "backends/cpu/wide.h"

namespace tg::cpu::TG_ISA {
namespace {

template <class T>
using AccOf = std::conditional_t<std::is_same_v<T, int64_t>, int64_t, double>;

template <class A>
constexpr A neutral(Red op) {
  if (op == Red::Prod || op == Red::All) return A(1);
  if (op == Red::Max || op == Red::Min) {
    if constexpr (std::is_same_v<A, int64_t>)
      return op == Red::Max ? INT64_MIN : INT64_MAX;
    else
      return op == Red::Max ? -A(__builtin_inf()) : A(__builtin_inf());
  }
  return A(0);
}

using VecF = Wide<float>;
using VecD = Wide<double>;
using VecI = Wide<int64_t>;
using VecU = Wide<uint64_t>;

// Vectors of the input's type, and of its accumulator's.
template <class T>
using In =
    std::conditional_t<std::is_same_v<T, float>, VecF, std::conditional_t<std::is_same_v<T, double>, VecD, VecI>>;
template <class T>
using Acc = std::conditional_t<std::is_same_v<T, int64_t>, VecI, VecD>;
template <class T>
constexpr int kWidth = int(64 / sizeof(T));
constexpr int kAccWidth = 8, kTerms = 8;

// One step of single values or of vectors. Integer sums wrap.
template <Red op, class V>
[[gnu::always_inline]] inline V step(const V& m, const V& x) {
  if constexpr (std::is_same_v<V, int64_t> && (op == Red::Sum || op == Red::Prod)) {
    return V(op == Red::Sum ? uint64_t(m) + uint64_t(x) : uint64_t(m) * uint64_t(x));
  } else if constexpr (std::is_same_v<V, VecI> && (op == Red::Sum || op == Red::Prod)) {
    const VecU u = bits_as<VecU>(m), v = bits_as<VecU>(x);
    return bits_as<V>(op == Red::Sum ? u + v : u * v);
  } else if constexpr (op == Red::Sum) {
    return m + x;
  } else if constexpr (op == Red::Prod) {
    return m * x;
  } else if constexpr (op == Red::Max) {
    return choose((x > m) | (x != x), x, m);
  } else if constexpr (op == Red::Min) {
    return choose((x < m) | (x != x), x, m);
  } else if constexpr (op == Red::Any) {
    return choose((m != V{}) | (x != V{}), V{} + 1, V{});
  } else {
    return choose((m != V{}) & (x != V{}), V{} + 1, V{});
  }
}

constexpr bool is_extreme(Red op) { return op == Red::Max || op == Red::Min; }

// NaN into the lanes where x or y is. (GCC 12 does not find the one comparison that tests both.)
template <class V>
[[gnu::always_inline]] inline void mark_nan(V& bad, const V& x, const V& y) {
  if constexpr (std::is_same_v<V, VecI>) return;
#if defined(__AVX512F__)
  else if constexpr (std::is_same_v<V, VecF>)
    bad = (V)_mm512_mask_mov_ps((__m512)bad, _mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_UNORD_Q),
                                (__m512)(V{} + __builtin_nanf("")));
  else
    bad = (V)_mm512_mask_mov_pd((__m512d)bad, _mm512_cmp_pd_mask((__m512d)x, (__m512d)y, _CMP_UNORD_Q),
                                (__m512d)(V{} + __builtin_nan("")));
#elif defined(__AVX__)
  else if constexpr (kIsPair<V>)
    mark_nan(bad.low, x.low, y.low), mark_nan(bad.high, x.high, y.high);
  else if constexpr (std::is_same_v<V, Wide<float, 32>>)  // all bits set are a NaN
    bad = (V)_mm256_or_ps((__m256)bad, _mm256_cmp_ps((__m256)x, (__m256)y, _CMP_UNORD_Q));
  else
    bad = (V)_mm256_or_pd((__m256d)bad, _mm256_cmp_pd((__m256d)x, (__m256d)y, _CMP_UNORD_Q));
#else
  else
    bad = choose((x != x) | (y != y), V{} + __builtin_nanf(""), bad);
#endif
}

// An extreme in the making, and NaN where there was one: a comparison with NaN is false, so `m` alone would pass over
// it.
template <Red op, class V>
struct Extreme {
  V m, bad{};
  [[gnu::always_inline]] explicit Extreme(V first) : m(first) {}
  [[gnu::always_inline]] void take(V x, V y) {
    constexpr bool largest = op == Red::Max;
    m = extreme<largest>(y, extreme<largest>(x, m));
    mark_nan(bad, x, y);
  }
  [[gnu::always_inline]] V result() const {
    if constexpr (std::is_same_v<V, VecI>)
      return m;
    else
      return choose(bad != bad, V{} + __builtin_nanf(""), m);
  }
  [[gnu::always_inline]] void join(const Extreme& o) {
    m = extreme<op == Red::Max>(o.m, m);
    mark_nan(bad, o.bad, o.bad);
  }
  // The extreme of all lanes. Whether one was no number is found apart: that chain does not wait for this one.
  template <class T>
  [[gnu::always_inline]] T of_lanes() const {
    constexpr int kLanes = int(sizeof(V) / sizeof(T));
    T l[kLanes], b[kLanes];
    store(l, m), store(b, bad);
    for (int half = kLanes / 2; half > 0; half /= 2)
      for (int j = 0; j < half; ++j) l[j] = extreme<op == Red::Max>(l[j + half], l[j]), b[j] += b[j + half];
    return b[0] != b[0] ? b[0] : l[0];
  }
};

// kTerms vectors, `stride` elements apart, as one: sums of pairs of pairs of pairs, in the input's type. `all`: of
// vectors side by side, where a row's are read one after the other.
template <Red op, class T, int kBeside>
[[gnu::always_inline]] inline void combine(const T* p, int64_t stride, In<T> (&all)[kBeside]) {
  using S = In<T>;
  auto at = [&](int row, int v) __attribute__((always_inline)) { return load<S>(p + row * stride + v * kWidth<T>); };
  if constexpr (is_extreme(op)) {
    static_assert(kBeside == 1);
    Extreme<op, S> a(S{} + neutral<T>(op)), b = a;
    for (int k = 0; k < kTerms; k += 4) {
      a.take(at(k, 0), at(k + 1, 0));
      b.take(at(k + 2, 0), at(k + 3, 0));
    }
    all[0] = a.result();
    all[0] = step<op>(all[0], b.result());
  } else {
    static_assert(kTerms == 8);
    auto pairs = [&](int k, S(&sum)[kBeside]) __attribute__((always_inline)) {
      for (int v = 0; v < kBeside; ++v) sum[v] = at(k, v);
      for (int v = 0; v < kBeside; ++v) sum[v] = step<op>(sum[v], at(k + 1, v));
    };
    auto fours = [&](int k, S(&sum)[kBeside]) __attribute__((always_inline)) {
      S more[kBeside];
      pairs(k, sum), pairs(k + 2, more);
      for (int v = 0; v < kBeside; ++v) sum[v] = step<op>(sum[v], more[v]);
    };
    S more[kBeside];
    fours(0, all), fours(4, more);
    for (int v = 0; v < kBeside; ++v) all[v] = step<op>(all[v], more[v]);
  }
}

// m = op(m, x), with as many accumulating vectors as x needs.
template <Red op, class T>
[[gnu::always_inline]] inline void absorb(Acc<T>* m, const In<T>& x) {
  if constexpr (std::is_same_v<T, float>) {
    m[0] = step<op>(m[0], to_double(lower(x)));
    m[1] = step<op>(m[1], to_double(upper(x)));
  } else {
    m[0] = step<op>(m[0], x);
  }
}

// kTerms vectors into m. Products of floats would leave float's range.
template <Red op, class T>
[[gnu::always_inline]] inline void absorb_terms(Acc<T>* m, const T* p, int64_t stride) {
  if constexpr (op == Red::Prod && std::is_same_v<T, float>) {
    for (int k = 0; k < kTerms; ++k) absorb<op, T>(m, load<In<T>>(p + k * stride));
  } else {
    In<T> all[1];
    combine<op, T>(p, stride, all);
    absorb<op, T>(m, all[0]);
  }
}

// The lanes of v as one value, and that into *acc.
template <Red op, class T, class A, class V>
[[gnu::always_inline]] inline void absorb_lanes(const V& v, A* acc) {
  constexpr int kLanes = int(sizeof(V) / sizeof(T));
  T l[kLanes];
  store(l, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) l[j] = step<op>(l[j], l[j + half]);
  *acc = step<op>(*acc, A(l[0]));
}

template <Red op, class T>
[[gnu::flatten]] void row(const void* psrc, int64_t n, void* pacc) {
  using A = AccOf<T>;
  using S = In<T>;
  constexpr int kBlock = kTerms * kWidth<T>, kVecs = kWidth<T> / kAccWidth, kStep = kWidth<T>;
  const T* src = static_cast<const T*>(psrc);
  A* acc = static_cast<A*>(pacc);
  T rest[kBlock];
  const int64_t whole = n / kBlock * kBlock;
  if (whole < n) {
    for (T& x : rest) x = T(neutral<A>(op));
    std::memcpy(rest, src + whole, size_t(n - whole) * sizeof(T));
  }
  if constexpr (is_extreme(op)) {
    Extreme<op, S> e[4] = {Extreme<op, S>(S{} + neutral<T>(op)), e[0], e[0], e[0]};
    auto take = [&](const T* p) __attribute__((always_inline)) {
      for (int k = 0; k < 4; ++k) e[k].take(load<S>(p + 2 * k * kStep), load<S>(p + (2 * k + 1) * kStep));
    };
    for (int64_t i = 0; i < whole; i += kBlock) take(src + i);
    if (whole < n) take(rest);
    for (int k = 1; k < 4; ++k) e[0].join(e[k]);
    *acc = step<op>(*acc, A(e[0].template of_lanes<T>()));
  } else {
    Acc<T> m[kVecs];
    for (auto& v : m) v = Acc<T>{} + neutral<A>(op);
    for (int64_t i = 0; i < whole; i += kBlock) absorb_terms<op, T>(m, src + i, kStep);
    if (whole < n) absorb_terms<op, T>(m, rest, kStep);
    if constexpr (kVecs == 2) m[0] = step<op>(m[0], m[1]);
    absorb_lanes<op, A>(m[0], acc);
  }
}

// kRows rows, one or kTerms.
template <Red op, class T, int kRows>
[[gnu::always_inline]] inline void col_rows(const T* src, int64_t stride, AccOf<T>* acc, int64_t width) {
  using A = AccOf<T>;
  constexpr int kVecs = kWidth<T> / kAccWidth;
  Acc<T> m[kVecs];
  int64_t j = 0;
  // Sums read a few lines of each row in turn, which comes nearer to what the processor fetches ahead than one of each.
  constexpr int kBeside = kRegister == 64 ? 4 : 1;
  if constexpr (op == Red::Sum && kRows > 1 && kBeside > 1)
    for (; j + kBeside * kWidth<T> <= width; j += kBeside * kWidth<T>) {
      In<T> all[kBeside];
      combine<op, T>(src + j, stride, all);
      for (int v = 0; v < kBeside; ++v) {
        A* to = acc + j + v * kWidth<T>;
        for (int k = 0; k < kVecs; ++k) m[k] = load<Acc<T>>(to + k * kAccWidth);
        absorb<op, T>(m, all[v]);
        for (int k = 0; k < kVecs; ++k) store(to + k * kAccWidth, m[k]);
      }
    }
  for (; j + kWidth<T> <= width; j += kWidth<T>) {
    for (int k = 0; k < kVecs; ++k) m[k] = load<Acc<T>>(acc + j + k * kAccWidth);
    if constexpr (kRows > 1)
      absorb_terms<op, T>(m, src + j, stride);
    else
      absorb<op, T>(m, load<In<T>>(src + j));
    for (int k = 0; k < kVecs; ++k) store(acc + j + k * kAccWidth, m[k]);
  }
  for (; j < width; ++j)
    for (int r = 0; r < kRows; ++r) acc[j] = step<op, A>(acc[j], A(src[r * stride + j]));
}

template <Red op, class T>
[[gnu::flatten]] void col(const void* psrc, int64_t stride, int64_t rows, void* pacc, int64_t width) {
  AccOf<T>* acc = static_cast<AccOf<T>*>(pacc);
  const T* src = static_cast<const T*>(psrc);
  int64_t r = 0;
  for (; r + kTerms <= rows; r += kTerms) col_rows<op, T, kTerms>(src + r * stride, stride, acc, width);
  for (; r < rows; ++r) col_rows<op, T, 1>(src + r * stride, stride, acc, width);
}

template <Red op, class A>
[[gnu::flatten]] void merge(const void* pother, void* pacc, int64_t n) {
  const A* other = static_cast<const A*>(pother);
  A* acc = static_cast<A*>(pacc);
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) acc[j] = step<op, A>(acc[j], other[j]);
}

template <Red op>
void fill(Loops& t) {
  int k = int(op);
  t.row[k][0] = row<op, float>, t.row[k][1] = row<op, double>, t.row[k][2] = row<op, int64_t>;
  t.col[k][0] = col<op, float>, t.col[k][1] = col<op, double>, t.col[k][2] = col<op, int64_t>;
  t.merge[k][0] = t.merge[k][1] = merge<op, double>, t.merge[k][2] = merge<op, int64_t>;
}

}  // namespace

void fill_reduce(Loops& t) {
  fill<Red::Sum>(t);
  fill<Red::Prod>(t);
  fill<Red::Max>(t);
  fill<Red::Min>(t);
  fill<Red::Any>(t);
  fill<Red::All>(t);
}

}  // namespace tg::cpu::TG_ISA
