// The scalar functions the rows of core/pointwise.def name, for float, double and int64_t.
//
// Linkage. The CPU kernels include this file once per instruction set and end up in one library. An ordinary inline
// function would be merged by the linker, and the copy it keeps could hold instructions an older processor lacks. So
// every function here is static: each translation unit has its own.
//
// float. exp, log, tanh, sin, cos, erf, expm1, log1p and what is built of them compute in double with polynomials
// (relative error 2e-10 to 3e-9) and round once, which leaves them within 0.55 ULP. They consist of mul, add, div, bit
// casts, 64-bit logic and selects alone, so loops over them vectorise; multiply-adds are fused by `mad` alone
// (-ffp-contract=off). Selects are written `x > hi ? hi : x` so that NaN passes through. The
// remaining float functions go through the double function of the C library. double uses the C library.
//
// int64_t wraps: mul, abs and pow here do so by themselves, plain a + b and -a in the rows by -fwrapv (CMakeLists.txt).
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "backends/scalar_special.h"

namespace tg::sm {

// Dtype rules of the rows, as pointwise.def explains them.
enum class Rule : uint8_t { Same, Arith, Float, Compare, Bits, IntDiv, Where };
// Which compute types a row exists for; the functions of a row need to compile for those only.
constexpr bool rule_has_int(Rule r) { return r != Rule::Float; }
constexpr bool rule_has_float(Rule r) { return r != Rule::Bits; }
template <class T>
constexpr bool rule_has(Rule r) {
  return std::is_integral_v<T> ? rule_has_int(r) : rule_has_float(r);
}

// ---- cores: double in, double out, a little more accurate than float needs

constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kLog2e = 1.4426950408889634074, kLn2 = 0.69314718055994530942, kLog10e = 0.43429448190325182765;
constexpr double kMagic = 0x1.8p52;  // (t + kMagic) - kMagic rounds |t| < 2^51 to the nearest integer, halves to even

// x y + z, in one instruction where there is one. That changes 2^-53 of the result, so a float made of it differs
// between instruction sets for about one argument in 10^8. Logarithm, sine and cosine do without: random numbers are
// made of them, which are the same everywhere.
TG_SM double mad(double x, double y, double z) {
#ifdef __FMA__
  return __builtin_fma(x, y, z);
#else
  return x * y + z;
#endif
}

// (2^r - 1) / r for |r| <= 0.5
TG_SM double exp2_poly(double r) {
  double p = 1.5252720679913915e-5;
  p = mad(p, r, 0.00015461352959819401);
  p = mad(p, r, 0.0013333669537891282);
  p = mad(p, r, 0.0096180569794711108);
  p = mad(p, r, 0.055504107274321926);
  p = mad(p, r, 0.24022650920319593);
  return mad(p, r, 0.69314718058160286);
}
// 2^t = scale * (1 + frac) for |t| <= 1010. The low bits of t + kMagic hold the integer part.
TG_SM void exp2_parts(double t, double& scale, double& frac) {
  double kd = t + kMagic;
  scale = std::bit_cast<double>((std::bit_cast<uint64_t>(kd) + 1023) << 52);
  double r = t - (kd - kMagic);
  frac = r * exp2_poly(r);
}
TG_SM double limit(double x, double bound) {
  x = x > bound ? bound : x;
  return x < -bound ? -bound : x;
}
TG_SM double exp_core(double x) {
  double s, m;
  exp2_parts(limit(x, 700.0) * kLog2e, s, m);
  return mad(s, m, s);
}
TG_SM double exp2_core(double x) {
  double s, m;
  exp2_parts(limit(x, 1000.0), s, m);
  return mad(s, m, s);
}
// Near 0 the scale is exactly 1, so s - 1 = 0 and the relative accuracy of m is kept.
TG_SM double expm1_core(double x) {
  double s, m;
  exp2_parts(limit(x, 700.0) * kLog2e, s, m);
  double y = mad(s, m, s - 1.0);
  return x == 0.0 ? x : y;  // -0
}
TG_SM double tanh_core(double x) {
  double s, m;
  exp2_parts(limit(x, 10.0) * (2.0 * kLog2e), s, m);
  double e = mad(s, m, s - 1.0), y = e / (e + 2.0);
  return x == 0.0 ? x : y;
}
// log y = k ln2 + p for y positive, normal and finite: y = 2^k z, z in [sqrt(1/2), sqrt(2)), p = 2 atanh((z-1)/(z+1)).
TG_SM void log_parts(double y, double& k, double& p) {
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcdull, kOne = 0x3ff0000000000000ull;
  uint64_t u = std::bit_cast<uint64_t>(y) + (kOne - kSqrtHalf);
  k = std::bit_cast<double>((u >> 52) | 0x4330000000000000ull) - (0x1p52 + 1023.0);
  double z = std::bit_cast<double>((u & 0x000fffffffffffffull) + kSqrtHalf);
  double q = (z - 1.0) / (z + 1.0), w = q * q;
  double c = 0.29871839481312617;
  c = c * w + 0.39977537759483821;
  c = c * w + 0.66666776409413325;
  p = 2.0 * q + q * (w * c);
}
// Puts the values of a logarithm outside of (0, inf) in place; `zero` is what maps to -inf.
TG_SM double log_edges(double x, double zero, double y) {
  y = x < kInf ? y : x;
  y = x == zero ? -kInf : y;
  return x < zero ? kNaN : y;
}
TG_SM double log_core(double x) {
  double k, p;
  log_parts(x, k, p);
  return log_edges(x, 0.0, k * kLn2 + p);
}
// Rounding 1 + x loses c, and log(u + c) ~ log u + c / u, where c only matters for u near 1.
TG_SM double log1p_core(double x) {
  double u = 1.0 + x, c = x - (u - 1.0), k, p;
  c = x > 1.0 ? 0.0 : c;
  log_parts(u, k, p);
  double y = (k * kLn2 + p) + c;
  y = x == 0.0 ? x : y;
  return log_edges(x, -1.0, y);
}
// sin r for |r| <= pi/2; r * (1 + ...) rather than r + ... keeps -0.
TG_SM double sin_poly(double r) {
  double z = r * r, p = -2.3888675851453933e-8;
  p = p * z + 2.7525371475423747e-6;
  p = p * z + -0.00019840867963832593;
  p = p * z + 0.008333331106773123;
  p = p * z + -0.16666666626107637;
  return r * (1.0 + z * p);
}
// |x| <= kTrigMax: pi in three parts of 22, 22 and 53 bits, so that the products with k < 2^30 are exact.
constexpr float kTrigMax = 0x1p30f;
TG_SM float sin_core(float xf) {
  double x = xf, kd = x * 0.31830988618379067154 + kMagic, k = kd - kMagic;
  uint64_t sign = std::bit_cast<uint64_t>(kd) << 63;
  double r = ((x - k * 0x1.921fbp+1) - k * 0x1.5110bp-21) - k * 0x1.18469898cc517p-43;
  return float(std::bit_cast<double>(std::bit_cast<uint64_t>(sin_poly(r)) ^ sign));
}
// x = n pi/2 + r with odd n = 2j - 1: cos x = (-1)^j sin r
TG_SM float cos_core(float xf) {
  double x = xf, kd = (x * 0.31830988618379067154 + 0.5) + kMagic, j = kd - kMagic, n = (j + j) - 1.0;
  uint64_t sign = std::bit_cast<uint64_t>(kd) << 63;
  double r = ((x - n * 0x1.921fbp+0) - n * 0x1.5110bp-22) - n * 0x1.18469898cc517p-44;
  return float(std::bit_cast<double>(std::bit_cast<uint64_t>(sin_poly(r)) ^ sign));
}
// erf x = x P(x^2) / Q(x^2) on |x| <= 4, where erf rounds to 1.0f; all coefficients are positive.
TG_SM double erf_core(double x) {
  x = limit(x, 4.0);
  double z = x * x, p = 6.7940424193710869e-6, q = 2.6063296442139477e-7;
  p = mad(p, z, 0.00041135075298392346);
  p = mad(p, z, 0.004226799599933009);
  p = mad(p, z, 0.055751404153859241);
  p = mad(p, z, 0.19288129618041);
  p = mad(p, z, 1.1283791699829853);
  q = mad(q, z, 7.2583417070466374e-5);
  q = mad(q, z, 0.001421365419364939);
  q = mad(q, z, 0.016295991690366081);
  q = mad(q, z, 0.11749775601765505);
  q = mad(q, z, 0.504270032230107);
  q = mad(q, z, 1.0);
  return x * p / q;
}
// erfc z = exp(-z^2) t P(u) for z >= 0 with t = 1 / (1 + z/2) and u = t mapped to [-1, 1]; P is a Chebyshev interpolant
// for z <= 10.5, beyond which the result is 0 in float. This is t P(u).
TG_SM double erfc_scaled(double z) {
  double t = 1.0 / mad(0.5, z > 10.5 ? 10.5 : z, 1.0), u = mad(t, 2.380952380952381, -1.380952380952381);
  double p = -1.7162675472339566e-07;
  p = mad(p, u, -2.1909881212013023e-06);
  p = mad(p, u, 6.185316855985484e-06);
  p = mad(p, u, 1.2578267021278512e-05);
  p = mad(p, u, -7.144593766341675e-05);
  p = mad(p, u, 3.7751221448217705e-06);
  p = mad(p, u, 0.0006252545058900798);
  p = mad(p, u, -0.0006722330562142054);
  p = mad(p, u, -0.0063273517474210506);
  p = mad(p, u, 0.006307953699440523);
  p = mad(p, u, 0.10352099377123121);
  p = mad(p, u, 0.32718793016052994);
  p = mad(p, u, 0.5694087224462933);
  return t * p;
}
TG_SM double erfc_core(double x) {
  double y = exp_core(-x * x) * erfc_scaled(std::fabs(x));
  return x < 0.0 ? 2.0 - y : y;
}

// ---- exponentials, logarithms, trigonometry

// TG_SM_FLOAT(name, expression): the float function, by one of the cores above. A GPU has float functions of its own,
// within 2 ULP, and on most of them arithmetic in double is slow: there the library's function serves, and whoever
// composes functions asks kCores before it calls a core.
#if defined(__CUDACC__) || defined(TG_CUDA_EMULATION)
template <class T>
constexpr bool kCores = false;
#define TG_SM_FLOAT(name, expression) \
  TG_SM float name(float x) { return std::name(x); }
#define TG_SM_LIBM_FLOAT(name) \
  TG_SM float name(float x) { return std::name(x); }
#else
template <class T>
constexpr bool kCores = std::is_same_v<T, float>;
#define TG_SM_FLOAT(name, expression) \
  TG_SM float name(float x) { return expression; }
#define TG_SM_LIBM_FLOAT(name) \
  TG_SM float name(float x) { return float(std::name(double(x))); }
#endif

TG_SM_FLOAT(exp, float(exp_core(x)))
TG_SM double exp(double x) { return std::exp(x); }
TG_SM_FLOAT(exp2, float(exp2_core(x)))
TG_SM double exp2(double x) { return std::exp2(x); }
TG_SM_FLOAT(expm1, float(expm1_core(x)))
TG_SM double expm1(double x) { return std::expm1(x); }
TG_SM_FLOAT(log, float(log_core(x)))
TG_SM double log(double x) { return std::log(x); }
TG_SM_FLOAT(log1p, float(log1p_core(x)))
TG_SM double log1p(double x) { return std::log1p(x); }
TG_SM double log2_core(double x) {
  double k, p;
  log_parts(x, k, p);
  return log_edges(x, 0.0, k + p * kLog2e);
}
TG_SM_FLOAT(log2, float(log2_core(x)))
TG_SM double log2(double x) { return std::log2(x); }
TG_SM_FLOAT(log10, float(log_core(x) * kLog10e))
TG_SM double log10(double x) { return std::log10(x); }
TG_SM_FLOAT(tanh, float(tanh_core(x)))
TG_SM double tanh(double x) { return std::tanh(x); }
TG_SM_FLOAT(erf, float(erf_core(x)))
TG_SM double erf(double x) { return std::erf(x); }
TG_SM_FLOAT(erfc, float(erfc_core(x)))
TG_SM double erfc(double x) { return std::erfc(x); }
TG_SM_FLOAT(sin, std::fabs(x) <= kTrigMax ? sin_core(x) : float(std::sin(double(x))))
TG_SM double sin(double x) { return std::sin(x); }
TG_SM_FLOAT(cos, std::fabs(x) <= kTrigMax ? cos_core(x) : float(std::cos(double(x))))
TG_SM double cos(double x) { return std::cos(x); }

// The C library's double function serves both types.
#define TG_SM_LIBM(name) \
  TG_SM_LIBM_FLOAT(name) \
  TG_SM double name(double x) { return std::name(x); }
TG_SM_LIBM(tan)
TG_SM_LIBM(asin)
TG_SM_LIBM(acos)
TG_SM_LIBM(atan)
TG_SM_LIBM(sinh)
TG_SM_LIBM(cosh)
TG_SM_LIBM(asinh)
TG_SM_LIBM(acosh)
TG_SM_LIBM(atanh)
#undef TG_SM_LIBM

template <class T>
TG_SM T atan2(T y, T x) {
  if constexpr (kCores<T>) return T(std::atan2(double(y), double(x)));
  return std::atan2(y, x);
}
template <class T>
TG_SM T hypot(T a, T b) {
  if constexpr (std::is_same_v<T, double>) return std::hypot(a, b);
  double x = a, y = b, r = std::sqrt(x * x + y * y);  // no overflow: squares of floats fit
  bool inf = (x == kInf) | (x == -kInf) | (y == kInf) | (y == -kInf);
  return T(inf ? kInf : r);
}
// sin(pi x) / (pi x)
template <class T>
TG_SM T sinc(T a) {
  double x = 3.141592653589793 * double(a);
  return x == 0.0 ? T(1) : T(std::sin(x) / x);
}

// ---- arithmetic

template <class T>
TG_SM T mul(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return T(uint64_t(a) * uint64_t(b));
  else
    return a * b;
}
template <class T>
TG_SM T sqrt(T a) {
  return std::sqrt(a);
}
template <class T>
TG_SM T abs(T a) {
  if constexpr (std::is_integral_v<T>)
    return a < 0 ? T(0 - uint64_t(a)) : a;
  else
    return std::fabs(a);
}
// -1, 0, 1; 0 for NaN, as in PyTorch.
template <class T>
TG_SM T sign(T a) {
  return a > T(0) ? T(1) : a < T(0) ? T(-1) : T(0);
}
template <class T>
TG_SM T max_nan(T a, T b) {
  return (a > b) | (a != a) ? a : b;
}
template <class T>
TG_SM T min_nan(T a, T b) {
  return (a < b) | (a != a) ? a : b;
}
template <class T>
TG_SM T fmax(T a, T b) {
  return (a >= b) | (b != b) ? a : b;
}
template <class T>
TG_SM T fmin(T a, T b) {
  return (a <= b) | (b != b) ? a : b;
}
// min(max(a, lo), hi): a NaN anywhere gives NaN, and hi wins where lo > hi.
template <class T>
TG_SM T clamp(T a, T lo, T hi) {
  return min_nan(max_nan(a, lo), hi);
}
template <class T>
TG_SM T copysign(T a, T b) {
  return std::copysign(a, b);
}
// 0 where a is 0, also for b = 0 and b = inf, but not for b = NaN.
template <class T>
TG_SM T xlogy(T a, T b) {
  T y = a * log(b);
  return (a == T(0)) & (b == b) ? T(0) : y;
}
// Each end is met exactly, whichever way the weight rounds.
template <class T>
TG_SM T lerp(T a, T b, T w) {
  T d = b - a;
  return abs(w) < T(0.5) ? a + w * d : b - d * (T(1) - w);
}

// The integer divisions give 0 for a divisor of 0, which the ops reject before; INT64_MIN / -1 wraps to INT64_MIN.
TG_SM int64_t trunc_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  return b == -1 ? int64_t(0 - uint64_t(a)) : a / b;
}
template <class T>
TG_SM T trunc_div(T a, T b) {
  return std::trunc(a / b);
}
TG_SM int64_t fmod(int64_t a, int64_t b) { return (b == 0) | (b == -1) ? 0 : a % b; }
template <class T>
TG_SM T fmod(T a, T b) {
  return std::fmod(a, b);
}
// Sign of the divisor.
template <class T>
TG_SM T remainder(T a, T b) {
  T m = fmod(a, b);
  return m != T(0) && (m < T(0)) != (b < T(0)) ? m + b : m;
}
TG_SM int64_t floor_div(int64_t a, int64_t b) {
  int64_t r = fmod(a, b), q = trunc_div(a, b);
  return r != 0 && (r < 0) != (b < 0) ? q - 1 : q;
}
// From the exact remainder rather than floor(a / b), which is one too large where the quotient rounds up to an integer.
template <class T>
TG_SM T floor_div(T a, T b) {
  T q = a / b;
  if (b == T(0)) return q;
  T m = std::fmod(a, b), d = (a - m) / b;
  if (m != T(0) && (m < T(0)) != (b < T(0))) d -= T(1);
  if (d == T(0)) return std::copysign(T(0), q);
  return std::rint(d);
}

