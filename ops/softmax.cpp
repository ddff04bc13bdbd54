// softmax, log_softmax and relatives. All take floating-point tensors, or any tensor with `dtype` given.
#include <limits>

#include "ops/fast_path.h"

namespace tg {
namespace {

Tensor float_input(const char* op, const Tensor& x, std::optional<DType> dtype) {
  Tensor a = dtype ? narrow_to(x, *dtype) : x;
  TG_CHECK(is_float(a.dtype()), DTypeError, op, ": expected a floating-point tensor (or dtype=), input=", describe(x));
  return a;
}

// The lowest finite number of a compute type: a maximum below it is that of a slice of only -inf.
double lowest_of(DType compute) {
  return compute == DType::F64 ? std::numeric_limits<double>::lowest() : double(std::numeric_limits<float>::lowest());
}

// exp(x - max) and its sum along `dim`; the maximum is a constant to the tape since it cancels.
struct Shifted {
  Tensor shifted, exps, total;
};
Shifted shifted_exp(const Tensor& x, int64_t dim, bool finite_max) {
  Tensor top;
  {
    NoGrad guard;
    top = amax(x, dim, true);
    if (finite_max) top = clamp_min(top, lowest_of(x.dtype()));
  }
  Shifted s;
  s.shifted = x - top;
  s.exps = exp(s.shifted);
  s.total = sum(s.exps, dim, true);
  return s;
}

Tensor softmax_body(const Tensor& input, int64_t dim, std::optional<DType> dtype) {
  Tensor x = float_input("softmax", input, dtype);
  wrap_dim("softmax", dim, x.ndim());
  if (x.numel() == 0) return x * 1.0;
  Shifted s = shifted_exp(widen(x), dim, false);
  return narrow_to(s.exps / s.total, x.dtype());
}

Tensor log_softmax_body(const Tensor& input, int64_t dim, std::optional<DType> dtype) {
  Tensor x = float_input("log_softmax", input, dtype);
  wrap_dim("log_softmax", dim, x.ndim());
  if (x.numel() == 0) return x * 1.0;
  Shifted s = shifted_exp(widen(x), dim, false);
  return narrow_to(s.shifted - log(s.total), x.dtype());
}

constexpr double kTiny = 1e-30;  // below any sum that has a term, since the largest term is 1

Tensor safe_softmax_body(const Tensor& x, int64_t dim) {
  wrap_dim("safe_softmax", dim, x.ndim());
  if (x.numel() == 0) return x * 1.0;
  Shifted s = shifted_exp(widen(x), dim, true);
  return narrow_to(s.exps / clamp_min(s.total, kTiny), x.dtype());
}

enum class SoftmaxKind { Softmax, LogSoftmax, SafeSoftmax };

// Two reductions and one map, with the maximum and the sum in the compute type.
Tensor softmax_fast(SoftmaxKind kind, const char* op, const Tensor& input, int64_t dim, std::optional<DType> dtype) {
  Tensor x = float_input(op, input, dtype);
  int axis = wrap_dim(op, dim, x.ndim());
  Tensor y = empty_like_tensor(x);
  if (x.numel() == 0) return y;
  const int64_t n = x.sizes()[axis];
  if (axis == x.ndim() - 1 && x.is_contiguous() &&
      run_fused(x.device(), kind == SoftmaxKind::LogSoftmax ? Fused::LogSoftmax : Fused::Softmax, {rows_of(x, n)},
                {rows_of(y, n)}, kind == SoftmaxKind::SafeSoftmax))
    return y;
  DType c = compute_type(x.dtype());
  Dims kept = kept_sizes(x.sizes(), {axis});
  Tensor top = empty_tensor(kept, c, x.device()), total = empty_tensor(kept, c, x.device());
  View vx(x), vtop = broadcast_to_view(top, x.sizes()), vtotal = broadcast_to_view(total, x.sizes());
  Views one, two, three, out;
  one.push_back(vx);
  two.push_back(vx), two.push_back(vtop);
  three.push_back(vx), three.push_back(vtop), three.push_back(vtotal);
  out.push_back(View(y));
  Backend& b = backend(x.device());

  Program floor = make_program(c, 1, {lowest_of(c)}, {{Opc::clamp_min, {0, 1}}});
  b.reduce(ReduceOp::Max, c, nullptr, one, kind == SoftmaxKind::SafeSoftmax ? &floor : nullptr, vtop);
  Program shift_exp = make_program(c, 2, {}, {{Opc::sub, {0, 1}}, {Opc::exp, {2}}});
  Program take_log = make_program(c, 1, {}, {{Opc::log, {0}}});
  Program not_zero = make_program(c, 1, {kTiny}, {{Opc::clamp_min, {0, 1}}});
  const Program* post = kind == SoftmaxKind::LogSoftmax    ? &take_log
                        : kind == SoftmaxKind::SafeSoftmax ? &not_zero
                                                           : nullptr;
  b.reduce(ReduceOp::Sum, c, &shift_exp, two, post, vtotal);
  Program last = kind == SoftmaxKind::LogSoftmax
                     ? make_program(c, 3, {}, {{Opc::sub, {0, 1}}, {Opc::sub, {3, 2}}})
                     : make_program(c, 3, {}, {{Opc::sub, {0, 1}}, {Opc::exp, {3}}, {Opc::div, {4, 2}}});
  b.map(last, three, out);
  return y;
}

Tensor softmax_primitive(const Tensor& x, int64_t dim, std::optional<DType> dtype) {
  return softmax_fast(SoftmaxKind::Softmax, "softmax", x, dim, dtype);
}
Tensor log_softmax_primitive(const Tensor& x, int64_t dim, std::optional<DType> dtype) {
  return softmax_fast(SoftmaxKind::LogSoftmax, "log_softmax", x, dim, dtype);
}
Tensor safe_softmax_primitive(const Tensor& x, int64_t dim) {
  return softmax_fast(SoftmaxKind::SafeSoftmax, "safe_softmax", x, dim, std::nullopt);
}

Tensor softmax_backward_body(const Tensor& grad, const Tensor& y, int64_t dim) {
  Tensor gy = grad * y;
  return gy - y * sum(gy, dim, true);
}
Tensor log_softmax_backward_body(const Tensor& grad, const Tensor& y, int64_t dim) {
  return grad - exp(y) * sum(grad, dim, true);
}

// One pass over rows where the layout allows it.
template <Fused kernel, auto body>
Tensor backward_primitive(const Tensor& grad, const Tensor& y, int64_t dim) {
  const int64_t n = y.ndim() ? y.size(-1) : 1;
  if (y.numel() > 0 && wrap_dim("softmax", dim, y.ndim()) == y.ndim() - 1 && y.is_contiguous() &&
      grad.sizes() == y.sizes() && grad.dtype() == y.dtype()) {
    Tensor g = contiguous(grad), dx = empty_like_tensor(y);
    if (run_fused(y.device(), kernel, {rows_of(y, n), rows_of(g, n)}, {rows_of(dx, n)})) return dx;
  }
  return body(grad, y, dim);
}

Tensor softmax_grad(GradCtx& c) { return softmax_backward(c.g(), c.y(), c.arg<int64_t>(1)); }
Tensor log_softmax_grad(GradCtx& c) { return log_softmax_backward(c.g(), c.y(), c.arg<int64_t>(1)); }

Tensor softmin_body(const Tensor& x, int64_t dim, std::optional<DType> dtype) { return softmax(-x, dim, dtype); }

Tensor gumbel_softmax_body(const Tensor& logits, double tau, bool hard, double, int64_t dim) {
  TG_CHECK(is_float(logits.dtype()), DTypeError,
           "gumbel_softmax: expected a floating-point tensor, logits=", describe(logits));
  TG_CHECK(tau > 0, ValueError, "gumbel_softmax: tau must be positive, got ", tau);
  Tensor noise;
  {
    NoGrad guard;
    // -log(-log(u)) with u kept inside (0, 1)
    noise = -log(-log(clamp(rand_like(logits), 1e-7, 1.0 - 1e-7)));
  }
  Tensor soft = softmax((logits + noise) / tau, dim);
  if (!hard) return soft;
  Tensor correction;
  {
    NoGrad guard;
    Tensor index = argmax(soft, dim, true);
    correction = scatter(zeros_like(soft), dim, index, 1.0) - soft;
  }
  return soft + correction;
}

TG_OP("softmax(Tensor input, int dim, dtype? dtype=None) -> Tensor",
      .doc = "exp(input) / sum(exp(input)) along dim, without overflow. With dtype, input is converted first.",
      .composite = box<softmax_body>, .primitive = box<softmax_primitive>, .grads = {{out(0), softmax_grad}},
      .flags = kAlsoNN, .autocast = Autocast::Float32,
      .samples =
          "T(3,4), dim=1; T(3,4), dim=0; T(2,3,4), dim=-2; T(5), 0; T(), 0; T(0,3), dim=1; T(3,0), dim=1; "
          "T(17,33), dim=-1; I(3,4, hi=5), dim=1, dtype=DT('float64')");
TG_OP("log_softmax(Tensor input, int dim, dtype? dtype=None) -> Tensor",
      .doc = "log(softmax(input, dim)), accurate where softmax is close to 0 or 1.", .composite = box<log_softmax_body>,
      .primitive = box<log_softmax_primitive>, .grads = {{out(0), log_softmax_grad}}, .flags = kAlsoNN,
      .autocast = Autocast::Float32,
      .samples =
          "T(3,4), dim=1; T(3,4), dim=0; T(2,3,4), dim=-2; T(5), 0; T(), 0; T(0,3), dim=1; T(3,0), dim=1; "
          "T(17,33), dim=-1; I(3,4, hi=5), dim=1, dtype=DT('float64')");
TG_OP("safe_softmax(Tensor input, int dim) -> Tensor",
      .doc = "softmax whose slices of only -inf give 0 instead of NaN.", .composite = box<safe_softmax_body>,
      .primitive = box<safe_softmax_primitive>, .grads = {{out(0), softmax_grad}}, .flags = kHidden,
      .autocast = Autocast::Float32, .torch = "_safe_softmax",
      .samples = "T(3,4), dim=1; T(2,3,4), dim=-2; T(), 0; T(3,0), dim=1");
TG_OP("softmax_backward(Tensor grad, Tensor output, int dim) -> Tensor",
      .doc = "The gradient of softmax from its result.", .composite = box<softmax_backward_body>,
      .primitive = box<backward_primitive<Fused::SoftmaxGrad, softmax_backward_body>>, .flags = kHidden,
      .autocast = Autocast::Float32, .torch = "none",
      .samples = "T(3,4), T(3,4), 1; T(3,4), T(3,4), 0; T(2,3,37), T(2,3,37), -1; T(), T(), 0");
TG_OP("log_softmax_backward(Tensor grad, Tensor output, int dim) -> Tensor",
      .doc = "The gradient of log_softmax from its result.", .composite = box<log_softmax_backward_body>,
      .primitive = box<backward_primitive<Fused::LogSoftmaxGrad, log_softmax_backward_body>>, .flags = kHidden,
      .autocast = Autocast::Float32, .torch = "none",
      .samples = "T(3,4), T(3,4), 1; T(3,4), T(3,4), 0; T(2,3,37), T(2,3,37), -1; T(), T(), 0");
TG_OP("softmin(Tensor input, int dim, dtype? dtype=None) -> Tensor", .doc = "softmax(-input, dim).",
      .composite = box<softmin_body>, .flags = kNN, .samples = "T(3,4), dim=1; T(2,3,4), dim=-2; T(5), 0");
TG_OP("gumbel_softmax(Tensor logits, float tau=1.0, bool hard=False, float eps=1e-10, int dim=-1) -> Tensor",
      .doc =
          "Sample of the Gumbel-softmax distribution; hard gives one-hot values with the soft gradient. eps is "
          "ignored.",
      .composite = box<gumbel_softmax_body>, .flags = kNN | kRandom,
      .samples = "T(3,4); T(3,4), tau=0.5; T(2,3,4), dim=1", .notes = "random");

}  // namespace
}  // namespace tg
