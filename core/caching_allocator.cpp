#include "core/caching_allocator.h"

#include <algorithm>
#include <new>

#include "core/error.h"
#include "core/memory_log.h"
#include "core/size_class.h"

namespace tg {

namespace {

void raise_to(std::atomic<int64_t>& peak, int64_t value) {
  int64_t seen = peak.load(std::memory_order_relaxed);
  while (value > seen && !peak.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

}  // namespace

size_t CachingAllocator::block_size(size_t bytes, uint64_t order) const {
  return keeps(order) ? class_bytes(size_class(bytes)) : bytes;
}

void* CachingAllocator::allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  allocations_.fetch_add(1, std::memory_order_relaxed);
  TG_CHECK(!injected_failure(), OutOfMemoryError, "out of memory (injected): tried to allocate ", bytes, " bytes");
  TG_CHECK(bytes < (size_t(1) << 60), OutOfMemoryError, "out of memory: tried to allocate ", bytes, " bytes");
  const uint64_t at = order();
  int64_t size = int64_t(block_size(bytes, at));
  int64_t live = live_.fetch_add(size, std::memory_order_relaxed) + size;
  int64_t limit = limit_.load(std::memory_order_relaxed);
  if (TG_UNLIKELY(limit > 0 && live > limit)) refuse(bytes, size);
  if (TG_UNLIKELY(n_waiting_.load(std::memory_order_relaxed) > 0)) settle(false);
  void* p = keeps(at) ? take(size_class(bytes), at) : nullptr;
  if (!p) p = take_from_device(size);
  if (TG_UNLIKELY(!p)) {
    retries_.fetch_add(1, std::memory_order_relaxed);
    settle(true);
    release_cached();
    p = take_from_device(size);
    if (!p) refuse(bytes, size);
  }
  if (TG_UNLIKELY(at != 0)) note_order(p, bytes, at);
  count_used(bytes, 1);
  raise_to(peak_, live);
  raise_to(active_peak_, active_.fetch_add(size, std::memory_order_relaxed) + size);
  allocated_.fetch_add(size, std::memory_order_relaxed);
  return p;
}

void* CachingAllocator::take_from_device(int64_t size) {
  const int64_t limit = limit_.load(std::memory_order_relaxed);
  const int64_t reserved = reserved_.fetch_add(size, std::memory_order_relaxed) + size;
  void* p = nullptr;
  try {
    if (limit <= 0 || reserved <= limit) p = raw_allocate(size_t(size));
  } catch (...) {
    reserved_.fetch_sub(size, std::memory_order_relaxed);
    throw;
  }
  if (p)
    raise_to(reserved_peak_, reserved);
  else
    reserved_.fetch_sub(size, std::memory_order_relaxed);
  return p;
}

void CachingAllocator::return_to_device(void* p, int64_t size, uint64_t order) {
  raw_free(p, order);
  reserved_.fetch_sub(size, std::memory_order_relaxed);
}

void CachingAllocator::note_order(void* p, size_t bytes, uint64_t order) {
  try {
    std::lock_guard lock(mutex_);
    apart_[p].order = order;
    ++n_apart_;
  } catch (const std::bad_alloc&) {  // without a note the block would be handed out in the wrong order
    const int64_t size = int64_t(block_size(bytes, order));
    return_to_device(p, size, order);
    refuse(bytes, size);
  }
}

void CachingAllocator::record_use(const void* p, uint64_t order) {
  std::lock_guard lock(mutex_);
  auto [it, added] = apart_.try_emplace(p);
  if (added) ++n_apart_;
  auto& users = it->second.users;
  if (order != it->second.order && std::find(users.begin(), users.end(), order) == users.end()) users.push_back(order);
}

CachingAllocator::Block CachingAllocator::forget(void* p) {
  if (TG_LIKELY(n_apart_.load(std::memory_order_relaxed) == 0)) return {};
  std::lock_guard lock(mutex_);
  auto it = apart_.find(p);
  if (it == apart_.end()) return {};
  Block b = std::move(it->second);
  apart_.erase(it);
  --n_apart_;
  return b;
}

void CachingAllocator::deallocate(void* p, size_t bytes) {
  if (!p) return;
  const Block block = forget(p);
  count_used(bytes, -1);
  live_.fetch_sub(int64_t(block_size(bytes, block.order)), std::memory_order_relaxed);
  if (block.users.empty() || !wait_for_users(p, bytes, block)) give_back(p, bytes, block.order);
}

// Puts a block where settle() finds it; false if nothing has to be waited for any more.
bool CachingAllocator::wait_for_users(void* p, size_t bytes, const Block& block) {
  const auto repeats = [this](uint64_t order) { return (order & kPrivate) && !ended(order); };
  std::vector<uint64_t> holders;
  std::vector<void*> marks;
  try {
    std::lock_guard lock(mutex_);
    waiting_.reserve(waiting_.size() + 1);
    marks.reserve(block.users.size());
    holders.reserve(block.users.size() + 1);
    if (repeats(block.order)) holders.push_back(block.order);  // its users are part of what is repeated
    for (uint64_t user : block.users) {
      if (repeats(user))
        holders.push_back(user);
      else if (void* m = repeats(block.order) || (user & kPrivate) ? nullptr : mark(user))
        marks.push_back(m);
    }
    if (marks.empty() && holders.empty()) return false;
    waiting_.push_back({p, bytes, block.order, std::move(holders), std::move(marks)});
    ++n_waiting_;
    return true;
  } catch (const std::bad_alloc&) {  // no room to remember the block: it can only be waited for
    for (uint64_t user : block.users)
      if (void* m = (user & kPrivate) ? nullptr : mark(user)) reached(m, true);
    return false;
  }
}

// Puts a block that nothing uses any more where its order finds it, or gives it back to the system.
void CachingAllocator::give_back(void* p, size_t bytes, uint64_t order) {
  const int64_t size = int64_t(block_size(bytes, order));
  active_.fetch_sub(size, std::memory_order_relaxed);
  if (keeps(order)) {
    std::lock_guard lock(mutex_);
    // What a step asks for one after the other is more than what is ever live at once: with what is live, twice that.
    const int64_t held = live_.load(std::memory_order_relaxed) + cached_.load(std::memory_order_relaxed);
    bool room = held + size <= 2 * std::max<int64_t>(peak_.load(), 1 << 20);
    if ((room || (order & kPrivate) || must_keep()) && !ended(order)) {
      try {
        pool(order).free[size_class(bytes)].push_back(p);
        cached_.fetch_add(size, std::memory_order_relaxed);
        return;
      } catch (const std::bad_alloc&) {  // no room to remember the block: give it back
      }
    }
  }
  return_to_device(p, size, order);
}

// Gives back the blocks whose other users are done; with `wait`, all of them.
void CachingAllocator::settle(bool wait) {
  std::vector<Waiting> done;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](Waiting& w) {
      std::erase_if(w.holders, [&](uint64_t order) { return ended(order); });
      if (!w.holders.empty()) return false;
      std::erase_if(w.marks, [&](void* m) { return reached(m, wait); });
      if (!w.marks.empty()) return false;
      done.push_back(std::move(w));
      return true;
    });
    n_waiting_ = int(waiting_.size());
  }
  for (Waiting& w : done) give_back(w.p, w.bytes, w.order);
}

