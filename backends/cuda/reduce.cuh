// Reductions on the device: one kernel for every reducer and source of elements. A block serves one or several results;
// its threads take elements in turn and join what they have in a tree. Long reductions are cut into chunks, whose parts
// a second kernel joins in order. All of it follows from the sizes alone, so the bits are always the same.
#pragma once
#include "backends/cuda/device.h"
#include "backends/cuda/walk.cuh"
#include "backends/scalar_math.h"

namespace tg::cuda {

inline constexpr uint32_t kReduceThreads = 256;

struct ReduceShape {
  uint32_t results, elements;  // elements of each result
  uint32_t chunk, chunks;      // a block takes one chunk of its results
  uint32_t lanes;              // threads per result, a power of two
  bool columns;                // neighbouring threads serve neighbouring results rather than elements
  uint32_t first_chunk;        // where the parts of this launch start
};

// The place of a thread: result `which` of its block, and which of the threads that share it.
struct Place {
  uint32_t per_block, which, lane, step;
  __device__ Place(uint32_t lanes, bool columns) {
    per_block = kReduceThreads / lanes;
    which = columns ? threadIdx.x % per_block : threadIdx.x / lanes;
    lane = columns ? threadIdx.x / per_block : threadIdx.x % lanes;
    step = columns ? per_block : 1;
  }
};

// Joins the accumulators of the lanes of each result; the sum ends in lane 0's.
template <class R, int N>
__device__ __forceinline__ void join_lanes(const R& r, typename R::Acc (&tile)[N], uint32_t lanes, const Place& at) {
  for (uint32_t half = lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (at.lane < half) tile[threadIdx.x] = r.join(tile[threadIdx.x], tile[threadIdx.x + half * at.step]);
  }
}

// A reducer R has Acc, neutral(), add(acc, x, i), join(a, b) and finish(acc, result). A loader has start(result) and
// either load(i), or width > 1 and whole() with vectors of that many.
template <class R, class L>
__global__ void __launch_bounds__(kReduceThreads) reduce_kernel(R r, L load, ReduceShape s, typename R::Acc* parts) {
  TG_SHARED(typename R::Acc, tile, [kReduceThreads]);
  const Place at(s.lanes, s.columns);
  const uint32_t result = blockIdx.x * at.per_block + at.which;
  typename R::Acc acc = r.neutral();
  if (result < s.results) {
    load.start(result);
    const uint32_t from = blockIdx.y * s.chunk, to = min(s.elements, from + s.chunk);
    bool whole = false;
    if constexpr (L::width > 1) whole = load.whole();
    if (whole) {
      if constexpr (L::width > 1) {
        constexpr uint32_t W = L::width;
        for (uint32_t i = from + at.lane * W; i < to; i += s.lanes * W) {
          typename L::Element x[W];
          if (i + W <= to) {
            load.vector(i, x);
            r.add_vector(acc, x, i);
          } else {
            for (; i < to; ++i) r.add(acc, load.load(i), i);
          }
        }
      }
    } else {
#ifdef __CUDACC__
#pragma unroll 4
#endif
      for (uint32_t i = from + at.lane; i < to; i += s.lanes) r.add(acc, load.load(i), i);
    }
  }
  tile[threadIdx.x] = acc;
  join_lanes(r, tile, s.lanes, at);
  if (at.lane == 0 && result < s.results) {
    if (parts)
      parts[size_t(s.first_chunk + blockIdx.y) * s.results + result] = tile[threadIdx.x];
    else
      r.finish(tile[threadIdx.x], result);
  }
}

// parts: (chunks, results).
template <class R>
__global__ void __launch_bounds__(kReduceThreads)
    join_kernel(R r, const typename R::Acc* parts, uint32_t results, uint32_t chunks, uint32_t lanes) {
  TG_SHARED(typename R::Acc, tile, [kReduceThreads]);
  const Place at(lanes, true);
  const uint32_t result = blockIdx.x * at.per_block + at.which;
  typename R::Acc acc = r.neutral();
  if (result < results) {
    // Each lane takes a run of neighbours, so that the order of parts is kept.
    const uint32_t run = (chunks + lanes - 1) / lanes, from = at.lane * run, to = min(chunks, from + run);
    for (uint32_t c = from; c < to; ++c) acc = r.join(acc, parts[size_t(c) * results + result]);
  }
  tile[threadIdx.x] = acc;
  join_lanes(r, tile, lanes, at);
  if (at.lane == 0 && result < results) r.finish(tile[threadIdx.x], result);
}

inline uint32_t power_of_two(uint32_t at_least, uint32_t at_most) { return std::min(at_most, std::bit_ceil(at_least)); }

// How to cut `results` reductions of `elements` each.
inline ReduceShape reduce_shape(uint32_t results, uint32_t elements, bool columns, uint32_t width) {
  ReduceShape s{results, elements, 0, 1, 1, columns, 0};
  const uint32_t units = std::max<uint32_t>(1, elements / std::max<uint32_t>(width, 1));
  if (columns)
    s.lanes = power_of_two(units, kReduceThreads / power_of_two(results, 32));
  else
    s.lanes = power_of_two(units, kReduceThreads);
  const uint32_t blocks = blocks_for(results, kReduceThreads / s.lanes);
  constexpr uint32_t kWanted = 1024;    // blocks that keep a large GPU busy
  const uint32_t least = s.lanes * 16;  // elements that are worth a block
  uint32_t chunks = std::min(kWanted / std::min(blocks, kWanted), elements / least);
  chunks = std::max<uint32_t>(chunks, 1);
  s.chunk = (elements + chunks - 1) / chunks;
  s.chunk = std::max<uint32_t>(1, (s.chunk + 63) / 64) * 64;  // whole vectors; one also where there is nothing
  s.chunks = std::max<uint32_t>(1, (elements + s.chunk - 1) / s.chunk);
  return s;
}

// Runs reducer and loader over pieces of `elements`: load_piece(p) gives the loader of piece p, `sizes` their elements.
template <class R, class F>
void run_reduction(const R& r, uint32_t results, const std::vector<uint32_t>& sizes, bool columns, uint32_t width,
                   F load_piece) {
  std::vector<ReduceShape> shapes;
  uint32_t chunks = 0;
  for (uint32_t n : sizes) {
    ReduceShape s = reduce_shape(results, n, columns, width);
    s.first_chunk = chunks;
    chunks += s.chunks;
    shapes.push_back(s);
  }
  using Acc = typename R::Acc;
  Scratch parts(chunks > 1 ? size_t(chunks) * results * sizeof(Acc) : 0);
  for (size_t p = 0; p < shapes.size(); ++p) {
    const ReduceShape& s = shapes[p];
    auto load = load_piece(p);
    using L = decltype(load);
    dim3 grid(blocks_for(results, kReduceThreads / s.lanes), s.chunks);
    TG_LAUNCH((reduce_kernel<R, L>), grid, kReduceThreads, 0, stream(), r, load, s, parts.as<Acc>());
  }
  if (chunks <= 1) return;
  uint32_t lanes = power_of_two(chunks, kReduceThreads / power_of_two(results, 32));
  TG_LAUNCH((join_kernel<R>), blocks_for(results, kReduceThreads / lanes), kReduceThreads, 0, stream(), r,
            parts.as<Acc>(), results, chunks, lanes);
}

// ---- where elements come from

// A row of core/pointwise.def that is worth having inside of the reduction's kernel.
enum class Before : uint8_t { Nothing, Square, Abs };
template <class T>
__device__ __forceinline__ T apply_before(Before b, T x) {
  return b == Before::Square ? sm::mul(x, x) : b == Before::Abs ? sm::abs(x) : x;
}

// Elements of storage type S.
template <class S>
struct TypedLoader {
  using Element = Compute<S>;
  static constexpr int width = kVector<S>;
  const S* data;
  Walk<1> kept, reduced;
  bool is_whole;  // elements of a result are neighbours, and vectors of them lie at multiples of their size
  Before before;
  const S* row = nullptr;

