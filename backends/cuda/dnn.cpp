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
// answer: they are opened before.
const Dnn* open_dnn() {
  static const VendorLibrary* blas_lt = new VendorLibrary({"libcublasLt.so.13"});
  static const VendorLibrary* nvrtc = new VendorLibrary({"libnvrtc.so.13"});
  static const VendorLibrary* lib = new VendorLibrary({"libcudnn.so.9"});
  (void)blas_lt, (void)nvrtc;
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

const Dnn* dnn() {
  if (!use_cudnn()) return nullptr;
  static const Dnn* const d = open_dnn();
  return d;
}

void check_dnn(const Dnn& d, DnnStatus s, const char* what) {
  TG_CHECK(s == kDnnSuccess, DeviceError, "cuda: ", what, ": ", d.error_string(s));
}

// One per thread: a handle carries its stream. Left to the end of the process, as other threads' work may still run.
DnnHandle dnn_handle(const Dnn& d) {
  thread_local DnnHandle handles[kMaxDevices] = {};
  DnnHandle& h = handles[current_device()];
  if (!h) check_dnn(d, d.create(&h), "cudnnCreate");
  check_dnn(d, d.set_stream(h, stream()), "cudnnSetStream");
  return h;
}

}  // namespace tg::cuda
