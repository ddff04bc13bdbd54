// Matrix products: panels of both operands are packed, whatever their layout and type, and multiplied by a kernel that
// keeps a tile of the result in registers. The scheme of K. Goto and R. van de Geijn, "Anatomy of high-performance
// matrix multiplication" (ACM TOMS 34, 2008). Multiply-adds are fused here (one rounding), unlike in element-wise
// loops; AVX2 and AVX-512 give the same bits.
#include "backends/cpu/gemm.h"

#include <cstring>
#include <utility>

#include "backends/cpu/loops.h"

#ifdef __AVX2__
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
// Allows the intrinsics of AVX512_BF16, which are used after a look at the processor only.
#pragma GCC target("avx512bf16")
#define TG_BF16_DOT
#endif
#include "backends/cpu/vector.h"

namespace tg::cpu::TG_ISA {
namespace {

// Rows of a tile: 14 x 2 sums, 2 columns, 1 factor in 32 registers; 6 x 2 sums and the same in 16.
constexpr int kMaxRows = L == 16 ? 14 : 6;

// ---- packing: dst[k * P + w] = element (k, w); columns beyond `valid` are zero

// L rows of up to L elements each, from row(w), written as columns.
template <int P, class Row>
TG_IN void pack_square(Row row, int64_t rows, int64_t count, float* dst) {
  V r[L];
  if (count >= L) {
#pragma GCC unroll 16
    for (int w = 0; w < L; ++w) r[w] = w < rows ? load(row(w)) : V{};
  } else {
    for (int w = 0; w < L; ++w) r[w] = w < rows ? load_part(row(w), count) : V{};
  }
  transpose(r);
  if (count >= L) {
#pragma GCC unroll 16
    for (int k = 0; k < L; ++k) store(dst + k * P, r[k]);
  } else {
    for (int k = 0; k < count; ++k) store(dst + k * P, r[k]);
  }
}

template <int P, class S>
[[gnu::flatten]] void pack_strided(const S* src, int64_t ks, int64_t ws, int64_t depth, int64_t valid, float* dst) {
  if (ws == 1) {
    for (int64_t k = 0; k < depth; ++k, src += ks, dst += P)
      for (int w = 0; w < P; w += L) store(dst + w, load_some(src + w, valid - w));
  } else if (ks == 1) {
    for (int w = 0; w < P; w += L)
      for (int64_t k = 0; k < depth; k += L)
        pack_square<P>([&](int i) { return src + (w + i) * ws + k; }, valid - w, depth - k, dst + k * P + w);
  } else {
    for (int64_t k = 0; k < depth; ++k, src += ks, dst += P)
      for (int w = 0; w < P; ++w) dst[w] = w < valid ? convert<float>(src[w * ws]) : 0.0f;
  }
}

// dst[i] = src[i * step] for i < n <= L; may write up to a vector. Vector gathers are slower than single elements.
TG_IN void copy_apart(const float* src, int64_t step, float* dst, int64_t n) {
  if (step == 1) return store(dst, load_part(src, n));
  if (step == 2) {
    Lanes even;
    for (int j = 0; j < L; ++j) even[j] = 2 * j;
    const int64_t span = 2 * n - 1;
    return store(dst, __builtin_shuffle(load_part(src, span), span > L ? load_part(src + L, span - L) : V{}, even));
  }
  for (int64_t i = 0; i < n; ++i) dst[i] = src[i * step];
}

// Points [from, from + n) as stretches of neighbours: f(offset in the image, position, count).
template <class F>
TG_IN void for_stretches(const Windows& s, int64_t from, int64_t n, F f) {
  int64_t row = from / s.inner, at = from % s.inner;
  for (int64_t done = 0; done < n; ++row, at = 0) {
    const int64_t count = least(n - done, s.inner - at);
    f(s.row[row] + at * s.step, done, count);
    done += count;
  }
}

// Taps along k, points along w, by pieces of up to L neighbours. They are written in order: what a piece writes too
// much is covered by the next one, after the last of a tap by the first of the next tap. The last tap, and taps of
// fewer than P columns, go through `line`; all would be slower, as a load waits for several stores that it spans.
template <int P>
void pack_points(const float* image, const Windows& s, int64_t k0, int64_t depth, int64_t w0, int64_t valid,
                 float* dst) {
  struct Piece {
    int64_t offset, at, count;
  } list[P];
  int n = 0;
  for_stretches(s, w0, valid, [&](int64_t offset, int64_t at, int64_t count) {
    for (int64_t i = 0; i < count; i += L) list[n++] = {offset + i * s.step, at + i, least(L, count - i)};
  });
  float line[P + L];
  for (int64_t k = 0; k < depth; ++k, dst += P) {
    const float* from = image + s.tap[k0 + k];
    const bool ends = valid < P || k + 1 == depth;
    float* to = ends ? line : dst;
    for (int i = 0; i < n; ++i) copy_apart(from + list[i].offset, s.step, to + list[i].at, list[i].count);
    if (!ends) continue;
    for (int w = 0; w < P; w += L) store(dst + w, load_some(line + w, valid - w));
  }
}

// Points along k, taps along w.
template <int P>
void pack_taps(const float* image, const Windows& s, int64_t k0, int64_t depth, int64_t w0, int64_t valid, float* dst) {
  for_stretches(s, k0, depth, [&](int64_t offset, int64_t at, int64_t count) {
    const float* from = image + offset;
    for (int w = 0; w < P; w += L) {
      const int64_t rows = least(L, valid - w);
      if (s.step == 1) {
        for (int64_t k = 0; k < count; k += L)
          pack_square<P>([&](int i) { return from + s.tap[w0 + w + i] + k; }, rows, count - k, dst + (at + k) * P + w);
      } else {
        for (int64_t k = 0; k < count; ++k)
          for (int i = 0; i < L; ++i)
            dst[(at + k) * P + w + i] = i < rows ? from[s.tap[w0 + w + i] + k * s.step] : 0.0f;
      }
    }
  });
}

// `depth` x P elements from (k0, w0), `valid` columns of which exist.
template <int P>
void pack(const GemmOperand& o, int64_t k0, int64_t depth, int64_t w0, int64_t valid, float* dst) {
  if (o.windows) {
    const auto* image = static_cast<const float*>(o.data);
    return o.taps_along_k ? pack_points<P>(image, *o.windows, k0, depth, o.w0 + w0, valid, dst)
                          : pack_taps<P>(image, *o.windows, k0, depth, o.w0 + w0, valid, dst);
  }
  const int64_t offset = k0 * o.k_stride + w0 * o.w_stride;
  auto from = [&](auto* p) { pack_strided<P>(p + offset, o.k_stride, o.w_stride, depth, valid, dst); };
  if (o.dtype == DType::F32)
    from(static_cast<const float*>(o.data));
  else if (o.dtype == DType::BF16)
    from(static_cast<const BFloat16*>(o.data));
  else
    from(static_cast<const Half*>(o.data));
}

#ifdef TG_BF16_DOT
// Two rows of bfloat16, element by element side by side.
TG_IN V beside(const BFloat16* even, const BFloat16* odd, int64_t n) {
  const __mmask16 some = first(n < 0 ? 0 : n);
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, even));
  if (!odd) return _mm512_castsi512_ps(low);
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, odd));
  return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

