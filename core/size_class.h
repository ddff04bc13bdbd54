// Sizes of blocks that allocators keep for reuse: rounded to one of 4 steps per power of two (waste <= 25 %); blocks of
// a class are interchangeable.
#pragma once
#include <bit>
#include <cstddef>

namespace tg {

inline constexpr size_t kMinBlock = 64;
inline constexpr int kSizeClasses = 4 * 58;

inline int size_class(size_t n) {
  if (n <= kMinBlock) return 0;
  int p = std::bit_width(n - 1) - 1;    // 2^p <= n-1 < 2^(p+1)
  int q = int((n - 1) >> (p - 2)) & 3;  // quarter inside that octave
  return (p - 6) * 4 + q + 1;
}
inline size_t class_bytes(int c) {
  if (c == 0) return kMinBlock;
  int p = (c - 1) / 4 + 6, q = (c - 1) % 4;
  return (size_t(1) << p) + (size_t(q + 1) << (p - 2));
}

}  // namespace tg
