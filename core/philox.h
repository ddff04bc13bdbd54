// The counter-based generator: no state, so any element of a stream can be made alone. Kernels compiled at run time
// contain this text (backends/rtc).
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Philox4x32-10.
#pragma once
#include <array>
#include <cstdint>

#include "core/device_code.h"

namespace tg {

// Ten rounds of Philox over a 128-bit counter (block, offset) with a 64-bit key.
TG_HD inline std::array<uint32_t, 4> philox(uint64_t key, uint64_t offset, uint64_t block) {
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(offset), c3 = uint32_t(offset >> 32);
  for (int r = 0; r < 10; ++r) {
    uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c1 = uint32_t(p1);
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

}  // namespace tg
