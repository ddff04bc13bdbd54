// The plug-in's runtime: devices, streams, events and memory.
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#if !defined(TG_CUDA_EMULATION) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>  // a header that asks the profiler, if one is there
#define TG_NVTX(call) (void)(call)
#else
#define TG_NVTX(call)
#endif

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/late_error.h"
#include "backends/cuda/nccl.h"
#include "core/caching_allocator.h"
#include "core/error.h"
#include "core/generator.h"
#include "core/memory_log.h"
#include "core/version.h"

namespace tg::cuda {
namespace {

thread_local int t_device = -1;  // what cudaSetDevice was last given in this thread
thread_local StreamHandle t_streams[kMaxDevices] = {};
thread_local uint64_t t_pools[kMaxDevices] = {};  // where memory comes from while a graph is recorded, else 0
thread_local int t_captures = 0;

void release_pinned(uint64_t group);

// What replays of a graph need besides the work itself.
struct Graph {
  explicit Graph(int d) : device(d), seed(default_generator().seed()), offset(default_generator().offset()) {}
  ~Graph() {
    if (exec) cudaGraphExecDestroy(exec);
    if (read) cudaEventDestroy(read);
    if (origin) device_memory(device).deallocate(origin, kOriginBytes);
    if (pinned) release_pinned(pinned);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  static constexpr size_t kOriginBytes = 2 * sizeof(uint64_t);
  const int device;
  cudaGraphExec_t exec = nullptr;
  uint64_t seed, offset;       // of the default generator when the recording began
  uint64_t draws = 0;          // that were recorded, and that a replay takes from it; drawn again counts once
  uint64_t reached = 0;        // the offset behind the last of them, from where the recording began
  cudaEvent_t read = nullptr;  // after the last replay's work, which reads `origin`
  uint64_t* origin = nullptr;  // seed and offset of a replay, on the device; if anything there draws
  uint64_t pinned = 0;         // private order of the page-locked memory that replays copy; 0 if they copy none
};
thread_local std::unique_ptr<Graph> t_recording[kMaxDevices];

#ifdef TG_CUDA_EMULATION
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

bool env_on(const char* name) {
  const char* v = std::getenv(name);
  return v && *v && *v != '0';
}
cudaStream_t as_stream(StreamHandle s) { return static_cast<cudaStream_t>(s); }
cudaEvent_t as_event(EventHandle e) { return static_cast<cudaEvent_t>(e); }

// An event behind all work of a stream; nullptr when the device answers with an error, and so has no work any more.
void* mark_stream(int device, StreamHandle s) noexcept {
  DeviceGuard guard(device);
  cudaEvent_t e;
  if (cudaEventCreateWithFlags(&e, cudaEventDisableTiming) != cudaSuccess) return nullptr;
  if (cudaEventRecord(e, as_stream(s)) == cudaSuccess) return e;
  cudaEventDestroy(e);
  return nullptr;
}
bool mark_reached(void* mark, bool wait) noexcept {
  auto e = static_cast<cudaEvent_t>(mark);
  if (wait)
    cudaEventSynchronize(e);
  else if (cudaEventQuery(e) == cudaErrorNotReady)
    return false;
  cudaEventDestroy(e);
  return true;
}

// Blocks belong to the stream that was current when they were allocated.
class DeviceAllocator final : public CachingAllocator {
 public:
  explicit DeviceAllocator(int device) : CachingAllocator(Device(DeviceType::CUDA, device)), device_(device) {}
  void copy(void* dst, const void* src, size_t n) override {
    DeviceGuard guard(device_);
    copy_and_wait(dst, src, n);
  }

