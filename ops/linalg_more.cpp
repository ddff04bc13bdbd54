// Products and functions of matrices: chains, powers, the exponential.
#include "ops/linalg.h"

namespace tg {
namespace {

using namespace linalg;

Tensor multi_dot_body(TensorList ts) {
  const char* op = "linalg.multi_dot";
  TG_CHECK(ts.size() >= 2, ValueError, op, ": expected at least two tensors, got ", ts.size());
  std::vector<Tensor> all(ts.begin(), ts.end());
  const bool row = all.front().ndim() == 1, column = all.back().ndim() == 1;
  if (row) all.front() = unsqueeze(all.front(), 0);
  if (column) all.back() = unsqueeze(all.back(), 1);
  Tensor y = chain_matmul(all);
  if (column) y = squeeze(y, 1);
  return row ? squeeze(y, 0) : y;
}
TG_OP("linalg_multi_dot(Tensor[] tensors) -> Tensor",
      .doc = "Product of matrices in the cheapest order; the first and the last may be vectors.",
      .composite = box<multi_dot_body>, .flags = kFunctionOnly, .autocast = Autocast::Low,
      .samples = "[T(2,3), T(3,4)]; [T(3), T(3,4), T(4)]; [T(2,3), T(3,1), T(1,5), T(5)]; [T(3), T(3,2)]");

Tensor vecdot_body(const Tensor& x, const Tensor& y, int64_t dim) {
  TG_CHECK(x.dtype() == y.dtype(), DTypeError, "linalg.vecdot: expected vectors of one dtype; x=", describe(x),
           ", y=", describe(y));
  return sum(x * y, dim);
}
TG_OP("linalg_vecdot(Tensor x, Tensor y, *, int dim=-1) -> Tensor",
      .doc = "Dot products along dim; the rest broadcasts.", .composite = box<vecdot_body>, .autocast = Autocast::Low,
      .samples = "T(3), T(3); T(2,3), T(2,3); T(2,3), T(3); T(3,2), T(3,1), dim=0");
Tensor linalg_cross_body(const Tensor& a, const Tensor& b, int64_t dim) { return cross(a, b, dim); }
TG_OP("linalg_cross(Tensor input, Tensor other, *, int dim=-1) -> Tensor",
      .doc = "Vector product along dim, which has size 3.", .composite = box<linalg_cross_body>, .flags = kFunctionOnly,
      .autocast = Autocast::Widest, .samples = "T(3), T(3); T(2,3), T(1,3); T(3,4), T(3,4), dim=0");
Tensor linalg_diagonal_body(const Tensor& a, int64_t offset, int64_t dim1, int64_t dim2) {
  return diagonal(a, offset, dim1, dim2);
}
TG_OP("linalg_diagonal(Tensor A, *, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
      .doc = "Diagonals of matrices, of the last two dimensions by default.", .composite = box<linalg_diagonal_body>,
      .samples = "T(3,4); T(2,3,4), offset=1; T(2,3,4), dim1=0, dim2=1");

// ---- the exponential

// Taylor's polynomial of degree 15, whose remainder is below 2^-53 where the norm is at most 1/2; by powers of x^4,
// which takes six products.
Tensor taylor(const Tensor& x) {
  Tensor x2 = matmul(x, x), x3 = matmul(x2, x), x4 = matmul(x2, x2), y;
  Tensor one = eye(x.size(-1), std::nullopt, x.dtype(), x.device());
  double factorial = 1307674368000.0;  // 15!
  for (int i = 12; i >= 0; i -= 4) {
    // the terms i + 3, .., i of the series, divided by x^i
    double f3 = factorial, f2 = f3 / (i + 3), f1 = f2 / (i + 2), f0 = f1 / (i + 1);
    Tensor part = x3 / f3 + x2 / f2 + x / f1 + one / f0;
    y = y.defined() ? matmul(y, x4) + part : part;
    factorial = f0 / std::max(i, 1);
  }
  return y;
}
// exp(x) = exp(x / 2^s)^(2^s), for every matrix with an s of its own.
Tensor matrix_exp_body(const Tensor& x) {
  const char* op = "matrix_exp";
  check_square(op, "input", x);
  if (x.numel() == 0) return clone(x);
  Tensor s;
  int64_t most = 0;
  {
    NoGrad guard;
    Tensor norm = amax(sum(abs(x), -2), -1);
    s = clamp(ceil(log2(norm) + 1.0), 0.0, 1100.0);
    s = unsqueeze(unsqueeze(where(isfinite(norm), s, 0.0), -1), -1);
    most = int64_t(amax(s).item());
  }
  // half the scaling at a time: 2^-1100 alone would be 0
  Tensor half = exp2(neg(floor(s / 2.0))), rest = exp2(neg(ceil(s / 2.0)));
  Tensor y = taylor(x * half * rest);
  for (int64_t i = 0; i < most; ++i) y = where(gt(s, double(i)), matmul(y, y), y);
  return y;
}
TG_OP("matrix_exp(Tensor input) -> Tensor", .doc = "Exponential of square matrices, the sum of input^k / k!.",
      .composite = box<matrix_exp_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .aliases = "linalg_matrix_exp", .samples = "T(3,3); T(2,3,3); W(4,4); W(2,2,2); T(1,1); T(0,0); T(0,2,2)");

}  // namespace
}  // namespace tg
