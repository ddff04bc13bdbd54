// What a backend may be besides a Backend: one that has kernels for attention. The composite is for all others.
#pragma once
#include "backends/backend.h"

namespace tg {

class TG_API AttentionKernels {
 public:
  virtual ~AttentionKernels() = default;

  // Whether there are kernels for half types; if not, callers widen them to float32.
  virtual bool attends_halves() const = 0;

  // All views are (batch, heads, positions, features) of one dtype and any strides; g is the gradient of out.
  //   out = softmax(scale q k^T) v; causal: a query sees the keys up to its own place
  //   dq, dk, dv = the gradients of q, k, v from that of out
  // True if there is a kernel for these views, and it has run.
  virtual bool attention(const View& q, const View& k, const View& v, bool causal, double scale, const View& out) = 0;
  virtual bool attention_grad(const View& q, const View& k, const View& v, const View& g, bool causal, double scale,
                              const View& dq, const View& dk, const View& dv) = 0;
};

// Those of a device, null if it has none.
inline AttentionKernels* attention_kernels(Device d) { return dynamic_cast<AttentionKernels*>(&backend(d)); }

}  // namespace tg
