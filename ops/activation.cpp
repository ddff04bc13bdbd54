// Activations that are more than one pointwise row, and distances between vectors.
#include "ops/fast_path.h"

namespace tg {
namespace {

Tensor gelu_body(const Tensor& x, std::string_view approximate) {
  TG_CHECK(approximate == "none" || approximate == "tanh", ValueError,
           "gelu: approximate must be 'none' or 'tanh', got '", approximate, "'");
  return approximate == "none" ? gelu_erf(x) : gelu_tanh(x);
}

Tensor relu6_body(const Tensor& x, bool inplace) { return inplace ? hardtanh_(x, 0.0, 6.0) : hardtanh(x, 0.0, 6.0); }

Tensor glu_body(const Tensor& x, int64_t dim) {
  TG_CHECK(x.ndim() > 0, ShapeError, "glu: input must have at least 1 dimension; input=", describe(x));
  int d = wrap_dim("glu", dim, x.ndim());
  TG_CHECK(x.sizes()[d] % 2 == 0, ShapeError, "glu: dimension ", d, " must have even size, got ", x.sizes()[d],
           "; input=", describe(x));
  int64_t half = x.sizes()[d] / 2;
  return narrow(x, d, 0, half) * sigmoid(narrow(x, d, half, half));
}

Tensor prelu_body(const Tensor& x, const Tensor& weight) {
  TG_CHECK(weight.ndim() <= 1, ShapeError, "prelu: weight must have 0 or 1 dimensions; weight=", describe(weight));
  Tensor w = weight;
  if (weight.numel() != 1) {
    TG_CHECK(x.ndim() > 0, ShapeError, "prelu: a 0-d input needs a weight of one element; weight=", describe(weight));
    int axis = x.ndim() == 1 ? 0 : 1;
    TG_CHECK(weight.numel() == x.size(axis), ShapeError, "prelu: input has ", x.size(axis), " channels but weight has ",
             weight.numel(), "; input=", describe(x), ", weight=", describe(weight));
    Dims s = Dims::filled(x.ndim(), 1);
    s[axis] = weight.numel();
    w = reshape(weight, s);
  } else if (weight.ndim() > x.ndim()) {
    w = reshape(weight, IntList());
  }
  return where(gt(x, 0.0), x, x * w);
}

// Slopes are drawn per element when training, else their mean is used.
Tensor rrelu_body(const Tensor& x, double lower, double upper, bool training, bool inplace) {
  TG_CHECK(lower <= upper, ValueError, "rrelu: lower must not exceed upper, got ", lower, " and ", upper);
  TG_CHECK(is_float(x.dtype()), DTypeError, "rrelu: expected a floating-point tensor, input=", describe(x));
  Tensor y;
  if (training) {
    Tensor slope;
    {
      NoGrad guard;
      slope = rand_like(x) * (upper - lower) + lower;
    }
    y = where(gt(x, 0.0), x, x * slope);
  } else {
    y = leaky_relu(x, (lower + upper) / 2);
  }
  return inplace ? copy_(x, y) : y;
}

// ---- distances

Tensor normalize_body(const Tensor& x, double p, int64_t dim, double eps) {
  return x / clamp_min(norm(x, p, dim, true), eps);
}

// The product of the norms is bounded below by eps, each by itself as in PyTorch.
Tensor cosine_similarity_body(const Tensor& x1, const Tensor& x2, int64_t dim, double eps) {
  DType t = promote(x1.dtype(), x2.dtype());
  TG_CHECK(is_float(t), DTypeError, "cosine_similarity: expected floating-point tensors; x1=", describe(x1),
           ", x2=", describe(x2));
  int nd = broadcast_shapes("cosine_similarity", x1.sizes(), x2.sizes()).size();
  int64_t d = wrap_dim("cosine_similarity", dim, nd) - nd;  // from the end: the operands may differ in dimensions
  auto unit = [&](const Tensor& x) {
    TG_CHECK(d >= -x.ndim() || x.ndim() == 0, ShapeError, "cosine_similarity: dim=", dim, " is missing in ",
             describe(x));
    return x / clamp_min(norm(x, 2.0, x.ndim() == 0 ? 0 : d, true), eps);
  };
  return sum(unit(x1) * unit(x2), d);
}

Tensor pairwise_distance_body(const Tensor& x1, const Tensor& x2, double p, double eps, bool keepdim) {
  broadcast_shapes("pairwise_distance", x1.sizes(), x2.sizes());
  TG_CHECK(x1.ndim() > 0 || x2.ndim() > 0, ShapeError,
           "pairwise_distance: expected at least 1 dimension; x1=", describe(x1), ", x2=", describe(x2));
  return norm(x1 - x2 + eps, p, -1, keepdim);
}

TG_OP("gelu(Tensor input, *, str approximate='none') -> Tensor",
      .doc = "input * Phi(input), Phi the normal distribution function; approximate='tanh' uses its tanh formula.",
      .composite = box<gelu_body>, .flags = kNN,
      .samples = "T(3,4); T(3,4), approximate='tanh'; T(); T(0); T(17), approximate='tanh'");
TG_OP("relu6(Tensor input, bool inplace=False) -> Tensor", .doc = "min(max(input, 0), 6).",
      .composite = box<relu6_body>, .flags = kNN, .torch = "nn.functional.relu6",
      .samples = "T(3,4); T(3,4, lo=0.1, hi=5.9); T()");
TG_OP("glu(Tensor input, int dim=-1) -> Tensor", .doc = "First half of input times the sigmoid of the second half.",
      .composite = box<glu_body>, .flags = kNN, .torch = "nn.functional.glu",
      .samples = "T(3,4); T(4,3), 0; T(2,6,3), -2");
TG_OP("prelu(Tensor input, Tensor weight) -> Tensor",
      .doc = "input where positive, weight * input elsewhere; weight has one element or one per channel.",
      .composite = box<prelu_body>, .flags = kAlsoNN, .autocast = Autocast::Low,
      .samples =
          "T(3,4), T(1, lo=0.1, hi=0.5); T(3,4), T(4, lo=0.1, hi=0.5); T(2,3,4), T(3, lo=0.1, hi=0.5); T(5), T(1)");
TG_OP(
    "rrelu(Tensor input, float lower=0.125, float upper=0.3333333333333333, bool training=False, "
    "bool inplace=False) -> Tensor",
    .doc = "Leaky ReLU with slopes drawn from [lower, upper) when training.", .composite = box<rrelu_body>,
    .flags = kAlsoNN | kRandom, .torch = "nn.functional.rrelu",
    .samples = "T(3,4); T(3,4), 0.1, 0.3; T(3,4, lo=0.1, hi=2), training=True", .notes = "random");
TG_OP("normalize(Tensor input, float p=2.0, int dim=1, float eps=1e-12) -> Tensor",
      .doc = "input / max(p-norm along dim, eps).", .composite = box<normalize_body>, .flags = kNN,
      .samples = "T(3,4); T(3,4), dim=0; T(2,3,4), 1.0, -1; T(5), dim=0, eps=1e-6");
TG_OP("cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-8) -> Tensor",
      .doc = "Cosine of the angle between vectors along dim.", .composite = box<cosine_similarity_body>,
      .flags = kAlsoNN, .samples = "T(3,4), T(3,4); T(3,4), T(3,4), dim=0; T(2,3,4), T(4), dim=-1; T(5), T(5), dim=0");
TG_OP("pairwise_distance(Tensor x1, Tensor x2, float p=2.0, float eps=1e-6, bool keepdim=False) -> Tensor",
      .doc = "p-norm of x1 - x2 + eps along the last dimension.", .composite = box<pairwise_distance_body>,
      .flags = kNN, .torch = "nn.functional.pairwise_distance",
      .samples = "T(3,4), T(3,4); T(3,4), T(3,4), 1.0, keepdim=True; T(4), T(3,4); T(2,3,4), T(2,3,4), p=3.0");

}  // namespace
}  // namespace tg
