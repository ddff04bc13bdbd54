#include "core/dtype.h"

#include <atomic>

#include "core/error.h"

namespace tg {

const char* name(DType t) {
  constexpr const char* k[] = {"bool",  "uint8",   "int8",     "int16",   "int32",
                               "int64", "float16", "bfloat16", "float32", "float64"};
  return k[int(t)];
}

const char* short_name(DType t) {
  constexpr const char* k[] = {"bool", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64"};
  return k[int(t)];
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (a > b) std::swap(a, b);
  if (category(a) != category(b)) return b;
  if (a == DType::U8) return b == DType::I8 ? DType::I16 : b;  // no signed 8-bit type holds 0..255
  if (a == DType::F16 && b == DType::BF16) return DType::F32;
  return b;
}

static std::atomic<DType> g_default{DType::F32};
DType default_dtype() { return g_default.load(std::memory_order_relaxed); }
void set_default_dtype(DType t) {
  TG_CHECK(is_float(t), TypeError, "set_default_dtype: only floating-point types are supported, got ", name(t));
  g_default.store(t, std::memory_order_relaxed);
}

}  // namespace tg
