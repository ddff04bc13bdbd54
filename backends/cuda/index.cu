// Gather, scatter and fold. Several sources of one target are added in the order that the CPU has: a thread owns a
// target, or all targets along a line, and takes its sources one after another.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/late_error.h"
#include "backends/cuda/sort.cuh"
#include "backends/cuda/walk.cuh"
#include "backends/scalar_math.h"

namespace tg::cuda {
namespace {

// Views in (without the axis), index, out. S is an unsigned type of the elements' size: bits are moved.
template <class S>
__global__ void __launch_bounds__(256)
    gather_kernel(const S* in, int64_t in_stride, const void* index, DType index_type, S* out, Walk<3> w) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= w.n) return;
  int64_t off[3] = {};
  w.offsets(i, off);
  out[off[2]] = in[off[0] + load_any<int64_t>(index, index_type, off[1]) * in_stride];
}

template <class F>
void visit_size(int64_t bytes, F&& f) {
  switch (bytes) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    case 4:
      return f(Tag<uint32_t>{});
    default:
      return f(Tag<uint64_t>{});
  }
}

template <class T>
__device__ __forceinline__ T merged(ScatterOp op, T old, T x) {
  switch (op) {
    case ScatterOp::Add:
      return old + x;
    case ScatterOp::Prod:
      return sm::mul(old, x);
    case ScatterOp::Max:
      return sm::max_nan(old, x);
    case ScatterOp::Min:
      return sm::min_nan(old, x);
    default:
      return x;
  }
}

struct ScatterViews {
  ScatterOp op;
  const void *src, *index;
  void* out;
  DType type[3];  // of src, index, out
  int64_t src_stride, index_stride, out_stride;
  uint32_t n;     // sources along the axis
  Walk<3> lines;  // src, index, out
};

template <class T>
__device__ __forceinline__ void merge_one(const ScatterViews& v, const int64_t (&off)[3], uint32_t j) {
  const int64_t to = off[2] + load_any<int64_t>(v.index, v.type[1], off[1] + j * v.index_stride) * v.out_stride;
  const T x = load_any<T>(v.src, v.type[0], off[0] + j * v.src_stride);
  store_any<T>(v.out, v.type[2], to, merged(v.op, load_any<T>(v.out, v.type[2], to), x));
}

// A thread per line.
template <class T>
__global__ void __launch_bounds__(128) scatter_lines_kernel(ScatterViews v) {
  const uint32_t line = blockIdx.x * blockDim.x + threadIdx.x;
  if (line >= v.lines.n) return;
  int64_t off[3] = {};
  v.lines.offsets(line, off);
  for (uint32_t j = 0; j < v.n; ++j) merge_one<T>(v, off, j);
}

// order: sources sorted by target, those of one target in their own order; keys: their targets. A thread per source
// that is the first of its target and per line.
template <class T>
__global__ void __launch_bounds__(128)
    scatter_sorted_kernel(ScatterViews v, const uint64_t* keys, const uint32_t* order, FastDiv by_lines) {
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const uint32_t k = by_lines.divide(uint32_t(i)), line = uint32_t(i) - k * by_lines.d;
  if (k >= v.n || (k > 0 && keys[k] == keys[k - 1])) return;
  int64_t off[3] = {};
  v.lines.offsets(line, off);
  for (uint32_t j = k; j < v.n && keys[j] == keys[k]; ++j) merge_one<T>(v, off, order[j]);
}

__global__ void __launch_bounds__(256)
    index_keys_kernel(const void* index, DType type, int64_t stride, uint32_t n, uint64_t* keys, uint32_t* order) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  keys[i] = uint64_t(load_any<int64_t>(index, type, i * stride));
  order[i] = i;
}

View without(View v, int axis) {
  v.shape.erase(axis);
  v.stride.erase(axis);
  return v;
}

// out += in, element by element; nothing overlaps.
template <class T>
__global__ void __launch_bounds__(256) add_kernel(const void* in, DType in_type, void* out, DType out_type, Walk<2> w) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= w.n) return;
  int64_t off[2] = {};
  w.offsets(i, off);
  const T sum = load_any<T>(out, out_type, off[1]) + load_any<T>(in, in_type, off[0]);
  store_any<T>(out, out_type, off[1], sum);
}