 protected:
  void* raw_allocate(size_t bytes) override {
    DeviceGuard guard(device_);
    void* p = nullptr;
    cudaError_t e = cudaMalloc(&p, bytes);
    if (e == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(e, "cudaMalloc");
    return p;
  }
  // Waits for the work that may still use the block: cudaFree does, and the emulation frees in stream order.
  void raw_free(void* p, uint64_t order) override {
    DeviceGuard guard(device_);
    if (kEmulated && !caches() && !(order & kPrivate))
      cudaFreeAsync(p, stream_of(order));
    else
      cudaFree(p);
  }
  uint64_t order() const override { return t_pools[device_] | reinterpret_cast<uintptr_t>(t_streams[device_]); }
  bool must_keep() const override { return t_captures > 0; }
  // The emulation gives every block pages of its own, unless the reuse of blocks itself is to be tested.
  bool caches() const override {
    static const bool on = !kEmulated || env_on("TG_EMU_CACHE");
    return on;
  }
  void* mark(uint64_t order) noexcept override { return mark_stream(device_, stream_of(order)); }
  bool reached(void* mark, bool wait) noexcept override { return mark_reached(mark, wait); }
  std::string memory_note() const override {
    DeviceGuard guard(device_);
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return {};
    return str("; the device has ", bytes_text(double(free)), " of ", bytes_text(double(total)), " free");
  }

 private:
  static cudaStream_t stream_of(uint64_t order) {
    return reinterpret_cast<cudaStream_t>(order & ((uint64_t(1) << kGroupShift) - 1));
  }
  const int device_;
};

// Page-locked memory of the host. An order of work is a device and one of its streams.
class PinnedAllocator final : public CachingAllocator {
 public:
  PinnedAllocator() : CachingAllocator(Device()) {}
  static uint64_t order_of(int device, StreamHandle s) {
    return uint64_t(device + 1) << kShift | reinterpret_cast<uintptr_t>(s);
  }
  void* allocate(size_t bytes) override {
    void* p = CachingAllocator::allocate(bytes);
    std::lock_guard lock(mutex_);
    if (p) live_[static_cast<const char*>(p)] = bytes;
    return p;
  }
  void deallocate(void* p, size_t bytes) override {
    {
      std::lock_guard lock(mutex_);
      live_.erase(static_cast<const char*>(p));
    }
    CachingAllocator::deallocate(p, bytes);
  }
  // The block that an address lies in, nullptr if it is none of these.
  const void* block_of(const void* p) {
    std::lock_guard lock(mutex_);
    auto it = live_.upper_bound(static_cast<const char*>(p));
    if (it == live_.begin() || static_cast<const char*>(p) >= (--it)->first + it->second) return nullptr;
    return it->first;
  }
  void copy(void* dst, const void* src, size_t n) override { std::memcpy(dst, src, n); }

