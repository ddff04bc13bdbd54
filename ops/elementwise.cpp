// Element-wise composites over the pointwise rows.
#include <cmath>

#include "ops/fast_path.h"
#include "ops/ops.h"
#include "ops/pointwise.h"

namespace tg {
namespace {

// As in PyTorch alpha may not widen the result: no fraction for integers, no bool for numbers.
void check_alpha(const char* op, const Operand& a, const Operand& b, Scalar alpha) {
  auto value = [](const Operand& o) { return o.is_tensor() ? Value(o.tensor()) : Value(o.scalar()); };
  const Value v[] = {value(a), value(b)};
  DType p = promoted_dtype({v, 2});
  TG_CHECK(is_float(p) || !alpha.is_float(), DTypeError, op, ": alpha ", alpha.d(),
           " must be an integer for integer operands; input=", describe(a), ", other=", describe(b));
  TG_CHECK(p == DType::Bool || alpha.kind() != Scalar::Kind::Bool, DTypeError, op,
           ": a bool alpha is for bool operands only; input=", describe(a), ", other=", describe(b));
}
Tensor add_alpha(const Operand& a, const Operand& b, Scalar alpha) {
  check_alpha("add", a, b, alpha);
  return add(a, mul(b, alpha));
}
Tensor sub_alpha(const Operand& a, const Operand& b, Scalar alpha) {
  check_alpha("sub", a, b, alpha);
  return sub(a, mul(b, alpha));
}
Tensor rsub_impl(const Tensor& a, const Operand& b, Scalar alpha) {
  check_alpha("rsub", a, b, alpha);
  return sub(b, mul(a, alpha));
}

TG_OP("add.alpha(Operand input, Operand other, *, Scalar alpha) -> Tensor", .doc = "input + alpha * other.",
      .composite = box<add_alpha>, .flags = kMakeInplace,
      .samples = "T(3,4), T(3,4), alpha=2; T(3,4), T(4), alpha=-0.5");
TG_OP("sub.alpha(Operand input, Operand other, *, Scalar alpha) -> Tensor", .doc = "input - alpha * other.",
      .composite = box<sub_alpha>, .flags = kMakeInplace, .samples = "T(3,4), T(3,4), alpha=2; T(3,4), 1.5, alpha=3");
TG_OP("rsub(Tensor input, Operand other, *, Scalar alpha=1) -> Tensor", .doc = "other - alpha * input.",
      .composite = box<rsub_impl>, .flags = kFunctionOnly,
      .samples = "T(3,4), T(3,4); T(3,4), 2.0; T(3), T(3), alpha=2");

Tensor div_mode(const Operand& a, const Operand& b, std::optional<std::string_view> mode) {
  if (!mode) return div(a, b);
  TG_CHECK(*mode == "floor" || *mode == "trunc", ValueError,
           "div: rounding_mode must be None, 'trunc' or 'floor', got '", *mode, "'");
  return *mode == "floor" ? floor_divide(a, b) : trunc_divide(a, b);
}
TG_OP(
    "div.mode(Operand input, Operand other, *, str? rounding_mode) -> Tensor",
    .doc = "Quotient rounded as asked: None, 'trunc' (towards zero) or 'floor'.", .composite = box<div_mode>,
    .flags = kMakeInplace,
    .samples =
        "T(3,4), T(3,4, lo=0.5, hi=2), rounding_mode=None; I(5, lo=-9, hi=9), I(5, lo=1, hi=4), rounding_mode='floor'; "
        "I(5, lo=-9, hi=9), I(5, lo=1, hi=4), rounding_mode='trunc'");

Tensor clamp_impl(const Operand& x, std::optional<Operand> lo, std::optional<Operand> hi) {
  TG_CHECK(lo || hi, ValueError, "clamp: at least one of min and max must be given");
  if (lo && hi) return clamp_both(x, *lo, *hi);
  return lo ? clamp_min(x, *lo) : clamp_max(x, *hi);
}
TG_OP("clamp(Operand input, Operand? min=None, Operand? max=None) -> Tensor",
      .doc = "Limits the elements to [min, max]; a missing bound is none. NaN stays.", .composite = box<clamp_impl>,
      .flags = kMakeInplace, .aliases = "clip",
      .samples =
          "T(3,4), -0.5, 0.5; T(3,4), min=0.1; T(3,4), max=0.2; T(3,4), T(4, lo=-2, hi=-1), T(3,1, lo=1, hi=2); I(6, "
          "hi=9), 2, 5");

Tensor addcmul_impl(const Tensor& x, const Tensor& a, const Tensor& b, Scalar value) {
  return add(x, value.d() == 1 ? mul(a, b) : mul(mul(a, b), value));
}
Tensor addcdiv_impl(const Tensor& x, const Tensor& a, const Tensor& b, Scalar value) {
  return add(x, mul(div(a, b), value));
}
TG_OP("addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
      .doc = "input + value * tensor1 * tensor2.", .composite = box<addcmul_impl>, .flags = kMakeInplace,
      .samples = "T(3,4), T(3,4), T(3,4); T(3,4), T(4), T(3,1), value=0.5");
TG_OP("addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
      .doc = "input + value * tensor1 / tensor2.", .composite = box<addcdiv_impl>, .flags = kMakeInplace,
      .samples = "T(3,4), T(3,4), T(3,4, lo=0.5, hi=2); T(3,4), T(4), T(3,1, lo=0.5, hi=2), value=0.5");

Tensor nan_to_num_impl(const Tensor& x, double nan, std::optional<double> posinf, std::optional<double> neginf) {
  if (!is_float(x.dtype())) return clone(x);
  double top = x.dtype() == DType::F64    ? 1.7976931348623157e308
               : x.dtype() == DType::F16  ? 65504.0
               : x.dtype() == DType::BF16 ? 3.3895313892515355e38
                                          : 3.4028234663852886e38;
  Tensor y = nan_to_num_all(x, nan, posinf.value_or(top));
  return where(isneginf(x), neginf.value_or(-top), y);
}
TG_OP("nan_to_num(Tensor input, float nan=0.0, float? posinf=None, float? neginf=None) -> Tensor",
      .doc = "Replaces NaN and infinities by numbers (default: 0 and the dtype's extremes).",
      .composite = box<nan_to_num_impl>, .flags = kMakeInplace,
      .samples = "T(3,4); T(3,4), nan=1.0, posinf=2.0, neginf=-2.0");

Tensor logit_impl(const Tensor& x, std::optional<double> eps) {
  Tensor z = eps ? clamp_both(x, *eps, 1 - *eps) : x;
  return log(z / (1.0 - z));
}
TG_OP("logit(Tensor input, float? eps=None) -> Tensor",
      .doc = "log(x / (1 - x)); with eps the input is clamped to [eps, 1 - eps].", .composite = box<logit_impl>,
      .flags = kMakeInplace, .samples = "T(3,4, lo=0.1, hi=0.9); T(3,4, lo=0.1, hi=0.9), eps=0.05");

Tensor mvlgamma_impl(const Tensor& x, int64_t p) {
  TG_CHECK(p >= 1, ValueError, "mvlgamma: p must be at least 1, got ", p, "; input=", describe(x));
  DType t = is_float(x.dtype()) ? x.dtype() : default_dtype();
  Tensor shifts = mul(arange(0, p, 1, DType::F64, x.device()), -0.5);
  Tensor y = sum(lgamma(unsqueeze(narrow_to(x, t), -1) + narrow_to(shifts, t)), -1);
  return y + double(p) * double(p - 1) / 4 * std::log(M_PI);
}
TG_OP("mvlgamma(Tensor input, int p) -> Tensor", .doc = "Logarithm of the multivariate gamma function of dimension p.",
      .composite = box<mvlgamma_impl>, .flags = kMakeInplace,
      .samples = "T(3,4, lo=2, hi=4), 3; T(3, lo=1, hi=4), 1; T(lo=1, hi=3), 2");

Tensor polygamma_method(const Tensor& x, Scalar n) { return polygamma(n, x); }
TG_OP("polygamma.method(Tensor input, Scalar n) -> Tensor", .doc = "n-th derivative of digamma.",
      .composite = box<polygamma_method>, .flags = kMethodOnly | kMakeInplace, .torch = "Tensor.polygamma",
      .samples = "T(3,4, lo=0.5, hi=4), 1; T(3, lo=0.5, hi=4), 2");

Tensor float_power_impl(const Operand& a, const Operand& b) {
  auto wide = [](const Operand& o) { return o.is_tensor() ? cast(o.tensor(), DType::F64) : Tensor(); };
  Tensor x = wide(a), y = wide(b);
  return pow(a.is_tensor() ? Operand(x) : a, b.is_tensor() ? Operand(y) : b);
}
TG_OP("float_power(Operand input, Operand exponent) -> Tensor", .doc = "Power computed and returned in float64.",
      .composite = box<float_power_impl>, .flags = kMakeInplace,
      .samples = "T(3,4, lo=0.5, hi=2), 2; T(3, lo=0.5, hi=2), T(3)");

Tensor round_decimals(const Tensor& x, int64_t decimals) {
  if (!is_float(x.dtype())) {
    TG_CHECK(decimals == 0, DTypeError, "round: decimals=", decimals,
             " needs a floating-point tensor; input=", describe(x));
    return clone(x);
  }
  double k = std::pow(10.0, double(std::abs(decimals)));
  return decimals >= 0 ? div(round(mul(x, k)), k) : mul(round(div(x, k)), k);
}
TG_OP("round.decimals(Tensor input, *, int decimals) -> Tensor",
      .doc = "Rounds to a number of decimals, halves to even.", .composite = box<round_decimals>, .flags = kMakeInplace,
      .samples = "C(3,4), decimals=2; T(3,4, lo=0.1, hi=0.4), decimals=0; T(3,4), decimals=-1");

// The power of a half type may overflow where the product does not: both are computed in float32.
Tensor ldexp_impl(const Tensor& x, const Tensor& e) {
  const Value operands[] = {Value(x), Value(e)};
  DType p = promoted_dtype({operands, 2}), result = is_float(p) ? p : default_dtype(), wide = compute_type(result);
  return narrow_to(narrow_to(x, wide) * exp2(narrow_to(e, wide)), result);
}
TG_OP("ldexp(Tensor input, Tensor other) -> Tensor", .doc = "input * 2^other.", .composite = box<ldexp_impl>,
      .flags = kMakeInplace,
      .samples =
          "T(3,4), I(4, hi=5); T(3), T(3, lo=-2, hi=2); I(3, hi=5), I(3, lo=-2, hi=3); T(), I(3, hi=5); I(3), T()");

std::vector<Tensor> where_indices(const Tensor& cond) { return unbind(nonzero(cond), 1); }
TG_OP("where.indices(Tensor condition) -> Tensor[]", .doc = "Indices of the true elements, one tensor per dimension.",
      .composite = box<where_indices>, .flags = kNoGrad | kFunctionOnly, .samples = "B(3,4); B(5)");

Tensor where_method(const Tensor& x, const Tensor& condition, const Operand& other) {
  return where(condition, x, other);
}
TG_OP("where.method(Tensor input, Tensor condition, Operand other) -> Tensor",
      .doc = "The element of the tensor where condition is true, that of other elsewhere.",
      .composite = box<where_method>, .flags = kMethodOnly, .torch = "Tensor.where",
      .samples = "T(3,4), B(3,4), T(3,4); T(3,4), B(4), 0.5; T(4), B(3,1), T(); I(3, hi=5), B(3), 7; T(), B(), T(2)");

// Sums the axes along which `size` was broadcast to the input's shape.
Tensor sum_to_size_impl(const Tensor& x, IntList size) {
  Dims want = size.dims();
  TG_CHECK(broadcastable_to(want, x.sizes()), ShapeError, "sum_to_size: size ", want,
           " does not broadcast to the input's; input=", describe(x));
  int lead = x.ndim() - want.size();
  Dims axes;
  for (int i = 0; i < x.ndim(); ++i)
    if (i < lead || (want[i - lead] == 1 && x.sizes()[i] != 1)) axes.push_back(i);
  if (axes.empty()) return x;
  Tensor y = sum(x, IntList(axes), true);
  return lead ? reshape(y, want) : y;
}
TG_OP("sum_to_size(Tensor input, int[] size) -> Tensor",
      .doc = "Sum over the dimensions along which `size` broadcasts to the input's.",
      .composite = box<sum_to_size_impl>, .flags = kMethodOnly,
      .samples = "T(3,4), [4]; T(3,4), [3,1]; T(2,3), [2,3]; T(2,3), [1]");

}  // namespace
}  // namespace tg
