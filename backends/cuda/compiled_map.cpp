#include "backends/cuda/compiled_map.h"

#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "backends/cuda/device.h"
#include "backends/cuda/kernels.h"
#include "backends/rtc/loaded.h"
#include "backends/rtc/nvrtc.h"
#include "backends/rtc/source.h"

namespace tg::cuda {
namespace {

struct Compiled {
  std::mutex mutex;
  std::unordered_map<std::string, void*> kernels;  // by device and rtc::map_key
};
Compiled& compiled() {
  static auto* c = new Compiled;
  return *c;
}

// TG_CUDA_RTC=0 interprets every program. The emulation does so unless it is 1: its compiler takes a second per kernel.
bool wanted() {
  static const bool on = [] {
    const char* v = std::getenv("TG_CUDA_RTC");
#ifdef TG_CUDA_EMULATION
    return v && *v == '1';
#else
    return !(v && *v == '0');
#endif
  }();
#ifdef TG_CUDA_EMULATION
  return on;
#else
  return on && rtc::nvrtc();
#endif
}

}  // namespace

bool compiled_map(int device, const Program& p, const Views& ins, const Views& outs) {
  if (!wanted()) return false;
  rtc::MapCall call = rtc::map_call(p, ins, outs);
  const std::string key = str(device, ':', rtc::map_key(p, ins, outs, call.form));
  void* kernel;
  {
    Compiled& c = compiled();
    std::lock_guard lock(c.mutex);
    void*& slot = c.kernels[key];
    if (!slot) {
      // Same arithmetic as the CPU: nothing is contracted.
      const rtc::Source source{"tg::program::program",
                               rtc::map_kernel("program", p, ins, outs, call.form),
                               {"--device-as-default-execution-space", "--fmad=false"},
                               rtc::device_text()};
      slot = rtc::load(source, device).handle;
    }
    kernel = slot;
  }
  if (call.words[0] == 0) return true;
  const unsigned grid[] = {unsigned(call.blocks), 1, 1}, block[] = {rtc::kBlock, 1, 1};
  void* args[] = {call.words.data()};
  launch_kernel(kernel, grid, block, 0, stream(), args);
  return true;
}

}  // namespace tg::cuda
