// Affine maps.
#include "ops/fast_path.h"

namespace tg {
namespace {

void check_linear(const char* op, const Tensor& x, const Tensor& w, const Tensor& b) {
  TG_CHECK(w.ndim() == 1 || w.ndim() == 2, ShapeError, op, ": weight must have 1 or 2 dimensions, got ", w.ndim(),
           "; weight=", describe(w));
  TG_CHECK(x.ndim() > 0, ShapeError, op, ": input must have at least 1 dimension; input=", describe(x));
  TG_CHECK(x.size(-1) == w.size(-1), ShapeError, op, ": input has ", x.size(-1),
           " features in its last dimension but weight expects ", w.size(-1), "; input=", describe(x),
           ", weight=", describe(w));
  TG_CHECK(x.dtype() == w.dtype(), DTypeError, op, ": input and weight must have one dtype; input=", describe(x),
           ", weight=", describe(w));
  TG_CHECK(x.device() == w.device(), DeviceError, op, ": input and weight must be on one device; input=", describe(x),
           ", weight=", describe(w));
  if (!b.defined()) return;
  bool fits = w.ndim() == 1 ? b.ndim() == 0 : b.ndim() == 1 && b.size(0) == w.size(0);
  TG_CHECK(fits, ShapeError, op, ": bias must have the size of weight's first dimension; bias=", describe(b),
           ", weight=", describe(w));
  TG_CHECK(b.dtype() == w.dtype() && b.device() == w.device(), DTypeError, op,
           ": bias and weight must have one dtype and device; bias=", describe(b), ", weight=", describe(w));
}

Tensor linear_body(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear("linear", x, w, b);
  Tensor y = matmul(x, w.ndim() == 2 ? transpose(w, 0, 1) : w);
  return b.defined() ? y + b : y;
}

// Rows r, columns c and their strides, as a batch of one for a product.
View product_view(const Tensor& t, int64_t r, int64_t c, int64_t sr, int64_t sc) {
  View v(t);
  v.shape = {1, r, c};
  v.stride = {0, sr, sc};
  return v;
}

// What linear multiplies: (1, rows, k) by (1, k, n).
struct LinearProduct {
  Tensor x2;   // has the memory of `left`
  Dims sizes;  // of the result
  int64_t rows, k, n;
  View left, right;

