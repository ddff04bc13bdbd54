// Attention in tiles of queries by tiles of keys: a running maximum and sum per query ("online softmax", Milakov and
// Gimelshein, arXiv:1805.02867), so that no more than a tile of the weights is ever in memory. Backward computes them
// anew from each query's maximum and sum (Dao et al., "FlashAttention", arXiv:2205.14135): one kernel goes along the
// keys for dq, one along the queries for dk and dv. Every result is summed by one thread in a fixed order.
#include <limits>

#include "backends/cuda/attention.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/element.cuh"
#ifdef __CUDACC__
#include <mma.h>
#endif

namespace tg::cuda {

constexpr int kSide = 16, kThreads = kSide * kSide;  // a thread has every 16th row and column of a tile
constexpr unsigned kAllLanes = 0xffffffffu;

// Positions of a tile: what fits into shared memory for D features of type A.
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

struct Attention {
  Operand q, k, v;
  int queries, keys, heads;
  bool causal;
  double scale;
  __device__ int seen_by(int query) const { return causal ? min(query + 1, keys) : keys; }
};

// What backward keeps of each query: weight(key) = exp(score - base) * inverse, and sum over keys of weight * slope.
template <class A>
struct Rows {
  A *base, *inverse, *mean;
};

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }

// The place of this thread, and which tile of which head its block has.
struct Place {
  int ty = int(threadIdx.x) / kSide, tx = int(threadIdx.x) % kSide;
  int tile, group;
  __device__ explicit Place(int tiles) : tile(int(blockIdx.x) % tiles), group(int(blockIdx.x) / tiles) {}
};

template <class S>
__device__ S* head_of(const Operand& t, int group, int heads) {
  return static_cast<S*>(t.data) + (group / heads) * t.stride[0] + (group % heads) * t.stride[1];
}

