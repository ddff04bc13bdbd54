// Geometry shared by ops that reduce over axes.
#pragma once
#include "ops/fast_path.h"

namespace tg {

// Axes of a reduction: those asked for, or all.
inline Dims reduced_axes(const char* op, const std::optional<IntList>& dim, const Tensor& x) {
  return wrap_dims(op, dim ? *dim : IntList(), x.ndim());
}

inline int64_t reduced_count(const Tensor& x, const Dims& axes) {
  int64_t n = 1;
  for (int64_t a : axes) n *= x.sizes()[int(a)];
  return n;
}

inline Dims reduced_sizes(const Dims& sizes, const Dims& axes, bool keepdim) {
  if (keepdim) return kept_sizes(sizes, axes);
  Dims out;
  for (int i = 0; i < sizes.size(); ++i)
    if (!axes.contains(i)) out.push_back(sizes[i]);
  return out;
}

// A reduced tensor, or its gradient, made to broadcast against the input again.
inline Tensor with_axes(const Tensor& y, const Dims& sizes, const Dims& axes, bool keepdim) {
  return keepdim || sizes.empty() ? y : reshape(y, kept_sizes(sizes, axes));
}

// op over `axes` of ins (all seen with x's sizes); see Backend::reduce for pre and post.
inline Tensor run_reduce(ReduceOp op, const Tensor& x, const Views& ins, const Dims& axes, bool keepdim,
                         DType out_dtype, DType compute, const Program* pre = nullptr, const Program* post = nullptr) {
  Tensor y = empty_tensor(reduced_sizes(x.sizes(), axes, keepdim), out_dtype, x.device());
  if (y.numel() == 0) return y;
  View out(y);
  out.shape = x.sizes();
  Dims st = Dims::filled(x.ndim(), 0);
  for (int i = 0, j = 0; i < x.ndim(); ++i) {
    bool gone = axes.contains(i);
    if (!gone) st[i] = y.strides()[j];
    if (!gone || keepdim) ++j;
  }
  out.stride = st;
  backend(x.device()).reduce(op, compute, pre, ins, post, out);
  return y;
}
inline Tensor run_reduce(ReduceOp op, const Tensor& x, const Dims& axes, bool keepdim, DType out_dtype, DType compute,
                         const Program* pre = nullptr, const Program* post = nullptr) {
  Views ins;
  ins.push_back(View(x));
  return run_reduce(op, x, ins, axes, keepdim, out_dtype, compute, pre, post);
}

}  // namespace tg
