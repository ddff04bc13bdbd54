// Activation checkpointing: what a function keeps for backward is thrown away and computed again when backward asks.
#pragma once
#include <functional>
#include <vector>

#include "core/tensor.h"

namespace tg {

struct CheckpointOptions {
  bool preserve_rng_state = true;  // random numbers of the second run are those of the first
  bool early_stop = true;          // the second run ends when it has made the last value that backward needs
  bool check = true;               // sizes, types and devices of the second run are compared with the first
};

using CheckpointedFn = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

// fn(inputs), without keeping more for backward than the inputs. Gradients, first and second, have the same bits as
// without; calls may be nested. fn is run again inside backward, so it must do the same for the same inputs.
// Errors in backward: AutogradError (an input was edited in place, the second run did something else).
TG_API std::vector<Tensor> checkpoint(const CheckpointedFn& fn, const std::vector<Tensor>& inputs,
                                      const CheckpointOptions& options = {});
// `first` is run at once, `again` inside backward: for functions whose results are no list of tensors.
TG_API std::vector<Tensor> checkpoint(const CheckpointedFn& first, const CheckpointedFn& again,
                                      const std::vector<Tensor>& inputs, const CheckpointOptions& options);
inline Tensor checkpoint(const std::function<Tensor(const Tensor&)>& fn, const Tensor& x,
                         const CheckpointOptions& options = {}) {
  return checkpoint([fn](const std::vector<Tensor>& in) { return std::vector<Tensor>{fn(in[0])}; },
                    std::vector<Tensor>{x}, options)[0];
}

}  // namespace tg