// Positions [first, first + B); 0 beyond the last position and feature.
template <class T, class S, int D>
__device__ void load_tile(typename T::E* tile, const Operand& t, int group, int heads, int first, int positions) {
  const S* head = head_of<const S>(t, group, heads);
  for (int i = int(threadIdx.x); i < T::B * D; i += kThreads) {
    const int row = i / D, d = i % D;
    const bool there = first + row < positions && d < t.features;
    const int64_t at = there ? (first + row) * t.stride[2] + d * t.stride[3] : 0;
    typename T::E x{};
    if constexpr (std::is_same_v<typename T::E, S>)
      x = there ? head[at] : x;
    else
      x = there ? convert_to<typename T::E>(head[at]) : x;
    tile[row * T::kRow + d] = x;
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

// c[i][j] (+)= the product's element of row ty + 16 i and column tx + 16 j. Every thread of the block comes here.
template <class T, bool a_turned, bool b_turned, bool add, int R, int C>
__device__ void block_product(const Place& at, const typename T::E* a, int row_a, const typename T::E* b, int row_b,
                              int depth, float* room, float (&c)[R][C]) {
  __syncthreads();  // the last product has been read
  for (int t = int(threadIdx.x) / 32; t < R * C; t += kThreads / 32) {
    const int i = t / C * 16, j = t % C * 16;
    tensor_product<a_turned, b_turned>(a + (a_turned ? i : i * row_a), row_a, b + (b_turned ? j * row_b : j), row_b,
                                       depth, room + i * T::kRoomRow + j, T::kRoomRow);
  }
  __syncthreads();
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < C; ++j) {
    const float x = room[(at.ty + kSide * i) * T::kRoomRow + at.tx + kSide * j];
    c[i][j] = add ? c[i][j] + x : x;
  }
}

// c[i][j] = row ty + 16 i of `left` times row tx + 16 j of `right`.
template <class T, int D, class A, int R>
__device__ __forceinline__ void rows_by_rows(const Place& at, const typename T::E* left, const typename T::E* right,
                                             int features, [[maybe_unused]] A* room, A (&c)[R][R]) {
  if constexpr (T::kTensorCores) {
    block_product<T, false, true, false>(at, left, T::kRow, right, T::kRow, (features + 15) / 16 * 16, room, c);
  } else {
    TG_UNROLL
    for (int i = 0; i < R; ++i) TG_UNROLL
    for (int j = 0; j < R; ++j) c[i][j] = 0;
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

// c[i][j] += row ty + 16 i of `weights` (of its transpose if `turned`) times column tx + 16 j of `tile`.
template <class T, bool turned, class A, int R, int C>
__device__ __forceinline__ void weigh(const Place& at, const typename T::E* weights, const typename T::E* tile,
                                      [[maybe_unused]] A* room, A (&c)[R][C]) {
  if constexpr (T::kTensorCores) {
    block_product<T, turned, false, true>(at, weights, T::kWeightRow, tile, T::kRow, T::B, room, c);
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

template <class S, class A, int R, int C>
__device__ void store_rows(const Place& at, const Operand& t, int heads, int first, int positions, const A (&c)[R][C],
                           A factor) {
  S* head = head_of<S>(t, at.group, heads);
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < C; ++j) {
      const int row = first + at.ty + kSide * i, d = at.tx + kSide * j;
      if (row < positions && d < t.features)
        head[row * t.stride[2] + d * t.stride[3]] = convert_to<S>(c[i][j] * factor);
    }
}

// Over the 16 threads that share rows.
template <class A>
__device__ __forceinline__ A sum_of_row(A x) {
  for (int by = kSide / 2; by > 0; by /= 2) x += __shfl_xor_sync(kAllLanes, x, by);
  return x;
}
// NaN wins.
template <class A>
__device__ __forceinline__ A larger(A a, A b) {
  return a > b || a != a ? a : b;
}
template <class A>
__device__ __forceinline__ A max_of_row(A x) {
  for (int by = kSide / 2; by > 0; by /= 2) x = larger(x, __shfl_xor_sync(kAllLanes, x, by));
  return x;
}

// The running softmax of this thread's rows: `sum` of the exponentials of (score - base()), and what they weigh.
template <class A, int R, int C>
struct Softmax {
  static constexpr A kLowest = -std::numeric_limits<A>::infinity();
  A top[R], sum[R], out[R][C];
  __device__ Softmax() {
    for (int i = 0; i < R; ++i) {
      top[i] = kLowest, sum[i] = 0;
      for (int j = 0; j < C; ++j) out[i][j] = 0;
    }
  }
  // A row of -inf has no maximum to subtract.
  __device__ A base(int i) const { return top[i] == kLowest ? A(0) : top[i]; }
  // 1 / sum; causal rows with nothing to look at give 0, others NaN, as the softmax of whole rows does.
  __device__ A inverse(int i, bool causal) const { return causal && sum[i] == 0 ? A(0) : A(1) / sum[i]; }

  // Takes the products with keys [first, first + B) in, and turns them into weights of the new base.
  __device__ void add(const Attention& a, const Place& at, int query, int first, A (&s)[R][R]) {
    TG_UNROLL
    for (int i = 0; i < R; ++i) {
      const int seen = a.seen_by(query + at.ty + kSide * i);
      A most = kLowest, total = 0;
      TG_UNROLL
      for (int j = 0; j < R; ++j) s[i][j] *= A(a.scale);
      TG_UNROLL
      for (int j = 0; j < R; ++j)
        if (first + at.tx + kSide * j < seen) most = larger(s[i][j], most);
      const A old = top[i];
      top[i] = larger(max_of_row(most), old);
      TG_UNROLL
      for (int j = 0; j < R; ++j) {
        s[i][j] = first + at.tx + kSide * j < seen ? exp_of(s[i][j] - base(i)) : A(0);
        total += s[i][j];
      }
      const A shrink = exp_of(old - base(i));
      sum[i] = sum[i] * shrink + sum_of_row(total);
      TG_UNROLL
      for (int j = 0; j < C; ++j) out[i][j] *= shrink;
    }
  }
};

// One tile of queries against all keys they see. `rows.base` null: writes the output; else, with g the gradient of the
// output, what backward needs to know of each query.
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(Attention a, int tiles, Operand out, Operand g, Rows<Compute<S>> rows) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R, C = T::C;
  TG_DYNAMIC_SHARED(E, memory);
  E *q = memory, *kv = q + T::kPart, *weights = kv + T::kPart;
  A* const room = reinterpret_cast<A*>(weights + B * T::kWeightRow);
  Place at(tiles);
  at.tile = tiles - 1 - at.tile;  // the longest first
  const int query = at.tile * B, last = a.seen_by(min(query + B, a.queries) - 1);
  load_tile<T, S, D>(q, a.q, at.group, a.heads, query, a.queries);
  Softmax<A, R, C> softmax;
  for (int key = 0; key < last; key += B) {
    A s[R][R];
    load_tile<T, S, D>(kv, a.k, at.group, a.heads, key, a.keys);
    __syncthreads();
    rows_by_rows<T, D>(at, q, kv, a.q.features, room, s);
    softmax.add(a, at, query, key, s);
    put_tile<T>(at, s, weights);
    __syncthreads();
    load_tile<T, S, D>(kv, a.v, at.group, a.heads, key, a.keys);
    __syncthreads();
    weigh<T, false>(at, weights, kv, room, softmax.out);
    __syncthreads();
  }
  for (int i = 0; i < R; ++i) {
    const A inverse = softmax.inverse(i, a.causal);
    for (int j = 0; j < C; ++j) softmax.out[i][j] *= inverse;
  }
  if (!rows.base) return store_rows<S>(at, out, a.heads, query, a.queries, softmax.out, A(1));
  const S* slopes = head_of<const S>(g, at.group, a.heads);
  for (int i = 0; i < R; ++i) {
    const int row = query + at.ty + kSide * i;
    A mean = 0;
    for (int j = 0; j < C; ++j)
      if (const int d = at.tx + kSide * j; row < a.queries && d < g.features)
        mean += softmax.out[i][j] * convert_to<A>(slopes[row * g.stride[2] + d * g.stride[3]]);
    mean = sum_of_row(mean);
    if (row >= a.queries || at.tx > 0) continue;
    const int64_t to = int64_t(at.group) * a.queries + row;
    rows.base[to] = softmax.base(i), rows.inverse[to] = softmax.inverse(i, a.causal), rows.mean[to] = mean;
  }
}

// From products s of queries and keys and p of the output's gradient with the values: the weights, and the scores'
// gradient. Both are 0 where a query does not look and beyond the last.
template <class A, int R>
__device__ void weights_and_slopes(const Attention& a, const Place& at, const Rows<A>& rows, int query, int key,
                                   A (&s)[R][R], A (&p)[R][R]) {
  TG_UNROLL
  for (int i = 0; i < R; ++i) {
    const int row = query + at.ty + kSide * i, seen = row < a.queries ? a.seen_by(row) : 0;
    const int64_t of = row < a.queries ? int64_t(at.group) * a.queries + row : 0;
    const A base = rows.base[of], inverse = rows.inverse[of], mean = rows.mean[of];
    TG_UNROLL
    for (int j = 0; j < R; ++j) {
      const bool looks = key + at.tx + kSide * j < seen;
      s[i][j] = looks ? exp_of(s[i][j] * A(a.scale) - base) * inverse : A(0);
      p[i][j] = looks ? s[i][j] * (p[i][j] - mean) : A(0);
    }
  }
}

// dq = scale * (gradient of the scores) k
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    query_grad_kernel(Attention a, int tiles, Operand g, Rows<Compute<S>> rows, Operand dq) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R, C = T::C;
  TG_DYNAMIC_SHARED(E, memory);
  E *q = memory, *slope = q + T::kPart, *k = slope + T::kPart, *v = k + T::kPart, *weights = v + T::kPart;
  A* const room = reinterpret_cast<A*>(weights + B * T::kWeightRow);
  Place at(tiles);
  at.tile = tiles - 1 - at.tile;
  const int query = at.tile * B, last = a.seen_by(min(query + B, a.queries) - 1);
  load_tile<T, S, D>(q, a.q, at.group, a.heads, query, a.queries);
  load_tile<T, S, D>(slope, g, at.group, a.heads, query, a.queries);
  A sum[R][C] = {};
  for (int key = 0; key < last; key += B) {
    A s[R][R], p[R][R];
    load_tile<T, S, D>(k, a.k, at.group, a.heads, key, a.keys);
    load_tile<T, S, D>(v, a.v, at.group, a.heads, key, a.keys);
    __syncthreads();
    rows_by_rows<T, D>(at, q, k, a.q.features, room, s);
    rows_by_rows<T, D>(at, slope, v, a.v.features, room, p);
    weights_and_slopes(a, at, rows, query, key, s, p);
    put_tile<T>(at, p, weights);
    __syncthreads();
    weigh<T, false>(at, weights, k, room, sum);
    __syncthreads();
  }
  store_rows<S>(at, dq, a.heads, query, a.queries, sum, A(a.scale));
}

// dk = scale * (gradient of the scores)^T q, dv = weights^T g
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    key_grad_kernel(Attention a, int tiles, Operand g, Rows<Compute<S>> rows, Operand dk, Operand dv) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R, C = T::C;
  TG_DYNAMIC_SHARED(E, memory);
  E *q = memory, *slope = q + T::kPart, *k = slope + T::kPart, *v = k + T::kPart, *weights = v + T::kPart;
  A* const room = reinterpret_cast<A*>(weights + B * T::kWeightRow);
  const Place at(tiles);
  const int key = at.tile * B;
  load_tile<T, S, D>(k, a.k, at.group, a.heads, key, a.keys);
  load_tile<T, S, D>(v, a.v, at.group, a.heads, key, a.keys);
  A of_keys[R][C] = {}, of_values[R][C] = {};
  for (int query = a.causal ? key : 0; query < a.queries; query += B) {
    A s[R][R], p[R][R];
    load_tile<T, S, D>(q, a.q, at.group, a.heads, query, a.queries);
    load_tile<T, S, D>(slope, g, at.group, a.heads, query, a.queries);
    __syncthreads();
    rows_by_rows<T, D>(at, q, k, a.q.features, room, s);
    rows_by_rows<T, D>(at, slope, v, a.v.features, room, p);
    weights_and_slopes(a, at, rows, query, key, s, p);
    put_tile<T>(at, s, weights);
    __syncthreads();
    weigh<T, true>(at, weights, slope, room, of_values);
    __syncthreads();
    put_tile<T>(at, p, weights);
    __syncthreads();
    weigh<T, true>(at, weights, q, room, of_keys);
    __syncthreads();
  }
  store_rows<S>(at, dk, a.heads, key, a.keys, of_keys, A(a.scale));
  store_rows<S>(at, dv, a.heads, key, a.keys, of_values, A(1));
}

// ---- launches

// Whether the current device gives a block that much shared memory.
bool shared_memory_is_there(int bytes) {
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, current_device()),
        "cudaDeviceGetAttribute");
  return bytes <= most;
}

