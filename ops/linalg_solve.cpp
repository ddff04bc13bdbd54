// Linear systems with LU: solve, inverse, determinant, the factors themselves; triangular systems.
#include "ops/linalg.h"

namespace tg {
namespace {

using namespace linalg;
using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

Tensor ints(const Dims& sizes) { return zeros(sizes, DType::I32); }
Tensor identity(const Tensor& like, int64_t n) { return eye(n, std::nullopt, like.dtype(), like.device()); }

// ---- solve and inverse

// A factored, the row swaps and where it failed.
Three factor(const Tensor& a) {
  const Dims batch = batch_of(a);
  const int64_t m = a.size(-2), n = a.size(-1), k = std::min(m, n);
  Tensor lu = to_columns(a), pivots = ints(with(batch, {k})), info = ints(batch);
  each_matrix(a.dtype(), count(batch), double(m) * double(n) * double(k), [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    info.data<int32_t>()[i] = lapack::lu(m, n, at<T>(lu, i, m * n), at<int32_t>(pivots, i, k));
  });
  return {lu, pivots, info};
}
// Solves A X = B in place of B, (batch.., k, n) in columns; a broadcasts to its batch.
Tensor solve_columns(const Tensor& a, const Tensor& b) {
  const Dims batch = batch_of(b);
  const int64_t n = a.size(-1), k = b.size(-2);
  auto [lu, pivots, info] = factor(a);
  lu = contiguous(expand(lu, with(batch, {n, n})));
  pivots = contiguous(expand(pivots, with(batch, {n})));
  each_matrix(a.dtype(), count(batch), double(n) * double(n) * double(k), [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    lapack::lu_solve(n, k, at<T>(lu, i, n * n), at<int32_t>(pivots, i, n), at<T>(b, i, n * k));
  });
  return info;
}

Two solve_matrix_impl(const Tensor& a, const Tensor& b) {
  check_square("linalg.solve", "A", a);
  Tensor x = to_columns(b, check_system("linalg.solve", a, b));
  Tensor info = solve_columns(a, x);
  return {from_columns(x), info};
}
// A X = B: gB = A^-T g, gA = -gB X^T
void solve_matrix_grad(GradCtx& c) {
  Tensor gb = std::get<0>(linalg_solve_matrix(flipped(c.x(0)), c.g()));
  if (c.needs(0)) c.set(0, neg(matmul(gb, flipped(c.y()))));
  c.set(1, gb);
}
TG_OP("linalg_solve_matrix(Tensor A, Tensor B) -> (Tensor result, Tensor info)",
      .doc = "The X of A X = B for matrices, and where the factorisation of A failed (0: nowhere).",
      .primitive = box<solve_matrix_impl>, .joint = {in(0) | out(0), solve_matrix_grad}, .flags = kHidden | kOnHost,
      .autocast = Autocast::Float32, .torch = "linalg.solve_ex",
      .samples = "W(3,3), T(3,2); W(2,3,3), T(3,2); W(3,3), T(2,3,2); W(0,0), T(0,2); W(2,3,3), T(2,3,0)");

Two solve_ex(const char* op, const Tensor& a, const Tensor& b, bool left, bool check) {
  check_square(op, "A", a);
  check_type(op, "B", b);
  TG_CHECK(b.ndim() >= 1, ShapeError, op, ": B must have at least 1 dimension; B=", describe(b));
  const bool vector =
      b.ndim() == 1 || (b.ndim() == a.ndim() - 1 && b.sizes() == Dims(a.sizes().begin(), a.sizes().end() - 1));
  TG_CHECK(left || !vector, ShapeError, op, ": left=False takes matrices, not vectors; A=", describe(a),
           ", B=", describe(b));
  Two r = left ? linalg_solve_matrix(a, vector ? unsqueeze(b, -1) : b) : linalg_solve_matrix(flipped(a), flipped(b));
  auto& [x, info] = r;
  if (check) check_info(op, info, a, singular);
  if (vector) x = squeeze(x, -1);
  if (!left) x = flipped(x);
  return r;
}
Two solve_ex_body(const Tensor& a, const Tensor& b, bool left, bool check) {
  return solve_ex("linalg.solve_ex", a, b, left, check);
}
Tensor solve_body(const Tensor& a, const Tensor& b, bool left) {
  return std::get<0>(solve_ex("linalg.solve", a, b, left, true));
}
TG_OP("linalg_solve_ex(Tensor A, Tensor B, *, bool left=True, bool check_errors=False) -> (Tensor result, Tensor info)",
      .doc = "linalg.solve that reports singular matrices in info (0 where there is a solution) instead of raising.",
      .composite = box<solve_ex_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3), T(3,2); W(2,3,3), T(2,3); W(3,3), T(2,3), left=False");
TG_OP("linalg_solve(Tensor A, Tensor B, *, bool left=True) -> Tensor",
      .doc =
          "The X of A X = B (of X A = B with left=False). B holds matrices, or vectors where its sizes are those of A "
          "without the last. LinAlgError if A is singular.",
      .composite = box<solve_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples =
          "W(3,3), T(3); W(3,3), T(3,2); W(2,3,3), T(2,3); W(2,3,3), T(3,2); W(3,3), T(2,3,3), left=False; W(0,0), "
          "T(0); W(2,1,3,3), T(4,3,2)");

Two inv_ex_impl(const Tensor& a, bool check) {
  check_square("linalg.inv", "A", a);
  const int64_t n = a.size(-1);
  Tensor x = clone(expand(identity(a, n), a.sizes()));
  Tensor info = solve_columns(a, x);
  if (check) check_info("linalg.inv_ex", info, a, singular);
  return {from_columns(x), info};
}
Tensor inv_grad(GradCtx& c) {
  Tensor y = flipped(c.y());
  return neg(matmul(y, matmul(c.g(), y)));
}
TG_OP("linalg_inv_ex(Tensor A, *, bool check_errors=False) -> (Tensor inverse, Tensor info)",
      .doc = "Inverses of square matrices; info is 0 where there is one. With check_errors singular matrices raise.",
      .primitive = box<inv_ex_impl>, .grads = {{out(0), inv_grad}}, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); W(2,2,3,3); W(0,0); W(0,3,3)");

Tensor inv_of(const char* op, const Tensor& a) {
  check_square(op, "A", a);
  auto [y, info] = linalg_inv_ex(a);
  check_info(op, info, a, singular);
  return y;
}
Tensor inv_body(const Tensor& a) { return inv_of("linalg.inv", a); }
Tensor inverse_body(const Tensor& a) { return inv_of("inverse", a); }
TG_OP("linalg_inv(Tensor A) -> Tensor", .doc = "Inverses of square matrices; LinAlgError if one is singular.",
      .composite = box<inv_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); W(2,3,3); W(0,0)");
TG_OP("inverse(Tensor input) -> Tensor", .doc = "Inverses of square matrices; LinAlgError if one is singular.",
      .composite = box<inverse_body>, .flags = kOnHost, .autocast = Autocast::Float32, .samples = "W(3,3); W(2,3,3)");

// ---- LU

Three lu_factor_ex_impl(const Tensor& a, bool pivot, bool check) {
  check_matrix("linalg.lu_factor", "A", a);
  TG_CHECK(pivot, NotImplementedError, "linalg.lu_factor: pivot=False is not supported; A=", describe(a));
  auto [lu, pivots, info] = factor(a);
  if (check) check_info("linalg.lu_factor_ex", info, a, singular);
  return {from_columns(lu), pivots, info};
}
Tensor unit_lower(const Tensor& lu, int64_t k) {
  return tril(narrow(lu, -1, 0, k), -1) + eye(lu.size(-2), k, lu.dtype());
}

// The P of A = P L U from the row swaps.
Tensor permutation(const Tensor& pivots, int64_t m, DType dtype) {
  const Dims batch(pivots.sizes().begin(), pivots.sizes().end() - 1);
  const int64_t k = pivots.size(-1), n = count(batch);
  Tensor swaps = cast(pivots, DType::I64), p = zeros(with(batch, {m, m}), dtype);
  std::vector<int64_t> row(static_cast<size_t>(m));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t r = 0; r < m; ++r) row[size_t(r)] = r;
    for (int64_t r = 0; r < k; ++r) {
      int64_t other = at<int64_t>(swaps, i, k)[r];
      TG_CHECK(other >= 1 && other <= m, ValueError, "lu_unpack: pivot ", other, " is not in [1, ", m,
               "]; pivots=", describe(pivots));
      std::swap(row[size_t(r)], row[size_t(other - 1)]);
    }
    for (int64_t r = 0; r < m; ++r) {
      int64_t where = i * m * m + row[size_t(r)] * m + r;
      if (dtype == DType::F64)
        p.data<double>()[where] = 1;
      else
        p.data<float>()[where] = 1;
    }
  }
  return p;
}
// A = P L U with square factors: gA = P L^-T (lower(L^T gL) + upper(gU U^T)) U^-T
Tensor lu_grad(GradCtx& c) {
  Tensor lu = c.y();
  TG_CHECK(lu.size(-1) == lu.size(-2), NotImplementedError,
           "linalg.lu_factor: only square matrices have a gradient; A=", describe(lu));
  Tensor l = unit_lower(lu, lu.size(-1)), u = triu(lu), p = permutation(c.y(1), lu.size(-2), lu.dtype());
  Tensor inner = tril(matmul(flipped(l), tril(c.g(), -1)), -1) + triu(matmul(triu(c.g()), flipped(u)));
  Tensor right = linalg_solve_triangular(flipped(u), inner, false, false);
  return matmul(p, linalg_solve_triangular(flipped(l), right, true, true, true));
}
TG_OP(
    "linalg_lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False) -> (Tensor LU, Tensor pivots, Tensor "
    "info)",
    .doc = "L (below the diagonal, which is 1) and U in one matrix, row swaps counted from 1, and 0 or the zero pivot.",
    .primitive = box<lu_factor_ex_impl>, .grads = {{out(0) | out(1), lu_grad}}, .flags = kOnHost,
    .autocast = Autocast::Float32, .samples = "W(3,3); W(2,3,3); C(4,3); C(2,3,4); W(0,0)");
