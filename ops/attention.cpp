// Scaled dot-product attention.
#include <cmath>
#include <limits>

#include "backends/attention.h"
#include "backends/cuda.h"
#include "ops/fast_path.h"

namespace tg {
namespace {

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double dropout_p,
                     bool is_causal) {
  const char* op = "scaled_dot_product_attention";
  for (auto [t, name] : {std::pair{&q, "query"}, std::pair{&k, "key"}, std::pair{&v, "value"}})
    TG_CHECK(t->ndim() >= 2, ShapeError, op, ": ", name, " must have at least 2 dimensions; ", name, "=", describe(*t));
  TG_CHECK(q.dtype() == k.dtype() && q.dtype() == v.dtype() && is_float(q.dtype()), DTypeError, op,
           ": query, key and value must have one floating-point dtype; query=", describe(q), ", key=", describe(k),
           ", value=", describe(v));
  TG_CHECK(q.size(-1) == k.size(-1), ShapeError, op, ": query has ", q.size(-1), " features but key has ", k.size(-1),
           "; query=", describe(q), ", key=", describe(k));
  TG_CHECK(k.size(-2) == v.size(-2), ShapeError, op, ": key has ", k.size(-2), " positions but value has ", v.size(-2),
           "; key=", describe(k), ", value=", describe(v));
  TG_CHECK(dropout_p >= 0 && dropout_p <= 1, ValueError, op, ": dropout_p must lie in [0, 1], got ", dropout_p);
  TG_CHECK(!(mask.defined() && is_causal), ValueError, op, ": attn_mask must be None when is_causal=True");
  TG_CHECK(!mask.defined() || mask.dtype() == DType::Bool || is_float(mask.dtype()), DTypeError, op,
           ": attn_mask must be bool or floating point; attn_mask=", describe(mask));
}

// Grouped queries: each head of key and value serves several heads of the query.
Tensor spread_heads(const Tensor& t, const Tensor& q, const char* name) {
  const char* op = "scaled_dot_product_attention";
  TG_CHECK(q.ndim() >= 3 && t.ndim() >= 3, ShapeError, op, ": enable_gqa needs a head dimension; query=", describe(q),
           ", ", name, "=", describe(t));
  int64_t hq = q.size(-3), h = t.size(-3);
  TG_CHECK(h > 0 && hq % h == 0, ShapeError, op, ": ", hq, " query heads cannot be divided over ", h, " ", name,
           " heads; query=", describe(q), ", ", name, "=", describe(t));
  return h == hq ? t : repeat_interleave(t, hq / h, -3);
}

// softmax(query key^T * factor + mask)
Tensor weights_of(const Tensor& query, const Tensor& key, const Tensor& attn_mask, bool is_causal, double factor) {
  Tensor scores = matmul(query * factor, transpose(key, -2, -1));
  constexpr double kHide = -std::numeric_limits<double>::infinity();
  Tensor mask = attn_mask;
  if (is_causal) {
    NoGrad guard;
    mask = tril(ones({query.size(-2), key.size(-2)}, DType::Bool, query.device()));
  }
  if (mask.defined()) scores = mask.dtype() == DType::Bool ? where(mask, scores, kHide) : scores + mask;
  // a row with nothing to look at gives 0, not NaN
  return mask.defined() ? safe_softmax(scores, -1) : softmax(scores, -1);
}

// Few enough weights a head that keeping them costs less than computing them anew in backward: one batched product is
// then cheaper than many small ones (docs/decisions.md, 26 and 35). Half types would round them on the way, and a
// device has one launch for all heads.
bool cheap_to_keep(const Tensor& query, const Tensor& key) {
  return query.device().is_cpu() && compute_type(query.dtype()) == query.dtype() &&
         query.size(-2) * key.size(-2) <= 48 * 48;
}

// What the kernels take: one size in all dimensions but the last two.
bool tileable(const Tensor& q, const Tensor& k, const Tensor& v) {
  bool ok = q.ndim() <= 4 && k.ndim() == q.ndim() && v.ndim() == q.ndim();
  for (int d = 0; ok && d + 2 < q.ndim(); ++d) ok = k.size(d) == q.size(d) && v.size(d) == q.size(d);
  return ok && q.numel() > 0 && k.numel() > 0 && v.numel() > 0;
}

Dims sizes_of_scores(const Tensor& q, const Tensor& k) {
  Dims sizes = q.sizes();
  sizes[q.ndim() - 1] = k.size(-2);
  return sizes;
}

// Whether a mask repeats to the scores' sizes, and arithmetic in their type does it justice.
bool fits_scores(const Tensor& mask, const Tensor& q, const Tensor& k) {
  const Dims scores = sizes_of_scores(q, k);
  const int lead = scores.size() - mask.ndim();
  bool fits = lead >= 0 && mask.device() == q.device() && (mask.dtype() != DType::F64 || q.dtype() == DType::F64);
  for (int d = 0; fits && d < mask.ndim(); ++d) fits = mask.size(d) == 1 || mask.size(d) == scores[lead + d];
  return fits;
}

// Whether to compute the weights anew in backward instead of keeping them. Dropping all draws no numbers, and those of
// a graph depend on the replay: backward may be in another graph.
bool goes_by_tiles(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double dropout_p) {
  if (!mask.defined() && dropout_p == 0) return !cheap_to_keep(q, k);
  const AttentionKernels* kernels = attention_kernels(q.device());
  return kernels && kernels->masks_and_drops() && tileable(q, k, v) && (!mask.defined() || fits_scores(mask, q, k)) &&
         (dropout_p == 0 || (dropout_p < 1 && !cuda::capturing()));
}

Tensor attention_body(const Tensor& query, const Tensor& key_in, const Tensor& value_in, const Tensor& attn_mask,
                      double dropout_p, bool is_causal, std::optional<double> scale, bool enable_gqa) {
  check_attention(query, key_in, value_in, attn_mask, dropout_p, is_causal);
  Tensor key = enable_gqa ? spread_heads(key_in, query, "key") : key_in;
  Tensor value = enable_gqa ? spread_heads(value_in, query, "value") : value_in;
  int64_t features = query.size(-1);
  double factor = scale ? *scale : features > 0 ? 1.0 / std::sqrt(double(features)) : 1.0;
  if (goes_by_tiles(query, key, value, attn_mask, dropout_p)) {
    int64_t seed = 0, offset = 0;
    if (dropout_p > 0) seed = int64_t(default_generator().seed()), offset = int64_t(default_generator().next());
    return tiled_attention(query, key, value, is_causal, factor, attn_mask, dropout_p, seed, offset);
  }
  Tensor weights = weights_of(query, key, attn_mask, is_causal, factor);
  if (dropout_p > 0) weights = dropout(weights, dropout_p);
  return matmul(narrow_to(weights, value.dtype()), value);
}

// ---- by tiles: the weights need not be kept

// The arguments of tiled_attention after query, key and value.
struct Rule {
  bool is_causal;
  double factor;
  Tensor mask;
  double dropout_p;
  int64_t seed, offset;

