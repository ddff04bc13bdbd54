// The caching allocator of devices other than the CPU: size classes, statistics, a bound and fault injection. A device
// says where memory comes from, and which blocks may follow one another.
#pragma once
#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/allocator.h"
#include "core/size_class.h"

namespace tg {

// What MemoryStats leaves out, of devices other than the CPU.
struct DeviceMemoryStats {
  int64_t reserved = 0, reserved_peak = 0;  // bytes taken from the device
  int64_t active = 0, active_peak = 0;      // bytes handed out, or returned while work of other orders may use them
  int64_t allocated = 0;                    // bytes handed out so far, in all
  int64_t retries = 0;  // requests that were tried again after what was kept for reuse had been given back
  int64_t refusals = 0;
};

class TG_API CachingAllocator : public Allocator {
 public:
  explicit CachingAllocator(Device d) : device_(d) {}
  void* allocate(size_t bytes) override;
  void deallocate(void* p, size_t bytes) override;
  MemoryStats stats() const override;
  DeviceMemoryStats device_stats() const;
  void reset_peak() override;
  void release_cached() override;
  // Bounds what is taken from the device: live memory with that kept for reuse, which is given back first.
  void set_limit(int64_t bytes) override { limit_.store(bytes); }
  void fail_at(int64_t i) override { fail_in_.store(i); }
  void share_blocks_of_thread() override {}  // no thread keeps any
  // Work of `order` uses the block too: once deallocated, it is handed out again when what that order has queued by
  // then is done; for a private order, which repeats its work, when that has ended.
  void record_use(const void* p, uint64_t order);
  // A new group of private orders, group | n with n < 2^48: they keep their freed blocks until end_private(group).
  // Blocks that are still live then follow when they are deallocated.
  uint64_t new_private();
  void end_private(uint64_t group);

 protected:
  static constexpr uint64_t kPrivate = uint64_t(1) << 63;
  static constexpr int kGroupShift = 48;
  // Fresh memory of at least `bytes`, 64-byte aligned; nullptr when there is none.
  virtual void* raw_allocate(size_t bytes) = 0;
  virtual void raw_free(void* p, uint64_t order) = 0;
  // The order of work that the caller's next kernel joins: a block is only handed out in the order it was first handed
  // out in, where work on the old contents is known to come first. 0 where all work is done when a call returns.
  virtual uint64_t order() const { return 0; }
  // Whether freed blocks are kept for reuse; without, sizes are exact, so that checkers see every byte too much.
  virtual bool caches() const { return true; }
  // Whether blocks must not go back to the system now.
  virtual bool must_keep() const { return false; }
  // A mark behind all that an order has queued, nullptr if there is nothing to wait for; and whether work got there
  // (with `wait`: always, later). A mark that was reached is gone.
  virtual void* mark(uint64_t) noexcept { return nullptr; }
  virtual bool reached(void*, bool /*wait*/) noexcept { return true; }
  // More text for the out-of-memory error, such as how much the device has.
  virtual std::string memory_note() const { return {}; }

 private:
  struct Pool {
    std::vector<void*> free[kSizeClasses];
  };
  // What is known of a live block of an order other than 0, or that other orders use.
  struct Block {
    uint64_t order = 0;
    std::vector<uint64_t> users;
  };
  // A deallocated block that work of other orders may still use.
  struct Waiting {
    void* p;
    size_t bytes;
    uint64_t order;
    std::vector<uint64_t> holders;  // private orders that repeat this work
    std::vector<void*> marks;
  };
  bool keeps(uint64_t order) const { return caches() || (order & kPrivate); }
  size_t block_size(size_t bytes, uint64_t order) const;
  void count_used(size_t bytes, int64_t by) { used_[size_class(bytes)].fetch_add(by, std::memory_order_relaxed); }
  void* take(int c, uint64_t order);
  void* take_from_device(int64_t size);  // nullptr where there is none, or it would be beyond the limit
  void return_to_device(void* p, int64_t size, uint64_t order);
  void note_order(void* p, size_t bytes, uint64_t order);
  Block forget(void* p);
  void give_back(void* p, size_t bytes, uint64_t order);
  bool wait_for_users(void* p, size_t bytes, const Block& block);
  void settle(bool wait);
  void empty(uint64_t order, Pool& pool);
  bool injected_failure();
  [[noreturn]] void refuse(size_t asked, int64_t size);

  const Device device_;
  std::mutex mutex_;
  std::map<uint64_t, Pool> pools_;  // by order
  std::unordered_map<const void*, Block> apart_;
  std::vector<Waiting> waiting_;
  std::atomic<int> n_apart_{0}, n_waiting_{0};
  std::vector<uint64_t> ended_;  // groups of private orders
  uint64_t n_private_ = 0;
  bool ended(uint64_t order) const {
    return (order & kPrivate) && std::find(ended_.begin(), ended_.end(), order >> kGroupShift) != ended_.end();
  }
  Pool* last_pool_ = nullptr;  // and the one used last, with its order
  uint64_t last_order_ = 0;
  Pool& pool(uint64_t order);
  std::atomic<int64_t> used_[kSizeClasses] = {};  // blocks handed out, for the text of an error
  std::atomic<int64_t> live_{0}, cached_{0}, peak_{0}, allocations_{0}, limit_{0}, fail_in_{0};
  std::atomic<int64_t> reserved_{0}, reserved_peak_{0}, active_{0}, active_peak_{0}, allocated_{0};
  std::atomic<int64_t> retries_{0}, refusals_{0};
};

}  // namespace tg
