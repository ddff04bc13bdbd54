// Positions, weights and counts that follow from sizes alone. They are computed by the device that uses them: a copy
// from the host would wait for the device at every call, and could not be recorded in a graph.
#pragma once
#include "ops/create.h"
#include "ops/fast_path.h"

namespace tg {

// A program written down instruction by instruction, which name the registers of others before them. The outputs are
// the caller's to name.
struct ProgramWriter {
  Program p;
  template <class Numbers>
  ProgramWriter(DType compute, int n_inputs, const Numbers& numbers) {
    p.compute = compute;
    p.n_inputs = n_inputs;
    for (const Scalar& s : numbers) p.consts.push_back(s);
  }
  uint8_t number(int i) const { return p.const_reg(i); }
  uint8_t operator()(Opc op, uint8_t a = 0, uint8_t b = 0) {
    p.code.push_back({op, {a, b}});
    return p.code_reg(p.code.size() - 1);
  }
};

// A new tensor of what `p` makes of each element's index.
inline Tensor made_of_index(const Program& p, IntList sizes, DType t, Device device) {
  Tensor out = empty_tensor(sizes, t, device);
  run_program(p, {}, out);
  return out;
}
// 0, 1, 2, .. below n.
inline Tensor counting(int64_t n, Device device) {
  return made_of_index(make_program(DType::I64, 0, {}, {{Opc::Index}}), {n}, DType::I64, device);
}
// Axis `axis` of `shape` counted: a view of `count`, which is counting() of at least its size.
inline View counted_axis(const Tensor& count, const Dims& shape, int axis) {
  View v(count);
  v.shape = shape;
  v.stride = Dims::filled(shape.size(), 0);
  v.stride[axis] = 1;
  return v;
}

}  // namespace tg
