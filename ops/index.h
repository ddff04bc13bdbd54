// What ops that take integer tensors as positions share.
#pragma once
#include "core/tensor.h"

namespace tg {

// `index` as int64 with every value in [0, size): DTypeError if it is not an integer tensor, IndexError naming the
// value and dimension `dim` if one is out of range. Negative values count from the end where `wrap` is set.
Tensor checked_index(const char* op, const Tensor& index, int64_t size, int dim, bool wrap);
// While a graph is recorded, when the host cannot look at values of a device: `index` (int64) with what is not in [low,
// high] moved there. A replay that meets such a value makes the next wait for the device an IndexError beginning with
// `text`.
bool recorded(const Tensor& t);
Tensor bounded_index(const Tensor& index, int64_t low, int64_t high, const std::string& text);
// The expression [:, ..., :, index] with index at dimension `dim`.
std::vector<IndexItem> index_at(int dim, const Tensor& index);
// Shape of index and other operands of gather and scatter: at most input's size outside of `dim`, same number of
// dimensions. IndexError or ShapeError otherwise.
void check_gather_index(const char* op, const Tensor& input, int dim, const Tensor& index);

}  // namespace tg
