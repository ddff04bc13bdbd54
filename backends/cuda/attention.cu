// Attention in tiles of queries by tiles of keys: a running maximum and sum per query ("online softmax", Milakov and
// Gimelshein, arXiv:1805.02867), so that no more than a tile of the weights is ever in memory. Backward computes them
// anew from each query's maximum and sum (Dao et al., "FlashAttention", arXiv:2205.14135): one kernel goes along the
// keys for dq, one along the queries for dk and dv. Every result is summed by one thread in a fixed order.
#include <limits>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/element.cuh"

namespace tg::cuda {
namespace {

constexpr int kSide = 16, kThreads = kSide * kSide;  // a thread has every 16th row and column of a tile
constexpr unsigned kAllLanes = 0xffffffffu;

// Positions of a tile: what fits into shared memory for D features of type A.
template <class A, int D>
inline constexpr int kTile = (D <= 64 ? 64 : 32) * int(sizeof(float)) / int(sizeof(A));

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

// Positions [first, first + B) times factor; 0 beyond the last position and feature.
template <class S, class A, int D, int B>
__device__ void load_tile(A* tile, const Operand& t, int group, int heads, int first, int positions, A factor) {
  const S* head = head_of<const S>(t, group, heads);
  for (int i = int(threadIdx.x); i < B * D; i += kThreads) {
    const int row = i / D, d = i % D;
    const bool there = first + row < positions && d < t.features;
    const int64_t at = there ? (first + row) * t.stride[2] + d * t.stride[3] : 0;
    tile[row * (D + 1) + d] = there ? convert_to<A>(head[at]) * factor : A(0);
  }
}

// c[i][j] = row ty + 16 i of `left` times row tx + 16 j of `right`.
template <int D, class A, int R>
__device__ __forceinline__ void rows_by_rows(const Place& at, const A* left, const A* right, int features,
                                             A (&c)[R][R]) {
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j) c[i][j] = 0;
#pragma unroll 4
  for (int d = 0; d < features; ++d) {
    A l[R], r[R];
    TG_UNROLL
    for (int i = 0; i < R; ++i)
      l[i] = left[(at.ty + kSide * i) * (D + 1) + d], r[i] = right[(at.tx + kSide * i) * (D + 1) + d];
    TG_UNROLL
    for (int i = 0; i < R; ++i) TG_UNROLL
    for (int j = 0; j < R; ++j) c[i][j] += l[i] * r[j];
  }
}

// c[i][j] += row ty + 16 i of `weights` (of its transpose if `turned`) times column tx + 16 j of `tile`.
template <int D, bool turned, class A, int R, int C>
__device__ __forceinline__ void weigh(const Place& at, const A* weights, const A* tile, A (&c)[R][C]) {
  constexpr int B = R * kSide, row = turned ? 1 : B + 1, step = turned ? B + 1 : 1;
#pragma unroll 4
  for (int k = 0; k < B; ++k) {
    A w[R];
    TG_UNROLL
    for (int i = 0; i < R; ++i) w[i] = weights[(at.ty + kSide * i) * row + k * step];
    TG_UNROLL
    for (int j = 0; j < C; ++j) {
      const A x = tile[k * (D + 1) + at.tx + kSide * j];
      TG_UNROLL
      for (int i = 0; i < R; ++i) c[i][j] += w[i] * x;
    }
  }
}

template <class A, int R>
__device__ __forceinline__ void put_tile(const Place& at, const A (&c)[R][R], A* tile) {
  TG_UNROLL
  for (int i = 0; i < R; ++i) TG_UNROLL
  for (int j = 0; j < R; ++j) tile[(at.ty + kSide * i) * (R * kSide + 1) + at.tx + kSide * j] = c[i][j];
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

// One tile of queries against all keys they see. `rows.base` null: writes the output; else, with g the gradient of the
// output, what backward needs to know of each query.
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(Attention a, int tiles, Operand out, Operand g, Rows<Compute<S>> rows) {
  using A = Compute<S>;
  constexpr int B = kTile<A, D>, R = B / kSide, C = D / kSide;
  TG_DYNAMIC_SHARED(A, memory);
  A *q = memory, *kv = q + B * (D + 1), *weights = kv + B * (D + 1);
  Place at(tiles);
  at.tile = tiles - 1 - at.tile;  // the longest first
  const int query = at.tile * B, last = a.seen_by(min(query + B, a.queries) - 1);
  load_tile<S, A, D, B>(q, a.q, at.group, a.heads, query, a.queries, A(a.scale));
  Softmax<A, R, C> softmax;
  for (int key = 0; key < last; key += B) {
    A s[R][R];
    load_tile<S, A, D, B>(kv, a.k, at.group, a.heads, key, a.keys, A(1));
    __syncthreads();
    rows_by_rows<D>(at, q, kv, a.q.features, s);
    softmax.add(a, at, query, key, s);
    put_tile(at, s, weights);
    __syncthreads();
    load_tile<S, A, D, B>(kv, a.v, at.group, a.heads, key, a.keys, A(1));
    __syncthreads();
    weigh<D, false>(at, weights, kv, softmax.out);
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

// From scores s and the products p of the output's gradient with the values: the weights, and the scores' gradient.
// Both are 0 where a query does not look and beyond the last.
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
      s[i][j] = looks ? exp_of(s[i][j] - base) * inverse : A(0);
      p[i][j] = looks ? s[i][j] * (p[i][j] - mean) : A(0);
    }
  }
}

// dq = scale * (gradient of the scores) k
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    query_grad_kernel(Attention a, int tiles, Operand g, Rows<Compute<S>> rows, Operand dq) {
  using A = Compute<S>;
  constexpr int B = kTile<A, D>, R = B / kSide, C = D / kSide, kPart = B * (D + 1);
  TG_DYNAMIC_SHARED(A, memory);
  A *q = memory, *slope = q + kPart, *k = slope + kPart, *v = k + kPart, *weights = v + kPart;
  Place at(tiles);
  at.tile = tiles - 1 - at.tile;
  const int query = at.tile * B, last = a.seen_by(min(query + B, a.queries) - 1);
  load_tile<S, A, D, B>(q, a.q, at.group, a.heads, query, a.queries, A(a.scale));
  load_tile<S, A, D, B>(slope, g, at.group, a.heads, query, a.queries, A(1));
  A sum[R][C] = {};
  for (int key = 0; key < last; key += B) {
    A s[R][R], p[R][R];
    load_tile<S, A, D, B>(k, a.k, at.group, a.heads, key, a.keys, A(1));
    load_tile<S, A, D, B>(v, a.v, at.group, a.heads, key, a.keys, A(1));
    __syncthreads();
    rows_by_rows<D>(at, q, k, a.q.features, s);
    rows_by_rows<D>(at, slope, v, a.v.features, p);
    weights_and_slopes(a, at, rows, query, key, s, p);
    put_tile(at, p, weights);
    __syncthreads();
    weigh<D, false>(at, weights, k, sum);
    __syncthreads();
  }
  store_rows<S>(at, dq, a.heads, query, a.queries, sum, A(a.scale));
}

// dk = (gradient of the scores)^T (scale q), dv = weights^T g
template <class S, int D>
__global__ void __launch_bounds__(kThreads)
    key_grad_kernel(Attention a, int tiles, Operand g, Rows<Compute<S>> rows, Operand dk, Operand dv) {
  using A = Compute<S>;
  constexpr int B = kTile<A, D>, R = B / kSide, C = D / kSide, kPart = B * (D + 1);
  TG_DYNAMIC_SHARED(A, memory);
  A *q = memory, *slope = q + kPart, *k = slope + kPart, *v = k + kPart, *weights = v + kPart;
  const Place at(tiles);
  const int key = at.tile * B;
  load_tile<S, A, D, B>(k, a.k, at.group, a.heads, key, a.keys, A(1));
  load_tile<S, A, D, B>(v, a.v, at.group, a.heads, key, a.keys, A(1));
  A of_keys[R][C] = {}, of_values[R][C] = {};
  for (int query = a.causal ? key : 0; query < a.queries; query += B) {
    A s[R][R], p[R][R];
    load_tile<S, A, D, B>(q, a.q, at.group, a.heads, query, a.queries, A(a.scale));
    load_tile<S, A, D, B>(slope, g, at.group, a.heads, query, a.queries, A(1));
    __syncthreads();
    rows_by_rows<D>(at, q, k, a.q.features, s);
    rows_by_rows<D>(at, slope, v, a.v.features, p);
    weights_and_slopes(a, at, rows, query, key, s, p);
    put_tile(at, s, weights);
    __syncthreads();
    weigh<D, true>(at, weights, slope, of_values);
    __syncthreads();
    put_tile(at, p, weights);
    __syncthreads();
    weigh<D, true>(at, weights, q, of_keys);
    __syncthreads();
  }
  store_rows<S>(at, dk, a.heads, key, a.keys, of_keys, A(1));
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

template <class A, int D>
constexpr int shared_bytes(int tiles_of_features) {
  constexpr int B = kTile<A, D>;
  return (tiles_of_features * B * (D + 1) + B * (B + 1)) * int(sizeof(A));
}

int tiles_of(int positions, int tile) { return (positions + tile - 1) / tile; }

template <class S, int D>
bool attend(const Attention& a, int groups, const Operand& out, const Operand& g, Rows<Compute<S>> rows) {
  using A = Compute<S>;
  constexpr int bytes = shared_bytes<A, D>(2);
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
  constexpr int bytes = shared_bytes<A, D>(4);
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

bool CudaBackend::attention(const View& q, const View& k, const View& v, bool causal, double scale, const View& out) {
  if (!usable({&q, &k, &v, &out})) return false;
  DeviceGuard guard(device_);
  const Attention a = attention_of(q, k, v, causal, scale);
  return visit_sizes(q, v, [&](auto tag, auto d) {
    using S = typename decltype(tag)::type;
    return attend<S, d()>(a, int(q.shape[0] * q.shape[1]), Operand(out), {}, {});
  });
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
