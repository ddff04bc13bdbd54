#include "backends/rtc/loaded.h"

#include "backends/cuda.h"
#include "backends/rtc/host.h"
#include "backends/rtc/nvrtc.h"

namespace tg::rtc {

std::string architecture(int major, int minor) { return str("sm_", major, minor, major >= 9 ? "a" : ""); }

Loaded load(const Source& source, int device) {
  cuda::Runtime& r = cuda::runtime();
  Image image;
  if (r.emulated()) {
    image = compile_host(source, cuda::probe().plugin_path);
  } else {
    const cuda::DeviceProperties p = r.properties(device);
    image = compile_cuda(source, architecture(p.major, p.minor));
  }
  return {r.kernel_load(device, image.code, image.name), std::move(image.params)};
}

}  // namespace tg::rtc
