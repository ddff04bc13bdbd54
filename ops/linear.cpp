// Affine maps.
#include "ops/fast_path.h"

namespace tg {
namespace {

void check_linear(const Tensor& x, const Tensor& w, const Tensor& b) {
  TG_CHECK(w.ndim() == 1 || w.ndim() == 2, ShapeError, "linear: weight must have 1 or 2 dimensions, got ", w.ndim(),
           "; weight=", describe(w));
  TG_CHECK(x.ndim() > 0, ShapeError, "linear: input must have at least 1 dimension; input=", describe(x));
  TG_CHECK(x.size(-1) == w.size(-1), ShapeError, "linear: input has ", x.size(-1),
           " features in its last dimension but ", "weight expects ", w.size(-1), "; input=", describe(x),
           ", weight=", describe(w));
  TG_CHECK(x.dtype() == w.dtype(), DTypeError, "linear: input and weight must have one dtype; input=", describe(x),
           ", weight=", describe(w));
  TG_CHECK(x.device() == w.device(), DeviceError, "linear: input and weight must be on one device; input=", describe(x),
           ", weight=", describe(w));
  if (!b.defined()) return;
  bool fits = w.ndim() == 1 ? b.ndim() == 0 : b.ndim() == 1 && b.size(0) == w.size(0);
  TG_CHECK(fits, ShapeError, "linear: bias must have the size of weight's first dimension; bias=", describe(b),
           ", weight=", describe(w));
  TG_CHECK(b.dtype() == w.dtype() && b.device() == w.device(), DTypeError,
           "linear: bias and weight must have one dtype and device; bias=", describe(b), ", weight=", describe(w));
}

Tensor linear_body(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear(x, w, b);
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

// By a backend that adds the bias itself; else the bias is written first and the product added to it, so the result is
// touched once more instead of copied.
Tensor linear_primitive(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_linear(x, w, b);
  int64_t k = w.size(-1), n = w.ndim() == 2 ? w.size(0) : 1;
  Dims sizes = x.sizes();
  sizes.pop_back();
  int64_t rows = numel_of(sizes, "linear");
  if (w.ndim() == 2) sizes.push_back(n);
  Tensor y = empty_tensor(sizes, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  Backend& be = backend(x.device());
  const Tensor x2 = x.ndim() == 2 ? x : reshape(x, {rows, k});
  const View left = product_view(x2, rows, k, x2.strides()[0], x2.strides()[1]),
             right = product_view(w, k, n, w.stride(-1), w.ndim() == 2 ? w.stride(0) : 0),
             out = product_view(y, rows, n, n, 1);
  if (b.defined() && b.ndim() == 1 && k > 0 && be.gemm_bias(left, right, View(b), out)) return y;
  if (b.defined() || k == 0) {
    Views ins, outs;
    Tensor start = b.defined() ? b : zeros({1}, x.dtype(), x.device());
    ins.push_back(broadcast_to_view(start, {rows, n}));
    outs.push_back(matrix_view(y, rows, n, n, 1));
    be.map(make_program(compute_type(x.dtype()), 1, {}, {{Opc::Identity, {0}}}), ins, outs);
    if (k == 0) return y;
  }
  be.gemm(1.0, left, right, b.defined() ? 1.0 : 0.0, out);
  return y;
}

// dx = g w, dw = g^T x over all rows
Tensor linear_grad_input(GradCtx& c) {
  Tensor w = c.x(1);
  return w.ndim() == 2 ? matmul(c.g(), w) : unsqueeze(c.g(), -1) * w;
}
Tensor linear_grad_weight(GradCtx& c) {
  Tensor x = c.x(0);
  int64_t k = x.size(-1), rows = 1;
  for (int i = 0; i + 1 < x.ndim(); ++i) rows *= x.size(i);
  const Dims& w = c.shape(1);
  if (w.size() == 1) return matmul(reshape(c.g(), {rows}), reshape(x, {rows, k}));
  const Tensor left = transpose(x.ndim() == 2 ? c.g() : reshape(c.g(), {rows, w[0]}), 0, 1),
               right = x.ndim() == 2 ? x : reshape(x, {rows, k});
  // A weight that is used again: the product adds to what its other uses gave. A half type would round at every use.
  Tensor* sum = is_half(x.dtype()) ? nullptr : c.sum_so_far(1);
  if (!sum || sum->dtype() != x.dtype()) return matmul(left, right);
  auto view = [](const Tensor& t) { return product_view(t, t.size(0), t.size(1), t.stride(0), t.stride(1)); };
  backend(x.device()).gemm(1.0, view(left), view(right), 1.0, view(*sum));
  return {};
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
      .grads = {{in(1), linear_grad_input}, {in(0), linear_grad_weight}, {0, [](GradCtx& c) { return c.g(); }}},
      .flags = kNN, .autocast = Autocast::Low,
      .samples =
          "T(3,4), T(5,4); T(3,4), T(5,4), T(5); T(4), T(5,4), T(5); T(2,3,4), T(5,4), T(5); T(0,4), T(5,4), "
          "T(5); T(3,4), T(4); T(3,0), T(5,0), T(5); T(17,31), T(9,31), T(9)");
TG_OP("bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor",
      .doc = "input1 (*, in1) and input2 (*, in2) through weight (out, in1, in2), plus bias (out).",
      .composite = box<bilinear_body>, .flags = kNN, .autocast = Autocast::Widest, .torch = "nn.functional.bilinear",
      .samples = "T(3,4), T(3,2), T(5,4,2); T(3,4), T(3,2), T(5,4,2), T(5); T(2,3,4), T(2,3,2), T(5,4,2), T(5)");

}  // namespace
}  // namespace tg
