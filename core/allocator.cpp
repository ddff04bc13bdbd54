#include "core/allocator.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/device_use.h"
#include "core/error.h"
#include "core/memory_log.h"
#include "core/size_class.h"

namespace tg {
namespace {

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

// Small blocks that a thread keeps for itself: taking one costs no lock. Its counters are written by the thread alone
// and read by whoever asks for statistics.
class ThreadBlocks {
 public:
  static constexpr int kClasses = 4 * 8 + 1;  // up to 16 KiB
  static constexpr int64_t kMaxBytes = 256 << 10;

  void* take(int c) {
    void* p = free_[c];
    if (!p) return nullptr;
    free_[c] = *static_cast<void**>(p);
    add(cached, -int64_t(class_bytes(c)));
    return p;
  }
  bool give(void* p, int c) {
    const int64_t size = int64_t(class_bytes(c));
    if (cached.load(std::memory_order_relaxed) + size > kMaxBytes) return false;
    *static_cast<void**>(p) = free_[c];
    free_[c] = p;
    add(cached, size);
    return true;
  }
  // Calls f(block, class) for each and forgets them.
  template <class F>
  void drain(F&& f) {
    for (int c = 0; c < kClasses; ++c)
      while (void* p = free_[c]) {
        free_[c] = *static_cast<void**>(p);
        f(p, c);
      }
    cached.store(0, std::memory_order_relaxed);
  }
  static void add(std::atomic<int64_t>& counter, int64_t n) {
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }

  std::atomic<int64_t> cached{0}, allocations{0};
  int64_t epoch = 0;  // of the allocator, when this was last emptied on its demand
  ThreadBlocks* next = nullptr;

 private:
  void* free_[kClasses] = {};
};

thread_local constinit ThreadBlocks* t_blocks = nullptr;
thread_local constinit bool t_shared_only = false;

class HostAllocator final : public Allocator {
 public:
  void share_blocks_of_thread() override { leave(); }
  void copy(void* dst, const void* src, size_t n) override { std::memcpy(dst, src, n); }

  // A forked child has one thread: it inherits what the others kept, and a lock that is free.
  void before_fork() { mutex_.lock(); }
  void after_fork(bool child) {
    while (child && threads_ && (threads_ != t_blocks || threads_->next))
      adopt(threads_ != t_blocks ? threads_ : threads_->next);
    mutex_.unlock();
  }

  void* allocate(size_t bytes) override {
    if (bytes == 0) return nullptr;
    ThreadBlocks* mine = blocks_of_thread();
    if (TG_LIKELY(mine != nullptr))
      ThreadBlocks::add(mine->allocations, 1);
    else
      allocations_.fetch_add(1, std::memory_order_relaxed);
    TG_CHECK(!injected_failure(), OutOfMemoryError, "out of memory (injected): tried to allocate ", bytes, " bytes");
    TG_CHECK(bytes < (size_t(1) << 60), OutOfMemoryError, "out of memory: tried to allocate ", bytes, " bytes");
    int c = size_class(bytes);
    int64_t size = int64_t(class_bytes(c));
    int64_t live = live_.fetch_add(size, std::memory_order_relaxed) + size;
    int64_t limit = limit_.load(std::memory_order_relaxed);
    if (TG_UNLIKELY(limit > 0 && live > limit)) refuse(bytes, size);
    void* p = mine && c < ThreadBlocks::kClasses ? mine->take(c) : nullptr;
    if (!p) p = take(c);
    if (!p) p = system_alloc(size);
    if (TG_UNLIKELY(!p)) {
      release_cached();
      p = system_alloc(size);
      if (!p) {
        {
          std::lock_guard lock(mutex_);
          count_used(c, -1);
        }
        refuse(bytes, size);
      }
    }
    int64_t peak = peak_.load(std::memory_order_relaxed);
    while (live > peak && !peak_.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
    }
    return p;
  }

  void deallocate(void* p, size_t bytes) override {
    if (!p) return;
    int c = size_class(bytes);
    live_.fetch_sub(int64_t(class_bytes(c)), std::memory_order_relaxed);
    if (c < ThreadBlocks::kClasses)
      if (ThreadBlocks* mine = blocks_of_thread(); mine && mine->give(p, c)) return;
    std::lock_guard lock(mutex_);
    count_used(c, -1);
    give(p, c);
  }

  MemoryStats stats() const override {
    std::lock_guard lock(mutex_);
    MemoryStats s{live_.load(), cached_, peak_.load(), allocations_.load()};
    for (const ThreadBlocks* t = threads_; t; t = t->next) {
      s.cached += t->cached.load(std::memory_order_relaxed);
      s.allocations += t->allocations.load(std::memory_order_relaxed);
    }
    return s;
  }
  void reset_peak() override { peak_.store(live_.load()); }
  void set_limit(int64_t bytes) override { limit_.store(bytes); }
  void fail_at(int64_t i) override { fail_in_.store(i); }

