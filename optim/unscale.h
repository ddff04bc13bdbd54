// Loss scaling: what a gradient scaler does to gradients, and how its scale moves.
#pragma once
#include "core/tensor.h"

namespace tg::optim {

// Multiplies all gradients by `factor` in place and looks for infinities and NaNs, in one pass over their memory.
// Returns the index of the first gradient that has one, -1 if all are finite. With `factor` 1 nothing is written.
TG_API int64_t unscale(TensorList grads, double factor);

// The scale of a loss: it grows after `interval` steps in a row without overflow and backs off at once when there is
// one.
struct TG_API LossScale {
  double scale = 65536, growth = 2, backoff = 0.5;
  int64_t interval = 2000, tracker = 0;
  // After a step; `overflow`: a gradient was infinite or NaN.
  void update(bool overflow);
};

}  // namespace tg::optim
