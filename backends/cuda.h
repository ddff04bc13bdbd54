// CUDA devices: what there is, and the plug-in that drives them. The plug-in is a library of its own, opened when a
// CUDA device is first used, so that a program that never does costs nothing and runs on machines that have no CUDA.
#pragma once
#include <memory>
#include <string>

#include "backends/backend.h"

namespace tg::cuda {

// Handles of the CUDA runtime (cudaStream_t, cudaEvent_t). A null stream is the device's default stream.
using StreamHandle = void*;
using EventHandle = void*;
using GraphHandle = void*;  // cudaGraphExec_t

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t total_memory = 0;  // bytes
  int64_t shared_memory_per_block = 0, l2_cache = 0;
  int warp_size = 32, max_threads_per_block = 1024, max_threads_per_multiprocessor = 0;
};

// Why there is no device, from the most to the least basic.
enum class Missing : uint8_t { Nothing, Plugin, Driver, NewerDriver, Device, Other };

// What a look at the machine found. `text` is one sentence for the user: what is missing and what to install.
struct Probe {
  Missing missing = Missing::Nothing;
  int devices = 0;
  int driver_version = 0, runtime_version = 0;  // 12080 is 12.8; 0 if there is none
  bool emulated = false;
  std::string text, plugin_path;
};

// What NCCL does with tensors of several devices (backends/collective.h).
enum class Collective : uint8_t { AllReduce, Reduce, Broadcast, AllGather, ReduceScatter };
struct CollectiveCall {
  Collective kind;
  int op, root;  // an ncclRedOp_t; a place in `parts`
  DType dtype;
  int64_t n;  // elements of an input, or of an output where they are parts of it
  struct Part {
    int device;
    const void* in;
    void* out;
  };
  std::vector<Part> parts;  // one for each device
};

// What a plug-in does besides kernels. Calls throw DeviceError with the name of the CUDA call that failed.
class TG_API Runtime {
 public:
  virtual ~Runtime() = default;
  virtual bool emulated() const = 0;
  // Never throws, never prints.
  virtual Probe probe() noexcept = 0;
  virtual int device_count() = 0;
  virtual DeviceProperties properties(int device) = 0;
  virtual std::pair<int64_t, int64_t> free_and_total_memory(int device) = 0;
  virtual Backend& backend(int device) = 0;
  virtual Allocator& allocator(int device) = 0;

  // The device and, per device, the stream that this thread's next work goes to.
  virtual int current_device() = 0;
  virtual void set_current_device(int device) = 0;
  virtual StreamHandle current_stream(int device) = 0;
  virtual void set_current_stream(int device, StreamHandle s) = 0;

  // One of at most 32 streams per device and priority (0, or -1 for urgent work), which live as long as the process.
  virtual StreamHandle stream_from_pool(int device, int priority) = 0;
  virtual void stream_synchronize(int device, StreamHandle s) = 0;
  virtual bool stream_query(int device, StreamHandle s) = 0;  // true when its work is done
  virtual void stream_wait_event(int device, StreamHandle s, EventHandle e) = 0;
  // Work on `s` uses memory that was allocated on another stream: once freed, it is reused when that work is done.
  virtual void record_stream(int device, const void* p, StreamHandle s) = 0;
  virtual void device_synchronize(int device) = 0;

  virtual EventHandle event_create(int device, bool timing, bool blocking) = 0;
  virtual void event_destroy(EventHandle e) noexcept = 0;
  virtual void event_record(EventHandle e, int device, StreamHandle s) = 0;
  virtual bool event_query(EventHandle e) = 0;
  virtual void event_synchronize(EventHandle e) = 0;
  virtual float event_elapsed_ms(EventHandle from, EventHandle to) = 0;
  // Later work on `s` of `device` waits for what `before` of `before_device` has queued.
  void join(int before_device, StreamHandle before, int device, StreamHandle s) {
    const std::unique_ptr<void, EventEnd> e(event_create(before_device, false, false), {this});
    event_record(e.get(), before_device, before);
    stream_wait_event(device, s, e.get());
  }

  // What this thread queues on `s`, and on streams that wait for it, becomes a graph instead of being run. Memory that
  // is allocated meanwhile belongs to `pool` (0: a new one), whose number is returned, until pool_release().
  virtual uint64_t capture_begin(int device, StreamHandle s, uint64_t pool) = 0;
  // The graph, ready to be launched; DeviceError if something was asked for that a graph cannot do.
  virtual GraphHandle capture_end(int device, StreamHandle s) = 0;
  virtual bool capturing() noexcept = 0;  // on any device, by this thread
  // Seed and place of the default generator when this thread began to record, from which draws in the graph are
  // counted, and where each replay leaves its own on the device. `drawn`: the place of the draw that asks.
  struct Origin {
    uint64_t seed, offset;
    const void* of_replay;
  };
  virtual Origin capture_origin(int device, uint64_t drawn) = 0;
  virtual void graph_launch(GraphHandle g, int device, StreamHandle s) = 0;
  virtual void graph_destroy(GraphHandle g) noexcept = 0;
  virtual void pool_release(int device, uint64_t pool) = 0;

