#include "backends/cpu/cpu_backend.h"

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "backends/cpu/loops.h"

namespace tg {
namespace cpu {
namespace {

const Loops& choose() {
#ifndef TG_ISA_BASE_ONLY
  const char* env = std::getenv("TG_CPU_ISA");
  const std::string_view wish = env ? env : "avx512";
  TG_CHECK(wish == "base" || wish == "avx2" || wish == "avx512", ValueError,
           "TG_CPU_ISA: expected base, avx2 or avx512, got ", wish);
  const bool has2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool has512 = has2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (has512 && wish == "avx512") return avx512::table();
  if (has2 && wish != "base") return avx2::table();
#endif
  return base::table();
}

}  // namespace

const Loops& loops() {
  static const Loops& l = choose();
  return l;
}

void CpuBackend::copy_bytes(void* dst, const void* src, size_t n) {
  if (n) std::memcpy(dst, src, n);
}

}  // namespace cpu

Backend& cpu_backend() {
  static cpu::CpuBackend b;
  return b;
}

}  // namespace tg
