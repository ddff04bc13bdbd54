// Regression and ranking losses. Classification losses are in class_loss.cpp.

#include "ops/loss.h"
#include "core/warn.h"
#include "ops/fast_path.h"
#include "ops/index.h"

namespace tg {

Tensor reduce_loss(const char* op, const Tensor& loss, std::string_view reduction) {
  if (reduction == "mean") return mean(loss);
  if (reduction == "sum") return sum(loss);
  check_reduction(op, reduction);
  return loss;
}

void check_reduction(const char* op, std::string_view reduction) {
  TG_CHECK(reduction == "none" || reduction == "mean" || reduction == "sum", ValueError, op,
           ": reduction must be 'none', 'mean' or 'sum', got '", reduction, "'");
}

namespace {

void check_float_pair(const char* op, const Tensor& x, const Tensor& target) {
  TG_CHECK(is_float(x.dtype()) || is_float(target.dtype()), DTypeError, op,
           ": expected a floating-point tensor; input=", describe(x), ", target=", describe(target));
  broadcast_shapes(op, x.sizes(), target.sizes());
}

// PyTorch broadcasts the operands of these losses before it promotes, so the dtype of a 0-d one counts in full.
Tensor difference(const char* op, const Tensor& x, const Tensor& target) {
  check_float_pair(op, x, target);
  if (x.sizes() == target.sizes()) return x - target;
  Dims shape = broadcast_shapes(op, x.sizes(), target.sizes());
  if (warn_user)
    warn_user(str(op, ": input ", describe(x), " and target ", describe(target),
                  " have different sizes; they are broadcast to ", shape, ", which is rarely what is meant"));
  return expand(x, shape) - expand(target, shape);
}

Tensor mse_body(const Tensor& x, const Tensor& t, std::string_view reduction) {
  return reduce_loss("mse_loss", square(difference("mse_loss", x, t)), reduction);
}
Tensor l1_body(const Tensor& x, const Tensor& t, std::string_view reduction) {
  return reduce_loss("l1_loss", abs(difference("l1_loss", x, t)), reduction);
}
Tensor smooth_l1_body(const Tensor& x, const Tensor& t, std::string_view reduction, double beta) {
  TG_CHECK(beta >= 0, ValueError, "smooth_l1_loss: beta must not be negative, got ", beta);
  Tensor d = difference("smooth_l1_loss", x, t), z = abs(d);
  if (beta == 0) return reduce_loss("smooth_l1_loss", z, reduction);
  return reduce_loss("smooth_l1_loss", where(lt(z, beta), square(d) * (0.5 / beta), z - 0.5 * beta), reduction);
}
Tensor huber_body(const Tensor& x, const Tensor& t, std::string_view reduction, double delta) {
  TG_CHECK(delta > 0, ValueError, "huber_loss: delta must be positive, got ", delta);
  Tensor d = difference("huber_loss", x, t), z = abs(d);
  return reduce_loss("huber_loss", where(le(z, delta), 0.5 * square(d), delta * (z - 0.5 * delta)), reduction);
}

// -(t max(log x, -100) + (1 - t) max(log(1 - x), -100)); the bound keeps x = 0 and x = 1 finite
Tensor bce_values(const Tensor& x, const Tensor& t) {
  Tensor w = widen(x), s = widen(t);
  return narrow_to(-(s * clamp_min(log(w), -100.0) + (1.0 - s) * clamp_min(log1p(-w), -100.0)), x.dtype());
}
Tensor bce_grad_input(GradCtx& c) {
  Tensor x = c.x(0);
  return c.g() * (x - c.x(1)) / clamp_min(x * (1.0 - x), 1e-12);
}
Tensor bce_grad_target(GradCtx& c) {
  Tensor x = c.x(0);
  return c.g() * (clamp_min(log1p(-x), -100.0) - clamp_min(log(x), -100.0));
}
Tensor bce_body(const Tensor& x, const Tensor& t, const Tensor& weight, std::string_view reduction) {
  const char* op = "binary_cross_entropy";
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
  TG_CHECK(x.sizes() == t.sizes(), ShapeError, op, ": input and target must have one shape; input=", describe(x),
           ", target=", describe(t));
  {
    NoGrad guard;
    require_all(logical_and(ge(x, 0.0), le(x, 1.0)), op,
                ": all elements of input must lie in [0, 1]; input=", describe(x));
  }
  Tensor loss = bce_elements(x, t);
  return reduce_loss(op, weight.defined() ? loss * weight : loss, reduction);
}

// (1 - t) x - (1 + (pos_weight - 1) t) log sigmoid(x)
Tensor bce_logits_body(const Tensor& x, const Tensor& t, const Tensor& weight, std::string_view reduction,
                       const Tensor& pos_weight) {
  const char* op = "binary_cross_entropy_with_logits";
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
  TG_CHECK(x.sizes() == t.sizes(), ShapeError, op, ": input and target must have one shape; input=", describe(x),
           ", target=", describe(t));
  Tensor log_p = logsigmoid(x);
  if (pos_weight.defined()) log_p = log_p * (1.0 + (pos_weight - 1.0) * t);
  Tensor loss = (1.0 - t) * x - log_p;
  return reduce_loss(op, weight.defined() ? loss * weight : loss, reduction);
}

Tensor kl_div_body(const Tensor& x, const Tensor& t, std::string_view reduction, bool log_target) {
  check_float_pair("kl_div", x, t);
  Tensor loss = log_target ? exp(t) * (t - x) : xlogy(t, t) - t * x;
  if (reduction != "batchmean") return reduce_loss("kl_div", loss, reduction);
  return sum(loss) / double(x.ndim() > 0 ? x.size(0) : 1);
}

Tensor hinge_embedding_body(const Tensor& x, const Tensor& t, double margin, std::string_view reduction) {
  check_float_pair("hinge_embedding_loss", x, t);
  Tensor far = where(ne(t, 1), clamp_min(margin - x, 0.0), 0.0);
  return reduce_loss("hinge_embedding_loss", far + where(ne(t, -1), x, 0.0), reduction);
}
Tensor margin_ranking_body(const Tensor& x1, const Tensor& x2, const Tensor& t, double margin,
                           std::string_view reduction) {
  check_float_pair("margin_ranking_loss", x1, x2);
  return reduce_loss("margin_ranking_loss", clamp_min(-t * (x1 - x2) + margin, 0.0), reduction);
}
Tensor cosine_embedding_body(const Tensor& x1, const Tensor& x2, const Tensor& t, double margin,
                             std::string_view reduction) {
  const char* op = "cosine_embedding_loss";
  check_float_pair(op, x1, x2);
  TG_CHECK((t.ndim() == 0 && x1.ndim() == 1) || (t.ndim() == 1 && x1.ndim() == 2), ShapeError, op,
           ": expected a 1-d target with 2-d inputs or a 0-d target with 1-d inputs; input1=", describe(x1),
           ", target=", describe(t));
  TG_CHECK(x1.sizes() == x2.sizes() && (t.ndim() == 0 || t.size(0) == x1.size(0)), ShapeError, op,
           ": sizes do not match; input1=", describe(x1), ", input2=", describe(x2), ", target=", describe(t));
  constexpr double eps = 1e-12;
  Tensor norms = (sum(square(x1), -1) + eps) * (sum(square(x2), -1) + eps);
  Tensor cosine = sum(x1 * x2, -1) / sqrt(norms);
  Tensor loss = where(eq(t, 1), 1.0 - cosine, 0.0) + where(eq(t, -1), clamp_min(cosine - margin, 0.0), 0.0);
  return reduce_loss(op, loss, reduction);
}
Tensor triplet_margin_body(const Tensor& anchor, const Tensor& positive, const Tensor& negative, double margin,
                           double p, double eps, bool swap, std::string_view reduction) {
  const char* op = "triplet_margin_loss";
  TG_CHECK(anchor.ndim() == positive.ndim() && anchor.ndim() == negative.ndim(), ShapeError, op,
           ": anchor, positive and negative must have the same number of dimensions; anchor=", describe(anchor),
           ", positive=", describe(positive), ", negative=", describe(negative));
  Tensor near = pairwise_distance(anchor, positive, p, eps), far = pairwise_distance(anchor, negative, p, eps);
  if (swap) far = minimum(far, pairwise_distance(positive, negative, p, eps));
  return reduce_loss(op, clamp_min(margin + near - far, 0.0), reduction);
}

constexpr double kPi = 3.141592653589793;

Tensor poisson_nll_body(const Tensor& x, const Tensor& t, bool log_input, bool full, double eps,
                        std::string_view reduction) {
  check_float_pair("poisson_nll_loss", x, t);
  Tensor loss = log_input ? exp(x) - t * x : x - t * log(x + eps);
  if (full) {
    // Stirling's formula for log(t!), used above 1
    Tensor safe = clamp_min(t, 1.0);
    loss = loss + where(gt(t, 1), t * log(safe) - t + 0.5 * log(2.0 * kPi * safe), 0.0);
  }
  return reduce_loss("poisson_nll_loss", loss, reduction);
}
Tensor gaussian_nll_body(const Tensor& x, const Tensor& t, const Tensor& var, bool full, double eps,
                         std::string_view reduction) {
  const char* op = "gaussian_nll_loss";
  check_float_pair(op, x, t);
  Tensor v = var;
  if (v.sizes() != x.sizes() && v.ndim() + 1 == x.ndim()) v = unsqueeze(v, -1);
  broadcast_shapes(op, v.sizes(), x.sizes());
  require_all(logical_not(lt(v, 0.0)), op, ": var has a negative element; var=", describe(var));
  {
    // the bound is invisible to the gradient
    NoGrad guard;
    Tensor lift = clamp_min(v, eps) - v;
    GradMode on(true);
    v = v + lift;
  }
  Tensor loss = 0.5 * (log(v) + square(x - t) / v);
  if (full) loss = loss + 0.5 * std::log(2.0 * kPi);
  return reduce_loss(op, loss, reduction);
}
Tensor soft_margin_body(const Tensor& x, const Tensor& t, std::string_view reduction) {
  check_float_pair("soft_margin_loss", x, t);
  return reduce_loss("soft_margin_loss", -logsigmoid(t * x), reduction);
}

TG_OP("mse_loss(Tensor input, Tensor target, *, str reduction='mean') -> Tensor", .doc = "Squared difference.",
      .composite = box<mse_body>, .flags = kNN, .autocast = Autocast::Float32,
      .samples =
          "T(3,4), T(3,4); T(3,4), T(3,4), reduction='sum'; T(3,4), T(3,4), reduction='none'; T(), T(); T(3,4), T(); "
          "T(0), T(0), reduction='sum'");
TG_OP("l1_loss(Tensor input, Tensor target, *, str reduction='mean') -> Tensor", .doc = "Absolute difference.",
      .composite = box<l1_body>, .flags = kNN, .autocast = Autocast::Float32,
      .samples =
          "T(3,4), T(3,4, lo=3, hi=4); T(lo=3, hi=4), T(3,4); T(3,4), T(3,4, lo=-4, hi=-3), reduction='sum'; T(3,4), "
          "T(3,4, lo=3, hi=4), "
          "reduction='none'");
TG_OP("smooth_l1_loss(Tensor input, Tensor target, *, str reduction='mean', float beta=1.0) -> Tensor",
      .doc = "Quadratic below beta, linear above.", .composite = box<smooth_l1_body>, .flags = kNN,
      .autocast = Autocast::Float32,
      .samples =
          "T(3,4, lo=-0.3, hi=0.3), T(3,4, lo=-0.3, hi=0.3); T(3,4), T(3,4, lo=3, hi=4), reduction='sum', beta=0.5; "
          "T(3,4), T(3,4, lo=3, hi=4), reduction='none', beta=0");
TG_OP("huber_loss(Tensor input, Tensor target, str reduction='mean', float delta=1.0) -> Tensor",
      .doc = "Quadratic up to delta, then linear with slope delta.", .composite = box<huber_body>, .flags = kNN,
      .autocast = Autocast::Float32, .torch = "nn.functional.huber_loss",
      .samples =
          "T(3,4, lo=-0.3, hi=0.3), T(3,4, lo=-0.3, hi=0.3); T(3,4), T(3,4, lo=3, hi=4), 'sum', 0.5; "
          "T(3,4), T(3,4, lo=-8, hi=-6), reduction='none', delta=2.0");
TG_OP("bce_elements(Tensor input, Tensor target) -> Tensor",
      .doc = "Binary cross entropy of each element, its logarithms bounded by -100.", .primitive = box<bce_values>,
      .grads = {{in(0) | in(1), bce_grad_input}, {in(0), bce_grad_target}}, .flags = kHidden,
      .autocast = Autocast::Float32, .torch = "none", .samples = "T(3,4, lo=0.1, hi=0.9), T(3,4, lo=0.1, hi=0.9)");
TG_OP("binary_cross_entropy(Tensor input, Tensor target, Tensor? weight=None, *, str reduction='mean') -> Tensor",
      .doc = "Cross entropy between probabilities and targets in [0, 1].", .composite = box<bce_body>, .flags = kNN,
      .autocast = Autocast::Float32,
      .samples =
          "T(3,4, lo=0.1, hi=0.9), T(3,4, lo=0.1, hi=0.9); T(3,4, lo=0.1, hi=0.9), T(3,4, lo=0.1, hi=0.9), "
          "C(3,4, lo=0.5, hi=2), reduction='sum'; T(3, lo=0.1, hi=0.9), T(3, lo=0.1, hi=0.9), reduction='none'");
TG_OP(
    "binary_cross_entropy_with_logits(Tensor input, Tensor target, Tensor? weight=None, *, str reduction='mean', "
    "Tensor? pos_weight=None) -> Tensor",
    .doc = "binary_cross_entropy of sigmoid(input), without overflow.", .composite = box<bce_logits_body>, .flags = kNN,
    .autocast = Autocast::Float32, .torch = "nn.functional.binary_cross_entropy_with_logits",
    .samples =
        "T(3,4), T(3,4, lo=0.1, hi=0.9); T(3,4), T(3,4, lo=0.1, hi=0.9), C(3,4, lo=0.5, hi=2), "
        "reduction='sum'; T(3,4), T(3,4, lo=0.1, hi=0.9), pos_weight=C(4, lo=0.5, hi=2), reduction='none'");
TG_OP("kl_div(Tensor input, Tensor target, *, str reduction='mean', bool log_target=False) -> Tensor",
      .doc = "target * (log(target) - input) of log-probabilities input; reduction also 'batchmean'.",
      .composite = box<kl_div_body>, .flags = kNN, .autocast = Autocast::Float32, .torch = "nn.functional.kl_div",
      .samples =
          "T(3,4), T(3,4, lo=0.1, hi=0.9); T(3,4), T(3,4), reduction='batchmean', log_target=True; T(3,4), "
          "T(3,4, lo=0.1, hi=0.9), reduction='sum'; T(3,4), T(3,4, lo=0.1, hi=0.9), reduction='none'");
TG_OP("hinge_embedding_loss(Tensor input, Tensor target, float margin=1.0, *, str reduction='mean') -> Tensor",
      .doc = "input where target is 1, max(0, margin - input) where it is -1.", .composite = box<hinge_embedding_body>,
      .flags = kNN, .torch = "nn.functional.hinge_embedding_loss",
      .samples = "T(3,4), I(3,4, lo=-1, hi=2); T(5), I(5, lo=-1, hi=2), 0.5, reduction='sum'");
TG_OP(
    "margin_ranking_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, *, str reduction='mean') -> "
    "Tensor",
    .doc = "max(0, -target * (input1 - input2) + margin).", .composite = box<margin_ranking_body>, .flags = kNN,
    .autocast = Autocast::Float32, .torch = "nn.functional.margin_ranking_loss",
    .samples = "T(5), T(5), I(5, lo=-1, hi=2); T(5), T(5), I(5, lo=-1, hi=2), 0.5, reduction='none'");
TG_OP(
    "cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, *, str reduction='mean') "
    "-> Tensor",
    .doc = "1 - cosine where target is 1, max(0, cosine - margin) where it is -1.",
    .composite = box<cosine_embedding_body>, .flags = kNN, .torch = "nn.functional.cosine_embedding_loss",
    .samples =
        "T(5,4), T(5,4), I(5, lo=-1, hi=2); T(5,4), T(5,4), I(5, lo=-1, hi=2), -0.5, "
        "reduction='none'");
TG_OP(
    "triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, float margin=1.0, float p=2.0, "
    "float eps=1e-6, bool swap=False, *, str reduction='mean') -> Tensor",
    .doc = "max(0, |anchor - positive| - |anchor - negative| + margin) in the p-norm.",
    .composite = box<triplet_margin_body>, .flags = kNN, .torch = "nn.functional.triplet_margin_loss",
    .samples = "T(5,4), T(5,4), T(5,4); T(5,4), T(5,4), T(5,4), 0.5, swap=True, reduction='none'");
TG_OP(
    "poisson_nll_loss(Tensor input, Tensor target, bool log_input=True, bool full=False, float eps=1e-8, *, "
    "str reduction='mean') -> Tensor",
    .doc = "Negative log likelihood of counts with (log) rate input.", .composite = box<poisson_nll_body>, .flags = kNN,
    .torch = "nn.functional.poisson_nll_loss",
    .samples =
        "T(3,4), T(3,4, lo=0.5, hi=4); T(3,4, lo=0.5, hi=2), T(3,4, lo=1.5, hi=4), False, True, "
        "reduction='none'; T(3,4), I(3,4, hi=5), full=True, reduction='sum'");
TG_OP(
    "gaussian_nll_loss(Tensor input, Tensor target, Tensor var, bool full=False, float eps=1e-6, "
    "str reduction='mean') -> Tensor",
    .doc = "Negative log likelihood of a normal distribution with mean input and variance var.",
    .composite = box<gaussian_nll_body>, .flags = kNN,
    .samples =
        "T(3,4), T(3,4), T(3,4, lo=0.5, hi=2); T(3,4), T(3,4), T(3,1, lo=0.5, hi=2), full=True, "
        "reduction='none'; T(3,4), T(3,4), T(3, lo=0.5, hi=2), reduction='sum'");
TG_OP("soft_margin_loss(Tensor input, Tensor target, *, str reduction='mean') -> Tensor",
      .doc = "log(1 + exp(-target * input)).", .composite = box<soft_margin_body>, .flags = kNN,
      .samples = "T(3,4), I(3,4, lo=-1, hi=2); T(5), I(5, lo=-1, hi=2), reduction='sum'");

}  // namespace
}  // namespace tg
