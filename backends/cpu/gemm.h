// Own product kernels: what they read, and one product of them.
#pragma once
#include <cstdint>

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

// c = alpha a b + beta c with m x n floats of row length ldc; beta 0 never reads c. Every element is
// the sum over k in order, in stretches of kGemmDepth that are added up in c: its bits depend on neither m nor n, nor
// on which part of a larger product this is. `buffer`: gemm_buffer_bytes(m), 64-byte aligned.
struct GemmProduct {
  GemmOperand a, b;
  float* c = nullptr;
  int64_t ldc = 0, m = 0, n = 0, k = 0;
  float alpha = 1, beta = 0;
  float* buffer = nullptr;
};
using GemmLoop = void (*)(const GemmProduct&);

inline constexpr int64_t kGemmDepth = 256;   // summed at once: a panel of either side stays in the first-level cache
inline constexpr int64_t kGemmRows = 448;    // packed at once of the left operand: stays in the second-level cache
inline constexpr int64_t kGemmColumns = 32;  // widest panel of the right operand

// The packed rows, in panels of up to 6 padded to 8 (AVX2) or of up to 14 padded to 16 (AVX-512), and one panel of the
// right operand.
inline int64_t gemm_buffer_bytes(int64_t m) {
  const int64_t rows = m < kGemmRows ? m : kGemmRows;
  return 4 * kGemmDepth * ((rows / 6 + 4) * 8 + kGemmColumns);
}

// A product is cut into parts of m x n, mb by nb of them.
struct GemmGrid {
  int64_t m, n;
  int64_t mb, nb;
};
GemmGrid gemm_grid(int64_t m, int64_t n, int64_t k);

}  // namespace tg::cpu