void add_apart(const View& in, const View& out) {
  Views ins, outs;
  ins.push_back(in);
  outs.push_back(out);
  for_pieces(plan::collapse(ins, outs, 1), [&](const plan::Nest& piece, const int64_t* start) {
    const void* from = static_cast<const char*>(in.data) + start[0] * itemsize(in.dtype);
    void* to = static_cast<char*>(out.data) + start[1] * itemsize(out.dtype);
    Walk<2> w(piece);
    visit_compute(compute_type(out.dtype), [&](auto tag) {
      using T = typename decltype(tag)::type;
      TG_LAUNCH((add_kernel<T>), blocks_for(w.n, 256), 256, 0, stream(), from, in.dtype, to, out.dtype, w);
    });
  });
}

// True if no two elements of the view share memory, judged by sorted strides: each steps over all that is inside it.
bool apart(const View& v) {
  std::vector<std::pair<int64_t, int64_t>> axes;  // stride, size
  for (int d = 0; d < v.ndim(); ++d)
    if (v.shape[d] > 1) axes.emplace_back(std::abs(v.stride[d]), v.shape[d]);
  std::sort(axes.begin(), axes.end());
  int64_t reach = 0;
  for (auto [stride, size] : axes) {
    if (stride <= reach) return false;
    reach += stride * (size - 1);
  }
  return true;
}

// Adds one slice after another along axes of windows until what is left has elements apart. The order of the sums is
// that of `in`: of windows that lie before the slices, the later ones come first to a place.
void fold_slices(const View& in, const View& out) {
  if (in.numel() == 0) return;
  if (apart(out)) return add_apart(in, out);
  int axis = -1;  // the shortest axis without which fewer elements overlap
  for (int d = 0; d < out.ndim(); ++d)
    if (out.shape[d] > 1 && (axis < 0 || out.shape[d] < out.shape[axis])) axis = d;
  for (int d = 0; d < out.ndim(); ++d)
    if (out.shape[d] > 1 && apart(without(out, d)) && (!apart(without(out, axis)) || out.shape[d] < out.shape[axis]))
      axis = d;
  bool last_first = false;
  for (int d = 0; d < axis; ++d) {
    View two;
    two.shape = {out.shape[d], out.shape[axis]};
    two.stride = {out.stride[d], out.stride[axis]};
    last_first = last_first || !apart(two);
  }
  const int64_t n = out.shape[axis];
  for (int64_t k = 0; k < n; ++k) {
    const int64_t i = last_first ? n - 1 - k : k;
    View from = without(in, axis), to = without(out, axis);
    from.data = static_cast<char*>(in.data) + i * in.stride[axis] * itemsize(in.dtype);
    to.data = static_cast<char*>(out.data) + i * out.stride[axis] * itemsize(out.dtype);
    fold_slices(from, to);
  }
}

