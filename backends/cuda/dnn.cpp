#include "backends/cuda/dnn.h"

#include <cstdlib>
#include <optional>

#include "backends/cuda/device.h"
#include "core/vendor.h"

namespace tg::cuda {
#ifdef TG_CUDA_EMULATION
const Dnn& emulated_dnn();  // emu/dnn.cpp
#endif
namespace {

#ifdef TG_CUDA_EMULATION
std::optional<Dnn> open_dnn() { return std::getenv("TG_EMU_NO_DNN") ? std::nullopt : std::optional(emulated_dnn()); }
#else
// cuDNN opens its parts from its own folder, but cuBLASLt and NVRTC by bare names, which a package's folder would not
// answer: they are opened before. So are NVRTC's builtins, without which it compiles none of cuDNN's kernels.
VendorLibrary open_library() {
  VendorLibrary({"libcublasLt.so.13"});
  VendorLibrary({"libnvrtc.so.13"}, {"libnvrtc-builtins.so.13.0"});
  return VendorLibrary({"libcudnn.so.9"});
}

std::optional<Dnn> open_dnn() {
  const VendorLibrary& lib = dnn_library();
  if (!lib) return std::nullopt;
  Dnn d;
  lib.get(d.create, "cudnnCreate");
  lib.get(d.set_stream, "cudnnSetStream");
  lib.get(d.error_string, "cudnnGetErrorString");
  lib.get(d.create_tensor, "cudnnCreateTensorDescriptor");
  lib.get(d.destroy_tensor, "cudnnDestroyTensorDescriptor");
  lib.get(d.set_tensor, "cudnnSetTensorNdDescriptor");
  lib.get(d.create_filter, "cudnnCreateFilterDescriptor");
  lib.get(d.destroy_filter, "cudnnDestroyFilterDescriptor");
  lib.get(d.set_filter, "cudnnSetFilterNdDescriptor");
  lib.get(d.create_convolution, "cudnnCreateConvolutionDescriptor");
  lib.get(d.destroy_convolution, "cudnnDestroyConvolutionDescriptor");
  lib.get(d.set_convolution, "cudnnSetConvolutionNdDescriptor");
  lib.get(d.set_groups, "cudnnSetConvolutionGroupCount");
  lib.get(d.set_math, "cudnnSetConvolutionMathType");
  lib.get(d.find_output, "cudnnGetConvolutionForwardAlgorithm_v7");
  lib.get(d.find_input, "cudnnGetConvolutionBackwardDataAlgorithm_v7");
  lib.get(d.find_weight, "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
  lib.get(d.output, "cudnnConvolutionForward");
  lib.get(d.input, "cudnnConvolutionBackwardData");
  lib.get(d.weight, "cudnnConvolutionBackwardFilter");
  return d;
}
#endif

}  // namespace

#ifndef TG_CUDA_EMULATION
const VendorLibrary& dnn_library() { return opened_once<open_library>(); }
#endif

const Dnn* dnn() {
  if (!use_cudnn()) return nullptr;
  const std::optional<Dnn>& d = opened_once<open_dnn>();
  return d ? &*d : nullptr;
}

bool dnn_succeeded(DnnStatus s) {
  if (s == kDnnSuccess) return true;
  cudaGetLastError();  // forgets it, unless the device can do nothing any more
  check(cudaGetLastError(), "a call of cuDNN");
  return false;
}
void check_dnn(const Dnn& d, DnnStatus s, const char* what) {
  TG_CHECK(dnn_succeeded(s), DeviceError, "cuda: ", what, ": ", d.error_string(s));
}

// One per thread: a handle carries its stream. Left to the end of the process, as other threads' work may still run.
DnnStatus find_dnn_handle(const Dnn& d, DnnHandle& h) {
  thread_local DnnHandle handles[kMaxDevices] = {};
  DnnHandle& mine = handles[current_device()];
  h = nullptr;
  if (!mine) {
    if (recording_graph()) return kDnnSuccess;
    if (const DnnStatus s = d.create(&mine); s != kDnnSuccess) return s;
  }
  h = mine;
  return d.set_stream(h, stream());
}

}  // namespace tg::cuda
