// Kernels that do the work of several primitives in one pass, see Fused in backends/program.h.
#include "backends/cuda/cuda_backend.h"

namespace tg::cuda {

bool CudaBackend::fused(Fused, const Views&, const Views&, double) { return false; }

}  // namespace tg::cuda
