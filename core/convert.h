// The half types as stored, and conversions between storage types and compute types. Kernels compiled at run time
// contain this text (backends/rtc), so it uses nothing but what their prelude has.
#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#include "core/device_code.h"

namespace tg {

// IEEE binary16 as stored; arithmetic happens in float32.
struct Half {
  uint16_t bits = 0;
};
// The upper half of a float32 as stored; arithmetic happens in float32.
struct BFloat16 {
  uint16_t bits = 0;
};

// Round to nearest even; NaN stays NaN (quiet). Branch-light so that loops over it vectorise.
TG_HD inline BFloat16 to_bf16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  uint32_t nan = (u >> 16) | 0x40u;
  return {static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}
TG_HD inline float from_bf16(BFloat16 h) { return std::bit_cast<float>(uint32_t(h.bits) << 16); }

// Round to nearest even, overflow to inf, subnormals kept.
TG_HD inline Half to_half(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  uint32_t sign = (u >> 16) & 0x8000u;
  uint32_t a = u & 0x7fffffffu;
  // normal result: rebias the exponent (127 -> 15) and round away the low 13 bits
  uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // subnormal result: adding 0.5 (exponent 126) lines the bits up so that the FPU rounds
  uint32_t sub = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;
  uint32_t special = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
  uint32_t r = a < 0x38800000u ? sub : (a >= 0x477ff000u ? special : normal);
  return {static_cast<uint16_t>(sign | r)};
}
TG_HD inline float from_half(Half h) {
  uint32_t sign = uint32_t(h.bits & 0x8000u) << 16;
  uint32_t a = h.bits & 0x7fffu;
  uint32_t normal = (a << 13) + 0x38000000u;
  uint32_t special = (a << 13) | 0x7f800000u;
  uint32_t sub = std::bit_cast<uint32_t>(float(int32_t(a)) * 0x1p-24f);
  uint32_t r = a < 0x400u ? sub : (a >= 0x7c00u ? special : normal);
  return std::bit_cast<float>(sign | r);
}

// Value conversion between storage types and compute types (float, double, int64).
// Float to integer follows C++ within range and never is undefined outside of it.
template <class To, class From>
TG_HD inline To convert(From x) {
  if constexpr (std::is_same_v<From, Half>)
    return convert<To>(from_half(x));
  else if constexpr (std::is_same_v<From, BFloat16>)
    return convert<To>(from_bf16(x));
  else if constexpr (std::is_same_v<To, Half>)
    return to_half(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, BFloat16>)
    return to_bf16(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, bool>)
    return x != From(0);
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // through int64 with saturation tests, then wrap like PyTorch's x86 conversion
    bool ok = x >= From(-0x1p63) && x < From(0x1p63);
    return static_cast<To>(ok ? static_cast<int64_t>(x) : INT64_MIN);
  } else
    return static_cast<To>(x);
}

}  // namespace tg
