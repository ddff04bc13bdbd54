// Tiles of attention's operands in shared memory, and products of them: by tensor cores for half types, by ordinary
// arithmetic for others.
#pragma once
#include "backends/backend.h"
#include "backends/cuda/element.cuh"
#include "core/device_code.h"
#ifdef __CUDACC__
#include <mma.h>
#endif

namespace tg::cuda {

constexpr int kSide = 16, kThreads = kSide * kSide;  // a thread has every 16th row and column of a tile
constexpr unsigned kAllLanes = 0xffffffffu;

// Positions of a tile: what fits into shared memory for D features of type A. Operands of more features than D are met
// D at a time.
template <class A, int D>
inline constexpr int kTile = (D <= 64 ? 64 : 32) * int(sizeof(float)) / int(sizeof(A));

// How tiles lie in shared memory: rows of kRow elements E, the weights in rows of kWeightRow, and room for products.
// Tiles for ordinary arithmetic, whose rows begin in different banks:
template <class S, int D>
struct PlainTiles {
  using A = Compute<S>;
  using E = A;
  static constexpr bool kTensorCores = false;
  static constexpr int B = kTile<A, D>, R = B / kSide, C = D / kSide;
  static constexpr int kRow = D + 1, kWeightRow = B + 1, kPart = B * kRow, kRoom = 0;
};
// and for tensor cores, which want addresses at multiples of 32 bytes and give their sums in an order of their own:
template <class S, int D>
struct TensorTiles {
  using A = float;
  using E = S;
  static constexpr bool kTensorCores = true;
  static constexpr int B = kTile<A, D>, R = B / kSide, C = D / kSide;
  static constexpr int kRow = D + 8, kWeightRow = B + 8, kPart = B * kRow, kRoomRow = D + 4, kRoom = B * kRoomRow;
};

namespace {

template <class S>
inline constexpr bool kHalf = sizeof(S) == 2;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class S, int D>
using Tiles = PlainTiles<S, D>;
#else
template <class S, int D>
using Tiles = std::conditional_t<kHalf<S>, TensorTiles<S, D>, PlainTiles<S, D>>;
#endif

template <class T>
constexpr int bytes_of(int parts) {
  return (parts * T::kPart + T::B * T::kWeightRow) * int(sizeof(typename T::E)) + T::kRoom * int(sizeof(typename T::A));
}
// What a kernel asks for, whichever tiles it was compiled with.
template <class S, int D>
constexpr int shared_bytes(int parts) {
  constexpr auto most = [](int a, int b) { return a < b ? b : a; };
  if constexpr (kHalf<S>) return most(bytes_of<PlainTiles<S, D>>(parts), bytes_of<TensorTiles<S, D>>(parts));
  return bytes_of<PlainTiles<S, D>>(parts);
}

// (batch, heads, positions, features)
struct Operand {
  void* data = nullptr;
  int64_t stride[4] = {};
  int features = 0;
  Operand() = default;
  explicit Operand(const View& v) : data(v.data), features(int(v.shape[3])) {
    for (int d = 0; d < 4; ++d) stride[d] = v.stride[d];
  }
};

// How many parts of D features an operand has.
template <int D>
TG_HD constexpr int parts_of(int features) {
  return (features + D - 1) / D;
}

// The place of this thread, and what its block computes: one part of the features of one tile of one head.
struct Place {
  int ty = int(threadIdx.x) / kSide, tx = int(threadIdx.x) % kSide;
  int tile, part, batch, head;
  int group;  // of all heads of all batches
  __device__ Place(int tiles, int parts, int heads)
      : tile(int(blockIdx.x) % tiles),
        part(int(blockIdx.x) / tiles % parts),
        batch(int(blockIdx.x) / tiles / parts / heads),
        head(int(blockIdx.x) / tiles / parts % heads),
        group(int(blockIdx.x) / tiles / parts) {}
};

template <class S>
__device__ S* head_of(const Operand& t, const Place& at) {
  return static_cast<S*>(t.data) + at.batch * t.stride[0] + at.head * t.stride[1];
}

// Positions [first, first + B) of an operand of `positions`, and where a part of their features is in shared memory.
template <class T>
struct Tile {
  const Operand& t;
  typename T::E* memory;
  int first, positions;
  bool there = false;  // part 0 is
};

// 0 beyond the last position and feature.
template <class T, class S, int D>
__device__ void load_tile(const Place& at, const Tile<T>& x, int part) {
  const S* head = head_of<const S>(x.t, at);
  for (int i = int(threadIdx.x); i < T::B * D; i += kThreads) {
    const int row = i / D, d = i % D, position = x.first + row, feature = part * D + d;
    const bool there = position < x.positions && feature < x.t.features;
    const int64_t of = there ? position * x.t.stride[2] + feature * x.t.stride[3] : 0;
    typename T::E e{};
    if constexpr (std::is_same_v<typename T::E, S>)
      e = there ? head[of] : e;
    else
      e = there ? convert_to<typename T::E>(head[of]) : e;
    x.memory[row * T::kRow + d] = e;
  }
}

#ifdef __CUDA_ARCH__
template <class S>
using CoreType = std::conditional_t<std::is_same_v<S, Half>, __half, __nv_bfloat16>;
#endif

// room[i][j] = sum over k < `depth` of a(i, k) b(k, j) for the 16 x 16 results of a warp, by tensor cores. a is a
// matrix in rows of row_a elements or, `a_turned`, the transpose of one; b likewise.
template <bool a_turned, bool b_turned, class S>
__device__ void tensor_product(const S* a, int row_a, const S* b, int row_b, int depth, float* room, int row) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  namespace w = nvcuda::wmma;
  using H = CoreType<S>;
  using LayoutA = std::conditional_t<a_turned, w::col_major, w::row_major>;
  using LayoutB = std::conditional_t<b_turned, w::col_major, w::row_major>;
  w::fragment<w::matrix_a, 16, 16, 16, H, LayoutA> fa;
  w::fragment<w::matrix_b, 16, 16, 16, H, LayoutB> fb;
  w::fragment<w::accumulator, 16, 16, 16, float> sum;
  w::fill_fragment(sum, 0.0f);
  for (int k = 0; k < depth; k += 16) {
    w::load_matrix_sync(fa, reinterpret_cast<const H*>(a) + (a_turned ? k * row_a : k), unsigned(row_a));
    w::load_matrix_sync(fb, reinterpret_cast<const H*>(b) + (b_turned ? k : k * row_b), unsigned(row_b));
    w::mma_sync(sum, fa, fb, sum);
  }
  w::store_matrix_sync(room, sum, unsigned(row), w::mem_row_major);
#else
  for (int e = int(threadIdx.x) % 32; e < 256; e += 32) {
    const int i = e / 16, j = e % 16;
    float sum = 0;
    for (int k = 0; k < depth; ++k)
      sum += convert_to<float>(a[a_turned ? k * row_a + i : i * row_a + k]) *
             convert_to<float>(b[b_turned ? j * row_b + k : k * row_b + j]);
    room[i * row + j] = sum;
  }
#endif
}

// c[i][j] += the product's element of row ty + 16 i and column tx + 16 j. Every thread of the block comes here, and has
// passed a barrier since it read the last product.
template <class T, bool a_turned, bool b_turned, int R, int C>
__device__ void block_product(const Place& at, const typename T::E* a, int row_a, const typename T::E* b, int row_b,
                              int depth, float* room, float (&c)[R][C]) {
  for (int t = int(threadIdx.x) / 32; t < R * C; t += kThreads / 32) {
    const int i = t / C * 16, j = t % C * 16;
    tensor_product<a_turned, b_turned>(a + (a_turned ? i : i * row_a), row_a, b + (b_turned ? j * row_b : j), row_b,
                                       depth, room + i * T::kRoomRow + j, T::kRoomRow);
  }
  __syncthreads();
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < C; ++j) c[i][j] += room[(at.ty + kSide * i) * T::kRoomRow + at.tx + kSide * j];
}

