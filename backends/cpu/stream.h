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

constexpr int64_t kLine = 64;
constexpr int64_t kStreamed = 32 << 20;  // bytes of a result from which on it is streamed

#ifdef __SSE2__
constexpr bool kCanStream = true;
// `to` is aligned to a line.
inline void stream_line(void* to, const void* line) {
  for (int i = 0; i < 4; ++i)
    _mm_stream_si128(static_cast<__m128i*>(to) + i, _mm_loadu_si128(static_cast<const __m128i*>(line) + i));
}
// After the last line of a thread's part: others see it.
inline void stream_end() { _mm_sfence(); }
#else
constexpr bool kCanStream = false;
inline void stream_line(void* to, const void* line) { std::memcpy(to, line, kLine); }
inline void stream_end() {}
#endif

// Whole lines past the caches, what lies before the first and after the last as usual.
inline void stream_bytes(void* to, const void* from, int64_t n) {
  auto* d = static_cast<char*>(to);
  auto* s = static_cast<const char*>(from);
  const int64_t head = std::min<int64_t>(n, -reinterpret_cast<uintptr_t>(d) % kLine);
  std::memcpy(d, s, size_t(head));
  int64_t i = head;
  for (; i + kLine <= n; i += kLine) stream_line(d + i, s + i);
  std::memcpy(d + i, s + i, size_t(n - i));
}

}  // namespace tg::cpu