// Lets a kernel have more than the 48 KB that it may have without saying so.
template <class... P>
void allow_shared(void (*kernel)(P...), int bytes) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "cudaFuncSetAttribute");
}

int tiles_of(int positions, int tile) { return (positions + tile - 1) / tile; }

template <class S, int D>
bool attend(const Attention& a, int groups, const Operand& out, const Operand& g, Rows<Compute<S>> rows) {
  using A = Compute<S>;
  constexpr int bytes = shared_bytes<S, D>(2);
  if (!shared_memory_is_there(bytes)) return false;
  const int tiles = tiles_of(a.queries, kTile<A, D>);
  allow_shared(&attention_kernel<S, D>, bytes);
  TG_LAUNCH((attention_kernel<S, D>), unsigned(tiles) * unsigned(groups), kThreads, bytes, stream(), a, tiles, out, g,
            rows);
  return true;
}

template <class S, int D>
bool attend_back(const Attention& a, int groups, const Operand& g, const Operand& dq, const Operand& dk,
                 const Operand& dv) {
  using A = Compute<S>;
  constexpr int bytes = shared_bytes<S, D>(4);
  if (!shared_memory_is_there(bytes)) return false;
  const int64_t n = int64_t(groups) * a.queries;
  const Scratch memory(size_t(3 * n) * sizeof(A));
  A* const p = memory.as<A>();
  const Rows<A> rows{p, p + n, p + 2 * n};
  attend<S, D>(a, groups, {}, g, rows);
  allow_shared(&query_grad_kernel<S, D>, bytes);
  allow_shared(&key_grad_kernel<S, D>, bytes);
  const int by_query = tiles_of(a.queries, kTile<A, D>), by_key = tiles_of(a.keys, kTile<A, D>);
  TG_LAUNCH((query_grad_kernel<S, D>), unsigned(by_query) * unsigned(groups), kThreads, bytes, stream(), a, by_query, g,
            rows, dq);
  TG_LAUNCH((key_grad_kernel<S, D>), unsigned(by_key) * unsigned(groups), kThreads, bytes, stream(), a, by_key, g, rows,
            dk, dv);
  return true;
}

