// Extremes with their positions, and order statistics along one dimension.
#include "ops/index.h"
#include "ops/reduction.h"

namespace tg {
namespace {

// A result of one value per slice along `axis`, as (values, positions).
using Picked = std::tuple<Tensor, Tensor>;

Dims without_axis(const Dims& sizes, int axis, bool keepdim) {
  Dims s = sizes;
  if (s.empty()) return s;
  if (keepdim)
    s[axis] = 1;
  else
    s.erase(axis);
  return s;
}

void check_axis(const char* op, const Tensor& x, int axis) {
  TG_CHECK(x.ndim() == 0 || x.sizes()[axis] > 0, IndexError, op, ": dimension ", axis,
           " has size 0 and so no element to choose; input=", describe(x));
}

Picked extreme(const char* op, bool largest, const Tensor& x, int axis, bool keepdim, bool want_values) {
  check_axis(op, x, axis);
  if (x.ndim() == 0) return {want_values ? clone(x) : Tensor(), zeros({}, DType::I64, x.device())};
  Dims out = without_axis(x.sizes(), axis, keepdim);
  Tensor values = want_values ? empty_tensor(out, x.dtype(), x.device()) : Tensor();
  Tensor index = empty_tensor(out, DType::I64, x.device());
  if (index.numel() == 0) return {values, index};
  auto kept = [&](const Tensor& t) {
    View v(t);
    v.shape = without_axis(x.sizes(), axis, true);
    v.stride = contiguous_strides(v.shape);
    return v;
  };
  backend(x.device()).arg_reduce(largest, View(x), axis, want_values ? kept(values) : View(), kept(index));
  return {values, index};
}

// The gradient of chosen values goes back to where they came from.
Tensor put_back(const Tensor& g, const Tensor& index, const Dims& sizes, int64_t dim, bool keepdim) {
  if (sizes.empty()) return g;
  int axis = wrap_dim("gather", dim, sizes.size());
  Tensor zero = zeros(sizes, g.dtype(), g.device());
  return keepdim ? scatter_add(zero, axis, index, g)
                 : scatter_add(zero, axis, unsqueeze(index, axis), unsqueeze(g, axis));
}

// ---- max, min

template <bool largest>
Tensor extreme_all(const Tensor& x) {
  TG_CHECK(x.numel() > 0, IndexError, largest ? "max" : "min",
           ": an empty tensor has no extreme; give a dimension; input=", describe(x));
  return largest ? amax(x) : amin(x);
}
template <bool largest>
Picked extreme_dim(const Tensor& x, int64_t dim, bool keepdim) {
  const char* op = largest ? "max" : "min";
  return extreme(op, largest, x, wrap_dim(op, dim, x.ndim()), keepdim, true);
}
template <bool largest>
Tensor extreme_other(const Tensor& x, const Tensor& other) {
  return largest ? maximum(x, other) : minimum(x, other);
}
Tensor extreme_dim_grad(GradCtx& c) { return put_back(c.g(), c.y(1), c.shape(0), c.arg<int64_t>(1), c.arg<bool>(2)); }

TG_OP("max(Tensor input) -> Tensor", .doc = "Largest element; NaN if there is one. Ties share the gradient evenly.",
      .composite = box<extreme_all<true>>, .samples = "T(3,4); T(); I(5, hi=50); B(3)");
TG_OP("max.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
      .doc = "Largest element along dim and its position, the first among equals; NaN counts as largest.",
      .primitive = box<extreme_dim<true>>, .grads = {{out(1), extreme_dim_grad}},
      .samples =
          "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), 1; T(), 0; T(0,3), 1; I(3,4, hi=5), 1; I(17,33, hi=900), "
          "1");
TG_OP("max.other(Tensor input, Tensor other) -> Tensor", .doc = "maximum(input, other).",
      .composite = box<extreme_other<true>>, .samples = "T(3,4), T(3,4, lo=-2, hi=2); T(3,4), T(4, lo=-2, hi=2)");
TG_OP("min(Tensor input) -> Tensor", .doc = "Smallest element; NaN if there is one. Ties share the gradient evenly.",
      .composite = box<extreme_all<false>>, .samples = "T(3,4); T(); I(5, hi=50); B(3)");
TG_OP("min.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
      .doc = "Smallest element along dim and its position, the first among equals; NaN counts as smallest.",
      .primitive = box<extreme_dim<false>>, .grads = {{out(1), extreme_dim_grad}},
      .samples =
          "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), 1; T(), 0; T(0,3), 1; I(3,4, hi=5), 1; I(17,33, hi=900), "
          "1");
TG_OP("min.other(Tensor input, Tensor other) -> Tensor", .doc = "minimum(input, other).",
      .composite = box<extreme_other<false>>, .samples = "T(3,4), T(3,4, lo=-2, hi=2); T(3,4), T(4, lo=-2, hi=2)");

template <bool largest>
Tensor arg_extreme(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  const char* op = largest ? "argmax" : "argmin";
  if (dim) return std::get<1>(extreme(op, largest, x, wrap_dim(op, *dim, x.ndim()), keepdim, false));
  TG_CHECK(x.numel() > 0, IndexError, op, ": an empty tensor has no extreme; give a dimension; input=", describe(x));
  Tensor i = std::get<1>(extreme(op, largest, reshape(x, {x.numel()}), 0, false, false));
  return keepdim ? reshape(i, Dims::filled(x.ndim(), 1)) : i;
}
TG_OP("argmax(Tensor input, int? dim=None, bool keepdim=False) -> Tensor",
      .doc = "Position of the largest element along dim, or in the flattened tensor; the first among equals.",
      .primitive = box<arg_extreme<true>>, .flags = kNoGrad,
      .samples =
          "T(3,4); T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), keepdim=True; T(); I(9, hi=3); T(0,3), 1; "
          "I(17,33, hi=900), 1");
TG_OP("argmin(Tensor input, int? dim=None, bool keepdim=False) -> Tensor",
      .doc = "Position of the smallest element along dim, or in the flattened tensor; the first among equals.",
      .primitive = box<arg_extreme<false>>, .flags = kNoGrad,
      .samples =
          "T(3,4); T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), keepdim=True; T(); I(9, hi=3); T(0,3), 1; "
          "I(17,33, hi=900), 1");

Picked aminmax_body(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  if (!dim && keepdim) return {amin(x, {}, true), amax(x, {}, true)};
  return dim ? Picked{amin(x, *dim, keepdim), amax(x, *dim, keepdim)} : Picked{amin(x), amax(x)};
}
TG_OP("aminmax(Tensor input, *, int? dim=None, bool keepdim=False) -> (Tensor min, Tensor max)",
      .doc = "Smallest and largest element along dim, or of all.", .composite = box<aminmax_body>,
      .samples = "T(3,4); T(3,4), dim=0; T(3,4), dim=-1, keepdim=True; I(5, hi=9)");

// ---- order statistics: positions are found below the tape, the values gathered above it

// Values at `index`, which has size 1 along axis.
Picked gather_at(const Tensor& x, int axis, const Tensor& index, bool keepdim) {
  Tensor values = gather(x, axis, index);
  return keepdim ? Picked{values, index} : Picked{squeeze(values, axis), squeeze(index, axis)};
}

Picked zero_dim(const Tensor& x) { return {clone(x), zeros({}, DType::I64, x.device())}; }

Picked kthvalue_body(const Tensor& x, int64_t k, int64_t dim, bool keepdim) {
  int axis = wrap_dim("kthvalue", dim, x.ndim());
  int64_t n = x.ndim() == 0 ? 1 : x.sizes()[axis];
  TG_CHECK(k >= 1 && k <= n, IndexError, "kthvalue: k must be in [1, ", n, "], the size of dimension ", axis, ", got ",
           k, "; input=", describe(x));
  if (x.ndim() == 0) return zero_dim(x);
  Tensor index;
  {
    NoGrad guard;
    index = contiguous(narrow(argsort(x, axis), axis, k - 1, 1));
  }
  return gather_at(x, axis, index, keepdim);
}
TG_OP("kthvalue(Tensor input, int k, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)",
      .doc = "k-th smallest element along dim (k from 1) and its position.", .composite = box<kthvalue_body>,
      .samples = "T(5), 2; T(3,4), 1, 0; T(3,4), 4, keepdim=True; T(2,3,4), 2, 1; T(), 1; T(0,3), 2");

// The lower of the two middle elements. NaN sorts last: with `skip` the middle is taken among the others, without it
// the first NaN is the answer.
Tensor median_index(const Tensor& x, int axis, bool skip) {
  NoGrad guard;
  int64_t n = x.sizes()[axis];
  Tensor order = argsort(x, axis, false, true);
  if (!is_float(x.dtype())) return contiguous(narrow(order, axis, (n - 1) / 2, 1));
  Tensor valid = sum(logical_not(isnan(x)), axis, true);
  Tensor middle = floor_divide(clamp_min(valid - 1, 0), 2);
  if (!skip) middle = where(eq(valid, n), middle, clamp_max(valid, n - 1));
  return gather(order, axis, middle);
}
template <bool skip>
Picked median_dim(const Tensor& x, int64_t dim, bool keepdim) {
  const char* op = skip ? "nanmedian" : "median";
  int axis = wrap_dim(op, dim, x.ndim());
  check_axis(op, x, axis);
  if (x.ndim() == 0) return zero_dim(x);
  return gather_at(x, axis, median_index(x, axis, skip), keepdim);
}
template <bool skip>
Tensor median_all(const Tensor& x) {
  TG_CHECK(x.numel() > 0 || is_float(x.dtype()), IndexError, skip ? "nanmedian" : "median",
           ": an empty tensor of integers has no median; input=", describe(x));
  if (x.numel() == 0) return mean(x);
  Tensor flat = reshape(x, {x.numel()});
  return squeeze(gather(flat, 0, median_index(flat, 0, skip)), 0);
}
TG_OP("median(Tensor input) -> Tensor", .doc = "Median of all elements, the lower of two; NaN if there is one.",
      .composite = box<median_all<false>>, .samples = "T(5); T(3,4); T(); I(6, hi=90)");
TG_OP("median.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
      .doc = "Median along dim, the lower of two, and its position.", .composite = box<median_dim<false>>,
      .samples = "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,5), 1; T(), 0; T(0,3), 1");
TG_OP("nanmedian(Tensor input) -> Tensor", .doc = "Median of the elements that are not NaN.",
      .composite = box<median_all<true>>, .samples = "T(5); T(3,4)");
TG_OP("nanmedian.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
      .doc = "Median along dim of the elements that are not NaN.", .composite = box<median_dim<true>>,
      .samples = "T(3,4), 0; T(3,4), dim=-1, keepdim=True");

// In sorted order the most frequent value is the longest run: the running position inside its run is largest at its
// end.
Picked mode_body(const Tensor& x, int64_t dim, bool keepdim) {
  int axis = wrap_dim("mode", dim, x.ndim());
  check_axis("mode", x, axis);
  if (x.ndim() == 0) return zero_dim(x);
  Tensor index;
  {
    NoGrad guard;
    int64_t n = x.sizes()[axis];
    auto [sorted, order] = sort(x, axis, false, true);
    Dims s = Dims::filled(x.ndim(), 1);
    s[axis] = n;
    Tensor place = expand(reshape(arange(n, DType::I64, x.device()), s), x.sizes());
    Tensor changed = ne(narrow(sorted, axis, 1, n - 1), narrow(sorted, axis, 0, n - 1));
    Tensor start = where(cat({zeros_like(narrow(sorted, axis, 0, 1), DType::Bool), changed}, axis), place, 0);
    Tensor length = place - std::get<0>(cummax(start, axis));
    index = gather(order, axis, argmax(length, axis, true));
  }
  return gather_at(x, axis, index, keepdim);
}
TG_OP("mode(Tensor input, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)",
      .doc = "Most frequent element along dim, the smallest among equals, and a position of it.",
      .composite = box<mode_body>, .samples = "I(9, hi=3); I(4,9, hi=4), 1; I(9,4, hi=4), 0, True; T(); T(3,4)",
      .notes = "multivalued");

// ---- quantiles

// Value at the fractional position `at` (broadcasting against all but the last dimension) of `sorted`, sorted along its
// last dimension.
Tensor value_at(const Tensor& sorted, const Tensor& at, std::string_view interpolation) {
  auto pick = [&](const Tensor& p) { return gather(sorted, -1, cast(p, DType::I64)); };
  if (interpolation == "lower") return pick(floor(at));
  if (interpolation == "higher") return pick(ceil(at));
  if (interpolation == "nearest") return pick(round(at));
  Tensor lo = pick(floor(at)), hi = pick(ceil(at));
  if (interpolation == "midpoint") return (lo + hi) * 0.5;
  return lerp(lo, hi, at - floor(at));
}

Tensor quantile_of(const char* op, const Tensor& x, const Tensor& q, std::optional<int64_t> dim, bool keepdim,
                   std::string_view interpolation, bool skip) {
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
  TG_CHECK(q.ndim() <= 1, ShapeError, op, ": q must be a number or a vector, q=", describe(q));
  TG_CHECK(q.dtype() == x.dtype(), DTypeError, op, ": q must have the input's dtype; input=", describe(x),
           ", q=", describe(q));
  TG_CHECK(x.numel() > 0, ShapeError, op, ": an empty tensor has no quantiles; input=", describe(x));
  static constexpr std::string_view kinds[] = {"linear", "lower", "higher", "midpoint", "nearest"};
  TG_CHECK(std::find(std::begin(kinds), std::end(kinds), interpolation) != std::end(kinds), ValueError, op,
           ": interpolation must be linear, lower, higher, midpoint or nearest, got '", interpolation, "'");
  Tensor flat = dim && x.ndim() > 0 ? movedim(x, {wrap_dim(op, *dim, x.ndim())}, {-1}) : reshape(x, {x.numel()});
  int64_t n = flat.size(-1), m = q.numel();
  Tensor sorted = std::get<0>(sort(flat, -1)), last, broken;
  {
    NoGrad guard;
    require_all(logical_and(ge(q, 0.0), le(q, 1.0)), op, ": q must lie in [0, 1]");
    last = skip ? cast(clamp_min(sum(logical_not(isnan(flat)), -1, true) - 1, 0), x.dtype())
                : full({1}, double(n - 1), x.dtype(), x.device());
    if (!skip) broken = any(isnan(flat), -1, true);
  }
  Dims wide = flat.sizes();
  wide[wide.size() - 1] = m;
  Tensor at = expand(reshape(q, {m}) * last, wide);
  // Sorted last, a NaN is found at the end: all positions of such a slice point there.
  if (!skip) at = where(broken, double(n - 1), at);
  Tensor y = value_at(sorted, at, interpolation);
  if (dim && keepdim)
    y = movedim(unsqueeze(movedim(y, {-1}, {0}), -1), {-1}, {wrap_dim(op, *dim, std::max(x.ndim(), 1)) + 1});
  else
    y = movedim(y, {-1}, {0});
  if (!dim && keepdim) {
    Dims s = Dims::filled(x.ndim(), 1);
    s.insert(0, m);
    y = reshape(y, s);
  }
  return q.ndim() == 0 ? squeeze(y, 0) : y;
}
template <bool skip>
Tensor quantile_tensor(const Tensor& x, const Tensor& q, std::optional<int64_t> dim, bool keepdim,
                       std::string_view interpolation) {
  return quantile_of(skip ? "nanquantile" : "quantile", x, q, dim, keepdim, interpolation, skip);
}
template <bool skip>
Tensor quantile_number(const Tensor& x, double q, std::optional<int64_t> dim, bool keepdim,
                       std::string_view interpolation) {
  return quantile_tensor<skip>(x, full({}, q, x.dtype(), x.device()), dim, keepdim, interpolation);
}
TG_OP("quantile(Tensor input, float q, int? dim=None, bool keepdim=False, *, str interpolation='linear') -> Tensor",
      .doc = "Quantile q in [0, 1] along dim, or of all elements; NaN if there is one.",
      .composite = box<quantile_number<false>>, .autocast = Autocast::Float32,
      .samples =
          "T(5), 0.3; T(3,4), 0.5, 0; T(3,4), 0.9, dim=-1, keepdim=True; T(3,4), 0.4, 1, interpolation='lower'; "
          "T(3,4), 0.4, "
          "1, interpolation='higher'; T(3,4), 0.4, 1, interpolation='midpoint'; T(3,4), 0.4, 1, "
          "interpolation='nearest'; T(3,4), 0.25, keepdim=True");
TG_OP(
    "quantile.tensor(Tensor input, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear') -> "
    "Tensor",
    .doc = "Quantiles for each element of q, along a new first dimension.", .composite = box<quantile_tensor<false>>,
    .autocast = Autocast::Float32,
    .samples =
        "T(5), T(3, lo=0, hi=1); T(3,4), T(2, lo=0, hi=1), 0; T(2,3,4), T(2, lo=0, hi=1), 1, True; T(3,4), T(lo=0, "
        "hi=1), 1");
TG_OP("nanquantile(Tensor input, float q, int? dim=None, bool keepdim=False, *, str interpolation='linear') -> Tensor",
      .doc = "Quantile of the elements that are not NaN.", .composite = box<quantile_number<true>>,
      .autocast = Autocast::Float32, .samples = "T(5), 0.3; T(3,4), 0.5, 0; T(3,4), 0.9, dim=-1, keepdim=True");
TG_OP(
    "nanquantile.tensor(Tensor input, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear') -> "
    "Tensor",
    .doc = "Quantiles of the elements that are not NaN.", .composite = box<quantile_tensor<true>>,
    .autocast = Autocast::Float32, .samples = "T(5), T(3, lo=0, hi=1); T(3,4), T(2, lo=0, hi=1), 0");

}  // namespace
}  // namespace tg
