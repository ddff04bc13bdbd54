// Limits on gradients. Those that still carry the scale of a GradScaler are refused (Error).
#pragma once
#include "core/tensor.h"

namespace tg::optim {

// The norm of all gradients of `parameters` taken as one vector; norm_type may be infinity.
TG_API Tensor grad_norm(TensorList parameters, double norm_type = 2);
// Scales the gradients in place so that their norm is at most max_norm; returns the norm before. With
// error_if_nonfinite a norm that is infinite or NaN is an Error, otherwise it spreads.
TG_API Tensor clip_grad_norm_(TensorList parameters, double max_norm, double norm_type = 2,
                              bool error_if_nonfinite = false);
// Limits every element of the gradients to [-clip_value, clip_value].
TG_API void clip_grad_value_(TensorList parameters, double clip_value);

}  // namespace tg::optim