// Float types of one dtype, at most 128 features, and few enough tiles for one launch.
bool usable(std::initializer_list<const View*> views) {
  const View& q = **views.begin();
  for (const View* v : views) {
    if (v->ndim() != 4 || v->dtype != q.dtype || !is_float(v->dtype) || v->numel() == 0) return false;
    if (v->shape[3] > 128 || v->shape[2] >= 1 << 30) return false;
    if (v->shape[0] * v->shape[1] * (v->shape[2] / kSide + 1) >= int64_t(1) << 31) return false;
  }
  return true;
}

// f(Tag<S>, D) for the storage type and the most features of an operand.
template <class F>
bool visit_sizes(const View& q, const View& v, F f) {
  const bool small = std::max(q.shape[3], v.shape[3]) <= 64;
  auto sized = [&](auto tag) {
    return small ? f(tag, std::integral_constant<int, 64>()) : f(tag, std::integral_constant<int, 128>());
  };
  switch (q.dtype) {
    case DType::F32:
      return sized(Tag<float>{});
    case DType::F16:
      return sized(Tag<Half>{});
    case DType::BF16:
      return sized(Tag<BFloat16>{});
    default:
      return sized(Tag<double>{});
  }
}

Attention attention_of(const View& q, const View& k, const View& v, bool causal, double scale) {
  return {Operand(q), Operand(k), Operand(v), int(q.shape[2]), int(k.shape[2]), int(q.shape[1]), causal, scale};
}

}  // namespace

