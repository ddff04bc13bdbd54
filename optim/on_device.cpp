#include "optim/on_device.h"

#include <algorithm>
#include <unordered_set>

#include "core/modes.h"

namespace tg::optim {

std::vector<DeviceGroup> device_groups(TensorList tensors, std::vector<int64_t>& others) {
  std::vector<DeviceGroup> groups;
  std::unordered_set<const void*> taken;
  for (int64_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    UpdateKernels* kernels =
        !t.device().is_cpu() && t.is_contiguous() && modes().fast_paths ? update_kernels(t.device()) : nullptr;
    if (!kernels || (t.numel() > 0 && !taken.insert(t.data()).second)) {
      others.push_back(i);
      continue;
    }
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const DeviceGroup& g) { return g.device == t.device() && g.dtype == t.dtype(); });
    if (group == groups.end()) group = groups.insert(groups.end(), {t.device(), t.dtype(), kernels, {}, {}});
    group->items.push_back({{t.data()}, t.numel()});
    group->numbers.push_back(i);
  }
  return groups;
}

}  // namespace tg::optim