 protected:
  void* raw_allocate(size_t bytes) override {
    void* p = nullptr;
    cudaError_t e = cudaHostAlloc(&p, bytes, cudaHostAllocPortable);
    if (e == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(e, "cudaHostAlloc");
    return p;
  }
  void raw_free(void* p, uint64_t) override { cudaFreeHost(p); }
  void* mark(uint64_t order) noexcept override {
    return mark_stream(int(order >> kShift) - 1, reinterpret_cast<StreamHandle>(order & ((uint64_t(1) << kShift) - 1)));
  }
  bool reached(void* mark, bool wait) noexcept override { return mark_reached(mark, wait); }

 private:
  static constexpr int kShift = 56;  // above all addresses of programs
  std::mutex mutex_;
  std::map<const char*, size_t> live_;
};

// Never destroyed: tensors in static objects may outlive everything here.
PinnedAllocator& pinned_memory() {
  static auto* m = new PinnedAllocator;
  return *m;
}
void release_pinned(uint64_t group) { pinned_memory().end_private(group); }

// The order that a copy joins: a stream, or the graph that is recorded there, whose replays copy again.
uint64_t order_of_copy(int device) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (t_captures > 0 && stream()) check(cudaStreamIsCapturing(stream(), &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone)
    for (auto& graph : t_recording)
      if (graph) return graph->pinned ? graph->pinned : graph->pinned = pinned_memory().new_private();
  return PinnedAllocator::order_of(device, stream());
}

// What cudaGetDeviceCount's answer means. CUDA says the same of no driver and of one that is too old; the driver's
// version tells them apart.
Probe look() {
  Probe p;
  p.emulated = kEmulated;
  cudaDriverGetVersion(&p.driver_version);
  cudaRuntimeGetVersion(&p.runtime_version);
  cudaError_t e = cudaGetDeviceCount(&p.devices);
  if (e == cudaSuccess && p.devices > 0) {
    p.devices = std::min(p.devices, kMaxDevices);
    p.text = str(p.devices, p.devices == 1 ? " device" : " devices", kEmulated ? " (emulation on the CPU)" : "");
    return p;
  }
  cudaGetLastError();
  p.devices = 0;
  auto version = [](int v) { return str(v / 1000, ".", v % 1000 / 10); };
  if (p.driver_version == 0) {
    p.missing = Missing::Driver;
    p.text = "there is no NVIDIA driver (libcuda.so.1 cannot be loaded); install the driver of your system's GPU";
  } else if (e == cudaErrorInsufficientDriver || p.driver_version / 1000 < CUDART_VERSION / 1000) {
    p.missing = Missing::NewerDriver;
    p.text = str("the NVIDIA driver is for CUDA ", version(p.driver_version), ", but this build needs one for CUDA ",
                 version(CUDART_VERSION), " or newer; install a newer driver");
  } else if (e == cudaErrorNoDevice || e == cudaSuccess) {
    p.missing = Missing::Device;
    p.text = "the NVIDIA driver finds no device (is CUDA_VISIBLE_DEVICES set, is the GPU passed to this container?)";
  } else {
    p.missing = Missing::Other;
    p.text = str("the NVIDIA driver does not start: ", cudaGetErrorString(e), " (", cudaGetErrorName(e), ")");
  }
  return p;
}

class PluginRuntime final : public Runtime {
 public:
  bool emulated() const override { return kEmulated; }
  Probe probe() noexcept override {
    try {
      static const Probe p = look();
      return p;
    } catch (...) {
      Probe p;
      p.missing = Missing::Other;
      return p;
    }
  }
  int device_count() override { return probe().devices; }

  DeviceProperties properties(int device) override {
    cudaDeviceProp c;
    check(cudaGetDeviceProperties(&c, device), "cudaGetDeviceProperties");
    DeviceProperties p;
    p.name = c.name;
    p.major = c.major;
    p.minor = c.minor;
    p.multiprocessors = c.multiProcessorCount;
    p.total_memory = int64_t(c.totalGlobalMem);
    p.shared_memory_per_block = int64_t(c.sharedMemPerBlock);
    p.l2_cache = c.l2CacheSize;
    p.warp_size = c.warpSize;
    p.max_threads_per_block = c.maxThreadsPerBlock;
    p.max_threads_per_multiprocessor = c.maxThreadsPerMultiProcessor;
    return p;
  }
  std::pair<int64_t, int64_t> free_and_total_memory(int device) override {
    DeviceGuard guard(device);
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return {int64_t(free), int64_t(total)};
  }

  Backend& backend(int device) override { return *slot(device).backend; }
  Allocator& allocator(int device) override { return *slot(device).memory; }

  int current_device() override { return cuda::current_device(); }
  void set_current_device(int device) override { set_device(device); }
  StreamHandle current_stream(int device) override { return stream_slot(device); }
  void set_current_stream(int device, StreamHandle s) override { stream_slot(device) = s; }

