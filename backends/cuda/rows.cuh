// One kernel per row of core/pointwise.def, for the storage type of the file that includes this.
#pragma once
#include "backends/cuda/map.cuh"

namespace tg::cuda {
namespace {

using sm::Rule;

// The storage types of a row's operands, given the type S that the row computes on.
template <Rule R, int K, class S>
using RowInput = std::conditional_t<R == Rule::Where && K == 0, bool, S>;
template <Rule R, class S>
using RowOutput = std::conditional_t<R == Rule::Compare, bool, S>;

// A vector of N elements of view k starting `at` elements after offset `off`, of which `valid` exist.
template <class T, class S, int N>
__device__ __forceinline__ void load_vector(const void* p, int64_t off, int64_t stride, bool whole, int valid,
                                            T (&x)[N]) {
  const S* s = static_cast<const S*>(p) + off;
  if (whole && valid == N) {
    Vector<S, N> v = *reinterpret_cast<const Vector<S, N>*>(s);
    TG_UNROLL
    for (int j = 0; j < N; ++j) x[j] = convert_to<T>(v.v[j]);
  } else {
    TG_UNROLL
    for (int j = 0; j < N; ++j) x[j] = convert_to<T>(j < valid ? s[j * stride] : S{});
  }
}
template <class T, class S, int N>
__device__ __forceinline__ void store_vector(void* p, int64_t off, int64_t stride, bool whole, int valid,
                                             const T (&x)[N]) {
  S* s = static_cast<S*>(p) + off;
  if (whole && valid == N) {
    Vector<S, N> v;
    TG_UNROLL
    for (int j = 0; j < N; ++j) v.v[j] = convert_to<S>(x[j]);
    *reinterpret_cast<Vector<S, N>*>(s) = v;
  } else {
    TG_UNROLL
    for (int j = 0; j < N; ++j)
      if (j < valid) s[j * stride] = convert_to<S>(x[j]);
  }
}

struct RowWalk {
  Walk<kRowViews> walk;  // over vectors: the innermost size is in vectors
  int64_t inner_stride[kRowViews];
  uint32_t inner = 0, vectors = 1;  // elements along the innermost axis, and vectors
  FastDiv by_vectors;
  uint8_t whole = 0;  // bit k: view k is read or written 16 bytes at a time
};

// Row is a struct with `static T apply(T a, T b, T c)`, an arity and a rule.
template <class Row, class S>
__global__ void __launch_bounds__(256) row_kernel(RowOperands o, RowWalk w) {
  using T = Compute<S>;
  constexpr int N = kVector<S>;
  uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= w.walk.n) return;
  int64_t off[kRowViews] = {};
  w.walk.offsets(i, off);
  uint32_t column = i - w.by_vectors.divide(i) * w.vectors;
  int valid = int(min(uint32_t(N), w.inner - column * N));
  T x[3][N];
  auto fetch = [&](auto which) {
    constexpr int k = decltype(which)::value;
    if (k >= Row::arity) return;
    if (o.in[k]) {
      load_vector<T, RowInput<Row::rule, k, S>, N>(o.in[k], off[k], w.inner_stride[k], w.whole >> k & 1, valid, x[k]);
    } else {
      T number = std::is_integral_v<T> ? T(o.integer[k]) : T(o.number[k]);
      TG_UNROLL
      for (int j = 0; j < N; ++j) x[k][j] = number;
    }
  };
  fetch(std::integral_constant<int, 0>());
  fetch(std::integral_constant<int, 1>());
  fetch(std::integral_constant<int, 2>());
  T y[N];
  TG_UNROLL
  for (int j = 0; j < N; ++j)
    y[j] = Row::template apply<T>(x[0][j], Row::arity > 1 ? x[1][j] : T(0), Row::arity > 2 ? x[2][j] : T(0));
  store_vector<T, RowOutput<Row::rule, S>, N>(o.out, off[3], w.inner_stride[3], w.whole >> 3 & 1, valid, y);
}

// Elements of view k as vectors: contiguous along the innermost axis, every vector at a multiple of its size.
inline bool whole_vectors(const void* p, int64_t item, int n, const plan::Nest& nest, int k) {
  int last = nest.ndim() - 1;
  if (!p || last < 0 || nest.stride[k][last] != 1 || reinterpret_cast<uintptr_t>(p) % uintptr_t(item * n)) return false;
  for (int d = 0; d < last; ++d)
    if (nest.stride[k][d] % n) return false;
  return true;
}

template <class Row, class S>
void start_row(const RowLaunch& l) {
  constexpr int N = kVector<S>;
  for_pieces(l.nest, [&](const plan::Nest& piece, const int64_t* start) {
    RowOperands o = l.operands;
    const int64_t items[kRowViews] = {sizeof(RowInput<Row::rule, 0, S>), sizeof(S), sizeof(S),
                                      sizeof(RowOutput<Row::rule, S>)};
    for (int k = 0; k < 3; ++k)
      if (o.in[k]) o.in[k] = static_cast<const char*>(o.in[k]) + start[k] * items[k];
    o.out = static_cast<char*>(o.out) + start[3] * items[3];
    plan::Nest vectors = piece;
    RowWalk w;
    if (piece.ndim() == 0) {
      w.inner = 1;
      for (auto& s : w.inner_stride) s = 0;
    } else {
      int last = piece.ndim() - 1;
      w.inner = uint32_t(piece.shape[last]);
      w.vectors = (w.inner + N - 1) / N;
      vectors.shape[last] = w.vectors;
      for (int k = 0; k < kRowViews; ++k) {
        w.inner_stride[k] = piece.stride[k][last];
        vectors.stride[k][last] *= N;
        const void* p = k < 3 ? o.in[k] : o.out;
        w.whole |= uint8_t(whole_vectors(p, items[k], N, piece, k) << k);
      }
    }
    w.by_vectors = FastDiv(w.vectors);
    w.walk = Walk<kRowViews>(vectors);
    TG_LAUNCH((row_kernel<Row, S>), blocks_for(w.walk.n, 256), 256, 0, stream(), o, w);
  });
}

#define TG_ROW_STRUCT(name_, arity_, rule_, expr)                                                \
  struct Row_##name_ {                                                                           \
    static constexpr int arity = arity_;                                                         \
    static constexpr Rule rule = Rule::rule_;                                                    \
    template <class T>                                                                           \
    static __device__ __forceinline__ T apply(T a, [[maybe_unused]] T b, [[maybe_unused]] T c) { \
      return expr;                                                                               \
    }                                                                                            \
  };
