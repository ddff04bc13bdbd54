// Matrix products. One primitive brings every product down to Backend::gemm on strided views: transposed operands and
// broadcast batches are never copied.
#include "ops/copy_view.h"

namespace tg {
namespace {

void check_pair(const char* op, const Tensor& a, const Tensor& b) {
  TG_CHECK(a.device() == b.device(), DeviceError, op, ": expected all tensors on one device; a=", describe(a),
           ", b=", describe(b));
  TG_CHECK(a.dtype() == b.dtype(), DTypeError, op, ": expected operands of one dtype, got ", a.dtype(), " and ",
           b.dtype(), "; a=", describe(a), ", b=", describe(b));
  TG_CHECK(a.dtype() != DType::Bool, DTypeError, op, ": bool tensors are not supported; a=", describe(a),
           ", b=", describe(b));
}
void check_inner(const char* op, const Tensor& a, const Tensor& b, int64_t ka, int64_t kb) {
  TG_CHECK(ka == kb, ShapeError, op, ": inner sizes differ, ", ka, " vs ", kb, "; a=", describe(a),
           ", b=", describe(b));
}
void check_ndim(const char* op, const char* what, const Tensor& t, int n) {
  TG_CHECK(t.ndim() == n, ShapeError, op, ": expected ", n, " dimensions, got ", t.ndim(), "; ", what, "=",
           describe(t));
}

// Shape (batch.., rows, columns) of three operands; batch strides of 0 broadcast.
struct Product {
  View a, b, c;
};

// Merges batch axes that lie evenly behind each other in all three operands.
void merge_batch(Product& p) {
  View* all[] = {&p.a, &p.b, &p.c};
  for (int i = p.c.ndim() - 4; i >= 0; --i) {
    int64_t n = p.c.shape[i + 1];
    bool even = p.c.shape[i] == 1 || n == 1;
    if (!even) {
      even = true;
      for (View* v : all) even &= v->stride[i] == v->stride[i + 1] * n;
    }
    if (!even) continue;
    for (View* v : all) {
      if (n == 1) v->stride[i + 1] = v->stride[i];
      v->shape[i + 1] *= v->shape[i];
      v->shape.erase(i), v->stride.erase(i);
    }
  }
}

// c = alpha a b + beta c over all batches: one gemm per position of the outer batch axes that did not merge.
void run_product(Device d, double alpha, Product p, double beta) {
  if (p.c.numel() == 0) return;
  merge_batch(p);
  if (p.c.ndim() == 2)
    for (View* v : {&p.a, &p.b, &p.c}) v->shape.insert(0, 1), v->stride.insert(0, 0);
  int outer = p.c.ndim() - 3;
  if (outer == 0) return backend(d).gemm(alpha, p.a, p.b, beta, p.c);
  for (int64_t i = 0; i < p.c.shape[0]; ++i) {
    Product q = p;
    for (View* v : {&q.a, &q.b, &q.c}) {
      *v = slice_view(*v, 0, i, 1);
      v->shape.erase(0), v->stride.erase(0);
    }
    run_product(d, alpha, q, beta);
  }
}

// `t` as (batch.., r, c) with the given batch sizes; t's own batch sizes are its leading ones.
View batched(const Tensor& t, const Dims& batch) {
  int nb = t.ndim() - 2;
  Dims shape = batch;
  shape.push_back(t.sizes()[nb]), shape.push_back(t.sizes()[nb + 1]);
  View v = broadcast_to_view(t, shape);
  v.stride[batch.size()] = t.strides()[nb], v.stride[batch.size() + 1] = t.strides()[nb + 1];
  return v;
}

// The rows of every batch of `t` (batch.., r, c) as one matrix, if its strides allow.
bool fold_rows(View& v) {
  while (v.ndim() > 2) {
    if (v.shape[0] != 1 && v.shape[1] != 1 && v.stride[0] != v.stride[1] * v.shape[1]) return false;
    if (v.shape[1] == 1) v.stride[1] = v.stride[0];
    v.shape[1] *= v.shape[0];
    v.shape.erase(0), v.stride.erase(0);
  }
  return true;
}

Tensor as_row(const Tensor& t) { return t.ndim() == 1 ? unsqueeze(t, 0) : t; }
Tensor as_column(const Tensor& t) { return t.ndim() == 1 ? unsqueeze(t, 1) : t; }

Tensor matmul_impl(const Tensor& a, const Tensor& b) {
  check_pair("matmul", a, b);
  TG_CHECK(a.ndim() > 0 && b.ndim() > 0, ShapeError, "matmul: both operands need at least 1 dimension; a=", describe(a),
           ", b=", describe(b));
  Tensor m = as_row(a), n = as_column(b);
  check_inner("matmul", a, b, m.size(-1), n.size(-2));
  Dims batch(m.sizes().begin(), m.sizes().end() - 2);
  if (m.ndim() > 2 || n.ndim() > 2) {
    Dims other(n.sizes().begin(), n.sizes().end() - 2);
    batch = broadcast_shapes("matmul", batch, other);
  }
  Dims sizes = batch;
  if (a.ndim() > 1) sizes.push_back(m.size(-2));
  if (b.ndim() > 1) sizes.push_back(n.size(-1));
  if (m.size(-1) == 0) return zeros(sizes, a.dtype(), a.device());
  Tensor y = empty_tensor(sizes, a.dtype(), a.device());
  Dims full = batch;
  full.push_back(m.size(-2)), full.push_back(n.size(-1));
  View c(y);
  c.shape = full, c.stride = contiguous_strides(full);
  Product p{View(m), View(n), c};
  bool folded = n.ndim() == 2 && m.ndim() > 2 && fold_rows(p.a) && fold_rows(p.c);
  if (!folded) p = {batched(m, batch), batched(n, batch), c};
  run_product(a.device(), 1.0, p, 0.0);
  return y;
}

Tensor swapped(const Tensor& t) { return transpose(t, -2, -1); }

// The gradient as a stack of matrices, whatever the operands' dimensions were.
Tensor matrix_grad(GradCtx& c) {
  Tensor g = c.g();
  if (c.shape(1).size() == 1) g = unsqueeze(g, -1);
  return c.shape(0).size() == 1 ? unsqueeze(g, -2) : g;
}
Tensor matmul_grad_a(GradCtx& c) {
  Tensor b = as_column(c.x(1));
  Tensor ga = matmul(matrix_grad(c), swapped(b));
  return c.shape(0).size() == 1 ? squeeze(ga, -2) : ga;
}
Tensor matmul_grad_b(GradCtx& c) {
  Tensor a = as_row(c.x(0)), g = matrix_grad(c);
  if (c.shape(1).size() <= 2 && a.ndim() > 2) {  // one product over all rows instead of a sum of products
    int64_t k = a.size(-1), n = g.size(-1);
    int64_t rows = numel_of(g.sizes()) / std::max<int64_t>(n, 1);
    a = reshape(a, {n == 0 ? a.numel() / std::max<int64_t>(k, 1) : rows, k});
    g = reshape(g, {a.size(0), n});
  }
  Tensor gb = matmul(swapped(a), g);
  return c.shape(1).size() == 1 ? squeeze(gb, -1) : gb;
}

TG_OP("matmul(Tensor input, Tensor other) -> Tensor",
      .doc =
          "Matrix product over the last two dimensions; 1-d operands are a row or a column, leading dimensions "
          "broadcast.",
      .primitive = box<matmul_impl>, .grads = {{in(1), matmul_grad_a}, {in(0), matmul_grad_b}},
      .autocast = Autocast::Low, .aliases = "linalg_matmul",
      .samples =
          "T(3,4), T(4,5); T(4), T(4); T(3,4), T(4); T(4), T(4,5); T(2,3,4), T(4,5); T(2,3,4), T(4); T(4), T(2,4,5); "
          "T(2,3,4), T(2,4,5); T(2,1,3,4), T(5,4,2); T(3,4), T(2,4,5); T(3,0), T(0,4); T(0,4), T(4,3); "
          "I(3,4, hi=5), I(4,2, hi=5); T(1,3,4), T(2,4,5); T(17,33), T(33,9); T(0,3,4), T(4,2)");

// ---- products that fix the number of dimensions

Tensor mm_body(const Tensor& a, const Tensor& b) {
  check_ndim("mm", "input", a, 2), check_ndim("mm", "mat2", b, 2);
  check_pair("mm", a, b), check_inner("mm", a, b, a.size(1), b.size(0));
  return matmul(a, b);
}
void check_bmm(const char* op, const Tensor& a, const Tensor& b) {
  check_ndim(op, "batch1", a, 3), check_ndim(op, "batch2", b, 3);
  TG_CHECK(a.size(0) == b.size(0), ShapeError, op, ": batch sizes differ, ", a.size(0), " vs ", b.size(0),
           "; a=", describe(a), ", b=", describe(b));
  check_pair(op, a, b), check_inner(op, a, b, a.size(2), b.size(1));
}
Tensor bmm_body(const Tensor& a, const Tensor& b) {
  check_bmm("bmm", a, b);
  return matmul(a, b);
}
Tensor mv_body(const Tensor& a, const Tensor& v) {
  check_ndim("mv", "input", a, 2), check_ndim("mv", "vec", v, 1);
  check_pair("mv", a, v), check_inner("mv", a, v, a.size(1), v.size(0));
  return matmul(a, v);
}
Tensor dot_body(const Tensor& a, const Tensor& b) {
  check_ndim("dot", "input", a, 1), check_ndim("dot", "tensor", b, 1);
  check_pair("dot", a, b), check_inner("dot", a, b, a.size(0), b.size(0));
  return matmul(a, b);
}
TG_OP("mm(Tensor input, Tensor mat2) -> Tensor", .doc = "Product of two matrices.", .composite = box<mm_body>,
      .autocast = Autocast::Low, .aliases = "spmm", .samples = "T(3,4), T(4,5); T(1,4), T(4,1); T(3,0), T(0,2)");
TG_OP("bmm(Tensor input, Tensor mat2) -> Tensor", .doc = "Products of two stacks of matrices, (b, m, k) and (b, k, n).",
      .composite = box<bmm_body>, .autocast = Autocast::Low,
      .samples = "T(2,3,4), T(2,4,5); T(0,3,4), T(0,4,5); T(1,3,4), T(1,4,2)");
TG_OP("mv(Tensor input, Tensor vec) -> Tensor", .doc = "Product of a matrix and a vector.", .composite = box<mv_body>,
      .autocast = Autocast::Low, .samples = "T(3,4), T(4); T(0,4), T(4); T(3,0), T(0)");
TG_OP("dot(Tensor input, Tensor tensor) -> Tensor", .doc = "Inner product of two vectors of equal length.",
      .composite = box<dot_body>, .autocast = Autocast::Widest,
      .samples = "T(5), T(5); T(0), T(0); I(4, hi=5), I(4, hi=5)");
TG_OP("vdot(Tensor input, Tensor other) -> Tensor",
      .doc = "Inner product of two vectors, the same as dot for real numbers.", .composite = box<dot_body>,
      .autocast = Autocast::Widest, .samples = "T(5), T(5)");

Tensor outer_body(const Tensor& a, const Tensor& b) {
  check_ndim("outer", "input", a, 1), check_ndim("outer", "vec2", b, 1);
  return unsqueeze(a, 1) * b;
}
TG_OP("outer(Tensor input, Tensor vec2) -> Tensor", .doc = "All products of an element of input and one of vec2.",
      .composite = box<outer_body>, .aliases = "ger", .samples = "T(3), T(4); T(0), T(2); I(3, hi=5), T(2)");

Tensor inner_body(const Tensor& a, const Tensor& b) {
  if (a.ndim() == 0 || b.ndim() == 0) return a * b;
  check_pair("inner", a, b), check_inner("inner", a, b, a.size(-1), b.size(-1));
  Dims sizes(a.sizes().begin(), a.sizes().end() - 1);
  for (int i = 0; i + 1 < b.ndim(); ++i) sizes.push_back(b.sizes()[i]);
  int64_t k = a.size(-1), rows = numel_of(Dims(a.sizes().begin(), a.sizes().end() - 1));
  int64_t cols = numel_of(Dims(b.sizes().begin(), b.sizes().end() - 1));
  return reshape(matmul(reshape(a, {rows, k}), swapped(reshape(b, {cols, k}))), sizes);
}
TG_OP("inner(Tensor input, Tensor other) -> Tensor", .doc = "Sum of products over the last dimension of both.",
      .composite = box<inner_body>, .samples = "T(4), T(4); T(2,4), T(3,4); T(2,3,4), T(5,4); T(), T(3); T(2,4), T(4)");

// ---- product and sum

// beta * input + alpha * (a @ b); `input` is written first, so that the product is added in place.
Tensor fused_add(const char* op, const Tensor& input, const Tensor& a, const Tensor& b, const Scalar& beta,
                 const Scalar& alpha) {
  check_pair(op, a, b);
  TG_CHECK(input.dtype() == a.dtype() && input.device() == a.device(), DTypeError, op,
           ": input must have the dtype and device of the matrices; input=", describe(input), ", a=", describe(a));
  TG_CHECK(is_float(a.dtype()) || (!beta.is_float() && !alpha.is_float()), DTypeError, op,
           ": beta and alpha must be integers for integer tensors; a=", describe(a));
  Dims sizes(a.sizes().begin(), a.sizes().end() - 1);
  sizes.push_back(b.size(-1));
  TG_CHECK(broadcastable_to(input.sizes(), sizes), ShapeError, op, ": input does not broadcast to the product's size ",
           sizes, "; input=", describe(input));
  Tensor y = empty_tensor(sizes, a.dtype(), a.device());
  if (y.numel() == 0) return y;
  bool add = beta.d() != 0, multiply = a.size(-1) > 0;
  if (add) copy_view(a.device(), broadcast_to_view(input, sizes), View(y));
  if (multiply) run_product(a.device(), alpha.d(), {View(a), View(b), View(y)}, beta.d());
  if (add && !multiply) return y * beta;
  return add || multiply ? y : zeros(sizes, a.dtype(), a.device());
}
Tensor addmm_impl(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  check_ndim("addmm", "mat1", a, 2), check_ndim("addmm", "mat2", b, 2);
  check_inner("addmm", a, b, a.size(1), b.size(0));
  return fused_add("addmm", input, a, b, beta, alpha);
}
Tensor baddbmm_impl(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  check_bmm("baddbmm", a, b);
  return fused_add("baddbmm", input, a, b, beta, alpha);
}
Tensor scaled(const Tensor& t, const Scalar& s) { return s.d() == 1 ? t : t * s; }
Tensor fused_grad_input(GradCtx& c) { return scaled(c.g(), c.arg<Scalar>(3)); }
Tensor fused_grad_a(GradCtx& c) { return scaled(matmul(c.g(), swapped(c.x(2))), c.arg<Scalar>(4)); }
Tensor fused_grad_b(GradCtx& c) { return scaled(matmul(swapped(c.x(1)), c.g()), c.arg<Scalar>(4)); }

TG_OP("addmm(Tensor input, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
      .doc = "beta * input + alpha * (mat1 @ mat2); with beta 0 the input is not read.", .primitive = box<addmm_impl>,
      .grads = {{0, fused_grad_input}, {in(2), fused_grad_a}, {in(1), fused_grad_b}}, .flags = kMakeInplace,
      .autocast = Autocast::Low,
      .samples =
          "T(3,5), T(3,4), T(4,5); T(5), T(3,4), T(4,5); T(3,1), T(3,4), T(4,5), beta=0.5, alpha=2.0; T(3,5), T(3,4), "
          "T(4,5), beta=0; T(), T(3,0), T(0,5); I(3,2, hi=5), I(3,4, hi=5), I(4,2, hi=5), alpha=2");
TG_OP("baddbmm(Tensor input, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
      .doc = "beta * input + alpha * (batch1 @ batch2) for stacks of matrices.", .primitive = box<baddbmm_impl>,
      .grads = {{0, fused_grad_input}, {in(2), fused_grad_a}, {in(1), fused_grad_b}}, .flags = kMakeInplace,
      .autocast = Autocast::Low,
      .samples =
          "T(2,3,5), T(2,3,4), T(2,4,5); T(2,1,5), T(2,3,4), T(2,4,5), beta=0.5, alpha=2.0; T(2,3,5), T(2,3,0), "
          "T(2,0,5)");

Tensor plus(const Tensor& input, const Tensor& product, const Scalar& beta, const Scalar& alpha) {
  Tensor p = scaled(product, alpha);
  return beta.d() == 0 ? expand(p, broadcast_shapes("addmv", p.sizes(), input.sizes())) : scaled(input, beta) + p;
}
Tensor addmv_body(const Tensor& input, const Tensor& m, const Tensor& v, Scalar beta, Scalar alpha) {
  return plus(input, mv(m, v), beta, alpha);
}
Tensor addr_body(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  return plus(input, outer(a, b), beta, alpha);
}
Tensor addbmm_body(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  return plus(input, sum(bmm(a, b), 0), beta, alpha);
}
TG_OP("addmv(Tensor input, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
      .doc = "beta * input + alpha * (mat @ vec).", .composite = box<addmv_body>, .flags = kMakeInplace,
      .samples = "T(3), T(3,4), T(4); T(3), T(3,4), T(4), beta=0.5, alpha=2.0; T(3), T(3,4), T(4), beta=0");
TG_OP("addr(Tensor input, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
      .doc = "beta * input + alpha * outer(vec1, vec2).", .composite = box<addr_body>, .flags = kMakeInplace,
      .samples = "T(3,4), T(3), T(4); T(3,4), T(3), T(4), beta=0.5, alpha=2.0");
TG_OP("addbmm(Tensor input, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
      .doc = "beta * input + alpha * the sum of the products over the batch.", .composite = box<addbmm_body>,
      .flags = kMakeInplace, .autocast = Autocast::Low,
      .samples = "T(3,5), T(2,3,4), T(2,4,5); T(3,5), T(2,3,4), T(2,4,5), beta=0.5, alpha=2.0");

}  // namespace
}  // namespace tg
