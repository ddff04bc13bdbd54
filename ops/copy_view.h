// Copies between views and small index tensors, for ops that move elements.
#pragma once
#include <vector>

#include "ops/create.h"
#include "ops/fast_path.h"

namespace tg {

// dst = src, converted to dst's dtype. Same shapes.
inline void copy_view(Device d, const View& src, const View& dst) {
  if (dst.numel() == 0) return;
  Views ins, outs;
  ins.push_back(src);
  outs.push_back(dst);
  backend(d).map(make_program(compute_type(dst.dtype), 1, {}, {{Opc::Identity, {0}}}), ins, outs);
}

// The part [start, start + length) of axis `axis`.
inline View slice_view(View v, int axis, int64_t start, int64_t length) {
  v.data = static_cast<char*>(v.data) + start * v.stride[axis] * itemsize(v.dtype);
  v.shape[axis] = length;
  return v;
}

// Refuses, as an allocation would (OutOfMemoryError), a list of n indices that would be built on the host.
inline void check_room(const char* op, int64_t n, Device d) {
  numel_of({n, int64_t(sizeof(int64_t))}, op);
  empty_tensor({n}, DType::I64, d);
}

// 1-d int64 tensor with these values.
inline Tensor index_tensor(const std::vector<int64_t>& values, Device d) {
  return int_tensor(values, {int64_t(values.size())}, d);
}

}  // namespace tg
