// What the emulation's cuBLAS and cuBLASLt share.
#pragma once
#include "backends/cuda/blas_lt.h"

namespace tg::cuda {

// Queues the product as plain loops; kBlasSuccess, or an error for sizes that the library refuses.
BlasStatus emulated_product(const BlasProduct& p, cudaStream_t stream);

}  // namespace tg::cuda
