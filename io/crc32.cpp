#include "io/crc32.h"

#include <array>
#include <cstring>

namespace tg::io {
namespace {

// kCrc[k][b]: the checksum of byte b followed by k zero bytes, so that eight bytes take eight independent look-ups.
constexpr auto kCrc = [] {
  std::array<std::array<uint32_t, 256>, 8> t{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t c = b;
    for (int i = 0; i < 8; ++i) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    t[0][b] = c;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t b = 0; b < 256; ++b) t[k][b] = t[0][t[k - 1][b] & 255] ^ (t[k - 1][b] >> 8);
  return t;
}();

}  // namespace

uint32_t crc32(const void* data, size_t n, uint32_t before) {
  auto* p = static_cast<const unsigned char*>(data);
  uint32_t c = ~before;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    v ^= c;
    c = 0;
    for (size_t k = 0; k < 8; ++k) c ^= kCrc[7 - k][v >> (8 * k) & 255];
  }
  for (; n > 0; --n, ++p) c = kCrc[0][(c ^ *p) & 255] ^ (c >> 8);
  return ~c;
}

}  // namespace tg::io
