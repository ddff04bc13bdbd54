// The scalar functions, half conversions and loop planning on their own.
#include <doctest/doctest.h>

#include "backends/plan/plan.h"
#include "backends/scalar_math.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

const double kInf = sm::kInf, kNaN = sm::kNaN;

// Steps of float between f(x) and the double reference rounded to nothing.
template <class F, class G>
double worst_steps(F f, G exact, float lo, float hi) {
  double worst = 0;
  uint32_t a = std::bit_cast<uint32_t>(lo), b = std::bit_cast<uint32_t>(hi);
  for (uint64_t u = a; u <= b; u += 997) {
    float x = std::bit_cast<float>(uint32_t(u));
    for (float y : {x, -x}) {
      double want = exact(double(y));
      if (!std::isfinite(want) || std::fabs(want) > 3.4e38) continue;
      worst = std::max(worst, steps_apart(DType::F32, f(y), want));
    }
  }
  return worst;
}

// Value of a half or bfloat16 pattern by arithmetic: sign, exponent and fraction taken apart.
double by_arithmetic(uint32_t bits, int fraction_bits, int bias) {
  uint32_t top = (1u << (15 - fraction_bits)) - 1;
  uint32_t e = bits >> fraction_bits & top, f = bits & ((1u << fraction_bits) - 1);
  double v = e == top ? (f ? kNaN : kInf)
             : e == 0 ? std::ldexp(double(f), 1 - bias - fraction_bits)
                      : std::ldexp(double(f) + double(1u << fraction_bits), int(e) - bias - fraction_bits);
  return bits >> 15 ? -v : v;
}

template <class From, class To>
int64_t check_half(From from, To to, int fraction_bits, int bias) {
  int64_t n = 0;
  for (uint32_t b = 0; b < 0x8000; ++b)
    for (uint32_t sign : {0u, 0x8000u}) {
      double x = by_arithmetic(b | sign, fraction_bits, bias);
      float got = from(b | sign);
      REQUIRE((got == x || (got != got && x != x)));
      REQUIRE(std::signbit(got) == (sign != 0));
      if (x != x) continue;
      REQUIRE(to(float(x)) == (b | sign));
      // half way to the next value: to even; just beside it: to the nearer one
      double next = by_arithmetic(b + 1, fraction_bits, bias), mid = (std::fabs(x) + next) / 2;
      if (!std::isfinite(next)) mid = std::fabs(x) + std::ldexp(1.0, std::ilogb(x) - fraction_bits - 1);
      if (!std::isfinite(x)) continue;
      float s = sign ? -1.0f : 1.0f, m = float(mid);
      REQUIRE(to(s * m) == ((b & 1 ? b + 1 : b) | sign));
      REQUIRE(to(s * std::nextafterf(m, 0)) == (b | sign));
      REQUIRE(to(s * std::nextafterf(m, INFINITY)) == ((b + 1) | sign));
      n += 4;
    }
  return n;
}

}  // namespace

TEST_CASE("half types: conversions against arithmetic, all values and all midpoints") {
  int64_t n = check_half([](uint32_t b) { return from_half({uint16_t(b)}); },
                         [](float x) { return uint32_t(to_half(x).bits); }, 10, 15);
  n += check_half([](uint32_t b) { return from_bf16({uint16_t(b)}); },
                  [](float x) { return uint32_t(to_bf16(x).bits); }, 7, 127);
  std::printf("half conversions: %lld\n", static_cast<long long>(n));
}