// By squaring, wrapping. A negative exponent gives 0 except for the bases 1 and -1.
TG_SM int64_t pow(int64_t a, int64_t n) {
  if (n < 0) return a == 1 ? 1 : a == -1 ? ((n & 1) ? -1 : 1) : 0;
  uint64_t r = 1, x = uint64_t(a);
  for (; n; n >>= 1, x *= x)
    if (n & 1) r *= x;
  return int64_t(r);
}
template <class T>
TG_SM T pow(T a, T b) {
  if (b == T(2)) return a * a;
  if constexpr (kCores<T>) return T(std::pow(double(a), double(b)));
  return std::pow(a, b);
}

// ---- rounding: integers are their own floor

#define TG_SM_ROUND(name, f)             \
  template <class T>                     \
  TG_SM T name(T a) {                    \
    if constexpr (std::is_integral_v<T>) \
      return a;                          \
    else                                 \
      return f;                          \
  }
TG_SM_ROUND(floor, std::floor(a))
TG_SM_ROUND(ceil, std::ceil(a))
TG_SM_ROUND(trunc, std::trunc(a))
TG_SM_ROUND(round_even, std::rint(a))
#undef TG_SM_ROUND
template <class T>
TG_SM T frac(T a) {
  return a - trunc(a);
}

// ---- sums of exponentials

