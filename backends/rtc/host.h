// The host's compiler in NVRTC's place: the same source as a shared object that the emulation runs on the CPU.
#pragma once
#include <string>

#include "backends/rtc/signature.h"

namespace tg::rtc {

// The C++ compiler that was found: TG_HOST_CXX, or c++, g++, clang++ of PATH; "" if there is none.
TG_API std::string host_compiler();

// A shared object with two symbols: the kernel's parameters, and `tg_emulated_launch` (below), which is Image::name.
// `plugin` is the path of the emulating library, which the object needs. CompileError with the compiler's message;
// DeviceError where there is no compiler.
TG_API Image compile_host(const Source& source, const std::string& plugin);

// A shared object from memory, open for the rest of the process; DeviceError with the loader's reason.
TG_API void* open_image(const std::string& bytes);
// Address in it; DeviceError if it is missing.
TG_API void* image_symbol(void* library, const char* name);

// The text of the emulation's headers.
TG_API const char* emulation_text();

// args: the address of each argument; grid and block: three numbers each. Returns a cudaError_t.
using EmulatedLaunch = int(void* const* args, const unsigned* grid, const unsigned* block, size_t shared, void* stream);

}  // namespace tg::rtc
