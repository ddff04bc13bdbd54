#include "backends/ref/ref.h"

#include <cstring>

namespace tg {

void ref::RefBackend::copy_bytes(void* dst, const void* src, size_t n) {
  if (n > 0) std::memcpy(dst, src, n);
}

Backend& ref_backend() {
  static ref::RefBackend backend;
  return backend;
}

}  // namespace tg
