// What a backend may be besides a Backend: one with kernels for recurrent layers. The ops of Backend are for all
// others.
#pragma once
#include <functional>

#include "backends/backend.h"

namespace tg {

// c = a b + beta c for a `b` given before, as Backend::gemm computes it, to the bit.
using ProductBy = std::function<void(const View& a, double beta, const View& c)>;

class TG_API RecurrentKernels {
 public:
  virtual ~RecurrentKernels() = default;

  // For a `b` (1, K, N) that many left operands (1, M, K) follow: it is packed once, and may change after that. c has
  // contiguous rows. Null if there is nothing to gain.
  virtual ProductBy product_by(const View& b) = 0;

  // One step of an LSTM on rows whose elements are contiguous, n of them with H hidden units:
  //   sums (n, 4H) become the gates i, f, g, o = sigmoid, sigmoid, tanh, sigmoid
  //   cells (n, H) = f before + i g, hidden (n, H) = o tanh(cells)
  // True if there is a kernel for these views, and it has run.
  virtual bool lstm_step(const View& sums, const View& before, const View& cells, const View& hidden) = 0;
  // And back: with dc = d_cells + d_hidden o (1 - tanh(cells)^2), d_before += dc f, and d_sums gets the gradients of
  // the sums.
  virtual bool lstm_step_grad(const View& d_hidden, const View& d_cells, const View& gates, const View& cells,
                              const View& before, const View& d_before, const View& d_sums) = 0;
};

// Those of a device, null if it has none.
inline RecurrentKernels* recurrent_kernels(Device d) { return dynamic_cast<RecurrentKernels*>(&backend(d)); }

}  // namespace tg
