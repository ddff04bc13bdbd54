// What fused fast paths share: short programs and views broadcast to a common shape.
#pragma once
#include "backends/backend.h"
#include "ops/ops.h"

namespace tg {

// A program of `code` over `n_inputs` inputs and `consts`; registers are numbered in that order. The last instruction
// is the result.
inline Program make_program(DType compute, int n_inputs, std::initializer_list<Scalar> consts,
                            std::initializer_list<Instr> code) {
  Program p;
  p.compute = compute;
  p.n_inputs = n_inputs;
  for (Scalar c : consts) p.consts.push_back(c);
  for (const Instr& i : code) p.code.push_back(i);
  p.outs.push_back(p.code_reg(p.code.size() - 1));
  return p;
}

// The next place in the generator's sequence (null: the default one's). In a graph that is being recorded it counts
// from that of each replay; NotImplementedError for other generators.
RandomPlace place_draw(Generator* generator, Device d);
// True with probability 1 - p.
Tensor keep_mask(const RandomPlace& place, IntList size, double p, Device device);

// `t` seen with `shape`: axes of size 1 (and missing leading axes) repeat. Borrows t's memory.
inline View broadcast_to_view(const Tensor& t, const Dims& shape) {
  View v(t);
  int lead = shape.size() - t.ndim();
  v.shape = shape;
  v.stride = Dims::filled(shape.size(), 0);
  for (int i = 0; i < t.ndim(); ++i) v.stride[lead + i] = t.sizes()[i] == 1 ? 0 : t.strides()[i];
  return v;
}

// The sizes of a reduction over `dims` that keeps them as 1.
inline Dims kept_sizes(const Dims& sizes, const Dims& dims) {
  Dims s = sizes;
  for (int64_t d : dims)
    if (s.size() > 0) s[int(d)] = 1;
  return s;
}

// ---- what fused kernels see of a tensor: (rows, n)

inline View matrix_view(const Tensor& t, int64_t rows, int64_t n, int64_t row_stride, int64_t stride) {
  View v;
  if (!t.defined()) return v;  // a missing operand
  v = View(t);
  v.shape = {rows, n};
  v.stride = {row_stride, stride};
  return v;
}
// A contiguous tensor as rows of n; one value for each of its rows; one row for all.
inline View rows_of(const Tensor& t, int64_t n) { return matrix_view(t, t.numel() / std::max<int64_t>(n, 1), n, n, 1); }
inline View row_values(const Tensor& t, int64_t n) { return matrix_view(t, t.numel(), n, 1, 0); }
inline View one_row(const Tensor& t, int64_t rows, int64_t n) { return matrix_view(t, rows, n, 0, 1); }

inline bool run_fused(Device device, Fused kernel, std::initializer_list<View> in, std::initializer_list<View> out,
                      double arg = 0) {
  Views ins, outs;
  for (const View& v : in) ins.push_back(v);
  for (const View& v : out) outs.push_back(v);
  return backend(device).fused(kernel, ins, outs, arg);
}

// `t` in the type arithmetic is done in: float32 for the half types.
inline Tensor widen(const Tensor& t) { return t.defined() && is_half(t.dtype()) ? cast(t, DType::F32) : t; }
inline Tensor narrow_to(const Tensor& t, DType dtype) { return t.dtype() == dtype ? t : cast(t, dtype); }

}  // namespace tg