MemoryStats CachingAllocator::stats() const {
  return {live_.load(), cached_.load(), peak_.load(), allocations_.load()};
}

DeviceMemoryStats CachingAllocator::device_stats() const {
  return {reserved_.load(),  reserved_peak_.load(), active_.load(),  active_peak_.load(),
          allocated_.load(), retries_.load(),       refusals_.load()};
}

void CachingAllocator::reset_peak() {
  peak_.store(live_.load());
  active_peak_.store(active_.load());
  reserved_peak_.store(reserved_.load());
}

void CachingAllocator::release_cached() {
  settle(false);
  std::lock_guard lock(mutex_);
  for (auto& [order, p] : pools_)
    if (!(order & kPrivate)) empty(order, p);
}

uint64_t CachingAllocator::new_private() {
  std::lock_guard lock(mutex_);
  TG_CHECK(++n_private_ < (uint64_t(1) << (63 - kGroupShift)), ValueError, "too many private pools of memory");
  return kPrivate | n_private_ << kGroupShift;
}

void CachingAllocator::end_private(uint64_t group) {
  {
    std::lock_guard lock(mutex_);
    ended_.push_back(group >> kGroupShift);
    for (auto it = pools_.lower_bound(group); it != pools_.end() && ended(it->first); it = pools_.erase(it))
      empty(it->first, it->second);
    last_pool_ = nullptr;
  }
  settle(false);
}

void CachingAllocator::empty(uint64_t order, Pool& pool) {
  for (int c = 0; c < kSizeClasses; ++c) {
    cached_.fetch_sub(int64_t(class_bytes(c) * pool.free[c].size()), std::memory_order_relaxed);
    for (void* block : pool.free[c]) return_to_device(block, int64_t(class_bytes(c)), order);
    pool.free[c].clear();
  }
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
  refusals_.fetch_add(1, std::memory_order_relaxed);
  std::vector<std::pair<int64_t, int64_t>> blocks;
  for (int c = kSizeClasses; c-- > 0;)
    if (int64_t n = used_[c].load(); n > 0) blocks.push_back({int64_t(class_bytes(c)), n});
  out_of_memory(device_, asked, stats(), limit_.load(), blocks, memory_note());
}

}  // namespace tg
