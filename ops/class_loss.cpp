// Losses over classes: nll_loss, cross_entropy and the multi-class margins. Classes lie along dimension 1, or 0 for a
// single sample.
#include "ops/fast_path.h"
#include "ops/index.h"
#include "ops/loss.h"

namespace tg {
namespace {

// Class indices as int64, those to be ignored replaced by 0. `kept` is undefined when nothing is ignored.
struct Targets {
  Tensor index, kept;
};

[[noreturn]] void bad_target(const char* op, const Tensor& index, const Tensor& valid, int64_t classes,
                             const Tensor& target) {
  std::vector<int64_t> at;
  backend(index.device()).nonzero(View(contiguous(logical_not(valid))), at);
  Tensor flat = reshape(index, {-1});
  int64_t value = narrow(flat, 0, at[0], 1).item<int64_t>();
  Dims pos = index.sizes();
  for (int d = index.ndim(); d-- > 0;) {
    int64_t n = index.sizes()[d];
    pos[d] = at[0] % n;
    at[0] /= n;
  }
  fail<IndexError>(op, ": target ", value, " at position ", pos, " is out of range for ", classes,
                   " classes; target=", describe(target));
}

Targets check_targets(const char* op, const Tensor& target, int64_t classes, std::optional<int64_t> ignore_index) {
  NoGrad guard;
  TG_CHECK(is_int(target.dtype()), DTypeError, op, ": class indices must be integers, target=", describe(target));
  Targets t{narrow_to(target, DType::I64), {}};
  if (recorded(t.index)) {
    if (ignore_index) {
      t.kept = ne(t.index, *ignore_index);
      t.index = where(t.kept, t.index, 0);
    }
    t.index = bounded_index(t.index, 0, classes - 1, str(op, ": a target is out of range for ", classes, " classes"));
    return t;
  }
  auto [lo, hi] = backend(t.index.device()).int_range(View(t.index));
  bool ignores = ignore_index && lo <= *ignore_index && *ignore_index <= hi;
  if (lo > hi || (lo >= 0 && hi < classes && !ignores)) return t;
  Tensor valid = logical_and(ge(t.index, 0), lt(t.index, classes)), kept = valid;
  if (ignores) {
    kept = ne(t.index, *ignore_index);
    valid = logical_or(logical_not(kept), valid);
  }
  if (!all(valid).item<bool>()) bad_target(op, t.index, valid, classes, target);
  t.kept = kept;
  t.index = where(kept, t.index, 0);
  return t;
}

// Rejects a target whose shape is not that of `input` without its class dimension.
void check_shapes(const char* op, const Tensor& x, const Tensor& target) {
  TG_CHECK(x.ndim() > 0, ShapeError, op, ": input must have a class dimension; input=", describe(x));
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
  Dims want = x.sizes();
  int axis = x.ndim() == 1 ? 0 : 1;
  want.erase(axis);
  TG_CHECK(target.sizes() == want, ShapeError, op, ": target must have the shape ", want, " (input without its class ",
           "dimension ", axis, "); input=", describe(x), ", target=", describe(target));
  TG_CHECK(x.device() == target.device(), DeviceError, op,
           ": input and target must be on one device; input=", describe(x), ", target=", describe(target));
}
void check_weight(const char* op, const Tensor& x, const Tensor& weight) {
  int64_t classes = x.size(x.ndim() == 1 ? 0 : 1);
  TG_CHECK(!weight.defined() || (weight.ndim() == 1 && weight.size(0) == classes), ShapeError, op,
           ": weight must have ", classes, " elements, one per class; input=", describe(x),
           ", weight=", describe(weight));
}

// The loss of each sample, weighted, ignored ones 0, and the sum of weights that 'mean' divides by.
struct Weighted {
  Tensor values, total;
};
Weighted weigh(const Tensor& rows, const Targets& t, const Tensor& weight) {
  Tensor w;
  if (weight.defined()) w = reshape(index_select(weight, 0, reshape(t.index, {-1})), t.index.sizes());
  if (t.kept.defined()) w = w.defined() ? where(t.kept, w, 0.0) : Tensor();
  Tensor total = w.defined() ? sum(w) : t.kept.defined() ? narrow_to(sum(t.kept), rows.dtype()) : Tensor();
  Tensor values = t.kept.defined() ? where(t.kept, rows, 0.0) : rows;
  return {w.defined() ? values * w : values, total};
}

Tensor reduce_weighted(const char* op, const Weighted& v, std::string_view reduction) {
  if (reduction == "mean" && v.total.defined()) return sum(v.values) / v.total;
  return reduce_loss(op, v.values, reduction);
}

// input with its class axis at 1
Tensor batched(const Tensor& x) { return x.ndim() == 1 ? unsqueeze(x, 0) : x; }

Tensor pick(const Tensor& x, const Tensor& index) {
  return x.ndim() == 1 ? squeeze(gather(x, 0, unsqueeze(index, 0)), 0) : squeeze(gather(x, 1, unsqueeze(index, 1)), 1);
}

Tensor nll_body(const Tensor& x, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                std::string_view reduction) {
  const char* op = "nll_loss";
  check_reduction(op, reduction);
  check_shapes(op, x, target);
  check_weight(op, x, weight);
  Targets t = check_targets(op, target, x.size(x.ndim() == 1 ? 0 : 1), ignore_index);
  return reduce_weighted(op, weigh(-pick(x, t.index), t, weight), reduction);
}

// ---- class_nll: log(sum(exp(x))) - x[target] along dimension 1, with the first term; indices already checked

using Pair = std::tuple<Tensor, Tensor>;

Pair class_nll_body(const Tensor& x, const Tensor& index) {
  Tensor wide = widen(x), lse = logsumexp(wide, 1);
  return {lse - pick(wide, index), lse};
}

Pair class_nll_primitive(const Tensor& x, const Tensor& index) {
  DType c = compute_type(x.dtype());
  Dims kept = kept_sizes(x.sizes(), {1});
  Tensor top = empty_tensor(kept, c, x.device()), lse = empty_tensor(kept, c, x.device());
  Tensor picked = empty_tensor(kept, x.dtype(), x.device()), loss = empty_tensor(kept, c, x.device());
  if (lse.numel() == 0) return {squeeze(loss, 1), squeeze(lse, 1)};
  Backend& b = backend(x.device());
  const int64_t n = x.size(1);
  if (x.ndim() == 2 && x.is_contiguous() &&
      run_fused(x.device(), Fused::LogSumExp, {rows_of(x, n)}, {row_values(lse, n)})) {
    b.gather(View(x), 1, View(unsqueeze(index, 1)), View(picked));
    return {squeeze(lse - picked, 1), squeeze(lse, 1)};
  }
  View vx(x), vtop = broadcast_to_view(top, x.sizes()), vlse = broadcast_to_view(lse, x.sizes());
  Views one, two, rows, out_lse, out_loss;
  one.push_back(vx);
  b.reduce(ReduceOp::Max, c, nullptr, one, nullptr, vtop);
  two.push_back(vx), two.push_back(vtop);
  Program shift_exp = make_program(c, 2, {}, {{Opc::sub, {0, 1}}, {Opc::exp, {2}}});
  Program take_log = make_program(c, 1, {}, {{Opc::log, {0}}});
  b.reduce(ReduceOp::Sum, c, &shift_exp, two, &take_log, vlse);
  rows.push_back(View(lse)), rows.push_back(View(top));
  out_lse.push_back(View(lse));
  b.map(make_program(c, 2, {}, {{Opc::add, {0, 1}}}), rows, out_lse);
  b.gather(vx, 1, View(unsqueeze(index, 1)), View(picked));
  Views diff;
  diff.push_back(View(lse)), diff.push_back(View(picked));
  out_loss.push_back(View(loss));
  b.map(make_program(c, 2, {}, {{Opc::sub, {0, 1}}}), diff, out_loss);
  return {squeeze(loss, 1), squeeze(lse, 1)};
}

// dx = softmax(x) (g_loss + g_lse) - onehot(target) g_loss, the softmax from the saved logarithm
Tensor class_nll_backward_body(const Tensor& x, const Tensor& index, const Tensor& lse, const Tensor& g_loss,
                               const Tensor& g_both) {
  Tensor softmax = exp(widen(x) - unsqueeze(lse, 1));
  return scatter_add(softmax * unsqueeze(g_both, 1), 1, unsqueeze(index, 1), -unsqueeze(g_loss, 1));
}

Tensor class_nll_backward_primitive(const Tensor& x, const Tensor& index, const Tensor& lse, const Tensor& g_loss,
                                    const Tensor& g_both) {
  const int64_t n = x.size(1);
  if (x.ndim() == 2 && x.is_contiguous() && lse.dtype() == DType::F32) {
    Tensor dx = empty_tensor(x.sizes(), DType::F32, x.device()), scale = contiguous(g_both), l = contiguous(lse);
    if (run_fused(x.device(), Fused::ScaledExp, {rows_of(x, n), row_values(l, n), row_values(scale, n)},
                  {rows_of(dx, n)})) {
      Tensor minus = unsqueeze(-g_loss, 1);
      backend(x.device()).scatter(ScatterOp::Add, View(minus), 1, View(unsqueeze(index, 1)), View(dx));
      return dx;
    }
  }
  return class_nll_backward_body(x, index, lse, g_loss, g_both);
}

Tensor class_nll_grad(GradCtx& c) {
  Tensor g = c.g_or_zeros(0);
  return class_nll_backward(c.x(0), c.x(1), c.y(1), g, c.g(1).defined() ? g + c.g(1) : g);
}

// ---- cross entropy

// Classes are a distribution: -sum over classes of weight * target * log softmax.
Tensor soft_cross_entropy(const Tensor& x, const Tensor& target, const Tensor& weight, std::string_view reduction,
                          double smoothing) {
  const char* op = "cross_entropy";
  TG_CHECK(is_float(target.dtype()), DTypeError, op,
           ": class probabilities must be floating point; target=", describe(target));
  int axis = x.ndim() == 1 ? 0 : 1;
  int64_t classes = x.size(axis);
  Tensor t = smoothing > 0 ? target * (1.0 - smoothing) + smoothing / double(classes) : target;
  if (weight.defined()) {
    Dims s = Dims::filled(x.ndim(), 1);
    s[axis] = classes;
    t = t * reshape(weight, s);
  }
  Tensor rows = -sum(log_softmax(x, axis) * t, axis);
  if (reduction == "mean") return sum(rows) / (double(x.numel()) / double(classes));
  return reduce_loss(op, rows, reduction);
}

// (1 - s) nll + s / C * sum over classes of -weight * log softmax
Tensor smoothed_cross_entropy(const Tensor& x, const Targets& t, const Tensor& weight, std::string_view reduction,
                              double smoothing) {
  const char* op = "cross_entropy";
  int axis = x.ndim() == 1 ? 0 : 1;
  Tensor logp = log_softmax(x, axis);
  Weighted hard = weigh(-pick(logp, t.index), t, weight);
  if (weight.defined()) {
    Dims s = Dims::filled(x.ndim(), 1);
    s[axis] = weight.numel();
    logp = logp * reshape(weight, s);
  }
  Tensor spread = -sum(logp, axis);
  if (t.kept.defined()) spread = where(t.kept, spread, 0.0);
  Tensor mixed = hard.values * (1.0 - smoothing) + spread * (smoothing / double(x.size(axis)));
  return reduce_weighted(op, {mixed, hard.total}, reduction);
}

Tensor cross_entropy_body(const Tensor& x, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                          std::string_view reduction, double smoothing) {
  const char* op = "cross_entropy";
  check_reduction(op, reduction);
  TG_CHECK(smoothing >= 0 && smoothing <= 1, ValueError, op, ": label_smoothing must lie in [0, 1], got ", smoothing);
  TG_CHECK(x.ndim() > 0, ShapeError, op, ": input must have a class dimension; input=", describe(x));
  check_weight(op, x, weight);
  if (target.sizes() == x.sizes()) return soft_cross_entropy(x, target, weight, reduction, smoothing);
  check_shapes(op, x, target);
  Targets t = check_targets(op, target, x.size(x.ndim() == 1 ? 0 : 1), ignore_index);
  if (smoothing > 0) return smoothed_cross_entropy(x, t, weight, reduction, smoothing);
  Tensor rows = std::get<0>(class_nll(batched(x), x.ndim() == 1 ? unsqueeze(t.index, 0) : t.index));
  if (x.ndim() == 1) rows = squeeze(rows, 0);
  return reduce_weighted(op, weigh(narrow_to(rows, x.dtype()), t, weight), reduction);
}

// ---- several classes per sample, margins

Tensor multilabel_soft_margin_body(const Tensor& x, const Tensor& target, const Tensor& weight,
                                   std::string_view reduction) {
  const char* op = "multilabel_soft_margin_loss";
  TG_CHECK(x.ndim() > 0, ShapeError, op, ": input must have a class dimension; input=", describe(x));
  TG_CHECK(x.sizes() == target.sizes(), ShapeError, op, ": input and target must have one shape; input=", describe(x),
           ", target=", describe(target));
  Tensor loss = -(target * logsigmoid(x) + (1.0 - target) * logsigmoid(-x));
  if (weight.defined()) loss = loss * weight;
  return reduce_loss(op, mean(loss, -1), reduction);
}

Tensor multi_margin_body(const Tensor& input, const Tensor& target, Scalar p, double margin, const Tensor& weight,
                         std::string_view reduction) {
  const char* op = "multi_margin_loss";
  TG_CHECK(input.ndim() == 1 || input.ndim() == 2, ShapeError, op,
           ": expected 1 or 2 dimensions, input=", describe(input));
  TG_CHECK(p.d() == 1 || p.d() == 2, ValueError, op, ": p must be 1 or 2, got ", p.d());
  check_shapes(op, input, target);
  check_weight(op, input, weight);
  Tensor x = batched(input), rows = input.ndim() == 1 ? unsqueeze(target, 0) : target;
  Tensor index = unsqueeze(check_targets(op, rows, x.size(1), std::nullopt).index, 1);
  Tensor z = clamp_min(margin - gather(x, 1, index) + x, 0.0);
  if (p.d() == 2) z = square(z);
  if (weight.defined()) z = z * reshape(index_select(weight, 0, reshape(index, {-1})), {x.size(0), 1});
  Tensor loss = mean(scatter(z, 1, index, 0.0), 1);
  return reduce_loss(op, input.ndim() == 1 ? squeeze(loss, 0) : loss, reduction);
}

// Of each row of targets the classes before the first negative entry count.
Tensor multilabel_margin_body(const Tensor& input, const Tensor& target, std::string_view reduction) {
  const char* op = "multilabel_margin_loss";
  TG_CHECK(input.ndim() == 1 || input.ndim() == 2, ShapeError, op,
           ": expected 1 or 2 dimensions, input=", describe(input));
  TG_CHECK(input.sizes() == target.sizes() && is_int(target.dtype()), ShapeError, op,
           ": target must be integers of the size of input; input=", describe(input), ", target=", describe(target));
  Tensor x = batched(input), rows = input.ndim() == 1 ? unsqueeze(target, 0) : target;
  Tensor listed = cast(cumprod(narrow_to(ge(rows, 0), DType::I64), 1), DType::Bool);
  Tensor index = check_targets(op, where(listed, rows, 0), x.size(1), std::nullopt).index;
  Tensor hit = scatter_add(zeros(x.sizes(), DType::I64, x.device()), 1, index, narrow_to(listed, DType::I64));
  Tensor pairs = logical_and(unsqueeze(listed, 2), unsqueeze(eq(hit, 0), 1));  // (n, listed class, other class)
  Tensor z = relu(1.0 - unsqueeze(gather(x, 1, index), 2) + unsqueeze(x, 1));
  Tensor loss = sum(where(pairs, z, 0.0), {1, 2}) / double(std::max<int64_t>(x.size(1), 1));
  return reduce_loss(op, input.ndim() == 1 ? squeeze(loss, 0) : loss, reduction);
}

TG_OP(
    "nll_loss(Tensor input, Tensor target, Tensor? weight=None, *, int ignore_index=-100, str reduction='mean') -> "
    "Tensor",
    .doc = "-input[n, target[n]] of log-probabilities (N, C, ...), weighted by class.", .composite = box<nll_body>,
    .flags = kNN, .autocast = Autocast::Float32, .torch = "nn.functional.nll_loss",
    .samples =
        "T(5,3), I(5, hi=3); T(5,3), I(5, hi=3), C(3, lo=0.5, hi=2), reduction='sum'; T(3), I(hi=3); "
        "T(5,3), I(5, hi=3), C(3, lo=0.5, hi=2), ignore_index=1; T(2,3,4), I(2,4, hi=3), reduction='none'; "
        "T(2,3,2,2), I(2,2,2, hi=3), ignore_index=0");
TG_OP("class_nll(Tensor input, Tensor target) -> (Tensor loss, Tensor logsumexp)",
      .doc = "Cross entropy of each sample and the logarithm of the sum of exponentials, over dimension 1.",
      .composite = box<class_nll_body>, .primitive = box<class_nll_primitive>,
      .grads = {{in(0) | in(1) | out(1), class_nll_grad}, {}}, .flags = kHidden, .autocast = Autocast::Float32,
      .torch = "none", .samples = "T(5,3), I(5, hi=3); T(2,3,4), I(2,4, hi=3); T(3,17), I(3, hi=17)");
TG_OP("class_nll_backward(Tensor input, Tensor target, Tensor logsumexp, Tensor grad_loss, Tensor grad_both) -> Tensor",
      .doc = "exp(input - logsumexp) grad_both - onehot(target) grad_loss: the gradient of class_nll.",
      .composite = box<class_nll_backward_body>, .primitive = box<class_nll_backward_primitive>, .flags = kHidden,
      .autocast = Autocast::Float32, .torch = "none",
      .samples =
          "T(5,3), I(5, hi=3), T(5), T(5), T(5); T(2,3,4), I(2,4, hi=3), T(2,4), T(2,4), T(2,4); "
          "T(3,37), I(3, hi=37), T(3), T(3), T(3)");
TG_OP(
    "cross_entropy(Tensor input, Tensor target, Tensor? weight=None, *, int ignore_index=-100, "
    "str reduction='mean', float label_smoothing=0.0) -> Tensor",
    .doc = "Cross entropy of logits (N, C, ...) with class indices (N, ...) or class probabilities (N, C, ...).",
    .composite = box<cross_entropy_body>, .flags = kNN, .autocast = Autocast::Float32,
    .samples =
        "T(5,3), I(5, hi=3); T(5,3), I(5, hi=3), C(3, lo=0.5, hi=2); T(3), I(hi=3); T(3), T(3, lo=0, hi=1); "
        "T(5,3), I(5, hi=3), ignore_index=1; T(5,3), I(5, hi=3), reduction='none', label_smoothing=0.1; "
        "T(5,3), I(5, hi=3), C(3, lo=0.5, hi=2), ignore_index=0, label_smoothing=0.2; "
        "T(2,3,4), I(2,4, hi=3), reduction='sum'; T(5,3), T(5,3, lo=0, hi=1); T(3,65), I(3, hi=65); "
        "T(2,3,4), T(2,3,4, lo=0, hi=1), C(3, lo=0.5, hi=2), label_smoothing=0.1");
TG_OP(
    "multilabel_soft_margin_loss(Tensor input, Tensor target, Tensor? weight=None, *, str reduction='mean') -> "
    "Tensor",
    .doc = "Binary cross entropy of logits, averaged over the last dimension.",
    .composite = box<multilabel_soft_margin_body>, .flags = kNN,
    .samples = "T(3,4), T(3,4, lo=0, hi=1); T(3,4), T(3,4, lo=0, hi=1), T(4, lo=0.5, hi=2), reduction='none'");
TG_OP(
    "multi_margin_loss(Tensor input, Tensor target, Scalar p=1, float margin=1.0, Tensor? weight=None, *, "
    "str reduction='mean') -> Tensor",
    .doc = "Mean over the other classes of max(0, margin - input[target] + input[class])^p.",
    .composite = box<multi_margin_body>, .flags = kNN,
    .samples = "T(5,3), I(5, hi=3); T(5,3), I(5, hi=3), 2, 0.5, C(3, lo=0.5, hi=2), reduction='none'");

TG_OP("multilabel_margin_loss(Tensor input, Tensor target, *, str reduction='mean') -> Tensor",
      .doc =
          "Mean over classes of max(0, 1 - input[target] + input[class]) summed over the targets, for each class that "
          "is none. A negative entry ends the list of targets of its row.",
      .composite = box<multilabel_margin_body>, .flags = kNN,
      .samples =
          "T(3,4), I(3,4, lo=-1, hi=4); T(4), I(4, lo=-1, hi=4), reduction='sum'; T(5,3), I(5,3, hi=3), "
          "reduction='none'");

}  // namespace
}  // namespace tg
