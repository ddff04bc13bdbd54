// Stable sort: blocks of pairs (key, place) are sorted in shared memory by a bitonic network, which place makes stable;
// then runs are merged pairwise, each element finding its place in the merged run by binary search.
#include "backends/cuda/sort.cuh"

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/walk.cuh"

namespace tg::cuda {
namespace {

constexpr uint32_t kTile = 512, kTileThreads = kTile / 2;

struct Item {
  uint64_t key;
  uint32_t place;
};
__device__ __forceinline__ bool before(const Item& a, const Item& b) {
  return a.key < b.key || (a.key == b.key && a.place < b.place);
}

// Bits whose unsigned order is that of the values: numbers, then NaN; -0 is 0.
__device__ __forceinline__ uint64_t key_of(double x) {
  if (x != x) return ~uint64_t(0);
  const uint64_t u = std::bit_cast<uint64_t>(x == 0 ? 0.0 : x);
  return u >> 63 ? ~u : u | uint64_t(1) << 63;
}
__device__ __forceinline__ uint64_t key_of(int64_t x) { return uint64_t(x) ^ uint64_t(1) << 63; }

// Lines of `in` as rows of n pairs. Descending order is ascending order of inverted keys.
template <class T>
__global__ void __launch_bounds__(256)
    make_keys_kernel(const void* in, DType type, int64_t stride, Walk<3> lines, FastDiv by_n, bool descending,
                     uint64_t* keys, uint32_t* places) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t line = by_n.divide(i), j = i - line * by_n.d;
  if (line >= lines.n) return;
  int64_t off[3] = {};
  lines.offsets(line, off);
  const uint64_t key = key_of(load_any<T>(in, type, off[0] + j * stride));
  keys[i] = descending ? ~key : key;
  places[i] = j;
}

__global__ void __launch_bounds__(kTileThreads) sort_tiles_kernel(uint64_t* keys, uint32_t* places, uint32_t n) {
  TG_SHARED(Item, tile, [kTile]);
  const uint32_t tiles = (n + kTile - 1) / kTile;
  const size_t row = size_t(blockIdx.x / tiles) * n;
  const uint32_t start = blockIdx.x % tiles * kTile, count = min(kTile, n - start);
  for (uint32_t i = threadIdx.x; i < kTile; i += kTileThreads)
    tile[i] = i < count ? Item{keys[row + start + i], places[row + start + i]} : Item{~uint64_t(0), ~uint32_t(0)};
  for (uint32_t size = 2; size <= kTile; size *= 2)
    for (uint32_t gap = size / 2; gap > 0; gap /= 2) {
      __syncthreads();
      const uint32_t a = 2 * threadIdx.x - (threadIdx.x & (gap - 1)), b = a + gap;
      const bool up = (a & size) == 0;
      if (before(tile[b], tile[a]) == up) {
        const Item x = tile[a];
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

// Runs of `width` become runs of twice that. An element comes after those before it in its own run and those of the
// other run that are less (or equal, if that run is the left one).
__global__ void __launch_bounds__(256)
    merge_runs_kernel(const uint64_t* keys, const uint32_t* places, uint64_t* to_keys, uint32_t* to_places,
                      FastDiv by_n, uint32_t total, uint32_t width) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= total) return;
  const uint32_t n = by_n.d, line = by_n.divide(i), j = i - line * n;
  const size_t row = size_t(line) * n;
  const uint32_t pair = j / (2 * width) * (2 * width);
  const uint32_t middle = min(n, pair + width), end = min(n, pair + 2 * width);
  const bool left = j < middle;
  const uint64_t key = keys[row + j];
  uint32_t lo = left ? middle : pair, hi = left ? end : middle;
  const uint32_t other = lo;
  while (lo < hi) {
    const uint32_t mid = (lo + hi) / 2;
    const uint64_t k = keys[row + mid];
    if (k < key || (k == key && !left))
      lo = mid + 1;
    else
      hi = mid;
  }
  const uint32_t to = pair + (j - (left ? pair : middle)) + (lo - other);
  to_keys[row + to] = key;
  to_places[row + to] = places[row + j];
}

struct SortOut {
  const void* in;
  void *values, *index;
  DType type, index_type;
  int64_t in_stride, values_stride, index_stride;
};
__global__ void __launch_bounds__(256)
    write_sorted_kernel(SortOut o, const uint32_t* places, Walk<3> lines, FastDiv by_n) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t line = by_n.divide(i), j = i - line * by_n.d;
  if (line >= lines.n) return;
  int64_t off[3] = {};
  lines.offsets(line, off);
  const uint32_t from = places[i];
  store_any<int64_t>(o.index, o.index_type, off[2] + j * o.index_stride, int64_t(from));
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

}  // namespace

void sort_keys(uint64_t* keys, uint32_t* places, uint32_t lines, uint32_t n) {
  const uint32_t total = lines * n;
  TG_LAUNCH((sort_tiles_kernel), lines * blocks_for(n, kTile), kTileThreads, 0, stream(), keys, places, n);
  if (n <= kTile) return;
  Scratch other_keys(total * sizeof(uint64_t)), other_places(total * sizeof(uint32_t));
  uint64_t *from = keys, *to = other_keys.as<uint64_t>();
  uint32_t *from_places = places, *to_places = other_places.as<uint32_t>();
  for (uint32_t width = kTile; width < n; width *= 2) {
    TG_LAUNCH((merge_runs_kernel), blocks_for(total, 256), 256, 0, stream(), from, from_places, to, to_places,
              FastDiv(n), total, width);
    std::swap(from, to);
    std::swap(from_places, to_places);
  }
  if (from == keys) return;
  check(cudaMemcpyAsync(keys, from, total * sizeof(uint64_t), cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
  check(cudaMemcpyAsync(places, from_places, total * sizeof(uint32_t), cudaMemcpyDeviceToDevice, stream()),
        "cudaMemcpyAsync");
}

void CudaBackend::sort(const View& in, int axis, bool descending, const View& values, const View& index) {
  if (in.numel() == 0) return;
  TG_CHECK(in.shape[axis] <= kMaxPiece, ValueError, "cuda: sort along at most ", kMaxPiece, " elements");
  DeviceGuard guard(device_);
  const uint32_t n = uint32_t(in.shape[axis]);
  Views ins, outs;
  for (const View* v : {&in, values.data ? &values : &index, &index}) {
    View line = *v;
    line.shape.erase(axis);
    line.stride.erase(axis);
    (v == &in ? ins : outs).push_back(line);
  }
  const plan::Nest lines = plan::collapse(ins, outs, 0);
  // Scratch for all lines at once could be larger than the device: groups of them.
  const int64_t at_once = std::max<int64_t>(1, (int64_t(1) << 27) / n);
  auto run = [&](const plan::Nest& piece, const int64_t* start) {
    const uint32_t m = uint32_t(piece.numel()), total = m * n;
    Scratch keys(total * sizeof(uint64_t)), places(total * sizeof(uint32_t));
    const Walk<3> w(piece);
    auto at = [&](const View& v, int k) -> void* {
      return v.data ? static_cast<char*>(v.data) + start[k] * itemsize(v.dtype) : nullptr;
    };
    auto make = [&](auto tag) {
      using T = typename decltype(tag)::type;
      TG_LAUNCH((make_keys_kernel<T>), blocks_for(total, 256), 256, 0, stream(), static_cast<const void*>(at(in, 0)),
                in.dtype, in.stride[axis], w, FastDiv(n), descending, keys.as<uint64_t>(), places.as<uint32_t>());
    };
    if (is_float(in.dtype))
      make(Tag<double>{});
    else
      make(Tag<int64_t>{});
    sort_keys(keys.as<uint64_t>(), places.as<uint32_t>(), m, n);
    SortOut o{at(in, 0),
              at(values, 1),
              at(index, 2),
              in.dtype,
              index.dtype,
              in.stride[axis],
              values.data ? values.stride[axis] : 0,
              index.stride[axis]};
    TG_LAUNCH((write_sorted_kernel), blocks_for(total, 256), 256, 0, stream(), o, places.as<const uint32_t>(), w,
              FastDiv(n));
  };
  for_pieces(lines, run, at_once);
}

}  // namespace tg::cuda
