// QR, eigenvalues of symmetric matrices, singular values.
#include "ops/linalg.h"

namespace tg {
namespace {

using namespace linalg;
using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

Tensor on_columns(const Tensor& v) { return unsqueeze(v, -2); }

// ---- QR

Two qr_impl(const Tensor& a, std::string_view mode) {
  const char* op = "linalg.qr";
  check_matrix(op, "A", a);
  TG_CHECK(mode == "reduced" || mode == "complete" || mode == "r", ValueError, op,
           ": mode must be 'reduced', 'complete' or 'r', got '", mode, "'; A=", describe(a));
  const Dims batch = batch_of(a);
  const int64_t m = a.size(-2), n = a.size(-1), k = std::min(m, n), cols = mode == "complete" ? m : k;
  const double work = double(m) * double(n) * double(k);
  Tensor f = to_columns(a), tau = empty_tensor(with(batch, {k}), a.dtype());
  each_matrix(a.dtype(), count(batch), work, [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    lapack::qr(m, n, at<T>(f, i, m * n), at<T>(tau, i, k));
  });
  Tensor r = triu(narrow(flipped(f), -2, 0, cols < m ? k : std::min(cols, m)));
  if (mode == "r") return {zeros({0}, a.dtype()), r};
  Tensor q = zeros(with(batch, {cols, m}), a.dtype());
  narrow(q, -2, 0, k).copy_(narrow(f, -2, 0, k));
  each_matrix(a.dtype(), count(batch), work, [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    lapack::qr_q(m, cols, k, at<T>(q, i, cols * m), at<T>(tau, i, k));
  });
  return {from_columns(q), r};
}

// A = Q R with at least as many rows as columns, M = R gR^T - gQ^T Q:
// gA = (gQ + Q (lower(M) + strictly lower(M)^T)) R^-T
Tensor tall_qr_grad(const Tensor& q, const Tensor& r, const Tensor& gq, const Tensor& gr) {
  Tensor m = matmul(r, flipped(gr)) - matmul(flipped(gq), q);
  Tensor b = gq + matmul(q, tril(m) + flipped(tril(m, -1)));
  return linalg_solve_triangular(flipped(r), b, false, false);
}
Tensor qr_grad(GradCtx& c) {
  Tensor q = c.y(0), r = c.y(1), gq = c.g_or_zeros(0), gr = c.g_or_zeros(1);
  const auto mode = c.arg<std::string_view>(1);
  const int64_t m = c.shape(0)[c.shape(0).size() - 2], n = c.shape(0)[c.shape(0).size() - 1];
  TG_CHECK(mode != "r", NotImplementedError, "linalg.qr: mode 'r' has no gradient; use 'reduced'; R=", describe(r));
  TG_CHECK(mode != "complete" || m <= n, NotImplementedError,
           "linalg.qr: mode 'complete' has no gradient with more rows than columns; Q=", describe(q));
  if (m >= n) return tall_qr_grad(q, r, gq, gr);
  // A = [X Y], R = [U V]: X = Q U and V = Q^T Y
  Tensor x = c.x(0), u = narrow(r, -1, 0, m), gu = narrow(gr, -1, 0, m), gv = narrow(gr, -1, m, n - m);
  Tensor gx = tall_qr_grad(q, u, gq + matmul(narrow(x, -1, m, n - m), flipped(gv)), gu);
  return cat({gx, matmul(q, gv)}, -1);
}
TG_OP("linalg_qr(Tensor A, str mode='reduced') -> (Tensor Q, Tensor R)",
      .doc =
          "A = Q R with orthonormal columns in Q and an upper triangle R. 'reduced': Q (m, k), R (k, n), k = min(m, "
          "n); 'complete': Q (m, m), R (m, n); 'r': R alone.",
      .primitive = box<qr_impl>, .grads = {{in(0) | out(0) | out(1), qr_grad}}, .flags = kOnHost,
      .autocast = Autocast::Float32,
      .samples =
          "W(3,3); W(2,4,3); W(3,5); C(4,3), mode='complete'; W(3,4), 'complete'; C(2,4,3), 'r'; C(3,4), 'r'; C(0,3); "
          "C(3,0); C(3,0), 'complete'; C(0,3,3)");
Two qr_legacy(const Tensor& a, bool some) { return linalg_qr(a, some ? "reduced" : "complete"); }
TG_OP("qr(Tensor input, bool some=True) -> (Tensor Q, Tensor R)",
      .doc = "linalg.qr: the reduced form, or with some=False the complete one.", .composite = box<qr_legacy>,
      .flags = kOnHost, .autocast = Autocast::Float32, .samples = "W(3,3); W(2,4,3); C(4,3), False");

// ---- symmetric eigenvalues

bool upper_half(const char* op, std::string_view uplo) {
  TG_CHECK(uplo == "L" || uplo == "U" || uplo == "l" || uplo == "u", ValueError, op, ": UPLO must be 'L' or 'U', got '",
           uplo, "'");
  return uplo == "U" || uplo == "u";
}
// Eigenvalues and, if wanted, the eigenvectors as columns.
Two run_eigh(const char* op, const Tensor& a, std::string_view uplo, bool vectors) {
  check_square(op, "A", a);
  const bool upper = upper_half(op, uplo);
  const Dims batch = batch_of(a);
  const int64_t n = a.size(-1);
  TG_CHECK(n < 32000, ShapeError, op, ": LAPACK's workspace allows sizes below 32000; A=", describe(a));
  Tensor v = to_columns(a), w = empty_tensor(with(batch, {n}), a.dtype()), info = zeros(batch, DType::I32);
  each_matrix(a.dtype(), count(batch), 10 * double(n) * double(n) * double(n), [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    info.data<int32_t>()[i] = lapack::eigh(vectors, upper, n, at<T>(v, i, n * n), at<T>(w, i, n));
  });
  check_info(op, info, a, no_convergence);
  return {w, vectors ? from_columns(v) : Tensor()};
}
Two eigh_impl(const Tensor& a, std::string_view uplo) { return run_eigh("linalg.eigh", a, uplo, true); }
Tensor eigvalsh_impl(const Tensor& a, std::string_view uplo) {
  return std::get<0>(run_eigh("linalg.eigvalsh", a, uplo, false));
}
// gA = V (diag(gL) + (V^T gV) / E) V^T with E_ij = L_j - L_i off the diagonal
Tensor eigh_grad(GradCtx& c) {
  Tensor l = c.y(0), v = c.y(1);
  Tensor inner = c.g(0).defined() ? diag_embed(c.g(0)) : Tensor();
  if (c.g(1).defined()) {
    Tensor gap = on_columns(l) - unsqueeze(l, -1), same = eye(l.size(-1), std::nullopt, DType::Bool);
    Tensor turn = where(same, 0.0, matmul(flipped(v), c.g(1)) / where(same, 1.0, gap));
    inner = inner.defined() ? inner + turn : turn;
  }
  return matmul(matmul(v, inner), flipped(v));
}
Tensor eigvalsh_grad(GradCtx& c) {
  Tensor v = std::get<1>(linalg_eigh(c.x(0), c.arg<std::string_view>(1)));
  return matmul(v * on_columns(c.g()), flipped(v));
}
TG_OP("linalg_eigh(Tensor A, str UPLO='L') -> (Tensor eigenvalues, Tensor eigenvectors)",
      .doc =
          "Ascending eigenvalues and orthonormal eigenvectors (in columns, whose signs are arbitrary) of symmetric "
          "matrices, of which one triangle is read. The gradient of the vectors needs distinct eigenvalues.",
      .primitive = box<eigh_impl>, .grads = {{out(0) | out(1), eigh_grad}}, .flags = kOnHost,
      .autocast = Autocast::Float32, .samples = "SYM(3,3); SYM(2,3,3); SYM(4,4), UPLO='U'; C(0,0); C(0,3,3)",
      .notes = "signs");
TG_OP("linalg_eigvalsh(Tensor A, str UPLO='L') -> Tensor",
      .doc = "Ascending eigenvalues of symmetric matrices, of which one triangle is read.",
      .primitive = box<eigvalsh_impl>, .grads = {{in(0), eigvalsh_grad}}, .flags = kOnHost,
      .autocast = Autocast::Float32, .samples = "SYM(3,3); SYM(2,3,3); SYM(4,4), UPLO='U'; C(0,0)");

// ---- singular values

// 'A' all of U and V^T, 'S' the first min(m, n) of each, 'N' only the values.
Three run_svd(const char* op, const Tensor& a, char which) {
  check_matrix(op, "A", a);
  const Dims batch = batch_of(a);
  const int64_t m = a.size(-2), n = a.size(-1), k = std::min(m, n);
  TG_CHECK(k < 20000, ShapeError, op, ": LAPACK's workspace allows a smaller size below 20000; A=", describe(a));
  const int64_t cols = which == 'A' ? m : which == 'S' ? k : 0, rows = which == 'A' ? n : which == 'S' ? k : 0;
  Tensor f = to_columns(a), s = empty_tensor(with(batch, {k}), a.dtype()), info = zeros(batch, DType::I32);
  Tensor u = empty_tensor(with(batch, {cols, m}), a.dtype()), vt = empty_tensor(with(batch, {n, rows}), a.dtype());
  each_matrix(a.dtype(), count(batch), 10 * double(m) * double(n) * double(k), [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    info.data<int32_t>()[i] =
        lapack::svd(which, m, n, at<T>(f, i, m * n), at<T>(s, i, k), at<T>(u, i, cols * m), at<T>(vt, i, n * rows));
  });
  check_info(op, info, a, no_convergence);
  if (k == 0) {  // nothing to decompose: any orthogonal matrices will do
    u.copy_(eye(cols, m, a.dtype()));
    vt.copy_(eye(n, rows, a.dtype()));
  }
  return {from_columns(u), s, from_columns(vt)};
}
Three svd_impl(const Tensor& a, bool full_matrices, std::optional<std::string_view>) {
  return run_svd("linalg.svd", a, full_matrices ? 'A' : 'S');
}
Tensor svdvals_impl(const Tensor& a, std::optional<std::string_view>) {
  return std::get<1>(run_svd("linalg.svdvals", a, 'N'));
}
Tensor skew(const Tensor& x) { return x - flipped(x); }

// With E_ij = S_j^2 - S_i^2 off the diagonal:
// gA = U (skew(U^T gU) / E S + S skew(V^T gV) / E + diag(gS)) V^T, and where U or V is not square
//      + (1 - U U^T) gU S^-1 V^T + U S^-1 gV^T (1 - V V^T)
Tensor svd_grad(GradCtx& c) {
  const Tensor &gu = c.g(0), &gs = c.g(1), &gvh = c.g(2);
  Tensor u = c.y(0), s = c.y(1), vh = c.y(2);
  const int64_t m = u.size(-2), n = vh.size(-1), k = s.size(-1);
  TG_CHECK((!gu.defined() && !gvh.defined()) || (u.size(-1) == k && vh.size(-2) == k), AutogradError,
           "linalg.svd: with full_matrices=True only square matrices have a gradient of U and Vh; U=", describe(u));
  if (u.size(-1) > k) u = narrow(u, -1, 0, k);
  if (vh.size(-2) > k) vh = narrow(vh, -2, 0, k);
  Tensor inner = gs.defined() ? diag_embed(gs) : zeros(with(batch_of(u), {k, k}), u.dtype());
  if (!gu.defined() && !gvh.defined()) return matmul(matmul(u, inner), vh);
  Tensor row = on_columns(s), column = unsqueeze(s, -1), same = eye(k, std::nullopt, DType::Bool);
  Tensor gap = where(same, 1.0, (row - column) * (row + column));
  Tensor uh = flipped(u), v = flipped(vh);
  if (gu.defined()) inner = inner + skew(matmul(uh, gu)) / gap * row;
  if (gvh.defined()) inner = inner + column * (skew(matmul(vh, flipped(gvh))) / gap);
  Tensor ga = matmul(matmul(u, inner), vh);
  if (gu.defined() && m > k) ga = ga + matmul((gu - matmul(u, matmul(uh, gu))) / row, vh);
  if (gvh.defined() && n > k) ga = ga + matmul(u, (gvh - matmul(matmul(gvh, v), vh)) / column);
  return ga;
}
Tensor svdvals_grad(GradCtx& c) {
  auto [u, s, vh] = linalg_svd(c.x(0), false);
  return matmul(u * on_columns(c.g()), vh);
}
TG_OP("linalg_svd(Tensor A, bool full_matrices=True, *, str? driver=None) -> (Tensor U, Tensor S, Tensor Vh)",
      .doc =
          "A = U diag(S) Vh with descending S. Vectors come in pairs of arbitrary sign; full_matrices completes U and "
          "Vh to square ones. The gradient of the vectors needs distinct, non-zero singular values.",
      .primitive = box<svd_impl>, .grads = {{out(0) | out(1) | out(2), svd_grad}}, .flags = kOnHost,
      .autocast = Autocast::Float32,
      .samples =
          "W(3,3); W(2,3,3), False; T(4,3), full_matrices=False; T(3,4), False; C(4,3); C(3,4); C(0,3), False; C(0,3); "
          "C(3,0); C(0,2,2)",
      .notes = "signs");
TG_OP("linalg_svdvals(Tensor A, *, str? driver=None) -> Tensor", .doc = "Descending singular values.",
      .primitive = box<svdvals_impl>, .grads = {{in(0), svdvals_grad}}, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); T(4,3); T(2,3,4); C(0,3)");

Three svd_legacy(const Tensor& a, bool some, bool compute_uv) {
  if (compute_uv) {
    auto [u, s, vh] = linalg_svd(a, !some);
    return {u, s, flipped(vh)};
  }
  check_matrix("svd", "input", a);
  const Dims batch = batch_of(a);
  auto none = [&](int64_t n) { return zeros(with(batch, {n, n}), a.dtype()); };
  return {none(a.size(-2)), linalg_svdvals(a), none(a.size(-1))};
}
TG_OP("svd(Tensor input, bool some=True, bool compute_uv=True) -> (Tensor U, Tensor S, Tensor V)",
      .doc = "input = U diag(S) V^T: linalg.svd with V instead of its transpose; some=False completes U and V.",
      .composite = box<svd_legacy>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); T(4,3); T(2,3,4); C(4,3), False; T(4,3), True, False", .notes = "signs");

}  // namespace
}  // namespace tg
