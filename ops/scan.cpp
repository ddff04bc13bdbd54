// Running sums, products and extremes along one dimension.
#include "ops/copy_view.h"
#include "ops/index.h"

namespace tg {
namespace {

using OptDType = std::optional<DType>;

// Running op in the dtype of x.
Tensor run_scan(ScanOp op, const Tensor& x, int axis, Tensor* index = nullptr) {
  Tensor y = empty_tensor(x.sizes(), x.dtype(), x.device());
  if (index) *index = empty_tensor(x.sizes(), DType::I64, x.device());
  if (y.numel() == 0) return y;
  if (x.ndim() == 0) {
    if (index) *index = zeros({}, DType::I64, x.device());
    copy_view(x.device(), View(x), View(y));
    return y;
  }
  backend(x.device()).scan(op, View(x), axis, View(y), index ? View(*index) : View());
  return y;
}

Tensor accumulable(const Tensor& x, OptDType dtype) {
  return narrow_to(x, dtype ? *dtype : is_float(x.dtype()) ? x.dtype() : DType::I64);
}

Tensor cumsum_impl(const Tensor& x, int64_t dim, OptDType dtype) {
  int axis = wrap_dim("cumsum", dim, x.ndim());
  return run_scan(ScanOp::Sum, accumulable(x, dtype), axis);
}
// Running sum from the end.
Tensor cumsum_back(const Tensor& x, int64_t dim) { return flip(cumsum(flip(x, {dim}), dim), {dim}); }

TG_OP("cumsum(Tensor input, int dim, *, dtype? dtype=None) -> Tensor",
      .doc = "Running sum along dim. Integers and bool give int64.", .primitive = box<cumsum_impl>,
      .grads = {{0, [](GradCtx& c) { return cumsum_back(c.g(), c.arg<int64_t>(1)); }}}, .flags = kMakeInplace,
      .autocast = Autocast::Float32,
      .samples =
          "T(5), 0; T(3,4), 1; T(3,4), dim=-2; T(2,3,4), 1; T(), 0; T(0,3), 0; I(3,4, hi=5), 1; T(3,4), 0, "
          "dtype=DT('float64'); T(33,2), 0");

Tensor cumprod_impl(const Tensor& x, int64_t dim, OptDType dtype) {
  int axis = wrap_dim("cumprod", dim, x.ndim());
  return run_scan(ScanOp::Prod, accumulable(x, dtype), axis);
}

// d/dx_i = sum over k >= i of g_k * (product of the others up to k), by the definition: n^2 memory, but every
// derivative of it is right also where x is 0.
Tensor cumprod_grad_exact(const Tensor& g, const Tensor& x, int axis) {
  Tensor xs = movedim(x, {axis}, {-1}), gs = movedim(g, {axis}, {-1});
  int64_t n = xs.size(-1);
  Tensor step = arange(n, DType::I64, x.device()), self = unsqueeze(step, 1);
  Tensor others = where(eq(self, step), 1.0, unsqueeze(xs, -2));                       // [.., i, k], 1 at k = i
  Tensor terms = where(ge(step, self), cumprod(others, -1) * unsqueeze(gs, -2), 0.0);  // k >= i
  return movedim(sum(terms, -1), {-1}, {axis});
}

// Before the first zero z: sum_{k >= i} g_k y_k / x_i. At z the same with x_z taken as 1. After it: 0.
Tensor cumprod_grad_fast(const Tensor& g, const Tensor& x, const Tensor& y, int axis) {
  Tensor zero = eq(x, 0.0), seen = cumsum(zero, axis);
  Tensor first = logical_and(zero, eq(seen, 1));
  Tensor before = cumsum_back(g * y, axis) / x;
  Tensor at = cumsum_back(g * cumprod(where(first, 1.0, x), axis), axis);
  return where(eq(seen, 0), before, where(first, at, 0.0));
}

Tensor cumprod_grad(GradCtx& c) {
  Tensor x = c.x(0), y = c.y();
  if (x.ndim() == 0 || x.numel() == 0) return c.g();
  int axis = wrap_dim("cumprod", c.arg<int64_t>(1), x.ndim());
  if (!recorded(x) && !any(eq(x, 0.0)).item<bool>()) return cumsum_back(c.g() * y, axis) / x;
  return modes().grad ? cumprod_grad_exact(c.g(), x, axis) : cumprod_grad_fast(c.g(), x, y, axis);
}
TG_OP("cumprod(Tensor input, int dim, *, dtype? dtype=None) -> Tensor",
      .doc = "Running product along dim. Integers and bool give int64.", .primitive = box<cumprod_impl>,
      .grads = {{in(0) | out(0), cumprod_grad}}, .flags = kMakeInplace, .autocast = Autocast::Float32,
      .samples =
          "T(5), 0; T(3,4), 1; T(3,4), dim=-2; T(2,3,4), 1; T(), 0; T(0,3), 0; I(3,4, hi=3), 1; "
          "T(3,4), 0, dtype=DT('float64')");

template <bool largest>
std::tuple<Tensor, Tensor> cumulative_extreme(const Tensor& x, int64_t dim) {
  int axis = wrap_dim(largest ? "cummax" : "cummin", dim, x.ndim());
  Tensor index;
  Tensor values = run_scan(largest ? ScanOp::Max : ScanOp::Min, x, axis, &index);
  return {values, index};
}
Tensor cumulative_extreme_grad(GradCtx& c) {
  if (c.shape(0).empty()) return c.g();
  return scatter_add_(zeros_like(c.g()), c.arg<int64_t>(1), c.y(1), c.g());
}
TG_OP("cummax(Tensor input, int dim) -> (Tensor values, Tensor indices)",
      .doc = "Running maximum along dim and its position (the last among equals); NaN stays once met.",
      .primitive = box<cumulative_extreme<true>>, .grads = {{out(1), cumulative_extreme_grad}},
      .samples = "T(5), 0; T(3,4), 1; T(2,3,4), -2; T(), 0; T(0,3), 0; I(8, hi=4), 0");
TG_OP("cummin(Tensor input, int dim) -> (Tensor values, Tensor indices)",
      .doc = "Running minimum along dim and its position (the last among equals); NaN stays once met.",
      .primitive = box<cumulative_extreme<false>>, .grads = {{out(1), cumulative_extreme_grad}},
      .samples = "T(5), 0; T(3,4), 1; T(2,3,4), -2; T(), 0; T(0,3), 0; I(8, hi=4), 0");

Tensor logcumsumexp_impl(const Tensor& x, int64_t dim) {
  int axis = wrap_dim("logcumsumexp", dim, x.ndim());
  TG_CHECK(is_float(x.dtype()), DTypeError, "logcumsumexp: expected a floating-point tensor, input=", describe(x));
  return run_scan(ScanOp::LogSumExp, x, axis);
}
// sum_{k >= i} g_k exp(x_i - y_k), the positive and the negative g apart so that it can be summed in the logarithm.
Tensor logcumsumexp_grad(GradCtx& c) {
  Tensor x = c.x(0), y = c.y(), g = c.g();
  int64_t dim = c.arg<int64_t>(1);
  auto part = [&](const Tensor& w) {
    Tensor positive = gt(w, 0.0);
    Tensor lw = where(positive, log(where(positive, w, 1.0)), -1e30);
    return exp(flip(logcumsumexp(flip(lw - y, {dim}), dim), {dim}) + x);
  };
  return part(g) - part(-g);
}
TG_OP("logcumsumexp(Tensor input, int dim) -> Tensor",
      .doc = "Logarithm of the running sum of exponentials, without overflow.", .primitive = box<logcumsumexp_impl>,
      .grads = {{in(0) | out(0), logcumsumexp_grad}}, .autocast = Autocast::Float32,
      .samples = "T(5), 0; T(3,4), 1; T(2,3,4), -2; T(), 0; T(0,3), 0");

Tensor diff_body(const Tensor& x, int64_t n, int64_t dim, const Tensor& prepend, const Tensor& append) {
  TG_CHECK(n >= 0, ValueError, "diff: order must not be negative, got ", n);
  TG_CHECK(x.ndim() > 0, ShapeError, "diff: expected at least 1 dimension, input=", describe(x));
  int axis = wrap_dim("diff", dim, x.ndim());
  std::vector<Tensor> parts;
  if (prepend.defined()) parts.push_back(prepend);
  parts.push_back(x);
  if (append.defined()) parts.push_back(append);
  Tensor y = parts.size() > 1 ? cat(parts, axis) : x;
  if (n == 0) return clone(y);
  for (; n > 0 && y.sizes()[axis] > 0; --n) {
    int64_t m = y.sizes()[axis] - 1;
    Tensor hi = narrow(y, axis, 1, m), lo = narrow(y, axis, 0, m);
    y = y.dtype() == DType::Bool ? logical_xor(hi, lo) : hi - lo;
  }
  return y;
}
TG_OP("diff(Tensor input, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None) -> Tensor",
      .doc = "n-th difference of neighbours along dim.", .composite = box<diff_body>,
      .samples = "T(5); T(3,4), 2; T(3,4), 1, 0; T(3,4), 5; B(5); T(3,4), 1, 1, T(3,2), T(3,1); T(5), 0; I(6, hi=9)");

// sum of (y[i] + y[i+1]) / 2 * step
Tensor trapezoid_steps(const Tensor& y, int axis, const Operand& step) {
  int64_t m = std::max<int64_t>(y.sizes()[axis] - 1, 0);
  Tensor pair = narrow(y, axis, std::min<int64_t>(1, y.sizes()[axis]), m) + narrow(y, axis, 0, m);
  return pair * step / 2.0;
}
Tensor trapezoid_x_steps(const char* op, const Tensor& y, const Tensor& x, int64_t dim) {
  int axis = wrap_dim(op, dim, y.ndim());
  TG_CHECK(y.ndim() > 0 && x.ndim() > 0, ShapeError, op, ": expected at least 1 dimension; y=", describe(y),
           ", x=", describe(x));
  Tensor step = x.ndim() == 1 ? diff(x) : diff(x, 1, dim);
  if (x.ndim() == 1) {
    Dims s = Dims::filled(y.ndim(), 1);
    s[axis] = step.numel();
    step = reshape(step, s);
  }
  return trapezoid_steps(y, axis, step);
}
Tensor trapezoid_x(const Tensor& y, const Tensor& x, int64_t dim) {
  return sum(trapezoid_x_steps("trapezoid", y, x, dim), dim);
}
Tensor trapezoid_dx(const Tensor& y, double dx, int64_t dim) {
  TG_CHECK(y.ndim() > 0, ShapeError, "trapezoid: expected at least 1 dimension; y=", describe(y));
  return sum(trapezoid_steps(y, wrap_dim("trapezoid", dim, y.ndim()), dx), dim);
}
Tensor cumulative_trapezoid_x(const Tensor& y, const Tensor& x, int64_t dim) {
  return cumsum(trapezoid_x_steps("cumulative_trapezoid", y, x, dim), dim);
}
Tensor cumulative_trapezoid_dx(const Tensor& y, double dx, int64_t dim) {
  TG_CHECK(y.ndim() > 0, ShapeError, "cumulative_trapezoid: expected at least 1 dimension; y=", describe(y));
  return cumsum(trapezoid_steps(y, wrap_dim("cumulative_trapezoid", dim, y.ndim()), dx), dim);
}
TG_OP("trapezoid.x(Tensor y, Tensor x, *, int dim=-1) -> Tensor",
      .doc = "Integral along dim by the trapezoidal rule at points x.", .composite = box<trapezoid_x>,
      .flags = kFunctionOnly, .aliases = "trapz", .samples = "T(5), T(5); T(3,4), T(4); T(3,4), T(3,4), dim=0");
TG_OP("trapezoid(Tensor y, *, float dx=1.0, int dim=-1) -> Tensor",
      .doc = "Integral along dim by the trapezoidal rule with step dx.", .composite = box<trapezoid_dx>,
      .flags = kFunctionOnly, .aliases = "trapz", .samples = "T(5); T(3,4), dx=0.5; T(3,4), dim=0; T(1)");
TG_OP("cumulative_trapezoid.x(Tensor y, Tensor x, *, int dim=-1) -> Tensor",
      .doc = "Running trapezoidal integral at points x.", .composite = box<cumulative_trapezoid_x>,
      .flags = kFunctionOnly, .samples = "T(5), T(5); T(3,4), T(4)");
TG_OP("cumulative_trapezoid(Tensor y, *, float dx=1.0, int dim=-1) -> Tensor",
      .doc = "Running trapezoidal integral with step dx.", .composite = box<cumulative_trapezoid_dx>,
      .flags = kFunctionOnly, .samples = "T(5); T(3,4), dx=0.5; T(3,4), dim=0");

}  // namespace
}  // namespace tg
