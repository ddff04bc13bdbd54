// Attention in tiles of queries by tiles of keys: a running maximum and sum per query ("online softmax", Milakov and
// Gimelshein, arXiv:1805.02867), so that no more than a tile of the weights is ever in memory. Backward computes them
// anew from each query's maximum and sum (Dao et al., "FlashAttention", arXiv:2205.14135): one kernel goes along the
// keys for dq, one along the queries for dk and dv. Every result is summed by one thread in a fixed order.
#include <limits>

#include "backends/cuda/attention.h"
#include "backends/cuda/attention_tiles.cuh"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/random_bits.h"

namespace tg::cuda {
namespace {

// A mask or its gradient: (batch, heads, queries, keys); null: none
struct Mask {
  void* data = nullptr;
  DType dtype = DType::Bool;
  int64_t stride[4] = {};
  Mask() = default;
  explicit Mask(const View& v) : data(v.data), dtype(v.dtype) {
    for (int d = 0; data && d < 4; ++d) stride[d] = v.stride[d];
  }
};

// The numbers of AttentionOptions::dropout.
struct Dropout {
  float part = 0;
  double kept = 1;  // what the weights that stay are multiplied by
  RandomPlace numbers = {};
  explicit Dropout(const AttentionOptions& o) : part(float(o.dropout)), kept(o.kept()), numbers(o.numbers) {}
};

struct Attention {
  Operand q, k, v;
  int queries, keys, heads;
  bool causal;
  double scale;
  Mask mask;
  Dropout dropout;
  __device__ int seen_by(int query) const { return causal ? min(query + 1, keys) : keys; }
  __device__ bool may_see_nothing() const { return causal || mask.data; }
};

TG_HD int tiles_of(int positions, int tile) { return (positions + tile - 1) / tile; }

// What backward keeps of each query: weight(key) = exp(score - base) * inverse, and the sum over keys of weight *
// slope, of which each part of the values' features has its share.
template <class A>
struct Rows {
  A *base, *inverse, *mean;
  int64_t queries;
  int parts;
  __device__ A mean_of(int64_t query) const {
    A sum = 0;
    for (int p = 0; p < parts; ++p) sum += mean[p * queries + query];
    return sum;
  }
};

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }

// Over the 16 threads that share rows.
template <class A>
__device__ __forceinline__ A sum_of_row(A x) {
  for (int by = kSide / 2; by > 0; by /= 2) x += __shfl_xor_sync(kAllLanes, x, by);
  return x;
}
// A NaN may be lost: the sum of the exponentials is NaN then.
template <class A>
__device__ __forceinline__ A larger(A a, A b) {
  return a > b ? a : b;
}
template <class A>
__device__ __forceinline__ A max_of_row(A x) {
  for (int by = kSide / 2; by > 0; by /= 2) x = larger(x, __shfl_xor_sync(kAllLanes, x, by));
  return x;
}

// M: what the mask is made of.
template <class M, class A, int R>
__device__ void apply_mask(const Attention& a, const Place& at, int query, int key, A (&s)[R][R]) {
  const Mask& m = a.mask;
  const M* head = static_cast<const M*>(m.data) + at.batch * m.stride[0] + at.head * m.stride[1];
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j) {
    const int row = query + at.ty + kSide * i, column = key + at.tx + kSide * j;
    if (row >= a.queries || column >= a.keys) continue;
    const M x = head[row * m.stride[2] + column * m.stride[3]];
    if constexpr (std::is_same_v<M, bool>)
      s[i][j] = x ? s[i][j] : -std::numeric_limits<A>::infinity();
    else if constexpr (sizeof(M) > sizeof(A))
      s[i][j] += mask_number(x);
    else
      s[i][j] += convert_to<A>(x);
  }
}

// Turns products of queries and keys into scores.
template <class A, int R>
__device__ void to_scores(const Attention& a, const Place& at, int query, int key, A (&s)[R][R]) {
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j) s[i][j] *= A(a.scale);
  if (!a.mask.data) return;
  switch (a.mask.dtype) {
    case DType::Bool:
      return apply_mask<bool>(a, at, query, key, s);
    case DType::F16:
      return apply_mask<Half>(a, at, query, key, s);
    case DType::BF16:
      return apply_mask<BFloat16>(a, at, query, key, s);
    case DType::F32:
      return apply_mask<float>(a, at, query, key, s);
    default:
      return apply_mask<double>(a, at, query, key, s);
  }
}

