// Type promotion and checks shared by element-wise ops.
#pragma once
#include "backends/backend.h"
#include "core/value.h"

namespace tg {

// True if an argument is a tensor.
bool any_tensor(Args a);
// torch.result_type of tensors and numbers (other arguments must not be passed).
TG_API DType promoted_dtype(Args a);
// t as an operand of a result of that shape: strides of 0 along what is repeated.
View broadcast_view(const Tensor& t, const Dims& shape);
// Memory for the result of an element-wise op on these tensors and numbers. Its order is that of the first operand that
// has the shape and no broadcast or reversed dimension (PyTorch's habit, and the order in which memory is read
// forwards); contiguous if there is none.
Tensor allocate_pointwise(Args operands, const Dims& shape, DType dtype, Device dev);
// One row, the short way: all tensors of one compute type, side by side in memory or a single element. False if it is
// not that. `in_place`: the result is one of the operands.
bool run_flat(Opc code, DType p, Args operands, const Tensor& result, bool in_place);
// ValueError when two elements of `t` share memory: writing it in place would be ambiguous.
void reject_self_overlap(const char* op, const Tensor& t);

// Dimensions from the largest stride to the smallest: the order in which they lie in memory.
TG_API Dims memory_order(const Dims& sizes, const Dims& strides);
// True if permuting the dimensions makes this geometry contiguous (no gaps, no overlap); `order` is that permutation.
TG_API bool is_dense(const Dims& sizes, const Dims& strides, Dims& order);

}  // namespace tg
