// cuBLAS, opened when it is first needed. Its functions are declared here, so that neither its headers nor the library
// have to be there when the plug-in is built; the numbers are those of cublas_api.h and library_types.h.
#pragma once
#include <cstdint>

#include "backends/cuda/check.h"

namespace tg::cuda {

using BlasHandle = struct cublasContext*;
enum BlasStatus : int { kBlasSuccess = 0 };
enum BlasOperation : int { kBlasN = 0, kBlasT = 1 };
enum BlasType : int { kBlasF32 = 0, kBlasF64 = 1, kBlasF16 = 2, kBlasBF16 = 14 };
enum BlasCompute : int { kComputeF32 = 68, kComputeF64 = 70, kComputeTF32 = 77 };

struct Blas {
  BlasStatus (*create)(BlasHandle*);
  BlasStatus (*set_stream)(BlasHandle, cudaStream_t);
  const char* (*status_string)(BlasStatus);
  // cublasGemmStridedBatchedEx_64: column-major C = alpha op(A) op(B) + beta C, `batch` times.
  BlasStatus (*gemm)(BlasHandle, BlasOperation, BlasOperation, int64_t m, int64_t n, int64_t k, const void* alpha,
                     const void* a, BlasType, int64_t lda, long long stride_a, const void* b, BlasType, int64_t ldb,
                     long long stride_b, const void* beta, void* c, BlasType, int64_t ldc, long long stride_c,
                     int64_t batch, BlasCompute, int algorithm);
};

// nullptr if cuBLAS is not there; own kernels serve then.
const Blas* blas();
// Before an own kernel makes a product for want of cuBLAS: tells the user once what to install.
void warn_without_blas();
// The calling thread's handle of the current device, on its current stream.
BlasHandle blas_handle(const Blas& b);
void check_blas(const Blas& b, BlasStatus s, const char* what);

}  // namespace tg::cuda
