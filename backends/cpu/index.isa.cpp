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

#ifdef __AVX2__
// What comparisons of vectors find.
#ifdef __AVX512F__
typedef __mmask16 Found;
template <bool Largest>
TG_IN V further(V a, V b) {
  return Largest ? _mm512_max_ps(a, b) : _mm512_min_ps(a, b);
}
TG_IN Found no_number(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
TG_IN Found equal(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
template <bool Largest>
TG_IN Found beyond(V a, V b) {
  return _mm512_cmp_ps_mask(a, b, Largest ? _CMP_GT_OQ : _CMP_LT_OQ);
}
TG_IN Lanes choose(Found f, Lanes a, Lanes b) { return (Lanes)_mm512_mask_mov_epi32((__m512i)b, f, (__m512i)a); }
TG_IN bool any(Found f) { return f != 0; }
#else
typedef __m256i Found;
template <bool Largest>
TG_IN V further(V a, V b) {
  return Largest ? _mm256_max_ps(a, b) : _mm256_min_ps(a, b);
}
TG_IN Found no_number(V a, V b) { return (Found)_mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
TG_IN Found equal(V a, V b) { return (Found)_mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
template <bool Largest>
TG_IN Found beyond(V a, V b) {
  return (Found)_mm256_cmp_ps(a, b, Largest ? _CMP_GT_OQ : _CMP_LT_OQ);
}
TG_IN Lanes choose(Found f, Lanes a, Lanes b) { return (Lanes)_mm256_blendv_epi8((__m256i)b, (__m256i)a, f); }
TG_IN bool any(Found f) { return _mm256_movemask_ps((V)f) != 0; }
#endif

// search_rows of one vector of columns, where all are numbers.
template <bool Largest, int R>
TG_IN void search_numbers(const float* x, int64_t stride, int64_t number, float* best, int64_t* at) {
  V top = load(best);
  Lanes last = Lanes{} - 1;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const V v = load(x + r * stride);
    last = choose(beyond<Largest>(v, top), Lanes{} + r, last);
    top = further<Largest>(v, top);
  }
  store(best, top);
  for (int i = 0; i < L; ++i) at[i] = last[i] < 0 ? at[i] : number + last[i];
}

// search_rows by a look at R rows as one: most of the time none has what beats the best.
template <bool Largest, int R>
TG_IN void search_floats(const float* x, int64_t stride, int64_t number, float* best, int64_t* at, int64_t n) {
  constexpr int kBeside = 4;
  int64_t from = 0;
  for (; from + kBeside * L <= n; from += kBeside * L) {
    V top[kBeside];
    Found odd[kBeside];
    for (int v = 0; v < kBeside; ++v) {
      top[v] = load(best + from + v * L);
      odd[v] = no_number(top[v], top[v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r += 2)
      for (int v = 0; v < kBeside; ++v) {
        const float* p = x + r * stride + from + v * L;
        const V a = load(p), b = load(p + stride);
        top[v] = further<Largest>(b, further<Largest>(a, top[v])), odd[v] |= no_number(a, b);
      }
    for (int v = 0; v < kBeside; ++v) {
      const int64_t i = from + v * L;
      if (any(odd[v]))
        search_rows<float, Largest, R>(x + i, stride, number, best + i, at + i, L, false);
      else if (any(beyond<Largest>(top[v], load(best + i))))
        search_numbers<Largest, R>(x + i, stride, number, best + i, at + i);
    }
  }
  search_rows<float, Largest, R>(x + from, stride, number, best + from, at + from, n - from, false);
}
#endif

template <class T, bool Largest>
[[gnu::flatten]] void search(const void* from, int64_t stride, int64_t rows, int64_t number, void* best, int64_t* at,
                             int64_t n) {
  const T* x = static_cast<const T*>(from);
  T* top = static_cast<T*>(best);
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    const bool more = r + 2 * kRows <= rows;
#ifdef __AVX2__
    if constexpr (std::is_same_v<T, float>) {
      search_floats<Largest, kRows>(x + r * stride, stride, number + r, top, at, n);
      continue;
    }
#endif
    search_rows<T, Largest, kRows>(x + r * stride, stride, number + r, top, at, n, more);
  }
  for (; r < rows; ++r) search_rows<T, Largest, 1>(x + r * stride, stride, number + r, top, at, n, false);
}

#ifdef __AVX2__
// How many elements, by 64, come before the first block with one that is v, or with NaN.
template <bool Number>
TG_IN int64_t blocks_before(const float* x, float v, int64_t n) {
  constexpr int64_t kBlock = 64;
  const V value = spread(v);
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    Found found{};
    for (int64_t j = 0; j < kBlock; j += L) {
      const V y = load(x + i + j);
      found |= Number ? equal(y, value) : no_number(y, y);
    }
    if (any(found)) break;
  }
  return i;
}
#endif

template <class T>
[[gnu::flatten]] int64_t find(const void* row, const void* value, int64_t n) {
  const T* x = static_cast<const T*>(row);
  const T v = *static_cast<const T*>(value);
  auto first = [&](auto same) __attribute__((always_inline)) {
    constexpr int64_t kAtOnce = 64;
    int64_t i = 0;
#ifdef __AVX2__
    if constexpr (std::is_same_v<T, float>) i = v == v ? blocks_before<true>(x, v, n) : blocks_before<false>(x, v, n);
#endif
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
constexpr int kLanes = 8, kLine = 16;  // columns or lines scanned together; floats of a cache line

// kLanes doubles.
#ifdef __AVX512F__
typedef double D __attribute__((vector_size(64)));
TG_IN D to_double(__m256 v) { return _mm512_cvtps_pd(v); }
TG_IN __m256 to_float(D v) { return _mm512_cvtpd_ps(v); }
TG_IN D doubles(double x) { return _mm512_set1_pd(x); }
TG_IN D load(const double* p) { return _mm512_loadu_pd(p); }
TG_IN void store(double* p, D v) { _mm512_storeu_pd(p, v); }
#else
struct D {
  __m256d low, high;
};
TG_IN D operator+(D a, D b) { return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)}; }
TG_IN D operator*(D a, D b) { return {_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)}; }
TG_IN D to_double(__m256 v) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))};
}
TG_IN __m256 to_float(D v) { return _mm256_set_m128(_mm256_cvtpd_ps(v.high), _mm256_cvtpd_ps(v.low)); }
TG_IN D doubles(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
TG_IN D load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
TG_IN void store(double* p, D v) { _mm256_storeu_pd(p, v.low), _mm256_storeu_pd(p + 4, v.high); }
#endif

template <bool Product>
TG_IN D next(D acc, __m256 v) {
  return Product ? acc * to_double(v) : acc + to_double(v);
}

TG_IN void stream_line(float* to, const float* line) {
  for (int i = 0; i < kLine; i += L) stream(to + i, load(line + i));
}

// What scan does, of whole lines past the caches. Each line of the cache is complete before it is streamed.
template <bool Product, int R>
TG_IN void stream_rows(const float* x, int64_t x_stride, float* y, int64_t y_stride, double* acc, int64_t n) {
  for (int64_t i = 0; i < n; i += kLine) {
    alignas(64) float tile[R][kLine];
    D low = load(acc + i), high = load(acc + i + kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float* from = x + r * x_stride + i;
      low = next<Product>(low, _mm256_loadu_ps(from)), high = next<Product>(high, _mm256_loadu_ps(from + kLanes));
      _mm256_store_ps(tile[r], to_float(low)), _mm256_store_ps(tile[r] + kLanes, to_float(high));
    }
    store(acc + i, low), store(acc + i + kLanes, high);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) stream_line(y + r * y_stride + i, tile[r]);
  }
}

