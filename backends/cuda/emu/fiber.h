// Fibers of the emulation: one stack per CUDA thread, switched on one thread of the host. Knows the sanitizers: each
// fiber is a thread to ThreadSanitizer, and a stack of its own to AddressSanitizer.
#pragma once
#include <cstddef>
#include <cstdint>

// Present in programs built with ThreadSanitizer only; this folder's scheduler is compiled without it and calls it by
// hand.
extern "C" {
[[gnu::weak]] void* __tsan_create_fiber(unsigned);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void __tsan_switch_to_fiber(void*, unsigned);
[[gnu::weak]] void __tsan_acquire(void*);
[[gnu::weak]] void __tsan_release(void*);
}

namespace tg::emu {

inline bool race_checker() { return __tsan_create_fiber != nullptr; }
inline void acquire(void* p) {
  if (race_checker()) __tsan_acquire(p);
}
inline void release(void* p) {
  if (race_checker()) __tsan_release(p);
}

struct Fiber {
  static constexpr size_t kStack = size_t(256) << 10;
  void* sp = nullptr;     // saved stack pointer
  char* stack = nullptr;  // lowest address; the scheduler's own is only known to AddressSanitizer
  void* fake_stack = nullptr;
  void* tsan = nullptr;  // whose thread it is to ThreadSanitizer
  size_t size = 0;
  int identity = 0;  // the same, as a number
  Fiber* next_idle = nullptr;
};

// Gives `f` a stack that starts in `entry`, if it has none yet.
void make_fiber(Fiber& f, void (*entry)());
// Leaves `from`, whose state is kept, for `to`.
void switch_fiber(Fiber& from, Fiber& to);
// First thing on a new stack.
void fiber_started();
// The scheduler's stack is that of the host thread, which AddressSanitizer wants to know when a fiber goes back to it:
// also when no fiber of this launch is new, and when the thread is another than last time.
void take_stack_of_thread(Fiber& f);

// Anonymous memory from the kernel itself: the sanitizers' mmap would touch the shadow of all of it.
char* map_memory(size_t bytes, bool readable);

}  // namespace tg::emu
