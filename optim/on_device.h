// Tensors that kernels of a device take many of at a time.
#pragma once
#include <vector>

#include "backends/update_kernels.h"

namespace tg::optim {

// Contiguous tensors of one device and dtype.
struct DeviceGroup {
  Device device;
  DType dtype;
  UpdateKernels* kernels;
  std::vector<UpdateItem> items;
  std::vector<int64_t> numbers;  // places in the list they come from
};

// Sorts a list into groups; the places of tensors that go another way are put into `others`, and of those that are
// listed again: two pieces of a launch would write the same memory.
std::vector<DeviceGroup> device_groups(TensorList tensors, std::vector<int64_t>& others);

}  // namespace tg::optim
