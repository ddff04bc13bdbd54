// Comparing whole tensors.
#include "ops/fast_path.h"

namespace tg {
namespace {

Tensor isclose_impl(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  TG_CHECK(a.dtype() == b.dtype(), DTypeError, "isclose: expected tensors of one dtype, got ", a.dtype(), " and ",
           b.dtype(), "; input=", describe(a), ", other=", describe(b));
  TG_CHECK(rtol >= 0 && atol >= 0, ValueError, "isclose: rtol and atol must not be negative, got ", rtol, " and ",
           atol);
  Tensor same = eq(a, b);
  if (a.dtype() == DType::Bool) return same;
  if (equal_nan && is_float(a.dtype())) same = logical_or(same, logical_and(isnan(a), isnan(b)));
  if (rtol == 0 && atol == 0) return same;
  // In float64 for integers and half types, so that the difference is exact.
  auto wide = [](const Tensor& t) { return t.dtype() == DType::F32 ? t : narrow_to(t, DType::F64); };
  Tensor x = wide(a), y = wide(b), distance = abs(x - y);
  return logical_or(same, logical_and(isfinite(distance), le(distance, add(abs(mul(y, rtol)), atol))));
}
TG_OP("isclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False) -> Tensor",
      .doc = "|input - other| <= atol + rtol * |other|, element by element.", .primitive = box<isclose_impl>,
      .flags = kNoGrad,
      .samples =
          "T(3,4), T(3,4); T(3,4), T(4), rtol=1.0; T(3,4), T(), 0.5, 0.5; I(5, hi=9), I(5, hi=9), 0.3; B(5), B(5)");

bool allclose_impl(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  return all(isclose(a, b, rtol, atol, equal_nan)).item<bool>();
}
TG_OP("allclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False) -> bool",
      .doc = "True if all elements are close (see isclose).", .primitive = box<allclose_impl>, .flags = kNoGrad,
      .samples = "T(3,4), T(3,4); T(3,4), T(3,4), rtol=100.0, atol=100.0; T(0), T(0)");

bool equal_impl(const Tensor& a, const Tensor& b) {
  TG_CHECK(a.device() == b.device(), DeviceError, "equal: expected all tensors on one device; input=", describe(a),
           ", other=", describe(b));
  return a.sizes() == b.sizes() && all(eq(a, b)).item<bool>();
}
TG_OP("equal(Tensor input, Tensor other) -> bool",
      .doc = "True if both have the same sizes and elements (NaN equals nothing).", .primitive = box<equal_impl>,
      .flags = kNoGrad, .samples = "T(3,4), T(3,4); I(1, hi=1), I(1, hi=1); T(3), T(4); T(0), T(0)");

bool is_same_size_impl(const Tensor& a, const Tensor& b) { return a.sizes() == b.sizes(); }
TG_OP("is_same_size(Tensor input, Tensor other) -> bool", .doc = "True if both have the same sizes.",
      .primitive = box<is_same_size_impl>, .flags = kNoGrad | kAnyDevices, .torch = "Tensor.is_same_size",
      .samples = "T(3,4), T(3,4); T(3), T(4)");

}  // namespace
}  // namespace tg
