// Type promotion and checks shared by element-wise ops.
#pragma once
#include "core/value.h"

namespace tg {

// True if an argument is a tensor.
bool any_tensor(Args a);
// torch.result_type of tensors and numbers (other arguments must not be passed).
TG_API DType promoted_dtype(Args a);
// ValueError when two elements of `t` share memory: writing it in place would be ambiguous.
void reject_self_overlap(const char* op, const Tensor& t);

// Dimensions from the largest stride to the smallest: the order in which they lie in memory.
TG_API Dims memory_order(const Dims& sizes, const Dims& strides);
// True if permuting the dimensions makes this geometry contiguous (no gaps, no overlap); `order` is that permutation.
TG_API bool is_dense(const Dims& sizes, const Dims& strides, Dims& order);

}  // namespace tg