TEST_CASE("scalar functions: float within 0.6 steps of the double function") {
  auto check = [](const char* name, double worst, double bound) {
    std::printf("  %-10s %.4f steps\n", name, worst);
    CHECK_MESSAGE(worst <= bound, name, " is off by ", worst);
  };
#define TG_CHECK_FN(name, hi) \
  check(#name, worst_steps([](float x) { return sm::name(x); }, [](double x) { return std::name(x); }, 0.0f, hi), 0.6)
  TG_CHECK_FN(exp, INFINITY);
  TG_CHECK_FN(exp2, INFINITY);
  TG_CHECK_FN(expm1, INFINITY);
  TG_CHECK_FN(log, INFINITY);
  TG_CHECK_FN(log2, INFINITY);
  TG_CHECK_FN(log10, INFINITY);
  TG_CHECK_FN(log1p, INFINITY);
  TG_CHECK_FN(tanh, INFINITY);
  TG_CHECK_FN(erf, INFINITY);
  TG_CHECK_FN(erfc, INFINITY);
  TG_CHECK_FN(sin, INFINITY);
  TG_CHECK_FN(cos, INFINITY);
#undef TG_CHECK_FN
  check(
      "sigmoid",
      worst_steps([](float x) { return sm::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, 0.0f, 80.0f),
      0.6);
  check("gelu",
        worst_steps([](float x) { return sm::gelu_erf(x); },
                    [](double x) { return 0.5 * x * std::erfc(-x * 0.7071067811865476); }, 0.0f, 1e30f),
        0.6);
}

TEST_CASE("scalar functions: edges") {
  CHECK(std::isnan(sm::max_nan(kNaN, 1.0)));
  CHECK(std::isnan(sm::min_nan(1.0, kNaN)));
  CHECK(sm::fmax(kNaN, 1.0) == 1);
  CHECK(sm::fmin(1.0, kNaN) == 1);
  CHECK(std::isnan(sm::clamp(kNaN, 0.0, 1.0)));
  CHECK(sm::clamp(5.0, 3.0, 2.0) == 2);
  CHECK(std::isnan(sm::relu(kNaN)));
  CHECK(sm::sign(kNaN) == 0);
  CHECK(sm::remainder(-7.0, 3.0) == 2);
  CHECK(sm::remainder(int64_t(-7), int64_t(3)) == 2);
  CHECK(sm::remainder(int64_t(7), int64_t(-3)) == -2);
  CHECK(sm::fmod(int64_t(-7), int64_t(3)) == -1);
  CHECK(sm::floor_div(int64_t(-7), int64_t(2)) == -4);
  CHECK(sm::trunc_div(int64_t(-7), int64_t(2)) == -3);
  CHECK(sm::floor_div(-1.0, kInf) == -1);
  CHECK(sm::floor_div(1.0, 0.1) == 9);
  for (auto f : {sm::floor_div, sm::trunc_div, sm::remainder<int64_t>, sm::fmod}) CHECK(f(5, 0) == 0);
  CHECK(sm::floor_div(INT64_MIN, int64_t(-1)) == INT64_MIN);
  CHECK(sm::mul(INT64_MAX, int64_t(2)) == -2);
  CHECK(sm::abs(INT64_MIN) == INT64_MIN);
  CHECK(sm::pow(int64_t(3), int64_t(13)) == 1594323);
  CHECK(sm::pow(int64_t(2), int64_t(-1)) == 0);
  CHECK(sm::pow(int64_t(-1), int64_t(-3)) == -1);
  CHECK(sm::shl(int64_t(1), int64_t(64)) == 0);
  CHECK(sm::shr(int64_t(-8), int64_t(70)) == -1);
  CHECK(sm::round_even(2.5) == 2);
  CHECK(sm::xlogy(0.0, 0.0) == 0);
  CHECK(std::isnan(sm::xlogy(0.0, kNaN)));
  CHECK(sm::logaddexp(-kInf, -kInf) == -kInf);
  CHECK(sm::logaddexp(kInf, kInf) == kInf);
  CHECK(sm::digamma(0.0) == -kInf);
  CHECK(sm::digamma(-0.0) == kInf);
  CHECK(std::isnan(sm::digamma(-1.0)));
  CHECK(sm::erfinv(1.0) == kInf);
  CHECK(std::isnan(sm::erfinv(1.5)));
  CHECK(sm::polygamma(1.0, -1e15 - 0.5) == doctest::Approx(9.8696044).epsilon(1e-6));
  CHECK(sm::polygamma(3.0, 1.0) == doctest::Approx(6.49393940226683));
  CHECK(std::signbit(sm::tanh(-0.0f)));
  CHECK(std::signbit(sm::expm1(-0.0f)));
  CHECK(sm::gelu_erf(-1e6f) == 0);
  CHECK(sm::softplus(1e30f, 2.0f, std::numeric_limits<float>::infinity()) == 1e30f);
  CHECK(sm::softplus(1e300, 2.0, std::numeric_limits<double>::infinity()) == 1e300);
  CHECK(sm::softplus(1000.0f, -1.0f, 20.0f) == 0);
}

TEST_CASE("plan: axes merge and sort without losing an element") {
  Rng rng(31);
  int64_t n = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    Dims shape;
    for (int d = int(draw(rng, 0, 4)); d > 0; --d) shape.push_back(draw(rng, 0, 9) == 0 ? 0 : draw(rng, 1, 4));
    Views in, out;
    for (int k = 0; k < 3; ++k) {
      View v;
      int64_t span, start;
      v.shape = shape;
      v.stride = layout_strides(shape, (k < 2 ? kInLayouts[rng() % 6] : kOutLayouts[rng() % 5]), span, start);
      (k < 2 ? in : out).push_back(v);
    }
    using Offsets = std::vector<std::array<int64_t, 3>>;
    auto walk = [](const plan::Nest& nest) {
      Offsets o;
      int64_t total = nest.numel(), idx[kMaxDims] = {};
      for (int64_t i = 0; i < total; ++i) {
        std::array<int64_t, 3> at{};
        for (int d = 0; d < nest.ndim(); ++d)
          for (size_t k = 0; k < 3; ++k) at[k] += idx[d] * nest.stride[k][d];
        o.push_back(at);
        for (int d = nest.ndim() - 1; d >= 0 && ++idx[d] == nest.shape[d]; --d) idx[d] = 0;
      }
      return o;
    };
    plan::Nest plain = plan::nest_of(in, out), merged = plain;
    plan::merge_axes(merged);
    Offsets a = walk(plain), b = walk(merged), c = walk(plan::collapse(in, out, 2));
    CHECK(a == b);
    CHECK(merged.ndim() <= plain.ndim());
    std::sort(a.begin(), a.end());
    std::sort(c.begin(), c.end());
    CHECK(a == c);
    ++n;
  }
  std::printf("plan: %lld nests\n", static_cast<long long>(n));
  View v;
  v.shape = {4, 5, 6};
  v.stride = {1, 4, 20};
  Views one;
  one.push_back(v);
  CHECK(plan::collapse(one, one, 1).ndim() == 1);
  CHECK(plan::collapse(one, one, 1).stride[0][0] == 1);
}