// dst[k * P + w] = elements (2k, w) and (2k + 1, w) of `elements` along k; one that is missing is zero.
template <int P>
void pack_pairs(const GemmOperand& o, int64_t k0, int64_t elements, int64_t w0, int64_t valid, float* dst) {
  const int64_t ks = o.k_stride, ws = o.w_stride, whole = elements / 2;
  const auto* src = static_cast<const BFloat16*>(o.data) + k0 * ks + w0 * ws;
  if (ks == 1 && elements % 2 == 0) {  // the pairs lie in memory as they are wanted
    for (int w = 0; w < P; w += L)
      for (int64_t k = 0; k < whole; k += L)
        pack_square<P>([&](int i) { return reinterpret_cast<const float*>(src + (w + i) * ws + 2 * k); }, valid - w,
                       whole - k, dst + k * P + w);
    return;
  }
  for (int64_t k = 0; k < elements; k += 2, dst += P) {
    const BFloat16 *even = src + k * ks, *odd = k + 1 < elements ? even + ks : nullptr;
    if (ws == 1) {
      for (int w = 0; w < P; w += L) store(dst + w, beside(even + w, odd ? odd + w : nullptr, valid - w));
      continue;
    }
    for (int w = 0; w < P; ++w) {
      const uint16_t pair[2] = {w < valid ? even[w * ws].bits : uint16_t(0),
                                w < valid && odd ? odd[w * ws].bits : uint16_t(0)};
      std::memcpy(dst + w, pair, sizeof pair);
    }
  }
}
#endif