  StreamHandle stream_from_pool(int device, int priority) override {
    Slot& s = slot(device);
    std::lock_guard lock(s.mutex);
    auto& [streams, next] = s.streams[priority < 0];
    if (streams.size() == kStreams) return streams[next++ % kStreams];
    DeviceGuard guard(device);
    cudaStream_t made;
    check(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, priority < 0 ? -1 : 0), "cudaStreamCreate");
    streams.push_back(made);
    return made;
  }
  void stream_synchronize(int device, StreamHandle s) override {
    DeviceGuard guard(device);
    check(cudaStreamSynchronize(as_stream(s)), "cudaStreamSynchronize");
    raise_late_error();
  }
  bool stream_query(int device, StreamHandle s) override {
    DeviceGuard guard(device);
    return done(cudaStreamQuery(as_stream(s)), "cudaStreamQuery");
  }
  void stream_wait_event(int device, StreamHandle s, EventHandle e) override {
    DeviceGuard guard(device);
    check(cudaStreamWaitEvent(as_stream(s), as_event(e), 0), "cudaStreamWaitEvent");
  }
  void record_stream(int device, const void* p, StreamHandle s) override {
    slot(device).memory->record_use(p, reinterpret_cast<uintptr_t>(s));
  }
  void device_synchronize(int device) override {
    DeviceGuard guard(device);
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    raise_late_error();
  }

  EventHandle event_create(int device, bool timing, bool blocking) override {
    DeviceGuard guard(device);
    unsigned flags = (timing ? 0u : cudaEventDisableTiming) | (blocking ? cudaEventBlockingSync : 0u);
    cudaEvent_t e;
    check(cudaEventCreateWithFlags(&e, flags), "cudaEventCreate");
    return e;
  }
  void event_destroy(EventHandle e) noexcept override { cudaEventDestroy(as_event(e)); }
  void event_record(EventHandle e, int device, StreamHandle s) override {
    DeviceGuard guard(device);
    check(cudaEventRecord(as_event(e), as_stream(s)), "cudaEventRecord");
  }
  bool event_query(EventHandle e) override { return done(cudaEventQuery(as_event(e)), "cudaEventQuery"); }
  void event_synchronize(EventHandle e) override {
    check(cudaEventSynchronize(as_event(e)), "cudaEventSynchronize");
    raise_late_error();
  }
  float event_elapsed_ms(EventHandle from, EventHandle to) override {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, as_event(from), as_event(to)), "cudaEventElapsedTime");
    return ms;
  }

