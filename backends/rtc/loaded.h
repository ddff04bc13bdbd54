// From source to a kernel that can be launched on a device, by NVRTC or, under emulation, by the host's compiler.
#pragma once
#include "backends/rtc/signature.h"

namespace tg::rtc {

struct Loaded {
  void* handle = nullptr;  // for cuda::Runtime::kernel_launch; lives as long as the process
  std::vector<Param> params;
};
// CompileError; DeviceError where there is no compiler or the image does not load.
TG_API Loaded load(const Source& source, int device);
// "sm_90a": the architecture to compile for, with the instructions of exactly that device where it has some of its own.
TG_API std::string architecture(int major, int minor);

}  // namespace tg::rtc
