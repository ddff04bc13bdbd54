// Running sums, products, extremes and log-sum-exps along an axis. Many lines: a thread each. Few: a block each, tile
// after tile. Few and long: the lines are cut into chunks, whose totals are scanned first. A line of more elements than
// a launch counts is scanned part after part.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/walk.cuh"
#include "backends/scalar_math.h"

namespace tg::cuda {
namespace {

constexpr uint32_t kScanThreads = 256, kPerThread = 4, kTile = kScanThreads * kPerThread, kChunk = 8 * kTile;

// What the elements up to some place come to. `at` is the place of the extreme, -1: no elements.
template <class A>
struct Running {
  A value;
  int64_t at;
};

template <ScanOp Op, class T>
struct Scanner {
  using A = std::conditional_t<std::is_same_v<T, float>, double, T>;
  static __device__ __forceinline__ Running<A> none() { return {A(0), -1}; }
  // The latest of equal extremes, and the latest NaN, keep the place.
  static __device__ __forceinline__ Running<A> join(const Running<A>& l, const Running<A>& r) {
    if (l.at < 0) return r;
    if (r.at < 0) return l;
    if constexpr (Op == ScanOp::Sum) return {l.value + r.value, r.at};
    if constexpr (Op == ScanOp::Prod) return {sm::mul(l.value, r.value), r.at};
    if constexpr (Op == ScanOp::LogSumExp) return {A(sm::logaddexp(double(l.value), double(r.value))), r.at};
    const bool nan = l.value != l.value;
    const bool better = Op == ScanOp::Max ? r.value >= l.value : r.value <= l.value;
    return r.value != r.value || (!nan && better) ? r : l;
  }
};

struct ScanViews {
  const void* in;
  void *out, *index;
  DType in_type, out_type, index_type;
  int64_t in_stride, out_stride, index_stride;
  uint32_t n;     // elements along the axis
  Walk<3> lines;  // in, out, index
  int64_t first;  // place of the first of them in the whole line
};

// What earlier parts of each line came to, and where this part's end goes to: (lines), null if there is no such part.
template <class A>
struct Carry {
  const Running<A>* before = nullptr;
  Running<A>* after = nullptr;
};

template <class S, class A>
__device__ __forceinline__ Running<A> element(const ScanViews& v, const int64_t (&off)[3], uint32_t i) {
  using T = std::conditional_t<std::is_same_v<S, float>, float, A>;
  return {A(load_any<T>(v.in, v.in_type, off[0] + i * v.in_stride)), v.first + i};
}
template <class A>
__device__ __forceinline__ void put(const ScanViews& v, const int64_t (&off)[3], uint32_t i, const Running<A>& r) {
  store_any<A>(v.out, v.out_type, off[1] + i * v.out_stride, r.value);
  if (v.index) store_any<int64_t>(v.index, v.index_type, off[2] + i * v.index_stride, r.at);
}

template <ScanOp Op, class T>
__global__ void __launch_bounds__(kScanThreads)
    scan_lines_kernel(ScanViews v, Carry<typename Scanner<Op, T>::A> carry) {
  using S = Scanner<Op, T>;
  using A = typename S::A;
  const uint32_t line = blockIdx.x * blockDim.x + threadIdx.x;
  if (line >= v.lines.n) return;
  int64_t off[3] = {};
  v.lines.offsets(line, off);
  Running<A> r = carry.before ? carry.before[line] : S::none();
  for (uint32_t i = 0; i < v.n; ++i) {
    r = S::join(r, element<T, A>(v, off, i));
    put(v, off, i, r);
  }
  if (carry.after) carry.after[line] = r;
}

// Block (line, chunk). `totals` alone gets what the chunk comes to; with `before`, the chunk is written, going on from
// there; with neither the line is one chunk. `after` gets what each line of one chunk comes to.
template <ScanOp Op, class T>
__global__ void __launch_bounds__(kScanThreads)
    scan_block_kernel(ScanViews v, uint32_t chunk, Running<typename Scanner<Op, T>::A>* totals,
                      const Running<typename Scanner<Op, T>::A>* before, Running<typename Scanner<Op, T>::A>* after) {
  using S = Scanner<Op, T>;
  using A = typename S::A;
  TG_SHARED(Running<A>, tile, [kScanThreads]);
  int64_t off[3] = {};
  v.lines.offsets(blockIdx.x, off);
  const uint32_t from = blockIdx.y * chunk, to = min(v.n, from + chunk);
  Running<A> carry = before ? before[size_t(blockIdx.x) * gridDim.y + blockIdx.y] : S::none();
  for (uint32_t start = from; start < to; start += kTile) {
    Running<A> mine[kPerThread], sum = S::none();
    const uint32_t first = start + threadIdx.x * kPerThread;
    TG_UNROLL
    for (uint32_t k = 0; k < kPerThread; ++k) {
      if (first + k < to) sum = S::join(sum, element<T, A>(v, off, first + k));
      mine[k] = sum;
    }
    tile[threadIdx.x] = sum;
    for (uint32_t by = 1; by < kScanThreads; by *= 2) {
      __syncthreads();
      Running<A> left = threadIdx.x >= by ? tile[threadIdx.x - by] : S::none();
      __syncthreads();
      tile[threadIdx.x] = S::join(left, tile[threadIdx.x]);
    }
    __syncthreads();
    Running<A> left = threadIdx.x > 0 ? S::join(carry, tile[threadIdx.x - 1]) : carry;
    if (!totals) {
      TG_UNROLL
      for (uint32_t k = 0; k < kPerThread; ++k)
        if (first + k < to) put(v, off, first + k, S::join(left, mine[k]));
    }
    carry = S::join(carry, tile[kScanThreads - 1]);
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  if (totals) totals[size_t(blockIdx.x) * gridDim.y + blockIdx.y] = carry;
  if (after) after[blockIdx.x] = carry;
}

// totals (lines, chunks) become what comes before each chunk.
template <ScanOp Op, class T>
__global__ void __launch_bounds__(kScanThreads)
    scan_totals_kernel(Running<typename Scanner<Op, T>::A>* totals, uint32_t lines, uint32_t chunks,
                       Carry<typename Scanner<Op, T>::A> carry) {
  using S = Scanner<Op, T>;
  const uint32_t line = blockIdx.x * blockDim.x + threadIdx.x;
  if (line >= lines) return;
  auto r = carry.before ? carry.before[line] : S::none();
  for (uint32_t c = 0; c < chunks; ++c) {
    auto next = S::join(r, totals[size_t(line) * chunks + c]);
    totals[size_t(line) * chunks + c] = r;
    r = next;
  }
  if (carry.after) carry.after[line] = r;
}

template <ScanOp Op, class T>
void run_part(const ScanViews& v, const Carry<typename Scanner<Op, T>::A>& carry) {
  using Total = Running<typename Scanner<Op, T>::A>;
  const uint32_t lines = v.lines.n, chunks = (v.n + kChunk - 1) / kChunk;
  if (lines >= 4096 || v.n <= 32) {
    TG_LAUNCH((scan_lines_kernel<Op, T>), blocks_for(lines, kScanThreads), kScanThreads, 0, stream(), v, carry);
  } else if (lines >= 256 || chunks < 4 || chunks > 65535) {
    TG_LAUNCH((scan_block_kernel<Op, T>), lines, kScanThreads, 0, stream(), v, v.n, static_cast<Total*>(nullptr),
              carry.before, carry.after);
  } else {
    Scratch totals(size_t(lines) * chunks * sizeof(Total));
    Total* t = totals.as<Total>();
    Total* const none = nullptr;
    TG_LAUNCH((scan_block_kernel<Op, T>), dim3(lines, chunks), kScanThreads, 0, stream(), v, kChunk, t,
              static_cast<const Total*>(none), none);
    TG_LAUNCH((scan_totals_kernel<Op, T>), blocks_for(lines, kScanThreads), kScanThreads, 0, stream(), t, lines, chunks,
              carry);
    TG_LAUNCH((scan_block_kernel<Op, T>), dim3(lines, chunks), kScanThreads, 0, stream(), v, kChunk, none,
              static_cast<const Total*>(t), none);
  }
}

// Lines of n elements, which need not fit into the 32 bits of v.n.
template <ScanOp Op, class T>
void run(ScanViews v, int64_t n) {
  using A = typename Scanner<Op, T>::A;
  const int64_t most = max_piece();
  Scratch ends(n > most ? v.lines.n * sizeof(Running<A>) : 0);
  for (int64_t at = 0; at < n; at += most) {
    v.n = uint32_t(std::min(most, n - at));
    v.first = at;
    Running<A>* end = n > most ? ends.as<Running<A>>() : nullptr;
    run_part<Op, T>(v, {at > 0 ? end : nullptr, end});
    v.in = static_cast<const char*>(v.in) + v.n * v.in_stride * itemsize(v.in_type);
    v.out = static_cast<char*>(v.out) + v.n * v.out_stride * itemsize(v.out_type);
    if (v.index) v.index = static_cast<char*>(v.index) + v.n * v.index_stride * itemsize(v.index_type);
  }
}

template <class T>
void run_op(ScanOp op, const ScanViews& v, int64_t n) {
  switch (op) {
    case ScanOp::Sum:
      return run<ScanOp::Sum, T>(v, n);
    case ScanOp::Prod:
      return run<ScanOp::Prod, T>(v, n);
    case ScanOp::Max:
      return run<ScanOp::Max, T>(v, n);
    case ScanOp::Min:
      return run<ScanOp::Min, T>(v, n);
    case ScanOp::LogSumExp:
      if constexpr (std::is_floating_point_v<T>)
        return run<ScanOp::LogSumExp, T>(v, n);
      else
        throw DTypeError("cuda: a running logsumexp of integers");
  }
}

}  // namespace

void CudaBackend::scan(ScanOp op, const View& in, int axis, const View& out, const View& index) {
  if (in.numel() == 0) return;
  DeviceGuard guard(device_);
  Views ins, outs;
  for (const View* v : {&in, &out, index.data ? &index : &out}) {
    View line = *v;
    line.shape.erase(axis);
    line.stride.erase(axis);
    (v == &in ? ins : outs).push_back(line);
  }
  for_pieces(plan::collapse(ins, outs, 1), [&](const plan::Nest& piece, const int64_t* start) {
    auto at = [&](const View& v, int k) -> void* {
      return v.data ? static_cast<char*>(v.data) + start[k] * itemsize(v.dtype) : nullptr;
    };
    ScanViews v{at(in, 0),
                at(out, 1),
                at(index, 2),
                in.dtype,
                out.dtype,
                index.dtype,
                in.stride[axis],
                out.stride[axis],
                index.data ? index.stride[axis] : 0,
                0,
                Walk<3>(piece),
                0};
    visit_compute(compute_type(out.dtype),
                  [&](auto tag) { run_op<typename decltype(tag)::type>(op, v, in.shape[axis]); });
  });
}

}  // namespace tg::cuda
