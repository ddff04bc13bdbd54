// Stores past the caches: a line is not read before it is overwritten, and pushes nothing out. For results that the
// caches would hardly keep for whoever reads them next.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace tg::cpu {

inline constexpr int64_t kLineBytes = 64;
inline constexpr int64_t kStreamed = 32 << 20;  // bytes of a result from which on it is streamed
// Bytes that are computed, then streamed: few, so that the processor reads on while they leave. Of results of several
// operands as many bytes are read.
inline constexpr int64_t kStreamTile = 512;

#ifdef __SSE2__
inline constexpr bool kCanStream = true;
// `to` is aligned to a line.
inline void stream_line(void* to, const void* line) {
  for (int i = 0; i < 4; ++i)
    _mm_stream_si128(static_cast<__m128i*>(to) + i, _mm_loadu_si128(static_cast<const __m128i*>(line) + i));
}
// After the last line of a thread's part: others see it.
inline void stream_end() { _mm_sfence(); }
#else
inline constexpr bool kCanStream = false;
inline void stream_line(void* to, const void* line) { std::memcpy(to, line, kLineBytes); }
inline void stream_end() {}
#endif

// Whether a result that is written in stretches of so many bytes is streamed: most of their lines have to be whole.
inline bool streams_rows(int64_t bytes, int64_t row) {
  return kCanStream && bytes >= kStreamed && row >= 16 * kLineBytes;
}

// Whole lines past the caches, what lies before the first and after the last as usual. kAhead: bytes by which `from` is
// fetched ahead, for rows in an order that the processor cannot foresee.
template <int64_t kAhead = 0>
inline void stream_bytes(void* to, const void* from, int64_t n) {
  auto* d = static_cast<char*>(to);
  auto* s = static_cast<const char*>(from);
  const int64_t head = std::min<int64_t>(n, -reinterpret_cast<uintptr_t>(d) % kLineBytes);
  std::memcpy(d, s, size_t(head));
  int64_t i = head;
  for (; i + kLineBytes <= n; i += kLineBytes) {
    if constexpr (kAhead > 0) __builtin_prefetch(s + i + kAhead);
    stream_line(d + i, s + i);
  }
  std::memcpy(d + i, s + i, size_t(n - i));
}

}  // namespace tg::cpu
