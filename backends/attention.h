// What a backend may be besides a Backend: one that has kernels for attention. The composite is for all others.
#pragma once
#include "backends/backend.h"

namespace tg {

// How scores become weights.
struct AttentionOptions {
  bool causal = false;  // a query sees the keys up to its own place
  double scale = 1;     // of the products of queries and keys
  // (batch, heads, queries, keys), repeated by strides of 0; no data: none. Bool: true where a query may look. Else
  // added to the scores.
  View mask = {};
  // Drops weights with this probability below 1 and scales the others by 1 / (1 - dropout). Weight i in row-major order
  // stays if uniform number i of (seed, offset) is not below `dropout`, both in float32.
  double dropout = 0;
  uint64_t seed = 0, offset = 0;
  bool plain() const { return !mask.data && dropout == 0; }
};

class TG_API AttentionKernels {
 public:
  virtual ~AttentionKernels() = default;

  // Whether there are kernels for half types; if not, callers widen them to float32.
  virtual bool attends_halves() const = 0;
  // Whether there are kernels for options that are not plain().
  virtual bool masks_and_drops() const = 0;

  // All views are (batch, heads, positions, features) of one dtype and any strides; g is the gradient of out.
  //   out = dropout(softmax(scale q k^T + mask)) v; with a mask or causal, a query that sees no key has weights of 0
  //   dq, dk, dv = the gradients of q, k, v from that of out
  // True if there is a kernel for these views, and it has run.
  virtual bool attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) = 0;
  virtual bool attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                              const View& dq, const View& dk, const View& dv) = 0;
};

// Those of a device, null if it has none.
inline AttentionKernels* attention_kernels(Device d) { return dynamic_cast<AttentionKernels*>(&backend(d)); }

}  // namespace tg
