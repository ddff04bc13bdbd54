#include "backends/backend.h"

#include <atomic>

#include "backends/cuda.h"

namespace tg {

void Backend::bound_index(const View&, int64_t, int64_t, const View&, const std::string& text) {
  fail<NotImplementedError>(text, ": ", name(), " records no graphs");
}

namespace {
std::atomic<bool> g_use_ref{false};
}

Backend& backend(Device d) {
  if (TG_UNLIKELY(!d.is_cpu())) return cuda::backend(d);
  TG_CHECK(d.index == 0, DeviceError, "backend: device ", d, " is not available");
  return g_use_ref.load(std::memory_order_relaxed) ? ref_backend() : cpu_backend();
}

void use_ref_backend(bool on) { g_use_ref.store(on, std::memory_order_relaxed); }
bool using_ref_backend() { return g_use_ref.load(std::memory_order_relaxed); }

}  // namespace tg
