// Scaled dot-product attention.
#include <cmath>
#include <limits>

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

Tensor attention_body(const Tensor& query, const Tensor& key_in, const Tensor& value_in, const Tensor& attn_mask,
                      double dropout_p, bool is_causal, std::optional<double> scale, bool enable_gqa) {
  check_attention(query, key_in, value_in, attn_mask, dropout_p, is_causal);
  Tensor key = enable_gqa ? spread_heads(key_in, query, "key") : key_in;
  Tensor value = enable_gqa ? spread_heads(value_in, query, "value") : value_in;
  int64_t features = query.size(-1);
  double factor = scale ? *scale : features > 0 ? 1.0 / std::sqrt(double(features)) : 1.0;
  Tensor scores = matmul(query * factor, transpose(key, -2, -1));
  constexpr double kHide = -std::numeric_limits<double>::infinity();
  Tensor mask = attn_mask;
  if (is_causal) {
    NoGrad guard;
    mask = tril(ones({query.size(-2), key.size(-2)}, DType::Bool, query.device()));
  }
  if (mask.defined()) scores = mask.dtype() == DType::Bool ? where(mask, scores, kHide) : scores + mask;
  // a row with nothing to look at gives 0, not NaN
  Tensor weights = mask.defined() ? safe_softmax(scores, -1) : softmax(scores, -1);
  if (dropout_p > 0) weights = dropout(weights, dropout_p);
  return matmul(narrow_to(weights, value.dtype()), value);
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

}  // namespace
}  // namespace tg
