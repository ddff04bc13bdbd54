// What kernels compiled at run time have instead of the standard library: NVRTC is given no header at all, so that
// users need none. Only what the embedded headers use. The emulation has the real ones.
#pragma once
#ifndef TG_CUDA_EMULATION

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
static_assert(sizeof(int64_t) == 8, "LP64");
#define INT64_MIN (-9223372036854775807L - 1)

namespace std {

template <class A, class B>
constexpr bool is_same_v = false;
template <class A>
constexpr bool is_same_v<A, A> = true;
template <class T>
constexpr bool is_floating_point_v = is_same_v<T, float> || is_same_v<T, double>;
template <class T>
constexpr bool is_integral_v = T(0.5) == T(0);
template <>
constexpr bool is_integral_v<bool> = true;
template <bool C, class A, class B>
struct conditional {
  using type = A;
};
template <class A, class B>
struct conditional<false, A, B> {
  using type = B;
};
template <bool C, class A, class B>
using conditional_t = typename conditional<C, A, B>::type;

template <class To, class From>
constexpr To bit_cast(const From& x) {
  return __builtin_bit_cast(To, x);
}
template <class T>
struct numeric_limits;
template <>
struct numeric_limits<double> {
  static constexpr double infinity() { return bit_cast<double>(0x7ff0000000000000ul); }
  static constexpr double quiet_NaN() { return bit_cast<double>(0x7ff8000000000000ul); }
};
template <>
struct numeric_limits<float> {
  static constexpr float infinity() { return bit_cast<float>(0x7f800000u); }
};

template <class T, unsigned long N>
constexpr unsigned long size(const T (&)[N]) {
  return N;
}
template <class T, unsigned long N>
struct array {
  T v[N];
  constexpr T& operator[](unsigned long i) { return v[i]; }
  constexpr const T& operator[](unsigned long i) const { return v[i]; }
};

// long double is double on a GPU.
#define TG_MATH_1(name)                                                \
  inline double name(double x) { return ::name(x); }                   \
  inline long double name(long double x) { return ::name(double(x)); } \
  inline float name(float x) { return ::name##f(x); }
TG_MATH_1(fabs)
TG_MATH_1(sqrt)
TG_MATH_1(exp)
TG_MATH_1(exp2)
TG_MATH_1(expm1)
TG_MATH_1(log)
TG_MATH_1(log1p)
TG_MATH_1(log2)
TG_MATH_1(log10)
TG_MATH_1(sin)
TG_MATH_1(cos)
TG_MATH_1(tan)
TG_MATH_1(asin)
TG_MATH_1(acos)
TG_MATH_1(atan)
TG_MATH_1(sinh)
TG_MATH_1(cosh)
TG_MATH_1(tanh)
TG_MATH_1(asinh)
TG_MATH_1(acosh)
TG_MATH_1(atanh)
TG_MATH_1(erf)
TG_MATH_1(erfc)
TG_MATH_1(lgamma)
TG_MATH_1(tgamma)
TG_MATH_1(floor)
TG_MATH_1(ceil)
TG_MATH_1(trunc)
TG_MATH_1(rint)
#undef TG_MATH_1
#define TG_MATH_2(name)                                           \
  inline double name(double x, double y) { return ::name(x, y); } \
  inline float name(float x, float y) { return ::name##f(x, y); }
TG_MATH_2(pow)
TG_MATH_2(fmod)
TG_MATH_2(atan2)
TG_MATH_2(hypot)
TG_MATH_2(copysign)
#undef TG_MATH_2

}  // namespace std
#endif

namespace tg::rtc {

// The one parameter of a generated kernel, passed by value; source.h says what the words are.
template <int N>
struct Args {
  uint64_t w[N];
};
// V neighbours that are loaded and stored by as few instructions as there are 16 bytes in them.
template <class T, int V>
struct alignas(V * sizeof(T) < 16 ? V * sizeof(T) : 16) Pack {
  T v[V];
};

}  // namespace tg::rtc
