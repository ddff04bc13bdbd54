// Compiled without ThreadSanitizer: what orders threads is told to it by acquire() and release(), nothing else.
#include "backends/cuda/emu/block.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "backends/cuda/emu/fiber.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace tg::emu {

Context* current = nullptr;

void poison([[maybe_unused]] void* p, [[maybe_unused]] size_t n) {
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(p, n);
#endif
}
void unpoison([[maybe_unused]] void* p, [[maybe_unused]] size_t n) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(p, n);
#endif
}
// All ones: NaN in every floating type. A loop of volatile writes, which the race checker does not see.
void fill_uninitialised(void* p, size_t n) {
  auto* bytes = static_cast<volatile unsigned char*>(p);
  size_t i = 0;
  for (; i < n && reinterpret_cast<uintptr_t>(bytes + i) % 8; ++i) bytes[i] = 0xff;
  auto* words = reinterpret_cast<volatile uint64_t*>(const_cast<unsigned char*>(bytes + i));
  for (size_t w = 0; w < (n - i) / 8; ++w) words[w] = ~uint64_t(0);
  for (i += (n - i) / 8 * 8; i < n; ++i) bytes[i] = 0xff;
}

unsigned seed() {
  static const unsigned s = [] {
    const char* e = std::getenv("TG_EMU_SEED");
    return e ? unsigned(std::atoi(e)) : 0u;
  }();
  return s;
}
uint32_t draw(uint32_t n) {
  static std::mt19937 r(seed());
  return n ? uint32_t(r() % n) : 0;
}

