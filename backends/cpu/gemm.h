// Own product kernels: what they read, and one product of them.
#pragma once
#include <cstdint>

#include "core/api.h"
#include "core/dtype.h"

namespace tg::cpu {

// The columns of a convolution, read from the padded image itself: the element of tap t at point p is
// data[tap[t] + row[p / inner] + p % inner * step].
struct Windows {
  const int64_t* tap;  // offset of each tap of the kernel, channels included
  const int64_t* row;  // offset of the first point of each row of points
  int64_t inner;       // points per row
  int64_t step;        // distance of neighbours within a row
};

// What the calling thread packs into, 64-byte aligned. It keeps this until it ends: small products of two threads would
// otherwise wait for each other in the allocator.
TG_API float* gemm_buffer();
// At least so many floats, up to kGemmKept, for panels that are used again: of one thread and 64-byte aligned as well,
// and kept as the buffer is.
float* gemm_panels(int64_t floats);

// An operand as the kernel sees it: element (k, w), where k runs along the summed axis and w along rows of the left or
// columns of the right operand. Types are float32 or a half type.
struct GemmOperand {
  const void* data = nullptr;
  DType dtype = DType::F32;
  int64_t k_stride = 0, w_stride = 0;
  const Windows* windows = nullptr;  // instead of the strides
  bool taps_along_k = true;          // else points run along k
  int64_t w0 = 0;                    // of windows: where w begins
};

// c = alpha (a b + bias) + beta c with m x n floats of row length ldc; beta 0 never reads c. Every element is
// the sum over k in order, in stretches of kGemmDepth that are added up in c: its bits depend on neither m nor n, nor
// on which part of a larger product this is.
struct GemmProduct {
  GemmOperand a = {}, b = {};
  float* c = nullptr;
  int64_t ldc = 0, m = 0, n = 0, k = 0;
  float alpha = 1, beta = 0;
  float* buffer = gemm_buffer();
  float* packed = nullptr;      // where GemmPack has put b, from the first column on
  const float* bias = nullptr;  // one for each column, if there is one
};
using GemmLoop = void (*)(const GemmProduct&);

// Packs columns [begin, end) of n, of which `begin` is a multiple of kGemmColumns, for products whose left operand is
// float: column i of b, and all k of its panel, from to + i * k on.
using GemmPack = void (*)(const GemmOperand& b, int64_t k, int64_t begin, int64_t end, float* to);

inline constexpr int64_t kGemmDepth = 256;     // summed at once: a panel of either side stays in the first-level cache
inline constexpr int64_t kGemmRows = 448;      // packed at once of the left operand: stays in the second-level cache
inline constexpr int64_t kGemmColumns = 32;    // widest panel of the right operand
inline constexpr int64_t kGemmKept = 2 << 20;  // floats of the right operand that a part packs once for all its rows

// A product is cut into parts of m x n, mb by nb of them; `count` products of the size are made at once.
struct GemmGrid {
  int64_t m, n;
  int64_t mb, nb;
};
GemmGrid gemm_grid(int64_t m, int64_t n, int64_t k, int64_t count);

}  // namespace tg::cpu
