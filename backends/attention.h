// What a backend may be besides a Backend: one that has kernels for attention. The composite is for all others.
#pragma once
#include <limits>

#include "backends/backend.h"
#include "core/device_code.h"

namespace tg {

// How scores become weights.
struct AttentionOptions {
  bool causal = false;  // a query sees the keys up to its own place
  double scale = 1;     // of the products of queries and keys
  // (batch, heads, queries, keys), repeated by strides of 0; no data: none. Bool: true where a query may look. Else
  // added to the scores.
  View mask = {};
  // Drops weights with this probability and scales the others by 1 / (1 - dropout). Weight i in row-major order stays
  // if its uniform number (element i of `numbers`) is not below `dropout`, both in float32; with 1 none does.
  double dropout = 0;
  RandomPlace numbers = {};
  bool plain() const { return !mask.data && dropout == 0; }
  // What dropout multiplies weights by that it keeps.
  double kept() const { return dropout < 1 ? 1 / (1 - dropout) : 0; }
};

// A double of a mask in float32. What is finite stays so: a row of the lowest double sees all its keys alike.
TG_HD inline float mask_number(double x) {
  constexpr double most = std::numeric_limits<float>::max();
  const bool finite = x - x == 0;
  return float(!finite ? x : x < -most ? -most : x > most ? most : x);
}

class TG_API AttentionKernels {
 public:
  virtual ~AttentionKernels() = default;

  // Whether there are kernels for half types; if not, callers widen them to float32.
  virtual bool attends_halves() const = 0;
  // All views are (batch, heads, positions, features) of one dtype and any strides; g is the gradient of out.
  //   out = dropout(softmax(scale q k^T + mask)) v; with a mask or causal, a query that sees no key has weights of 0
  //   dq, dk, dv = the gradients of q, k, v from that of out
  //   dmask += that of the mask, of its shape: summed along strides of 0; no data: not asked for
  // True if there is a kernel for these views, and it has run.
  virtual bool attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) = 0;
  virtual bool attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                              const View& dq, const View& dk, const View& dv, const View& dmask) = 0;
};

// Those of a device, null if it has none.
inline AttentionKernels* attention_kernels(Device d) { return dynamic_cast<AttentionKernels*>(&backend(d)); }

}  // namespace tg
