#include "backends/cuda/late_error.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "backends/cuda/check.h"
#include "core/error.h"

namespace tg::cuda {
namespace {

constexpr size_t kPlaces = 4096;

struct Places {
  std::mutex mutex;
  int64_t* memory = nullptr;
  std::vector<std::string> texts;
  std::atomic<size_t> used = 0;
};
Places& places() {
  static auto* p = new Places;
  return *p;
}

}  // namespace

int64_t* late_error_place(const std::string& text) {
  Places& p = places();
  std::lock_guard lock(p.mutex);
  auto at = std::find(p.texts.begin(), p.texts.end(), text);
  if (at != p.texts.end()) return p.memory + (at - p.texts.begin());
  TG_CHECK(p.texts.size() < kPlaces, NotImplementedError, "graphs can check indices of ", kPlaces,
           " kinds in one process; this would be one more: ", text);
  if (!p.memory) {
    void* made = nullptr;  // with one address for all, as is every such memory on 64 bits
    check(cudaHostAlloc(&made, kPlaces * sizeof(int64_t), cudaHostAllocPortable), "cudaHostAlloc");
    p.memory = static_cast<int64_t*>(made);
    std::fill(p.memory, p.memory + kPlaces, kNothingNoted);
  }
  p.texts.push_back(text);
  p.used = p.texts.size();
  return p.memory + p.texts.size() - 1;
}

void raise_late_error() {
  Places& p = places();
  for (size_t i = 0; i < p.used.load(std::memory_order_acquire); ++i) {
    std::atomic_ref<int64_t> place(p.memory[i]);
    const int64_t value = place.load(std::memory_order_relaxed);
    if (value == kNothingNoted) continue;
    place.store(kNothingNoted, std::memory_order_relaxed);
    std::string text;
    {
      std::lock_guard lock(p.mutex);
      text = p.texts[i];
    }
    fail<IndexError>(text, ", found ", value, " in the replay of a graph");
  }
}

}  // namespace tg::cuda
