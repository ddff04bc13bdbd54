// Kernels compiled at run time: images become functions of a device, and are launched.
#include "backends/cuda/kernels.h"

#include <array>
#include <map>
#include <mutex>

#include "backends/cuda/device.h"

namespace tg::cuda {
namespace {

struct LoadedKernel {
  int device;
  std::string name;
  cudaKernel_t kernel;
  size_t shared = 48 << 10;  // what a launch may ask for without saying so before
};

}  // namespace

void* load_kernel(int device, const std::string& image, const std::string& name) {
  DeviceGuard guard(device);
  cudaLibrary_t library;
  check(cudaLibraryLoadData(&library, image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), "cudaLibraryLoadData");
  auto* k = new LoadedKernel{device, name, nullptr};  // as long as the process, like the library
  check(cudaLibraryGetKernel(&k->kernel, library, name.c_str()), "cudaLibraryGetKernel");
  return k;
}

void launch_kernel(void* kernel, const unsigned* grid, const unsigned* block, size_t shared, cudaStream_t s,
                   void** args) {
  auto& k = *static_cast<LoadedKernel*>(kernel);
  DeviceGuard guard(k.device);
  const void* f = reinterpret_cast<const void*>(k.kernel);
  if (shared > k.shared) {
    int most = 0;
    check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, k.device), "cudaDeviceGetAttribute");
    TG_CHECK(shared <= size_t(most), ValueError, shared,
             " bytes of shared memory are asked for, a block of cuda:", k.device, " has at most ", most);
    check(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), "cudaFuncSetAttribute");
    k.shared = shared;
  }
  check_launch(
      cudaLaunchKernel(f, dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]), args, shared, s),
      k.name.c_str());
}

}  // namespace tg::cuda
