// Special functions of the rows: lgamma, digamma, polygamma, erfinv. Sums that cancel are formed in long double, which
// has 11 more bits on x86 (elsewhere it may be double, and a few units in the last place are lost).
// Static like everything in scalar_math.h, for the reason given there.
#pragma once
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <type_traits>

#include "core/device_code.h"

// Small functions must be inlined for their loops to vectorise; large ones are left to the compiler.
#ifdef __CUDACC__
#pragma nv_diag_suppress 20208  // long double is double there, as said above
#define TG_SM [[maybe_unused]] TG_HD static __forceinline__
#else
#define TG_SM [[maybe_unused, gnu::always_inline]] static inline
#endif
#define TG_SM_LARGE [[maybe_unused]] TG_HD static inline

namespace tg::sm {

// std::lgamma may write the global `signgam`, a data race between threads; the reentrant form does not.
TG_SM_LARGE double lgamma(double x) {
#if defined(__GLIBC__) && !defined(__CUDA_ARCH__)
  int sign;
  return ::lgamma_r(x, &sign);
#else
  return std::lgamma(x);
#endif
}
TG_SM_LARGE float lgamma(float x) { return float(lgamma(double(x))); }

// digamma for x > 0. Within 1/4 of the root x0 = 1.4616... the Taylor series about x0 (the coefficients are
// polygamma(n, x0) / n!), since differences would cancel there. Otherwise psi(x) = psi(x + n) - sum 1/(x + k) up to
// x >= 10, then the asymptotic series ln x - 1/(2x) - sum B_2k / (2k x^2k).
TG_SM_LARGE long double digamma_positive(long double x) {
  constexpr long double kRoot = 0x1.762d86356be3fp+0, kRootLow = 9.549995429965697e-17;
  constexpr long double kTaylor[] = {
      0.967672245447621170427L,    -0.442763168983592106093L,   0.258499760955651010624L,
      -0.163942705442406527504L,   0.107824050691262365757L,    -0.0721995612564547109261L,
      0.0488042881641431072251L,   -0.0331611264748473592923L,  0.0225976482322181046596L,
      -0.0154247659049489591388L,  0.0105387916166121753881L,   -0.00720453438635686824097L,
      0.00492678139572985344635L,  -0.00336980165543932808279L, 0.00230512632673492783694L,
      -0.00157693677143019725927L, 0.00107882520191629658069L,  -0.000738070938996005129566L,
      0.000504953265834602035177L, -0.000345468025106307699556L};
  constexpr long double kBernoulli[] = {1.0L / 12,  -1.0L / 120,     1.0L / 252, -1.0L / 240,
                                        1.0L / 132, -691.0L / 32760, 1.0L / 12,  -3617.0L / 8160};
  long double d = (x - kRoot) - kRootLow;
  if (d > -0.25L && d < 0.25L) {
    long double y = 0;
    for (int i = int(std::size(kTaylor)) - 1; i >= 0; --i) y = y * d + kTaylor[i];
    return y * d;
  }
  long double below = 0;
  for (; x < 10; x += 1) below += 1 / x;
  long double w = 1 / (x * x), tail = 0;
  for (int i = int(std::size(kBernoulli)) - 1; i >= 0; --i) tail = (tail + kBernoulli[i]) * w;
  return std::log(x) - 0.5L / x - tail - below;
}
// Poles: -inf at +0, inf at -0, NaN at the negative integers, as in PyTorch. Below 0 by reflection.
TG_SM_LARGE double digamma(double x) {
  constexpr long double kPi = 3.14159265358979323846L;
  if (x == 0.0) return std::copysign(std::numeric_limits<double>::infinity(), -x);
  if (!(x < 0.0)) return x == std::numeric_limits<double>::infinity() ? x : double(digamma_positive(x));
  double r = x - std::rint(x);  // cot has period 1 in x: reduce before the product with pi rounds
  if (r == 0.0 || r != r) return std::numeric_limits<double>::quiet_NaN();
  return double(digamma_positive(1 - (long double)x) - kPi / std::tan(kPi * r));
}
TG_SM_LARGE float digamma(float x) { return float(digamma(double(x))); }

// x^-n by squaring, n >= 0.
TG_SM_LARGE long double inverse_power(long double x, double n) {
  long double p = 1;
  for (uint64_t e = n < 0x1p62 ? uint64_t(n) : uint64_t(1) << 62; e; e >>= 1, x *= x)
    if (e & 1) p *= x;
  return 1 / p;
}
// Hurwitz zeta: sum of (q + k)^-s over k >= 0, for whole s > 1 and q > 0, by the Euler-Maclaurin formula.
TG_SM_LARGE long double hurwitz_zeta(double s, long double q) {
  constexpr double kB[] = {0.08333333333333333,    -0.001388888888888889,   3.306878306878307e-05,
                           -8.267195767195768e-07, 2.08767569878681e-08,    -5.284190138687493e-10,
                           1.3382536530684679e-11, -3.3896802963225827e-13, 8.586062056277845e-15,
                           -2.174868698558062e-16, 5.5090028283602295e-18,  -1.3954464685812522e-19};  // B_2j / (2j)!
  long double head = 0;
  for (int k = 0; k < 12; ++k) {
    long double t = inverse_power(q + k, s);
    head += t;
    if (t < head * 1e-20L) return head;
  }
  long double a = q + 12, p = inverse_power(a, s), tail = p * a / (s - 1) + 0.5L * p;
  long double f = s * p / a;  // s (s+1) ... (s+2j) a^(-s-2j-1)
  for (int j = 0; j < 12; ++j) {
    long double t = kB[j] * f;
    tail += t;
    if (std::fabs(t) <= tail * 1e-20L) break;
    f *= (s + 2 * j + 1) / a * ((s + 2 * j + 2) / a);
  }
  return head + tail;
}
// The same sum for negative q that is no integer, in constant time: the sum over all integers has period 1 in q, and
// what it has too much are powers of q - j, which reflect to positive arguments. `even` tells the parity of s.
TG_SM_LARGE long double hurwitz_zeta_negative(double s, long double q, bool even) {
  long double f = q - std::floor(q);
  long double below = hurwitz_zeta(s, 1 - f) - hurwitz_zeta(s, 1 - q);
  return hurwitz_zeta(s, f) + (even ? below : -below);
}
// n-th derivative of digamma, (-1)^(n+1) n! zeta(n + 1, x); NaN unless n is a whole number >= 0.
TG_SM_LARGE double polygamma(double n, double x) {
  if (n == 0.0) return digamma(x);
  if (!(n > 0.0) || n != std::floor(n)) return std::numeric_limits<double>::quiet_NaN();
  bool odd = std::fmod(n, 2.0) == 1.0;
  double z;
  if (x > 0.0)
    z = x == std::numeric_limits<double>::infinity() ? 0.0 : hurwitz_zeta(n + 1.0, x);
  else if (x == std::floor(x))
    z = std::numeric_limits<double>::infinity();
  else
    z = hurwitz_zeta_negative(n + 1.0, x, odd);
  double y = double(std::tgamma((long double)n + 1) * z);
  return odd ? y : -y;
}
TG_SM_LARGE float polygamma(float n, float x) { return float(polygamma(double(n), double(x))); }

// Solves erf x = y by Halley's method from Winitzki's approximation. Beyond 1/2 it solves erfc x = 1 - y instead,
// which is exact there and keeps the digits erf lacks near 1.
TG_SM_LARGE double erfinv(double y) {
  constexpr double kHalfSqrtPi = 0.88622692545275801365, kA = 0.147, kPi = 3.14159265358979323846;
  double a = std::fabs(y);
  if (!(a < 1.0))
    return a == 1.0 ? std::copysign(std::numeric_limits<double>::infinity(), y)
                    : std::numeric_limits<double>::quiet_NaN();
  double x = a * kHalfSqrtPi;
  if (a > 1e-4) {
    double l = std::log1p(-a * a), b = 2.0 / (kPi * kA) + 0.5 * l;
    x = std::sqrt(std::sqrt(b * b - l / kA) - b);
  }
  for (int i = 0; i < 3; ++i) {
    double e = a > 0.5 ? (1.0 - a) - std::erfc(x) : std::erf(x) - a;
    double d = e * kHalfSqrtPi * std::exp(x * x);
    x -= d / (1.0 + x * d);
  }
  return std::copysign(x, y);
}
TG_SM_LARGE float erfinv(float y) { return float(erfinv(double(y))); }

}  // namespace tg::sm