  // Relaxed: memory may be taken from the device while a graph is recorded.
  uint64_t capture_begin(int device, StreamHandle s, uint64_t pool) override {
    TG_CHECK(s, ValueError, "cuda: the default stream cannot record a graph");
    TG_CHECK(!t_pools[device], ValueError, "cuda: this thread records a graph of cuda:", device, " already");
    DeviceGuard guard(device);
    if (!pool) pool = slot(device).memory->new_private();
    check(cudaStreamBeginCapture(as_stream(s), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    t_pools[device] = pool;
    t_recording[device] = std::make_unique<Graph>(device);
    ++t_captures;
    return pool;
  }
  GraphHandle capture_end(int device, StreamHandle s) override {
    TG_CHECK(t_pools[device], ValueError, "cuda: this thread records no graph of cuda:", device);
    DeviceGuard guard(device);
    t_pools[device] = 0;
    --t_captures;
    std::unique_ptr<Graph> made = std::move(t_recording[device]);
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(as_stream(s), &graph), "cudaStreamEndCapture");
    cudaError_t e = cudaGraphInstantiate(&made->exec, graph, 0);
    cudaGraphDestroy(graph);
    check(e, "cudaGraphInstantiate");
    if (made->draws == 0) return made.release();
    Generator& random = default_generator();
    TG_CHECK(
        random.seed() == made->seed && random.offset() - made->offset == made->draws && made->reached == made->draws,
        NotImplementedError,
        "cuda: while a graph that draws random numbers was recorded, the default generator was seeded anew or "
        "drawn from by other work; replays could not go on with its numbers");
    random.set_state(made->seed, made->offset);  // replays draw, the recording has not
    return made.release();
  }
  bool capturing() noexcept override { return t_captures > 0; }
  Origin capture_origin(int device, uint64_t drawn) override {
    TG_CHECK(t_captures == 1, NotImplementedError, "random numbers can be drawn in one graph at a time");
    Graph* const g = t_recording[device].get();
    TG_CHECK(g, NotImplementedError, "a graph draws random numbers on the device that records it");
    if (drawn >= g->offset + g->reached) ++g->draws, g->reached = drawn + 1 - g->offset;
    if (!g->origin) {
      // Not the graph's memory, which earlier work of the same replay may have used for something else.
      struct Outside {
        uint64_t& place;
        const uint64_t pool = std::exchange(place, 0);
        ~Outside() { place = pool; }
      } outside{t_pools[device]};
      g->origin = static_cast<uint64_t*>(device_memory(device).allocate(Graph::kOriginBytes));
    }
    return {g->seed, g->offset, g->origin};
  }
  void graph_launch(GraphHandle g, int device, StreamHandle s) override {
    DeviceGuard guard(device);
    auto& graph = *static_cast<Graph*>(g);
    note_work("cudaGraphLaunch");
    if (graph.draws == 0) return check(cudaGraphLaunch(graph.exec, as_stream(s)), "cudaGraphLaunch");
    TG_CHECK(t_captures == 0, NotImplementedError,
             "cuda: a graph that draws random numbers cannot be replayed within another: they would be the same in "
             "every replay of that");
    if (graph.read)
      check(cudaStreamWaitEvent(as_stream(s), graph.read, 0), "cudaStreamWaitEvent");
    else
      check(cudaEventCreateWithFlags(&graph.read, cudaEventDisableTiming), "cudaEventCreate");
    Generator& random = default_generator();
    const uint64_t seed = random.seed(), first = random.next(graph.draws);
    if (graph.origin) set_origin(graph.origin, seed, first, as_stream(s));
    check(cudaGraphLaunch(graph.exec, as_stream(s)), "cudaGraphLaunch");
    check(cudaEventRecord(graph.read, as_stream(s)), "cudaEventRecord");
  }
  // A replay may be under way. What it has to tell of wrong indices is told at the host's next wait.
  void graph_destroy(GraphHandle g) noexcept override {
    const int before = current_device();
    if (cudaSetDevice(static_cast<Graph*>(g)->device) == cudaSuccess) cudaDeviceSynchronize();
    delete static_cast<Graph*>(g);
    cudaSetDevice(before);
  }
  void pool_release(int device, uint64_t pool) override { slot(device).memory->end_private(pool); }

  void profile_push([[maybe_unused]] const char* text) noexcept override { TG_NVTX(nvtxRangePushA(text)); }
  void profile_pop() noexcept override { TG_NVTX(nvtxRangePop()); }
  void profile_mark([[maybe_unused]] const char* text) noexcept override { TG_NVTX(nvtxMarkA(text)); }

  void* kernel_load(int device, const std::string& image, const std::string& name) override {
    return load_kernel(device, image, name);
  }
  void kernel_launch(void* kernel, const unsigned* grid, const unsigned* block, size_t shared, StreamHandle s,
                     void** args) override {
    launch_kernel(kernel, grid, block, shared, as_stream(s), args);
  }

  uint64_t launches() noexcept override { return cuda::launches(); }

  void* pinned_allocate(size_t bytes) override { return pinned_memory().allocate(bytes); }
  void pinned_free(void* p, size_t bytes) noexcept override { pinned_memory().deallocate(p, bytes); }
  bool is_pinned(const void* p) noexcept override {
    if (pinned_memory().block_of(p)) return true;
    cudaPointerAttributes a{};
    cudaError_t e = cudaPointerGetAttributes(&a, p);
    if (e != cudaSuccess) cudaGetLastError();
    return e == cudaSuccess && a.type == cudaMemoryTypeHost;
  }
  void copy_async(int device, void* dst, const void* src, size_t bytes) override {
    DeviceGuard guard(device);
    check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream()), "cudaMemcpyAsync");
    for (const void* side : {static_cast<const void*>(dst), src})
      if (const void* block = pinned_memory().block_of(side)) pinned_memory().record_use(block, order_of_copy(device));
  }
  void copy_peer(int to_device, void* dst, int from_device, const void* src, size_t bytes) override {
    join(from_device, stream_slot(from_device), to_device, stream_slot(to_device));
    {
      DeviceGuard guard(to_device);
      check(cudaMemcpyPeerAsync(dst, to_device, src, from_device, bytes, stream()), "cudaMemcpyPeerAsync");
    }
    join(to_device, stream_slot(to_device), from_device, stream_slot(from_device));
  }
  bool can_access_peer(int device, int peer) override {
    int yes = 0;
    check(cudaDeviceCanAccessPeer(&yes, device, peer), "cudaDeviceCanAccessPeer");
    return yes != 0;
  }
  int nccl_version() override { return cuda::nccl_version(); }
  void collective(const CollectiveCall& call) override { run_collective(call); }
  int stream_device(StreamHandle s) override {
    int device = 0;
    check(cudaStreamGetDevice(as_stream(s), &device), "cudaStreamGetDevice");
    return device;
  }