Two lu_factor_body(const Tensor& a, bool pivot) {
  auto [lu, pivots, info] = linalg_lu_factor_ex(a, pivot);
  check_info("linalg.lu_factor", info, a, singular);
  return {lu, pivots};
}
TG_OP("linalg_lu_factor(Tensor A, *, bool pivot=True) -> (Tensor LU, Tensor pivots)",
      .doc = "L (below the diagonal, which is 1) and U in one matrix, and the row swaps counted from 1.",
      .composite = box<lu_factor_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); W(2,3,3); C(4,3)");

Three lu_unpack_body(const Tensor& lu, const Tensor& pivots, bool data, bool swaps) {
  check_matrix("lu_unpack", "LU_data", lu);
  const int64_t m = lu.size(-2), n = lu.size(-1), k = std::min(m, n);
  TG_CHECK(pivots.dtype() == DType::I32 && pivots.sizes() == with(batch_of(lu), {k}), ShapeError,
           "lu_unpack: pivots must be int32 with the smaller size of the matrices last; LU_data=", describe(lu),
           ", LU_pivots=", describe(pivots));
  Tensor none = zeros({0}, lu.dtype());
  return {swaps ? permutation(pivots, m, lu.dtype()) : none, data ? unit_lower(lu, k) : none,
          data ? triu(narrow(lu, -2, 0, k)) : none};
}
TG_OP(
    "lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True) -> (Tensor P, Tensor "
    "L, Tensor U)",
    .doc = "The matrices P, L, U behind the result of linalg.lu_factor.", .composite = box<lu_unpack_body>,
    .flags = kOnHost, .autocast = Autocast::Float32,
    .samples = "T(3,3), PIV(3); T(2,4,3), PIV(2,3); T(3,4), PIV(3), unpack_pivots=False");
