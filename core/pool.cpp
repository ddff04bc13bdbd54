#include "core/pool.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"

namespace tg {
namespace {

thread_local bool t_inside = false;

// One parallel loop at a time; a second caller (another user thread) runs its loop serially instead of waiting.
// Loops begin and end without a lock: a thread that sees the loop would otherwise run into the lock of who began it.
class Pool {
 public:
  explicit Pool(int n) : spins_(n <= int(std::thread::hardware_concurrency()) ? 4000 : 0) {
    for (int i = 1; i < n; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    state_.fetch_or(kStop);
    state_.notify_all();
    for (auto& t : workers_) t.join();
  }
  int size() const { return int(workers_.size()) + 1; }

  void run(int64_t n, int64_t grain, detail::ChunkFn fn, void* ctx) {
    fn_ = fn, ctx_ = ctx, n_ = n, grain_ = grain;
    next_.store(0, std::memory_order_relaxed);
    state_.store((state_.load(std::memory_order_relaxed) + kLoop) | kOpen);
    state_.notify_all();  // a system call only where some sleep
    chunks();
    state_.fetch_and(~kOpen);  // who has not come by now is not waited for
    auto all_left = [&] { return !(state_.load(std::memory_order_acquire) & kActive); };
    spin(all_left);
    while (!all_left()) {
      const uint32_t before = left_.load();
      if (!all_left()) left_.wait(before);
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  std::mutex busy;

 private:
  // What a loop is: its number, whether it can be joined, and how many workers are within it. The number comes round
  // again after 2^19 loops: a worker that slept through exactly so many misses one, which is one it came late to.
  static constexpr uint32_t kActive = (1u << 11) - 1, kOpen = 1u << 11, kStop = 1u << 12, kLoop = 1u << 13;

  // One loop often follows another within microseconds, and waking a thread takes tens of them: waits begin with a look
  // again and again, unless other threads need the processor.
  template <class F>
  void spin(F&& ready) const {
    for (int i = 0; i < spins_ && !ready(); ++i) pause();
  }
  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  void work() {
    allocator(Device{}).share_blocks_of_thread();
    for (uint32_t seen = 0, state = 0;;) {
      auto news = [&] {
        state = state_.load(std::memory_order_acquire);
        return (state & kStop) || ((state & kOpen) && state / kLoop != seen);
      };
      spin(news);
      if (!news()) {
        state_.wait(state);
        continue;
      }
      if (state & kStop) return;
      if (!state_.compare_exchange_strong(state, state + 1, std::memory_order_acquire)) continue;
      seen = state / kLoop;
      chunks();
      const uint32_t was = state_.fetch_sub(1, std::memory_order_release);
      if ((was & kActive) == 1 && !(was & kOpen)) {
        left_.fetch_add(1);
        left_.notify_one();
      }
    }
  }
  void chunks() {
    t_inside = true;
    try {
      for (;;) {
        int64_t b = next_.fetch_add(grain_);
        if (b >= n_) break;
        fn_(ctx_, b, std::min(b + grain_, n_));
      }
    } catch (...) {
      next_.store(n_);
      std::lock_guard lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
    }
    t_inside = false;
  }

  std::vector<std::thread> workers_;
  std::atomic<uint32_t> state_{0};
  std::atomic<uint32_t> left_{0};  // counts last workers that left a closed loop, for who waits for them
  const int spins_;
  detail::ChunkFn fn_ = nullptr;  // these four are written while no worker is within a loop
  void* ctx_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

int default_threads() {
  if (const char* e = std::getenv("TG_NUM_THREADS")) {
    int n = std::atoi(e);
    if (n > 0) return std::min(n, 256);
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

std::atomic<int> g_threads{0};
std::mutex g_mutex;
Pool* g_pool = nullptr;  // made at first use, leaked at exit: its threads may not outlive their stacks otherwise

// A forked child has none of the parent's threads: it forgets the pool and makes its own when needed.
void after_fork_child() {
  new (&g_mutex) std::mutex;
  g_pool = nullptr;
  t_inside = false;
}

// The pool, locked for one loop; null when another thread's loop holds it. A pool is only replaced while nobody holds
// it.
Pool* acquire_pool(std::unique_lock<std::mutex>& held) {
  std::lock_guard lock(g_mutex);
  static int once = pthread_atfork(nullptr, nullptr, after_fork_child);
  (void)once;
  if (!g_pool) g_pool = new Pool(num_threads());
  held = std::unique_lock(g_pool->busy, std::try_to_lock);
  if (!held.owns_lock()) return nullptr;
  if (g_pool->size() != num_threads()) {
    held.unlock();
    held.release();
    delete g_pool;
    g_pool = new Pool(num_threads());
    held = std::unique_lock(g_pool->busy);
  }
  return g_pool;
}

}  // namespace

int num_threads() {
  int n = g_threads.load(std::memory_order_relaxed);
  if (n == 0) {
    n = default_threads();
    g_threads.store(n);
  }
  return n;
}

void set_num_threads(int n) {
  TG_CHECK(n >= 1 && n <= 1024, ValueError, "set_num_threads: expected 1 to 1024, got ", n);
  g_threads.store(n);
}

namespace detail {
void run_chunks(int64_t n, int64_t grain, ChunkFn fn, void* ctx) {
  if (!t_inside && num_threads() > 1) {
    std::unique_lock<std::mutex> held;
    if (Pool* p = acquire_pool(held)) return p->run(n, grain, fn, ctx);
  }
  for (int64_t b = 0; b < n; b += grain) fn(ctx, b, std::min(b + grain, n));
}
}  // namespace detail

}  // namespace tg