  // What other threads keep for themselves they return when they next allocate or free.
  void release_cached() override {
    epoch_.fetch_add(1, std::memory_order_relaxed);
    blocks_of_thread();  // sees the new epoch
    std::lock_guard lock(mutex_);
    for (void*& head : free_)
      while (head) {
        void* next = *static_cast<void**>(head);
        std::free(head);
        head = next;
      }
    cached_ = 0;
  }

 private:
  // Null for a thread that keeps none: at its end, when they have been handed on, or by its own wish.
  ThreadBlocks* blocks_of_thread() {
    struct Closer {
      HostAllocator* owner;
      ~Closer() { owner->leave(); }
    };
    ThreadBlocks* mine = t_blocks;
    if (TG_UNLIKELY(!mine)) {
      if (t_shared_only) return nullptr;
      thread_local Closer closer{this};
      mine = join();
    }
    if (const int64_t now = epoch_.load(std::memory_order_relaxed); TG_UNLIKELY(mine->epoch != now)) {
      mine->drain([](void* p, int) { std::free(p); });
      mine->epoch = now;
    }
    return mine;
  }
  ThreadBlocks* join() {
    auto* t = new ThreadBlocks;  // not thread-local memory: after a fork it would be gone, with the list through it
    std::lock_guard lock(mutex_);
    t->epoch = epoch_.load(std::memory_order_relaxed);
    t->next = threads_;
    threads_ = t;
    return t_blocks = t;
  }
  void leave() {
    t_shared_only = true;
    if (t_blocks) {
      std::lock_guard lock(mutex_);
      adopt(std::exchange(t_blocks, nullptr));
    }
  }
  // Takes over what a thread kept; the lock is held.
  void adopt(ThreadBlocks* t) {
    t->drain([&](void* p, int c) { give(p, c); });
    allocations_.fetch_add(t->allocations.load(std::memory_order_relaxed), std::memory_order_relaxed);
    ThreadBlocks** link = &threads_;
    while (*link != t) link = &(*link)->next;
    *link = t->next;
    delete t;
  }

  // Into the shared lists; the lock is held.
  void give(void* p, int c) {
    const int64_t size = int64_t(class_bytes(c));
    // A step asks for one size after the other: what all of them need is more than what is ever live at once. With what
    // is live, the shared lists stay below twice that.
    if (live_.load(std::memory_order_relaxed) + cached_ + size > 2 * std::max<int64_t>(peak_.load(), 1 << 20)) {
      std::free(p);
      return;
    }
    cached_ += size;
    *static_cast<void**>(p) = free_[c];
    free_[c] = p;
  }
  void count_used(int c, int by) {
    if (c >= ThreadBlocks::kClasses) used_[c] += by;
  }
  void* take(int c) {
    std::lock_guard lock(mutex_);
    count_used(c, 1);
    void* p = free_[c];
    if (!p) return nullptr;
    free_[c] = *static_cast<void**>(p);
    cached_ -= int64_t(class_bytes(c));
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
      for (int c = kSizeClasses; c-- > ThreadBlocks::kClasses;)
        if (used_[c] > 0) blocks.push_back({int64_t(class_bytes(c)), used_[c]});
    }
    out_of_memory(Device(), asked, stats(), limit_.load(), blocks);
  }

  mutable std::mutex mutex_;
  void* free_[kSizeClasses] = {};
  int64_t used_[kSizeClasses] = {};  // blocks handed out that no thread keeps for itself, for the text of an error
  int64_t cached_ = 0;               // in the shared lists
  ThreadBlocks* threads_ = nullptr;  // of the threads that live
  std::atomic<int64_t> live_{0}, peak_{0}, limit_{0}, fail_in_{0}, epoch_{0};
  std::atomic<int64_t> allocations_{0};  // of threads that have ended
};

}  // namespace

Allocator& (*device_allocator)(Device) = nullptr;
std::atomic<bool> devices_used{false};

Allocator& allocator(Device d) {
  // Never destroyed: tensors in static or Python objects may outlive every other static.
  static HostAllocator* cpu = [] {
    static HostAllocator* a = new HostAllocator;
    pthread_atfork([] { a->before_fork(); }, [] { a->after_fork(false); }, [] { a->after_fork(true); });
    return a;
  }();
  if (TG_LIKELY(d.is_cpu())) return *cpu;
  TG_CHECK(device_allocator, DeviceError, "device ", d, " is not available");
  return device_allocator(d);
}

}  // namespace tg
