// The one place that tells nvcc from the emulation. Kernels are plain CUDA C++ with three spellings of their own:
//
//   TG_LAUNCH((kernel<T, 4>), grid, block, shared_bytes, stream, args...)   instead of <<<>>>
//   TG_SHARED(float, tile, [32][33])                                        instead of __shared__
//   TG_DYNAMIC_SHARED(float, rows)                                          instead of extern __shared__
//
// A launch names all template arguments. Inline assembly has no place outside of a function with a plain twin for the
// emulation. Math functions are those of <cmath>; half types are converted by backends/cuda/element.cuh.
#pragma once
#ifdef __CUDACC__
#include <cuda_runtime.h>

#include <utility>

#define TG_SHARED(T, name, dims) __shared__ __align__(16) T name dims
#define TG_DYNAMIC_SHARED(T, name)                                    \
  extern __shared__ __align__(32) unsigned char tg_dynamic_shared_[]; \
  T* name = reinterpret_cast<T*>(tg_dynamic_shared_)
#define TG_LAUNCH_KERNEL(kernel, grid, block, shared, stream, ...) \
  ::tg::cuda::launch_kernel(&TG_UNPAREN kernel, grid, block, shared, stream, __VA_ARGS__)

namespace tg::cuda {
template <class... P, class... A>
cudaError_t launch_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s, A&&... a) {
  kernel<<<grid, block, shared, s>>>(std::forward<A>(a)...);
  return cudaGetLastError();
}
}  // namespace tg::cuda
#elif defined(TG_CUDA_EMULATION)
#include "backends/cuda/emu/emu.h"
#else
#include <cuda_runtime_api.h>  // host code of the plug-in, compiled by the host's compiler
#endif

#include "backends/cuda/check.h"

#define TG_UNPAREN(...) __VA_ARGS__
#define TG_LAUNCH(kernel, ...) ::tg::cuda::check_launch(TG_LAUNCH_KERNEL(kernel, __VA_ARGS__), #kernel)
