// Who holds memory. While a thread records (modes().memory_log), each piece of memory that it makes for a tensor is
// noted with the op and the user's line; notes live as long as the memory. Errors of allocators read them.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "core/allocator.h"

namespace tg {

struct MemoryHolder {
  const void* data = nullptr;
  size_t bytes = 0;
  Device device;
  std::string op, where;  // the op that the user called; file:line, empty in C++ programs
};

// What is noted and still held on a device, the largest first.
TG_API std::vector<MemoryHolder> memory_holders(Device d);

// Called by Storage.
void note_memory(const void* data, size_t bytes, Device d);
void forget_memory(const void* data);

// The outermost op of this thread, which memory made inside of it is noted under.
class LoggedOp {
 public:
  explicit LoggedOp(const char* name) { current() = name; }
  ~LoggedOp() { current() = nullptr; }
  LoggedOp(const LoggedOp&) = delete;
  LoggedOp& operator=(const LoggedOp&) = delete;
  static const char*& current();
};

// Throws the OutOfMemoryError of an allocator: what was asked for, what there is, the largest holders, what to try.
// `blocks`: what is handed out, as (bytes, number), the largest first.
[[noreturn]] TG_API void out_of_memory(Device d, size_t asked, const MemoryStats& stats, int64_t limit,
                                       const std::vector<std::pair<int64_t, int64_t>>& blocks);

// "1.50 MiB"
TG_API std::string bytes_text(double bytes);

}  // namespace tg