// A bit for each of a thread's places in a tile, i * R + j: whether dropout keeps that weight.
template <int R>
__device__ uint32_t kept_places(const Attention& a, const Place& at, int query, int key) {
  if (a.dropout.part == 0) return ~0u;
  const RandomPlace& from = a.dropout.numbers;
  const auto* const origin = static_cast<const uint64_t*>(from.origin);
  const uint64_t seed = origin ? origin[0] : from.seed, offset = origin ? origin[1] + from.offset : from.offset;
  uint32_t bits = 0;
#pragma unroll 1
  for (int n = 0; n < R * R; ++n) {
    const int row = query + at.ty + kSide * (n / R), column = key + at.tx + kSide * (n % R);
    const int64_t place = from.first + (int64_t(at.group) * a.queries + row) * a.keys + column;
    const float u = rnd::element<float>(rnd::Draw::Uniform, seed, offset, place);
    bits |= uint32_t(u >= a.dropout.part) << n;
  }
  return bits;
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
  // 1 / sum; rows that may see nothing and do give 0, others NaN, as the softmax of whole rows does.
  __device__ A inverse(int i, const Attention& a) const {
    return a.may_see_nothing() && sum[i] == 0 ? A(0) : A(1) / sum[i];
  }

  // Takes the scores of keys [first, first + B) in, and turns them into weights of the new base.
  __device__ void add(const Attention& a, const Place& at, int query, int first, A (&s)[R][R]) {
    TG_UNROLL
    for (int i = 0; i < R; ++i) {
      const int seen = a.seen_by(query + at.ty + kSide * i);
      A most = kLowest, total = 0;
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

// One part of the values of one tile of queries, against all keys they see. `rows.base` null: writes the output; else,
// with g the gradient of the output, what backward needs to know of each query.
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(Attention a, int tiles, Operand out, Operand g, Rows<Compute<S>> rows) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R, C = T::C;
  TG_DYNAMIC_SHARED(E, memory);
  E *const of_keys = memory + T::kPart, *const weights = of_keys + T::kPart;
  A* const room = reinterpret_cast<A*>(weights + B * T::kWeightRow);
  Place at(tiles, parts_of<D>(a.v.features), a.heads);
  at.tile = tiles - 1 - at.tile;  // the longest first
  const int query = at.tile * B, last = a.seen_by(min(query + B, a.queries) - 1);
  Tile<T> q{a.q, memory, query, a.queries};
  Softmax<A, R, C> softmax;
  for (int key = 0; key < last; key += B) {
    A s[R][R];
    Tile<T> k{a.k, of_keys, key, a.keys}, v{a.v, of_keys, key, a.keys};
    products<T, S, D>(at, q, k, 0, room, s);
    to_scores(a, at, query, key, s);
    softmax.add(a, at, query, key, s);
    const uint32_t kept = kept_places<R>(a, at, query, key);
    TG_UNROLL
    for (int i = 0; i < R; ++i) TG_UNROLL
    for (int j = 0; j < R; ++j) s[i][j] = kept >> (i * R + j) & 1 ? s[i][j] : A(0);
    put_tile<T>(at, s, weights);
    __syncthreads();
    load_tile<T, S, D>(at, v, at.part);
    __syncthreads();
    weigh<T, false>(at, weights, v.memory, room, softmax.out);
    __syncthreads();
  }
  for (int i = 0; i < R; ++i) {
    const A factor = softmax.inverse(i, a) * A(a.dropout.kept);
    for (int j = 0; j < C; ++j) softmax.out[i][j] *= factor;
  }
  if (!rows.base) return store_rows<S>(at, out, query, a.queries, softmax.out, A(1));
  const S* slopes = head_of<const S>(g, at);
  for (int i = 0; i < R; ++i) {
    const int row = query + at.ty + kSide * i;
    A mean = 0;
    for (int j = 0; j < C; ++j)
      if (const int d = (at.part * C + j) * kSide + at.tx; row < a.queries && d < g.features)
        mean += softmax.out[i][j] * convert_to<A>(slopes[row * g.stride[2] + d * g.stride[3]]);
    mean = sum_of_row(mean);
    if (row >= a.queries || at.tx > 0) continue;
    const int64_t to = int64_t(at.group) * a.queries + row;
    rows.mean[at.part * rows.queries + to] = mean;
    if (at.part == 0) rows.base[to] = softmax.base(i), rows.inverse[to] = softmax.inverse(i, a);
  }
}

// From products s of queries and keys and p of the output's gradient with the values: the weights that dropout keeps,
// before they are scaled for it, and the scores' gradient. Both are 0 where a query does not look and beyond the last.
template <class A, int R>
__device__ void weights_and_slopes(const Attention& a, const Place& at, const Rows<A>& rows, int query, int key,
                                   A (&s)[R][R], A (&p)[R][R]) {
  to_scores(a, at, query, key, s);
  const uint32_t kept = kept_places<R>(a, at, query, key);
  TG_UNROLL
  for (int i = 0; i < R; ++i) {
    const int row = query + at.ty + kSide * i, seen = row < a.queries ? a.seen_by(row) : 0;
    const int64_t of = row < a.queries ? int64_t(at.group) * a.queries + row : 0;
    const A base = rows.base[of], inverse = rows.inverse[of], mean = rows.mean_of(of);
    TG_UNROLL
    for (int j = 0; j < R; ++j) {
      const bool looks = key + at.tx + kSide * j < seen, stays = kept >> (i * R + j) & 1;
      const A weight = looks ? exp_of(s[i][j] - base) * inverse : A(0);
      p[i][j] = looks ? weight * ((stays ? p[i][j] * A(a.dropout.kept) : A(0)) - mean) : A(0);
      s[i][j] = stays ? weight : A(0);
    }
  }
}

// One part of dq = scale * (gradient of the scores) k
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    query_grad_kernel(Attention a, int tiles, Operand g, Rows<Compute<S>> rows, Operand dq) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R, C = T::C;
  TG_DYNAMIC_SHARED(E, memory);
  E* const weights = memory + 4 * T::kPart;
  A* const room = reinterpret_cast<A*>(weights + B * T::kWeightRow);
  Place at(tiles, parts_of<D>(dq.features), a.heads);
  at.tile = tiles - 1 - at.tile;
  const int query = at.tile * B, last = a.seen_by(min(query + B, a.queries) - 1);
  Tile<T> q{a.q, memory, query, a.queries}, slope{g, memory + T::kPart, query, a.queries};
  A sum[R][C] = {};
  for (int key = 0; key < last; key += B) {
    A s[R][R], p[R][R];
    Tile<T> k{a.k, memory + 2 * T::kPart, key, a.keys}, v{a.v, memory + 3 * T::kPart, key, a.keys};
    products<T, S, D>(at, slope, v, 0, room, p);
    products<T, S, D>(at, q, k, at.part, room, s);
    weights_and_slopes(a, at, rows, query, key, s, p);
    put_tile<T>(at, p, weights);
    __syncthreads();
    weigh<T, false>(at, weights, k.memory, room, sum);
    __syncthreads();
  }
  store_rows<S>(at, dq, query, a.queries, sum, A(a.scale));
}

// One part of dk = scale * (gradient of the scores)^T q and of dv = weights^T g
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    key_grad_kernel(Attention a, int tiles, Operand g, Rows<Compute<S>> rows, Operand dk, Operand dv) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R, C = T::C;
  TG_DYNAMIC_SHARED(E, memory);
  E* const weights = memory + 4 * T::kPart;
  A* const room = reinterpret_cast<A*>(weights + B * T::kWeightRow);
  const Place at(tiles, parts_of<D>(max(dk.features, dv.features)), a.heads);
  const int key = at.tile * B;
  Tile<T> k{a.k, memory + 2 * T::kPart, key, a.keys}, v{a.v, memory + 3 * T::kPart, key, a.keys};
  A of_keys[R][C] = {}, of_values[R][C] = {};
  for (int query = a.causal ? key : 0; query < a.queries; query += B) {
    A s[R][R], p[R][R];
    Tile<T> q{a.q, memory, query, a.queries}, slope{g, memory + T::kPart, query, a.queries};
    products<T, S, D>(at, q, k, at.part, room, s);
    products<T, S, D>(at, slope, v, at.part, room, p);
    weights_and_slopes(a, at, rows, query, key, s, p);
    put_tile<T>(at, s, weights);
    __syncthreads();
    weigh<T, true>(at, weights, slope.memory, room, of_values);
    __syncthreads();
    put_tile<T>(at, p, weights);
    __syncthreads();
    weigh<T, true>(at, weights, q.memory, room, of_keys);
    __syncthreads();
  }
  store_rows<S>(at, dk, key, a.keys, of_keys, A(a.scale));
  store_rows<S>(at, dv, key, a.keys, of_values, A(a.dropout.kept));
}

