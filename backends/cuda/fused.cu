// Fused kernels over rows: one block per row, which it reads again from cache for each pass. Sums are taken by each
// thread in order, then by the tree of the block, so that the same sizes give the same bits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/element.cuh"

namespace tg::cuda {
namespace {

constexpr int kMaxWarps = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kRowsPerSum = 256;  // rows whose gradients of weight and bias one block adds up

// Calls f(first column) for the vectors of this thread.
template <int V, class F>
__device__ void for_columns(int64_t n, F f) {
  for (int64_t i = int64_t(threadIdx.x) * V; i < n; i += int64_t(blockDim.x) * V) f(i);
}
template <int V, class T>
__device__ void load(const T* p, int64_t i, float (&out)[V]) {
  const Vector<T, V> group = *reinterpret_cast<const Vector<T, V>*>(p + i);
  for (int k = 0; k < V; ++k) out[k] = convert_to<float>(group.v[k]);
}
template <int V, class T>
__device__ void store(T* p, int64_t i, const float (&in)[V]) {
  Vector<T, V> group;
  for (int k = 0; k < V; ++k) group.v[k] = convert_to<T>(in[k]);
  *reinterpret_cast<Vector<T, V>*>(p + i) = group;
}

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
// The larger; NaN wins.
struct Larger {
  __device__ float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};

// op over the values of all threads of a block, which all get it. `slots`: one value per warp.
template <class T, class Op>
__device__ T block_reduce(T v, T neutral, Op op, T* slots) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  for (int by = 16; by > 0; by /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, by));
  if (lane == 0) slots[warp] = v;
  __syncthreads();
  v = lane < warps ? slots[lane] : neutral;
  for (int by = 16; by > 0; by /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, by));
  __syncthreads();  // the slots serve the next reduction
  return v;
}

// Rows of the operands of a kernel; a stride of 0 repeats one row, a null pointer is a missing operand.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;
  __device__ T* operator[](int64_t row) const { return data ? data + row * stride : nullptr; }
};

template <int V, class T>
__device__ float row_max(const T* x, int64_t n, float* slots) {
  float top = -kInfinity, v[V];
  for_columns<V>(n, [&](int64_t i) {
    load<V>(x, i, v);
    for (int k = 0; k < V; ++k) top = Larger{}(v[k], top);
  });
  return block_reduce(top, -kInfinity, Larger{}, slots);
}
template <int V, class T>
__device__ double row_exp_sum(const T* x, float top, int64_t n, double* slots) {
  float total = 0, v[V];
  for_columns<V>(n, [&](int64_t i) {
    load<V>(x, i, v);
    for (int k = 0; k < V; ++k) total += expf(v[k] - top);
  });
  return block_reduce(double(total), 0.0, Add{}, slots);
}

// `safe`: rows of only -inf give 0.
template <class T, int V>
__global__ void softmax(Rows<const T> x, Rows<T> y, int64_t rows, int64_t n, bool safe) {
  TG_SHARED(float, tops, [kMaxWarps]);
  TG_SHARED(double, sums, [kMaxWarps]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float top = row_max<V>(x[row], n, tops), v[V];
    if (safe && top == -kInfinity) top = std::numeric_limits<float>::lowest();
    const double total = row_exp_sum<V>(x[row], top, n, sums);
    const float scale = safe && total == 0 ? 0.0f : float(1.0 / total);
    for_columns<V>(n, [&](int64_t i) {
      load<V>(x[row], i, v);
      for (int k = 0; k < V; ++k) v[k] = expf(v[k] - top) * scale;
      store<V>(y[row], i, v);
    });
  }
}

template <class T, int V>
__global__ void log_softmax(Rows<const T> x, Rows<T> y, int64_t rows, int64_t n) {
  TG_SHARED(float, tops, [kMaxWarps]);
  TG_SHARED(double, sums, [kMaxWarps]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float top = row_max<V>(x[row], n, tops);
    const float log_total = float(log(row_exp_sum<V>(x[row], top, n, sums)));
    float v[V];
    for_columns<V>(n, [&](int64_t i) {
      load<V>(x[row], i, v);
      for (int k = 0; k < V; ++k) v[k] = (v[k] - top) - log_total;
      store<V>(y[row], i, v);
    });
  }
}

template <class T, int V>
__global__ void log_sum_exp(Rows<const T> x, Rows<float> y, int64_t rows, int64_t n) {
  TG_SHARED(float, tops, [kMaxWarps]);
  TG_SHARED(double, sums, [kMaxWarps]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float top = row_max<V>(x[row], n, tops);
    const double total = row_exp_sum<V>(x[row], top, n, sums);
    const bool finite = top - top == 0;
    if (threadIdx.x == 0) *y[row] = finite ? float(double(top) + log(total)) : top;
  }
}

