// Counting and covariance.
#include <cmath>

#include "ops/copy_view.h"

namespace tg {
namespace {

Tensor bincount_impl(const Tensor& x, const Tensor& weights, int64_t minlength) {
  TG_CHECK(is_int(x.dtype()) && x.ndim() == 1, DTypeError,
           "bincount: expected a vector of integers, input=", describe(x));
  TG_CHECK(minlength >= 0, ValueError, "bincount: minlength must not be negative, got ", minlength);
  TG_CHECK(!weights.defined() || weights.sizes() == x.sizes(), ShapeError,
           "bincount: weights must have the input's size; input=", describe(x), ", weights=", describe(weights));
  Tensor index = narrow_to(x, DType::I64);
  auto [lo, hi] = backend(x.device()).int_range(View(index));
  TG_CHECK(lo >= 0, ValueError, "bincount: expected no negative element, found ", lo, "; input=", describe(x));
  TG_CHECK(hi < INT64_MAX, ShapeError, "bincount: element ", hi, " is too large; input=", describe(x));
  DType out = !weights.defined() ? DType::I64 : weights.dtype() == DType::F32 ? DType::F32 : DType::F64;
  Tensor counts = zeros({std::max(hi + 1, minlength)}, out, x.device());
  if (x.numel() == 0) return counts;
  Tensor add = weights.defined() ? narrow_to(weights, out) : ones({x.numel()}, DType::I64, x.device());
  return scatter_add(counts, 0, index, add);
}
TG_OP("bincount(Tensor input, Tensor? weights=None, int minlength=0) -> Tensor",
      .doc = "How often each of 0, 1, 2, ... occurs in a vector of integers, or the sum of its weights.",
      .primitive = box<bincount_impl>, .flags = kNoGrad,
      .samples =
          "I(9, hi=5); I(9, hi=5), minlength=8; I(9, hi=5), T(9); I(0); I(0), minlength=3; I(9, hi=5), I(9, hi=3)");

// The bin of each element in [lo, hi] (the last bin holds hi too); `bins` for elements outside.
Tensor bins_of(const Tensor& x, int64_t bins, double lo, double hi) {
  Tensor v = narrow_to(reshape(x, {x.numel()}), DType::F64);
  Tensor at = clamp_max(cast(floor((v - lo) * (double(bins) / (hi - lo))), DType::I64), bins - 1);
  return where(logical_and(ge(v, lo), le(v, hi)), at, bins);
}

struct Range {
  double lo, hi;
};
// The range asked for, or that of the data when both ends are equal; never empty.
// `widen` moves the ends of a range of one value apart.
Range histogram_range(const char* op, const Tensor& x, double lo, double hi, double widen) {
  if (lo == hi && x.numel() > 0) lo = amin(x).item<double>(), hi = amax(x).item<double>();
  if (lo == hi) lo -= widen, hi += widen;
  TG_CHECK(std::isfinite(lo) && std::isfinite(hi), ValueError, op, ": range [", lo, ", ", hi, "] is not finite");
  TG_CHECK(lo < hi, ValueError, op, ": max must be larger than min, got [", lo, ", ", hi, "]");
  return {lo, hi};
}
Tensor histc_impl(const Tensor& x, int64_t bins, double lo, double hi) {
  TG_CHECK(bins > 0, ValueError, "histc: bins must be positive, got ", bins);
  Range r = histogram_range("histc", x, lo, hi, 1);
  Tensor counts = bincount(bins_of(x, bins, r.lo, r.hi), Tensor(), bins + 1);
  return cast(narrow(counts, 0, 0, bins), x.dtype());
}
TG_OP("histc(Tensor input, int bins=100, float min=0.0, float max=0.0) -> Tensor",
      .doc = "Number of elements in each of `bins` equal parts of [min, max] (the data's range when both are 0).",
      .primitive = box<histc_impl>, .flags = kNoGrad,
      .samples = "T(30), 5; T(30), bins=4, min=-1, max=1; T(3,4), 3; T(30); T(0), 3");

Tensor edges_of(Range r, int64_t bins, DType t, Device d) {
  return narrow_to(linspace(r.lo, r.hi, bins + 1, DType::F64, d), t);
}
std::tuple<Tensor, Tensor> histogram_impl(const Tensor& x, int64_t bins, std::optional<std::vector<double>> range,
                                          const Tensor& weight, bool density) {
  TG_CHECK(is_float(x.dtype()), DTypeError, "histogram: expected a floating-point tensor, input=", describe(x));
  TG_CHECK(bins > 0, ValueError, "histogram: bins must be positive, got ", bins);
  TG_CHECK(!range || range->size() == 2, ValueError, "histogram: range must have 2 values");
  TG_CHECK(!weight.defined() || weight.sizes() == x.sizes(), ShapeError,
           "histogram: weight must have the input's size; input=", describe(x), ", weight=", describe(weight));
  Range r = histogram_range("histogram", x, range ? (*range)[0] : 0, range ? (*range)[1] : 0, 0.5);
  Tensor w = weight.defined() ? reshape(weight, {x.numel()}) : Tensor();
  Tensor counts = narrow_to(narrow(bincount(bins_of(x, bins, r.lo, r.hi), w, bins + 1), 0, 0, bins), x.dtype());
  if (density) counts = counts / (sum(counts) * ((r.hi - r.lo) / double(bins)));
  return {clone(counts), edges_of(r, bins, x.dtype(), x.device())};
}
TG_OP(
    "histogram(Tensor input, int bins, *, float[]? range=None, Tensor? weight=None, bool density=False) -> (Tensor "
    "hist, Tensor "
    "bin_edges)",
    .doc =
        "Number (or weight, or density) of elements in each of `bins` equal parts of the range, and the parts' edges.",
    .primitive = box<histogram_impl>, .flags = kNoGrad,
    .samples = "T(30), 5; T(30), 4, range=[-1.0, 1.0]; T(30), 4, weight=T(30, lo=0, hi=1); T(30), 4, density=True");

Tensor cov_body(const Tensor& input, int64_t correction, const Tensor& fweights, const Tensor& aweights) {
  TG_CHECK(input.ndim() <= 2, ShapeError, "cov: expected at most 2 dimensions, input=", describe(input));
  Tensor x = input.ndim() < 2 ? reshape(input, {1, input.numel()}) : input;
  if (!is_float(x.dtype())) x = cast(x, default_dtype());
  for (const Tensor& w : {fweights, aweights})
    TG_CHECK(!w.defined() || (w.ndim() == 1 && w.size(0) == x.size(1)), ShapeError,
             "cov: weights must be a vector with one value per observation; input=", describe(input));
  Tensor w;
  if (fweights.defined()) w = cast(fweights, x.dtype());
  if (aweights.defined()) w = w.defined() ? w * aweights : narrow_to(aweights, x.dtype());
  int64_t n = x.size(1);
  Tensor total = w.defined() ? sum(w) : full({}, n, x.dtype(), x.device());
  Tensor centred = x - (w.defined() ? sum(x * w, 1, true) / total : mean(x, 1, true));
  Tensor norm = total - double(correction);
  if (aweights.defined() && correction != 0) norm = total - sum(w * aweights) / total * double(correction);
  Tensor c = matmul(w.defined() ? centred * w : centred, transpose(centred, 0, 1)) / clamp_min(norm, 0.0);
  return input.ndim() < 2 ? reshape(c, {}) : c;
}
TG_OP("cov(Tensor input, *, int correction=1, Tensor? fweights=None, Tensor? aweights=None) -> Tensor",
      .doc = "Covariance matrix of variables (rows) over observations (columns).", .composite = box<cov_body>,
      .samples =
          "T(3,5); T(5); T(3,5), correction=0; T(3,5), fweights=I(5, lo=1, hi=4); T(3,5), aweights=T(5, lo=0.5, hi=2)");

Tensor corrcoef_body(const Tensor& x) {
  Tensor c = cov(x);
  if (c.ndim() == 0) return c / c;
  Tensor d = sqrt(diagonal(c));
  return clamp(c / unsqueeze(d, 1) / d, -1.0, 1.0);
}
TG_OP("corrcoef(Tensor input) -> Tensor", .doc = "Correlation matrix of variables (rows) over observations (columns).",
      .composite = box<corrcoef_body>, .samples = "T(3,5); T(5)", .notes = "nograd");

}  // namespace
}  // namespace tg
