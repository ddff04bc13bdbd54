// Errors of CUDA calls as typed errors that name the call and the op at work.
#pragma once
#ifdef TG_CUDA_EMULATION
#include "backends/cuda/emu/runtime_api.h"
#else
#include <cuda_runtime_api.h>
#endif

#include <cstdint>

#include "core/api.h"

namespace tg::cuda {

[[noreturn]] void fail_call(cudaError_t e, const char* what);

inline void check(cudaError_t e, const char* what) {
  if (TG_UNLIKELY(e != cudaSuccess)) fail_call(e, what);
}
// `kernel` is a name that lives as long as the process.
void check_launch(cudaError_t e, const char* kernel);
// The same for work that a library of the vendor queues, or the replay of a graph: not counted, but named by errors.
void note_work(const char* call);
bool launch_blocking();
uint64_t launches();  // by this thread so far

}  // namespace tg::cuda
