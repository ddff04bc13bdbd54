// One file per image: a line "tg-kernel 1 KEYSIZE IMAGESIZE", key, image, and the hash of all that.
#include "backends/rtc/cache.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/file.h"

namespace tg::rtc {
namespace {

constexpr size_t kHeader = 64;  // the first line, padded with spaces

// FNV-1a, 64 bits.
uint64_t hash_of(const void* data, size_t n, uint64_t h = 0xcbf29ce484222325ull) {
  for (size_t i = 0; i < n; ++i) h = (h ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3ull;
  return h;
}

std::string header_of(size_t key, size_t image) {
  char line[kHeader + 1];
  std::snprintf(line, sizeof line, "tg-kernel 1 %zu %zu", key, image);
  std::string s = line;
  s.resize(kHeader - 1, ' ');
  return s + '\n';
}

std::optional<std::string> parse(const std::string& file, const std::string& key) {
  size_t n_key = 0, n_image = 0;
  if (file.size() < kHeader + sizeof(uint64_t)) return {};
  if (std::sscanf(file.c_str(), "tg-kernel 1 %zu %zu", &n_key, &n_image) != 2) return {};
  const size_t body = file.size() - sizeof(uint64_t);
  if (n_key != key.size() || n_image != body - kHeader - n_key || body < kHeader + n_key) return {};
  uint64_t stored;
  std::memcpy(&stored, file.data() + body, sizeof stored);
  if (stored != hash_of(file.data(), body) || file.compare(kHeader, n_key, key) != 0) return {};
  return file.substr(kHeader + n_key, n_image);
}

}  // namespace

std::string cache_folder() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg && xdg[0] == '/') return std::string(xdg) + "/tinygrad_cpp/kernels";
  const char* home = std::getenv("HOME");
  return home && home[0] == '/' ? std::string(home) + "/.cache/tinygrad_cpp/kernels" : std::string();
}

std::string cache_path(const std::string& key) {
  char name[40];
  std::snprintf(name, sizeof name, "/%016llx.kernel", static_cast<unsigned long long>(hash_of(key.data(), key.size())));
  return cache_folder() + name;
}

std::optional<std::string> cache_get(const std::string& key) {
  if (cache_folder().empty()) return {};
  try {
    return parse(io::read_file(cache_path(key)), key);
  } catch (const IoError&) {
    return {};
  }
}

void cache_put(const std::string& key, const std::string& image) {
  if (cache_folder().empty()) return;
  const std::string header = header_of(key.size(), image.size());
  uint64_t hash = hash_of(header.data(), header.size());
  hash = hash_of(key.data(), key.size(), hash);
  hash = hash_of(image.data(), image.size(), hash);
  try {
    io::make_folders(cache_folder());
    io::write_file(
        cache_path(key),
        {{header.data(), header.size()}, {key.data(), key.size()}, {image.data(), image.size()}, {&hash, sizeof hash}});
  } catch (const IoError&) {
  }
}

}  // namespace tg::rtc
