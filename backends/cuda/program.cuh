// Programs on the device: interpreted, one switch per instruction.
#pragma once
#include "backends/cuda/device.h"
#include "backends/cuda/walk.cuh"
#include "backends/random_bits.h"
#include "backends/scalar_math.h"

namespace tg::cuda {

inline constexpr int kMaxCode = 160, kMaxConsts = 48;

// A program as a kernel's argument.
struct DeviceProgram {
  int n_inputs = 0, n_consts = 0, n_code = 0, n_outs = 0;
  uint64_t seed = 0, offset = 0;  // see RandomPlace
  const uint64_t* origin = nullptr;
  int64_t first = 0;
  double number[kMaxConsts];
  int64_t integer[kMaxConsts];
  Instr code[kMaxCode];
  uint8_t outs[plan::kMaxViews];

  DeviceProgram() = default;
  explicit DeviceProgram(const Program& p) {
    TG_CHECK(p.code.size() <= kMaxCode && p.consts.size() <= kMaxConsts, ValueError, "cuda: a program has at most ",
             kMaxCode, " instructions and ", kMaxConsts, " numbers, got ", p.code.size(), " and ", p.consts.size());
    n_inputs = p.n_inputs;
    n_consts = p.consts.size();
    n_code = p.code.size();
    n_outs = p.outs.size();
    seed = p.seed;
    offset = p.offset;
    origin = static_cast<const uint64_t*>(p.origin);
    first = p.first;
    for (int i = 0; i < n_consts; ++i) number[i] = p.consts[i].d(), integer[i] = p.consts[i].i();
    for (int i = 0; i < n_code; ++i) code[i] = p.code[i];
    for (int i = 0; i < n_outs; ++i) outs[i] = p.outs[i];
  }
  int registers() const { return n_inputs + n_consts + n_code; }
};

// Not inlined: the switch over all rows is compiled once per type and file.
template <class T>
__device__ TG_NOINLINE T apply_row(Opc op, T a, [[maybe_unused]] T b, [[maybe_unused]] T c) {
  switch (op) {
#define TG_ROW(name, rule, expr)                   \
  case Opc::name:                                  \
    if constexpr (sm::rule_has<T>(sm::Rule::rule)) \
      return expr;                                 \
    else                                           \
      return T(0);
#define TG_P1(name, rule, flags, autocast, expr, ...) TG_ROW(name, rule, expr)
#define TG_P2(name, params, rule, flags, autocast, expr, ...) TG_ROW(name, rule, expr)
#define TG_P3(name, params, rule, flags, autocast, expr, ...) TG_ROW(name, rule, expr)
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
#undef TG_ROW
    default:
      return a;  // Identity
  }
}

// Runs p on one element: `regs` starts with the inputs; `index` is the element's logical index.
template <class T>
__device__ void run_program(const DeviceProgram& p, T* regs, int64_t index) {
  T* next = regs + p.n_inputs;
  for (int k = 0; k < p.n_consts; ++k) *next++ = std::is_integral_v<T> ? T(p.integer[k]) : T(p.number[k]);
  for (int k = 0; k < p.n_code; ++k) {
    const Instr in = p.code[k];
    if (in.op == Opc::Index)
      *next++ = T(index);
    else if (in.op > Opc::Index)
      *next++ = rnd::element<T>(rnd::Draw(rand_kind(in.op)), p.origin ? p.origin[0] : p.seed,
                                p.origin ? p.origin[1] + p.offset : p.offset, p.first + index);
    else
      *next++ = apply_row<T>(in.op, regs[in.src[0]], regs[in.src[1]], regs[in.src[2]]);
  }
}

// Views of any type; the last view of the walk beside them has no memory: its offset is the logical index.
struct AnyViews {
  void* data[plan::kMaxViews];
  DType dtype[plan::kMaxViews];
};

// ValueError if T has no such row, before anything is launched.
void check_rows(const Program& p);

}  // namespace tg::cuda