// Equal operands are told apart because the difference of equal infinities is NaN.
template <class T>
TG_SM T logaddexp(T a, T b) {
  if constexpr (kCores<T>) {
    double m = max_nan(a, b), d = a == b ? 0.0 : std::fabs(double(a) - double(b));
    return float(m + log1p_core(exp_core(-d)));
  } else {
    return max_nan(a, b) + std::log1p(std::exp(a == b ? T(0) : -std::fabs(a - b)));
  }
}
template <class T>
TG_SM T logaddexp2(T a, T b) {
  if constexpr (kCores<T>) {
    double m = max_nan(a, b), d = a == b ? 0.0 : std::fabs(double(a) - double(b));
    return float(m + kLog2e * log1p_core(exp2_core(-d)));
  } else {
    return max_nan(a, b) + T(kLog2e) * std::log1p(std::exp2(a == b ? T(0) : -std::fabs(a - b)));
  }
}

// ---- activations

template <class T>
TG_SM T relu(T a) {
  return a <= T(0) ? T(0) : a;
}
template <class T>
TG_SM T sigmoid(T a) {
  if constexpr (kCores<T>)
    return float(1.0 / (1.0 + exp_core(-double(a))));
  else
    return T(1) / (T(1) + std::exp(-a));
}
// (1 + erf u) / 2 = erfc(-u) / 2, which does not cancel for negative u
template <class T>
TG_SM T gelu_erf(T a) {
  if constexpr (kCores<T>)
    return float(0.5 * a * erfc_core(-0.7071067811865476 * a));
  else
    return T(0.5) * a * std::erfc(T(-0.7071067811865476) * a);
}
// Phi(a) + a phi(a)
template <class T>
TG_SM T gelu_erf_prime(T a) {
  if constexpr (kCores<T>) {
    double x = a, bell = exp_core(-0.5 * x * x), tail = 0.5 * bell * erfc_scaled(0.7071067811865476 * std::fabs(x));
    return float((x > 0.0 ? 1.0 - tail : tail) + x * 0.3989422804014327 * bell);
  } else {
    return T(0.5) * std::erfc(T(-0.7071067811865476) * a) + a * T(0.3989422804014327) * std::exp(T(-0.5) * a * a);
  }
}
// (1 + tanh u) / 2 = sigmoid(2u), which does not cancel for negative u
template <class T>
TG_SM T gelu_tanh(T a) {
  using W = std::conditional_t<kCores<T>, double, T>;
  W x = a, u2 = W(1.5957691216057308) * (x + W(0.044715) * x * x * x);
  if constexpr (kCores<T>)
    return float(x / (1.0 + exp_core(-u2)));
  else
    return x / (T(1) + std::exp(-u2));
}
// s + x s', s = sigmoid(2u): s (1 + x (1 - s) 2u'). It is 0 or 1 to the last bit beyond the bound, where squares of x
// could overflow.
template <class T>
TG_SM T gelu_tanh_prime(T a) {
  using W = std::conditional_t<kCores<T>, double, T>;
  constexpr W bound = 30;
  W x = a > bound ? bound : a < -bound ? -bound : a;
  W square = x * x, u2 = W(1.5957691216057308) * (x + W(0.044715) * x * square), s;
  if constexpr (kCores<T>)
    s = 1.0 / (1.0 + exp_core(-u2));
  else
    s = W(1) / (W(1) + std::exp(-u2));
  return T(s * (W(1) + x * (W(1) - s) * W(1.5957691216057308) * (W(1) + W(0.134145) * square)));
}
// With e = exp x: tanh(log(1 + e)) = n / (n + 2), n = e (e + 2); beyond the bound it is 1 and e^2 would overflow.
template <class T>
TG_SM T mish(T a) {
  using W = std::conditional_t<kCores<T>, double, T>;
  constexpr W bound = sizeof(W) == 8 ? 300 : 40;
  W x = a, z = x > bound ? bound : x, e;
  if constexpr (kCores<T>)
    e = exp_core(z);
  else
    e = std::exp(z);
  W n = e * (e + W(2));
  return T(x * (n / (n + W(2))));
}
template <class T>
TG_SM T softplus(T a, T beta, T threshold) {
  // exp(z) overflows where the logarithm does not
  T z = a * beta, y;
  if constexpr (kCores<T>) {
    double w = double(a) * beta;
    y = float(((w > 0.0 ? w : 0.0) + log1p_core(exp_core(-std::fabs(w)))) / beta);
  } else {
    y = ((z > T(0) ? z : T(0)) + std::log1p(std::exp(-std::fabs(z)))) / beta;
  }
  return z > threshold ? a : y;
}
template <class T>
TG_SM T logsigmoid(T a) {
  T m = a < T(0) ? a : T(0);
  if constexpr (kCores<T>)
    return float(m - log1p_core(exp_core(-std::fabs(double(a)))));
  else
    return m - std::log1p(std::exp(-std::fabs(a)));
}

