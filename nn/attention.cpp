#include "nn/attention.h"

#include <cmath>
#include <limits>

#include "nn/init.h"
#include "ops/ops.h"

namespace tg::nn {
namespace {

Tensor split_heads(const Tensor& x, int64_t heads) {
  return transpose(unflatten(x, -1, {heads, x.size(-1) / heads}), 1, 2);
}

// A mask as something to add to the scores.
Tensor additive(const Tensor& mask, DType dtype, const char* name) {
  if (mask.dtype() == DType::Bool) {
    Tensor zero = zeros(mask.sizes(), dtype, mask.device());
    return where(mask, -std::numeric_limits<double>::infinity(), zero);
  }
  TG_CHECK(is_float(mask.dtype()), DTypeError, "MultiheadAttention: ", name,
           " must be bool or floating point; mask=", describe(mask));
  return mask.dtype() == dtype ? mask : tg::to(mask, dtype);
}

}  // namespace

MultiheadAttentionImpl::MultiheadAttentionImpl(Blank) {
  declare("in_proj_weight", in_proj_weight);
  declare("q_proj_weight", q_proj_weight);
  declare("k_proj_weight", k_proj_weight);
  declare("v_proj_weight", v_proj_weight);
  declare("in_proj_bias", in_proj_bias);
  declare("bias_k", bias_k);
  declare("bias_v", bias_v);
}

MultiheadAttentionImpl::MultiheadAttentionImpl(int64_t embed, int64_t heads, const AttentionOptions& o)
    : MultiheadAttentionImpl(Blank{}) {
  TG_CHECK(embed > 0 && heads > 0, ValueError, "MultiheadAttention: embed_dim and num_heads must be positive, got ",
           embed, " and ", heads);
  TG_CHECK(embed % heads == 0, ValueError, "MultiheadAttention: embed_dim (", embed,
           ") must be divisible by num_heads (", heads, ")");
  embed_dim = embed;
  num_heads = heads;
  kdim = o.kdim.value_or(embed);
  vdim = o.vdim.value_or(embed);
  dropout = o.dropout;
  batch_first = o.batch_first;
  add_zero_attn = o.add_zero_attn;
  TG_CHECK(kdim > 0 && vdim > 0, ValueError, "MultiheadAttention: kdim and vdim must be positive, got ", kdim, " and ",
           vdim);
  auto make = [&](IntList sizes) {
    return Parameter(empty_tensor(sizes, o.tensors.type(), o.tensors.device.value_or(Device())));
  };
  if (kdim == embed && vdim == embed) {
    in_proj_weight = make({3 * embed, embed});
  } else {
    q_proj_weight = make({embed, embed});
    k_proj_weight = make({embed, kdim});
    v_proj_weight = make({embed, vdim});
  }
  if (o.bias) in_proj_bias = make({3 * embed});
  if (o.add_bias_kv) bias_k = make({1, 1, embed}), bias_v = make({1, 1, embed});
  reg("out_proj", Linear(embed, embed, o.bias, o.tensors));
  reset_parameters();
}

void MultiheadAttentionImpl::reset_parameters() {
  for (const Tensor* w : {&in_proj_weight, &q_proj_weight, &k_proj_weight, &v_proj_weight})
    if (w->defined()) init::xavier_uniform_(*w);
  if (in_proj_bias.defined()) {
    init::zeros_(in_proj_bias);
    init::zeros_(child("out_proj").tensor("bias"));
  }
  if (bias_k.defined()) init::xavier_normal_(bias_k);
  if (bias_v.defined()) init::xavier_normal_(bias_v);
}

MultiheadAttentionImpl::Projected MultiheadAttentionImpl::project(const Tensor& query, const Tensor& key,
                                                                  const Tensor& value) {
  std::vector<Tensor> w = {q_proj_weight, k_proj_weight, v_proj_weight}, b(3);
  Tensor q, k, v;
  if (in_proj_weight.defined() && query.is_same(key) && key.is_same(value)) {
    auto all = chunk(linear(query, in_proj_weight, in_proj_bias), 3, -1);
    q = all[0], k = all[1], v = all[2];
  } else {
    if (in_proj_weight.defined()) w = chunk(in_proj_weight, 3, 0);
    if (in_proj_bias.defined()) b = chunk(in_proj_bias, 3, 0);
    for (const Tensor& t : w) TG_CHECK(t.defined(), TypeError, "forward: MultiheadAttention has no projection weights");
    q = linear(query, w[0], b[0]), k = linear(key, w[1], b[1]), v = linear(value, w[2], b[2]);
  }
  int64_t n = k.size(0);
  if (bias_k.defined() && bias_v.defined()) {
    k = cat({k, expand(bias_k, {n, 1, embed_dim})}, 1);
    v = cat({v, expand(bias_v, {n, 1, embed_dim})}, 1);
  }
  if (add_zero_attn) {
    Tensor zero = zeros({n, 1, embed_dim}, k.dtype(), k.device());
    k = cat({k, zero}, 1);
    v = cat({v, zero}, 1);
  }
  return {split_heads(q, num_heads), split_heads(k, num_heads), split_heads(v, num_heads)};
}

Tensor MultiheadAttentionImpl::joint_mask(const AttentionCall& c, int64_t n, int64_t l, int64_t s, int64_t added,
                                          DType dtype) const {
  Tensor mask;
  if (c.attn_mask.defined()) {
    const Tensor& m = c.attn_mask;
    Dims flat = {l, s}, each = {n * num_heads, l, s};
    TG_CHECK(m.sizes() == flat || m.sizes() == each, ShapeError, "MultiheadAttention: attn_mask must be of size ", flat,
             " or ", each, "; attn_mask=", describe(m));
    mask = reshape(additive(m, dtype, "attn_mask"), m.ndim() == 2 ? Dims{1, 1, l, s} : Dims{n, num_heads, l, s});
  }
  if (c.key_padding_mask.defined()) {
    Dims want = {n, s};
    TG_CHECK(c.key_padding_mask.sizes() == want, ShapeError, "MultiheadAttention: key_padding_mask must be of size ",
             want, "; key_padding_mask=", describe(c.key_padding_mask));
    Tensor keys = reshape(additive(c.key_padding_mask, dtype, "key_padding_mask"), {n, 1, 1, s});
    mask = mask.defined() ? mask + keys : keys;
  }
  return mask.defined() && added > 0 ? pad(mask, {0, added}) : mask;
}

std::pair<Tensor, Tensor> MultiheadAttentionImpl::forward(const Tensor& query_in, const Tensor& key_in,
                                                          const Tensor& value_in, const AttentionCall& call) {
  const Tensor* given[] = {&query_in, &key_in, &value_in};
  const char* names[] = {"query", "key", "value"};
  for (int i = 0; i < 3; ++i) {
    TG_CHECK(given[i]->defined() && (given[i]->ndim() == 2 || given[i]->ndim() == 3), ShapeError,
             "MultiheadAttention: ", names[i], " must have 2 or 3 dimensions; ", names[i], "=",
             given[i]->defined() ? describe(*given[i]) : "None");
    TG_CHECK(given[i]->ndim() == query_in.ndim(), ShapeError, "MultiheadAttention: query and ", names[i],
             " must have the same number of dimensions; query=", describe(query_in), ", ", names[i], "=",
             describe(*given[i]));
  }
  TG_CHECK(!call.is_causal || call.attn_mask.defined(), ValueError,
           "MultiheadAttention: is_causal is a hint about attn_mask, which is missing");
  AttentionCall c = call;
  bool batched = query_in.ndim() == 3, swap = batched && !batch_first;
  auto batch = [&](const Tensor& t) { return !batched ? unsqueeze(t, 0) : swap ? transpose(t, 0, 1) : t; };
  if (!batched && c.key_padding_mask.defined()) c.key_padding_mask = unsqueeze(c.key_padding_mask, 0);
  Tensor query = batch(query_in);
  Tensor key = key_in.is_same(query_in) ? query : batch(key_in);
  Tensor value = value_in.is_same(key_in) ? key : batch(value_in);
  int64_t n = query.size(0), l = query.size(1), s = key.size(1);
  TG_CHECK(query.size(2) == embed_dim, ShapeError, "MultiheadAttention: query must have ", embed_dim,
           " features; query=", describe(query_in));
  TG_CHECK(key.size(0) == n && value.size(0) == n && value.size(1) == s, ShapeError,
           "MultiheadAttention: batch or length differ; query=", describe(query_in), ", key=", describe(key_in),
           ", value=", describe(value_in));

  auto [q, k, v] = project(query, key, value);
  double p = training ? dropout : 0;
  Tensor out, weights;
  if (!c.need_weights) {
    bool causal = c.is_causal && !c.key_padding_mask.defined() && k.size(2) == s;
    Tensor mask = causal ? Tensor() : joint_mask(c, n, l, s, k.size(2) - s, q.dtype());
    out = scaled_dot_product_attention(q, k, v, mask, p, causal);
  } else {
    Tensor mask = joint_mask(c, n, l, s, k.size(2) - s, q.dtype());
    Tensor scores = matmul(q * (1 / std::sqrt(double(q.size(-1)))), transpose(k, -2, -1));
    weights = softmax(mask.defined() ? scores + mask : scores, -1);
    if (p > 0) weights = tg::dropout(weights, p);
    out = matmul(weights, v);
    if (c.average_attn_weights) weights = mean(weights, 1);
    if (!batched) weights = squeeze(weights, 0);
  }
  out = reshape(transpose(out, 1, 2), {n, l, embed_dim});
  Module& proj = child("out_proj");
  Tensor w = proj.tensor("weight");
  TG_CHECK(w.defined(), TypeError, "forward: MultiheadAttention.out_proj has no weight");
  out = linear(out, w, proj.tensor("bias"));
  return {!batched ? squeeze(out, 0) : swap ? transpose(out, 0, 1) : out, weights};
}

Tensor MultiheadAttentionImpl::forward(const Tensor& x) {
  AttentionCall c;
  c.need_weights = false;
  return forward(x, x, x, c).first;
}

}  // namespace tg::nn
