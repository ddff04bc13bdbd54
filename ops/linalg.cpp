// Products built from matmul and the element-wise ops: tensordot, kron, cross, trace, powers.
#include "ops/copy_view.h"

namespace tg {
namespace {

Tensor tensordot_over(const Tensor& a, const Tensor& b, const Dims& da, const Dims& db) {
  auto rest = [](const Tensor& t, const Dims& gone) {
    Dims r;
    for (int i = 0; i < t.ndim(); ++i)
      if (!gone.contains(i)) r.push_back(i);
    return r;
  };
  Dims ra = rest(a, da), rb = rest(b, db), pa = ra, pb = db, sizes;
  int64_t k = 1, m = 1, n = 1;
  for (int i = 0; i < da.size(); ++i) {
    int64_t sa = a.sizes()[int(da[i])], sb = b.sizes()[int(db[i])];
    TG_CHECK(sa == sb, ShapeError, "tensordot: contracted sizes differ, ", sa, " (dimension ", da[i], " of a) vs ", sb,
             " (dimension ", db[i], " of b); a=", describe(a), ", b=", describe(b));
    pa.push_back(da[i]);
    k *= sa;
  }
  for (int64_t d : ra) sizes.push_back(a.sizes()[int(d)]), m *= a.sizes()[int(d)];
  for (int64_t d : rb) pb.push_back(d), sizes.push_back(b.sizes()[int(d)]), n *= b.sizes()[int(d)];
  return reshape(matmul(reshape(permute(a, pa), {m, k}), reshape(permute(b, pb), {k, n})), sizes);
}
Tensor tensordot_count(const Tensor& a, const Tensor& b, int64_t dims) {
  TG_CHECK(dims >= 0 && dims <= a.ndim() && dims <= b.ndim(), ValueError, "tensordot: cannot contract ", dims,
           " dimensions; a=", describe(a), ", b=", describe(b));
  Dims da, db;
  for (int64_t i = 0; i < dims; ++i) da.push_back(a.ndim() - dims + i), db.push_back(i);
  return tensordot_over(a, b, da, db);
}
Tensor tensordot_axes(const Tensor& a, const Tensor& b, IntList dims_a, IntList dims_b) {
  TG_CHECK(dims_a.size() == dims_b.size(), ValueError, "tensordot: dims_a and dims_b must have the same length, got ",
           dims_a.size(), " and ", dims_b.size());
  if (dims_a.empty()) return tensordot_over(a, b, {}, {});
  return tensordot_over(a, b, wrap_dims("tensordot", dims_a, a.ndim()), wrap_dims("tensordot", dims_b, b.ndim()));
}
TG_OP("tensordot(Tensor a, Tensor b, int dims=2) -> Tensor",
      .doc = "Sum of products over the last `dims` dimensions of a and the first of b.",
      .composite = box<tensordot_count>, .flags = kFunctionOnly,
      .samples = "T(2,3,4), T(3,4,5); T(3,4), T(4,5), dims=1; T(3), T(2), dims=0");
TG_OP("tensordot.axes(Tensor a, Tensor b, int[] dims_a, int[] dims_b) -> Tensor",
      .doc = "Sum of products over pairs of dimensions.", .composite = box<tensordot_axes>, .flags = kFunctionOnly,
      .torch = "none", .samples = "T(3,4,5), T(4,3,2), [1,0], [0,1]; T(3,4), T(5,4), [-1], [-1]");

Tensor kron_body(const Tensor& a, const Tensor& b) {
  int n = std::max(a.ndim(), b.ndim());
  TG_CHECK(2 * n <= kMaxDims, ShapeError, "kron: at most ", kMaxDims / 2, " dimensions are supported; a=", describe(a),
           ", b=", describe(b));
  Dims sa, sb, out;
  for (int i = 0; i < n; ++i) {
    int ia = a.ndim() - n + i, ib = b.ndim() - n + i;
    int64_t x = ia < 0 ? 1 : a.sizes()[ia], y = ib < 0 ? 1 : b.sizes()[ib], m;
    TG_CHECK(!__builtin_mul_overflow(x, y, &m), ShapeError, "kron: dimension ", i,
             " would have more than 2^63 elements");
    sa.push_back(x), sa.push_back(1), sb.push_back(1), sb.push_back(y), out.push_back(m);
  }
  return reshape(reshape(a, sa) * reshape(b, sb), out);
}
TG_OP("kron(Tensor input, Tensor other) -> Tensor", .doc = "Kronecker product.", .composite = box<kron_body>,
      .samples = "T(2,3), T(3,2); T(3), T(2,2); T(), T(3); T(0,2), T(2,2)");

Tensor cross_body(const Tensor& a, const Tensor& b, std::optional<int64_t> dim) {
  TG_CHECK(a.ndim() == b.ndim(), ShapeError, "cross: operands must have the same number of dimensions; a=", describe(a),
           ", b=", describe(b));
  Dims shape = broadcast_shapes("cross", a.sizes(), b.sizes());
  int axis = -1;
  if (dim)
    axis = wrap_dim("cross", *dim, a.ndim());
  else
    for (int i = shape.size() - 1; i >= 0; --i)
      if (shape[i] == 3) axis = i;
  TG_CHECK(axis >= 0 && axis < shape.size() && a.sizes()[axis] == 3 && b.sizes()[axis] == 3, ShapeError,
           "cross: dimension ", axis, " must have size 3 in both; a=", describe(a), ", b=", describe(b));
  Tensor x = expand(a, shape), y = expand(b, shape);
  auto turn = [&](const Tensor& t, int64_t by) { return roll(t, {by}, {axis}); };
  return turn(x, -1) * turn(y, -2) - turn(x, -2) * turn(y, -1);
}
TG_OP("cross(Tensor input, Tensor other, int? dim=None) -> Tensor",
      .doc = "Vector product along dim, which has size 3 (default: the first such dimension).",
      .composite = box<cross_body>, .autocast = Autocast::Widest,
      .samples = "T(3), T(3); T(2,3), T(2,3); T(3,4), T(3,4), dim=0; T(2,3), T(1,3), dim=-1");

Tensor trace_body(const Tensor& x) {
  TG_CHECK(x.ndim() == 2, ShapeError, "trace: expected a matrix, input=", describe(x));
  return sum(diagonal(x));
}
TG_OP("trace(Tensor input) -> Tensor", .doc = "Sum of the diagonal of a matrix.", .composite = box<trace_body>,
      .samples = "T(3,3); T(2,4); I(3,3, hi=5); T(0,0)");

Tensor chain_body(TensorList ts) {
  TG_CHECK(!ts.empty(), ValueError, "chain_matmul: expected at least one matrix");
  for (int64_t k = 0; k < ts.size(); ++k)
    TG_CHECK(ts[k].ndim() == 2, ShapeError, "chain_matmul: expected matrices, matrices[", k, "]=", describe(ts[k]));
  // Cheapest order by the usual dynamic programme over sub-chains: cost[i][j] and where to cut it.
  size_t n = size_t(ts.size());
  std::vector<std::vector<double>> cost(n, std::vector<double>(n, 0));
  std::vector<std::vector<size_t>> cut(n, std::vector<size_t>(n, 0));
  auto rows = [&](size_t i) { return double(ts[int64_t(i)].size(0)); };
  auto cols = [&](size_t i) { return double(ts[int64_t(i)].size(1)); };
  for (size_t len = 1; len < n; ++len)
    for (size_t i = 0; i + len < n; ++i) {
      size_t j = i + len;
      for (size_t k = i; k < j; ++k) {
        double total = cost[i][k] + cost[k + 1][j] + rows(i) * cols(k) * cols(j);
        if (k == i || total < cost[i][j]) cost[i][j] = total, cut[i][j] = k;
      }
    }
  auto product = [&](auto& self, size_t i, size_t j) -> Tensor {
    if (i == j) return ts[int64_t(i)];
    return mm(self(self, i, cut[i][j]), self(self, cut[i][j] + 1, j));
  };
  return product(product, 0, n - 1);
}
TG_OP("chain_matmul(Tensor[] matrices) -> Tensor", .doc = "Product of a chain of matrices in the cheapest order.",
      .composite = box<chain_body>, .flags = kFunctionOnly, .autocast = Autocast::Low, .torch = "linalg.multi_dot",
      .samples = "[T(2,3), T(3,4)]; [T(2,3), T(3,4), T(4,5)]; [T(2,3), T(3,1), T(1,5), T(5,2)]");

Tensor matrix_power_body(const Tensor& x, int64_t n) {
  TG_CHECK(x.ndim() >= 2 && x.size(-1) == x.size(-2), ShapeError,
           "matrix_power: expected square matrices, input=", describe(x));
  if (n < 0) return matrix_power(linalg_inv(x), -std::max(n, -INT64_MAX));
  if (n == 0) {
    Tensor i = arange(x.size(-1), DType::I64, x.device());
    return expand(cast(eq(unsqueeze(i, 1), i), x.dtype()), x.sizes());
  }
  Tensor power = x, y;
  for (; n > 0; n >>= 1) {
    if (n & 1) y = y.defined() ? matmul(y, power) : power;
    if (n > 1) power = matmul(power, power);
  }
  return y.is_same(x) ? clone(x) : y;
}
TG_OP("matrix_power(Tensor input, int n) -> Tensor",
      .doc = "Square matrices to the power n; a negative one takes the inverse (LinAlgError if there is none).",
      .composite = box<matrix_power_body>, .aliases = "linalg_matrix_power",
      .samples = "T(3,3), 3; T(2,3,3), 2; T(3,3), 0; T(3,3), 1; W(3,3), -1; W(2,3,3), -3");

}  // namespace
}  // namespace tg
