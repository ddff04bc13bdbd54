// NVRTC, the vendor's compiler as a library, opened when it is first needed. It needs no GPU.
#pragma once
#include <string>
#include <vector>

#include "backends/rtc/signature.h"

namespace tg::rtc {

struct NvrtcState {
  int major = 0, minor = 0;  // 0: there is none
  std::string path;          // what was opened
  std::string tried;         // where it was looked for
  explicit operator bool() const { return major > 0; }
};
// Looks for it once per process.
TG_API const NvrtcState& nvrtc();

// Machine code for `arch` ("sm_90a") of the kernel `name`, a C++ expression such as "add" or "scale<float>". `options`
// go to NVRTC as they are. Taken from the disk where it was compiled before. CompileError with the compiler's message;
// DeviceError where there is no NVRTC, saying what to install.
TG_API Image compile_cuda(const Source& source, const std::string& arch);

}  // namespace tg::rtc
