// What a backend may be besides a Backend: one with a library's convolutions, which take the image as it is.
#pragma once
#include <functional>

#include "backends/backend.h"

namespace tg {

// Which of a convolution's three tensors is wanted of the other two: y, or the gradient of x or of w from y's.
enum class ConvPart : uint8_t { Output, Input, Weight };

class TG_API ConvolutionKernels {
 public:
  virtual ~ConvolutionKernels() = default;

  // Writes `part` of the convolution y of x, padded by `padding` on both sides of each spatial axis, by w. All
  // contiguous, of one dtype: x (batch, groups * in, size..), w (groups * out, in, kernel..), y (batch, groups * out,
  // windows..). The view that is wanted has no memory yet: `allocate` gives it once there is a kernel for the call.
  // True if that kernel has run.
  virtual bool convolve(ConvPart part, const ConvShape& g, const Dims& padding, View x, View w, View y,
                        const std::function<void*()>& allocate) = 0;
};

// Those of a device, null if it has none.
inline ConvolutionKernels* convolution_kernels(Device d) { return dynamic_cast<ConvolutionKernels*>(&backend(d)); }

}  // namespace tg
