#include "optim/clip.h"

#include <cmath>

#include "core/modes.h"
#include "ops/ops.h"
#include "optim/grad_scaler.h"
#include "optim/on_device.h"

namespace tg::optim {
namespace {

std::vector<Tensor> gradients(TensorList parameters) {
  std::vector<Tensor> grads;
  for (const Tensor& p : parameters)
    if (p.defined())
      if (Tensor g = p.grad(); g.defined()) grads.push_back(g);
  return grads;
}

// Euclidean norms of all tensors that kernels of one device take at a time, which are then one vector. Norms of a half
// type are rounded to it one by one.
Tensor norms_on_device(const std::vector<Tensor>& grads) {
  std::vector<int64_t> others;
  const std::vector<DeviceGroup> groups = device_groups(grads, others);
  if (groups.size() != 1 || !others.empty() || is_half(groups[0].dtype)) return {};
  Tensor norms = empty({int64_t(grads.size())}, groups[0].dtype, groups[0].device);
  const AtWork scope("clip_grad_norm_");
  groups[0].kernels->norms(groups[0].dtype, groups[0].items, norms.data());
  return norms;
}

Tensor norm_of(const std::vector<Tensor>& grads, double norm_type) {
  if (norm_type == 2 && grads.size() > 1)
    if (Tensor norms = norms_on_device(grads); norms.defined()) return vector_norm(norms, norm_type);
  std::vector<Tensor> norms;
  for (const Tensor& g : grads)
    if (g.numel() > 0) norms.push_back(vector_norm(g, norm_type));
  for (Tensor& n : norms) n = to(n, norms[0].device());
  if (norms.empty()) return zeros({}, DType::F32, Device());
  return norms.size() == 1 ? norms[0] : vector_norm(stack(norms), norm_type);
}

// All gradients times one number in memory, which is copied once to each device that has some.
void scale_all(const std::vector<Tensor>& grads, const Tensor& factor) {
  std::vector<Tensor> copies{factor};
  const auto factor_on = [&](Device d) -> Tensor {
    for (const Tensor& c : copies)
      if (c.device() == d) return c;
    copies.push_back(to(factor, d));
    return copies.back();
  };
  std::vector<int64_t> others;
  for (const DeviceGroup& g : device_groups(grads, others)) {
    if (compute_type(factor.dtype()) != factor.dtype()) {
      others.insert(others.end(), g.numbers.begin(), g.numbers.end());
      continue;
    }
    const AtWork scope("clip_grad_norm_");
    g.kernels->scale(g.dtype, factor_on(g.device), g.items);
    for (int64_t i : g.numbers) grads[size_t(i)].bump_version("clip_grad_norm_");
  }
  for (int64_t i : others) mul_(grads[size_t(i)], factor_on(grads[size_t(i)].device()));
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
  scale_all(grads, scale);
  return total;
}

void clip_grad_value_(TensorList parameters, double clip_value) {
  NoGrad guard;
  check_unscaled(parameters, "clip_grad_value_");
  for (const Tensor& g : gradients(parameters)) clamp_(g, Operand(-clip_value), Operand(clip_value));
}

}  // namespace tg::optim