bool attention_by_tiles(const View& q, const View& k, const View& v, bool causal, double scale, const View& out) {
  const Attention a = attention_of(q, k, v, causal, scale);
  return visit_sizes(q, v, [&](auto tag, auto d) {
    using S = typename decltype(tag)::type;
    return attend<S, d()>(a, int(q.shape[0] * q.shape[1]), Operand(out), {}, {});
  });
}

bool CudaBackend::attention(const View& q, const View& k, const View& v, bool causal, double scale, const View& out) {
  if (!usable({&q, &k, &v, &out})) return false;
  DeviceGuard guard(device_);
  return attention_by_dnn(q, k, v, causal, scale, out) || attention_by_tiles(q, k, v, causal, scale, out);
}

bool CudaBackend::attention_grad(const View& q, const View& k, const View& v, const View& g, bool causal, double scale,
                                 const View& dq, const View& dk, const View& dv) {
  if (!usable({&q, &k, &v, &g, &dq, &dk, &dv})) return false;
  DeviceGuard guard(device_);
  const Attention a = attention_of(q, k, v, causal, scale);
  return visit_sizes(q, v, [&](auto tag, auto d) {
    using S = typename decltype(tag)::type;
    return attend_back<S, d()>(a, int(q.shape[0] * q.shape[1]), Operand(g), Operand(dq), Operand(dk), Operand(dv));
  });
}

}  // namespace tg::cuda
