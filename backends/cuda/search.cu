// Position of the extreme, range of indices, positions of non-zero elements.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/reduce_ops.cuh"

namespace tg::cuda {
namespace {

template <class T>
struct Extreme {
  T value;
  int64_t at;  // -1: none yet
};

// The first NaN wins; without one, the first of the extreme elements.
template <class T, bool Largest>
struct ExtremeReducer {
  using Acc = Extreme<T>;
  ResultView values, index;

  __device__ __forceinline__ Acc neutral() const { return {T(0), -1}; }
  static __device__ __forceinline__ bool beats(T x, T best) {
    return (x != x && best == best) || (best == best && (Largest ? x > best : x < best));
  }
  __device__ __forceinline__ void add(Acc& a, const Acc& x, uint32_t) const {
    if (a.at < 0 || beats(x.value, a.value)) a = x;
  }
  __device__ __forceinline__ Acc join(Acc a, Acc b) const {
    if (a.at < 0) return b;
    if (b.at < 0) return a;
    if (a.at > b.at) return beats(a.value, b.value) ? a : b;
    return beats(b.value, a.value) ? b : a;
  }
  __device__ __forceinline__ void finish(Acc a, uint32_t result) const {
    if (values.data) values.store(result, a.value);
    index.store(result, a.at);
  }
};

// Elements with their places; `first` is that of a part's first element.
template <class T>
struct PlacedLoader {
  using Element = Extreme<T>;
  static constexpr int width = 1;
  AnyLoader<T> from;
  int64_t first;
  __device__ __forceinline__ void start(uint32_t result) { from.start(result); }
  __device__ __forceinline__ Element load(uint32_t i) const { return {from.load(i), first + i}; }
};

View drop_axis(View v, int axis) {
  v.shape.erase(axis);
  v.stride.erase(axis);
  return v;
}

struct Range {
  int64_t lo, hi;
};
struct RangeReducer {
  using Acc = Range;
  Range* out;
  __device__ __forceinline__ Acc neutral() const { return {INT64_MAX, INT64_MIN}; }
  __device__ __forceinline__ void add(Acc& a, int64_t x, uint32_t) const { a = join(a, {x, x}); }
  __device__ __forceinline__ Acc join(Acc a, Acc b) const {
    return {a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
  }
  __device__ __forceinline__ void finish(Acc a, uint32_t) const { *out = a; }
};

constexpr uint32_t kCountThreads = 256, kPerThread = 8, kCountTile = kCountThreads * kPerThread;

// counts[b]: how many of block b's elements are not zero. With `to`, their positions go behind starts[b] instead.
__global__ void __launch_bounds__(kCountThreads) nonzero_kernel(const void* p, DType t, Walk<2> w, int64_t first,
                                                                uint32_t* counts, const int64_t* starts, int64_t* to) {
  TG_SHARED(uint32_t, tile, [kCountThreads]);
  const uint32_t from = blockIdx.x * kCountTile + threadIdx.x * kPerThread;
  int64_t found[kPerThread];
  uint32_t n = 0;
  for (uint32_t i = from; i < min(w.n, from + kPerThread); ++i) {
    int64_t off[2] = {};
    w.offsets(i, off);
    if (load_any<bool>(p, t, off[0])) found[n++] = first + off[1];
  }
  tile[threadIdx.x] = n;
  for (uint32_t by = 1; by < kCountThreads; by *= 2) {  // running sums over the block
    __syncthreads();
    uint32_t before = threadIdx.x >= by ? tile[threadIdx.x - by] : 0;
    __syncthreads();
    tile[threadIdx.x] += before;
  }
  if (!to) {
    if (threadIdx.x == kCountThreads - 1) counts[blockIdx.x] = tile[threadIdx.x];
    return;
  }
  int64_t* out = to + starts[blockIdx.x] + (tile[threadIdx.x] - n);
  for (uint32_t k = 0; k < n; ++k) out[k] = found[k];
}

void append_nonzero(const View& in, const plan::Nest& piece, const int64_t* start, std::vector<int64_t>& out) {
  Walk<2> w(piece);
  const void* p = static_cast<const char*>(in.data) + start[0] * itemsize(in.dtype);
  const unsigned blocks = blocks_for(w.n, kCountTile);
  Scratch counts(blocks * sizeof(uint32_t));
  TG_LAUNCH((nonzero_kernel), blocks, kCountThreads, 0, stream(), p, in.dtype, w, start[1], counts.as<uint32_t>(),
            static_cast<const int64_t*>(nullptr), static_cast<int64_t*>(nullptr));
  std::vector<uint32_t> n(blocks);
  copy_and_wait(n.data(), counts.as<void>(), blocks * sizeof(uint32_t));
  std::vector<int64_t> starts(blocks);
  int64_t total = 0;
  for (unsigned b = 0; b < blocks; ++b) starts[b] = total, total += n[b];
  if (total == 0) return;
  Scratch places(blocks * sizeof(int64_t)), found(size_t(total) * sizeof(int64_t));
  copy_and_wait(places.as<void>(), starts.data(), blocks * sizeof(int64_t));
  TG_LAUNCH((nonzero_kernel), blocks, kCountThreads, 0, stream(), p, in.dtype, w, start[1], counts.as<uint32_t>(),
            places.as<const int64_t>(), found.as<int64_t>());
  const size_t before = out.size();
  out.resize(before + size_t(total));
  copy_and_wait(out.data() + before, found.as<void>(), size_t(total) * sizeof(int64_t));
}

// Pieces come in the order of positions: cut is the axis `axis` with all inside it, and where one of its rows is too
// long, each row along the next.
void append_in_order(const View& in, const plan::Nest& nest, int axis, const int64_t* start,
                     std::vector<int64_t>& out) {
  if (nest.numel() <= max_piece()) return append_nonzero(in, nest, start, out);
  const int64_t rows = nest.shape[axis], inner = nest.numel() / rows;
  const int64_t step = std::max<int64_t>(1, max_piece() / inner);
  plan::Nest piece = nest;
  for (int64_t at = 0; at < rows; at += step) {
    piece.shape[axis] = std::min(step, rows - at);
    const int64_t from[2] = {start[0] + at * nest.stride[0][axis], start[1] + at * nest.stride[1][axis]};
    append_in_order(in, piece, axis + 1, from, out);
  }
}

}  // namespace

void CudaBackend::arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) {
  if (in.numel() == 0) return;
  DeviceGuard guard(device_);
  Views ins, outs;
  ins.push_back(drop_axis(in, axis));
  outs.push_back(values.data ? drop_axis(values, axis) : drop_axis(index, axis));
  outs.push_back(drop_axis(index, axis));
  const plan::Nest kept = plan::collapse(ins, outs, 0);
  plan::Nest line;
  line.n_views = 1;
  line.shape = {in.shape[axis]};
  line.stride[0] = {in.stride[axis]};
  const std::vector<Piece> parts = pieces_of(line);
  std::vector<uint32_t> sizes;
  for (const Piece& p : parts) sizes.push_back(uint32_t(p.nest.numel()));
  const bool columns = kept.ndim() > 0 && std::abs(kept.stride[0][kept.ndim() - 1]) < std::abs(in.stride[axis]);
  auto run = [&](auto tag, auto which) {
    using T = typename decltype(tag)::type;
    using R = ExtremeReducer<T, decltype(which)::value>;
    for_pieces(kept, [&](const plan::Nest& piece, const int64_t* start) {
      auto result = [&](const View& v, int k) {
        ResultView r;
        if (v.data) r.data = static_cast<char*>(v.data) + start[k] * itemsize(v.dtype);
        r.dtype = v.dtype;
        r.kept = Walk<1>(only_view(piece, k));
        return r;
      };
      R r{result(values, 1), result(index, 2)};
      run_reduction(r, uint32_t(piece.numel()), sizes, columns, 1, [&](size_t p) {
        PlacedLoader<T> l;
        l.from.data = static_cast<const char*>(in.data) + (start[0] + parts[p].start[0]) * itemsize(in.dtype);
        l.from.dtype = in.dtype;
        l.from.kept = Walk<1>(only_view(piece, 0));
        l.from.reduced = Walk<1>(parts[p].nest);
        l.from.before = Before::Nothing;
        l.first = p * max_piece();
        return l;
      });
    });
  };
  visit_compute(compute_type(in.dtype), [&](auto tag) {
    if (largest)
      run(tag, std::true_type());
    else
      run(tag, std::false_type());
  });
}

std::pair<int64_t, int64_t> CudaBackend::int_range(const View& index) {
  if (index.numel() == 0) return {0, -1};
  DeviceGuard guard(device_);
  Views ins;
  ins.push_back(index);
  const plan::Nest nest = plan::collapse(ins, {}, 0);
  const std::vector<Piece> pieces = pieces_of(nest);
  std::vector<uint32_t> sizes;
  for (const Piece& p : pieces) sizes.push_back(uint32_t(p.nest.numel()));
  Scratch result(sizeof(Range));
  run_reduction(RangeReducer{result.as<Range>()}, 1, sizes, false, 1, [&](size_t p) {
    AnyLoader<int64_t> l;
    l.data = static_cast<const char*>(index.data) + pieces[p].start[0] * itemsize(index.dtype);
    l.dtype = index.dtype;
    l.reduced = Walk<1>(pieces[p].nest);
    l.before = Before::Nothing;
    return l;
  });
  Range r;
  copy_and_wait(&r, result.as<void>(), sizeof r);
  return {r.lo, r.hi};
}

void CudaBackend::nonzero(const View& in, std::vector<int64_t>& out) {
  if (in.numel() == 0) return;
  DeviceGuard guard(device_);
  View order = in;  // logical index as a second view, so that merging and cutting keep it right
  order.stride = contiguous_strides(in.shape);
  Views both;
  both.push_back(in);
  both.push_back(order);
  plan::Nest nest = plan::nest_of(both);
  plan::merge_axes(nest);
  int64_t start[2] = {};
  append_in_order(in, nest, 0, start, out);
}

}  // namespace tg::cuda
