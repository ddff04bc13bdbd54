#include "backends/cuda/check.h"

#include <cstdlib>
#include <string>

#include "backends/cuda/device.h"
#include "core/error.h"

namespace tg::cuda {

namespace {

// The kernels that this thread launched last, the newest first.
constexpr int kRemembered = 4;
thread_local const char* launched[kRemembered] = {};
thread_local uint64_t t_launches = 0;

bool from_a_kernel(cudaError_t e) { return e == cudaErrorIllegalAddress || e == cudaErrorLaunchFailure; }

}  // namespace

// Work runs later than its launch, so the fault of a kernel shows at some later call, of another op: the text says so.
void fail_call(cudaError_t e, const char* what) {
  cudaGetLastError();  // an error that is not sticky is forgotten, so that the next call starts clean
  std::string note;
  if (from_a_kernel(e) && !launch_blocking()) {
    for (const char* k : launched)
      if (k) note += (note.empty() ? "; a kernel launched before is at fault, the last ones: " : ", ") + std::string(k);
    note += note.empty() ? "" : "; TG_CUDA_LAUNCH_BLOCKING=1 finds it";
  }
  fail<DeviceError>("cuda: ", what, ": ", cudaGetErrorString(e), " (", cudaGetErrorName(e), ")", note);
}

// TG_CUDA_LAUNCH_BLOCKING=1 waits for each kernel and thereby names the one at fault, and its op.
bool launch_blocking() {
  static const bool on = [] {
    const char* v = std::getenv("TG_CUDA_LAUNCH_BLOCKING");
    return v && *v && *v != '0';
  }();
  return on;
}

void check_launch(cudaError_t e, const char* kernel) {
  if (launch_blocking() && e == cudaSuccess && !recording_graph()) e = cudaStreamSynchronize(stream());
  if (TG_UNLIKELY(e != cudaSuccess)) fail_call(e, kernel);
  for (int i = kRemembered - 1; i > 0; --i) launched[i] = launched[i - 1];
  launched[0] = kernel;
  ++t_launches;
}
uint64_t launches() { return t_launches; }

}  // namespace tg::cuda
