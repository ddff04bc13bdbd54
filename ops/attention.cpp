// Scaled dot-product attention.
#include <cmath>
#include <limits>

#include "backends/attention.h"
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

Tensor attention_body(const Tensor& query, const Tensor& key_in, const Tensor& value_in, const Tensor& attn_mask,
                      double dropout_p, bool is_causal, std::optional<double> scale, bool enable_gqa) {
  check_attention(query, key_in, value_in, attn_mask, dropout_p, is_causal);
  Tensor key = enable_gqa ? spread_heads(key_in, query, "key") : key_in;
  Tensor value = enable_gqa ? spread_heads(value_in, query, "value") : value_in;
  int64_t features = query.size(-1);
  double factor = scale ? *scale : features > 0 ? 1.0 / std::sqrt(double(features)) : 1.0;
  if (!attn_mask.defined() && dropout_p == 0 && !cheap_to_keep(query, key))
    return plain_attention(query, key, value, is_causal, factor);
  Tensor weights = weights_of(query, key, attn_mask, is_causal, factor);
  if (dropout_p > 0) weights = dropout(weights, dropout_p);
  return matmul(narrow_to(weights, value.dtype()), value);
}

// ---- without mask and dropout: the weights need not be kept

Tensor plain_body(const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal, double factor) {
  return matmul(narrow_to(weights_of(q, k, {}, is_causal, factor), v.dtype()), v);
}

// What the kernels take: one size in all dimensions but the last two.
bool tileable(const Tensor& q, const Tensor& k, const Tensor& v) {
  bool ok = q.ndim() <= 4 && k.ndim() == q.ndim() && v.ndim() == q.ndim();
  for (int d = 0; ok && d + 2 < q.ndim(); ++d) ok = k.size(d) == q.size(d) && v.size(d) == q.size(d);
  return ok && q.numel() > 0 && k.numel() > 0 && v.numel() > 0;
}

// As (batch, heads, positions, features).
View heads_view(const Tensor& t) {
  View v(t);
  while (v.ndim() < 4) v.shape.insert(0, 1), v.stride.insert(0, 0);
  return v;
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
bool by_kernel(const Tensor& q, const Tensor& k, const Tensor& v, F f) {
  AttentionKernels* kernels = attention_kernels(q.device());
  if (!kernels || !tileable(q, k, v)) return false;
  if (is_half(q.dtype()) && !kernels->attends_halves()) return f(*kernels, widen(q), widen(k), widen(v));
  return f(*kernels, q, k, v);
}

Tensor plain_primitive(const Tensor& query, const Tensor& key, const Tensor& value, bool is_causal, double factor) {
  Tensor y;
  auto attend = [&](AttentionKernels& kernels, const Tensor& q, const Tensor& k, const Tensor& v) {
    y = empty_heads(q, v.size(-1));
    return kernels.attention(heads_view(q), heads_view(k), heads_view(v), is_causal, factor, heads_view(y));
  };
  if (by_kernel(query, key, value, attend)) return narrow_to(y, query.dtype());
  return plain_body(query, key, value, is_causal, factor);
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

Three plain_backward_body(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, bool is_causal,
                          double factor) {
  Tensor weights = weights_of(q, k, {}, is_causal, factor);
  Tensor d_scores = softmax_backward(matmul(grad, transpose(v, -2, -1)), weights, -1);
  return {matmul(d_scores, k) * factor, matmul(transpose(d_scores, -2, -1), q) * factor,
          matmul(transpose(weights, -2, -1), grad)};
}

Three plain_backward_primitive(const Tensor& grad, const Tensor& query, const Tensor& key, const Tensor& value,
                               bool is_causal, double factor) {
  Tensor dq, dk, dv;
  auto attend_back = [&](AttentionKernels& kernels, const Tensor& q, const Tensor& k, const Tensor& v) {
    const Tensor g = narrow_to(grad, q.dtype());
    dq = empty_heads(q, q.size(-1)), dk = empty_heads(k, k.size(-1)), dv = empty_heads(v, v.size(-1));
    return kernels.attention_grad(heads_view(q), heads_view(k), heads_view(v), heads_view(g), is_causal, factor,
                                  heads_view(dq), heads_view(dk), heads_view(dv));
  };
  if (grad.dtype() == query.dtype() && grad.ndim() == query.ndim() && by_kernel(query, key, value, attend_back)) {
    const DType t = query.dtype();
    return {narrow_to(dq, t), narrow_to(dk, t), narrow_to(dv, t)};
  }
  return plain_backward_body(grad, query, key, value, is_causal, factor);
}

void plain_grad(GradCtx& c) {
  auto [dq, dk, dv] = plain_attention_backward(c.g(), c.x(0), c.x(1), c.x(2), c.arg<bool>(3), c.arg<double>(4));
  if (c.needs(0)) c.set(0, dq);
  if (c.needs(1)) c.set(1, dk);
  if (c.needs(2)) c.set(2, dv);
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

TG_OP("plain_attention(Tensor query, Tensor key, Tensor value, bool is_causal, float scale) -> Tensor",
      .doc = "Attention without mask and dropout, in tiles: no matrix of queries times keys is kept.",
      .composite = box<plain_body>, .primitive = box<plain_primitive>, .joint = {in(0) | in(1) | in(2), plain_grad},
      .flags = kHidden, .autocast = Autocast::Low, .torch = "none",
      .samples =
          "T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5; T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), True, 0.6; "
          "T(3,4), T(5,4), T(5,4), True, 0.5; T(5,4), T(3,4), T(3,2), True, 0.5; "
          "T(2,1,3,4), T(2,5,4), T(2,5,4), False, 0.5; T(0,4), T(3,4), T(3,4), False, 0.5; "
          "T(1,2,17,8), T(1,2,17,8), T(1,2,17,8), True, 0.35; "
          "T(1,1,70,4), T(1,1,67,4), T(1,1,67,3), True, 0.5; "
          "T(1,1,65,3), T(1,1,33,3), T(1,1,33,5), False, 0.5");
TG_OP(
    "plain_attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value, bool is_causal, float scale) -> "
    "(Tensor query, Tensor key, Tensor value)",
    .doc = "The gradients of plain_attention; each computes the weights anew.", .composite = box<plain_backward_body>,
    .primitive = box<plain_backward_primitive>, .flags = kHidden, .autocast = Autocast::Low, .torch = "none",
    .samples =
        "T(2,3,6), T(2,3,4), T(2,5,4), T(2,5,6), False, 0.5; "
        "T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), T(1,2,4,3), True, 0.6; "
        "T(5,2), T(5,4), T(3,4), T(3,2), True, 0.5; T(1,1,70,3), T(1,1,70,4), T(1,1,67,4), T(1,1,67,3), True, 0.5; "
        "T(1,1,65,5), T(1,1,65,3), T(1,1,33,3), T(1,1,33,5), False, 0.5");

}  // namespace
}  // namespace tg
