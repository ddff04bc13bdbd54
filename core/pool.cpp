#include "core/pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
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
class Pool {
 public:
  explicit Pool(int n) : spins_(n <= int(std::thread::hardware_concurrency()) ? 4000 : 0) {
    for (int i = 1; i < n; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      std::lock_guard lock(m_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : workers_) t.join();
  }
  int size() const { return int(workers_.size()) + 1; }

  void run(int64_t n, int64_t grain, detail::ChunkFn fn, void* ctx) {
    {
      std::lock_guard lock(m_);
      fn_ = fn, ctx_ = ctx, n_ = n, grain_ = grain;
      next_.store(0);
      error_ = nullptr;
      open_ = true;
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    chunks();
    std::unique_lock lock(m_);
    open_ = false;  // who has not come by now is not waited for
    if (active_ > 0) {
      lock.unlock();
      spin([&] { return active_.load(std::memory_order_acquire) == 0; });
      lock.lock();
      done_.wait(lock, [&] { return active_ == 0; });
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  std::mutex busy;

 private:
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
    for (uint64_t seen = 0;;) {
      spin([&] { return epoch_.load(std::memory_order_acquire) != seen; });
      std::unique_lock lock(m_);
      wake_.wait(lock, [&] { return stop_ || epoch_ != seen; });
      if (stop_) return;
      seen = epoch_;
      if (!open_) continue;
      ++active_;
      lock.unlock();
      chunks();
      lock.lock();
      if (--active_ == 0) done_.notify_one();
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
      std::lock_guard lock(m_);
      if (!error_) error_ = std::current_exception();
    }
    t_inside = false;
  }

  std::vector<std::thread> workers_;
  std::mutex m_;
  std::condition_variable wake_, done_;
  bool stop_ = false, open_ = false;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<int> active_{0};  // workers within the loop
  const int spins_;
  detail::ChunkFn fn_ = nullptr;
  void* ctx_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
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
