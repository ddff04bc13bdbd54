// Programs (backends/program.h) as CUDA C++: text that NVRTC compiles without any header. The scalar functions in it
// are those of the CPU backend, taken from the op table and backends/scalar_math.h when the library is built.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "backends/plan/plan.h"

namespace tg::rtc {

// Conversions, Philox and the scalar functions, with what they need of the standard library; every kernel starts with
// it.
TG_API const char* device_text();

inline constexpr int kBlock = 256;  // threads per block

// What a kernel's text depends on, made of a program and its views. The same key gives the same text, whatever the
// sizes, pointers, constants and seeds are: those are arguments.
struct MapForm {
  int ndim = 1;    // axes that are left after merging
  int vector = 1;  // elements per thread and step; more than 1: every view's inner stride is 0 or 1, pointers aligned
  bool wide = false;    // indices need more than 32 bits
  uint32_t single = 0;  // bit k, with vector > 1: view k (inputs first) has inner stride 0
};

// One launch of a program: n elements as `blocks` blocks of kBlock threads, with one parameter of words.size() 64-bit
// words.
struct MapCall {
  MapForm form;
  int64_t blocks = 0;
  std::vector<uint64_t> words;  // n, seed, offset, constants, addresses, sizes, strides (in elements, view by view)
};
// ValueError where a program breaks the rules of backends/backend.h.
TG_API MapCall map_call(const Program& p, const Views& ins, const Views& outs);

// Short text that tells kernels apart: the program without its constants, the dtypes and the form.
TG_API std::string map_key(const Program& p, const Views& ins, const Views& outs, const MapForm& form);

// The kernel `name` alone, to be put after device_text(). Several of them, with different names, make one source.
TG_API std::string map_kernel(const std::string& name, const Program& p, const Views& ins, const Views& outs,
                              const MapForm& form);

}  // namespace tg::rtc
