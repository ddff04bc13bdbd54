// Element-wise functions of integers (gcd, lcm) and of the bits of floating-point numbers (nextafter, frexp).
#include "ops/fast_path.h"
#include "ops/pointwise.h"

namespace tg {
namespace {

struct CommonPair {
  Tensor a, b;
};
// Both operands in their common type and size.
CommonPair common(const char* op, const Tensor& a, const Tensor& b, bool floats) {
  const Value v[] = {Value(a), Value(b)};
  DType p = promoted_dtype({v, 2});
  TG_CHECK(floats ? is_float(p) : is_int(p), DTypeError, op, ": expected ", floats ? "floating-point" : "integer",
           " tensors; input=", describe(a), ", other=", describe(b));
  Dims sizes = broadcast_shapes(op, a.sizes(), b.sizes());
  return {expand(narrow_to(a, p), sizes), expand(narrow_to(b, p), sizes)};
}

// ---- integers

// Euclid's algorithm on all elements at once: at most 92 rounds for 64 bits.
Tensor gcd_body(const Tensor& input, const Tensor& other) {
  auto [a, b] = common("gcd", input, other, false);
  while (b.numel() > 0 && any(b).item<bool>()) {
    Tensor done = eq(b, 0), rest = where(done, 0, fmod(a, where(done, 1, b)));
    a = where(done, a, b);
    b = rest;
  }
  return abs(a);
}
Tensor lcm_body(const Tensor& input, const Tensor& other) {
  auto [a, b] = common("lcm", input, other, false);
  Tensor d = gcd(a, b);
  return abs(mul(trunc_divide(a, where(eq(d, 0), 1, d)), b));
}

// ---- bits of floating-point numbers

DType bits_of(DType t) { return itemsize(t) == 8 ? DType::I64 : itemsize(t) == 4 ? DType::I32 : DType::I16; }

// Positive numbers are ordered as their bits are, negative ones the other way round.
Tensor nextafter_body(const Tensor& input, const Tensor& other) {
  auto [a, b] = common("nextafter", input, other, true);
  Tensor bits = view(contiguous(a), bits_of(a.dtype()));
  Tensor away = eq(gt(b, a), gt(a, 0)), moved = view(narrow_to(bits + where(away, 1, -1), bits.dtype()), a.dtype());
  Tensor smallest = view(ones(a.sizes(), bits.dtype(), a.device()), a.dtype());
  Tensor y = where(eq(a, 0), where(gt(b, 0), smallest, neg(smallest)), moved);
  return where(logical_or(isnan(a), isnan(b)), a + b, where(eq(a, b), b, y));
}

// Exponents are read in float64, where no value of the narrower types is subnormal.
std::tuple<Tensor, Tensor> frexp_body(const Tensor& x) {
  TG_CHECK(is_float(x.dtype()), DTypeError, "frexp: expected a floating-point tensor; input=", describe(x));
  Tensor wide = contiguous(narrow_to(detach(x), DType::F64));
  Tensor tiny = lt(abs(wide), 0x1p-1022), normal = where(tiny, wide * 0x1p54, wide);
  Tensor biased = bitwise_and(bitwise_right_shift(view(normal, DType::I64), 52), 0x7ff);
  Tensor e = biased - where(tiny, 1022 + 54, 1022);
  e = where(logical_or(eq(wide, 0), logical_not(isfinite(wide))), 0, e);
  Tensor half = bitwise_right_shift(e, 1), rest = e - half;  // 2^e may overflow, its square root does not
  Tensor wide_x = narrow_to(x, DType::F64);
  Tensor mantissa = wide_x * exp2(neg(narrow_to(half, DType::F64))) * exp2(neg(narrow_to(rest, DType::F64)));
  return {narrow_to(mantissa, x.dtype()), narrow_to(e, DType::I32)};
}

TG_OP("gcd(Tensor input, Tensor other) -> Tensor", .doc = "Greatest common divisor of integers; gcd(0, 0) is 0.",
      .composite = box<gcd_body>, .flags = kNoGrad | kMakeInplace,
      .samples = "I(3,4, lo=-90, hi=90), I(4, lo=-90, hi=90); I(6, hi=3), I(6, hi=3); I(hi=9), I(3, hi=9); I(0), I(0)");
TG_OP("lcm(Tensor input, Tensor other) -> Tensor", .doc = "Least common multiple of integers; 0 where either is 0.",
      .composite = box<lcm_body>, .flags = kNoGrad | kMakeInplace,
      .samples = "I(3,4, lo=-90, hi=90), I(4, lo=-90, hi=90); I(6, hi=3), I(6, hi=3); I(0), I(0)");
TG_OP("nextafter(Tensor input, Tensor other) -> Tensor",
      .doc = "The floating-point number next to input in the direction of other.", .composite = box<nextafter_body>,
      .flags = kNoGrad | kMakeInplace,
      .samples =
          "C(3,4), C(4); C(3), C(3,1); C(4, lo=0, hi=0), C(4); C(4), C(4, lo=0, hi=0); C(3, lo=1, hi=1), C(3); "
          "C(), C(); C(0), C(0)");
TG_OP("frexp(Tensor input) -> (Tensor mantissa, Tensor exponent)",
      .doc = "mantissa in [0.5, 1) and int32 exponent with input = mantissa * 2^exponent.",
      .composite = box<frexp_body>,
      .samples =
          "T(3,4, lo=0.55, hi=0.95); C(5, lo=-900, hi=900); C(); T(0); C(3, lo=1e-310, hi=1e-308); C(2, lo=0, hi=0)");

}  // namespace
}  // namespace tg
