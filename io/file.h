// Files, read whole and written atomically. Every file operation of the framework goes through here.
#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "core/api.h"

namespace tg::io {

// The whole file; IoError naming path and reason. Files above `limit` bytes are refused before reading.
TG_API std::string read_file(const std::string& path, size_t limit = size_t(1) << 40);

// Writes the pieces one after another: to a temporary file beside `path`, flushed to disk, then renamed over it, so
// that a reader (or a crash) sees the old file or the new one, never a mixture. IoError; the old file stays on failure.
TG_API void write_file(const std::string& path, const std::vector<std::pair<const void*, size_t>>& pieces);

}  // namespace tg::io
