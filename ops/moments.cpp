// Variance, standard deviation and logsumexp: reductions that look at the data twice, without a temporary of its size.
#include "ops/reduction.h"

namespace tg {
namespace {

using OptDims = std::optional<IntList>;

DType float_compute_type(const char* op, const Tensor& x) {
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, got ", x.dtype(),
           "; input=", describe(x));
  return compute_type(x.dtype());
}

double correction_of(bool unbiased, std::optional<Scalar> correction) {
  return correction ? correction->d() : unbiased;
}

// Sum of squared distances from the mean, divided by max(0, n - correction).
Tensor variance(const char* op, const Tensor& x, const OptDims& dim, double correction, bool keepdim, bool root) {
  DType c = float_compute_type(op, x);
  Dims axes = reduced_axes(op, dim, x);
  double n = double(reduced_count(x, axes));
  Program divide = make_program(c, 1, {n}, {{Opc::div, {0, 1}}});
  Tensor mean = run_reduce(ReduceOp::Sum, x, axes, true, c, c, nullptr, &divide);
  Program distance = make_program(c, 2, {}, {{Opc::sub, {0, 1}}, {Opc::square, {2}}});
  Scalar d = std::max(0.0, n - correction);
  Program finish = root ? make_program(c, 1, {d}, {{Opc::div, {0, 1}}, {Opc::sqrt, {2}}})
                        : make_program(c, 1, {d}, {{Opc::div, {0, 1}}});
  Views ins;
  ins.push_back(View(x)), ins.push_back(broadcast_to_view(mean, x.sizes()));
  return run_reduce(ReduceOp::Sum, x, ins, axes, keepdim, x.dtype(), c, &distance, &finish);
}

Tensor var_impl(const Tensor& x, OptDims dim, bool unbiased, bool keepdim, std::optional<Scalar> correction) {
  return variance("var", x, dim, correction_of(unbiased, correction), keepdim, false);
}
Tensor std_impl(const Tensor& x, OptDims dim, bool unbiased, bool keepdim, std::optional<Scalar> correction) {
  return variance("std", x, dim, correction_of(unbiased, correction), keepdim, true);
}

// g of a variance times 2 (x - mean) / (n - correction)
Tensor variance_grad(GradCtx& c, const Tensor& g) {
  Tensor x = c.x(0);
  Dims axes = wrap_dims("var", c.arg<OptDims>(1).value_or(IntList()), x.ndim());
  if (x.numel() == 0) return zeros_like(x);
  double n = double(reduced_count(x, axes)) - correction_of(c.arg<bool>(2), c.arg<std::optional<Scalar>>(4));
  Tensor centred = x - mean(x, axes, true);
  return with_axes(g, x.sizes(), axes, c.arg<bool>(3)) * (2.0 / std::max(0.0, n)) * centred;
}
Tensor var_grad(GradCtx& c) { return variance_grad(c, c.g()); }
// d sqrt(v) = dv / (2 sqrt(v)); 0 where the deviation is 0
Tensor std_grad(GradCtx& c) {
  Tensor y = c.y(), zero = eq(y, 0.0);
  return variance_grad(c, where(zero, 0.0, c.g() / (2.0 * where(zero, 1.0, y))));
}

TG_OP(
    "var(Tensor input, int[]? dim=None, bool unbiased=True, bool keepdim=False, *, Scalar? correction=None) -> Tensor",
    .doc =
        "Variance over dim (all when None): squared distances from the mean over n - correction; unbiased is "
        "correction 1.",
    .primitive = box<var_impl>, .grads = {{in(0), var_grad}}, .autocast = Autocast::Float32,
    .samples =
        "T(3,4); T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2], False; T(3,4), 1, correction=0; T(3,4), "
        "dim=1, correction=2, keepdim=True; T(5), unbiased=False; T(17,33), 1");
TG_OP(
    "std(Tensor input, int[]? dim=None, bool unbiased=True, bool keepdim=False, *, Scalar? correction=None) -> Tensor",
    .doc = "Standard deviation: the square root of var.", .primitive = box<std_impl>,
    .grads = {{in(0) | out(0), std_grad}}, .autocast = Autocast::Float32,
    .samples =
        "T(3,4); T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2], False; T(3,4), 1, correction=0; T(5), "
        "unbiased=False");

std::tuple<Tensor, Tensor> var_mean_body(const Tensor& x, OptDims dim, bool unbiased, bool keepdim,
                                         std::optional<Scalar> correction) {
  return {var(x, dim, unbiased, keepdim, correction), mean(x, dim, keepdim)};
}
std::tuple<Tensor, Tensor> std_mean_body(const Tensor& x, OptDims dim, bool unbiased, bool keepdim,
                                         std::optional<Scalar> correction) {
  return {std(x, dim, unbiased, keepdim, correction), mean(x, dim, keepdim)};
}
TG_OP(
    "var_mean(Tensor input, int[]? dim=None, bool unbiased=True, bool keepdim=False, *, Scalar? correction=None) -> "
    "(Tensor, Tensor)",
    .doc = "Variance and mean.", .composite = box<var_mean_body>, .flags = kFunctionOnly,
    .samples = "T(3,4); T(3,4), 0, False; T(2,3,4), [0,2], correction=0, keepdim=True");
TG_OP(
    "std_mean(Tensor input, int[]? dim=None, bool unbiased=True, bool keepdim=False, *, Scalar? correction=None) -> "
    "(Tensor, Tensor)",
    .doc = "Standard deviation and mean.", .composite = box<std_mean_body>, .flags = kFunctionOnly,
    .samples = "T(3,4); T(3,4), 0, False; T(2,3,4), [0,2], correction=0, keepdim=True");

// top + log(sum(exp(x - top))), where an infinite top is taken as 0: the sum then is 0 or inf by itself.
Tensor logsumexp_impl(const Tensor& input, IntList dim, bool keepdim) {
  Tensor x = is_float(input.dtype()) ? input : cast(input, default_dtype());
  DType c = compute_type(x.dtype());
  Dims axes = wrap_dims("logsumexp", dim, x.ndim());
  if (x.numel() == 0) return log(sum(x, axes, keepdim));
  Program bound = make_program(c, 1, {0.0}, {{Opc::isinf, {0}}, {Opc::where, {2, 1, 0}}});
  Tensor top = run_reduce(ReduceOp::Max, x, axes, true, c, c, nullptr, &bound);
  Program shifted = make_program(c, 2, {}, {{Opc::sub, {0, 1}}, {Opc::exp, {2}}});
  Program take_log = make_program(c, 1, {}, {{Opc::log, {0}}});
  Views ins;
  ins.push_back(View(x)), ins.push_back(broadcast_to_view(top, x.sizes()));
  Tensor y = run_reduce(ReduceOp::Sum, x, ins, axes, keepdim, c, c, &shifted, &take_log);
  return narrow_to(add(y, reshape(top, y.sizes())), x.dtype());
}
Tensor logsumexp_grad(GradCtx& c) {
  Tensor x = c.x(0);
  Dims axes = wrap_dims("logsumexp", c.arg<IntList>(1), x.ndim());
  bool keepdim = c.arg<bool>(2);
  Tensor y = with_axes(c.y(), x.sizes(), axes, keepdim), g = with_axes(c.g(), x.sizes(), axes, keepdim);
  return g * exp(x - where(isneginf(y), 0.0, y));
}
TG_OP("logsumexp(Tensor input, int[] dim, bool keepdim=False) -> Tensor",
      .doc = "log(sum(exp(input))) over dim, without overflow.", .primitive = box<logsumexp_impl>,
      .grads = {{in(0) | out(0), logsumexp_grad}}, .autocast = Autocast::Float32,
      .samples = "T(3,4), 0; T(3,4), dim=-1, keepdim=True; T(2,3,4), [0,2]; T(), 0; T(0,3), 0; T(0,3), 1");

}  // namespace
}  // namespace tg