template <class T, int V>
__global__ void softmax_grad(Rows<const T> y, Rows<const T> g, Rows<T> dx, int64_t rows, int64_t n, bool of_log) {
  TG_SHARED(double, sums, [kMaxWarps]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float total = 0, a[V], b[V];
    for_columns<V>(n, [&](int64_t i) {
      load<V>(y[row], i, a);
      load<V>(g[row], i, b);
      for (int k = 0; k < V; ++k) total += of_log ? b[k] : a[k] * b[k];
    });
    const float sum = float(block_reduce(double(total), 0.0, Add{}, sums));
    for_columns<V>(n, [&](int64_t i) {
      load<V>(y[row], i, a);
      load<V>(g[row], i, b);
      for (int k = 0; k < V; ++k) a[k] = of_log ? b[k] - expf(a[k]) * sum : a[k] * (b[k] - sum);
      store<V>(dx[row], i, a);
    });
  }
}

template <class T, int V>
__global__ void scaled_exp(Rows<const T> x, Rows<const float> shift, Rows<const float> scale, Rows<float> y,
                           int64_t rows, int64_t n) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float by = *shift[row], factor = *scale[row];
    float v[V];
    for_columns<V>(n, [&](int64_t i) {
      load<V>(x[row], i, v);
      for (int k = 0; k < V; ++k) v[k] = expf(v[k] - by) * factor;
      store<V>(y[row], i, v);
    });
  }
}

// y = (x - mean) / sqrt(var + eps) weight + bias, with mean and variance in two passes. Without a place for means (RMS
// norm) the mean is 0 here and in the gradients.
template <class T, int V>
__global__ void norm(Rows<const T> x, const T* weight, const T* bias, Rows<T> y, Rows<float> mean_out,
                     Rows<float> var_out, int64_t rows, int64_t n, double eps) {
  TG_SHARED(double, sums, [kMaxWarps]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float total = 0, mean = 0, v[V], w[V], b[V];
    if (mean_out.data) {
      for_columns<V>(n, [&](int64_t i) {
        load<V>(x[row], i, v);
        for (int k = 0; k < V; ++k) total += v[k];
      });
      mean = float(block_reduce(double(total), 0.0, Add{}, sums) / double(n));
      total = 0;
    }
    for_columns<V>(n, [&](int64_t i) {
      load<V>(x[row], i, v);
      for (int k = 0; k < V; ++k) total += (v[k] - mean) * (v[k] - mean);
    });
    const double var = block_reduce(double(total), 0.0, Add{}, sums) / double(n);
    const float r = float(1.0 / sqrt(var + eps));
    for_columns<V>(n, [&](int64_t i) {
      load<V>(x[row], i, v);
      if (weight) load<V>(weight, i, w);
      if (bias) load<V>(bias, i, b);
      for (int k = 0; k < V; ++k) {
        v[k] = (v[k] - mean) * r;
        if (weight) v[k] *= w[k];
        if (bias) v[k] += b[k];
      }
      store<V>(y[row], i, v);
    });
    if (threadIdx.x == 0) {
      if (mean_out.data) *mean_out[row] = mean;
      *var_out[row] = float(var);
    }
  }
}

// With xhat = (x - mean) r and h = g weight: dx = r (h - mean(h) - xhat mean(h xhat)).
template <class T, int V>
__global__ void norm_grad(Rows<const T> x, Rows<const T> g, const T* weight, Rows<const float> means,
                          Rows<const float> vars, Rows<T> dx, int64_t rows, int64_t n, double eps) {
  TG_SHARED(double, sums, [kMaxWarps]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float mean = means.data ? *means[row] : 0, r = float(1.0 / sqrt(double(*vars[row]) + eps));
    float s0 = 0, s1 = 0, v[V], h[V], w[V];
    auto read = [&](int64_t i) {  // v = xhat, h = g weight
      load<V>(x[row], i, v);
      load<V>(g[row], i, h);
      if (weight) load<V>(weight, i, w);
      for (int k = 0; k < V; ++k) {
        v[k] = (v[k] - mean) * r;
        if (weight) h[k] *= w[k];
      }
    };
    for_columns<V>(n, [&](int64_t i) {
      read(i);
      for (int k = 0; k < V; ++k) s0 += h[k], s1 += h[k] * v[k];
    });
    const float a = means.data ? float(block_reduce(double(s0), 0.0, Add{}, sums) / double(n)) : 0;
    const float b = float(block_reduce(double(s1), 0.0, Add{}, sums) / double(n));
    for_columns<V>(n, [&](int64_t i) {
      read(i);
      for (int k = 0; k < V; ++k) v[k] = r * (h[k] - a - v[k] * b);
      store<V>(dx[row], i, v);
    });
  }
}

