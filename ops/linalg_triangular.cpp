// Triangular systems and the Cholesky factorisation.
#include "ops/linalg.h"

namespace tg {
namespace {

using namespace linalg;
using Two = std::tuple<Tensor, Tensor>;

// ---- triangular systems

Tensor solve_triangular_impl(const Tensor& A, const Tensor& B, bool upper, bool left, bool unit) {
  const char* op = "linalg.solve_triangular";
  check_square(op, "A", A);
  check_matrix(op, "B", B);
  const Tensor a = left ? A : flipped(A), b = left ? B : flipped(B);  // X A = B is A^T X^T = B^T
  const Dims batch = check_system(op, a, b);
  const int64_t n = a.size(-1), k = b.size(-1);
  Tensor m = to_columns(a, batch), x = to_columns(b, batch);
  each_matrix(a.dtype(), count(batch), double(n) * double(n) * double(k), [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    lapack::triangular_solve(upper == left, unit, n, k, at<T>(m, i, n * n), at<T>(x, i, n * k));
  });
  return left ? from_columns(x) : x;
}
void solve_triangular_grad(GradCtx& c) {
  const bool upper = c.arg<bool>(2), left = c.arg<bool>(3), unit = c.arg<bool>(4);
  Tensor gb = linalg_solve_triangular(flipped(c.x(0)), c.g(), !upper, left, unit);
  if (c.needs(0)) {
    Tensor ga = neg(left ? matmul(gb, flipped(c.y())) : matmul(flipped(c.y()), gb));
    c.set(0, upper ? triu(ga, unit) : tril(ga, -int64_t(unit)));
  }
  c.set(1, gb);
}
TG_OP(
    "linalg_solve_triangular(Tensor A, Tensor B, *, bool upper, bool left=True, bool unitriangular=False) -> Tensor",
    .doc =
        "The X of A X = B (X A = B with left=False), reading one triangle of A only, without its diagonal if "
        "unitriangular. A zero on the diagonal gives inf or nan.",
    .primitive = box<solve_triangular_impl>, .joint = {in(0) | out(0), solve_triangular_grad}, .flags = kOnHost,
    .autocast = Autocast::Float32,
    .samples =
        "W(3,3), T(3,2), upper=True; W(3,3), T(3,2), upper=False; W(2,3,3), T(3,2), upper=True, left=True; W(3,3), "
        "T(2,2,3), upper=False, left=False; W(3,3), T(2,3), upper=True, left=False; W(3,3), T(3,2), upper=True, "
        "unitriangular=True; W(3,3), T(2,3), upper=False, left=False, unitriangular=True; W(0,0), T(0,2), upper=True");

Two triangular_solve_body(const Tensor& b, const Tensor& a, bool upper, bool transpose, bool unit) {
  check_square("triangular_solve", "A", a);
  Tensor x = linalg_solve_triangular(transpose ? flipped(a) : a, b, upper != transpose, true, unit);
  return {x, clone(expand(a, with(batch_of(x), {a.size(-2), a.size(-1)})))};
}
TG_OP(
    "triangular_solve(Tensor input, Tensor A, bool upper=True, bool transpose=False, bool unitriangular=False) -> "
    "(Tensor solution, Tensor cloned_coefficient)",
    .doc = "The X of A X = input (A^T X with transpose) for a triangular A, and a copy of A.",
    .composite = box<triangular_solve_body>, .flags = kOnHost, .autocast = Autocast::Float32,
    .samples = "T(3,2), W(3,3); T(2,3,2), W(3,3), False; T(3,2), W(3,3), transpose=True, unitriangular=True");

// ---- Cholesky

// The lower triangle of a row-major matrix is the upper one of its columns: reading either only takes another copy.
Two cholesky_ex_impl(const Tensor& a, bool upper, bool check) {
  check_square("linalg.cholesky", "A", a);
  const Dims batch = batch_of(a);
  const int64_t n = a.size(-1);
  Tensor l = upper ? clone(a) : to_columns(a), info = zeros(batch, DType::I32);
  each_matrix(a.dtype(), count(batch), double(n) * double(n) * double(n) / 3, [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    info.data<int32_t>()[i] = lapack::cholesky(n, at<T>(l, i, n * n));
  });
  if (check) check_info("linalg.cholesky_ex", info, a, not_definite);
  return {upper ? triu(l) : tril(flipped(l)), info};
}
// With S = L^-T P(L^T gL) L^-1, P the lower triangle with half its diagonal: gA = (S + S^T) / 2
Tensor cholesky_grad(GradCtx& c) {
  const bool upper = c.arg<bool>(1);
  Tensor l = upper ? flipped(c.y()) : c.y(), g = upper ? flipped(c.g()) : c.g();
  Tensor p = tril(matmul(flipped(l), g));
  Tensor s = linalg_solve_triangular(l, p + flipped(tril(p, -1)), false, false);
  return 0.5 * linalg_solve_triangular(flipped(l), s, true);
}
TG_OP("linalg_cholesky_ex(Tensor A, *, bool upper=False, bool check_errors=False) -> (Tensor L, Tensor info)",
      .doc =
          "Lower (upper) triangular L with A = L L^T (L^T L), reading that triangle of A only; info is 0, or the order "
          "of the leading minor that is not positive.",
      .primitive = box<cholesky_ex_impl>, .grads = {{out(0), cholesky_grad}}, .flags = kOnHost,
      .autocast = Autocast::Float32, .samples = "SPD(3,3); SPD(2,3,3); SPD(3,3), upper=True; W(0,0)");

Tensor cholesky_of(const char* op, const Tensor& a, bool upper) {
  check_square(op, "A", a);
  auto [l, info] = linalg_cholesky_ex(a, upper);
  check_info(op, info, a, not_definite);
  return l;
}
Tensor cholesky_body(const Tensor& a, bool upper) { return cholesky_of("linalg.cholesky", a, upper); }
Tensor cholesky_legacy(const Tensor& a, bool upper) { return cholesky_of("cholesky", a, upper); }
TG_OP("linalg_cholesky(Tensor A, *, bool upper=False) -> Tensor",
      .doc = "Lower triangular L with A = L L^T (upper: L^T L); LinAlgError if A is not positive definite.",
      .composite = box<cholesky_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "SPD(3,3); SPD(2,3,3); SPD(3,3), upper=True");
TG_OP("cholesky(Tensor input, bool upper=False) -> Tensor",
      .doc = "Lower triangular L with input = L L^T (upper: L^T L); LinAlgError if input is not positive definite.",
      .composite = box<cholesky_legacy>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "SPD(3,3); SPD(2,3,3), True");

Tensor cholesky_solve_body(const Tensor& b, const Tensor& l, bool upper) {
  check_square("cholesky_solve", "input2", l);
  Tensor lower = upper ? flipped(l) : l;
  return linalg_solve_triangular(flipped(lower), linalg_solve_triangular(lower, b, false), true);
}
TG_OP("cholesky_solve(Tensor input, Tensor input2, bool upper=False) -> Tensor",
      .doc = "The X of A X = input, where input2 is the Cholesky factor of A.", .composite = box<cholesky_solve_body>,
      .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "T(3,2), TRI(3,3); T(2,3,2), TRI(3,3, upper=True), True");
Tensor cholesky_inverse_body(const Tensor& l, bool upper) {
  check_square("cholesky_inverse", "input", l);
  return cholesky_solve(eye(l.size(-1), std::nullopt, l.dtype(), l.device()), l, upper);
}
TG_OP("cholesky_inverse(Tensor input, bool upper=False) -> Tensor",
      .doc = "The inverse of the matrix whose Cholesky factor is input.", .composite = box<cholesky_inverse_body>,
      .flags = kOnHost, .autocast = Autocast::Float32, .samples = "TRI(3,3); TRI(2,3,3, upper=True), True");

}  // namespace
}  // namespace tg
