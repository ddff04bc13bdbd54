#include "core/caching_allocator.h"

#include <new>

#include "core/error.h"
#include "core/memory_log.h"
#include "core/size_class.h"

namespace tg {
size_t CachingAllocator::block_size(size_t bytes) const { return caches() ? class_bytes(size_class(bytes)) : bytes; }

void* CachingAllocator::allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  allocations_.fetch_add(1, std::memory_order_relaxed);
  TG_CHECK(!injected_failure(), OutOfMemoryError, "out of memory (injected): tried to allocate ", bytes, " bytes");
  TG_CHECK(bytes < (size_t(1) << 60), OutOfMemoryError, "out of memory: tried to allocate ", bytes, " bytes");
  int64_t size = int64_t(block_size(bytes));
  int64_t live = live_.fetch_add(size, std::memory_order_relaxed) + size;
  int64_t limit = limit_.load(std::memory_order_relaxed);
  if (TG_UNLIKELY(limit > 0 && live > limit)) refuse(bytes, size);
  void* p = caches() ? take(size_class(bytes), order()) : nullptr;
  if (!p) p = raw_allocate(size_t(size));
  if (TG_UNLIKELY(!p)) {
    release_cached();
    p = raw_allocate(size_t(size));
    if (!p) refuse(bytes, size);
  }
  int64_t peak = peak_.load(std::memory_order_relaxed);
  while (live > peak && !peak_.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
  return p;
}

void CachingAllocator::deallocate(void* p, size_t bytes) {
  if (!p) return;
  int64_t size = int64_t(block_size(bytes));
  live_.fetch_sub(size, std::memory_order_relaxed);
  if (!caches()) return raw_free(p);
  {
    std::lock_guard lock(mutex_);
    // Past the peak of what was ever live at once, caching more cannot help.
    if (cached_.load(std::memory_order_relaxed) + size <= std::max<int64_t>(peak_.load(), 1 << 20)) {
      try {
        pool(order()).free[size_class(bytes)].push_back(p);
        cached_.fetch_add(size, std::memory_order_relaxed);
        return;
      } catch (const std::bad_alloc&) {  // no room to remember the block: give it back
      }
    }
  }
  raw_free(p);
}

MemoryStats CachingAllocator::stats() const {
  return {live_.load(), cached_.load(), peak_.load(), allocations_.load()};
}

void CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  for (auto& [order, p] : pools_)
    for (auto& list : p.free) {
      for (void* block : list) raw_free(block);
      list.clear();
    }
  cached_.store(0);
}

CachingAllocator::Pool& CachingAllocator::pool(uint64_t order) {
  if (TG_UNLIKELY(!last_pool_ || order != last_order_)) {
    last_pool_ = &pools_[order];
    last_order_ = order;
  }
  return *last_pool_;
}

void* CachingAllocator::take(int c, uint64_t order) {
  std::lock_guard lock(mutex_);
  auto& list = pool(order).free[c];
  if (list.empty()) return nullptr;
  void* p = list.back();
  list.pop_back();
  cached_.fetch_sub(int64_t(class_bytes(c)), std::memory_order_relaxed);
  return p;
}

bool CachingAllocator::injected_failure() {
  if (TG_LIKELY(fail_in_.load(std::memory_order_relaxed) == 0)) return false;
  int64_t left = fail_in_.fetch_sub(1);
  if (left < 1) fail_in_.store(0);
  return left == 1;
}

void CachingAllocator::refuse(size_t asked, int64_t size) {
  live_.fetch_sub(size);
  out_of_memory(device_, asked, stats(), limit_.load(), {}, memory_note());
}

}  // namespace tg