namespace {

constexpr int kMaxThreads = 1024, kWarps = kMaxThreads / 32, kMaxMasks = 16, kMaxShared = 64;
constexpr size_t kArena = size_t(256) << 10, kArenas = 64, kGuard = 64;
// The race checker's clocks have a number for each of its threads and are gone through by every thread at each barrier,
// so its threads are fewer than a block's: each is drawn anew for every block to stand for several. Two of a block that
// race are seen unless they stand under one, which they do by one draw in kIdentities.
constexpr int kIdentities = 64;

enum class State : uint8_t { New, Ready, Running, AtBarrier, AtWarp, Done };

// Lanes that use the same mask meet here; two generations, so that a fast lane cannot overtake a slow one's values.
struct Meeting {
  uint32_t mask, arrived, there[2];
  WarpOp op;
  unsigned generation;
  uint64_t slots[2][32];
};
struct Warp {
  uint32_t gone;  // lanes that have left the kernel, or never were
  int n_meetings;
  Meeting meetings[kMaxMasks];
};
struct Thread {
  Context context;
  Fiber* fiber;
  State state;
  int identity = 0;  // which thread of the race checker it is
  Meeting* meeting;
};

struct Block {
  const char* name = "";
  const std::function<void()>* body = nullptr;
  Thread threads[kMaxThreads];
  Warp warps[kWarps];
  uint32_t priority[kWarps];
  int n = 0, alive = 0;
  std::vector<int> ready, fresh;  // threads that may go on; not yet started, the next at the end
  size_t ready_head = 0;
  bool someone_left = false;
  const void* barrier_site = nullptr;
  int at_barrier = 0;
  unsigned generation = 0;  // of barriers: one that runs ahead must not order what comes after the last one
  Votes votes{}, result{};
  struct Variable {
    const void* site;
    void* p;
  } shared[kMaxShared];
  int n_shared = 0;
  char* arena = nullptr;
  size_t used = 0;
};

Block& block() {
  static Block* b = [] {
    auto* x = new Block;
    x->ready.reserve(size_t(1) << 16);  // growing would copy, which the race checker sees
    x->fresh.reserve(kMaxThreads);
    return x;
  }();
  return *b;
}

// Two sets of identities under the race checker, used by blocks in turn: blocks next to each other are then unordered
// threads to it, which is what they are. A stack serves one identity, or what it holds would look shared.
struct Fibers {
  Fiber scheduler;
  Fiber pool[2 * kMaxThreads];
  int made = 0, set = 0;
  struct Identity {
    void* tsan = nullptr;
    Fiber* idle = nullptr;
  } identities[2 * kIdentities];
  Fiber* running = nullptr;
};
Fibers& fibers() {
  static Fibers* f = new Fibers;
  return *f;
}
char hb_launch, hb_end, hb_fence, hb_barrier[2][2], hb_warp[2][kWarps];

void fiber_main();

Fiber* take_fiber(int identity) {
  Fibers& f = fibers();
  Fibers::Identity& of = f.identities[identity];
  if (Fiber* x = of.idle) {
    of.idle = x->next_idle;
    return x;
  }
  if (race_checker() && !of.tsan) of.tsan = __tsan_create_fiber(0);
  Fiber& x = f.pool[f.made++];
  make_fiber(x, fiber_main);
  x.tsan = of.tsan;
  x.identity = identity;
  return &x;
}
void put_back(Fiber& x) {
  Fiber*& idle = fibers().identities[x.identity].idle;
  x.next_idle = idle;
  idle = &x;
}

void go(Fiber& to, Context* context) {
  Fibers& f = fibers();
  Fiber& from = *f.running;
  if (&from == &to) {
    current = context;
    return;
  }
  f.running = &to;
  current = context;
  switch_fiber(from, to);
}
void run_thread(int t) {
  Thread& x = block().threads[t];
  if (x.state == State::New) x.fiber = take_fiber(x.identity);
  x.state = State::Running;
  go(*x.fiber, &x.context);
}

int candidate(size_t i) {
  Block& b = block();
  size_t waiting = b.ready.size() - b.ready_head;
  return i < waiting ? b.ready[b.ready_head + i] : b.fresh[i - waiting];
}
// Of all candidates, the first whose warp has the highest priority.
size_t first_of_best_warp() {
  const Block& b = block();
  const size_t waiting = b.ready.size() - b.ready_head;
  size_t best = 0;
  uint32_t highest = 0;
  for (size_t i = 0; i < waiting; ++i)
    if (uint32_t p = b.priority[b.ready[b.ready_head + i] / 32]; p > highest) highest = p, best = i;
  for (size_t i = 0; i < b.fresh.size(); ++i)
    if (uint32_t p = b.priority[b.fresh[i] / 32]; p > highest) highest = p, best = waiting + i;
  return best;
}
// The thread to go on with, or -1 when all wait.
int pick() {
  Block& b = block();
  size_t waiting = b.ready.size() - b.ready_head, total = waiting + b.fresh.size();
  if (total == 0) return -1;
  size_t k;
  if (seed() < 2) {
    k = b.fresh.empty() ? 0 : total - 1;
  } else if (seed() % 2 == 0) {
    k = draw(uint32_t(total));
  } else {
    k = first_of_best_warp();
  }
  int t = candidate(k);
  if (k < waiting) {
    std::swap(b.ready[b.ready_head + k], b.ready[b.ready_head]);
    if (++b.ready_head == b.ready.size()) b.ready.clear(), b.ready_head = 0;
  } else {
    std::swap(b.fresh[k - waiting], b.fresh.back());
    b.fresh.pop_back();
  }
  return t;
}

void wake(int t) {
  Block& b = block();
  b.threads[t].state = State::Ready;
  b.ready.push_back(t);
}
void go_on_elsewhere() {
  int t = pick();
  if (t < 0)
    go(fibers().scheduler, nullptr);
  else
    run_thread(t);
}
// The running thread waits until somebody wakes it.
void wait(State s) {
  block().threads[current->linear].state = s;
  go_on_elsewhere();
}
// Others may overtake the running thread here.
void yield() {
  wake(current->linear);
  go_on_elsewhere();
}

void open_barrier() {
  Block& b = block();
  b.result = b.votes;
  b.votes = {0, 1, 0};
  b.at_barrier = 0;
  ++b.generation;
  for (int t = 0; t < b.n; ++t)
    if (b.threads[t].state == State::AtBarrier) wake(t);
}
bool open_meeting(Warp& w, Meeting& m, int first_thread) {
  if ((m.arrived | w.gone) != (m.mask | w.gone)) return false;
  Block& b = block();
  m.there[m.generation & 1] = m.arrived;
  m.arrived = 0;
  ++m.generation;
  for (int l = 0; l < 32 && first_thread + l < b.n; ++l) {
    Thread& t = b.threads[first_thread + l];
    if (t.state == State::AtWarp && t.meeting == &m) wake(first_thread + l);
  }
  return true;
}
void leave_kernel(int t) {
  Block& b = block();
  b.threads[t].state = State::Done;
  --b.alive;
  if (b.at_barrier > 0) fault("thread %d left the kernel while %d threads wait in __syncthreads()", t, b.at_barrier);
  b.someone_left = true;
  Warp& w = b.warps[t / 32];
  w.gone |= 1u << (t % 32);
  for (int i = 0; i < w.n_meetings; ++i)
    if (w.meetings[i].arrived) open_meeting(w, w.meetings[i], t & ~31);
}

// A fiber runs one CUDA thread after another, so that kernels without barriers never switch.
void fiber_main() {
  fiber_started();
  for (;;) {
    int t = current->linear;
    acquire(&hb_launch);
    (*block().body)();
    release(&hb_end);
    leave_kernel(t);
    int next = pick();
    Block& b = block();
    Fiber& self = *fibers().running;
    if (next >= 0 && b.threads[next].state == State::New && b.threads[next].identity == self.identity) {
      b.threads[next].fiber = &self;
      b.threads[next].state = State::Running;
      current = &b.threads[next].context;
      continue;
    }
    put_back(self);
    if (next < 0)
      go(fibers().scheduler, nullptr);
    else
      run_thread(next);
  }
}

void report_deadlock() {
  Block& b = block();
  std::string list;
  int shown = 0;
  for (int t = 0; t < b.n && shown < 8; ++t) {
    const Thread& x = b.threads[t];
    if (x.state == State::Done) continue;
    char line[96];
    if (x.state == State::AtBarrier)
      std::snprintf(line, sizeof line, "\n  thread %d waits in __syncthreads()", t);
    else
      std::snprintf(line, sizeof line, "\n  thread %d waits for the lanes of mask %08x", t, x.meeting->mask);
    list += line;
    ++shown;
  }
  fault("deadlock: %d threads wait for each other%s", b.alive, list.c_str());
}

// Fresh addresses under the race checker, or the shared memory of two blocks would look like one.
void lay_out_shared(size_t dynamic_bytes) {
  static char* arenas = map_memory(kArena * kArenas, true);
  static size_t turn = 0;
  Block& b = block();
  if (race_checker()) {
    fibers().set = int(turn & 1);
    b.arena = arenas + turn % kArenas * kArena;
    if (++turn % kArenas == 1) acquire(&hb_end), release(&hb_launch);
  } else {
    b.arena = arenas;
  }
  poison(b.arena, kArena);
  unpoison(b.arena + kGuard, dynamic_bytes);
  fill_uninitialised(b.arena + kGuard, dynamic_bytes);
  b.used = kGuard + ((dynamic_bytes + 15) & ~size_t(15)) + kGuard;
  b.n_shared = 0;
}

// Who is which thread of the race checker in this block.
void draw_identities() {
  Block& b = block();
  if (!race_checker()) return;  // all of them one, by zeros
  static std::mt19937 draws(seed());
  const int first = fibers().set * kIdentities;
  for (int t = 0; t < b.n; ++t) {
    b.threads[t].identity = first + t % kIdentities;
    std::swap(b.threads[t].identity, b.threads[draws() % uint32_t(t + 1)].identity);
  }
}

void run_block(dim3 grid, dim3 size, uint3 at, size_t dynamic_bytes) {
  Block& b = block();
  b.n = b.alive = int(size.x * size.y * size.z);
  b.ready.clear();
  b.fresh.clear();
  b.ready_head = 0;
  b.at_barrier = 0;
  b.someone_left = false;
  b.votes = {0, 1, 0};
  for (int w = 0; w * 32 < b.n; ++w) {
    b.warps[w].gone = b.n - w * 32 >= 32 ? 0u : ~0u << (b.n - w * 32);
    b.warps[w].n_meetings = 0;
    b.priority[w] = seed() < 2 ? 0 : draw(1u << 30);
  }
  lay_out_shared(dynamic_bytes);
  draw_identities();
  int t = 0;
  for (unsigned z = 0; z < size.z; ++z)
    for (unsigned y = 0; y < size.y; ++y)
      for (unsigned x = 0; x < size.x; ++x, ++t) {
        b.threads[t].context = {{x, y, z}, at, size, grid, t};
        b.threads[t].state = State::New;
        b.threads[t].meeting = nullptr;
      }
  for (int i = 0; i < b.n; ++i) b.fresh.push_back(seed() == 1 ? i : b.n - 1 - i);
  while (b.alive > 0) {
    int next = pick();
    if (next < 0) report_deadlock();
    run_thread(next);
  }
}

}  // namespace

