// The range of indices, searches for extremes, running sums and products.
#include <type_traits>

#include "backends/cpu/loops.h"
#ifdef __AVX2__
#include "backends/cpu/vector.h"
#endif

namespace tg::cpu::TG_ISA {
namespace {

[[gnu::flatten]] void range(const int64_t* p, int64_t n, int64_t* low, int64_t* high) {
  int64_t lo = *low, hi = *high;
  for (int64_t i = 0; i < n; ++i) {
    lo = p[i] < lo ? p[i] : lo;
    hi = p[i] > hi ? p[i] : hi;
  }
  *low = lo, *high = hi;
}

// Rows that are read side by side: a row alone is over before the processor has fetched what follows in memory, and
// what is kept per column is loaded and stored once for all of them.
constexpr int kRows = 8;

// The next rows' part of n elements: each row begins on another page, which the processor does not look beyond.
template <int R, class T>
inline void fetch_rows(const T* x, int64_t stride, int64_t n) {
  for (int r = 0; r < R; ++r)
    for (int64_t j = 0; j < n; j += 64 / int64_t(sizeof(T))) __builtin_prefetch(x + r * stride + j);
}

// `more`: as many rows follow. Numbers of the width of T count the rows of one call: the compiler wants one width in a
// vector loop.
template <class T, bool Largest, int R>
inline void search_rows(const T* x, int64_t stride, int64_t number, T* best, int64_t* at, int64_t n, bool more) {
  using I = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr int64_t kBlock = 64;
  I last[kBlock];  // the last row that won
  for (int64_t from = 0; from < n; from += kBlock, x += kBlock, best += kBlock, at += kBlock) {
    const int64_t k = n - from < kBlock ? n - from : kBlock;
    if (more) fetch_rows<R>(x + R * stride, stride, k);
    for (int64_t i = 0; i < kBlock; ++i) last[i] = -1;
    for (I r = 0; r < R; ++r)
#pragma GCC ivdep
      for (int64_t i = 0; i < k; ++i) {
        const T v = x[r * stride + i], b = best[i];
        // what beats() in cpu_scan.cpp says, in two comparisons: the first is true of NaN
        const bool take = bool(int(!(Largest ? v <= b : v >= b)) & int(b == b));
        best[i] = take ? v : b;
        last[i] = take ? r : last[i];
      }
#pragma GCC ivdep
    for (int64_t i = 0; i < k; ++i) at[i] = last[i] < 0 ? at[i] : number + last[i];
  }
}

template <class T, bool Largest>
[[gnu::flatten]] void search(const void* from, int64_t stride, int64_t rows, int64_t number, void* best, int64_t* at,
                             int64_t n) {
  const T* x = static_cast<const T*>(from);
  T* top = static_cast<T*>(best);
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    search_rows<T, Largest, kRows>(x + r * stride, stride, number + r, top, at, n, r + 2 * kRows <= rows);
  for (; r < rows; ++r) search_rows<T, Largest, 1>(x + r * stride, stride, number + r, top, at, n, false);
}

template <class T>
[[gnu::flatten]] int64_t find(const void* row, const void* value, int64_t n) {
  const T* x = static_cast<const T*>(row);
  const T v = *static_cast<const T*>(value);
  auto first = [&](auto same) __attribute__((always_inline)) {
    constexpr int64_t kAtOnce = 64;
    int64_t i = 0;
    for (int found = 0; i + kAtOnce <= n; i += kAtOnce) {
      for (int64_t j = 0; j < kAtOnce; ++j) found |= same(x[i + j]);
      if (found) break;
    }
    while (i < n && !same(x[i])) ++i;
    return i;
  };
  return v == v ? first([v](T y) { return int(y == v); }) : first([](T y) { return int(y != y); });
}

template <class T>
using Wide = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;

template <class T, bool Product, int R>
inline void scan_rows(const T* x, int64_t x_stride, T* y, int64_t y_stride, Wide<T>* acc, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i)
    for (int r = 0; r < R; ++r) {
      const Wide<T> v = Wide<T>(x[r * x_stride + i]);
      acc[i] = Product ? acc[i] * v : acc[i] + v;
      y[r * y_stride + i] = T(acc[i]);
    }
}

template <class T, bool Product>
[[gnu::flatten]] void scan(const void* from, int64_t x_stride, void* to, int64_t y_stride, int64_t rows, void* running,
                           int64_t n) {
  const T* x = static_cast<const T*>(from);
  T* y = static_cast<T*>(to);
  auto* acc = static_cast<Wide<T>*>(running);
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    scan_rows<T, Product, kRows>(x + r * x_stride, x_stride, y + r * y_stride, y_stride, acc, n);
  for (; r < rows; ++r) scan_rows<T, Product, 1>(x + r * x_stride, x_stride, y + r * y_stride, y_stride, acc, n);
}

#ifdef __AVX2__
// The halves of a vector, in double.
typedef double D __attribute__((vector_size(L * 4)));
#ifdef __AVX512F__
TG_IN D low_half(V v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
TG_IN D high_half(V v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
TG_IN V halves(D low, D high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
#else
TG_IN D low_half(V v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
TG_IN D high_half(V v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
TG_IN V halves(D low, D high) { return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)); }
#endif

// L lines, each along its own memory: squares of L x L are turned, so that a vector holds one step of all lines and one
// addition serves them.
template <bool Product>
[[gnu::flatten]] void scan_lines(const float* x, int64_t x_line, float* y, int64_t y_line, int64_t n) {
  D low = Product ? D{} + 1.0 : -D{}, high = low;  // -0 leaves the first element as it is, were it -0
  for (int64_t i = 0; i < n; i += L) {
    const int64_t left = n - i;
    V r[L];
#pragma GCC unroll 16
    for (int k = 0; k < L; ++k) r[k] = left >= L ? load(x + k * x_line + i) : load_part(x + k * x_line + i, left);
    transpose(r);
#pragma GCC unroll 16
    for (int k = 0; k < L; ++k) {
      const D a = low_half(r[k]), b = high_half(r[k]);
      low = Product ? low * a : low + a, high = Product ? high * b : high + b;
      r[k] = halves(low, high);
    }
    transpose(r);
#pragma GCC unroll 16
    for (int k = 0; k < L; ++k)
      left >= L ? store(y + k * y_line + i, r[k]) : store_part(y + k * y_line + i, r[k], left);
  }
}
#endif

template <class T>
void fill_search(Loops& t, Num num) {
  t.find[int(num)] = find<T>;
  t.scan_sum[int(num)] = scan<T, false>;
  t.scan_prod[int(num)] = scan<T, true>;
  t.search[0][int(num)] = search<T, false>;
  t.search[1][int(num)] = search<T, true>;
}

}  // namespace

void fill_index(Loops& t) {
  t.range = range;
  fill_search<float>(t, Num::F);
  fill_search<double>(t, Num::D);
  fill_search<int64_t>(t, Num::I);
#ifdef __AVX2__
  t.lines = {L, scan_lines<false>, scan_lines<true>};
#endif
}

}  // namespace tg::cpu::TG_ISA
