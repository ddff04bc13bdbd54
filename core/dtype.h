// Element types, their names and PyTorch's promotion rules.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ostream>

#include "core/api.h"
#include "core/convert.h"

namespace tg {

// Order matters: within a category a larger value is the wider type.
enum class DType : uint8_t { Bool, U8, I8, I16, I32, I64, F16, BF16, F32, F64 };
inline constexpr int kNumDTypes = 10;

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

}  // namespace tg