// Sums over kRowsPerSum rows of g xhat and, where there are means, of g, one thread per column: partial (blocks of
// rows, 1 or 2, n).
template <class T>
__global__ void norm_weights(Rows<const T> x, Rows<const T> g, Rows<const float> means, Rows<const float> vars,
                             float* partial, int64_t rows, int64_t n, double eps) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= n) return;
  const int64_t first = int64_t(blockIdx.y) * kRowsPerSum;
  const int64_t last = first + kRowsPerSum < rows ? first + kRowsPerSum : rows;
  float s0 = 0, s1 = 0;
  for (int64_t row = first; row < last; ++row) {
    const float v = convert_to<float>(g[row][column]), r = float(1.0 / sqrt(double(*vars[row]) + eps));
    s0 += v * ((convert_to<float>(x[row][column]) - (means.data ? *means[row] : 0)) * r);
    s1 += v;
  }
  float* to = partial + int64_t(blockIdx.y) * (means.data ? 2 * n : n) + column;
  to[0] = s0;
  if (means.data) to[n] = s1;
}
// `width` sums, n of which go to each of the outputs.
__global__ void add_partials(const float* partial, int64_t blocks, int64_t width, int64_t n, float* out0, float* out1) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= width) return;
  double total = 0;
  for (int64_t b = 0; b < blocks; ++b) total += partial[b * width + i];
  (i < n ? out0[i] : out1[i - n]) = float(total);
}

// ---- host side

bool contiguous_rows(const View& v, int64_t rows, int64_t n, DType t) {
  return !v.data || (v.dtype == t && v.shape[0] == rows && v.shape[1] == n && (v.stride[1] == 1 || n == 1));
}
bool one_value_rows(const View& v, int64_t rows) {
  return v.data && v.dtype == DType::F32 && v.shape[0] == rows && v.stride[1] == 0;
}
template <class T>
Rows<T> rows_of(const View& v) {
  return {static_cast<T*>(v.data), v.stride.size() ? v.stride[0] : 0};
}
// Whether vectors of `width` elements may be read from every row.
bool in_vectors(const View& v, int64_t n, int width) {
  if (!v.data || v.stride[1] == 0) return true;
  const auto bytes = uintptr_t(width * itemsize(v.dtype));
  return n % width == 0 && v.stride[0] % width == 0 && reinterpret_cast<uintptr_t>(v.data) % bytes == 0;
}

struct Shape {
  dim3 grid, block;
};
Shape shape_for(int64_t rows, int64_t n, int width) {
  const int64_t threads = std::clamp<int64_t>((n / width + 31) / 32 * 32, 32, 32 * kMaxWarps);
  return {dim3(unsigned(std::min<int64_t>(rows, int64_t(1) << 20))), dim3(unsigned(threads))};
}

// Runs `kernel` for rows of T in vectors of V.
template <class T, int V>
bool run_rows(Fused kernel, const Views& in, const Views& out, int64_t rows, int64_t n, double arg, cudaStream_t s) {
  const auto [grid, block] = shape_for(rows, n, V);
  auto row = [&](int i) { return rows_of<const T>(in[i]); };
  auto value = [&](int i) { return rows_of<const float>(in[i]); };
  auto vector = [&](int i) { return static_cast<const T*>(in[i].data); };
  switch (kernel) {
    case Fused::Softmax:
      TG_LAUNCH((softmax<T, V>), grid, block, 0, s, row(0), rows_of<T>(out[0]), rows, n, arg != 0);
      return true;
    case Fused::LogSoftmax:
      TG_LAUNCH((log_softmax<T, V>), grid, block, 0, s, row(0), rows_of<T>(out[0]), rows, n);
      return true;
    case Fused::LogSumExp:
      TG_LAUNCH((log_sum_exp<T, V>), grid, block, 0, s, row(0), rows_of<float>(out[0]), rows, n);
      return true;
    case Fused::SoftmaxGrad:
    case Fused::LogSoftmaxGrad:
      TG_LAUNCH((softmax_grad<T, V>), grid, block, 0, s, row(0), row(1), rows_of<T>(out[0]), rows, n,
                kernel == Fused::LogSoftmaxGrad);
      return true;
    case Fused::ScaledExp:
      TG_LAUNCH((scaled_exp<T, V>), grid, block, 0, s, row(0), value(1), value(2), rows_of<float>(out[0]), rows, n);
      return true;
    case Fused::Norm:
      TG_LAUNCH((norm<T, V>), grid, block, 0, s, row(0), vector(1), vector(2), rows_of<T>(out[0]),
                rows_of<float>(out[1]), rows_of<float>(out[2]), rows, n, arg);
      return true;
    case Fused::NormGrad:
      TG_LAUNCH((norm_grad<T, V>), grid, block, 0, s, row(0), row(1), vector(2), value(3), value(4), rows_of<T>(out[0]),
                rows, n, arg);
      return true;
    default:
      return false;
  }
}