  // Ranges and moments for the vendor's profilers; nothing in the emulation.
  virtual void profile_push(const char* text) noexcept = 0;
  virtual void profile_pop() noexcept = 0;
  virtual void profile_mark(const char* text) noexcept = 0;

  // A kernel of an image that backends/rtc compiled for this device; it lives as long as the process.
  virtual void* kernel_load(int device, const std::string& image, const std::string& name) = 0;
  // Queued on `s`. grid and block have three numbers each, args the address of each argument.
  virtual void kernel_launch(void* kernel, const unsigned* grid, const unsigned* block, size_t shared, StreamHandle s,
                             void** args) = 0;

  virtual uint64_t launches() noexcept = 0;  // kernels that this thread has launched so far

  // Page-locked host memory, from which copies run beside other work; kept for reuse like memory of a device.
  virtual void* pinned_allocate(size_t bytes) = 0;
  virtual void pinned_free(void* p, size_t bytes) noexcept = 0;
  virtual bool is_pinned(const void* p) noexcept = 0;  // anywhere inside of such memory, whoever made it
  // Queued on the current stream of `device`. Memory of the host must be page-locked; what pinned_allocate() gave may
  // be freed at once, other memory must stay alive until the stream got there.
  virtual void copy_async(int device, void* dst, const void* src, size_t bytes) = 0;
  // Queued on the current stream of `to_device`, behind what that of `from_device` has queued, whose later work waits.
  virtual void copy_peer(int to_device, void* dst, int from_device, const void* src, size_t bytes) = 0;
  virtual bool can_access_peer(int device, int peer) = 0;

  // NCCL's number, 0 if it is not there.
  virtual int nccl_version() = 0;
  // Queued on the current stream of each device in it; NCCL must be there.
  virtual void collective(const CollectiveCall& call) = 0;

  // The device of a stream other than a default one.
  virtual int stream_device(StreamHandle s) = 0;

 private:
  struct EventEnd {
    Runtime* runtime;
    void operator()(EventHandle e) const { runtime->event_destroy(e); }
  };
};

// Raised with every change of the interface above, of the other classes that a plug-in implements (Backend, Allocator,
// AttentionKernels, ConvolutionKernels, UpdateKernels), or of Modes. A plug-in of another number, or of another version
// of the library, is refused.
inline constexpr int kPluginAbi = 10;
// What a plug-in exports as "tg_cuda_plugin": its runtime, or nullptr if it is of another ABI or version.
using PluginEntry = Runtime*(int abi, const char* version);

// The runtime in use; DeviceError that says what is missing when there is no device.
TG_API Runtime& runtime();
// The same without requiring a device; nullptr if the plug-in cannot be opened.
TG_API Runtime* plugin() noexcept;
// Looks at the machine; never throws, never prints. `emulated` in the answer tells when no real device was asked.
TG_API Probe probe() noexcept;
// Whether this package carries the plug-in for GPUs, with or without a device to use it on.
TG_API bool is_built();
// True if there is a device, or emulation was asked for.
TG_API bool is_available() noexcept;
TG_API int device_count() noexcept;
// True in a process that was forked from one which had looked at its devices: all that needs one is a DeviceError in
// it, and what the other process holds of them must not be given back.
TG_API bool forked() noexcept;
// Whether this thread is recording a graph.
TG_API bool capturing() noexcept;
// The backend of a CUDA device; DeviceError if there is none of that number.
Backend& backend(Device d);

// Whether products of float32 may round their operands to TF32 (10 bits of fraction) on devices; off at first.
TG_API bool allow_tf32() noexcept;
TG_API void set_allow_tf32(bool on) noexcept;
// The same for convolutions by cuDNN, and whether cuDNN may be used; on at first.
TG_API bool allow_tf32_in_convolutions() noexcept;
TG_API void set_allow_tf32_in_convolutions(bool on) noexcept;
TG_API bool use_cudnn() noexcept;
TG_API void set_use_cudnn(bool on) noexcept;

// Runs CUDA devices on the CPU, for tests and for looking at kernels without a GPU: slow, and no claim about any GPU.
// Also on with TG_CUDA_EMULATE=1. ValueError when a CUDA device has been used the other way.
TG_API void emulate(bool on);
TG_API bool emulating();

}  // namespace tg::cuda
