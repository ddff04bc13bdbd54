// Norms and distances.
#include <cmath>

#include "ops/reduction.h"

namespace tg {
namespace {

using OptDims = std::optional<IntList>;
using OptDType = std::optional<DType>;

// What a p-norm reduces with, what it applies to each element, and to the result.
struct NormPlan {
  ReduceOp op = ReduceOp::Sum;
  Program pre, post;
  bool has_post = false;
};
NormPlan norm_plan(double p, DType c) {
  NormPlan n;
  n.pre = make_program(c, 1, {}, {{Opc::abs, {0}}});
  if (std::isinf(p)) {
    n.op = p > 0 ? ReduceOp::Max : ReduceOp::Min;
  } else if (p == 0) {
    n.pre = make_program(c, 1, {0.0}, {{Opc::ne, {0, 1}}});
  } else if (p == 2) {
    n.pre = make_program(c, 1, {}, {{Opc::square, {0}}});
    n.post = make_program(c, 1, {}, {{Opc::sqrt, {0}}});
    n.has_post = true;
  } else if (p != 1) {
    n.pre = make_program(c, 1, {p}, {{Opc::abs, {0}}, {Opc::pow, {2, 1}}});
    n.post = make_program(c, 1, {1.0 / p}, {{Opc::pow, {0, 1}}});
    n.has_post = true;
  }
  return n;
}

Tensor vector_norm_impl(const Tensor& x, Scalar ord, OptDims dim, bool keepdim, OptDType dtype) {
  DType out = dtype.value_or(x.dtype());
  TG_CHECK(is_float(out), DTypeError, "vector_norm: expected a floating-point tensor, got ", out,
           "; input=", describe(x));
  double p = ord.d();
  TG_CHECK(!std::isnan(p), ValueError, "vector_norm: the order must not be NaN");
  Dims axes = reduced_axes("vector_norm", dim, x);
  TG_CHECK((p >= 0 && !std::isinf(p)) || reduced_count(x, axes) > 0, ShapeError, "vector_norm: order ", p,
           " of no elements does not exist; input=", describe(x));
  DType c = compute_type(out);
  NormPlan n = norm_plan(p, c);
  return run_reduce(n.op, x, axes, keepdim, out, c, &n.pre, n.has_post ? &n.post : nullptr);
}

// Where x is 0 the gradient is 0: the subgradient PyTorch takes.
Tensor vector_norm_grad(GradCtx& c) {
  Tensor x = c.x(0);
  double p = c.arg<Scalar>(1).d();
  Dims axes = wrap_dims("vector_norm", c.arg<OptDims>(2).value_or(IntList()), x.ndim());
  bool keepdim = c.arg<bool>(3);
  Tensor y = with_axes(c.y(), x.sizes(), axes, keepdim), g = with_axes(c.g(), x.sizes(), axes, keepdim);
  if (p == 0) return zeros_like(x);
  if (p == 1) return g * sign(x);
  if (std::isinf(p)) {
    Tensor ties = cast(eq(abs(x), y), x.dtype());
    return ties * sign(x) * (g / sum(ties, axes, true));
  }
  if (p == 2) {
    Tensor zero = eq(y, 0.0);
    return x * where(zero, 0.0, g / where(zero, 1.0, y));
  }
  Tensor zero = eq(x, 0.0);
  Tensor ratio = where(zero, 1.0, abs(x) / where(eq(y, 0.0), 1.0, y));
  return where(zero, 0.0, g * sign(x) * pow(ratio, p - 1));
}

TG_OP("vector_norm(Tensor input, Scalar ord=2, int[]? dim=None, bool keepdim=False, dtype? dtype=None) -> Tensor",
      .doc =
          "p-norm over dim (all when None): the p-th root of the sum of |input|^p; ord inf and -inf take the extreme "
          "magnitude, 0 counts the non-zero elements.",
      .primitive = box<vector_norm_impl>, .grads = {{in(0) | out(0), vector_norm_grad}}, .flags = kFunctionOnly,
      .autocast = Autocast::Float32, .aliases = "linalg_vector_norm", .torch = "linalg.vector_norm",
      .samples =
          "T(3,4); T(3,4), 1, 0; T(3,4), 2, -1, True; T(2,3,4), 3, [0,2]; T(3,4), 0.5, 1; T(3,4), float('inf'), 1; "
          "T(3,4), float('-inf'), 0; T(3,4), 0, 1; T(); T(0,3), 2, 0; T(3,4), -2.0, 1");

Tensor norm_p(const Tensor& x, std::optional<Scalar> p, OptDims dim, bool keepdim, OptDType dtype) {
  return vector_norm(x, p.value_or(2), dim, keepdim, dtype);
}
Tensor norm_by_name(const Tensor& x, std::string_view p, OptDims dim, bool keepdim, OptDType dtype) {
  TG_CHECK(p == "fro", ValueError, "norm: p must be a number or 'fro', got '", p, "'");
  return vector_norm(x, 2, dim, keepdim, dtype);
}
TG_OP("norm(Tensor input, Scalar? p=2, int[]? dim=None, bool keepdim=False, dtype? dtype=None) -> Tensor",
      .doc = "p-norm of the elements over dim, or of all.", .composite = box<norm_p>,
      .samples =
          "T(3,4); T(3,4), 1, 0; T(3,4), 2, -1, True; T(2,3,4), 3, [0,2]; T(3,4), p=float('inf'), dim=1; T(3,4), p=0, "
          "dim=1; T()");
TG_OP("norm.name(Tensor input, str p, int[]? dim=None, bool keepdim=False, dtype? dtype=None) -> Tensor",
      .doc = "Norm given by name: 'fro', the root of the sum of squares.", .composite = box<norm_by_name>,
      .samples = "T(3,4), 'fro'; T(3,4), 'fro', [0,1]");

Tensor dist_body(const Tensor& a, const Tensor& b, Scalar p) { return vector_norm(a - b, p); }
TG_OP("dist(Tensor input, Tensor other, Scalar p=2) -> Tensor", .doc = "p-norm of input - other.",
      .composite = box<dist_body>, .samples = "T(3,4), T(3,4); T(3,4), T(4), 1; T(3), T(3), float('inf')");

Tensor cdist_body(const Tensor& a, const Tensor& b, double p, std::optional<std::string_view>) {
  TG_CHECK(a.ndim() >= 2 && b.ndim() >= 2, ShapeError, "cdist: expected at least 2 dimensions; x1=", describe(a),
           ", x2=", describe(b));
  TG_CHECK(a.size(-1) == b.size(-1), ShapeError, "cdist: points have ", a.size(-1), " and ", b.size(-1),
           " coordinates; x1=", describe(a), ", x2=", describe(b));
  TG_CHECK(p >= 0, ValueError, "cdist: p must not be negative, got ", p);
  return vector_norm(unsqueeze(a, -2) - unsqueeze(b, -3), p, -1);
}
TG_OP(
    "cdist(Tensor x1, Tensor x2, float p=2.0, str? compute_mode=None) -> Tensor",
    .doc = "Distances of each row of x1 to each row of x2, (.., m, n).", .composite = box<cdist_body>,
    .flags = kFunctionOnly, .autocast = Autocast::Float32,
    .samples =
        "T(3,4), T(5,4); T(3,4), T(5,4), 1.0; T(2,3,4), T(2,5,4), p=4.0; T(3,4), T(5,4), float('inf'); T(0,4), T(5,4)");

Tensor pdist_body(const Tensor& x, double p) {
  TG_CHECK(x.ndim() == 2, ShapeError, "pdist: expected 2 dimensions; input=", describe(x));
  TG_CHECK(p >= 0, ValueError, "pdist: p must not be negative, got ", p);
  Tensor pairs = triu_indices(x.size(0), x.size(0), 1, DType::I64, x.device());
  return vector_norm(index_select(x, 0, pairs[0]) - index_select(x, 0, pairs[1]), p, 1);
}
TG_OP("pdist(Tensor input, float p=2.0) -> Tensor",
      .doc = "Distances of each row to each later row, n (n - 1) / 2 of them.", .composite = box<pdist_body>,
      .flags = kFunctionOnly | kAlsoNN, .autocast = Autocast::Float32,
      .samples = "T(4,3); T(4,3), 1.0; T(4,3), p=3.0; T(4,3), float('inf'); T(1,3)");

// Slices along dim whose norm is above maxnorm, scaled down to it.
Tensor renorm_body(const Tensor& x, Scalar p, int64_t dim, Scalar maxnorm) {
  TG_CHECK(x.ndim() >= 2, ShapeError, "renorm: expected at least 2 dimensions; input=", describe(x));
  TG_CHECK(p.d() > 0 && maxnorm.d() >= 0, ValueError, "renorm: p must be positive and maxnorm not negative, got ",
           p.d(), " and ", maxnorm.d());
  int kept = wrap_dim("renorm", dim, x.ndim());
  Dims axes;
  for (int i = 0; i < x.ndim(); ++i)
    if (i != kept) axes.push_back(i);
  Tensor n = vector_norm(x, p, IntList(axes), true), large = gt(n, maxnorm);
  return x * where(large, maxnorm.d() / (n + 1e-7), 1.0);
}
TG_OP("renorm(Tensor input, Scalar p, int dim, Scalar maxnorm) -> Tensor",
      .doc = "input with each slice along dim whose p-norm is above maxnorm scaled down to it.",
      .composite = box<renorm_body>, .flags = kMakeInplace,
      .samples = "T(3,4), 2, 0, 1.0; T(3,4), 1, -1, 0.5; T(2,3,4), 3, 1, 1.5; T(3,4), 2, 0, 100");

}  // namespace
}  // namespace tg