// c[i][j] += row ty + 16 i of `left` times row tx + 16 j of `right`.
template <class T, class A, int R>
__device__ __forceinline__ void rows_by_rows(const Place& at, const typename T::E* left, const typename T::E* right,
                                             int features, [[maybe_unused]] A* room, A (&c)[R][R]) {
  if constexpr (T::kTensorCores) {
    block_product<T, false, true>(at, left, T::kRow, right, T::kRow, (features + 15) / 16 * 16, room, c);
  } else {
#pragma unroll 4
    for (int d = 0; d < features; ++d) {
      A l[R], r[R];
      TG_UNROLL
      for (int i = 0; i < R; ++i)
        l[i] = left[(at.ty + kSide * i) * T::kRow + d], r[i] = right[(at.tx + kSide * i) * T::kRow + d];
      TG_UNROLL
      for (int i = 0; i < R; ++i) TG_UNROLL
      for (int j = 0; j < R; ++j) c[i][j] += l[i] * r[j];
    }
  }
}

// c[i][j] = the same over all features. Leaves part `last` in both tiles, which nobody reads when it is called.
template <class T, class S, int D, class A, int R>
__device__ void products(const Place& at, Tile<T>& left, Tile<T>& right, int last, A* room, A (&c)[R][R]) {
  const int features = left.t.features, parts = max(parts_of<D>(features), last + 1);
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j) c[i][j] = 0;
  for (int n = 1; n <= parts; ++n) {
    const int part = (last + n) % parts;
    if (n > 1) __syncthreads();
    if (parts > 1 || !left.there) load_tile<T, S, D>(at, left, part);
    if (parts > 1 || !right.there) load_tile<T, S, D>(at, right, part);
    left.there = right.there = true;
    __syncthreads();
    rows_by_rows<T>(at, left.memory, right.memory, min(features - part * D, D), room, c);
  }
}

