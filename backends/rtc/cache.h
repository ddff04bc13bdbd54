// Compiled kernels on disk, so that each is compiled once per machine.
#pragma once
#include <optional>
#include <string>

#include "core/error.h"

namespace tg::rtc {

// Where they lie: $XDG_CACHE_HOME/tinygrad_cpp/kernels, or the same under ~/.cache; "" if neither is set.
TG_API std::string cache_folder();

// What was kept under `key`, which is the whole text that the image was made of. Nothing if there is no such entry, or
// if the file is damaged or belongs to another key with the same hash.
TG_API std::optional<std::string> cache_get(const std::string& key);
// Keeps an image. Never fails: a cache that cannot be written is none.
TG_API void cache_put(const std::string& key, const std::string& image);
// The file of a key, for tests.
TG_API std::string cache_path(const std::string& key);

}  // namespace tg::rtc
