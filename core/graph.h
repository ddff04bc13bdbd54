// Questions about the tape that layers beside autograd ask.
#pragma once
#include <vector>

#include "core/tensor.h"

namespace tg {

// The leaves that the gradient of `t` reaches, in the order in which backward first gets to them. Walks the graph, also
// after backward has freed its values.
TG_API std::vector<const TensorImpl*> leaves_reached(const Tensor& t);

}  // namespace tg
