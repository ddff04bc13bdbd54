#include "backends/cuda/dnn.h"

#include <cstdlib>

#include "backends/cuda/device.h"
#include "core/vendor.h"

namespace tg::cuda {
#ifdef TG_CUDA_EMULATION
const Dnn& emulated_dnn();  // emu/dnn.cpp
#endif
namespace {

#ifdef TG_CUDA_EMULATION
const Dnn* open_dnn() { return std::getenv("TG_EMU_NO_DNN") ? nullptr : &emulated_dnn(); }
#else
// cuDNN opens its parts from its own folder, but cuBLASLt and NVRTC by bare names, which a package's folder would not
// answer: they are opened before. So are NVRTC's builtins, without which it compiles none of cuDNN's kernels.
const VendorLibrary* open_library() {
  static const VendorLibrary* blas_lt = new VendorLibrary({"libcublasLt.so.13"});
  static const VendorLibrary* nvrtc = new VendorLibrary({"libnvrtc.so.13"}, {"libnvrtc-builtins.so.13.0"});
  (void)blas_lt, (void)nvrtc;
  return new VendorLibrary({"libcudnn.so.9"});
}

const Dnn* open_dnn() {
  const VendorLibrary* const lib = &dnn_library();
  if (!*lib) return nullptr;
  static Dnn d;
  lib->get(d.create, "cudnnCreate");
  lib->get(d.set_stream, "cudnnSetStream");
  lib->get(d.error_string, "cudnnGetErrorString");
  lib->get(d.create_tensor, "cudnnCreateTensorDescriptor");
  lib->get(d.destroy_tensor, "cudnnDestroyTensorDescriptor");
  lib->get(d.set_tensor, "cudnnSetTensorNdDescriptor");
  lib->get(d.create_filter, "cudnnCreateFilterDescriptor");
  lib->get(d.destroy_filter, "cudnnDestroyFilterDescriptor");
  lib->get(d.set_filter, "cudnnSetFilterNdDescriptor");
  lib->get(d.create_convolution, "cudnnCreateConvolutionDescriptor");
  lib->get(d.destroy_convolution, "cudnnDestroyConvolutionDescriptor");
  lib->get(d.set_convolution, "cudnnSetConvolutionNdDescriptor");
  lib->get(d.set_groups, "cudnnSetConvolutionGroupCount");
  lib->get(d.set_math, "cudnnSetConvolutionMathType");
  lib->get(d.find_output, "cudnnGetConvolutionForwardAlgorithm_v7");
  lib->get(d.find_input, "cudnnGetConvolutionBackwardDataAlgorithm_v7");
  lib->get(d.find_weight, "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
  lib->get(d.output, "cudnnConvolutionForward");
  lib->get(d.input, "cudnnConvolutionBackwardData");
  lib->get(d.weight, "cudnnConvolutionBackwardFilter");
  return &d;
}
#endif

}  // namespace

#ifndef TG_CUDA_EMULATION
const VendorLibrary& dnn_library() {
  static const VendorLibrary* const lib = open_library();
  return *lib;
}
#endif

const Dnn* dnn() {
  if (!use_cudnn()) return nullptr;
  static const Dnn* const d = open_dnn();
  return d;
}

void check_dnn(const Dnn& d, DnnStatus s, const char* what) {
  TG_CHECK(s == kDnnSuccess, DeviceError, "cuda: ", what, ": ", d.error_string(s));
}

// One per thread: a handle carries its stream. Left to the end of the process, as other threads' work may still run.
DnnStatus find_dnn_handle(const Dnn& d, DnnHandle& h) {
  thread_local DnnHandle handles[kMaxDevices] = {};
  DnnHandle& mine = handles[current_device()];
  const DnnStatus s = mine ? kDnnSuccess : d.create(&mine);
  h = mine;
  return s == kDnnSuccess ? d.set_stream(h, stream()) : s;
}
DnnHandle dnn_handle(const Dnn& d) {
  DnnHandle h = nullptr;
  check_dnn(d, find_dnn_handle(d, h), "cudnnCreate");
  return h;
}

}  // namespace tg::cuda
