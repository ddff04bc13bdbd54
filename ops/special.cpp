// Modified Bessel functions of the first kind, orders 0 and 1, plain and scaled by exp(-|x|). Up to |x| = 20 their
// power series, whose terms are all positive; beyond it the asymptotic series, whose smallest term is below 2^-57
// there.
#include <cmath>

#include "ops/fast_path.h"

namespace tg {
namespace {

Tensor wide(const Tensor& x) { return narrow_to(x, DType::F64); }
Tensor rounded(const Tensor& y, const Tensor& x) {
  return narrow_to(y, is_float(x.dtype()) ? x.dtype() : default_dtype());
}

// The polynomial with these coefficients, the constant one first.
Tensor polynomial(const Tensor& x, const std::vector<double>& c) {
  Tensor y = full_like(x, c.back());
  for (size_t i = c.size() - 1; i-- > 0;) y = y * x + c[i];
  return y;
}

// ---- Bessel functions of the first kind, orders 0 and 1, plain and scaled by exp(-|x|). Up to |x| = 20 the power
// series, whose terms are all positive; beyond it the asymptotic series, whose smallest term is below 2^-57 there.

constexpr double kSwitch = 20;

// sum over k of (x^2/4)^k / (k! (k + order)!), to be multiplied by (x/2)^order
std::vector<double> power_series(int order) {
  std::vector<double> c = {1};
  for (int k = 1; k < 48; ++k) c.push_back(c.back() / (double(k) * (k + order)));
  return c;
}
// exp(-x) sqrt(2 pi x) I(x) in powers of 1/x
std::vector<double> asymptotic_series(int order) {
  std::vector<double> c = {1};
  for (int k = 1; k < 30; ++k)
    c.push_back(c.back() * -(4.0 * order * order - (2.0 * k - 1) * (2.0 * k - 1)) / (8.0 * k));
  return c;
}

Tensor bessel(const Tensor& input, int order, bool scaled) {
  Tensor x = wide(input), a = abs(x), near = clamp_max(a, kSwitch), far = clamp_min(a, kSwitch);
  Tensor small = polynomial(square(near * 0.5), power_series(order)) * (scaled ? exp(neg(near)) : ones_like(near));
  if (order == 1) small = small * (near * 0.5);
  Tensor large = polynomial(reciprocal(far), asymptotic_series(order)) * rsqrt(far * (2 * M_PI));
  if (!scaled) large = large * exp(far * 0.5) * exp(far * 0.5);
  Tensor y = where(le(a, kSwitch), small, large);
  y = where(isnan(x), x, where(eq(far, INFINITY), scaled ? 0.0 : INFINITY, y));
  return rounded(order == 1 ? y * sign(x) : y, input);
}
Tensor i0_body(const Tensor& x) { return bessel(x, 0, false); }
Tensor i1_body(const Tensor& x) { return bessel(x, 1, false); }
Tensor i0e_body(const Tensor& x) { return bessel(x, 0, true); }
Tensor i1e_body(const Tensor& x) { return bessel(x, 1, true); }

// y / x with its limit 1/2 at 0, where y is i1 or i1e
Tensor over_x(const Tensor& y, const Tensor& x) {
  Tensor zero = eq(x, 0);
  return where(zero, 0.5, y / where(zero, 1.0, x));
}
Tensor i0_grad(GradCtx& c) { return c.g() * i1(c.x(0)); }
Tensor i1_grad(GradCtx& c) { return c.g() * (i0(c.x(0)) - over_x(c.y(), c.x(0))); }
Tensor i0e_grad(GradCtx& c) { return c.g() * (i1e(c.x(0)) - sign(c.x(0)) * c.y()); }
Tensor i1e_grad(GradCtx& c) {
  Tensor x = c.x(0), y = c.y();
  return c.g() * (i0e(x) - sign(x) * y - over_x(y, x));
}

// ---- erfcx and the normal distribution

constexpr double kRoot2 = 1.4142135623730950488, kRootPi = 1.7724538509055160273;

// exp(x^2) erfc(x): the product up to 8, from there its asymptotic series in 1 / (2 x^2).
Tensor erfcx_body(const Tensor& input) {
  Tensor x = wide(input), near = clamp_max(x, 8.0), far = clamp_min(x, 8.0);
  std::vector<double> c = {1};
  for (int k = 1; k < 20; ++k) c.push_back(c.back() * -(2.0 * k - 1));
  Tensor large = polynomial(0.5 * reciprocal(square(far)), c) / (far * kRootPi);
  return rounded(where(le(x, 8.0), exp(square(near)) * erfc(near), where(isnan(x), x, large)), input);
}
Tensor erfcx_grad(GradCtx& c) { return c.g() * (2.0 * c.x(0) * c.y() - 2.0 / kRootPi); }

Tensor ndtr_body(const Tensor& x) { return 0.5 * erfc(x * (-1 / kRoot2)); }

Tensor log_ndtr_body(const Tensor& input) {
  Tensor x = wide(input), low = clamp_max(x, -1.0), high = clamp_min(x, -1.0);
  Tensor tail = log(0.5 * erfcx(low * (-1 / kRoot2))) - 0.5 * square(low);
  return rounded(where(lt(x, -1.0), tail, where(isnan(x), x, log1p(-0.5 * erfc(high * (1 / kRoot2))))), input);
}
Tensor log_ndtr_grad(GradCtx& c) { return c.g() * (kRoot2 / kRootPi) / erfcx(c.x(0) * (-1 / kRoot2)); }

// erfinv in the middle, Newton's method on log_ndtr(x) = log p in the tails.
Tensor ndtri_body(const Tensor& input) {
  Tensor p = wide(input), upper = gt(p, 0.5), q = where(upper, 1.0 - p, p), target = log(clamp(q, 1e-320, 0.02));
  Tensor tail = neg(sqrt(-2.0 * target));
  for (int i = 0; i < 8; ++i) {
    Tensor slope = (kRoot2 / kRootPi) / erfcx(tail * (-1 / kRoot2));
    tail = tail - (log_ndtr(tail) - target) / slope;
  }
  Tensor low = where(lt(q, 0.02), tail, kRoot2 * erfinv(2.0 * clamp_min(q, 0.02) - 1.0));
  low = where(eq(q, 0.0), -INFINITY, where(ge(q, 0.0), low, NAN));
  return rounded(where(upper, neg(low), low), input);
}
Tensor ndtri_grad(GradCtx& c) { return c.g() * (kRoot2 * kRootPi) * exp(0.5 * square(c.y())); }

Tensor entr_body(const Tensor& x) { return where(lt(x, 0), -INFINITY, neg(xlogy(x, x))); }
// 0 where x is 0, also where the logarithm is infinite; the product there is never formed, so neither is its gradient.
Tensor xlog1py_body(const Operand& x, const Operand& y) {
  Tensor zero = logical_and(eq(x, 0), logical_not(isnan(add(y, 0.0))));
  return where(zero, 0.0, mul(x, log1p(where(zero, 0.0, y))));
}

TG_OP("i0(Tensor input) -> Tensor", .doc = "Modified Bessel function of the first kind of order 0.",
      .primitive = box<i0_body>, .grads = {{in(0), i0_grad}}, .flags = kMakeInplace,
      .samples = "T(3,4); T(); T(0); T(9, lo=-8, hi=8); C(9, lo=-60, hi=60); C(2, lo=600, hi=700)");
TG_OP("i1(Tensor input) -> Tensor", .doc = "Modified Bessel function of the first kind of order 1.",
      .primitive = box<i1_body>, .grads = {{in(0) | out(0), i1_grad}}, .flags = kFunctionOnly, .torch = "special.i1",
      .samples = "T(3,4); T(); T(0); T(9, lo=-8, hi=8); C(9, lo=-60, hi=60); C(2, lo=600, hi=700)");
TG_OP("i0e(Tensor input) -> Tensor", .doc = "exp(-|input|) * i0(input), which does not overflow.",
      .primitive = box<i0e_body>, .grads = {{in(0) | out(0), i0e_grad}}, .flags = kFunctionOnly, .torch = "special.i0e",
      .samples = "T(3,4); T(); T(0); T(9, lo=-8, hi=8); C(9, lo=-60, hi=60); C(2, lo=600, hi=9000)");
TG_OP("i1e(Tensor input) -> Tensor", .doc = "exp(-|input|) * i1(input), which does not overflow.",
      .primitive = box<i1e_body>, .grads = {{in(0) | out(0), i1e_grad}}, .flags = kFunctionOnly, .torch = "special.i1e",
      .samples = "T(3,4); T(); T(0); T(9, lo=-8, hi=8); C(9, lo=-60, hi=60); C(2, lo=600, hi=9000)");

TG_OP("erfcx(Tensor input) -> Tensor", .doc = "exp(input^2) * erfc(input), which stays finite for large input.",
      .primitive = box<erfcx_body>, .grads = {{in(0) | out(0), erfcx_grad}}, .flags = kFunctionOnly,
      .torch = "special.erfcx", .samples = "T(3,4); T(9, lo=-4, hi=30); T(); T(0); C(2, lo=100, hi=1e9)");
TG_OP("ndtr(Tensor input) -> Tensor", .doc = "Distribution function of the standard normal distribution.",
      .composite = box<ndtr_body>, .flags = kFunctionOnly, .torch = "special.ndtr",
      .samples = "T(3,4); T(9, lo=-5, hi=5); T(); I(3, hi=5)");
TG_OP("log_ndtr(Tensor input) -> Tensor", .doc = "Logarithm of ndtr(input), accurate far below 0.",
      .primitive = box<log_ndtr_body>, .grads = {{in(0), log_ndtr_grad}}, .flags = kFunctionOnly,
      .torch = "special.log_ndtr", .samples = "T(3,4); T(9, lo=-40, hi=5); T(); C(3, lo=-1e4, hi=-100)");
TG_OP(
    "ndtri(Tensor input) -> Tensor", .doc = "The x with ndtr(x) = input; NaN outside of [0, 1].",
    .primitive = box<ndtri_body>, .grads = {{out(0), ndtri_grad}}, .flags = kFunctionOnly, .torch = "special.ndtri",
    .samples =
        "T(9, lo=0.1, hi=0.9); C(9, lo=0.001, hi=0.999); C(5, lo=1e-12, hi=1e-9); T(lo=0.2, hi=0.8); C(3, lo=0, hi=0)");
TG_OP("entr(Tensor input) -> Tensor", .doc = "-input * log(input); 0 at 0 and -inf below it.",
      .composite = box<entr_body>, .flags = kFunctionOnly, .torch = "special.entr",
      .samples = "T(3,4, lo=0.1, hi=3); C(4); C(2, lo=0, hi=0); T(lo=1, hi=2)");
TG_OP("xlog1py(Operand input, Operand other) -> Tensor",
      .doc = "input * log1p(other); 0 where input is 0, unless other is NaN.", .composite = box<xlog1py_body>,
      .flags = kFunctionOnly, .torch = "special.xlog1py",
      .samples = "T(3,4), T(4, lo=-0.5, hi=2); T(), T(3, lo=0, hi=2); C(2, lo=0, hi=0), C(2, lo=-1, hi=-1)");

}  // namespace
}  // namespace tg