 private:
  static constexpr size_t kStreams = 32;
  struct StreamPool {
    std::vector<StreamHandle> streams;
    size_t next = 0;
  };
  struct Slot {
    std::unique_ptr<CudaBackend> backend;
    std::unique_ptr<DeviceAllocator> memory;
    std::mutex mutex;
    StreamPool streams[2];  // of priority 0 and -1
  };
  Slot slots_[kMaxDevices];

  static bool done(cudaError_t e, const char* what) {
    if (e == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check(e, what);
    return true;
  }
  Slot& slot(int device) { return slots_[size_t(device)]; }

 public:
  PluginRuntime() {
    for (int d = 0; d < kMaxDevices; ++d) {
      slots_[d].backend = std::make_unique<CudaBackend>(d);
      slots_[d].memory = std::make_unique<DeviceAllocator>(d);
    }
  }
};

// Never destroyed: tensors in static objects may outlive everything here.
PluginRuntime& the_runtime() {
  static auto* r = new PluginRuntime;
  return *r;
}

}  // namespace

int current_device() { return t_device < 0 ? 0 : t_device; }
void set_device(int device) {
  if (t_device == device) return;
  check(cudaSetDevice(device), "cudaSetDevice");
  t_device = device;
}
bool recording_graph() { return t_captures > 0; }
StreamHandle& stream_slot(int device) { return t_streams[device]; }
cudaStream_t stream() { return as_stream(t_streams[current_device()]); }
Allocator& device_memory(int device) { return the_runtime().allocator(device); }

std::unique_ptr<Scratch> scratch_if_it_fits(size_t bytes) {
  try {
    return std::make_unique<Scratch>(bytes);
  } catch (const OutOfMemoryError&) {
    return nullptr;
  }
}

void copy_and_wait(void* dst, const void* src, size_t n) {
  if (n == 0) return;
  check(cudaMemcpyAsync(dst, src, n, cudaMemcpyDefault, stream()), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  raise_late_error();
}

void CudaBackend::copy_bytes(void* dst, const void* src, size_t n) {
  DeviceGuard guard(device_);
  copy_and_wait(dst, src, n);
}
void CudaBackend::synchronize() {
  DeviceGuard guard(device_);
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  raise_late_error();
}

}  // namespace tg::cuda

extern "C" __attribute__((visibility("default"))) tg::cuda::Runtime* tg_cuda_plugin(int abi, const char* version) {
  if (abi != tg::cuda::kPluginAbi || std::strcmp(version, TG_VERSION) != 0) return nullptr;
  return &tg::cuda::the_runtime();
}