// Sources that one launch counts.
void scatter_part(ScatterOp op, const View& src, int axis, const View& index, const View& out) {
  const View lines_of_index = without(index, axis);
  Views ins, outs;
  ins.push_back(without(src, axis));
  ins.push_back(lines_of_index);
  View target = without(out, axis);
  target.shape = ins[0].shape;  // out may be longer in the other axes
  outs.push_back(target);
  // One index for all lines, as of rows that are added to rows: its order serves every line.
  bool same_index = true;
  for (int d = 0; d < lines_of_index.ndim(); ++d)
    same_index = same_index && (lines_of_index.shape[d] == 1 || lines_of_index.stride[d] == 0);
  const uint32_t n = uint32_t(src.shape[axis]);
  for_pieces(plan::collapse(ins, outs, 2), [&](const plan::Nest& piece, const int64_t* start) {
    ScatterViews v{op,
                   static_cast<const char*>(src.data) + start[0] * itemsize(src.dtype),
                   static_cast<const char*>(index.data) + start[1] * itemsize(index.dtype),
                   static_cast<char*>(out.data) + start[2] * itemsize(out.dtype),
                   {src.dtype, index.dtype, out.dtype},
                   src.stride[axis],
                   index.stride[axis],
                   out.stride[axis],
                   n,
                   Walk<3>(piece)};
    const bool sorted = same_index && n >= 64 && int64_t(n) * v.lines.n <= max_piece();
    Scratch keys(sorted ? n * sizeof(uint64_t) : 0), order(sorted ? n * sizeof(uint32_t) : 0);
    if (sorted) {
      TG_LAUNCH((index_keys_kernel), blocks_for(n, 256), 256, 0, stream(), v.index, index.dtype, index.stride[axis], n,
                keys.as<uint64_t>(), order.as<uint32_t>());
      sort_keys(keys.as<uint64_t>(), order.as<uint32_t>(), n);
    }
    visit_compute(compute_type(out.dtype), [&](auto tag) {
      using T = typename decltype(tag)::type;
      if (sorted)
        TG_LAUNCH((scatter_sorted_kernel<T>), blocks_for(uint64_t(n) * v.lines.n, 128), 128, 0, stream(), v,
                  keys.as<const uint64_t>(), order.as<const uint32_t>(), FastDiv(v.lines.n));
      else
        TG_LAUNCH((scatter_lines_kernel<T>), blocks_for(v.lines.n, 128), 128, 0, stream(), v);
    });
  });
}

}  // namespace

void CudaBackend::gather(const View& in, int axis, const View& index, const View& out) {
  if (out.numel() == 0) return;
  DeviceGuard guard(device_);
  View source = in;
  source.shape = out.shape;
  source.stride[axis] = 0;
  Views ins, outs;
  ins.push_back(source);
  ins.push_back(index);
  outs.push_back(out);
  for_pieces(plan::collapse(ins, outs, 2), [&](const plan::Nest& piece, const int64_t* start) {
    Walk<3> w(piece);
    visit_size(itemsize(in.dtype), [&](auto tag) {
      using S = typename decltype(tag)::type;
      const void* i = static_cast<const char*>(index.data) + start[1] * itemsize(index.dtype);
      TG_LAUNCH((gather_kernel<S>), blocks_for(w.n, 256), 256, 0, stream(), static_cast<const S*>(in.data) + start[0],
                in.stride[axis], i, index.dtype, static_cast<S*>(out.data) + start[2], w);
    });
  });
}

void CudaBackend::scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) {
  if (src.numel() == 0) return;
  DeviceGuard guard(device_);
  for (int64_t at = 0; at < src.shape[axis]; at += max_piece()) {  // later sources come after earlier ones
    View part = src, places = index;
    part.shape[axis] = places.shape[axis] = std::min(max_piece(), src.shape[axis] - at);
    part.data = static_cast<char*>(src.data) + at * src.stride[axis] * itemsize(src.dtype);
    places.data = static_cast<char*>(index.data) + at * index.stride[axis] * itemsize(index.dtype);
    scatter_part(op, part, axis, places, out);
  }
}

void CudaBackend::fold(const View& in, const View& out) {
  DeviceGuard guard(device_);
  fold_slices(in, out);
}

static __global__ void bound_index_kernel(const int64_t* index, int64_t n, int64_t low, int64_t high, int64_t* out,
                                          long long* noted) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t v = index[i];
  if (v < low || v > high) atomicMin(noted, static_cast<long long>(v < kNothingNoted ? v : kNothingNoted - 1));
  out[i] = v < low ? low : v > high ? high : v;
}

void CudaBackend::bound_index(const View& index, int64_t low, int64_t high, const View& out, const std::string& text) {
  if (index.numel() == 0) return;
  DeviceGuard guard(device_);
  TG_LAUNCH((bound_index_kernel), blocks_for(uint64_t(index.numel()), 256), 256, 0, stream(),
            static_cast<const int64_t*>(index.data), index.numel(), low, high, static_cast<int64_t*>(out.data),
            reinterpret_cast<long long*>(late_error_place(text)));
}

}  // namespace tg::cuda
