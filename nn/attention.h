// Multi-head attention with PyTorch's parameter names and options.
#pragma once
#include "nn/layers.h"

namespace tg::nn {

struct AttentionOptions {
  double dropout = 0;
  bool bias = true, add_bias_kv = false, add_zero_attn = false;
  std::optional<int64_t> kdim = {}, vdim = {};  // sizes of keys and values when not embed_dim
  bool batch_first = false;                     // (batch, time, channels) instead of (time, batch, channels)
  Options tensors = {};
};

struct AttentionCall {
  Tensor key_padding_mask = {};  // (N, S): True, or -inf, where a key is ignored
  bool need_weights = true;
  Tensor attn_mask = {};             // (L, S) or (N * heads, L, S): True where not allowed, or added to the scores
  bool average_attn_weights = true;  // else weights of each head: (N, heads, L, S)
  bool is_causal = false;            // attn_mask is the causal mask; a hint that allows the fast path
};

class TG_API MultiheadAttentionImpl : public Module {
 public:
  explicit MultiheadAttentionImpl(Blank);
  MultiheadAttentionImpl(int64_t embed_dim, int64_t num_heads, const AttentionOptions& o = {});
  void reset_parameters();
  // The output, shaped like the query, and the attention weights (undefined unless need_weights).
  std::pair<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionCall& c = {});
  // Self-attention without weights.
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "MultiheadAttention"; }
  int64_t embed_dim = 0, num_heads = 1, kdim = 0, vdim = 0;
  double dropout = 0;
  bool batch_first = false, add_zero_attn = false;
  Tensor in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias, bias_k, bias_v;

 private:
  struct Projected {
    Tensor q, k, v;  // (N, heads, time, channels)
  };
  Projected project(const Tensor& query, const Tensor& key, const Tensor& value);
  // The two masks as one that is added to the scores, (N or 1, heads or 1, L or 1, S); undefined for none.
  Tensor joint_mask(const AttentionCall& c, int64_t n, int64_t l, int64_t s, int64_t added, DType dtype) const;
};
using MultiheadAttention = Handle<MultiheadAttentionImpl>;

}  // namespace tg::nn
