// cuBLAS of the emulation: plain loops in stream order, with the interface and the layout rules of the library.
#include "backends/cuda/blas.h"

#include "backends/cuda/emu/emu.h"
#include "core/convert.h"

namespace tg::cuda {
namespace {

double load(const void* p, BlasType t, int64_t i) {
  switch (t) {
    case kBlasF32:
      return static_cast<const float*>(p)[i];
    case kBlasF64:
      return static_cast<const double*>(p)[i];
    case kBlasF16:
      return convert<float>(static_cast<const Half*>(p)[i]);
    default:
      return convert<float>(static_cast<const BFloat16*>(p)[i]);
  }
}
void store(void* p, BlasType t, int64_t i, double x) {
  switch (t) {
    case kBlasF32:
      static_cast<float*>(p)[i] = float(x);
      return;
    case kBlasF64:
      static_cast<double*>(p)[i] = x;
      return;
    case kBlasF16:
      static_cast<Half*>(p)[i] = convert<Half>(float(x));
      return;
    default:
      static_cast<BFloat16*>(p)[i] = convert<BFloat16>(float(x));
  }
}

struct Handle {
  cudaStream_t stream = nullptr;
};

BlasStatus gemm(BlasHandle h, BlasOperation ta, BlasOperation tb, int64_t m, int64_t n, int64_t k, const void* alpha,
                const void* a, BlasType at, int64_t lda, long long stride_a, const void* b, BlasType bt, int64_t ldb,
                long long stride_b, const void* beta, void* c, BlasType ct, int64_t ldc, long long stride_c,
                int64_t batch, BlasCompute compute, int) {
  const auto invalid = BlasStatus(7);
  if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < std::max<int64_t>(1, ta == kBlasT ? k : m) ||
      ldb < std::max<int64_t>(1, tb == kBlasT ? n : k) || ldc < std::max<int64_t>(1, m))
    return invalid;
  const bool wide = compute == kComputeF64;
  const double x = wide ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  const double y = wide ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  emu::enqueue(reinterpret_cast<Handle*>(h)->stream, [=] {
    for (int64_t q = 0; q < batch; ++q)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < m; ++i) {
          double sum = 0;
          for (int64_t p = 0; p < k; ++p)
            sum += load(a, at, q * stride_a + (ta == kBlasT ? p + i * lda : i + p * lda)) *
                   load(b, bt, q * stride_b + (tb == kBlasT ? j + p * ldb : p + j * ldb));
          const int64_t to = q * stride_c + i + j * ldc;
          store(c, ct, to, x * sum + (y != 0 ? y * load(c, ct, to) : 0));
        }
  });
  return kBlasSuccess;
}

}  // namespace

const Blas& emulated_blas() {
  static const Blas b{[](BlasHandle* h) {
                        *h = reinterpret_cast<BlasHandle>(new Handle);
                        return kBlasSuccess;
                      },
                      [](BlasHandle h, cudaStream_t s) {
                        reinterpret_cast<Handle*>(h)->stream = s;
                        return kBlasSuccess;
                      },
                      [](BlasStatus) { return "emulated cuBLAS: invalid value"; }, gemm};
  return b;
}

}  // namespace tg::cuda