  __device__ __forceinline__ void start(uint32_t result) {
    int64_t off[1] = {0};
    kept.offsets(result, off);
    row = data + off[0];
  }
  __device__ __forceinline__ bool whole() const { return is_whole; }
  __device__ __forceinline__ Element load(uint32_t i) const {
    int64_t off[1] = {0};
    reduced.offsets(i, off);
    return apply_before(before, convert_to<Element>(row[off[0]]));
  }
  __device__ __forceinline__ void vector(uint32_t i, Element (&x)[width]) const {
    Vector<S> v = *reinterpret_cast<const Vector<S>*>(row + i);
    TG_UNROLL
    for (int j = 0; j < width; ++j) x[j] = apply_before(before, convert_to<Element>(v.v[j]));
  }
};

// Elements of any type.
template <class T>
struct AnyLoader {
  using Element = T;
  static constexpr int width = 1;
  const void* data;
  DType dtype;
  Walk<1> kept, reduced;
  Before before;
  int64_t row = 0;

  __device__ __forceinline__ void start(uint32_t result) {
    int64_t off[1] = {0};
    kept.offsets(result, off);
    row = off[0];
  }
  __device__ __forceinline__ T load(uint32_t i) const {
    int64_t off[1] = {row};
    reduced.offsets(i, off);
    return apply_before(before, load_any<T>(data, dtype, off[0]));
  }
};

// Where results go: any type and strides.
struct ResultView {
  void* data = nullptr;
  DType dtype = DType::F32;
  Walk<1> kept;
  template <class A>
  __device__ __forceinline__ void store(uint32_t result, A x) const {
    int64_t off[1] = {0};
    kept.offsets(result, off);
    store_any<A>(data, dtype, off[0], x);
  }
};

// One view's part of a nest.
inline plan::Nest only_view(const plan::Nest& n, int k) {
  plan::Nest r;
  r.n_views = 1;
  r.shape = n.shape;
  r.stride[0] = n.stride[k];
  return r;
}

}  // namespace tg::cuda
