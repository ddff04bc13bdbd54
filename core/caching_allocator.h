// The caching allocator of devices other than the CPU: size classes, statistics, a bound and fault injection. A device
// says where memory comes from, and which blocks may follow one another.
#pragma once
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "core/allocator.h"
#include "core/size_class.h"

namespace tg {

class TG_API CachingAllocator : public Allocator {
 public:
  explicit CachingAllocator(Device d) : device_(d) {}
  void* allocate(size_t bytes) override;
  void deallocate(void* p, size_t bytes) override;
  MemoryStats stats() const override;
  void reset_peak() override { peak_.store(live_.load()); }
  void release_cached() override;
  void set_limit(int64_t bytes) override { limit_.store(bytes); }
  void fail_at(int64_t i) override { fail_in_.store(i); }
  void share_blocks_of_thread() override {}  // no thread keeps any

 protected:
  // Fresh memory of at least `bytes`, 64-byte aligned; nullptr when there is none.
  virtual void* raw_allocate(size_t bytes) = 0;
  virtual void raw_free(void* p) = 0;
  // The order of work that the caller's next kernel joins: a block freed in one order is only handed out in the same,
  // where work on the old contents is known to come first. 0 where all work is done when a call returns.
  virtual uint64_t order() const { return 0; }
  // Whether freed blocks are kept for reuse; without, sizes are exact, so that checkers see every byte too much.
  virtual bool caches() const { return true; }
  // More text for the out-of-memory error, such as how much the device has.
  virtual std::string memory_note() const { return {}; }

 private:
  struct Pool {
    std::vector<void*> free[kSizeClasses];
  };
  size_t block_size(size_t bytes) const;
  void* take(int c, uint64_t order);
  bool injected_failure();
  [[noreturn]] void refuse(size_t asked, int64_t size);

  const Device device_;
  std::mutex mutex_;
  std::map<uint64_t, Pool> pools_;  // by order
  Pool* last_pool_ = nullptr;       // and the one used last, with its order
  uint64_t last_order_ = 0;
  Pool& pool(uint64_t order);
  std::atomic<int64_t> live_{0}, cached_{0}, peak_{0}, allocations_{0}, limit_{0}, fail_in_{0};
};

}  // namespace tg
