// Sums, products, means, extremes and truth over axes. `dim` is None or empty for all axes.
#include "ops/reduction.h"

namespace tg {
namespace {

using OptDims = std::optional<IntList>;
using OptDType = std::optional<DType>;

// The gradient of a reduced result, seen with the input's sizes.
Tensor spread(GradCtx& c, const Tensor& g, const OptDims& dim, bool keepdim) {
  const Dims& s = c.shape(0);
  return expand(with_axes(g, s, wrap_dims("reduce", dim ? *dim : IntList(), s.size()), keepdim), s);
}

// ---- sum

DType sum_dtype(const Tensor& x, OptDType dtype) {
  return dtype ? *dtype : is_float(x.dtype()) ? x.dtype() : DType::I64;
}

Tensor sum_impl(const Tensor& x, const OptDims& dim, bool keepdim, OptDType dtype) {
  DType out = sum_dtype(x, dtype);
  return run_reduce(ReduceOp::Sum, x, reduced_axes("sum", dim, x), keepdim, out, compute_type(out));
}
Tensor sum_dim(const Tensor& x, OptDims dim, bool keepdim, OptDType dtype) { return sum_impl(x, dim, keepdim, dtype); }
Tensor sum_all(const Tensor& x, OptDType dtype) { return sum_impl(x, std::nullopt, false, dtype); }

Tensor spread_dim(GradCtx& c) { return spread(c, c.g(), c.arg<OptDims>(1), c.arg<bool>(2)); }
Tensor spread_all(GradCtx& c) { return expand(c.g(), c.shape(0)); }

TG_OP("sum(Tensor input, *, dtype? dtype=None) -> Tensor",
      .doc = "Sum of all elements. Integers and bool give int64; dtype converts the input first.",
      .primitive = box<sum_all>, .grads = {{0, spread_all}}, .autocast = Autocast::Float32,
      .samples = "T(3,4); T(); T(0); T(5), dtype=DT('float64'); I(3,4, hi=5); B(7); T(2,3,4,5); T(1)");
TG_OP("sum.dim(Tensor input, int[]? dim, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
      .doc = "Sum over `dim` (a number, a list, or None for all). Integers and bool give int64.",
      .primitive = box<sum_dim>, .grads = {{0, spread_dim}}, .autocast = Autocast::Float32,
      .samples =
          "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2]; T(2,3,4), [-1,0], True; T(3,4), None; "
          "T(), 0; T(), -1, True; T(0,3), 0; T(3,0), 1; T(0,3), 1; I(3,4, hi=5), 1; B(3,4), 0; T(2,3,4), []; "
          "T(3,4), 1, dtype=DT('float64'); T(17,33), 0; T(17,33), 1; T(1,4), 0, True; T(2,1,3), [1], False");

// ---- mean

DType mean_dtype(const Tensor& x, OptDType dtype) {
  DType out = dtype.value_or(x.dtype());
  TG_CHECK(is_float(out), DTypeError, "mean: expected a floating-point tensor (or dtype=), got ", out,
           "; input=", describe(x));
  return out;
}
Tensor mean_impl(const Tensor& x, const OptDims& dim, bool keepdim, OptDType dtype) {
  DType out = mean_dtype(x, dtype), c = compute_type(out);
  Dims axes = reduced_axes("mean", dim, x);
  Program divide = make_program(c, 1, {double(reduced_count(x, axes))}, {{Opc::div, {0, 1}}});
  return run_reduce(ReduceOp::Sum, x, axes, keepdim, out, c, nullptr, &divide);
}
Tensor mean_dim(const Tensor& x, OptDims dim, bool keepdim, OptDType dtype) {
  return mean_impl(x, dim, keepdim, dtype);
}
Tensor mean_all(const Tensor& x, OptDType dtype) { return mean_impl(x, std::nullopt, false, dtype); }

// Elements of the input per element of the result, as a double.
double elements_per_result(GradCtx& c, const OptDims& dim) {
  const Dims& s = c.shape(0);
  double n = 1;
  for (int64_t a : wrap_dims("reduce", dim ? *dim : IntList(), s.size())) n *= double(s[int(a)]);
  return n;
}
Tensor mean_dim_grad(GradCtx& c) { return spread_dim(c) / elements_per_result(c, c.arg<OptDims>(1)); }
Tensor mean_all_grad(GradCtx& c) {
  double n = elements_per_result(c, std::nullopt);
  return n == 0 ? spread_all(c) : expand(c.g() / n, c.shape(0));
}

TG_OP("mean(Tensor input, *, dtype? dtype=None) -> Tensor",
      .doc = "Mean of all elements of a floating-point tensor (or converted to dtype first). NaN when empty.",
      .primitive = box<mean_all>, .grads = {{0, mean_all_grad}}, .autocast = Autocast::Float32,
      .samples = "T(3,4); T(); T(0); I(3,4, hi=5), dtype=DT('float32'); T(2,3,4)");
TG_OP("mean.dim(Tensor input, int[]? dim, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
      .doc = "Mean over `dim` of a floating-point tensor (or converted to dtype first).", .primitive = box<mean_dim>,
      .grads = {{0, mean_dim_grad}}, .autocast = Autocast::Float32,
      .samples =
          "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2]; T(2,3,4), [-1,0], True; T(3,4), None; T(), 0; "
          "T(0,3), 0; T(0,3), 1; I(3,4, hi=5), 1, dtype=DT('float64'); T(17,33), 1");

Tensor nan_as_zero(const Tensor& x) { return is_float(x.dtype()) ? where(isnan(x), 0.0, x) : x; }
Tensor nansum_body(const Tensor& x, OptDims dim, bool keepdim, OptDType dtype) {
  return sum(nan_as_zero(x), dim, keepdim, dtype);
}
Tensor nanmean_body(const Tensor& x, OptDims dim, bool keepdim, OptDType dtype) {
  mean_dtype(x, dtype);
  return nansum(x, dim, keepdim, dtype) / sum(logical_not(isnan(x)), dim, keepdim);
}
TG_OP("nansum(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
      .doc = "Sum with NaN counted as 0.", .composite = box<nansum_body>,
      .samples = "T(3,4); T(3,4), 0; T(2,3,4), [0,2], True; I(3,4, hi=5), 1; T(0,3), 0");
TG_OP("nanmean(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
      .doc = "Mean of the elements that are not NaN; NaN where there is none.", .composite = box<nanmean_body>,
      .samples = "T(3,4); T(3,4), 0; T(2,3,4), [0,2], True");

// ---- prod

Tensor prod_over(const Tensor& x, const Dims& axes, bool keepdim, OptDType dtype) {
  DType out = sum_dtype(x, dtype);
  return run_reduce(ReduceOp::Prod, x, axes, keepdim, out, compute_type(out));
}
Tensor prod_dim(const Tensor& x, int64_t dim, bool keepdim, OptDType dtype) {
  return prod_over(x, wrap_dims("prod", {dim}, x.ndim()), keepdim, dtype);
}
Tensor prod_all(const Tensor& x, OptDType dtype) { return prod_over(x, wrap_dims("prod", {}, x.ndim()), false, dtype); }

// Products of the elements before each one along `dim`.
Tensor products_before(const Tensor& x, int64_t dim) {
  int64_t n = x.size(dim);
  return cumprod(cat({ones_like(narrow(x, dim, 0, 1)), narrow(x, dim, 0, n - 1)}, dim), dim);
}
// Product of all the others, without dividing: right where elements are zero.
Tensor products_of_others(const Tensor& x, int64_t dim) {
  if (x.numel() == 0 || x.ndim() == 0) return ones_like(x);
  return products_before(x, dim) * flip(products_before(flip(x, {dim}), dim), {dim});
}
Tensor prod_dim_grad(GradCtx& c) {
  Tensor x = c.x(0);
  int64_t dim = c.arg<int64_t>(1);
  Dims axes = wrap_dims("prod", {dim}, x.ndim());
  return with_axes(c.g(), x.sizes(), axes, c.arg<bool>(2)) * products_of_others(x, dim);
}
Tensor prod_all_grad(GradCtx& c) {
  Tensor x = c.x(0);
  return c.g() * reshape(products_of_others(reshape(x, {x.numel()}), 0), x.sizes());
}

TG_OP("prod(Tensor input, *, dtype? dtype=None) -> Tensor",
      .doc = "Product of all elements. Integers and bool give int64; dtype converts the input first.",
      .primitive = box<prod_all>, .grads = {{in(0), prod_all_grad}}, .autocast = Autocast::Float32,
      .samples = "T(3,4); T(); T(0); I(4, lo=1, hi=4); B(5); T(2,3,2), dtype=DT('float64')");
TG_OP("prod.dim(Tensor input, int dim, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
      .doc = "Product over one dimension.", .primitive = box<prod_dim>, .grads = {{in(0), prod_dim_grad}},
      .autocast = Autocast::Float32,
      .samples =
          "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), 1; T(), 0; T(0,3), 0; T(0,3), 1; I(3,4, hi=5), 1; "
          "T(3,1), 1");

// ---- extremes

void check_nonempty(const char* op, const Tensor& x, const Dims& axes) {
  TG_CHECK(x.numel() > 0 || axes.size() < x.ndim(), IndexError, op,
           ": an empty tensor has no extreme; give the dimension to reduce; input=", describe(x));
  for (int64_t a : axes)
    TG_CHECK(x.sizes()[int(a)] > 0, IndexError, op, ": dimension ", a,
             " has size 0 and so no extreme; input=", describe(x));
}

template <bool largest>
Tensor extreme_impl(const Tensor& x, IntList dim, bool keepdim) {
  constexpr const char* op = largest ? "amax" : "amin";
  Dims axes = wrap_dims(op, dim, x.ndim());
  check_nonempty(op, x, axes);
  return run_reduce(largest ? ReduceOp::Max : ReduceOp::Min, x, axes, keepdim, x.dtype(), compute_type(x.dtype()));
}

// Elements equal to the extreme share its gradient.
Tensor reduced_extreme_grad(GradCtx& c) {
  Tensor x = c.x(0);
  Dims axes = wrap_dims("amax", c.arg<IntList>(1), x.ndim());
  bool keepdim = c.arg<bool>(2);
  Tensor y = with_axes(c.y(), x.sizes(), axes, keepdim), g = with_axes(c.g(), x.sizes(), axes, keepdim);
  Tensor ties = cast(eq(x, y), x.dtype());
  return ties * (g / sum(ties, axes, true));
}

TG_OP("amax(Tensor input, int[] dim=[], bool keepdim=False) -> Tensor",
      .doc = "Largest element over `dim` (all axes when empty); NaN if there is one. Ties share the gradient evenly.",
      .primitive = box<extreme_impl<true>>, .grads = {{in(0) | out(0), reduced_extreme_grad}},
      .samples =
          "T(3,4); T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2]; T(2,3,4), [-1,0], True; T(), 0; T(0,3), "
          "1; I(3,4, hi=50), 1; B(3,4), 0; I(17,33, hi=900), 1");
TG_OP("amin(Tensor input, int[] dim=[], bool keepdim=False) -> Tensor",
      .doc = "Smallest element over `dim` (all axes when empty); NaN if there is one. Ties share the gradient evenly.",
      .primitive = box<extreme_impl<false>>, .grads = {{in(0) | out(0), reduced_extreme_grad}},
      .samples =
          "T(3,4); T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2]; T(2,3,4), [-1,0], True; T(), 0; T(0,3), "
          "1; I(3,4, hi=50), 1; B(3,4), 0; I(17,33, hi=900), 1");

// ---- truth

// uint8 stays uint8, as in PyTorch; all else gives bool.
template <ReduceOp op>
Tensor truth_impl(const Tensor& x, const OptDims& dim, bool keepdim) {
  DType out = x.dtype() == DType::U8 ? DType::U8 : DType::Bool;
  Dims axes = reduced_axes(op == ReduceOp::Any ? "any" : "all", dim, x);
  return run_reduce(op, x, axes, keepdim, out, compute_type(x.dtype()));
}
template <ReduceOp op>
Tensor truth_dim(const Tensor& x, OptDims dim, bool keepdim) {
  return truth_impl<op>(x, dim, keepdim);
}
template <ReduceOp op>
Tensor truth_all(const Tensor& x) {
  return truth_impl<op>(x, std::nullopt, false);
}
TG_OP("any(Tensor input) -> Tensor", .doc = "True if any element is non-zero (NaN is).",
      .primitive = box<truth_all<ReduceOp::Any>>, .flags = kNoGrad, .samples = "B(3,4); T(3,4); T(0); T(); I(4, hi=2)");
TG_OP("any.dim(Tensor input, int[]? dim, bool keepdim=False) -> Tensor",
      .doc = "True where any element over `dim` is non-zero.", .primitive = box<truth_dim<ReduceOp::Any>>,
      .flags = kNoGrad,
      .samples = "B(3,4), 0; B(3,4), dim=-1, keepdim=True; B(2,3,4), [0,2]; T(0,3), 0; I(3,4, hi=2), 1; T(), 0");
TG_OP("all(Tensor input) -> Tensor", .doc = "True if every element is non-zero (also when empty).",
      .primitive = box<truth_all<ReduceOp::All>>, .flags = kNoGrad, .samples = "B(3,4); T(3,4); T(0); T(); I(4, hi=2)");
TG_OP("all.dim(Tensor input, int[]? dim, bool keepdim=False) -> Tensor",
      .doc = "True where every element over `dim` is non-zero.", .primitive = box<truth_dim<ReduceOp::All>>,
      .flags = kNoGrad,
      .samples = "B(3,4), 0; B(3,4), dim=-1, keepdim=True; B(2,3,4), [0,2]; T(0,3), 0; I(3,4, hi=2), 1; T(), 0");

Tensor count_nonzero_body(const Tensor& x, OptDims dim) { return sum(ne(x, 0), dim); }
TG_OP("count_nonzero(Tensor input, int[]? dim=None) -> Tensor",
      .doc = "Number of non-zero elements, over `dim` or all.", .composite = box<count_nonzero_body>, .flags = kNoGrad,
      .samples = "I(3,4, hi=2); T(3,4), 0; B(2,3,4), [0,2]; T(0,3), 0; T()");

}  // namespace
}  // namespace tg