// Rows of the left operand that are contiguous along k are packed as rows, kRowStride floats apart: no transposition,
// and no two of them in the same set of the first-level cache.
constexpr int64_t kRowStride = kGemmDepth + L;

template <class S>
[[gnu::flatten]] void pack_rows(const char* from, int64_t bytes, int64_t count, int64_t rows, float* dst) {
  for (int64_t r = 0; r < rows; ++r, from += bytes, dst += kRowStride) {
    const auto* src = reinterpret_cast<const S*>(from);
    for (int64_t k = 0; k < count; k += L) store(dst + k, load_some(src + k, count - k));
  }
}

// Panel lines of `elements` along k.
template <bool Pairs, int P>
TG_IN void pack_lines(const GemmOperand& o, int64_t k0, int64_t elements, int64_t w0, int64_t valid, float* dst) {
#ifdef TG_BF16_DOT
  if constexpr (Pairs) return pack_pairs<P>(o, k0, elements, w0, valid, dst);
#endif
  pack<P>(o, k0, elements, w0, valid, dst);
}

// ---- the tile: R rows, N vectors of columns, `cols` of which exist

// A float of a panel is one element, and a step adds a product to each sum; or it is two elements of bfloat16 that
// follow each other along k, and a step adds two products (AVX512_BF16: subnormal operands count as zero).
template <bool Pairs>
TG_IN V step(V a, V b, V sum) {
#ifdef TG_BF16_DOT
  if constexpr (Pairs) return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#endif
  return fma(a, b, sum);
}

// Memory that will be wanted: in step k of a tile, the line (k mod 2^shift) of row k / 2^shift.
struct Ahead {
  const char* from = nullptr;
  int64_t row = 0;
  int shift = 0;
};

// Steps before the end of a longer tile at which it fetches the results that it will write: earlier, and they push
// panels out of the first-level cache.
constexpr int64_t kLastSteps = 32;

struct Tile {
  const float *a, *b;
  int64_t b_stride, depth;
  float* c;
  int64_t ldc, cols;
  float alpha, beta;
  const float* bias;
  Ahead ahead;
};

template <bool Pairs, bool Rows, int R, int N>
void tile(const Tile& t) {
  constexpr int64_t row = Rows ? kRowStride : 1, line = Rows ? 1 : L;
  V sum[R][N] = {};
  const float *a = t.a, *b = t.b;
  auto run = [&](auto fetching, int64_t begin, int64_t end) __attribute__((always_inline)) {
    [[maybe_unused]] const Ahead h = t.ahead;
    [[maybe_unused]] const int64_t within = (int64_t(1) << h.shift) - 1;
    for (int64_t k = begin; k < end; ++k, a += line, b += t.b_stride) {
      if constexpr (fetching) __builtin_prefetch(h.from + (k >> h.shift) * h.row + (k & within) * 64, 0, 2);
      V column[N];
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) column[j] = load(b + j * L);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V factor = spread(a[r * row]);
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) sum[r][j] = step<Pairs>(factor, column[j], sum[r][j]);
      }
    }
  };
  const int64_t late = t.depth >= 4 * kLastSteps && !t.ahead.from ? t.depth - kLastSteps : 0;
  if (late > 0) {
    run(std::false_type{}, 0, late);
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < N; ++j) __builtin_prefetch(t.c + r * t.ldc + j * L, 1);
  }
  t.ahead.from ? run(std::true_type{}, 0, t.depth) : run(std::false_type{}, late, t.depth);
  if (t.bias) {
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) {
      const V bias = load_some(t.bias + j * L, t.cols - j * L);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r][j] = sum[r][j] + bias;
    }
  }
  const V alpha = spread(t.alpha), beta = spread(t.beta);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) {
      float* to = t.c + r * t.ldc + j * L;
      const int64_t left = t.cols - j * L;
      V v = sum[r][j] * alpha;
      if (t.beta != 0) v = fma(beta, left >= L ? load(to) : load_part(to, left), v);
      if (left >= L)
        store(to, v);
      else
        store_part(to, v, left);
    }
}

using TileFn = void (*)(const Tile&);
template <bool Pairs, int N, int... R>
TileFn tile_of(int rows, bool as_rows, std::integer_sequence<int, R...>) {
  static constexpr TileFn table[2][kMaxRows] = {{tile<Pairs, false, R + 1, N>...}, {tile<Pairs, true, R + 1, N>...}};
  return table[as_rows][rows - 1];
}
template <bool Pairs, int N>
TileFn tile_for(int rows, bool as_rows) {
  return tile_of<Pairs, N>(rows, as_rows, std::make_integer_sequence<int, kMaxRows>());
}

