#include "core/memory_log.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <unordered_map>

#include "core/error.h"
#include "core/op.h"

namespace tg {
namespace {

struct Notes {
  std::mutex mutex;
  std::unordered_map<const void*, MemoryHolder> held;
  std::atomic<size_t> count{0};  // of `held`: most programs never look further
};
Notes& notes() {
  static Notes* n = new Notes;  // never destroyed, as the allocators
  return *n;
}

constexpr size_t kNamed = 5;

std::string holders_text(Device d, const std::vector<std::pair<int64_t, int64_t>>& blocks) {
  std::string sizes, recorded;
  for (size_t i = 0; i < std::min(kNamed, blocks.size()); ++i)
    sizes += str(i ? ", " : "; the largest holders: ", blocks[i].second, " x ", bytes_text(double(blocks[i].first)));
  const std::vector<MemoryHolder> held = memory_holders(d);
  for (size_t i = 0; i < std::min(kNamed, held.size()); ++i)
    recorded += str(i ? ", " : "; recorded: ", bytes_text(double(held[i].bytes)), " of ", held[i].op,
                    held[i].where.empty() ? "" : " at ", held[i].where);
  return sizes + (held.empty() ? " (tg.memory.record() tells who made them)" : recorded);
}

}  // namespace

const char*& LoggedOp::current() {
  thread_local const char* name = nullptr;
  return name;
}

void note_memory(const void* data, size_t bytes, Device d) {
  const char* op = LoggedOp::current();
  MemoryHolder h{data, bytes, d, op ? op : "a tensor", slots().user_line ? slots().user_line() : ""};
  Notes& n = notes();
  std::lock_guard lock(n.mutex);
  n.held[data] = std::move(h);
  n.count.store(n.held.size(), std::memory_order_relaxed);
}

void forget_memory(const void* data) {
  Notes& n = notes();
  if (TG_LIKELY(n.count.load(std::memory_order_relaxed) == 0)) return;
  std::lock_guard lock(n.mutex);
  n.held.erase(data);
  n.count.store(n.held.size(), std::memory_order_relaxed);
}

std::vector<MemoryHolder> memory_holders(Device d) {
  Notes& n = notes();
  std::vector<MemoryHolder> out;
  {
    std::lock_guard lock(n.mutex);
    for (const auto& [data, h] : n.held)
      if (h.device == d) out.push_back(h);
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return std::tie(b.bytes, a.data) < std::tie(a.bytes, b.data); });
  return out;
}

void out_of_memory(Device d, size_t asked, const MemoryStats& stats, int64_t limit,
                   const std::vector<std::pair<int64_t, int64_t>>& blocks, const std::string& note) {
  fail<OutOfMemoryError>("out of memory on ", d, ": tried to allocate ", bytes_text(double(asked)), "; live ",
                         bytes_text(double(stats.live)), ", cached ", bytes_text(double(stats.cached)), ", limit ",
                         limit > 0 ? bytes_text(double(limit)) : "none", note, holders_text(d, blocks),
                         ". Try, the cheapest first: a smaller batch, checkpointing of activations, half precision");
}

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB"};
  int u = 0;
  for (; u < 3 && bytes >= 1024; ++u) bytes /= 1024;
  char text[40];
  std::snprintf(text, sizeof text, u == 0 ? "%.0f %s" : "%.2f %s", bytes, units[u]);
  return text;
}

}  // namespace tg
