// Normalisation. Layer, batch, group and instance norm are one op over different axes.
#include <limits>

#include "ops/fast_path.h"

namespace tg {
namespace {

void check_float(const char* op, const Tensor& x) {
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
}

int64_t count(const Dims& sizes, const Dims& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= sizes[int(d)];
  return n;
}

// ---- standardize: (input - mean) / sqrt(var + eps) * weight + bias over `dim`, with its mean and (biased) variance

using Moments = std::tuple<Tensor, Tensor, Tensor>;

Moments standardize_body(const Tensor& input, IntList dim, const Tensor& weight, const Tensor& bias, double eps) {
  check_float("standardize", input);
  Dims dims = wrap_dims("standardize", dim, input.ndim());
  Tensor x = widen(input);
  double n = double(count(x.sizes(), dims));
  Tensor mean = sum(x, dims, true) / n;
  Tensor centred = x - mean;
  Tensor var = sum(square(centred), dims, true) / n;
  Tensor y = centred * rsqrt(var + eps);
  if (weight.defined()) y = y * weight;
  if (bias.defined()) y = y + bias;
  return {narrow_to(y, input.dtype()), mean, var};
}

// How weight and bias lie to the normalised axes: one value for each of their elements (layer norm), one for each of
// the others (batch norm), or some other way (group norm).
enum class Params { Rows, Kept, Other };

Params layout_of(const Tensor& x, const Dims& dims, std::initializer_list<const Tensor*> params) {
  Dims kept = kept_sizes(x.sizes(), dims), row;
  bool rows = true, fit_kept = true;
  for (int i = 0; i < dims.size(); ++i) {
    rows &= dims[i] == x.ndim() - dims.size() + i;
    row.push_back(x.sizes()[int(dims[i])]);
  }
  for (const Tensor* t : params) {
    if (!t->defined()) continue;
    rows &= t->sizes() == row;
    fit_kept &= t->ndim() <= kept.size();
    for (int d = 1; fit_kept && d <= t->ndim(); ++d)
      fit_kept &= t->size(-d) == 1 || t->size(-d) == kept[kept.size() - d];
  }
  return rows ? Params::Rows : fit_kept ? Params::Kept : Params::Other;
}

bool all_contiguous(const Tensor& x, std::initializer_list<const Tensor*> params) {
  bool ok = x.numel() > 0 && x.is_contiguous();
  for (const Tensor* t : params) ok &= !t->defined() || (t->is_contiguous() && t->dtype() == x.dtype());
  return ok;
}

Moments standardize_primitive(const Tensor& x, IntList dim, const Tensor& weight, const Tensor& bias, double eps) {
  check_float("standardize", x);
  Dims dims = wrap_dims("standardize", dim, x.ndim());
  DType c = compute_type(x.dtype());
  Dims kept = kept_sizes(x.sizes(), dims);
  Tensor mean = empty_tensor(kept, c, x.device()), var = empty_tensor(kept, c, x.device());
  Tensor y = empty_like_tensor(x);
  const Params params = layout_of(x, dims, {&weight, &bias});
  if (params == Params::Rows && all_contiguous(x, {&weight, &bias})) {
    const int64_t n = count(x.sizes(), dims), rows = x.numel() / n;
    if (run_fused(x.device(), Fused::Norm, {rows_of(x, n), one_row(weight, rows, n), one_row(bias, rows, n)},
                  {rows_of(y, n), row_values(mean, n), row_values(var, n)}, eps))
      return {y, mean, var};
  }
  // Two reductions and one map.
  Backend& b = backend(x.device());
  double n = double(count(x.sizes(), dims));
  View vmean = broadcast_to_view(mean, x.sizes()), vvar = broadcast_to_view(var, x.sizes());
  Views one, two, all, out;
  one.push_back(View(x));
  two.push_back(View(x)), two.push_back(vmean);
  Program over_n = make_program(c, 1, {n}, {{Opc::div, {0, 1}}});
  b.reduce(ReduceOp::Sum, c, nullptr, one, &over_n, vmean);
  Program sq = make_program(c, 2, {}, {{Opc::sub, {0, 1}}, {Opc::square, {2}}});
  b.reduce(ReduceOp::Sum, c, &sq, two, &over_n, vvar);

  // The factor of each kept element takes the weight with it where that has one value for it, as in batch norm.
  Tensor scale = rsqrt(var + eps), factor = weight;
  if (weight.defined() && params == Params::Kept) scale = scale * widen(weight), factor = Tensor();
  // registers: x, mean, scale, [factor], [bias], then x - mean, product, ...
  all.push_back(View(x)), all.push_back(vmean), all.push_back(broadcast_to_view(scale, x.sizes()));
  if (factor.defined()) all.push_back(broadcast_to_view(factor, x.sizes()));
  if (bias.defined()) all.push_back(broadcast_to_view(bias, x.sizes()));
  uint8_t i = uint8_t(all.size());
  Program p = make_program(c, i, {}, {{Opc::sub, {0, 1}}, {Opc::mul, {i, 2}}});
  uint8_t last = uint8_t(i + 1), operand = 3;
  if (factor.defined()) p.code.push_back({Opc::mul, {last++, operand++}});
  if (bias.defined()) p.code.push_back({Opc::add, {last++, operand}});
  p.outs[0] = last;
  out.push_back(View(y));
  b.map(p, all, out);
  return {y, mean, var};
}

// The sizes of the trailing axes.
Dims tail_of(const Tensor& x, const Dims& dims) { return Dims(x.sizes().end() - dims.size(), x.sizes().end()); }

// With xhat = (x - mean) r, r = 1/sqrt(var + eps), h = g weight: dx = r (h - mean(h) - xhat mean(h xhat)). The
// gradients of weight and bias are summed to rows or to kept elements where these lie so; over rows without either they
// are zero, as sums that nobody reads would be a third of the work.
Moments standardize_backward_body(const Tensor& input, const Tensor& grad, IntList dim, const Tensor& weight,
                                  const Tensor& bias, const Tensor& mean, const Tensor& var, double eps) {
  Tensor x = widen(input), g = widen(grad);
  Dims dims = wrap_dims("standardize", dim, x.ndim());
  double n = double(count(x.sizes(), dims));
  Tensor r = rsqrt(var + eps), xhat = (x - mean) * r;
  Tensor h = weight.defined() ? g * widen(weight) : g, gx = g * xhat;
  Tensor dx = r * (h - sum(h, dims, true) / n - xhat * (sum(h * xhat, dims, true) / n));
  const Params params = layout_of(x, dims, {&weight, &bias});
  if (params == Params::Kept) return {dx, sum(gx, dims, true), sum(g, dims, true)};
  if (params == Params::Rows && !weight.defined() && !bias.defined()) {
    Tensor none = zeros(tail_of(x, dims), x.dtype(), x.device());
    return {dx, none, zeros_like(none)};
  }
  Dims lead;
  for (int i = 0; i < x.ndim() - dims.size(); ++i) lead.push_back(i);
  if (params == Params::Other || lead.empty()) return {dx, gx, g};
  return {dx, sum(gx, lead), sum(g, lead)};
}

// Layer norm: rows. The sums over all rows come out summed.
bool standardize_backward_rows(const Tensor& x, const Tensor& g, const Tensor& weight, const Tensor& bias,
                               const Tensor& mean, const Tensor& var, double eps, const Dims& dims, Moments& result) {
  const int64_t n = count(x.sizes(), dims), rows = x.numel() / n;
  const Dims shape = tail_of(x, dims);
  Tensor dx = empty_like_tensor(x);
  View vx = rows_of(x, n), vg = rows_of(g, n), vm = row_values(mean, n), vv = row_values(var, n);
  if (!run_fused(x.device(), Fused::NormGrad, {vx, vg, one_row(weight, rows, n), vm, vv}, {rows_of(dx, n)}, eps))
    return false;
  const bool none = !weight.defined() && !bias.defined();
  Tensor dw = none ? zeros(shape, DType::F32, x.device()) : empty_tensor(shape, DType::F32, x.device());
  Tensor db = none ? zeros_like(dw) : empty_like_tensor(dw);
  result = {dx, dw, db};
  if (none) return true;
  if (!run_fused(x.device(), Fused::NormWeights, {vx, vg, vm, vv}, {one_row(dw, rows, n), one_row(db, rows, n)}, eps))
    return false;
  return true;
}

// Batch norm: dx = a g + b (x - mean) + c with one a, b, c for each kept element.
Moments standardize_backward_kept(const Tensor& x, const Tensor& g, const Dims& dims, const Tensor& weight,
                                  const Tensor& mean, const Tensor& var, double eps) {
  DType t = compute_type(x.dtype());
  Backend& be = backend(x.device());
  const double n = double(count(x.sizes(), dims));
  Tensor sum_g = empty_like_tensor(mean), sum_gx = empty_like_tensor(mean), dx = empty_like_tensor(x);
  View vx(x), vg(g), vmean = broadcast_to_view(mean, x.sizes());
  Views one, three, all, out;
  one.push_back(vg);
  be.reduce(ReduceOp::Sum, t, nullptr, one, nullptr, broadcast_to_view(sum_g, x.sizes()));
  three.push_back(vx), three.push_back(vmean), three.push_back(vg);
  Program product = make_program(t, 3, {}, {{Opc::sub, {0, 1}}, {Opc::mul, {3, 2}}});
  be.reduce(ReduceOp::Sum, t, &product, three, nullptr, broadcast_to_view(sum_gx, x.sizes()));
  Tensor r = rsqrt(var + eps), dw = sum_gx * r;
  Tensor a = weight.defined() ? r * widen(weight) : r, b = a * r * dw / -n, c = a * sum_g / -n;
  all.push_back(vg), all.push_back(broadcast_to_view(a, x.sizes()));
  all.push_back(vx), all.push_back(vmean), all.push_back(broadcast_to_view(b, x.sizes()));
  all.push_back(broadcast_to_view(c, x.sizes()));
  out.push_back(View(dx));
  be.map(make_program(
             t, 6, {},
             {{Opc::mul, {0, 1}}, {Opc::sub, {2, 3}}, {Opc::mul, {7, 4}}, {Opc::add, {6, 8}}, {Opc::add, {9, 5}}}),
         all, out);
  return {dx, dw, sum_g};
}

Moments standardize_backward_primitive(const Tensor& x, const Tensor& grad, IntList dim, const Tensor& weight,
                                       const Tensor& bias, const Tensor& mean, const Tensor& var, double eps) {
  Dims dims = wrap_dims("standardize", dim, x.ndim());
  const Params params = layout_of(x, dims, {&weight, &bias});
  const bool plain = x.numel() > 0 && grad.dtype() == x.dtype() && grad.sizes() == x.sizes();
  Moments result;
  if (plain && params == Params::Rows && all_contiguous(x, {&weight}) && mean.is_contiguous() && var.is_contiguous() &&
      standardize_backward_rows(x, contiguous(grad), weight, bias, mean, var, eps, dims, result))
    return result;
  if (plain && params == Params::Kept) return standardize_backward_kept(x, grad, dims, weight, mean, var, eps);
  return standardize_backward_body(x, grad, dim, weight, bias, mean, var, eps);
}

void standardize_grad(GradCtx& c) {
  auto param = [&](int i) { return c.is_none(i) ? Tensor() : c.x(i); };
  Tensor x = c.x(0), mean = c.y(1), var = c.y(2);
  IntList dim = c.arg<IntList>(1);
  auto [dx, dw, db] = standardize_backward(x, c.g_or_zeros(0), dim, param(2), param(3), mean, var, c.arg<double>(4));
  double n = double(count(x.sizes(), wrap_dims("standardize", dim, x.ndim())));
  if (c.g(1).defined()) dx = dx + c.g(1) / n;
  if (c.g(2).defined()) dx = dx + (widen(x) - mean) * (c.g(2) * (2.0 / n));
  if (c.needs(0)) c.set(0, dx);
  if (c.needs(2)) c.set(2, dw);
  if (c.needs(3)) c.set(3, db);
}

// ---- layer norm and RMS norm

// The trailing axes that normalized_shape names.
Dims trailing_dims(const char* op, const Tensor& x, IntList shape, const Tensor& weight, const Tensor& bias) {
  check_float(op, x);
  int n = int(shape.size());
  TG_CHECK(n > 0, ShapeError, op, ": normalized_shape must have at least one dimension; input=", describe(x));
  TG_CHECK(shape.size() <= x.ndim(), ShapeError, op, ": normalized_shape=", shape,
           " has more dimensions than input=", describe(x));
  Dims dims;
  for (int i = 0; i < n; ++i) {
    int d = x.ndim() - n + i;
    TG_CHECK(x.sizes()[d] == shape[i], ShapeError, op, ": input has ", x.sizes()[d], " in dimension ", d,
             " but normalized_shape=", shape, " expects ", shape[i], "; input=", describe(x));
    dims.push_back(d);
  }
  for (const Tensor* t : {&weight, &bias}) {
    const char* name = t == &weight ? "weight=" : "bias=";
    TG_CHECK(!t->defined() || t->sizes() == shape.dims(), ShapeError, op, ": ", name, describe(*t),
             " must have the shape ", shape);
    TG_CHECK(!t->defined() || t->device() == x.device(), DeviceError, op,
             ": expected all tensors on one device; input=", describe(x), ", ", name, describe(*t));
  }
  return dims;
}

Tensor layer_norm_body(const Tensor& x, IntList shape, const Tensor& weight, const Tensor& bias, double eps) {
  Dims dims = trailing_dims("layer_norm", x, shape, weight, bias);
  return std::get<0>(standardize(x, dims, weight, bias, eps));
}

double rms_eps(const Tensor& x, std::optional<double> eps) {
  if (eps) return *eps;
  return x.dtype() == DType::F64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

Tensor rms_norm_body(const Tensor& input, IntList shape, const Tensor& weight, std::optional<double> eps) {
  Dims dims = trailing_dims("rms_norm", input, shape, weight, {});
  Tensor x = widen(input);
  Tensor y = x * rsqrt(sum(square(x), dims, true) / double(count(x.sizes(), dims)) + rms_eps(x, eps));
  return narrow_to(weight.defined() ? y * weight : y, input.dtype());
}

Tensor rms_norm_primitive(const Tensor& x, IntList shape, const Tensor& weight, std::optional<double> eps) {
  Dims dims = trailing_dims("rms_norm", x, shape, weight, {});
  DType c = compute_type(x.dtype());
  Tensor r = empty_tensor(kept_sizes(x.sizes(), dims), c, x.device()), y = empty_like_tensor(x);
  if (all_contiguous(x, {&weight})) {
    const int64_t n = count(x.sizes(), dims), rows = x.numel() / n;
    if (run_fused(x.device(), Fused::Norm, {rows_of(x, n), one_row(weight, rows, n), View()},
                  {rows_of(y, n), View(), row_values(r, n)}, rms_eps(x, eps)))
      return y;
  }
  Backend& b = backend(x.device());
  Views ins, outs;
  ins.push_back(View(x));
  outs.push_back(View(y));
  View vr = broadcast_to_view(r, x.sizes());
  Program sq = make_program(c, 1, {}, {{Opc::square, {0}}});
  Program post = make_program(c, 1, {double(count(x.sizes(), dims)), rms_eps(x, eps)},
                              {{Opc::div, {0, 1}}, {Opc::add, {3, 2}}, {Opc::rsqrt, {4}}});
  b.reduce(ReduceOp::Sum, c, &sq, ins, &post, vr);
  ins.push_back(vr);
  if (!weight.defined()) {
    b.map(make_program(c, 2, {}, {{Opc::mul, {0, 1}}}), ins, outs);
    return y;
  }
  ins.push_back(broadcast_to_view(weight, x.sizes()));
  b.map(make_program(c, 3, {}, {{Opc::mul, {0, 1}}, {Opc::mul, {3, 2}}}), ins, outs);
  return y;
}

// The gradients by the fused kernels, below the tape; false if they do not take these tensors.
bool rms_norm_grad_rows(GradCtx& c, const Tensor& x, const Tensor& grad, const Dims& dims) {
  const Tensor weight = c.is_none(2) ? Tensor() : c.x(2);
  if (grad.dtype() != x.dtype() || !all_contiguous(x, {&weight})) return false;
  const int64_t n = count(x.sizes(), dims), rows = x.numel() / n;
  const double eps = rms_eps(x, c.arg<std::optional<double>>(3));
  const DType t = compute_type(x.dtype());
  const Tensor g = contiguous(grad);
  Tensor squares = empty_tensor(kept_sizes(x.sizes(), dims), t, x.device()), dx = empty_like_tensor(x);
  Views in;
  in.push_back(View(x));
  const Program square = make_program(t, 1, {}, {{Opc::square, {0}}}),
                mean = make_program(t, 1, {n}, {{Opc::div, {0, 1}}});
  backend(x.device()).reduce(ReduceOp::Sum, t, &square, in, &mean, broadcast_to_view(squares, x.sizes()));
  const View vx = rows_of(x, n), vg = rows_of(g, n), vs = row_values(squares, n);
  if (c.needs(0)) {
    if (!run_fused(x.device(), Fused::NormGrad, {vx, vg, one_row(weight, rows, n), View(), vs}, {rows_of(dx, n)}, eps))
      return false;
    c.set(0, dx);
  }
  if (c.needs(2)) {
    Tensor dw = empty_tensor(weight.sizes(), DType::F32, x.device());
    if (!run_fused(x.device(), Fused::NormWeights, {vx, vg, View(), vs}, {one_row(dw, rows, n), View()}, eps))
      return false;
    c.set(2, dw);
  }
  return true;
}

// dx = r (h - xhat mean(h xhat))
void rms_norm_grad(GradCtx& c) {
  Dims dims;
  for (int d = c.x(0).ndim() - int(c.arg<IntList>(1).size()); d < c.x(0).ndim(); ++d) dims.push_back(d);
  if (!modes().grad && rms_norm_grad_rows(c, c.x(0), c.g(), dims)) return;
  Tensor x = widen(c.x(0)), g = widen(c.g());
  double n = double(count(x.sizes(), dims));
  Tensor r = rsqrt(sum(square(x), dims, true) / n + rms_eps(x, c.arg<std::optional<double>>(3)));
  Tensor xhat = x * r;
  if (c.needs(0)) {
    Tensor h = c.is_none(2) ? g : g * widen(c.x(2));
    c.set(0, r * (h - xhat * (sum(h * xhat, dims, true) / n)));
  }
  if (c.needs(2)) c.set(2, g * xhat);
}

// ---- norms over channels (dimension 1)

void check_channels(const char* op, const char* what, const Tensor& t, const Tensor& x) {
  TG_CHECK(!t.defined() || (t.ndim() == 1 && t.size(0) == x.size(1)), ShapeError, op, ": ", what, " must have ",
           x.size(1), " elements, one per channel; input=", describe(x), ", ", what, "=", describe(t));
}

// A vector over channels, shaped to broadcast over (N, C, ...).
Tensor per_channel(const Tensor& t, int ndim) {
  if (!t.defined()) return t;
  Dims s = Dims::filled(ndim, 1);
  s[1] = t.numel();
  return reshape(t, s);
}

// running = running + momentum (batch - running), unbiased variance as PyTorch
void update_running(const Tensor& mean, const Tensor& var, const Tensor& running_mean, const Tensor& running_var,
                    int64_t n, double momentum) {
  NoGrad guard;
  if (running_mean.defined()) lerp_(running_mean, narrow_to(mean, running_mean.dtype()), momentum);
  if (!running_var.defined()) return;
  Tensor unbiased = var * (double(n) / double(n - 1));
  lerp_(running_var, narrow_to(unbiased, running_var.dtype()), momentum);
}

Tensor batch_norm_body(const Tensor& x, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight,
                       const Tensor& bias, bool training, double momentum, double eps) {
  const char* op = "batch_norm";
  check_float(op, x);
  TG_CHECK(x.ndim() >= 2, ShapeError, op, ": input must have at least 2 dimensions (N, C, ...); input=", describe(x));
  check_channels(op, "running_mean", running_mean, x);
  check_channels(op, "running_var", running_var, x);
  check_channels(op, "weight", weight, x);
  check_channels(op, "bias", bias, x);
  int nd = x.ndim();
  Tensor w = per_channel(weight, nd), b = per_channel(bias, nd);
  if (training) {
    Dims dims;
    for (int d = 0; d < nd; ++d)
      if (d != 1) dims.push_back(d);
    int64_t n = count(x.sizes(), dims);
    TG_CHECK(n > 1, ValueError, op, ": expected more than 1 value per channel when training; input=", describe(x));
    auto [y, mean, var] = standardize(x, dims, w, b, eps);
    if (running_mean.defined() || running_var.defined())
      update_running(reshape(mean, {x.size(1)}), reshape(var, {x.size(1)}), running_mean, running_var, n, momentum);
    return y;
  }
  TG_CHECK(running_mean.defined() && running_var.defined(), ValueError, op,
           ": running_mean and running_var are needed when not training");
  Tensor scale = rsqrt(widen(per_channel(running_var, nd)) + eps);
  if (w.defined()) scale = scale * w;
  Tensor shift = -scale * per_channel(running_mean, nd);
  if (b.defined()) shift = shift + b;
  return narrow_to(x * scale + shift, x.dtype());
}

Tensor group_norm_body(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps) {
  const char* op = "group_norm";
  check_float(op, x);
  TG_CHECK(x.ndim() >= 2, ShapeError, op, ": input must have at least 2 dimensions (N, C, ...); input=", describe(x));
  int64_t n = x.size(0), ch = x.size(1);
  TG_CHECK(groups > 0 && ch % groups == 0, ShapeError, op, ": ", ch, " channels cannot be divided into ", groups,
           " groups; input=", describe(x));
  check_channels(op, "weight", weight, x);
  check_channels(op, "bias", bias, x);
  if (x.numel() == 0) return x * 1.0;
  // (N, G, C/G, L): one slice of the last two axes per group
  auto grouped = [&](const Tensor& t) { return t.defined() ? reshape(t, {1, groups, ch / groups, 1}) : t; };
  Tensor split = reshape(x, {n, groups, ch / groups, x.numel() / (n * ch)});
  return reshape(std::get<0>(standardize(split, {2, 3}, grouped(weight), grouped(bias), eps)), x.sizes());
}

Tensor instance_norm_body(const Tensor& x, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight,
                          const Tensor& bias, bool use_input_stats, double momentum, double eps) {
  const char* op = "instance_norm";
  check_float(op, x);
  TG_CHECK(x.ndim() >= 3, ShapeError, op,
           ": input must have at least 3 dimensions (N, C, L, ...); input=", describe(x));
  check_channels(op, "running_mean", running_mean, x);
  check_channels(op, "running_var", running_var, x);
  check_channels(op, "weight", weight, x);
  check_channels(op, "bias", bias, x);
  if (!use_input_stats) return batch_norm(x, running_mean, running_var, weight, bias, false, momentum, eps);
  Dims dims;
  int64_t n = 1;
  for (int d = 2; d < x.ndim(); ++d) dims.push_back(d), n *= x.size(d);
  TG_CHECK(n > 1, ValueError, op, ": expected more than 1 spatial element when training; input=", describe(x));
  auto [y, mean, var] = standardize(x, dims, per_channel(weight, x.ndim()), per_channel(bias, x.ndim()), eps);
  if (running_mean.defined() || running_var.defined()) {
    NoGrad guard;
    auto over_batch = [&](const Tensor& t) { return tg::mean(reshape(t, {x.size(0), x.size(1)}), 0); };
    update_running(over_batch(mean), over_batch(var), running_mean, running_var, n, momentum);
  }
  return y;
}

// x / (k + alpha * mean over `size` neighbouring channels of x^2)^beta
Tensor local_response_norm_body(const Tensor& x, int64_t size, double alpha, double beta, double k) {
  const char* op = "local_response_norm";
  TG_CHECK(x.ndim() >= 3, ShapeError, op,
           ": input must have at least 3 dimensions (N, C, L, ...); input=", describe(x));
  TG_CHECK(size > 0, ValueError, op, ": size must be positive, got ", size);
  if (x.numel() == 0) return x * 1.0;
  // windows over the channels as one spatial axis: (N, 1, C, L)
  Tensor sq = reshape(square(x), {x.size(0), 1, x.size(1), x.numel() / (x.size(0) * x.size(1))});
  sq = pad(sq, {0, 0, size / 2, (size - 1) / 2});
  Tensor mean_sq = reshape(avg_pool2d(sq, {size, 1}, {1, 1}), x.sizes());
  return x / pow(mean_sq * alpha + k, beta);
}

TG_OP(
    "standardize(Tensor input, int[] dim, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> "
    "(Tensor output, Tensor mean, Tensor var)",
    .doc = "(input - mean) / sqrt(var + eps) * weight + bias with the moments over dim; weight and bias broadcast.",
    .composite = box<standardize_body>, .primitive = box<standardize_primitive>,
    .joint = {in(0) | in(2) | in(3) | out(1) | out(2), standardize_grad}, .flags = kHidden,
    .autocast = Autocast::Float32, .torch = "none",
    .samples = "T(3,4), dim=[1]; T(3,4), dim=[0], weight=T(1,4), bias=T(1,4); T(2,3,4), dim=[0,2], weight=T(1,3,1)");
TG_OP(
    "standardize_backward(Tensor input, Tensor grad, int[] dim, Tensor? weight, Tensor? bias, Tensor mean, Tensor var, "
    "float eps) -> (Tensor input, Tensor weight, Tensor bias)",
    .doc =
        "The gradients of standardize through its first result. Those of weight and bias may still be unsummed; over "
        "rows that have neither they are zero.",
    .composite = box<standardize_backward_body>, .primitive = box<standardize_backward_primitive>, .flags = kHidden,
    .autocast = Autocast::Float32, .torch = "none",
    .samples =
        "T(3,4), T(3,4), [1], None, None, T(3,1), T(3,1, lo=0.5, hi=2), 1e-5; "
        "T(3,37), T(3,37), [1], T(37), T(37), T(3,1), T(3,1, lo=0.5, hi=2), 1e-5; "
        "T(2,3,4), T(2,3,4), [0,2], T(1,3,1), None, T(1,3,1), T(1,3,1, lo=0.5, hi=2), 1e-5; "
        "T(2,3,4), T(2,3,4), [2], T(1,3,1), T(1,1,4), T(2,3,1), T(2,3,1, lo=0.5, hi=2), 1e-5");
TG_OP(
    "layer_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> "
    "Tensor",
    .doc = "Zero mean and unit variance over the trailing dimensions, then weight and bias.",
    .composite = box<layer_norm_body>, .flags = kAlsoNN, .autocast = Autocast::Float32,
    .samples =
        "T(3,4), [4]; T(3,4), [4], T(4), T(4); T(2,3,4), [3,4], T(3,4), T(3,4), 1e-3; T(4), [4], T(4); "
        "T(3,17), [17], T(17), T(17); T(0,4), [4], T(4), T(4)");
TG_OP("rms_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor",
      .doc = "input / sqrt(mean(input^2) + eps) over the trailing dimensions, times weight.",
      .composite = box<rms_norm_body>, .primitive = box<rms_norm_primitive>, .joint = {in(0) | in(2), rms_norm_grad},
      .flags = kAlsoNN, .autocast = Autocast::Float32,
      .samples = "T(3,4), [4]; T(3,4), [4], T(4); T(2,3,4), [3,4], T(3,4), 1e-3; T(4), [4], T(4), 1e-5; T(0,4), [4]");
TG_OP(
    "batch_norm(Tensor input, Tensor? running_mean, Tensor? running_var, Tensor? weight=None, Tensor? bias=None, "
    "bool training=False, float momentum=0.1, float eps=1e-5) -> Tensor",
    .doc =
        "Normalises each channel (dimension 1) by the statistics of the batch when training, by the running ones "
        "otherwise. Training updates the running statistics in place.",
    .composite = box<batch_norm_body>, .flags = kNN, .autocast = Autocast::Float32, .torch = "nn.functional.batch_norm",
    .samples =
        "T(5,3), None, None, T(3), T(3), True; T(2,3,4), None, None, T(3), T(3), training=True; "
        "T(2,3,4,5), None, None, None, None, True, 0.1, 1e-3; T(4,3,2), C(3), C(3, lo=0.5, hi=2), T(3), T(3); "
        "T(4,3), C(3), C(3, lo=0.5, hi=2)");
TG_OP("group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor",
      .doc = "Normalises groups of channels of each sample, then weight and bias per channel.",
      .composite = box<group_norm_body>, .flags = kAlsoNN, .autocast = Autocast::Float32,
      .samples = "T(2,6,4), 3; T(2,6,4), 2, T(6), T(6); T(2,4,3,3), 1, T(4), T(4), 1e-3; T(3,4), 2, T(4)");
TG_OP(
    "instance_norm(Tensor input, Tensor? running_mean=None, Tensor? running_var=None, Tensor? weight=None, "
    "Tensor? bias=None, bool use_input_stats=True, float momentum=0.1, float eps=1e-5) -> Tensor",
    .doc = "Normalises each channel of each sample; with use_input_stats=False by the running statistics.",
    .composite = box<instance_norm_body>, .flags = kNN, .autocast = Autocast::Float32,
    .torch = "nn.functional.instance_norm",
    .samples =
        "T(2,3,4); T(2,3,4), None, None, T(3), T(3); T(2,3,4,5), eps=1e-3; T(2,3,4), C(3), C(3, lo=0.5, hi=2), "
        "use_input_stats=False");
TG_OP("local_response_norm(Tensor input, int size, float alpha=0.0001, float beta=0.75, float k=1.0) -> Tensor",
      .doc = "Divides by a power of the mean square over neighbouring channels.",
      .composite = box<local_response_norm_body>, .flags = kNN, .autocast = Autocast::Float32,
      .samples = "T(2,5,4), 3; T(2,5,3,3), 2, 0.1, 0.5, 2.0; T(1,4,3), 5, alpha=1.0");

}  // namespace
}  // namespace tg
