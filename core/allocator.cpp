#include "core/allocator.h"

#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/error.h"
#include "core/memory_log.h"

namespace tg {
namespace {

// Sizes are rounded to one of 4 steps per power of two (waste <= 25 %), blocks of a class are interchangeable.
constexpr size_t kMinBlock = 64;
constexpr int kClasses = 4 * 58;

int size_class(size_t n) {
  if (n <= kMinBlock) return 0;
  int p = std::bit_width(n - 1) - 1;    // 2^p <= n-1 < 2^(p+1)
  int q = int((n - 1) >> (p - 2)) & 3;  // quarter inside that octave
  return (p - 6) * 4 + q + 1;
}
size_t class_bytes(int c) {
  if (c == 0) return kMinBlock;
  int p = (c - 1) / 4 + 6, q = (c - 1) % 4;
  return (size_t(1) << p) + (size_t(q + 1) << (p - 2));
}
constexpr size_t kHugePage = size_t(2) << 20;  // of x86-64 and of ARM with 4 KiB pages

// aligned_alloc wants a multiple of the alignment. Large blocks ask for huge pages: fewer page faults, and strided
// walks that do not miss the address cache at every row.
void* system_alloc(int64_t size) {
  const size_t unit = size_t(size) >= 2 * kHugePage ? kHugePage : kMinBlock;
  const size_t bytes = (size_t(size) + unit - 1) & ~(unit - 1);
  void* p = std::aligned_alloc(unit, bytes);
#ifdef MADV_HUGEPAGE
  if (p && unit == kHugePage) madvise(p, bytes, MADV_HUGEPAGE);  // a wish; what it returns changes nothing
#endif
  return p;
}

class CachingAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    if (bytes == 0) return nullptr;
    allocations_.fetch_add(1, std::memory_order_relaxed);
    TG_CHECK(!injected_failure(), OutOfMemoryError, "out of memory (injected): tried to allocate ", bytes, " bytes");
    TG_CHECK(bytes < (size_t(1) << 60), OutOfMemoryError, "out of memory: tried to allocate ", bytes, " bytes");
    int c = size_class(bytes);
    int64_t size = int64_t(class_bytes(c));
    int64_t live = live_.fetch_add(size, std::memory_order_relaxed) + size;
    int64_t limit = limit_.load(std::memory_order_relaxed);
    if (TG_UNLIKELY(limit > 0 && live > limit)) refuse(bytes, size);
    void* p = take(c);
    if (!p) p = system_alloc(size);
    if (TG_UNLIKELY(!p)) {
      release_cached();
      p = system_alloc(size);
      if (!p) refuse(bytes, size);
    }
    int64_t peak = peak_.load(std::memory_order_relaxed);
    while (live > peak && !peak_.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
    }
    return p;
  }

  void deallocate(void* p, size_t bytes) override {
    if (!p) return;
    int c = size_class(bytes);
    int64_t size = int64_t(class_bytes(c));
    live_.fetch_sub(size, std::memory_order_relaxed);
    std::lock_guard lock(mutex_);
    --used_[c];
    // Past the peak of what was ever live at once, caching more cannot help.
    if (cached_.load(std::memory_order_relaxed) + size > std::max<int64_t>(peak_.load(), 1 << 20)) {
      std::free(p);
      return;
    }
    cached_.fetch_add(size, std::memory_order_relaxed);
    *static_cast<void**>(p) = free_[c];
    free_[c] = p;
  }

  MemoryStats stats() const override { return {live_.load(), cached_.load(), peak_.load(), allocations_.load()}; }
  void reset_peak() override { peak_.store(live_.load()); }
  void set_limit(int64_t bytes) override { limit_.store(bytes); }
  void fail_at(int64_t i) override { fail_in_.store(i); }

  void release_cached() override {
    std::lock_guard lock(mutex_);
    for (void*& head : free_)
      while (head) {
        void* next = *static_cast<void**>(head);
        std::free(head);
        head = next;
      }
    cached_.store(0);
  }

 private:
  void* take(int c) {
    std::lock_guard lock(mutex_);
    ++used_[c];
    void* p = free_[c];
    if (!p) return nullptr;
    free_[c] = *static_cast<void**>(p);
    cached_.fetch_sub(int64_t(class_bytes(c)), std::memory_order_relaxed);
    return p;
  }

  bool injected_failure() {
    if (TG_LIKELY(fail_in_.load(std::memory_order_relaxed) == 0)) return false;
    int64_t left = fail_in_.fetch_sub(1);
    if (left < 1) fail_in_.store(0);
    return left == 1;
  }

  [[noreturn]] void refuse(size_t asked, int64_t size) {
    live_.fetch_sub(size);
    std::vector<std::pair<int64_t, int64_t>> blocks;
    {
      std::lock_guard lock(mutex_);
      for (int c = kClasses; c-- > 0;)
        if (used_[c] > 0) blocks.push_back({int64_t(class_bytes(c)), used_[c]});
    }
    out_of_memory(Device(), asked, stats(), limit_.load(), blocks);
  }

  std::mutex mutex_;
  void* free_[kClasses] = {};
  int64_t used_[kClasses] = {};  // blocks handed out, for the text of an error
  std::atomic<int64_t> live_{0}, cached_{0}, peak_{0}, allocations_{0}, limit_{0}, fail_in_{0};
};

}  // namespace

Allocator& allocator(Device d) {
  // Never destroyed: tensors in static or Python objects may outlive every other static.
  static CachingAllocator* cpu = new CachingAllocator;
  TG_CHECK(d.is_cpu(), DeviceError, "device ", d, " is not available: this build has no CUDA backend");
  return *cpu;
}

}  // namespace tg