void run_grid(const char* name, dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& body) {
  Block& b = block();
  Fibers& f = fibers();
  b.name = name;
  b.body = &body;
  f.running = &f.scheduler;
  if (race_checker()) f.scheduler.tsan = __tsan_get_current_fiber();
  take_stack_of_thread(f.scheduler);
  release(&hb_launch);
  uint64_t n = uint64_t(grid.x) * grid.y * grid.z, first = seed() < 2 ? 0 : draw(uint32_t(n));
  for (uint64_t k = 0; k < n; ++k) {
    uint64_t i = seed() == 1 ? n - 1 - k : (first + k) % n;
    run_block(grid, size, {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)},
              shared_bytes);
  }
  acquire(&hb_end);
  b.body = nullptr;
}

void fault(const char* format, ...) {
  std::fprintf(stderr, "\n== CUDA emulation: ");
  va_list a;
  va_start(a, format);
  std::vfprintf(stderr, format, a);
  va_end(a);
  if (current)
    std::fprintf(stderr, "\n   in kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", block().name, current->block.x,
                 current->block.y, current->block.z, current->thread.x, current->thread.y, current->thread.z);
  std::fprintf(stderr, "\n");
  std::fflush(nullptr);
  std::abort();
}

Votes block_barrier(const void* site, bool vote) {
  Block& b = block();
  if (b.someone_left) fault("__syncthreads() after another thread of the block has left the kernel");
  if (b.at_barrier > 0 && b.barrier_site != site) fault("threads of one block wait in two different __syncthreads()");
  b.barrier_site = site;
  ++b.at_barrier;
  b.votes = {b.votes.count + vote, b.votes.all && vote, b.votes.any || vote};
  char* order = &hb_barrier[fibers().set][b.generation & 1];
  release(order);
  if (b.at_barrier == b.alive) {
    open_barrier();
    if (seed() >= 2) yield();
  } else {
    wait(State::AtBarrier);
  }
  acquire(order);
  return b.result;
}

