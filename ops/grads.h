// Gradients that several families share.
#pragma once
#include "ops/ops.h"

namespace tg {

inline Tensor same_grad(GradCtx& c) { return c.g(); }
inline Tensor zero_grad(GradCtx& c) { return zeros_like(c.g()); }

}  // namespace tg