// ---- tests and bits

template <class T>
TG_SM bool isposinf(T a) {
  if constexpr (std::is_integral_v<T>)
    return false;
  else
    return a == std::numeric_limits<T>::infinity();
}
TG_SM bool signbit(float a) { return std::bit_cast<int32_t>(a) < 0; }
TG_SM bool signbit(double a) { return std::bit_cast<int64_t>(a) < 0; }
TG_SM bool signbit(int64_t a) { return a < 0; }

// The float forms exist only so that a row compiles for every type: no program reaches them.
#define TG_SM_BITS(name, expr)                               \
  template <class T>                                         \
  TG_SM T name([[maybe_unused]] T a, [[maybe_unused]] T b) { \
    if constexpr (std::is_integral_v<T>)                     \
      return expr;                                           \
    else                                                     \
      return T(0);                                           \
  }
TG_SM_BITS(bit_and, a& b)
TG_SM_BITS(bit_or, a | b)
TG_SM_BITS(bit_xor, a ^ b)
// A count outside of 0 ... 63 shifts everything out.
TG_SM_BITS(shl, uint64_t(b) > 63 ? 0 : T(uint64_t(a) << b))
TG_SM_BITS(shr, a >> (uint64_t(b) > 63 ? 63 : b))
#undef TG_SM_BITS
template <class T>
TG_SM T bit_not([[maybe_unused]] T a) {
  if constexpr (std::is_integral_v<T>)
    return ~a;
  else
    return T(0);
}

}  // namespace tg::sm
