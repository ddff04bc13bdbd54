// A program is a short straight line of scalar functions over inputs, constants, the element's index and
// counter-based random numbers. One op is a program of one instruction; a fused chain is a longer one.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "core/scalar.h"
#include "core/small_vec.h"

namespace tg {

// Every pointwise row of the op table, then the few instructions that are not functions of their operands alone.
enum class Opc : uint16_t {
#define TG_P1(name, ...) name,
#define TG_P2(name, ...) name,
#define TG_P3(name, ...) name,
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
  Identity,     // copy and cast
  Index,        // logical (row-major) index of the element
  RandUniform,  // [0, 1): 24 bits for float, 53 for double; element i uses block i/4 lane i%4 (double: i/2)
  RandNormal,   // standard normal by Box-Muller on the same blocks
  RandBits,     // 63 random bits as int64; element i uses block i/2
  Count
};
// 0, 1, 2 for the random instructions: which rnd::Draw of backends/random_bits.h they make.
constexpr int rand_kind(Opc op) { return int(op) - int(Opc::RandUniform); }

// Registers: inputs first, then constants, then one per instruction, in order.
struct Instr {
  Opc op;
  uint8_t src[3] = {0, 0, 0};
};

// Which numbers random instructions give: element i gets number first + i of (seed, offset).
struct RandomPlace {
  uint64_t seed = 0, offset = 0;
  // In a graph: two uint64 on its device, the seed of each replay and what `offset` counts from.
  const void* origin = nullptr;
  int64_t first = 0;
};

struct Program : RandomPlace {
  DType compute = DType::F32;  // F32, F64 or I64: the type of every register
  int n_inputs = 0;
  SmallVec<Scalar, 2> consts;
  SmallVec<Instr, 2> code;
  SmallVec<uint8_t, 1> outs;  // register of each output

  // Register number of the i-th constant / instruction.
  uint8_t const_reg(int i) const { return uint8_t(n_inputs + i); }
  uint8_t code_reg(int i) const { return uint8_t(n_inputs + consts.size() + i); }
};

// The type arithmetic is done in: float32 for the half types and float32, float64, int64 for integers and bool.
inline DType compute_type(DType t) { return t == DType::F64 ? DType::F64 : is_float(t) ? DType::F32 : DType::I64; }

// The bytes of a number in a compute type, kept in `room`.
inline const void* scalar_bytes(const Scalar& s, DType compute, uint64_t& room) {
  auto put = [&](auto v) { std::memcpy(&room, &v, sizeof v); };
  if (compute == DType::F32)
    put(float(s.d()));
  else if (compute == DType::F64)
    put(s.d());
  else
    put(s.i());
  return &room;
}

// Work of several primitives in one pass over rows, for the ops whose cost is memory traffic. Inputs and outputs are
// (rows, n); a stride of 0 along n marks one value per row, a stride of 0 along rows one row for all; weight and bias
// may be missing (no data).
enum class Fused : uint8_t {
  Softmax,         // x; arg 1: rows of only -inf give 0 -> exp(x - max) / sum
  LogSoftmax,      // x -> x - max - log(sum)
  LogSumExp,       // x -> one value per row
  SoftmaxGrad,     // y, g -> y (g - sum(g y))
  LogSoftmaxGrad,  // y, g -> g - exp(y) sum(g)
  ScaledExp,       // x, shift, scale (per row) -> exp(x - shift) scale
  Norm,            // x, weight, bias; arg eps -> (x - mean) / sqrt(var + eps) weight + bias, mean, var
  NormGrad,        // x, g, weight, mean, var; arg eps -> dx. RMS norm has no mean in all three: var is mean(x^2)
  NormWeights,     // x, g, mean, var; arg eps -> sums over rows of g (x - mean) / sqrt(var + eps), of g (no mean: none)
  Count
};

}  // namespace tg
