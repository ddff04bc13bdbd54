// A kernel of the user's own: CUDA C++ as text, compiled when it is first launched, run on tensors.
//
//   tg::cuda::RawKernel add(R"(
//     __global__ void add(const float* a, const float* b, float* out, int n) {
//       int i = blockIdx.x * blockDim.x + threadIdx.x;
//       if (i < n) out[i] = a[i] + b[i];
//     })", "add");
//   add(tg::cuda::Dim3(4), tg::cuda::Dim3(256), {a, b, out, int32_t(1000)});
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace tg::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// One argument. Numbers have the type they are given as, which must be the parameter's; a Scalar takes the parameter's
// type if its value fits (what a Python number does).
using KernelArg = std::variant<Tensor, bool, int32_t, int64_t, float, double, Scalar>;

// A stream (cudaStream_t) and the number of its device: -1 where the runtime is to tell it, which knows those that it
// made; a null stream is then that of the tensors' device.
struct KernelStream {
  void* handle;
  int device;
  KernelStream(void* h, int d = -1) : handle(h), device(d) {}
};

class TG_API RawKernel {
 public:
  // `name` is a C++ expression that names a __global__ function of `source`: "add", "ns::scale<float>". `options` go to
  // NVRTC (the emulation takes -D, -U and -I of them).
  RawKernel(std::string source, std::string name, std::vector<std::string> options = {});

  // Queues the kernel on `stream` (none: the device's current one). Tensors must be contiguous, on one CUDA device,
  // which is the stream's, and of the parameter's element type (halves go to unsigned short as well); those passed by
  // non-const pointer count as written. `shared` is the dynamic shared memory of a block in bytes. Without a GPU,
  // tg::cuda::emulate(true) lets the CPU run it. CompileError; TypeError and DTypeError for arguments that do not fit
  // the parameters; ValueError for sizes that no GPU has; DeviceError; AutogradError for a tensor that requires grad
  // while gradients are recorded: the kernel has none, put it into a Function that has.
  void operator()(Dim3 grid, Dim3 block, const std::vector<KernelArg>& args, size_t shared = 0,
                  std::optional<KernelStream> stream = std::nullopt) const;

  // Compiles for the current device without running; CompileError, DeviceError.
  void compile() const;
  const std::string& name() const;
  // Where it ran last: the device's name, or "emulation"; "" before the first launch.
  std::string ran_on() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tg::cuda
