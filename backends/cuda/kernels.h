// Kernels compiled at run time, as the plug-in loads and launches them.
#pragma once
#include <string>

#include "backends/cuda/check.h"

namespace tg::cuda {

// See Runtime::kernel_load and Runtime::kernel_launch.
void* load_kernel(int device, const std::string& image, const std::string& name);
void launch_kernel(void* kernel, const unsigned* grid, const unsigned* block, size_t shared, cudaStream_t s,
                   void** args);

}  // namespace tg::cuda
