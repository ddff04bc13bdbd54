// Element-wise kernels. A program of one row of core/pointwise.def whose operands share one storage type has a kernel
// of its own, made from the row; every other program is interpreted on the device, one switch per instruction.
#pragma once
#include "backends/cuda/device.h"
#include "backends/cuda/walk.cuh"
#include "backends/scalar_math.h"

namespace tg::cuda {

// Operands of a row kernel: up to three inputs, each memory or a number, and the output (view 3).
struct RowOperands {
  const void* in[3] = {};
  double number[3] = {};    // of an input without memory, for float and double
  int64_t integer[3] = {};  // and for int64
  void* out = nullptr;
};
inline constexpr int kRowViews = 4;

struct RowLaunch {
  Opc op;
  DType storage;
  RowOperands operands;
  plan::Nest nest;  // views in0, in1, in2, out; missing inputs have stride 0
};
// True if there is a kernel for this row and storage type, and it has been launched. One file per storage type.
bool launch_row_f32(const RowLaunch& l);
bool launch_row_f16(const RowLaunch& l);
bool launch_row_bf16(const RowLaunch& l);
bool launch_row_f64(const RowLaunch& l);
bool launch_row_i64(const RowLaunch& l);

// outs = program(ins), any types and strides.
void interpret(const Program& p, const Views& ins, const Views& outs);
// out = in converted, any types and strides.
void convert_copy(const View& in, const View& out);

}  // namespace tg::cuda