// c[i][j] += row ty + 16 i of `weights` (of its transpose if `turned`) times column tx + 16 j of `tile`.
template <class T, bool turned, class A, int R, int C>
__device__ __forceinline__ void weigh(const Place& at, const typename T::E* weights, const typename T::E* tile,
                                      [[maybe_unused]] A* room, A (&c)[R][C]) {
  if constexpr (T::kTensorCores) {
    block_product<T, turned, false>(at, weights, T::kWeightRow, tile, T::kRow, T::B, room, c);
  } else {
    constexpr int row = turned ? 1 : T::kWeightRow, step = turned ? T::kWeightRow : 1;
#pragma unroll 4
    for (int k = 0; k < T::B; ++k) {
      A w[R];
      TG_UNROLL
      for (int i = 0; i < R; ++i) w[i] = weights[(at.ty + kSide * i) * row + k * step];
      TG_UNROLL
      for (int j = 0; j < C; ++j) {
        const A x = tile[k * T::kRow + at.tx + kSide * j];
        TG_UNROLL
        for (int i = 0; i < R; ++i) c[i][j] += w[i] * x;
      }
    }
  }
}

template <class T, class A, int R>
__device__ __forceinline__ void put_tile(const Place& at, const A (&c)[R][R], typename T::E* tile) {
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j)
    tile[(at.ty + kSide * i) * T::kWeightRow + at.tx + kSide * j] = convert_to<typename T::E>(c[i][j]);
}

// This block's part of the features.
template <class S, class A, int R, int C>
__device__ void store_rows(const Place& at, const Operand& t, int first, int positions, const A (&c)[R][C], A factor) {
  S* head = head_of<S>(t, at);
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < C; ++j) {
      const int row = first + at.ty + kSide * i, d = (at.part * C + j) * kSide + at.tx;
      if (row < positions && d < t.features)
        head[row * t.stride[2] + d * t.stride[3]] = convert_to<S>(c[i][j] * factor);
    }
}

}  // namespace
}  // namespace tg::cuda