// dmask += the gradient of the scores, summed along its strides of 0. A block has one tile of what is not summed, and
// goes along the rest.
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    mask_grad_kernel(Attention a, int batches, Operand g, Rows<Compute<S>> rows, Mask dmask) {
  using T = Tiles<S, D>;
  using A = typename T::A;
  using E = typename T::E;
  constexpr int B = T::B, R = T::R;
  TG_DYNAMIC_SHARED(E, memory);
  A* const room = reinterpret_cast<A*>(memory + 4 * T::kPart + B * T::kWeightRow);
  const int all[4] = {batches, a.heads, tiles_of(a.queries, B), tiles_of(a.keys, B)};
  int first[4], end[4];
  for (int d = 3, rest = int(blockIdx.x); d >= 0; --d) {
    const bool summed = dmask.stride[d] == 0;
    first[d] = summed ? 0 : rest % all[d], end[d] = summed ? all[d] : first[d] + 1;
    rest = summed ? rest : rest / all[d];
  }
  Place at(1, 1, a.heads);
  A sum[R][R] = {};
  for (at.batch = first[0]; at.batch < end[0]; ++at.batch)
    for (at.head = first[1]; at.head < end[1]; ++at.head)
      for (int query = first[2] * B; query < end[2] * B; query += B)
        for (int key = first[3] * B; key < end[3] * B; key += B) {
          if (key >= a.seen_by(min(query + B, a.queries) - 1)) continue;
          at.group = at.batch * a.heads + at.head;
          A s[R][R], p[R][R];
          Tile<T> q{a.q, memory, query, a.queries}, slope{g, memory + T::kPart, query, a.queries};
          Tile<T> k{a.k, memory + 2 * T::kPart, key, a.keys}, v{a.v, memory + 3 * T::kPart, key, a.keys};
          products<T, S, D>(at, q, k, 0, room, s);
          products<T, S, D>(at, slope, v, 0, room, p);
          weights_and_slopes(a, at, rows, query, key, s, p);
          TG_UNROLL
          for (int i = 0; i < R; ++i) TG_UNROLL
          for (int j = 0; j < R; ++j) sum[i][j] += p[i][j];
          __syncthreads();
        }
  A* const tile = reinterpret_cast<A*>(memory);
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j) tile[(at.ty + kSide * i) * B + at.tx + kSide * j] = sum[i][j];
  __syncthreads();
  const bool one_row = dmask.stride[2] == 0, one_column = dmask.stride[3] == 0;
  const int rows_of_it = one_row ? 1 : B, columns = one_column ? 1 : B;
  for (int n = int(threadIdx.x); n < rows_of_it * columns; n += kThreads) {
    const int row = n / columns, column = n % columns;
    A total = 0;
    for (int i = row; i < (one_row ? B : row + 1); ++i)
      for (int j = column; j < (one_column ? B : column + 1); ++j) total += tile[i * B + j];
    const int query = first[2] * B + row, key = first[3] * B + column;
    if (query >= (one_row ? 1 : a.queries) || key >= (one_column ? 1 : a.keys)) continue;
    const int64_t to =
        first[0] * dmask.stride[0] + first[1] * dmask.stride[1] + query * dmask.stride[2] + key * dmask.stride[3];
    store_any(dmask.data, dmask.dtype, to, total + load_any<A>(dmask.data, dmask.dtype, to));
  }
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

