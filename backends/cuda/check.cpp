#include "backends/cuda/check.h"

#include <cstdlib>

#include "backends/cuda/device.h"
#include "core/error.h"

namespace tg::cuda {

void fail_call(cudaError_t e, const char* what) {
  cudaGetLastError();  // an error that is not sticky is forgotten, so that the next call starts clean
  fail<DeviceError>("cuda: ", what, ": ", cudaGetErrorString(e), " (", cudaGetErrorName(e), ")");
}

// Work runs later than its launch, so a fault shows at some later call. TG_CUDA_LAUNCH_BLOCKING=1 waits for each kernel
// and thereby names the right one.
void check_launch(cudaError_t e, const char* kernel) {
  static const bool blocking = [] {
    const char* v = std::getenv("TG_CUDA_LAUNCH_BLOCKING");
    return v && *v && *v != '0';
  }();
  if (blocking && e == cudaSuccess) e = cudaStreamSynchronize(stream());
  if (TG_UNLIKELY(e != cudaSuccess)) fail_call(e, kernel);
}

}  // namespace tg::cuda
