// Stable sort: blocks of pairs (key, place) are sorted in shared memory by a bitonic network, which place makes stable;
// then runs are merged pairwise, each element finding its place in the merged run by binary search. Places (P) have 32
// bits; in lines that are longer than a launch otherwise counts they have 64, and such a line is sorted alone.
#include "backends/cuda/sort.cuh"

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/walk.cuh"

namespace tg::cuda {
namespace {

constexpr uint32_t kTile = 512, kTileThreads = kTile / 2;

template <class P>
struct Item {
  uint64_t key;
  P place;
};
template <class P>
__device__ __forceinline__ bool before(const Item<P>& a, const Item<P>& b) {
  return a.key < b.key || (a.key == b.key && a.place < b.place);
}

// Lines of n elements each.
template <class P>
struct Lines {
  P n, total;
  FastDiv by_n;
  Lines(uint32_t lines, P of) : n(of), total(P(lines * of)), by_n(sizeof(P) == 4 ? uint32_t(of) : 1) {}
  __device__ __forceinline__ uint32_t line_of(P i) const {
    if constexpr (sizeof(P) == 4) return by_n.divide(i);
    return 0;
  }
};
template <class P>
__device__ __forceinline__ P thread_number() {
  return P(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Bits whose unsigned order is that of the values: numbers, then NaN; -0 is 0.
__device__ __forceinline__ uint64_t key_of(double x) {
  if (x != x) return ~uint64_t(0);
  const uint64_t u = std::bit_cast<uint64_t>(x == 0 ? 0.0 : x);
  return u >> 63 ? ~u : u | uint64_t(1) << 63;
}
__device__ __forceinline__ uint64_t key_of(int64_t x) { return uint64_t(x) ^ uint64_t(1) << 63; }

// Lines of `in` as rows of n pairs. Descending order is ascending order of inverted keys.
template <class T, class P>
__global__ void __launch_bounds__(256) make_keys_kernel(const void* in, DType type, int64_t stride, Walk<3> walk,
                                                        Lines<P> lines, bool descending, uint64_t* keys, P* places) {
  const P i = thread_number<P>();
  if (i >= lines.total) return;
  const uint32_t line = lines.line_of(i);
  const P j = i - line * lines.n;
  int64_t off[3] = {};
  walk.offsets(line, off);
  const uint64_t key = key_of(load_any<T>(in, type, off[0] + int64_t(j) * stride));
  keys[i] = descending ? ~key : key;
  places[i] = j;
}

template <class P>
__global__ void __launch_bounds__(kTileThreads) sort_tiles_kernel(uint64_t* keys, P* places, P n) {
  TG_SHARED(Item<P>, tile, [kTile]);
  const uint32_t tiles = uint32_t((n + kTile - 1) / kTile);
  const size_t row = size_t(blockIdx.x / tiles) * n;
  const P start = P(blockIdx.x % tiles) * kTile;
  const uint32_t count = n - start < kTile ? uint32_t(n - start) : kTile;
  for (uint32_t i = threadIdx.x; i < kTile; i += kTileThreads)
    tile[i] = i < count ? Item<P>{keys[row + start + i], places[row + start + i]} : Item<P>{~uint64_t(0), P(~P(0))};
  for (uint32_t size = 2; size <= kTile; size *= 2)
    for (uint32_t gap = size / 2; gap > 0; gap /= 2) {
      __syncthreads();
      const uint32_t a = 2 * threadIdx.x - (threadIdx.x & (gap - 1)), b = a + gap;
      const bool up = (a & size) == 0;
      if (before(tile[b], tile[a]) == up) {
        const Item<P> x = tile[a];
        tile[a] = tile[b];
        tile[b] = x;
      }
    }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += kTileThreads) {
    keys[row + start + i] = tile[i].key;
    places[row + start + i] = tile[i].place;
  }
}

// Runs of `width`, a power of two, become runs of twice that. An element comes after those before it in its own run and
// those of the other run that are less (or equal, if that run is the left one).
template <class P>
__global__ void __launch_bounds__(256)
    merge_runs_kernel(const uint64_t* keys, const P* places, uint64_t* to_keys, P* to_places, Lines<P> lines, P width) {
  const P i = thread_number<P>();
  if (i >= lines.total) return;
  const P n = lines.n, line = lines.line_of(i), j = i - line * n;
  const size_t row = size_t(line) * n;
  const P pair = j & ~(2 * width - 1);
  const P middle = min(n, pair + width), end = min(n, pair + 2 * width);
  const bool left = j < middle;
  const uint64_t key = keys[row + j];
  P lo = left ? middle : pair, hi = left ? end : middle;
  const P other = lo;
  while (lo < hi) {
    const P mid = (lo + hi) / 2;
    const uint64_t k = keys[row + mid];
    if (k < key || (k == key && !left))
      lo = mid + 1;
    else
      hi = mid;
  }
  const P to = pair + (j - (left ? pair : middle)) + (lo - other);
  to_keys[row + to] = key;
  to_places[row + to] = places[row + j];
}

struct SortOut {
  const void* in;
  void *values, *index;
  DType type, index_type;
  int64_t in_stride, values_stride, index_stride;
};
template <class P>
__global__ void __launch_bounds__(256) write_sorted_kernel(SortOut o, const P* places, Walk<3> walk, Lines<P> lines) {
  const P i = thread_number<P>();
  if (i >= lines.total) return;
  const uint32_t line = lines.line_of(i);
  int64_t off[3] = {};
  walk.offsets(line, off);
  const int64_t from = int64_t(places[i]), j = int64_t(i - line * lines.n);
  store_any<int64_t>(o.index, o.index_type, off[2] + j * o.index_stride, from);
  if (!o.values) return;
  const int64_t a = off[0] + from * o.in_stride, b = off[1] + j * o.values_stride;
  switch (itemsize(o.type)) {
    case 1:
      static_cast<uint8_t*>(o.values)[b] = static_cast<const uint8_t*>(o.in)[a];
      break;
    case 2:
      static_cast<uint16_t*>(o.values)[b] = static_cast<const uint16_t*>(o.in)[a];
      break;
    case 4:
      static_cast<uint32_t*>(o.values)[b] = static_cast<const uint32_t*>(o.in)[a];
      break;
    default:
      static_cast<uint64_t*>(o.values)[b] = static_cast<const uint64_t*>(o.in)[a];
  }
}

// Sorts each of the rows of n pairs by key; equal keys keep their order, given that places come in ascending order.
template <class P>
void sort_rows(uint64_t* keys, P* places, uint32_t rows, P n) {
  const Lines<P> lines(rows, n);
  TG_LAUNCH((sort_tiles_kernel<P>), rows * blocks_for(n, kTile), kTileThreads, 0, stream(), keys, places, n);
  if (n <= kTile) return;
  const size_t total = lines.total;
  Scratch other_keys(total * sizeof(uint64_t)), other_places(total * sizeof(P));
  uint64_t *from = keys, *to = other_keys.as<uint64_t>();
  P *from_places = places, *to_places = other_places.as<P>();
  for (P width = kTile; width < n; width *= 2) {
    TG_LAUNCH((merge_runs_kernel<P>), blocks_for(total, 256), 256, 0, stream(), from, from_places, to, to_places, lines,
              width);
    std::swap(from, to);
    std::swap(from_places, to_places);
  }
  if (from == keys) return;
  check(cudaMemcpyAsync(keys, from, total * sizeof(uint64_t), cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
  check(cudaMemcpyAsync(places, from_places, total * sizeof(P), cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
}

struct SortCall {
  const View &in, &values, &index;
  int axis;
  bool descending;
};

// Sorts the lines of a piece; start[k]: where it begins in input, values and index.
template <class P>
void sort_piece(const SortCall& c, const plan::Nest& piece, const int64_t* start) {
  const Walk<3> walk(piece);
  const Lines<P> lines(walk.n, P(c.in.shape[c.axis]));
  const unsigned blocks = blocks_for(lines.total, 256);
  Scratch keys(size_t(lines.total) * sizeof(uint64_t)), places(size_t(lines.total) * sizeof(P));
  auto at = [&](const View& v, int k) -> void* {
    return v.data ? static_cast<char*>(v.data) + start[k] * itemsize(v.dtype) : nullptr;
  };
  auto make = [&](auto tag) {
    using T = typename decltype(tag)::type;
    TG_LAUNCH((make_keys_kernel<T, P>), blocks, 256, 0, stream(), static_cast<const void*>(at(c.in, 0)), c.in.dtype,
              c.in.stride[c.axis], walk, lines, c.descending, keys.as<uint64_t>(), places.as<P>());
  };
  if (is_float(c.in.dtype))
    make(Tag<double>{});
  else
    make(Tag<int64_t>{});
  sort_rows<P>(keys.as<uint64_t>(), places.as<P>(), walk.n, lines.n);
  SortOut o{at(c.in, 0),
            at(c.values, 1),
            at(c.index, 2),
            c.in.dtype,
            c.index.dtype,
            c.in.stride[c.axis],
            c.values.data ? c.values.stride[c.axis] : 0,
            c.index.stride[c.axis]};
  TG_LAUNCH((write_sorted_kernel<P>), blocks, 256, 0, stream(), o, places.as<const P>(), walk, lines);
}

}  // namespace

void sort_keys(uint64_t* keys, uint32_t* places, uint32_t n) { sort_rows<uint32_t>(keys, places, 1, n); }

void CudaBackend::sort(const View& in, int axis, bool descending, const View& values, const View& index) {
  if (in.numel() == 0) return;
  DeviceGuard guard(device_);
  const int64_t n = in.shape[axis];
  Views ins, outs;
  for (const View* v : {&in, values.data ? &values : &index, &index}) {
    View line = *v;
    line.shape.erase(axis);
    line.stride.erase(axis);
    (v == &in ? ins : outs).push_back(line);
  }
  const plan::Nest lines = plan::collapse(ins, outs, 0);
  const SortCall call{in, values, index, axis, descending};
  if (n > max_piece())
    return for_pieces(
        lines, [&](const plan::Nest& p, const int64_t* start) { sort_piece<uint64_t>(call, p, start); }, 1);
  // Scratch for all lines at once could be larger than the device: groups of them.
  const int64_t at_once = std::max<int64_t>(1, std::min(max_piece(), int64_t(1) << 27) / n);
  for_pieces(lines, [&](const plan::Nest& p, const int64_t* start) { sort_piece<uint32_t>(call, p, start); }, at_once);
}

}  // namespace tg::cuda