// Blocks for all tiles of all heads, one for each part of the features.
unsigned blocks_of(int tiles, int parts, int groups) { return unsigned(tiles) * unsigned(parts) * unsigned(groups); }

template <class S, int D>
bool attend(const Attention& a, int groups, const Operand& out, const Operand& g, Rows<Compute<S>> rows) {
  using A = Compute<S>;
  constexpr int bytes = shared_bytes<S, D>(2);
  if (!shared_memory_is_there(bytes)) return false;
  const int tiles = tiles_of(a.queries, kTile<A, D>);
  allow_shared(&attention_kernel<S, D>, bytes);
  TG_LAUNCH((attention_kernel<S, D>), blocks_of(tiles, parts_of<D>(a.v.features), groups), kThreads, bytes, stream(), a,
            tiles, out, g, rows);
  return true;
}

template <class S, int D>
bool attend_back(const Attention& a, int groups, const Operand& g, const Operand& dq, const Operand& dk,
                 const Operand& dv, const Mask& dmask) {
  using A = Compute<S>;
  constexpr int bytes = shared_bytes<S, D>(4);
  if (!shared_memory_is_there(bytes)) return false;
  const int64_t n = int64_t(groups) * a.queries;
  const int of_queries = parts_of<D>(a.q.features), of_values = parts_of<D>(a.v.features);
  const Scratch memory(size_t((2 + of_values) * n) * sizeof(A));
  A* const p = memory.as<A>();
  const Rows<A> rows{p, p + n, p + 2 * n, n, of_values};
  attend<S, D>(a, groups, {}, g, rows);
  allow_shared(&query_grad_kernel<S, D>, bytes);
  allow_shared(&key_grad_kernel<S, D>, bytes);
  const int by_query = tiles_of(a.queries, kTile<A, D>), by_key = tiles_of(a.keys, kTile<A, D>);
  TG_LAUNCH((query_grad_kernel<S, D>), blocks_of(by_query, of_queries, groups), kThreads, bytes, stream(), a, by_query,
            g, rows, dq);
  TG_LAUNCH((key_grad_kernel<S, D>), blocks_of(by_key, std::max(of_queries, of_values), groups), kThreads, bytes,
            stream(), a, by_key, g, rows, dk, dv);
  if (!dmask.data) return true;
  allow_shared(&mask_grad_kernel<S, D>, bytes);
  const int sizes[] = {groups / a.heads, a.heads, by_query, by_key};
  unsigned blocks = 1;
  for (int d = 0; d < 4; ++d) blocks *= dmask.stride[d] == 0 ? 1 : unsigned(sizes[d]);
  TG_LAUNCH((mask_grad_kernel<S, D>), blocks, kThreads, bytes, stream(), a, sizes[0], g, rows, dmask);
  return true;
}