Three lu_body(const Tensor& a, bool pivot) {
  auto [lu, pivots, info] = linalg_lu_factor_ex(a, pivot);
  return lu_unpack(lu, pivots);
}
TG_OP("linalg_lu(Tensor A, *, bool pivot=True) -> (Tensor P, Tensor L, Tensor U)",
      .doc = "A = P L U: a permutation, a unit lower and an upper triangle.", .composite = box<lu_body>,
      .flags = kOnHost, .autocast = Autocast::Float32, .samples = "W(3,3); W(2,3,3); C(4,3); C(3,4)");
Tensor lu_solve_body(const Tensor& lu, const Tensor& pivots, const Tensor& b, bool left, bool adjoint) {
  check_square("linalg.lu_solve", "LU", lu);
  auto [p, l, u] = lu_unpack(lu, pivots);
  if (!left) return flipped(linalg_lu_solve(lu, pivots, flipped(b), true, !adjoint));
  if (!adjoint)
    return linalg_solve_triangular(u, linalg_solve_triangular(l, matmul(flipped(p), b), false, true, true), true);
  Tensor y = linalg_solve_triangular(flipped(u), b, false);
  return matmul(p, linalg_solve_triangular(flipped(l), y, true, true, true));
}
TG_OP("linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False) -> Tensor",
      .doc = "The X of A X = B (X A = B; with adjoint A^T for A) from the result of linalg.lu_factor.",
      .composite = box<lu_solve_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples =
          "W(3,3), PIV(3), T(3,2); W(2,3,3), PIV(2,3), T(2,2,3), left=False; W(3,3), PIV(3), T(3,2), "
          "adjoint=True");