// ---- a product

// Rows [row(i), row(i + 1)) make panel i: sizes differ by at most one.
struct Panels {
  int64_t m, count;
  explicit Panels(int64_t rows) : m(rows), count((rows + kMaxRows - 1) / kMaxRows) {}
  int64_t row(int64_t i) const { return m * i / count; }
};

// Packing costs more than it saves where few rows use each element of b, or b lies in the first-level cache anyway, if
// its rows lie in order.
constexpr int64_t kDirectRows = 4, kDirectBytes = 24 << 10;

bool direct(const GemmProduct& p) {
  const GemmOperand& b = p.b;
  return b.dtype == DType::F32 && !b.windows && !p.packed && b.w_stride == 1 &&
         (p.m <= kDirectRows || (b.k_stride >= p.n && p.k * b.k_stride * 4 <= kDirectBytes));
}

// Of the summed axis: elements [k0, k0 + elements), `lines` of a panel.
struct Stretch {
  int64_t k0, elements, lines;
};

// An operand of this size is not in the second-level cache when its turn comes, and its next panel is fetched while two
// tiles of this one are computed.
constexpr int64_t kFarBytes = 512 << 10;

// What tile `i` fetches of the columns from `col` on: half the rows of 1 KB where k is contiguous, else half of each
// row.
template <bool Pairs>
Ahead ahead_of(const GemmProduct& p, const Stretch& s, int64_t col, int64_t i) {
  const GemmOperand& b = p.b;
  const int64_t item = itemsize(b.dtype), left = p.n - col;
  const bool along_k = b.k_stride == 1 && (left >= 2 * L), along_w = b.w_stride == 1 && left >= 2 * L;
  if (b.windows || !(along_k || along_w)) return {};
  Ahead h{static_cast<const char*>(b.data) + (s.k0 * b.k_stride + col * b.w_stride) * item};
  if (along_k) {
    h.shift = 4, h.row = b.w_stride * item;
    h.from += i * L * h.row;
  } else {
    h.row = b.k_stride * item;
    h.from += Pairs ? i * s.lines * h.row : i * 64;
  }
  return h;
}

// The packed panels of the left operand, `size` floats each.
struct Left {
  float* data;
  bool as_rows;
  int64_t size;
};

template <bool Pairs>
Left pack_left(const GemmProduct& p, const Panels& panels, int64_t row0, const Stretch& s, float* to) {
  const GemmOperand& a = p.a;
  const int64_t item = itemsize(a.dtype);
  Left left{to, !a.windows && a.k_stride == 1 && (!Pairs || s.elements % 2 == 0), s.lines * L};
  if (left.as_rows) left.size = kMaxRows * kRowStride;
  for (int64_t i = 0; i < panels.count; ++i, to += left.size) {
    const int64_t row = row0 + panels.row(i), rows = panels.row(i + 1) - panels.row(i);
    if (!left.as_rows) {
      pack_lines<Pairs, L>(a, s.k0, s.elements, row, rows, to);
      continue;
    }
    const char* from = static_cast<const char*>(a.data) + (s.k0 + row * a.w_stride) * item;
    const int64_t stride = a.w_stride * item;
    if (Pairs || a.dtype == DType::F32)  // two elements of bfloat16 are moved as if they were a float
      pack_rows<float>(from, stride, s.lines, rows, to);
    else if (a.dtype == DType::BF16)
      pack_rows<BFloat16>(from, stride, s.lines, rows, to);
    else
      pack_rows<Half>(from, stride, s.lines, rows, to);
  }
  return left;
}

// Where columns are packed to, whether they have been before, and then what comes next (null if it is close anyway).
struct Right {
  float* data;
  bool packed;
  const float* next = nullptr;
};