  // Dropout of the weights, which is the same each time.
  Tensor drop(const Tensor& weights) const {
    if (dropout_p == 0) return weights;
    Generator numbers;
    numbers.set_state(uint64_t(seed), uint64_t(offset));
    return masked_scale(weights, dropout_mask(weights.sizes(), dropout_p, weights.device(), &numbers),
                        1.0 / (1.0 - dropout_p));
  }
};

Tensor tiled_body(const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal, double factor, const Tensor& mask,
                  double dropout_p, int64_t seed, int64_t offset) {
  const Rule rule{is_causal, factor, mask, dropout_p, seed, offset};
  return matmul(narrow_to(rule.drop(weights_of(q, k, mask, is_causal, factor)), v.dtype()), v);
}

View four_axes(View v) {
  while (v.ndim() < 4) v.shape.insert(0, 1), v.stride.insert(0, 0);
  return v;
}
// As (batch, heads, positions, features).
View heads_view(const Tensor& t) { return four_axes(View(t)); }

AttentionOptions options_of(const Rule& rule, const Tensor& q, const Tensor& k) {
  AttentionOptions o{.causal = rule.is_causal, .scale = rule.factor};
  if (rule.mask.defined()) o.mask = four_axes(broadcast_to_view(rule.mask, sizes_of_scores(q, k)));
  o.dropout = rule.dropout_p, o.seed = uint64_t(rule.seed), o.offset = uint64_t(rule.offset);
  return o;
}

// An empty tensor of t's positions; if t's heads lie within its positions in memory, as a projection leaves them, so do
// the new one's, and what joins the heads again need not copy.
Tensor empty_heads(const Tensor& t, int64_t features) {
  Dims sizes = t.sizes();
  sizes[t.ndim() - 1] = features;
  if (t.ndim() < 4 || t.stride(1) >= t.stride(2)) return empty_tensor(sizes, t.dtype(), t.device());
  std::swap(sizes[1], sizes[2]);
  Tensor memory = empty_tensor(sizes, t.dtype(), t.device());
  Dims strides = memory.strides();
  std::swap(sizes[1], sizes[2]);
  std::swap(strides[1], strides[2]);
  Tensor y = make_view(memory, sizes, strides, 0);
  y.impl()->base = nullptr;  // nobody else has this memory
  return y;
}

// Calls f with the operands as the kernels take them: half types in float32 if there are none for them.
template <class F>
bool by_kernel(const Tensor& q, const Tensor& k, const Tensor& v, const Rule& rule, F f) {
  AttentionKernels* kernels = attention_kernels(q.device());
  if (!kernels || !tileable(q, k, v) || (rule.mask.defined() && !fits_scores(rule.mask, q, k))) return false;
  const AttentionOptions o = options_of(rule, q, k);
  if (is_half(q.dtype()) && !kernels->attends_halves()) return f(*kernels, o, widen(q), widen(k), widen(v));
  return f(*kernels, o, q, k, v);
}

Tensor tiled_primitive(const Tensor& query, const Tensor& key, const Tensor& value, bool is_causal, double factor,
                       const Tensor& mask, double dropout_p, int64_t seed, int64_t offset) {
  Tensor y;
  auto attend = [&](AttentionKernels& kernels, const AttentionOptions& o, const Tensor& q, const Tensor& k,
                    const Tensor& v) {
    y = empty_heads(q, v.size(-1));
    return kernels.attention(heads_view(q), heads_view(k), heads_view(v), o, heads_view(y));
  };
  if (by_kernel(query, key, value, {is_causal, factor, mask, dropout_p, seed, offset}, attend))
    return narrow_to(y, query.dtype());
  return tiled_body(query, key, value, is_causal, factor, mask, dropout_p, seed, offset);
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

// The gradient of the scores, from that of the result and the weights before dropout.
Tensor grad_of_scores(const Tensor& grad, const Tensor& weights, const Tensor& v, const Rule& rule) {
  return softmax_backward(rule.drop(narrow_to(matmul(grad, transpose(v, -2, -1)), weights.dtype())), weights, -1);
}

Three tiled_backward_body(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal,
                          double factor, const Tensor& mask, double dropout_p, int64_t seed, int64_t offset) {
  const Rule rule{is_causal, factor, mask, dropout_p, seed, offset};
  const Tensor weights = weights_of(q, k, mask, is_causal, factor);
  const Tensor d_scores = narrow_to(grad_of_scores(grad, weights, v, rule), q.dtype());
  return {matmul(d_scores, k) * factor, matmul(transpose(d_scores, -2, -1), q) * factor,
          matmul(transpose(narrow_to(rule.drop(weights), v.dtype()), -2, -1), grad)};
}

Three tiled_backward_primitive(const Tensor& grad, const Tensor& query, const Tensor& key, const Tensor& value,
                               bool is_causal, double factor, const Tensor& mask, double dropout_p, int64_t seed,
                               int64_t offset) {
  Tensor dq, dk, dv;
  auto attend_back = [&](AttentionKernels& kernels, const AttentionOptions& o, const Tensor& q, const Tensor& k,
                         const Tensor& v) {
    const Tensor g = narrow_to(grad, q.dtype());
    dq = empty_heads(q, q.size(-1)), dk = empty_heads(k, k.size(-1)), dv = empty_heads(v, v.size(-1));
    return kernels.attention_grad(heads_view(q), heads_view(k), heads_view(v), heads_view(g), o, heads_view(dq),
                                  heads_view(dk), heads_view(dv));
  };
  if (grad.dtype() == query.dtype() && grad.ndim() == query.ndim() &&
      by_kernel(query, key, value, {is_causal, factor, mask, dropout_p, seed, offset}, attend_back)) {
    const DType t = query.dtype();
    return {narrow_to(dq, t), narrow_to(dk, t), narrow_to(dv, t)};
  }
  return tiled_backward_body(grad, query, key, value, is_causal, factor, mask, dropout_p, seed, offset);
}

// The gradient of a mask is that of the scores, which the kernels do not have: it is computed with all weights.
void tiled_grad(GradCtx& c) {
  const Rule rule{c.arg<bool>(3),   c.arg<double>(4),  c.is_none(5) ? Tensor() : c.x(5),
                  c.arg<double>(6), c.arg<int64_t>(7), c.arg<int64_t>(8)};
  const Tensor q = c.x(0), k = c.x(1), v = c.x(2);
  if (c.needs(0) || c.needs(1) || c.needs(2)) {
    auto [dq, dk, dv] = tiled_attention_backward(c.g(), q, k, v, rule.is_causal, rule.factor, rule.mask, rule.dropout_p,
                                                 rule.seed, rule.offset);
    if (c.needs(0)) c.set(0, dq);
    if (c.needs(1)) c.set(1, dk);
    if (c.needs(2)) c.set(2, dv);
  }
  if (c.needs(5)) c.set(5, grad_of_scores(c.g(), weights_of(q, k, rule.mask, rule.is_causal, rule.factor), v, rule));
}

TG_OP(
    "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, "
    "float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
    .doc =
        "softmax(query key^T * scale + mask) value; a bool mask is True where attention may look. A row with "
        "nothing to look at gives 0.",
    .composite = box<attention_body>, .flags = kNN, .autocast = Autocast::Low,
    .samples =
        "T(2,3,4), T(2,5,4), T(2,5,6); T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), is_causal=True; T(2,3,4), T(2,5,4), "
        "T(2,5,4), T(3,5); T(2,2,3,4), T(2,2,5,4), T(2,2,5,4), B(2,1,3,5), scale=0.3; T(3,4), T(5,4), T(5,4); "
        "T(1,4,3,4), T(1,2,5,4), T(1,2,5,4), enable_gqa=True; T(1,2,17,8), T(1,2,17,8), T(1,2,17,8), "
        "is_causal=True");

TG_OP(
    "tiled_attention(Tensor query, Tensor key, Tensor value, bool is_causal, float scale, Tensor? attn_mask=None, "
    "float dropout_p=0.0, int seed=0, int offset=0) -> Tensor",
    .doc =
        "Attention in tiles: no matrix of queries times keys is kept. Dropout is by the numbers of a seed and offset.",
    .composite = box<tiled_body>, .primitive = box<tiled_primitive>,
    .joint = {in(0) | in(1) | in(2) | in(5), tiled_grad}, .flags = kHidden, .autocast = Autocast::Low, .torch = "none",
    .samples =
        "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5; T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), True, 0.6; "
        "T(3,4), T(5,4), T(5,4), True, 0.5; T(5,4), T(3,4), T(3,2), True, 0.5; "
        "T(2,1,3,4), T(2,5,4), T(2,5,4), False, 0.5; T(0,4), T(3,4), T(3,4), False, 0.5; "
        "T(1,2,17,8), T(1,2,17,8), T(1,2,17,8), True, 0.35; "
        "T(1,1,70,4), T(1,1,67,4), T(1,1,67,3), True, 0.5; "
        "T(1,1,65,3), T(1,1,33,3), T(1,1,33,5), False, 0.5; "
        "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, B(2,1,5); T(2,2,3,4), T(2,2,5,4), T(2,2,5,4), False, 0.5, T(3,5); "
        "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, T(3,1), 0.4, 3, 1; "
        "T(1,2,17,4), T(1,2,17,4), T(1,2,17,4), True, 0.5, None, 0.3, 5, 7");
TG_OP(
    "tiled_attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value, bool is_causal, float scale, "
    "Tensor? attn_mask=None, float dropout_p=0.0, int seed=0, int offset=0) -> "
    "(Tensor query, Tensor key, Tensor value)",
    .doc = "The gradients of tiled_attention; each computes the weights anew.", .composite = box<tiled_backward_body>,
    .primitive = box<tiled_backward_primitive>, .flags = kHidden, .autocast = Autocast::Low, .torch = "none",
    .samples =
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5; "
        "T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), True, 0.6; "
        "T(5,2), T(5,4), T(3,4), T(3,2), True, 0.5; T(1,1,70,3), T(1,1,70,4), T(1,1,67,4), T(1,1,67,3), True, 0.5; "
        "T(1,1,65,5), T(1,1,65,3), T(1,1,33,3), T(1,1,33,5), False, 0.5; "
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, B(2,1,5); "
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5, T(3,5), 0.4, 3, 1");

}  // namespace
}  // namespace tg
