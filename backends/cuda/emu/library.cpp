// Images compiled at run time, which are shared objects here (backends/rtc/host.h says what they hold).
#include <elf.h>

#include <map>
#include <mutex>

#include "backends/cuda/emu/block.h"
#include "backends/rtc/host.h"

namespace {

using tg::rtc::EmulatedLaunch;

// What launches a kernel, by the address of its function.
struct Kernels {
  std::mutex mutex;
  std::map<const void*, EmulatedLaunch*> entries;
};
Kernels& kernels() {
  static auto* k = new Kernels;
  return *k;
}

// The bytes of an object in memory: its table of sections is the last thing in it.
size_t image_size(const void* image) {
  const auto& h = *static_cast<const Elf64_Ehdr*>(image);
  return size_t(h.e_shoff) + size_t(h.e_shnum) * h.e_shentsize;
}

}  // namespace

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* image, void*, void*, unsigned, void*, void*,
                                unsigned) {
  const std::string bytes(static_cast<const char*>(image), image_size(image));
  *library = static_cast<cudaLibrary_t>(tg::rtc::open_image(bytes));
  return cudaSuccess;
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  auto* entry = reinterpret_cast<EmulatedLaunch*>(tg::rtc::image_symbol(library, name));
  const void* function = *static_cast<const void* const*>(tg::rtc::image_symbol(library, "tg_kernel_function"));
  std::lock_guard lock(kernels().mutex);
  kernels().entries[function] = entry;
  *kernel = const_cast<cudaKernel_t>(static_cast<const CUkern_st*>(function));
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** args, size_t shared, cudaStream_t s) {
  EmulatedLaunch* entry;
  {
    std::lock_guard lock(kernels().mutex);
    const auto at = kernels().entries.find(kernel);
    if (at == kernels().entries.end()) return cudaErrorInvalidResourceHandle;
    entry = at->second;
  }
  const unsigned g[] = {grid.x, grid.y, grid.z}, b[] = {block.x, block.y, block.z};
  return cudaError_t(entry(args, g, b, shared, s));
}
