// A Python-style number: keeps whether it was a bool, an integer or a float, which is what promotion looks at.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/dtype.h"

namespace tg {

// Borrowed text as an op argument. Unlike std::string_view it is not made from a literal 0, which would make
// conv2d(x, w, b, 1, 0) ambiguous.
struct Str : std::string_view {
  constexpr Str(std::string_view s) : std::string_view(s) {}
  Str(const std::string& s) : std::string_view(s) {}
  template <class T, class = std::enable_if_t<std::is_same_v<std::decay_t<T>, const char*> ||
                                              std::is_same_v<std::decay_t<T>, char*>>>
  constexpr Str(const T& s) : std::string_view(s) {}
};

class Scalar {
 public:
  enum class Kind : uint8_t { Bool, Int, Float };
  constexpr Scalar() = default;  // integer 0
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  constexpr Scalar(T v) {
    if constexpr (std::is_same_v<T, bool>)
      kind_ = Kind::Bool, i_ = v;
    else if constexpr (std::is_integral_v<T>)
      kind_ = Kind::Int, i_ = int64_t(v);
    else
      kind_ = Kind::Float, d_ = double(v);
  }
  constexpr Kind kind() const { return kind_; }
  constexpr bool is_float() const { return kind_ == Kind::Float; }
  constexpr double d() const { return is_float() ? d_ : double(i_); }
  constexpr int64_t i() const { return is_float() ? convert<int64_t>(d_) : i_; }
  constexpr bool b() const { return is_float() ? d_ != 0 : i_ != 0; }
  // The dtype a tensor made from this number has.
  DType dtype() const { return kind_ == Kind::Bool ? DType::Bool : kind_ == Kind::Int ? DType::I64 : default_dtype(); }

 private:
  Kind kind_ = Kind::Int;
  union {
    int64_t i_ = 0;
    double d_;
  };
};

}  // namespace tg
