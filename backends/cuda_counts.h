// What became of attention that cuDNN might have computed, in this process: for reports and tests.
#pragma once
#include <atomic>
#include <cstdint>

#include "core/api.h"

namespace tg::cuda {

struct DnnAttentionCounts {
  std::atomic<uint64_t> by_cudnn = 0;  // calls
  std::atomic<uint64_t> by_own_kernel =
      0;                                  // calls with operands that cuDNN reads: too old, refused, failed, disbelieved
  std::atomic<uint64_t> disbelieved = 0;  // plans dropped, as their results were not the own kernel's
};
TG_API DnnAttentionCounts& dnn_attention_counts() noexcept;

}  // namespace tg::cuda
