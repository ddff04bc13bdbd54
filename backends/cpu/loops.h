// The vector loops of one instruction set, as a table. The files *.isa.cpp are compiled once per instruction set and
// each fills one table; which one runs is decided once, at run time.
#pragma once
#include <cstdint>
#include <string_view>

#include "backends/cpu/gemm.h"
#include "backends/cpu/winograd.h"
#include "backends/program.h"

namespace tg::cpu {

// Index of a compute type in the tables below.
enum class Num : uint8_t { F, D, I };
inline Num num_of(DType compute) { return compute == DType::F32 ? Num::F : compute == DType::F64 ? Num::D : Num::I; }
inline constexpr DType kNumType[] = {DType::F32, DType::F64, DType::I64};  // and back

// Elements of one tile: the registers of a program are tiles of this size, so that they stay in the first-level cache.
inline constexpr int64_t kTile = 1024;

// out[i] = f(a[i], b[i], c[i]) for i in [0, n). `out` may be the very same pointer as an operand; otherwise nothing
// overlaps. Scalars are spread over a tile by the caller: one loop per op and type is enough.
using MapLoop = void (*)(const void* a, const void* b, const void* c, void* out, int64_t n);
// dst[i] = src[i * stride], converted from a dtype to a compute type.
using LoadLoop = void (*)(const void* src, int64_t stride, void* dst, int64_t n);
// dst[i * stride] = src[i], converted from a compute type to a dtype.
using StoreLoop = void (*)(const void* src, void* dst, int64_t stride, int64_t n);
// dst[i] = element number `first + i` of the random stream (seed, offset).
using RandLoop = void (*)(uint64_t seed, uint64_t offset, int64_t first, void* dst, int64_t n);

// Reductions accumulate in double (float and double) or int64: every accumulator is one 8-byte value.
enum class Red : uint8_t { Sum, Prod, Max, Min, Any, All };
inline constexpr int kRedOps = 6;
inline constexpr int kFusedKernels = int(Fused::Count);
// Rows of at most this many elements are summed lane by lane before their sums are combined as a tree.
inline constexpr int64_t kRedChunk = 4096;
// *acc = op(*acc, src[0], ..., src[n - 1]) over fixed lanes; src is contiguous, n at most kRedChunk.
using RowLoop = void (*)(const void* src, int64_t n, void* acc);
// acc[j] = op(acc[j], src[j], src[j + stride], ...) over `rows` rows.
using ColLoop = void (*)(const void* src, int64_t stride, int64_t rows, void* acc, int64_t width);
// acc[j] = op(acc[j], other[j])
using MergeLoop = void (*)(const void* other, void* acc, int64_t n);

// One row of a fused kernel: float inputs and outputs, contiguous or a single value as backend.h says. A missing
// weight or bias is null.
using FusedRow = void (*)(const float* const* ins, float* const* outs, int64_t n, double arg);

// Widens [*low, *high] to hold n indices.
using RangeLoop = void (*)(const int64_t* index, int64_t n, int64_t* low, int64_t* high);

// Where x[r * stride + i] beats best[i], it takes its place and number + r that of at[i]; one row after the other.
using SearchLoop = void (*)(const void* x, int64_t stride, int64_t rows, int64_t number, void* best, int64_t* at,
                            int64_t n);
// The first i with x[i] == *value, or with both NaN; n if there is none.
using FindLoop = int64_t (*)(const void* x, const void* value, int64_t n);
// Running values of n lines side by side, row by row: y[r * y_stride + i] = acc[i] = op(acc[i], x[r * x_stride + i]).
using ScanLoop = void (*)(const void* x, int64_t x_stride, void* y, int64_t y_stride, int64_t rows, void* acc,
                          int64_t n);

// Running sums or products of `count` lines of n floats, each along its own memory: line k at x + k * x_line.
// `streams`: past the caches; each line of y then begins with a line of the cache.
struct LineScans {
  using Loop = void (*)(const float* x, int64_t x_line, float* y, int64_t y_line, int64_t n, bool streams);
  int64_t count = 0;  // 0: there are none
  Loop sum = nullptr, product = nullptr;
};

struct Loops {
  const char* isa = "";
  MapLoop map[3][int(Opc::Count)] = {};  // null where the rule of the row excludes the type
  RandLoop rand[3][3] = {};              // RandUniform, RandNormal, RandBits
  LoadLoop load[kNumDTypes][3] = {};
  StoreLoop store[3][kNumDTypes] = {};
  RowLoop row[kRedOps][3] = {};
  ColLoop col[kRedOps][3] = {};
  MergeLoop merge[kRedOps][3] = {};
  FusedRow fused[kFusedKernels] = {};
  // Operands as in backends/recurrent.h, what is only read first; n is the number of hidden units.
  FusedRow lstm_step = nullptr, lstm_step_grad = nullptr;
  RangeLoop range = nullptr;
  SearchLoop search[2][3] = {};  // for the smallest, the largest
  FindLoop find[3] = {};
  ScanLoop scan_sum[3] = {}, scan_prod[3] = {};
  // The same of floats, past the caches: rows of y begin with lines of the cache, n is whole lines. Null: there are
  // none.
  ScanLoop stream_sum = nullptr, stream_prod = nullptr;
  LineScans lines;
  GemmLoop gemm = nullptr;       // null: the BLAS does it
  GemmPack gemm_pack = nullptr;  // null where gemm is
  WinogradLoops winograd;        // null where gemm is
  GemmLoop gemm_bf16 = nullptr;  // both operands bfloat16, by dot products of pairs; null: `gemm` converts
};

// The table of this machine, or of TG_CPU_ISA=base|avx2|avx512, which may only name a smaller instruction set.
TG_API const Loops& loops();
// The table of base, avx2 or avx512; null where this machine or build has none.
TG_API const Loops* loops_of(std::string_view isa);

#define TG_ISA_TABLE(isa)       \
  namespace isa {               \
  const Loops& table();         \
  void fill_map_f32(Loops& t);  \
  void fill_map_f64(Loops& t);  \
  void fill_map_i64(Loops& t);  \
  void fill_convert(Loops& t);  \
  void fill_reduce(Loops& t);   \
  void fill_fused(Loops& t);    \
  void fill_index(Loops& t);    \
  void fill_gemm(Loops& t);     \
  void fill_winograd(Loops& t); \
  }
TG_ISA_TABLE(base)
#ifndef TG_ISA_BASE_ONLY
TG_ISA_TABLE(avx2)
TG_ISA_TABLE(avx512)
#endif
#undef TG_ISA_TABLE

}  // namespace tg::cpu
