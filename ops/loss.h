// What the loss families share.
#pragma once
#include "core/tensor.h"

namespace tg {

// ValueError unless `reduction` is 'none', 'mean' or 'sum'.
void check_reduction(const char* op, std::string_view reduction);
Tensor reduce_loss(const char* op, const Tensor& loss, std::string_view reduction);

}  // namespace tg