  LinearProduct(const Tensor& x, const Tensor& w) : sizes(x.sizes()), k(w.size(-1)), n(w.ndim() == 2 ? w.size(0) : 1) {
    sizes.pop_back();
    rows = numel_of(sizes, "linear");
    if (w.ndim() == 2) sizes.push_back(n);
    x2 = x.ndim() == 2 ? x : reshape(x, {rows, k});
    left = product_view(x2, rows, k, x2.strides()[0], x2.strides()[1]);
    right = product_view(w, k, n, w.stride(-1), w.ndim() == 2 ? w.stride(0) : 0);
  }
  Tensor make_result() const { return empty_tensor(sizes, x2.dtype(), x2.device()); }
  View view_of(const Tensor& result) const { return product_view(result, rows, n, n, 1); }
  // Whether a backend may be asked for more than the product: with something to add up, and a value for each column.
  bool takes(const Tensor& b) const { return k > 0 && (!b.defined() || b.ndim() == 1); }
};

// y = x w^T + b. By a backend that adds the bias itself; else the bias is written first and the product added to it, so
// the result is touched once more instead of copied.
void linear_into(const LinearProduct& p, const Tensor& b, const Tensor& y) {
  if (y.numel() == 0) return;
  Backend& be = backend(y.device());
  if (b.defined() && p.takes(b) && be.gemm_bias(p.left, p.right, View(b), p.view_of(y))) return;
  if (b.defined() || p.k == 0) {
    Views ins, outs;
    Tensor start = b.defined() ? b : zeros({1}, y.dtype(), y.device());
    ins.push_back(broadcast_to_view(start, {p.rows, p.n}));
    outs.push_back(matrix_view(y, p.rows, p.n, p.n, 1));
    be.map(make_program(compute_type(y.dtype()), 1, {}, {{Opc::Identity, {0}}}), ins, outs);
    if (p.k == 0) return;
  }
  be.gemm(1.0, p.left, p.right, b.defined() ? 1.0 : 0.0, p.view_of(y));
}

Tensor linear_primitive(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear("linear", x, w, b);
  const LinearProduct p(x, w);
  Tensor y = p.make_result();
  linear_into(p, b, y);
  return y;
}

// dx = g w, dw = g^T x over all rows
Tensor linear_grad_input(const Tensor& g, const Tensor& w) {
  return w.ndim() == 2 ? matmul(g, w) : unsqueeze(g, -1) * w;
}
Tensor linear_grad_weight(GradCtx& c, const Tensor& g) {
  Tensor x = c.x(0);
  int64_t k = x.size(-1), rows = 1;
  for (int i = 0; i + 1 < x.ndim(); ++i) rows *= x.size(i);
  const Dims& w = c.shape(1);
  if (w.size() == 1) return matmul(reshape(g, {rows}), reshape(x, {rows, k}));
  const Tensor left = transpose(x.ndim() == 2 ? g : reshape(g, {rows, w[0]}), 0, 1),
               right = x.ndim() == 2 ? x : reshape(x, {rows, k});
  // A weight that is used again: the product adds to what its other uses gave. A half type would round at every use.
  Tensor* sum = is_half(x.dtype()) ? nullptr : c.sum_so_far(1);
  if (!sum || sum->dtype() != x.dtype()) return matmul(left, right);
  auto view = [](const Tensor& t) { return product_view(t, t.size(0), t.size(1), t.stride(0), t.stride(1)); };
  backend(x.device()).gemm(1.0, view(left), view(right), 1.0, view(*sum));
  return {};
}

// ---- with gelu behind it, by the tanh formula, which epilogues of products have

using Two = std::tuple<Tensor, Tensor>;

Two linear_gelu_kept_body(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear("linear_gelu", x, w, b);
  Tensor before = linear(x, w, b);
  return {gelu_tanh(before), before};
}

// y = gelu(x w^T + b); `before`, unless undefined, gets what gelu is applied to.
void linear_gelu_into(const LinearProduct& p, const Tensor& b, const Tensor& before, const Tensor& y) {
  if (y.numel() == 0) return;
  Backend& be = backend(y.device());
  const View bias = b.defined() ? View(b) : View(), kept = before.defined() ? p.view_of(before) : View();
  if (p.takes(b) && be.gemm_gelu(p.left, p.right, bias, p.view_of(y), kept)) return;
  const Tensor& product = before.defined() ? before : y;
  linear_into(p, b, product);
  Views ins, outs;
  ins.push_back(View(product)), outs.push_back(View(y));
  be.map(make_program(compute_type(y.dtype()), 1, {}, {{Opc::gelu_tanh, {0}}}), ins, outs);
}

Two linear_gelu_kept_primitive(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear("linear_gelu", x, w, b);
  const LinearProduct p(x, w);
  Tensor y = p.make_result(), before = p.make_result();
  linear_gelu_into(p, b, before, y);
  return {y, before};
}

// The gradient of `before` from both results, then those of linear.
void linear_gelu_kept_grad(GradCtx& c) {
  Tensor g = c.g(1);
  if (c.g(0).defined()) {
    Tensor through = gelu_tanh_backward(c.g(0), c.y(1));
    g = g.defined() ? g + through : through;
  }
  if (c.needs(0)) c.set(0, linear_grad_input(g, c.x(1)));
  if (c.needs(1)) c.set(1, linear_grad_weight(c, g));
  if (c.needs(2)) c.set(2, g);
}

Tensor linear_gelu_body(const Tensor& x, const Tensor& w, const Tensor& b) {
  return std::get<0>(linear_gelu_kept(x, w, b));
}

// Without a gradient nothing is kept.
Tensor linear_gelu_primitive(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear("linear_gelu", x, w, b);
  const LinearProduct p(x, w);
  Tensor y = p.make_result();
  linear_gelu_into(p, b, {}, y);
  return y;
}

// y[.., o] = x1[.., i] w[o, i, j] x2[.., j] + b[o]
Tensor bilinear_body(const Tensor& x1, const Tensor& x2, const Tensor& w, const Tensor& b) {
  TG_CHECK(w.ndim() == 3, ShapeError, "bilinear: weight must have 3 dimensions; weight=", describe(w));
  TG_CHECK(x1.ndim() > 0 && x1.ndim() == x2.ndim(), ShapeError,
           "bilinear: inputs must have the same number of dimensions, at least 1; input1=", describe(x1),
           ", input2=", describe(x2));
  for (int i = 0; i + 1 < x1.ndim(); ++i)
    TG_CHECK(x1.size(i) == x2.size(i), ShapeError, "bilinear: inputs differ in dimension ", i, ": ", x1.size(i), " vs ",
             x2.size(i), "; input1=", describe(x1), ", input2=", describe(x2));
  TG_CHECK(x1.size(-1) == w.size(1) && x2.size(-1) == w.size(2), ShapeError, "bilinear: weight expects ", w.size(1),
           " and ", w.size(2), " features, got ", x1.size(-1), " and ", x2.size(-1), "; input1=", describe(x1),
           ", input2=", describe(x2), ", weight=", describe(w));
  Dims sizes = x1.sizes();
  sizes.pop_back();
  int64_t rows = numel_of(sizes, "bilinear"), o = w.size(0), n1 = w.size(1), n2 = w.size(2);
  Tensor left = matmul(reshape(x1, {rows, n1}), reshape(permute(w, {1, 0, 2}), {n1, o * n2}));
  Tensor y = squeeze(matmul(reshape(left, {rows, o, n2}), reshape(x2, {rows, n2, 1})), -1);
  sizes.push_back(o);
  y = reshape(y, sizes);
  return b.defined() ? y + b : y;
}

TG_OP("linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
      .doc = "input (*, in) times the transpose of weight (out, in), plus bias (out).", .composite = box<linear_body>,
      .primitive = box<linear_primitive>,
      .grads = {{in(1), [](GradCtx& c) { return linear_grad_input(c.g(), c.x(1)); }},
                {in(0), [](GradCtx& c) { return linear_grad_weight(c, c.g()); }},
                {0, [](GradCtx& c) { return c.g(); }}},
      .flags = kNN, .autocast = Autocast::Low,
      .samples =
          "T(3,4), T(5,4); T(3,4), T(5,4), T(5); T(4), T(5,4), T(5); T(2,3,4), T(5,4), T(5); T(0,4), T(5,4), "
          "T(5); T(3,4), T(4); T(3,0), T(5,0), T(5); T(17,31), T(9,31), T(9)");
TG_OP("linear_gelu(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
      .doc =
          "gelu(linear(input, weight, bias), approximate='tanh'). A GPU makes both in one pass where the vendor's "
          "library can; half types may then be rounded once instead of twice.",
      .composite = box<linear_gelu_body>, .primitive = box<linear_gelu_primitive>, .flags = kNN,
      .autocast = Autocast::Low, .torch = "none",
      .samples =
          "T(3,4), T(5,4); T(3,4), T(8,4), T(8); T(4), T(5,4), T(5); T(2,3,4), T(8,4); T(0,4), T(5,4), T(5); "
          "T(3,4), T(4); T(3,0), T(5,0), T(5); T(17,31), T(16,31), T(16)");
TG_OP("linear_gelu_kept(Tensor input, Tensor weight, Tensor? bias=None) -> (Tensor output, Tensor before)",
      .doc = "linear_gelu, and what gelu was applied to.", .composite = box<linear_gelu_kept_body>,
      .primitive = box<linear_gelu_kept_primitive>, .joint = {in(0) | in(1) | out(1), linear_gelu_kept_grad},
      .flags = kHidden, .autocast = Autocast::Low, .torch = "none",
      .samples = "T(3,4), T(5,4); T(3,4), T(8,4), T(8); T(4), T(5,4), T(5); T(2,3,4), T(8,4), T(8); T(3,4), T(4)");
TG_OP("bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor",
      .doc = "input1 (*, in1) and input2 (*, in2) through weight (out, in1, in2), plus bias (out).",
      .composite = box<bilinear_body>, .flags = kNN, .autocast = Autocast::Widest, .torch = "nn.functional.bilinear",
      .samples = "T(3,4), T(3,2), T(5,4,2); T(3,4), T(3,2), T(5,4,2), T(5); T(2,3,4), T(2,3,2), T(5,4,2), T(5)");

}  // namespace
}  // namespace tg