#define TG_P1(name, rule, flags, autocast, expr, ...) TG_ROW_STRUCT(name, 1, rule, expr)
#define TG_P2(name, params, rule, flags, autocast, expr, ...) TG_ROW_STRUCT(name, 2, rule, expr)
#define TG_P3(name, params, rule, flags, autocast, expr, ...) TG_ROW_STRUCT(name, 3, rule, expr)
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
TG_ROW_STRUCT(Identity, 1, Same, a)

// Rows that are rare and long (special functions) are left to the interpreter, which has them anyway.
constexpr bool has_kernel(Opc op) {
  return op != Opc::lgamma && op != Opc::digamma && op != Opc::polygamma && op != Opc::erfinv;
}

template <class Row, class S, Opc Op>
bool try_row(const RowLaunch& l) {
  if constexpr (sm::rule_has<Compute<S>>(Row::rule) && has_kernel(Op)) {
    start_row<Row, S>(l);
    return true;
  }
  return false;
}

template <class S>
bool launch_row(const RowLaunch& l) {
  switch (l.op) {
#define TG_P1(name, ...) \
  case Opc::name:        \
    return try_row<Row_##name, S, Opc::name>(l);
#define TG_P2 TG_P1
#define TG_P3 TG_P1
#include "core/pointwise.def"
    TG_P1(Identity)
#undef TG_P1
#undef TG_P2
#undef TG_P3
    default:
      return false;
  }
}

}  // namespace
}  // namespace tg::cuda
