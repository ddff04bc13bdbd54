// CRC-32 as in zlib, PNG and gzip (ISO-HDLC: polynomial 0x04C11DB7 reflected).
#pragma once
#include <cstddef>
#include <cstdint>

namespace tg::io {

// Of n bytes; `before` continues the checksum of what came before them.
uint32_t crc32(const void* p, size_t n, uint32_t before = 0);

}  // namespace tg::io