constexpr int kMostFeatures = 128;  // of a tile

// Float types of one dtype, and few enough tiles for one launch.
bool usable(std::initializer_list<const View*> views) {
  const View& q = **views.begin();
  int64_t positions = 0, features = 0;
  for (const View* v : views) {
    if (v->ndim() != 4 || v->dtype != q.dtype || !is_float(v->dtype) || v->numel() == 0) return false;
    positions = std::max(positions, v->shape[2]), features = std::max(features, v->shape[3]);
  }
  if (positions >= 1 << 30 || features >= 1 << 30) return false;
  const int64_t tiles = q.shape[0] * q.shape[1] * (positions / kSide + 1);
  return tiles < (int64_t(1) << 31) / parts_of<kMostFeatures>(int(features));
}

// f(Tag<S>, D) for the storage type and the features of a tile.
template <class F>
bool visit_sizes(const View& q, const View& v, F f) {
  const bool small = std::max(q.shape[3], v.shape[3]) <= 64;
  auto sized = [&](auto tag) {
    return small ? f(tag, std::integral_constant<int, 64>()) : f(tag, std::integral_constant<int, kMostFeatures>());
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

Attention attention_of(const View& q, const View& k, const View& v, const AttentionOptions& o) {
  return {Operand(q),      Operand(k), Operand(v), int(q.shape[2]), int(k.shape[2]),
          int(q.shape[1]), o.causal,   o.scale,    Mask(o.mask),    Dropout(o)};
}

}  // namespace

bool attention_by_tiles(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) {
  const Attention a = attention_of(q, k, v, o);
  return visit_sizes(q, v, [&](auto tag, auto d) {
    using S = typename decltype(tag)::type;
    return attend<S, d()>(a, int(q.shape[0] * q.shape[1]), Operand(out), {}, {});
  });
}

bool CudaBackend::attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) {
  if (!usable({&q, &k, &v, &out})) return false;
  DeviceGuard guard(device_);
  return (o.plain() && attention_by_dnn(q, k, v, o.causal, o.scale, out)) || attention_by_tiles(q, k, v, o, out);
}

bool CudaBackend::attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                                 const View& dq, const View& dk, const View& dv, const View& dmask) {
  if (!usable({&q, &k, &v, &g, &dq, &dk, &dv})) return false;
  DeviceGuard guard(device_);
  const Attention a = attention_of(q, k, v, o);
  return visit_sizes(q, v, [&](auto tag, auto d) {
    using S = typename decltype(tag)::type;
    return attend_back<S, d()>(a, int(q.shape[0] * q.shape[1]), Operand(g), Operand(dq), Operand(dk), Operand(dv),
                               Mask(dmask));
  });
}

}  // namespace tg::cuda
