// Matrix products: by cuBLASLt or cuBLAS where they are there and know the type, else by a kernel that takes any type
// and strides.
#include <optional>

#include "backends/cuda/blas_lt.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/map.cuh"
#include "backends/cuda/walk.cuh"

namespace tg::cuda {
namespace {

constexpr uint32_t kTile = 64, kDepth = 16, kEach = 4;  // a block makes 64 x 64 results, a thread 4 x 4 of them

struct Matrices {
  const void *a, *b;
  void* c;
  int64_t m, n, k;
  int64_t sa[3], sb[3], sc[3];  // strides: batch, rows, columns
  double alpha, beta;
};

template <class A>
__device__ __forceinline__ A multiply_add(A a, A b, A acc) {
  if constexpr (std::is_integral_v<A>)
    return A(uint64_t(acc) + uint64_t(a) * uint64_t(b));
  else
    return acc + a * b;
}

template <class S>
__global__ void __launch_bounds__(256) gemm_kernel(Matrices x, DType type, uint32_t tiles_n, uint32_t first_batch) {
  using A = Compute<S>;
  TG_SHARED(A, left, [kDepth][kTile + 1]);
  TG_SHARED(A, right, [kDepth][kTile + 1]);
  const int64_t batch = first_batch + blockIdx.y;
  const int64_t row0 = int64_t(blockIdx.x / tiles_n) * kTile, col0 = int64_t(blockIdx.x % tiles_n) * kTile;
  const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  const int64_t pa = batch * x.sa[0], pb = batch * x.sb[0], pc = batch * x.sc[0];
  auto load = [&](const void* p, int64_t i) {
    if constexpr (std::is_integral_v<S>)
      return load_any<A>(p, type, i);
    else
      return convert_to<A>(static_cast<const S*>(p)[i]);
  };
  A acc[kEach][kEach] = {};
  for (int64_t k0 = 0; k0 < x.k; k0 += kDepth) {
    // Neighbouring threads read along the axis that is dense.
    for (uint32_t e = threadIdx.x; e < kTile * kDepth; e += 256) {
      const bool a_rows = x.sa[1] != 1, b_cols = x.sb[2] == 1;
      const uint32_t ad = a_rows ? e % kDepth : e / kTile, ar = a_rows ? e / kDepth : e % kTile;
      const uint32_t bd = b_cols ? e / kTile : e % kDepth, bc = b_cols ? e % kTile : e / kDepth;
      const int64_t r = row0 + ar, ak = k0 + ad, c = col0 + bc, bk = k0 + bd;
      left[ad][ar] = r < x.m && ak < x.k ? load(x.a, pa + r * x.sa[1] + ak * x.sa[2]) : A(0);
      right[bd][bc] = c < x.n && bk < x.k ? load(x.b, pb + bk * x.sb[1] + c * x.sb[2]) : A(0);
    }
    __syncthreads();
    TG_UNROLL
    for (uint32_t d = 0; d < kDepth; ++d) {
      A l[kEach], r[kEach];
      TG_UNROLL
      for (uint32_t i = 0; i < kEach; ++i) l[i] = left[d][ty + 16 * i], r[i] = right[d][tx + 16 * i];
      TG_UNROLL
      for (uint32_t i = 0; i < kEach; ++i) TG_UNROLL
      for (uint32_t j = 0; j < kEach; ++j) acc[i][j] = multiply_add(l[i], r[j], acc[i][j]);
    }
    __syncthreads();
  }
  TG_UNROLL
  for (uint32_t i = 0; i < kEach; ++i) TG_UNROLL
  for (uint32_t j = 0; j < kEach; ++j) {
    const int64_t r = row0 + ty + 16 * i, c = col0 + tx + 16 * j;
    if (r >= x.m || c >= x.n) continue;
    const int64_t to = pc + r * x.sc[1] + c * x.sc[2];
    A y = multiply_add(convert<A>(x.alpha), acc[i][j], A(0));
    if (x.beta != 0) y = multiply_add(convert<A>(x.beta), load(x.c, to), y);
    if constexpr (std::is_integral_v<S>)
      store_any<A>(x.c, type, to, y);
    else
      static_cast<S*>(x.c)[to] = convert_to<S>(y);
  }
}

template <class S>
void launch(const Matrices& x, DType type, int64_t batch) {
  const uint64_t tiles_m = (uint64_t(x.m) + kTile - 1) / kTile, tiles_n = (uint64_t(x.n) + kTile - 1) / kTile;
  TG_CHECK(tiles_m * tiles_n < (uint64_t(1) << 31), ValueError, "cuda: a product of more than 2^31 tiles");
  for (int64_t b = 0; b < batch; b += 65535) {
    dim3 grid(unsigned(tiles_m * tiles_n), unsigned(std::min<int64_t>(65535, batch - b)));
    TG_LAUNCH((gemm_kernel<S>), grid, 256, 0, stream(), x, type, uint32_t(tiles_n), uint32_t(b));
  }
}

// A matrix as cuBLAS sees it: column-major with a leading dimension, or the transpose of one.
struct Layout {
  BlasOperation op = kBlasN;
  int64_t lead = 0;
  bool ok = false;
};
// rows and columns of the row-major view, which is the transpose of what cuBLAS sees.
Layout layout_of(const View& v) {
  const int64_t rows = v.shape[1], cols = v.shape[2], sr = v.stride[1], sc = v.stride[2];
  if ((sc == 1 || cols == 1) && (sr >= std::max<int64_t>(cols, 1) || rows == 1))
    return {kBlasN, rows == 1 ? std::max<int64_t>(cols, 1) : sr, true};
  if ((sr == 1 || rows == 1) && (sc >= std::max<int64_t>(rows, 1) || cols == 1))
    return {kBlasT, cols == 1 ? std::max<int64_t>(rows, 1) : sc, true};
  return {};
}

// A dense copy of a matrix whose layout cuBLAS does not take.
struct DenseCopy {
  View view;
  Scratch memory;
  explicit DenseCopy(const View& v) : view(v), memory(size_t(v.numel() * itemsize(v.dtype))) {
    view.stride = contiguous_strides(v.shape);
    view.data = memory.as<void>();
    convert_copy(v, view);
  }
};

void multiply_blas(const Blas& lib, const BlasProduct& p) {
  const BlasStatus s =
      lib.gemm(blas_handle(lib), p.op_a, p.op_b, p.m, p.n, p.k, p.alpha, p.a, p.type, p.lead_a, p.stride_a, p.b, p.type,
               p.lead_b, p.stride_b, p.beta, p.c, p.type, p.lead_c, p.stride_c, p.batch, p.compute, -1);
  check_blas(lib, s, "cublasGemmStridedBatchedEx");
  note_work("cublasGemmStridedBatchedEx");
}

BlasCompute compute_of(DType t) {
  if (t == DType::F64) return kComputeF64;
  return t == DType::F32 && allow_tf32() ? kComputeTF32 : kComputeF32;
}

// False if no library of the vendor's takes the product. An epilogue is for cuBLASLt alone; its bias has one value per
// column of c.
bool gemm_by_vendor(double alpha, View a, View b, double beta, const View& c, const Epilogue& after = {}) {
  const Blas* lib = is_float(c.dtype) && !after ? blas() : nullptr;
  if (!is_float(c.dtype) || a.shape[2] == 0 || !(lib || blas_lt())) return false;
  const Layout lc = layout_of(c);
  if (!lc.ok || (after && lc.op != kBlasN)) return false;
  std::optional<DenseCopy> copies[2];
  Layout la = layout_of(a), lb = layout_of(b);
  if (!la.ok) a = copies[0].emplace(a).view, la = layout_of(a);
  if (!lb.ok) b = copies[1].emplace(b).view, lb = layout_of(b);
  const bool wide = c.dtype == DType::F64;
  const float alpha32 = float(alpha), beta32 = float(beta);
  const int64_t m = c.shape[1], n = c.shape[2], k = a.shape[2];
  BlasProduct p{};
  p.type = c.dtype == DType::F32   ? kBlasF32
           : c.dtype == DType::F64 ? kBlasF64
           : c.dtype == DType::F16 ? kBlasF16
                                   : kBlasBF16;
  p.compute = compute_of(c.dtype);
  p.alpha = wide ? static_cast<const void*>(&alpha) : &alpha32;
  p.beta = wide ? static_cast<const void*>(&beta) : &beta32;
  p.k = k, p.batch = c.shape[0], p.after = after;
  p.c = c.data, p.lead_c = lc.lead, p.stride_c = c.stride[0];
  auto flip = [](BlasOperation o) { return o == kBlasN ? kBlasT : kBlasN; };
  auto left = [&](const View& v, const Layout& l, BlasOperation op) {
    p.op_a = op, p.a = v.data, p.lead_a = l.lead, p.stride_a = v.stride[0];
  };
  auto right = [&](const View& v, const Layout& l, BlasOperation op) {
    p.op_b = op, p.b = v.data, p.lead_b = l.lead, p.stride_b = v.stride[0];
  };
  if (lc.op == kBlasN) {  // row-major c is the column-major transpose: c^T = b^T a^T
    p.m = n, p.n = m;
    left(b, lb, lb.op), right(a, la, la.op);
  } else {
    p.m = m, p.n = n;
    left(a, la, flip(la.op)), right(b, lb, flip(lb.op));
  }
  if (multiply_lt(p)) return true;
  if (lib) multiply_blas(*lib, p);
  return lib != nullptr;
}

// What cuBLASLt's epilogues take: no float64, and a dense bias, if any, of the result's type.
bool has_epilogue(const View& bias, const View& c) {
  return c.dtype != DType::F64 && (!bias.data || (bias.dtype == c.dtype && bias.stride[0] == 1));
}

}  // namespace

void CudaBackend::gemm(double alpha, const View& a, const View& b, double beta, const View& c) {
  if (c.numel() == 0) return;
  DeviceGuard guard(device_);
  if (gemm_by_vendor(alpha, a, b, beta, c)) return;
  if (is_float(c.dtype) && a.shape[2] > 0 && !blas()) warn_without_blas();
  Matrices x{a.data, b.data, c.data, c.shape[1], c.shape[2], a.shape[2], {}, {}, {}, alpha, beta};
  for (int d = 0; d < 3; ++d) x.sa[d] = a.stride[d], x.sb[d] = b.stride[d], x.sc[d] = c.stride[d];
  switch (c.dtype) {
    case DType::F32:
      return launch<float>(x, c.dtype, c.shape[0]);
    case DType::F64:
      return launch<double>(x, c.dtype, c.shape[0]);
    case DType::F16:
      return launch<Half>(x, c.dtype, c.shape[0]);
    case DType::BF16:
      return launch<BFloat16>(x, c.dtype, c.shape[0]);
    default:
      return launch<int64_t>(x, c.dtype, c.shape[0]);
  }
}

bool CudaBackend::gemm_bias(const View& a, const View& b, const View& bias, const View& c) {
  if (c.numel() == 0 || !has_epilogue(bias, c)) return false;
  DeviceGuard guard(device_);
  return gemm_by_vendor(1, a, b, 0, c, {.bias = bias.data});
}

bool CudaBackend::gemm_gelu(const View& a, const View& b, const View& bias, const View& c, const View& before) {
  if (c.numel() == 0 || !has_epilogue(bias, c)) return false;
  Epilogue after{.bias = bias.data, .gelu = true};
  if (before.data) {
    const Layout l = layout_of(before);
    if (c.shape[0] != 1 || !l.ok || l.op != kBlasN || l.lead % kLtBeforeStep != 0) return false;
    after.before = before.data, after.lead_before = l.lead;
  }
  DeviceGuard guard(device_);
  return gemm_by_vendor(1, a, b, 0, c, after);
}

}  // namespace tg::cuda
