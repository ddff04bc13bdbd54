// The CUDA runtime of the emulation: devices, memory, streams, events. Streams are lazy: work waits until somebody
// synchronises and then runs in one of the orders that streams and events allow, so that a missing wait gives wrong
// results. Device memory is out of reach of the host while no kernel runs.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/emu/block.h"
#include "backends/cuda/emu/fiber.h"

namespace tg::emu {
namespace {

int env_int(const char* name, int otherwise) {
  const char* e = std::getenv(name);
  return e && *e ? std::atoi(e) : otherwise;
}

constexpr size_t kHeap = size_t(256) << 30, kPage = 4096;
constexpr size_t kMaxQueued = 4096;

struct Work {
  std::function<void()> run;
  std::function<bool()> ready;  // empty: at once
};
// Recorded work: what each piece comes after.
struct GraphNode {
  std::function<void()> run;
  std::vector<size_t> after;
};
struct GraphState {
  std::vector<GraphNode> nodes;
  bool invalid = false;  // something was asked that a graph cannot do
};
using Graph = std::shared_ptr<GraphState>;

struct Stream {
  int device = 0;
  std::deque<Work> queue;
  Graph capture;             // while its work is recorded
  std::vector<size_t> tail;  // what its next piece comes after
};
// Queued work holds on to its events, so that destroying one is no reason to run anything.
struct EventState {
  uint64_t recorded = 0, done = 0;
  double ms = 0;
  Graph capture;  // recorded in a graph, behind `tail`
  std::vector<size_t> tail;
};
using Event = std::shared_ptr<EventState>;
struct Block {
  size_t size;
  int device;  // -1: page-locked host memory
  bool live;
};

struct Machine {
  std::recursive_mutex mutex;
  int devices = std::clamp(env_int("TG_CUDA_EMULATE_DEVICES", 1), 0, 16);
  size_t memory = size_t(std::clamp(env_int("TG_CUDA_EMULATE_MEMORY_MB", 4096), 1, 200000)) << 20;
  bool lazy = env_int("TG_EMU_LAZY", 1) != 0;
  std::vector<std::unique_ptr<Stream>> defaults;
  std::vector<Stream*> streams;
  std::map<char*, Block> blocks;  // by start
  size_t used[16] = {};
  char *heap = nullptr, *top = nullptr;       // blocks lie in [heap, top)
  std::vector<std::pair<char*, char*>> open;  // what the running work may touch
  std::map<const void*, int> shared_limit;
  cudaError_t fault = cudaSuccess;  // of a kernel: every later call answers with it
  int depth = 0;                    // of running work
  size_t queued = 0;
  Machine() {
    for (int d = 0; d < std::max(devices, 1); ++d) {
      defaults.push_back(std::make_unique<Stream>());
      defaults.back()->device = d;
      streams.push_back(defaults.back().get());
    }
  }
};
Machine& machine() {
  static Machine* m = new Machine;
  return *m;
}
thread_local int this_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

using Lock = std::lock_guard<std::recursive_mutex>;

cudaError_t error(cudaError_t e) {
  if (e) last_error = e;
  return e;
}
Event& event_of(cudaEvent_t e) { return *reinterpret_cast<Event*>(e); }
Stream* stream_of(cudaStream_t s) {
  return s ? reinterpret_cast<Stream*>(s) : machine().defaults[size_t(this_device)].get();
}

// Tells the user that host code read or wrote memory of the device, then dies as before.
struct sigaction previous_handler;
void on_fault(int signal, siginfo_t* info, void* context) {
  char* p = static_cast<char*>(info->si_addr);
  Machine& m = machine();
  if (p >= m.heap && p < m.heap + kHeap && m.depth == 0)
    fault("the host touched device memory at %p", static_cast<void*>(p));
  if (p >= m.heap && p < m.heap + kHeap) fault("memory at %p is not allocated, or was freed", static_cast<void*>(p));
  if (previous_handler.sa_flags & SA_SIGINFO) return previous_handler.sa_sigaction(signal, info, context);
  ::signal(signal, SIG_DFL);
}
void open_heap() {
  Machine& m = machine();
  if (m.heap) return;
  m.heap = m.top = map_memory(kHeap, false);
  struct sigaction a{};
  a.sa_flags = SA_SIGINFO | SA_ONSTACK;
  a.sa_sigaction = on_fault;
  sigaction(SIGSEGV, &a, &previous_handler);
}
void protect(char* from, char* to, bool open) {
  from = machine().heap + (size_t(from - machine().heap) & ~(kPage - 1));
  to = machine().heap + ((size_t(to - machine().heap) + kPage - 1) & ~(kPage - 1));
  mprotect(from, size_t(to - from), open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
// Opens the pages of all blocks, so that it costs what is in use; small gaps with their neighbours.
void allow_access() {
  constexpr std::ptrdiff_t kGap = 1 << 20;
  auto& open = machine().open;
  for (auto& [start, b] : machine().blocks) {
    if (b.device < 0) continue;
    if (open.empty() || start - open.back().second > kGap) open.emplace_back(start, start);
    open.back().second = start + b.size;
  }
  for (auto [from, to] : open) protect(from, to, true);
}
void forbid_access() {
  for (auto [from, to] : machine().open) protect(from, to, false);
  machine().open.clear();
}

struct Access {
  Access() {
    if (machine().depth++ == 0) allow_access();
  }
  ~Access() {
    if (--machine().depth == 0) forbid_access();
  }
};

// Runs queued work until `done` says so, each time of any stream whose turn it may be; with `once` at most one piece.
template <class F>
void drain(F done, bool once = false) {
  Machine& m = machine();
  if (done()) return;
  Access access;
  std::vector<Stream*> able;
  do {
    able.clear();
    for (Stream* s : m.streams)
      if (!s->queue.empty() && (!s->queue.front().ready || s->queue.front().ready())) able.push_back(s);
    if (able.empty()) fault("streams wait for an event that no queued work records");
    Stream* s = able[seed() < 2 ? 0 : draw(uint32_t(able.size()))];
    Work w = std::move(s->queue.front());
    s->queue.pop_front();
    --m.queued;
    w.run();
  } while (!once && !done());
}
// A question about work lets some of it run, so that asking again and again has an end.
template <class F>
cudaError_t ask(F done) {
  if (done()) return cudaSuccess;
  drain(done, true);
  return cudaErrorNotReady;
}
bool all_done() { return machine().queued == 0; }

cudaError_t put(Stream* s, std::function<void()> run, std::function<bool()> ready = nullptr) {
  Machine& m = machine();
  if (s->capture) {
    s->capture->nodes.push_back({std::move(run), std::move(s->tail)});
    s->tail = {s->capture->nodes.size() - 1};
    return cudaSuccess;
  }
  if (m.depth > 0 && !ready) {  // work started by work, such as a library's
    run();
    return cudaSuccess;
  }
  s->queue.push_back({std::move(run), std::move(ready)});
  ++m.queued;
  if (!m.lazy || m.queued > kMaxQueued) drain(all_done);
  return cudaSuccess;
}

// A wait for recorded work has no end, and spoils the recording.
bool spoiled(const Graph& g) {
  if (g) g->invalid = true;
  return g != nullptr;
}
bool any_capture() {
  bool any = false;
  for (Stream* s : machine().streams) any |= spoiled(s->capture);
  return any;
}

// Runs a graph's pieces in one of the orders that it allows.
void replay(const GraphState& g) {
  std::vector<size_t> missing(g.nodes.size()), able;
  std::vector<std::vector<size_t>> before(g.nodes.size());
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    missing[i] = g.nodes[i].after.size();
    for (size_t j : g.nodes[i].after) before[j].push_back(i);
    if (missing[i] == 0) able.push_back(i);
  }
  while (!able.empty()) {
    size_t at = seed() < 2 ? 0 : draw(uint32_t(able.size())), i = able[at];
    able.erase(able.begin() + ptrdiff_t(at));
    g.nodes[i].run();
    for (size_t j : before[i])
      if (--missing[j] == 0) able.push_back(j);
  }
}

std::map<char*, Block>::iterator find(const void* p) {
  auto& b = machine().blocks;
  auto it = b.upper_bound(static_cast<char*>(const_cast<void*>(p)));
  if (it == b.begin()) return b.end();
  --it;
  return static_cast<const char*>(p) <= it->first + it->second.size ? it : b.end();
}
bool known(const void* p) {
  auto it = find(p);
  return it != machine().blocks.end() && it->second.live;
}
// 1 past the end is a legal pointer for an empty range.
void check_pointer(const char* kernel, const void* p, int device) {
  auto it = find(p);
  if (it == machine().blocks.end()) fault("kernel %s: the argument %p is no device memory", kernel, p);
  if (!it->second.live) fault("kernel %s: the argument %p points to memory that was freed", kernel, p);
  if (it->second.device >= 0 && it->second.device != device)
    fault("kernel %s runs on device %d, but its argument %p is memory of device %d", kernel, device, p,
          it->second.device);
}

void forget(void* p) {
  Machine& m = machine();
  auto it = m.blocks.find(static_cast<char*>(p));
  size_t n = it->second.size;
  m.used[it->second.device] -= n;
  poison(p, n);
  char* page = m.heap + (size_t(it->first - m.heap) & ~(kPage - 1));
  madvise(page, size_t(it->first + n - page), MADV_DONTNEED);  // addresses are never used again, pages are
  m.blocks.erase(it);
}

}  // namespace

// TG_EMU_KERNELS names a file that gets the name of each kernel when it is first launched, and where it lies in which
// library, which tells the instantiations of a template apart. %p in it becomes the number of the process.
static void note_kernel(const Launch& l) {
  static std::FILE* const file = [] {
    const char* setting = std::getenv("TG_EMU_KERNELS");
    std::string path = setting ? setting : "";
    if (size_t at = path.find("%p"); at != path.npos) path.replace(at, 2, std::to_string(getpid()));
    return path.empty() ? nullptr : std::fopen(path.c_str(), "w");
  }();
  static auto* seen = new std::set<const void*>;
  if (!file || !seen->insert(l.function).second) return;
  Dl_info in{};
  dladdr(l.function, &in);
  const auto offset = reinterpret_cast<uintptr_t>(l.function) - reinterpret_cast<uintptr_t>(in.dli_fbase);
  std::fprintf(file, "%s\t%s\t%zx\n", l.name, in.dli_fname ? in.dli_fname : "", size_t(offset));
  std::fflush(file);
}

int64_t max_piece(int64_t most) {
  static const int64_t less = env_int("TG_EMU_PIECE", 0);
  return less > 0 ? std::min(less, most) : most;
}

void enqueue(cudaStream_t s, std::function<void()> work) {
  Lock lock(machine().mutex);
  put(stream_of(s), std::move(work));
}

cudaError_t launch(const Launch& l, std::function<void()> body) {
  Machine& m = machine();
  Lock lock(m.mutex);
  if (m.fault) return error(m.fault);
  if (last_error) return cudaGetLastError();  // as a launch on a GPU reports what an earlier call left
  const dim3 g = l.grid, b = l.block;
  if (!g.x || !g.y || !g.z || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return error(cudaErrorInvalidConfiguration);
  if (!b.x || !b.y || !b.z || b.z > 64 || uint64_t(b.x) * b.y * b.z > 1024) return error(cudaErrorInvalidConfiguration);
  auto limit = m.shared_limit.find(l.function);
  if (l.shared_bytes > size_t(limit == m.shared_limit.end() ? 48 << 10 : limit->second))
    return error(cudaErrorInvalidValue);
  note_kernel(l);
  Stream* s = stream_of(l.stream);
  static int until_fault = env_int("TG_EMU_FAULT", 0);  // the kernel of this number fails: when it runs, as on a GPU
  if (until_fault > 0 && --until_fault == 0) return put(s, [&m] { m.fault = cudaErrorLaunchFailure; });
  for (int i = 0; i < l.n_pointers; ++i)
    if (l.pointers[i]) check_pointer(l.name, l.pointers[i], s->device);
  if (s->capture) {  // what is freed before a replay shows then
    std::vector<const void*> pointers(l.pointers, l.pointers + l.n_pointers);
    return put(s, [=, name = l.name, device = s->device, shared = l.shared_bytes, body = std::move(body)] {
      for (const void* p : pointers)
        if (p) check_pointer(name, p, device);
      run_grid(name, g, b, shared, body);
    });
  }
  return put(
      s, [=, name = l.name, shared = l.shared_bytes, body = std::move(body)] { run_grid(name, g, b, shared, body); });
}

}  // namespace tg::emu

using namespace tg::emu;

cudaError_t cudaGetDeviceCount(int* n) {
  *n = machine().devices;
  return *n > 0 ? cudaSuccess : error(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* d) {
  *d = this_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= machine().devices) return error(cudaErrorInvalidDevice);
  this_device = d;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::strcpy(p->name, "emulation on the CPU, not a GPU");
  p->totalGlobalMem = machine().memory;
  p->sharedMemPerBlock = 48 << 10;
  p->major = 9;
  p->multiProcessorCount = 4;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = env_int("TG_EMU_SHARED_KB", 227) << 10;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  Lock lock(machine().mutex);
  if (any_capture()) return error(cudaErrorStreamCaptureUnsupported);
  drain(all_done);
  return error(machine().fault);
}
cudaError_t cudaDeviceCanAccessPeer(int* yes, int device, int peer) {
  *yes = device != peer;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

namespace {
constexpr struct {
  cudaError_t code;
  const char *name, *text;
} kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
};
}  // namespace
const char* cudaGetErrorName(cudaError_t e) {
  for (auto& x : kErrors)
    if (x.code == e) return x.name;
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t e) {
  for (auto& x : kErrors)
    if (x.code == e) return x.text;
  return "unknown error";
}

// Each block gets pages and guards of its own; reading it before it is written gives NaN.
cudaError_t cudaMalloc(void** p, size_t n) {
  Machine& m = machine();
  Lock lock(m.mutex);
  open_heap();
  *p = nullptr;
  if (n == 0) return cudaSuccess;
  size_t& used = m.used[this_device];
  size_t guard = std::clamp<size_t>(n / 8, 256, size_t(64) << 10);
  size_t start = (size_t(m.top - m.heap) + guard + 255) & ~size_t(255);
  size_t end = (start + n + guard + kPage - 1) & ~(kPage - 1);
  if (used + n > m.memory) drain(all_done);  // freed memory counts once the queue got there
  if (used + n > m.memory || end > kHeap) return error(cudaErrorMemoryAllocation);
  char* q = m.heap + start;
  poison(m.top, end - size_t(m.top - m.heap));
  unpoison(q, n);
  const size_t fresh = size_t(m.heap + end - m.top);
  mprotect(m.top, fresh, PROT_READ | PROT_WRITE);
  fill_uninitialised(q, n);
  if (m.depth == 0)
    mprotect(m.top, fresh, PROT_NONE);
  else
    m.open.emplace_back(m.top, m.heap + end);
  m.top = m.heap + end;
  used += n;
  m.blocks[q] = {n, this_device, true};
  *p = q;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t s) {
  if (!p) return cudaSuccess;
  Lock lock(machine().mutex);
  auto it = machine().blocks.find(static_cast<char*>(p));
  if (it == machine().blocks.end() || !it->second.live) return error(cudaErrorInvalidValue);
  it->second.live = false;
  if (stream_of(s)->capture) {  // no part of the recording
    forget(p);
    return cudaSuccess;
  }
  return put(stream_of(s), [p] { forget(p); });
}
cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  Lock lock(machine().mutex);
  drain(all_done);
  return cudaFreeAsync(p, nullptr);
}
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) {
  Lock lock(machine().mutex);
  *p = std::malloc(n ? n : 1);
  if (!*p) return error(cudaErrorMemoryAllocation);
  machine().blocks[static_cast<char*>(*p)] = {n, -1, true};
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  Lock lock(machine().mutex);
  drain(all_done);
  machine().blocks.erase(static_cast<char*>(p));
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Lock lock(machine().mutex);
  *total = machine().memory;
  *free = *total - std::min(*total, machine().used[this_device]);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  Lock lock(machine().mutex);
  auto it = find(p);
  bool live = it != machine().blocks.end() && it->second.live;
  *a = {!live                   ? cudaMemoryTypeUnregistered
        : it->second.device < 0 ? cudaMemoryTypeHost
                                : cudaMemoryTypeDevice,
        live ? std::max(it->second.device, 0) : 0};
  return cudaSuccess;
}
// Pageable host memory is read before the call returns, and has been written when it does; page-locked is not.
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t n, cudaMemcpyKind, cudaStream_t stream) {
  Lock lock(machine().mutex);
  Stream* s = stream_of(stream);
  if (!known(src)) {
    auto copy = std::make_shared<std::vector<char>>(static_cast<const char*>(src), static_cast<const char*>(src) + n);
    return put(s, [=] { std::memcpy(dst, copy->data(), n); });
  }
  put(s, [=] {
    if (find(src) == machine().blocks.end()) fault("a copy reads %p, which was freed since it was queued", src);
    std::memmove(dst, src, n);
  });
  if (!known(dst)) drain([s] { return s->queue.empty(); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* dst, int, const void* src, int, size_t n, cudaStream_t s) {
  return cudaMemcpyAsync(dst, src, n, cudaMemcpyDefault, s);
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t s) {
  Lock lock(machine().mutex);
  return put(stream_of(s), [=] { std::memset(p, value, n); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) {
  Lock lock(machine().mutex);
  auto* x = new Stream;
  x->device = this_device;
  machine().streams.push_back(x);
  *s = reinterpret_cast<cudaStream_t>(x);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  cudaStreamSynchronize(s);
  Lock lock(machine().mutex);
  auto& all = machine().streams;
  all.erase(std::find(all.begin(), all.end(), reinterpret_cast<Stream*>(s)));
  delete reinterpret_cast<Stream*>(s);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  Lock lock(machine().mutex);
  if (spoiled(stream_of(s)->capture)) return error(cudaErrorStreamCaptureUnsupported);
  drain([x = stream_of(s)] { return x->queue.empty(); });
  return error(machine().fault);
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
  Lock lock(machine().mutex);
  if (spoiled(stream_of(s)->capture)) return error(cudaErrorStreamCaptureUnsupported);
  return ask([x = stream_of(s)] { return x->queue.empty(); });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  Lock lock(machine().mutex);
  Event x = event_of(e);
  Stream* to = stream_of(s);
  if (x->capture) {  // the stream takes part in the recording from here on
    if (to->capture && to->capture != x->capture) return error(cudaErrorStreamCaptureIsolation);
    to->capture = x->capture;
    for (size_t i : x->tail)
      if (std::find(to->tail.begin(), to->tail.end(), i) == to->tail.end()) to->tail.push_back(i);
    return cudaSuccess;
  }
  if (to->capture && x->done < x->recorded) return error(cudaErrorStreamCaptureIsolation);
  if (to->capture) return cudaSuccess;
  return put(to, [] {}, [x, until = x->recorded] { return x->done >= until; });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = reinterpret_cast<cudaEvent_t>(new Event(new EventState));
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  Lock lock(machine().mutex);
  delete &event_of(e);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  Lock lock(machine().mutex);
  Event x = event_of(e);
  Stream* from = stream_of(s);
  x->capture = from->capture;
  x->tail = from->tail;
  if (from->capture) return cudaSuccess;
  return put(from, [x, n = ++x->recorded] {
    x->done = n;
    x->ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
  });
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  Lock lock(machine().mutex);
  if (spoiled(event_of(e)->capture)) return error(cudaErrorStreamCaptureUnsupported);
  return ask([x = event_of(e)] { return x->done >= x->recorded; });
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  Lock lock(machine().mutex);
  if (spoiled(event_of(e)->capture)) return error(cudaErrorStreamCaptureUnsupported);
  drain([x = event_of(e)] { return x->done >= x->recorded; });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = float(event_of(to)->ms - event_of(from)->ms);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute, int value) {
  Lock lock(machine().mutex);
  if (value > 227 << 10) return error(cudaErrorInvalidValue);
  machine().shared_limit[f] = value;
  return cudaSuccess;
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  Lock lock(machine().mutex);
  if (!s) return error(cudaErrorStreamCaptureUnsupported);
  Stream* x = stream_of(s);
  if (x->capture) return error(cudaErrorIllegalState);
  x->capture = std::make_shared<GraphState>();
  x->tail.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamGetDevice(cudaStream_t s, int* device) {
  Lock lock(machine().mutex);
  *device = stream_of(s)->device;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
  Lock lock(machine().mutex);
  *status = stream_of(s)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  Lock lock(machine().mutex);
  *graph = nullptr;
  Graph g = stream_of(s)->capture;
  if (!g) return error(cudaErrorIllegalState);
  std::vector<bool> joined(g->nodes.size());
  std::vector<size_t> open = stream_of(s)->tail;
  while (!open.empty()) {
    size_t i = open.back();
    open.pop_back();
    if (joined[i]) continue;
    joined[i] = true;
    open.insert(open.end(), g->nodes[i].after.begin(), g->nodes[i].after.end());
  }
  for (Stream* x : machine().streams)
    if (x->capture == g) {
      x->capture = nullptr;
      x->tail.clear();
    }
  if (g->invalid) return error(cudaErrorStreamCaptureInvalidated);
  if (std::find(joined.begin(), joined.end(), false) != joined.end()) return error(cudaErrorStreamCaptureUnjoined);
  *graph = reinterpret_cast<cudaGraph_t>(new Graph(g));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  Lock lock(machine().mutex);
  return put(stream_of(s), [g = *reinterpret_cast<Graph*>(exec)] { replay(*g); });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete reinterpret_cast<Graph*>(exec);
  return cudaSuccess;
}
