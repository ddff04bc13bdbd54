// Memory for tensors: a caching allocator per device with statistics, a bound and fault injection.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/api.h"
#include "core/device.h"

namespace tg {

struct MemoryStats {
  int64_t live = 0;         // bytes handed out and not yet returned
  int64_t cached = 0;       // bytes kept for reuse
  int64_t peak = 0;         // largest `live` since reset_peak()
  int64_t allocations = 0;  // calls of allocate()
};

class Allocator {
 public:
  virtual ~Allocator() = default;
  // 64-byte aligned; OutOfMemoryError (naming the request, live and limit) when there is none. 0 bytes give nullptr.
  virtual void* allocate(size_t bytes) = 0;
  virtual void deallocate(void* p, size_t bytes) = 0;
  virtual MemoryStats stats() const = 0;
  virtual void reset_peak() = 0;
  // Returns cached memory to the system. Small blocks that other threads keep for themselves follow when those threads
  // next allocate or free.
  virtual void release_cached() = 0;
  // This thread keeps no blocks for itself from now on: for threads that idle.
  virtual void share_blocks_of_thread() = 0;
  // Upper bound on `live` in bytes; 0 means none.
  virtual void set_limit(int64_t bytes) = 0;
  // The i-th allocation from now (1 = the next) fails once; 0 turns it off. For tests of error paths.
  virtual void fail_at(int64_t i) = 0;
  // Copies n bytes within this memory, or between it and the host's. What was queued before on the device is seen, and
  // the bytes are there when this returns.
  virtual void copy(void* dst, const void* src, size_t n) = 0;
};

// The allocator of a device; DeviceError when that device is not available.
TG_API Allocator& allocator(Device d);
// Set by backends/: the allocators of devices other than the CPU.
TG_API extern Allocator& (*device_allocator)(Device);

}  // namespace tg