Tensor lu_solve_legacy(const Tensor& b, const Tensor& lu, const Tensor& pivots) {
  return linalg_lu_solve(lu, pivots, b);
}
TG_OP("lu_solve(Tensor input, Tensor LU_data, Tensor LU_pivots) -> Tensor",
      .doc = "The X of A X = input from the result of linalg.lu_factor(A).", .composite = box<lu_solve_legacy>,
      .flags = kOnHost, .autocast = Autocast::Float32, .samples = "T(3,2), W(3,3), PIV(3)");

// ---- determinants

// The diagonal of U and the sign of the row swaps of every matrix.
Two lu_diagonal(const Tensor& a) {
  auto [lu, pivots, info] = linalg_lu_factor_ex(a);
  const int64_t n = a.size(-1);
  Tensor straight = arange(1, n + 1, 1, DType::I32);
  Tensor swaps = sum(ne(pivots, straight), -1);
  return {diagonal(lu, 0, -2, -1), cast(1 - 2 * remainder(swaps, 2), a.dtype())};
}
Tensor det_impl(const Tensor& a) {
  check_square("linalg.det", "A", a);
  auto [u, sign] = lu_diagonal(a);
  return prod(u, -1) * sign;
}
// A change of a that makes the zero pivots of its factorisation tiny instead.
Tensor nudge(const Tensor& a) {
  NoGrad guard;
  auto [p, l, u] = linalg_lu(a);
  Tensor d = diagonal(u, 0, -2, -1), size = amax(abs(u), {-2, -1}, false);
  Tensor tiny = unsqueeze(where(eq(size, 0.0), 1.0, size), -1) * epsilon(a.dtype());
  return matmul(matmul(p, l), diag_embed(where(eq(d, 0.0), tiny, 0.0)));
}
// g det(A) A^-T, the cofactors; where a singular A has no inverse those of a matrix beside it.
Tensor det_grad(GradCtx& c) {
  Tensor a = c.x(0), d = c.y();
  if (a.numel() == 0) return zeros_like(a);
  if (any(eq(d, 0.0)).item<bool>()) {
    a = a + nudge(a);
    d = linalg_det(a);
  }
  return unsqueeze(unsqueeze(c.g() * d, -1), -1) * flipped(std::get<0>(linalg_inv_ex(a)));
}
TG_OP("linalg_det(Tensor A) -> Tensor", .doc = "Determinants of square matrices.", .primitive = box<det_impl>,
      .grads = {{in(0) | out(0), det_grad}}, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); W(2,3,3); T(4,4); T(1,1); W(0,0); W(2,0,0)");

Two slogdet_impl(const Tensor& a) {
  check_square("linalg.slogdet", "A", a);
  auto [u, sign] = lu_diagonal(a);
  return {prod(tg::sign(u), -1) * sign, sum(log(abs(u)), -1)};
}
Tensor slogdet_grad(GradCtx& c) {
  Tensor y = std::get<0>(linalg_inv_ex(c.x(0)));
  return unsqueeze(unsqueeze(c.g_or_zeros(1), -1), -1) * flipped(y);
}
TG_OP("linalg_slogdet(Tensor A) -> (Tensor sign, Tensor logabsdet)",
      .doc = "Sign and logarithm of the magnitude of determinants.", .primitive = box<slogdet_impl>,
      .grads = {{in(0), slogdet_grad}}, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); W(2,3,3); W(4,4); W(0,0)");

Tensor det_legacy(const Tensor& a) { return linalg_det(a); }
Two slogdet_legacy(const Tensor& a) { return linalg_slogdet(a); }
Tensor logdet_body(const Tensor& a) {
  auto [sign, magnitude] = linalg_slogdet(a);
  return where(lt(sign, 0.0), std::numeric_limits<double>::quiet_NaN(), magnitude);
}
TG_OP("det(Tensor input) -> Tensor", .doc = "Determinants of square matrices.", .composite = box<det_legacy>,
      .flags = kOnHost, .autocast = Autocast::Float32, .samples = "W(3,3); W(2,3,3)");
TG_OP("slogdet(Tensor input) -> (Tensor sign, Tensor logabsdet)",
      .doc = "Sign and logarithm of the magnitude of determinants.", .composite = box<slogdet_legacy>, .flags = kOnHost,
      .autocast = Autocast::Float32, .samples = "W(3,3); W(2,3,3)");
TG_OP("logdet(Tensor input) -> Tensor", .doc = "Logarithm of determinants: NaN where one is negative.",
      .composite = box<logdet_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "SPD(3,3); SPD(2,3,3)");

}  // namespace
}  // namespace tg