uint32_t warp_exchange(uint32_t mask, WarpOp op, uint64_t value, const uint64_t** slots) {
  Block& b = block();
  int me = current->linear, l = me % 32;
  Warp& w = b.warps[me / 32];
  if (!(mask >> l & 1)) fault("warp operation: lane %d is not in its own mask %08x", l, mask);
  int i = 0;
  while (i < w.n_meetings && w.meetings[i].mask != mask) ++i;
  if (i == w.n_meetings) {
    if (i == kMaxMasks) fault("warp operation: more than %d different masks in one warp", kMaxMasks);
    ++w.n_meetings;
    w.meetings[i].mask = mask;
    w.meetings[i].arrived = w.meetings[i].generation = 0;
  }
  Meeting& m = w.meetings[i];
  if (m.arrived && m.op != op) fault("lanes of mask %08x execute different warp operations", mask);
  unsigned turn = m.generation & 1;
  m.op = op;
  m.arrived |= 1u << l;
  m.slots[turn][l] = value;
  char* order = &hb_warp[turn][me / 32];
  const bool orders = op == WarpOp::Sync;  // shuffles and votes do not order memory
  if (orders) release(order);
  if (open_meeting(w, m, me & ~31)) {
    if (seed() >= 2) yield();
  } else {
    b.threads[me].meeting = &m;
    wait(State::AtWarp);
  }
  if (orders) acquire(order);
  *slots = m.slots[turn];
  return m.there[turn];
}

void* shared_variable(const void* site, size_t bytes, size_t align) {
  Block& b = block();
  for (int i = 0; i < b.n_shared; ++i)
    if (b.shared[i].site == site) return b.shared[i].p;
  size_t at = (b.used + align - 1) & ~(align - 1);
  if (at + bytes + kGuard > kArena || b.n_shared == kMaxShared) fault("too much shared memory: %zu more bytes", bytes);
  char* p = b.arena + at;
  unpoison(p, bytes);
  fill_uninitialised(p, bytes);
  b.used = at + bytes + kGuard;
  b.shared[b.n_shared++] = {site, p};
  return p;
}
void* dynamic_shared() { return block().arena + kGuard; }

void fence() {
  acquire(&hb_fence);
  release(&hb_fence);
}

}  // namespace tg::emu

#ifdef __SANITIZE_ADDRESS__
// Called by AddressSanitizer before its report.
extern "C" __attribute__((visibility("default"))) void __asan_on_error() {
  using namespace tg::emu;
  if (!current) return;
  const uint3 b = current->block, t = current->thread;
  std::fprintf(stderr, "== CUDA emulation: the report is of kernel %s, block (%u, %u, %u), thread (%u, %u, %u)\n",
               block().name, b.x, b.y, b.z, t.x, t.y, t.z);
}
#endif
