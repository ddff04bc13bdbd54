// What ops that make, fill and copy tensors share.
#pragma once
#include <vector>

#include "backends/program.h"
#include "core/tensor.h"

namespace tg {

// `v` as an element of type `t`; ValueError (naming `op`) when it does not fit.
Scalar checked_scalar(const char* op, const Scalar& v, DType t);
// Writes `v` into every element of `t`, below the tape.
void fill_with(const Tensor& t, const Scalar& v);
// Runs a program whose inputs broadcast to the shape of `out`, below the tape.
void run_program(const Program& p, std::initializer_list<Tensor> ins, const Tensor& out);
// dst[i] = src[i] with conversion and broadcasting, below the tape; the two may
// share memory.
void copy_into(const Tensor& dst, const Tensor& src);
// Tensor of int64 values computed on the host.
Tensor int_tensor(const std::vector<int64_t>& values, IntList sizes, Device device);
// `t` as a new leaf: one that requires a gradient, if asked.
inline Tensor requiring_grad(const Tensor& t, bool requires_grad) {
  if (requires_grad) t.set_requires_grad(true);
  return t;
}

}  // namespace tg
