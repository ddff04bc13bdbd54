// Norms of matrices and what follows from singular values: rank, condition, pseudo-inverse, least squares.
#include "ops/linalg.h"

namespace tg {
namespace {

using namespace linalg;
using OptDims = std::optional<IntList>;
using OptDType = std::optional<DType>;
using OptScalar = std::optional<Scalar>;
constexpr double kInf = std::numeric_limits<double>::infinity();

// ---- norms

Tensor typed(const Tensor& a, OptDType dtype) { return dtype && *dtype != a.dtype() ? cast(a, *dtype) : a; }

// The two dimensions of a matrix norm, wrapped.
Dims matrix_dims(const char* op, const Tensor& a, IntList dim) {
  TG_CHECK(a.ndim() >= 2, ShapeError, op, ": expected at least 2 dimensions; A=", describe(a));
  TG_CHECK(dim.size() == 2, ValueError, op, ": dim must name two dimensions, got ", dim, "; A=", describe(a));
  return wrap_dims(op, dim, a.ndim());
}
Tensor extreme(const Tensor& x, double ord, IntList dim, bool keepdim) {
  return ord > 0 ? amax(x, dim, keepdim) : amin(x, dim, keepdim);
}
// Largest or smallest (ord 2 or -2), or the sum (0), of the singular values over `d`.
Tensor spectral_norm(const Tensor& x, const Dims& d, double ord, bool keepdim) {
  Tensor s = linalg_svdvals(movedim(x, {d[0], d[1]}, {-2, -1}));
  Tensor y = ord == 0 ? sum(s, -1) : extreme(s, ord, -1, false);
  if (!keepdim) return y;
  Dims sizes = x.sizes();
  sizes[int(d[0])] = sizes[int(d[1])] = 1;
  return reshape(y, sizes);
}
Tensor matrix_norm_number(const Tensor& a, Scalar ord, IntList dim, bool keepdim, OptDType dtype) {
  const char* op = "linalg.matrix_norm";
  const Dims d = matrix_dims(op, a, dim);
  const double o = ord.d();
  TG_CHECK(std::abs(o) == 1 || std::abs(o) == 2 || std::isinf(o), ValueError, op,
           ": ord must be 1, 2, inf, their negatives, 'fro' or 'nuc', got ", o, "; A=", describe(a));
  TG_CHECK(is_float(dtype.value_or(a.dtype())), DTypeError, op, ": expected a floating-point tensor; A=", describe(a));
  const Tensor x = typed(a, dtype);
  if (std::abs(o) == 2) return spectral_norm(x, d, o, keepdim);
  const bool rows = std::isinf(o);  // sums of rows, else of columns
  Tensor y = extreme(sum(abs(x), d[rows], true), o, d[!rows], true);
  if (keepdim) return y;
  return squeeze(y, IntList(d));
}
Tensor matrix_norm_named(const Tensor& a, std::string_view ord, IntList dim, bool keepdim, OptDType dtype) {
  const char* op = "linalg.matrix_norm";
  const Dims d = matrix_dims(op, a, dim);
  TG_CHECK(ord == "fro" || ord == "nuc", ValueError, op, ": ord must be a number, 'fro' or 'nuc', got '", ord,
           "'; A=", describe(a));
  if (ord == "fro") return vector_norm(a, 2, d, keepdim, dtype);
  return spectral_norm(typed(a, dtype), d, 0, keepdim);
}
TG_OP(
    "linalg_matrix_norm(Tensor A, Scalar ord, int[] dim=[-2, -1], bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    .doc =
        "Norm of the matrices in two dimensions: 1 (-1) the largest (smallest) sum of magnitudes in a column, inf "
        "(-inf) in a row, 2 (-2) the largest (smallest) singular value.",
    .composite = box<matrix_norm_number>, .autocast = Autocast::Float32,
    .samples =
        "T(3,4), 1; T(3,4), -1; T(3,4), float('inf'); T(2,3,4), float('-inf'), keepdim=True; T(3,4), 2; T(2,3,4), "
        "-2; T(3,2,4), 2, [0,2], True; T(3,2,4), 1, [2,0]; T(3,4), 1, dtype=DT('float64')");
TG_OP(
    "linalg_matrix_norm.str(Tensor A, str ord='fro', int[] dim=[-2, -1], bool keepdim=False, *, dtype? dtype=None) -> "
    "Tensor",
    .doc = "'fro': the root of the sum of squares; 'nuc': the sum of the singular values.",
    .composite = box<matrix_norm_named>, .autocast = Autocast::Float32,
    .samples = "T(3,4); T(2,3,4), 'fro', [0,2], True; T(3,4), 'nuc'; T(3,2,4), 'nuc', [2,0], keepdim=True; T(0,3)");

Tensor norm_number(const Tensor& a, OptScalar ord, OptDims dim, bool keepdim, OptDType dtype) {
  if (!ord) return vector_norm(a, 2, dim, keepdim, dtype);
  const int64_t n = dim ? dim->size() : a.ndim();
  TG_CHECK(n == 1 || n == 2, ShapeError,
           "linalg.norm: with ord, dim must name one or two dimensions, or A have as many", "; A=", describe(a));
  if (n == 1) return vector_norm(a, *ord, dim, keepdim, dtype);
  return linalg_matrix_norm(a, *ord, dim.value_or(IntList{-2, -1}), keepdim, dtype);
}
Tensor norm_named(const Tensor& a, std::string_view ord, OptDims dim, bool keepdim, OptDType dtype) {
  TG_CHECK(dim || a.ndim() == 2, ShapeError, "linalg.norm: ord '", ord, "' takes a matrix, or dim; A=", describe(a));
  return linalg_matrix_norm(a, ord, dim.value_or(IntList{-2, -1}), keepdim, dtype);
}
TG_OP(
    "linalg_norm(Tensor A, Scalar? ord=None, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    .doc =
        "Without ord the root of the sum of squares over dim (all when None); with it the norm of vectors (one dim, or "
        "a 1-d tensor) or of matrices (two, or a 2-d tensor).",
    .composite = box<norm_number>, .autocast = Autocast::Float32,
    .samples =
        "T(3,4); T(2,3,4); T(3,4), dim=0; T(3,4), None, [0,1], True; T(5), 3; T(5), float('inf'); T(3,4), 1; T(3,4), "
        "2; T(2,3,4), 1, [1,2]; T(2,3,4), 1, 2; T(3,4), float('-inf'), keepdim=True; T(3,4), 0.5, 1");
TG_OP("linalg_norm.str(Tensor A, str ord, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
      .doc = "Norm of matrices by name: 'fro' or 'nuc'.", .composite = box<norm_named>, .autocast = Autocast::Float32,
      .samples = "T(3,4), 'fro'; T(2,3,4), 'nuc', [0,1]; T(2,3,4), 'fro', [-2,-1], True");

// ---- rank and condition

// Which of the descending magnitudes s count as not zero.
Tensor above(const Tensor& a, const Tensor& s, OptScalar atol, OptScalar rtol) {
  const double absolute = atol ? atol->d() : 0;
  const double standard = absolute > 0 ? 0 : epsilon(a.dtype()) * double(std::max(a.size(-1), a.size(-2)));
  const double relative = rtol ? rtol->d() : standard;
  if (s.size(-1) == 0) return zeros(s.sizes(), DType::Bool);
  return gt(s, maximum(amax(s, -1, true) * relative, absolute));
}
Tensor matrix_rank_body(const Tensor& a, OptScalar atol, OptScalar rtol, bool hermitian) {
  check_matrix("linalg.matrix_rank", "A", a);
  NoGrad guard;
  return sum(above(a, hermitian ? abs(linalg_eigvalsh(a)) : linalg_svdvals(a), atol, rtol), -1);
}
Tensor matrix_rank_tol(const Tensor& a, Scalar tol, bool hermitian) {
  return matrix_rank_body(a, tol, Scalar(0), hermitian);
}
TG_OP("linalg_matrix_rank(Tensor A, *, Scalar? atol=None, Scalar? rtol=None, bool hermitian=False) -> Tensor",
      .doc =
          "Number of singular values above max(atol, rtol * the largest); rtol is epsilon times the larger size unless "
          "atol is given.",
      .composite = box<matrix_rank_body>, .flags = kNoGrad | kOnHost, .autocast = Autocast::Float32,
      .samples =
          "T(3,4); T(2,3,3); T(4,4), rtol=0.5; T(4,4), atol=0.3; SYM(3,3), hermitian=True; T(0,3); T(4,4), rtol=0.1, "
          "atol=0.2");
TG_OP("linalg_matrix_rank.tol(Tensor A, Scalar tol, bool hermitian=False) -> Tensor",
      .doc = "Number of singular values above tol.", .composite = box<matrix_rank_tol>, .flags = kNoGrad | kOnHost,
      .autocast = Autocast::Float32, .samples = "T(3,4), 0.3; SYM(3,3), 0.4, True");

Tensor cond_number(const Tensor& a, OptScalar p) {
  const char* op = "linalg.cond";
  check_matrix(op, "A", a);
  if (!p || std::abs(p->d()) == 2) {
    Tensor s = linalg_svdvals(a), first = select(s, -1, 0), last = select(s, -1, -1);
    return p && p->d() < 0 ? last / first : first / last;
  }
  check_square(op, "A", a);
  auto [y, info] = linalg_inv_ex(a);
  return where(ne(info, 0), kInf, linalg_matrix_norm(a, *p) * linalg_matrix_norm(y, *p));
}
Tensor cond_named(const Tensor& a, std::string_view p) {
  check_square("linalg.cond", "A", a);
  auto [y, info] = linalg_inv_ex(a);
  return where(ne(info, 0), kInf, linalg_matrix_norm(a, p) * linalg_matrix_norm(y, p));
}
TG_OP("linalg_cond(Tensor A, Scalar? p=None) -> Tensor",
      .doc = "Condition number of matrices in the p-norm (2 when None); inf if singular.",
      .composite = box<cond_number>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); T(4,3); W(2,3,3), -2; W(3,3), 1; W(3,3), float('inf'); W(3,3), -1");
TG_OP("linalg_cond.str(Tensor A, str p) -> Tensor", .doc = "Condition number in the norm 'fro' or 'nuc'.",
      .composite = box<cond_named>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3), 'fro'; W(2,3,3), 'nuc'");

// ---- pseudo-inverse

// Gradient of the pseudo-inverse p of a for the incoming gradient g, at constant rank:
// dP = -P dA P + P P^T dA^T (1 - A P) + (1 - P A) dA^T P^T P, read backwards
Tensor pinv_gradient(const Tensor& g, const Tensor& a, const Tensor& p) {
  Tensor pt = flipped(p), gt = flipped(g);
  Tensor left = matmul(matmul(gt, p), pt), right = matmul(matmul(pt, p), gt);
  return left - matmul(a, matmul(p, left)) + right - matmul(matmul(right, p), a) - matmul(matmul(pt, g), pt);
}

Tensor pinv_impl(const Tensor& a, OptScalar atol, OptScalar rtol, bool hermitian) {
  const char* op = "linalg.pinv";
  check_matrix(op, "A", a);
  auto inverted = [&](const Tensor& s) {
    Tensor keep = above(a, abs(s), atol, rtol);
    return unsqueeze(where(keep, 1.0 / where(keep, s, 1.0), 0.0), -2);
  };
  if (hermitian) {
    check_square(op, "A", a);
    auto [l, v] = linalg_eigh(a);
    return matmul(v * inverted(l), flipped(v));
  }
  auto [u, s, vh] = linalg_svd(a, false);
  return matmul(flipped(vh) * inverted(s), flipped(u));
}
Tensor pinv_grad(GradCtx& c) { return pinv_gradient(c.g(), c.x(0), c.y()); }
TG_OP("linalg_pinv(Tensor A, *, Scalar? atol=None, Scalar? rtol=None, bool hermitian=False) -> Tensor",
      .doc =
          "Pseudo-inverse (.., n, m) of matrices (.., m, n); singular values up to max(atol, rtol * the largest) count "
          "as zero. rtol is epsilon times the larger size unless atol is given.",
      .primitive = box<pinv_impl>, .grads = {{in(0) | out(0), pinv_grad}}, .flags = kOnHost,
      .autocast = Autocast::Float32,
      .samples = "W(3,3); T(4,3); T(2,3,4); T(0,3); SPD(3,3), hermitian=True; C(4,4), rtol=0.5; C(4,4), atol=0.3");
Tensor pinv_rcond(const Tensor& a, Scalar rcond, bool hermitian) { return linalg_pinv(a, Scalar(0), rcond, hermitian); }
TG_OP("linalg_pinv.rcond(Tensor A, Scalar rcond, bool hermitian=False) -> Tensor",
      .doc = "Pseudo-inverse; singular values up to rcond times the largest count as zero.",
      .composite = box<pinv_rcond>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3), 1e-6; T(4,3), 1e-6; SPD(3,3), 1e-6, True");
Tensor pinverse_body(const Tensor& a, Scalar rcond) { return pinv_rcond(a, rcond, false); }
TG_OP("pinverse(Tensor input, Scalar rcond=1e-15) -> Tensor",
      .doc = "Pseudo-inverse; singular values up to rcond times the largest count as zero.",
      .composite = box<pinverse_body>, .flags = kOnHost, .autocast = Autocast::Float32,
      .samples = "W(3,3); T(4,3); T(2,3,4)");

// ---- least squares

bool gives_values(std::string_view driver) { return driver == "gelsd" || driver == "gelss"; }

std::tuple<Tensor, Tensor, Tensor> least_squares_impl(const Tensor& a, const Tensor& b, double rcond,
                                                      std::string_view driver) {
  const char* op = "linalg.lstsq";
  check_matrix(op, "A", a);
  const Dims batch = check_system(op, a, b);
  const int64_t m = a.size(-2), n = a.size(-1), k = b.size(-1), rows = std::max(m, n), least = std::min(m, n);
  Tensor f = to_columns(a, batch), rank = zeros(batch, DType::I32), info = zeros(batch, DType::I32);
  Tensor x = zeros(with(batch, {k, rows}), a.dtype()), s = zeros(with(batch, {least}), a.dtype());
  narrow(x, -1, 0, m).copy_(flipped(b));
  const char d = driver == "gels" ? 's' : driver.back() == 's' ? 'v' : driver.back();
  each_matrix(a.dtype(), count(batch), double(m) * double(n) * double(least + k), [&](auto tag, int64_t i) {
    using T = typename decltype(tag)::type;
    info.data<int32_t>()[i] = lapack::least_squares(d, m, n, k, at<T>(f, i, m * n), at<T>(x, i, k * rows), rcond,
                                                    at<T>(s, i, least), rank.data<int32_t>()[i]);
  });
  check_info(op, info, a, [](int32_t i) {
    return i > 0 ? std::string("has not full rank, which driver 'gels' needs, or did not converge") : no_convergence(i);
  });
  return {from_columns(narrow(x, -1, 0, n)), cast(rank, DType::I64), s};
}
// x = P b: gb = P^T g, gP = g b^T; the singular values, where the driver gives them, as svdvals
void least_squares_grad(GradCtx& c) {
  Tensor a = c.x(0), p = linalg_pinv(a), g = c.g_or_zeros(0);
  if (c.needs(1)) c.set(1, matmul(flipped(p), g));
  if (!c.needs(0)) return;
  Tensor ga = pinv_gradient(matmul(g, flipped(c.x(1))), a, p);
  if (c.g(2).defined() && gives_values(c.arg<std::string_view>(3))) {
    auto [u, s, vh] = linalg_svd(a, false);
    ga = ga + matmul(u * unsqueeze(c.g(2), -2), vh);
  }
  c.set(0, ga);
}
TG_OP(
    "linalg_lstsq_solution(Tensor A, Tensor B, float rcond, str driver) -> (Tensor solution, Tensor rank, Tensor "
    "singular_values)",
    .doc = "The X of least |A X - B| for matrices, by a driver of LAPACK.", .primitive = box<least_squares_impl>,
    .joint = {in(0) | in(1), least_squares_grad}, .flags = kHidden | kOnHost, .autocast = Autocast::Float32,
    .torch = "none",
    .samples =
        "T(4,3), T(4,2), 1e-12, 'gelsy'; T(3,4), T(3,2), 1e-12, 'gels'; T(4,3), T(2,4,2), 1e-12, 'gelsy'; C(4,3), "
        "C(4,2), 1e-12, 'gelsd'");

std::tuple<Tensor, Tensor, Tensor, Tensor> lstsq_body(const Tensor& a, const Tensor& B, std::optional<double> rcond,
                                                      std::optional<std::string_view> driver) {
  const char* op = "linalg.lstsq";
  check_matrix(op, "A", a);
  check_type(op, "B", B);
  const std::string_view d = driver.value_or("gelsy");
  TG_CHECK(d == "gels" || d == "gelsy" || d == "gelsd" || d == "gelss", ValueError, op,
           ": driver must be 'gels', 'gelsy', 'gelsd' or 'gelss', got '", d, "'; A=", describe(a));
  TG_CHECK(B.ndim() >= 1, ShapeError, op, ": B must have at least 1 dimension; B=", describe(B));
  const bool vector = B.ndim() == a.ndim() - 1;
  const Tensor b = vector ? unsqueeze(B, -1) : B;
  const int64_t m = a.size(-2), n = a.size(-1);
  auto [x, rank, s] = linalg_lstsq_solution(a, b, rcond.value_or(epsilon(a.dtype()) * double(std::max(m, n))), d);
  const bool full = d == "gels" || all(eq(rank, n)).item<bool>();
  Tensor none = zeros({0}, a.dtype()), left = none;
  if (m > n && d != "gelsy" && full) left = sum(square(matmul(a, x) - b), -2);
  return {vector ? squeeze(x, -1) : x, left, d == "gels" ? cast(none, DType::I64) : rank,
          gives_values(d) ? detach(s) : none};
}
TG_OP(
    "linalg_lstsq(Tensor A, Tensor B, float? rcond=None, *, str? driver=None) -> (Tensor solution, Tensor residuals, "
    "Tensor rank, Tensor singular_values)",
    .doc =
        "The X of least |A X - B| (of least |X| among them), B matrices or vectors. Residuals, the squared distances, "
        "come with more rows than columns and full rank from drivers other than 'gelsy'; the rank from all but 'gels', "
        "singular values from 'gelsd' and 'gelss'.",
    .composite = box<lstsq_body>, .flags = kOnHost, .autocast = Autocast::Float32,
    .samples =
        "T(4,3), T(4,2); T(3,4), T(3,2); T(2,4,3), T(2,4,2); T(4,3), T(4,2), driver='gels'; T(4,3), T(4,2), "
        "driver='gelsd'; T(2,4,3), T(2,4,1), driver='gelss'; C(4,4), C(4,2), 0.3");

}  // namespace
}  // namespace tg
