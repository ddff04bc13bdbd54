#include "optim/clip.h"

#include <cmath>

#include "core/modes.h"
#include "ops/ops.h"
#include "optim/grad_scaler.h"

namespace tg::optim {
namespace {

std::vector<Tensor> gradients(TensorList parameters) {
  std::vector<Tensor> grads;
  for (const Tensor& p : parameters)
    if (p.defined())
      if (Tensor g = p.grad(); g.defined()) grads.push_back(g);
  return grads;
}

Tensor norm_of(const std::vector<Tensor>& grads, double norm_type) {
  std::vector<Tensor> norms;
  for (const Tensor& g : grads)
    if (g.numel() > 0) norms.push_back(vector_norm(g, norm_type));
  if (norms.empty()) return zeros({}, DType::F32, Device());
  return norms.size() == 1 ? norms[0] : vector_norm(stack(norms), norm_type);
}

}  // namespace

Tensor grad_norm(TensorList parameters, double norm_type) {
  NoGrad guard;
  return norm_of(gradients(parameters), norm_type);
}

Tensor clip_grad_norm_(TensorList parameters, double max_norm, double norm_type, bool error_if_nonfinite) {
  NoGrad guard;
  check_unscaled(parameters, "clip_grad_norm_");
  std::vector<Tensor> grads = gradients(parameters);
  Tensor total = norm_of(grads, norm_type);
  TG_CHECK(!error_if_nonfinite || std::isfinite(total.item()), Error, "clip_grad_norm_: the norm of order ", norm_type,
           " of the gradients is ", total.item(), ", so it cannot be clipped");
  // multiplied even when it is 1: no branch on a value, and NaN spreads
  Tensor scale = clamp_max(div(max_norm, add(total, 1e-6)), 1.0);
  for (const Tensor& g : grads) mul_(g, scale);
  return total;
}

void clip_grad_value_(TensorList parameters, double clip_value) {
  NoGrad guard;
  check_unscaled(parameters, "clip_grad_value_");
  for (const Tensor& g : gradients(parameters)) clamp_(g, Operand(-clip_value), Operand(clip_value));
}

}  // namespace tg::optim