template <bool Product>
[[gnu::flatten]] void stream_scan(const void* from, int64_t x_stride, void* to, int64_t y_stride, int64_t rows,
                                  void* running, int64_t n) {
  const float* x = static_cast<const float*>(from);
  float* y = static_cast<float*>(to);
  double* acc = static_cast<double*>(running);
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    stream_rows<Product, kRows>(x + r * x_stride, x_stride, y + r * y_stride, y_stride, acc, n);
  for (; r < rows; ++r) stream_rows<Product, 1>(x + r * x_stride, x_stride, y + r * y_stride, y_stride, acc, n);
}

// kLanes lines, each along its own memory: squares are turned, so that a vector holds one step of all lines and one
// addition serves them. More lines would not be faster: a power of two apart, they meet in one set of the cache.
template <bool Product>
[[gnu::flatten]] void scan_lines(const float* x, int64_t x_line, float* y, int64_t y_line, int64_t n, bool streams) {
  D acc = doubles(Product ? 1 : -0.0);  // -0 leaves the first element as it is, were it -0
  auto square = [&](int64_t at, int64_t left, float* to, int64_t to_line) __attribute__((always_inline)) {
    const bool whole = left >= kLanes;
    __m256 r[kLanes];
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k) {
      const float* from = x + k * x_line + at;
      r[k] = whole ? _mm256_loadu_ps(from) : load_part_of_8(from, left);
    }
    transpose(r);
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k) acc = next<Product>(acc, r[k]), r[k] = to_float(acc);
    transpose(r);
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k)
      whole ? _mm256_storeu_ps(to + k * to_line, r[k]) : store_part(to + k * to_line, r[k], left);
  };
  int64_t i = 0;
  alignas(64) float tile[kLanes][kLine];
  for (; streams && i + kLine <= n; i += kLine) {
    for (int j = 0; j < kLine; j += kLanes) square(i + j, kLanes, tile[0] + j, kLine);
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k) stream_line(y + k * y_line + i, tile[k]);
  }
  for (; i < n; i += kLanes) square(i, n - i, y + i, y_line);
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
  t.stream_sum = stream_scan<false>, t.stream_prod = stream_scan<true>;
  t.lines = {kLanes, scan_lines<false>, scan_lines<true>};
#endif
}

}  // namespace tg::cpu::TG_ISA