// Columns [col, col + cols) of all packed rows, N vectors wide.
template <bool Pairs, int N>
void column_panel(const GemmProduct& p, const Panels& panels, int64_t row0, int64_t col, int64_t cols, const Stretch& s,
                  const Left& left, const Right& right) {
  Tile t{nullptr, right.data, N * L, s.lines, nullptr, p.ldc, cols, p.alpha, s.k0 == 0 ? p.beta : 1.0f, nullptr, {}};
  if (s.k0 == 0 && p.bias) t.bias = p.bias + col;
  if (!Pairs && cols == N * L && direct(p)) {
    t.b = static_cast<const float*>(p.b.data) + s.k0 * p.b.k_stride + col;
    t.b_stride = p.b.k_stride;
  } else if (!right.packed) {
    pack_lines<Pairs, N * L>(p.b, s.k0, s.elements, col, cols, right.data);
  }
  const bool far = !right.packed && p.k * p.n * itemsize(p.b.dtype) >= kFarBytes;
  for (int64_t i = 0; i < panels.count; ++i) {
    t.ahead = far && i < 2 ? ahead_of<Pairs>(p, s, col + cols, i) : Ahead{};
    if (right.next && i < 2) t.ahead = {reinterpret_cast<const char*>(right.next + i * s.lines * L), 64};
    const int64_t row = panels.row(i);
    t.a = left.data + i * left.size;
    t.c = p.c + (row0 + row) * p.ldc + col;
    tile_for<Pairs, N>(int(panels.row(i + 1) - row), left.as_rows)(t);
  }
}

// The panel of `width` columns from `col` on, from k0 on, where all panels of k lines are kept.
TG_IN float* panel_at(float* kept, int64_t k, int64_t k0, int64_t col, int64_t width) {
  return kept + col * k + k0 * width;
}

void pack_right(const GemmOperand& b, int64_t k, int64_t begin, int64_t end, float* to) {
  for (int64_t k0 = 0; k0 < k; k0 += kGemmDepth) {
    const int64_t depth = least(kGemmDepth, k - k0);
    int64_t col = begin;
    for (; end - col > L; col += 2 * L)
      pack<2 * L>(b, k0, depth, col, least(2 * L, end - col), panel_at(to, k, k0, col, 2 * L));
    if (col < end) pack<L>(b, k0, depth, col, end - col, panel_at(to, k, k0, col, L));
  }
}

template <bool Pairs>
void product(const GemmProduct& p) {
  constexpr int64_t kPerLine = Pairs ? 2 : 1, kDepth = kGemmDepth * kPerLine;
  float *right = p.buffer, *to = right + kGemmDepth * kGemmColumns;
  // Rows that do not fit into the cache at once: the panels of the right operand are kept for the rows that follow.
  const int64_t blocks = (p.m + kGemmRows - 1) / kGemmRows, rows = (p.m + blocks - 1) / blocks;
  const int64_t lines = (p.k + kPerLine - 1) / kPerLine, floats = (p.n + 2 * L - 1) / (2 * L) * (2 * L) * lines;
  float* kept = p.packed                                                     ? p.packed
                : blocks > 1 && floats <= kGemmKept && (Pairs || !direct(p)) ? gemm_panels(floats)
                                                                             : nullptr;
  const bool far = p.packed && floats * 4 >= kFarBytes;
  for (int64_t row0 = 0; row0 < p.m; row0 += rows) {
    const Panels panels(least(rows, p.m - row0));
    for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
      Stretch s{k0, least(kDepth, p.k - k0), 0};
      s.lines = (s.elements + kPerLine - 1) / kPerLine;
      const Left left = pack_left<Pairs>(p, panels, row0, s, to);
      auto at = [&](int64_t col, int64_t width) {
        if (!kept) return Right{right, false};
        float* panel = panel_at(kept, lines, k0 / kPerLine, col, width);
        return Right{panel, p.packed || row0 > 0, far ? panel + lines * width : nullptr};
      };
      int64_t col = 0;
      for (; p.n - col > L; col += 2 * L)
        column_panel<Pairs, 2>(p, panels, row0, col, least(2 * L, p.n - col), s, left, at(col, 2 * L));
      if (col < p.n) column_panel<Pairs, 1>(p, panels, row0, col, p.n - col, s, left, at(col, L));
    }
  }
}

}  // namespace

void fill_gemm(Loops& t) {
  t.gemm = product<false>;
  t.gemm_pack = pack_right;
#ifdef TG_BF16_DOT
  if (__builtin_cpu_supports("avx512bf16")) t.gemm_bf16 = product<true>;
#endif
}

}  // namespace tg::cpu::TG_ISA
#else
namespace tg::cpu::TG_ISA {
void fill_gemm(Loops&) {}  // without fused multiply-adds the BLAS does it
}  // namespace tg::cpu::TG_ISA
#endif
