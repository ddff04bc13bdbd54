#include "backends/cpu/cpu_backend.h"

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "backends/cpu/loops.h"
#include "backends/cpu/stream.h"
#include "core/pool.h"

namespace tg {
namespace cpu {
namespace {

const Loops& choose() {
#ifndef TG_ISA_BASE_ONLY
  const char* env = std::getenv("TG_CPU_ISA");
  const std::string_view wish = env ? env : "avx512";
  TG_CHECK(wish == "base" || wish == "avx2" || wish == "avx512", ValueError,
           "TG_CPU_ISA: expected base, avx2 or avx512, got ", wish);
  if (const Loops* l = wish == "avx512" ? loops_of("avx512") : nullptr) return *l;
  if (const Loops* l = wish != "base" ? loops_of("avx2") : nullptr) return *l;
#endif
  return base::table();
}

}  // namespace

const Loops* loops_of(std::string_view isa) {
#ifndef TG_ISA_BASE_ONLY
  const bool has2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool has512 = has2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (isa == "avx512") return has512 ? &avx512::table() : nullptr;
  if (isa == "avx2") return has2 ? &avx2::table() : nullptr;
#endif
  return isa == "base" ? &base::table() : nullptr;
}

const Loops& loops() {
  static const Loops& l = choose();
  return l;
}

void CpuBackend::copy_bytes(void* dst, const void* src, size_t n) {
  const bool stream = kCanStream && int64_t(n) >= kStreamed;
  parallel_for(int64_t(n), int64_t(1) << 18, [&](int64_t b, int64_t e) {
    char* to = static_cast<char*>(dst) + b;
    const char* from = static_cast<const char*>(src) + b;
    if (!stream) return void(std::memcpy(to, from, size_t(e - b)));
    stream_bytes(to, from, e - b);
    stream_end();
  });
}

}  // namespace cpu

Backend& cpu_backend() {
  static cpu::CpuBackend b;
  return b;
}

}  // namespace tg
