#include "backends/cuda/emu/fiber.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace tg::emu {

char* map_memory(size_t bytes, bool readable) {
  int prot = readable ? PROT_READ | PROT_WRITE : PROT_NONE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#ifdef SYS_mmap
  return reinterpret_cast<char*>(syscall(SYS_mmap, nullptr, bytes, prot, flags, -1, 0));
#else
  return static_cast<char*>(mmap(nullptr, bytes, prot, flags, -1, 0));
#endif
}

#ifdef __x86_64__
extern "C" void tg_emu_switch(void** save, void* to);
// Pushes what a call must preserve, swaps the stack pointers, pops. ucontext does the same and two system calls.
asm(R"(
.text
.type tg_emu_switch,@function
tg_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tg_emu_switch, .-tg_emu_switch
)");
#endif

void make_fiber(Fiber& f, void (*entry)()) {
  if (f.stack) return;
  constexpr size_t kGuard = 4096;
  char* m = map_memory(Fiber::kStack + kGuard, true);
  mprotect(m, kGuard, PROT_NONE);
  f.stack = m + kGuard;
  f.size = Fiber::kStack;
#ifdef __x86_64__
  void** top = reinterpret_cast<void**>(f.stack + f.size);
  *--top = nullptr;  // the entry never returns; keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f.sp = top;
#else
  auto* c = new ucontext_t;
  getcontext(c);
  c->uc_stack.ss_sp = f.stack;
  c->uc_stack.ss_size = f.size;
  c->uc_link = nullptr;
  makecontext(c, entry, 0);
  f.sp = c;
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
  if (to.tsan != from.tsan) __tsan_switch_to_fiber(to.tsan, 1);  // 1: the switch itself orders nothing
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.size);
#endif
#ifdef __x86_64__
  tg_emu_switch(&from.sp, to.sp);
#else
  if (!from.sp) from.sp = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.sp), static_cast<ucontext_t*>(to.sp));
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_started() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void take_stack_of_thread([[maybe_unused]] Fiber& f) {
#ifdef __SANITIZE_ADDRESS__
  thread_local void* bottom = nullptr;
  thread_local size_t size = 0;
  if (!bottom) {
    pthread_attr_t a;
    pthread_getattr_np(pthread_self(), &a);
    pthread_attr_getstack(&a, &bottom, &size);
    pthread_attr_destroy(&a);
  }
  f.stack = static_cast<char*>(bottom);
  f.size = size;
#endif
}

}  // namespace tg::emu
