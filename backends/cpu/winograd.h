// Convolutions by 3 x 3 kernels in tiles of 2 x 2 results: S. Winograd's F(2x2, 3x3), in the form of A. Lavin and S.
// Gray, "Fast algorithms for convolutional neural networks" (CVPR 2016). With d a window of 4 x 4, g the kernel and *
// element by element, the results are A' [(G g G') * (B' d B)] A; summed over channels that is a product of matrices
// for each of the 16 elements, with 16 multiplications where the plain way has 36. d is only added and subtracted.
#pragma once
#include <cstdint>

namespace tg::cpu {

inline constexpr int kWinogradParts = 16;    // elements of a transformed tile
inline constexpr int kWinogradStretch = 16;  // most tiles transformed at once

// One row of tiles of one channel. `part` holds the tiles of each of the 16 elements, `apart` floats from one to the
// next; up to kWinogradStretch - 1 tiles more than there are may be written.
struct WinogradRow {
  const float* rows[4];  // of the image, or of the result (two): null is a row of zeros
  int64_t width;         // elements of a row, followed by zeros
  int64_t tiles;
  float* part;
  int64_t apart;
};

struct WinogradLoops {
  // part = B' d B of the windows in four rows of the image.
  void (*input)(const WinogradRow&) = nullptr;
  // part = A y A' of the tiles in two rows of a result's gradient.
  void (*grad)(const WinogradRow&) = nullptr;
  // y = A' part A: two rows of `width` results; the second may be null.
  void (*output)(const float* part, int64_t apart, int64_t tiles, float* y0, float* y1, int64_t width) = nullptr;
  // part = G g G' of n kernels of 9 floats that follow each other.
  void (*weight)(const float* w, int64_t n, float* part, int64_t apart) = nullptr;
  // And back: w = G' (the sum of `slices` of part) G.
  void (*weight_grad)(const float* part, int64_t apart, int64_t slices, int64_t slice, int64_t n, float* w) = nullptr;
};

}  // namespace tg::cpu
