// Sums, copies and gathers over tensors of several devices, one of each, by NCCL: queued on the devices' current
// streams, with no gradients. Sums have the order that NCCL chooses for devices and size, ops the numbers of its
// ncclRedOp_t. Errors name the tensor, or what to install where there is no NCCL.
#pragma once
#include <vector>

#include "backends/cuda.h"
#include "core/tensor.h"

namespace tg::cuda {

// NCCL's number, 22809 for 2.28.9; DeviceError that says what to install if it is not there.
TG_API int nccl_version();
TG_API bool has_nccl() noexcept;

// outs[i] lies on the device of ins[i] and has as many elements; inputs may be written to in their own place.
// AllGather: as all inputs together. ReduceScatter: the i-th part of the sum. Reduce: a single one, on the device of
// ins[root]. Broadcast: outs is ins, which all get what ins[root] holds.
TG_API void collective(Collective kind, const std::vector<Tensor>& ins, const std::vector<Tensor>& outs, int op,
                       int root);

}  // namespace tg::cuda
