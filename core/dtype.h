// Element types, their names and PyTorch's promotion rules.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ostream>

#include "core/api.h"

namespace tg {

// Order matters: within a category a larger value is the wider type.
enum class DType : uint8_t { Bool, U8, I8, I16, I32, I64, F16, BF16, F32, F64 };
inline constexpr int kNumDTypes = 10;

// IEEE binary16 as stored; arithmetic happens in float32.
struct Half {
  uint16_t bits = 0;
};
// The upper half of a float32 as stored; arithmetic happens in float32.
struct BFloat16 {
  uint16_t bits = 0;
};

// Round to nearest even; NaN stays NaN (quiet). Branch-light so that loops over it vectorise.
inline BFloat16 to_bf16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  uint32_t nan = (u >> 16) | 0x40u;
  return {static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}
inline float from_bf16(BFloat16 h) { return std::bit_cast<float>(uint32_t(h.bits) << 16); }

// Round to nearest even, overflow to inf, subnormals kept.
inline Half to_half(float x) {
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
inline float from_half(Half h) {
  uint32_t sign = uint32_t(h.bits & 0x8000u) << 16;
  uint32_t a = h.bits & 0x7fffu;
  uint32_t normal = (a << 13) + 0x38000000u;
  uint32_t special = (a << 13) | 0x7f800000u;
  uint32_t sub = std::bit_cast<uint32_t>(float(int32_t(a)) * 0x1p-24f);
  uint32_t r = a < 0x400u ? sub : (a >= 0x7c00u ? special : normal);
  return std::bit_cast<float>(sign | r);
}

constexpr int64_t itemsize(DType t) {
  constexpr int64_t k[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return k[int(t)];
}
constexpr bool is_float(DType t) { return t >= DType::F16; }
constexpr bool is_half(DType t) { return t == DType::F16 || t == DType::BF16; }
constexpr bool is_int(DType t) { return t >= DType::U8 && t <= DType::I64; }
// 0 bool, 1 integer, 2 floating point: what decides promotion between operands of different rank.
constexpr int category(DType t) { return t == DType::Bool ? 0 : is_int(t) ? 1 : 2; }

// "float32"
TG_API const char* name(DType t);
// "f32", as error messages spell it
TG_API const char* short_name(DType t);
inline std::ostream& operator<<(std::ostream& o, DType t) { return o << name(t); }

// The smallest type both convert to without changing category rules (torch.promote_types).
TG_API DType promote(DType a, DType b);
// torch.can_cast: a value category may only go up.
inline bool can_cast(DType from, DType to) { return category(from) <= category(to); }
// The type of floating-point literals: float32 unless set (torch.set_default_dtype).
TG_API DType default_dtype();
TG_API void set_default_dtype(DType t);

// The C++ type of each dtype and back.
template <DType>
struct CType;
template <class T>
struct DTypeOf;
// clang-format off
#define TG_FOR_DTYPES(X)                                                                     \
  X(Bool, bool) X(U8, uint8_t) X(I8, int8_t) X(I16, int16_t) X(I32, int32_t) X(I64, int64_t) \
  X(F16, Half) X(BF16, BFloat16) X(F32, float) X(F64, double)
// clang-format on
#define TG_X(D, T)                           \
  template <>                                \
  struct CType<DType::D> {                   \
    using type = T;                          \
  };                                         \
  template <>                                \
  struct DTypeOf<T> {                        \
    static constexpr DType value = DType::D; \
  };
TG_FOR_DTYPES(TG_X)
#undef TG_X

// visit(dtype, [&](auto tag) { using T = typename decltype(tag)::type; ... })
template <class T>
struct Tag {
  using type = T;
};
template <class F>
decltype(auto) visit(DType t, F&& f) {
  switch (t) {
#define TG_X(D, T) \
  case DType::D:   \
    return f(Tag<T>{});
    TG_FOR_DTYPES(TG_X)
#undef TG_X
  }
  __builtin_unreachable();
}

// Value conversion between storage types and compute types (float, double, int64).
// Float to integer follows C++ within range and never is undefined outside of it.
template <class To, class From>
inline To convert(From x) {
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
