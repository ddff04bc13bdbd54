// Questions about the tape that layers beside autograd ask.
#pragma once
#include <vector>

#include "core/tensor.h"

namespace tg {

// Whether the gradient of `t` reaches one of these leaves. Walks the graph, also after backward has freed its values.
TG_API bool reaches(const Tensor& t, const std::vector<const TensorImpl*>& leaves);

}  // namespace tg