template <class T>
void run_sums(const Views& in, const Views& out, int64_t rows, int64_t n, double eps, cudaStream_t s) {
  const int64_t blocks = (rows + kRowsPerSum - 1) / kRowsPerSum, width = in[2].data ? 2 * n : n;
  const Scratch partial(size_t(blocks * width) * sizeof(float));
  const auto columns = [](int64_t k) { return unsigned((k + 127) / 128); };
  TG_LAUNCH((norm_weights<T>), dim3(columns(n), unsigned(blocks)), 128, 0, s, rows_of<const T>(in[0]),
            rows_of<const T>(in[1]), rows_of<const float>(in[2]), rows_of<const float>(in[3]), partial.as<float>(),
            rows, n, eps);
  TG_LAUNCH((add_partials), columns(width), 128, 0, s, partial.as<const float>(), blocks, width, n,
            static_cast<float*>(out[0].data), static_cast<float*>(out[1].data));
}

// Whether the operands are as the kernels want them: rows of one type T, values per row and sums in float32.
bool fits(Fused kernel, const Views& in, const Views& out, int64_t rows, int64_t n) {
  const DType t = in[0].dtype;
  auto row = [&](const View& v) { return contiguous_rows(v, rows, n, t); };
  auto value = [&](const View& v) { return one_value_rows(v, rows); };
  auto mean = [&](const View& v) { return !v.data || value(v); };
  auto whole = [&](const View& v) { return contiguous_rows(v, rows, n, DType::F32); };
  switch (kernel) {
    case Fused::Softmax:
    case Fused::LogSoftmax:
      return row(in[0]) && row(out[0]);
    case Fused::LogSumExp:
      return row(in[0]) && value(out[0]);
    case Fused::SoftmaxGrad:
    case Fused::LogSoftmaxGrad:
      return row(in[0]) && row(in[1]) && row(out[0]);
    case Fused::ScaledExp:
      return row(in[0]) && value(in[1]) && value(in[2]) && whole(out[0]);
    case Fused::Norm:
      return row(in[0]) && row(in[1]) && row(in[2]) && row(out[0]) && mean(out[1]) && value(out[2]);
    case Fused::NormGrad:
      return row(in[0]) && row(in[1]) && row(in[2]) && mean(in[3]) && value(in[4]) && row(out[0]);
    case Fused::NormWeights:
      return row(in[0]) && row(in[1]) && mean(in[2]) && value(in[3]) && whole(out[0]) && whole(out[1]) &&
             (rows + kRowsPerSum - 1) / kRowsPerSum <= 65535;
    default:
      return false;
  }
}

template <class T>
bool run(Fused kernel, const Views& in, const Views& out, int64_t rows, int64_t n, double arg) {
  if (kernel == Fused::NormWeights) return run_sums<T>(in, out, rows, n, arg, stream()), true;
  constexpr int V = kVector<T>;
  bool vectors = true;
  for (const Views* vs : {&in, &out})
    for (const View& v : *vs) vectors &= in_vectors(v, n, V);
  return vectors ? run_rows<T, V>(kernel, in, out, rows, n, arg, stream())
                 : run_rows<T, 1>(kernel, in, out, rows, n, arg, stream());
}

}  // namespace

bool CudaBackend::fused(Fused kernel, const Views& ins, const Views& outs, double arg) {
  const int64_t rows = outs[0].shape[0], n = outs[0].shape[1];
  if (rows == 0 || n == 0 || !fits(kernel, ins, outs, rows, n)) return false;
  const DeviceGuard guard(device_);
  switch (ins[0].dtype) {
    case DType::F32:
      return run<float>(kernel, ins, outs, rows, n, arg);
    case DType::BF16:
      return run<BFloat16>(kernel, ins, outs, rows, n, arg);
    case DType::F16:
      return run<Half>(kernel, ins, outs, rows, n, arg);
    default:
      return false;
  }
}

}  // namespace tg::cuda
