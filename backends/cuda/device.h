// Which device and stream the calling thread works on, and scratch memory in stream order.
#pragma once
#include <memory>

#include "backends/cuda.h"
#include "backends/cuda/check.h"

namespace tg::cuda {

inline constexpr int kMaxDevices = 16;

// The stream that this thread's next kernel on the current device goes to.
cudaStream_t stream();
StreamHandle& stream_slot(int device);
int current_device();
void set_device(int device);
// Whether this thread is recording a graph, on any device.
bool recording_graph();
void set_origin(uint64_t* origin, uint64_t seed, uint64_t offset, cudaStream_t s);  // map.cu

// Makes a device current for a scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : old_(current_device()) { set_device(device); }
  ~DeviceGuard() {
    if (current_device() != old_) set_device(old_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int old_;
};

Allocator& device_memory(int device);

// Memory of the current device for the length of an op. Work queued on it before it is given back comes first.
class Scratch {
 public:
  explicit Scratch(size_t bytes)
      : device_(current_device()), bytes_(bytes), p_(device_memory(device_).allocate(bytes)) {}
  ~Scratch() { device_memory(device_).deallocate(p_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(p_);
  }

 private:
  int device_;
  size_t bytes_;
  void* p_;
};

// The same, or nullptr where the device has no room for it: for libraries that one can do without.
std::unique_ptr<Scratch> scratch_if_it_fits(size_t bytes);

// Copies n bytes in stream order and waits for them, whichever side is the host's.
void copy_and_wait(void* dst, const void* src, size_t n);

}  // namespace tg::cuda
