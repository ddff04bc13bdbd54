// cuDNN, opened when it is first needed, as cuBLAS is (backends/cuda/blas.h): its functions are declared here. The
// numbers are those of cudnn_graph.h, cudnn_ops.h and cudnn_cnn.h of cuDNN 9.
#pragma once
#include <cstdint>

#include "backends/cuda/check.h"

namespace tg {
class VendorLibrary;
}

namespace tg::cuda {

using DnnHandle = struct cudnnContext*;
using DnnTensor = struct cudnnTensorStruct*;
using DnnFilter = struct cudnnFilterStruct*;
using DnnConvolution = struct cudnnConvolutionStruct*;
enum DnnStatus : int { kDnnSuccess = 0, kDnnBadParam = 2000, kDnnNotSupported = 3000, kDnnNotSupportedEnd = 4000 };
enum DnnType : int { kDnnF32 = 0, kDnnF16 = 2, kDnnBF16 = 9 };
enum DnnMath : int { kDnnDefaultMath = 0, kDnnTensorMath = 1, kDnnTensorMathConverting = 2, kDnnFmaMath = 3 };
enum DnnFormat : int { kDnnRowMajor = 0 };        // CUDNN_TENSOR_NCHW
enum DnnMode : int { kDnnCrossCorrelation = 1 };  // the kernel is not flipped
enum DnnDeterminism : int { kDnnDeterministic = 1 };

// cudnnConvolution*AlgoPerf_t: what the heuristics say of an algorithm.
struct DnnAlgorithm {
  int algorithm;
  DnnStatus status;
  float time;
  size_t memory;
  DnnDeterminism determinism;
  DnnMath math;
  int reserved[3];
};

struct Dnn {
  DnnStatus (*create)(DnnHandle*);
  DnnStatus (*set_stream)(DnnHandle, cudaStream_t);
  const char* (*error_string)(DnnStatus);
  DnnStatus (*create_tensor)(DnnTensor*);
  DnnStatus (*destroy_tensor)(DnnTensor);
  DnnStatus (*set_tensor)(DnnTensor, DnnType, int n, const int* sizes, const int* strides);
  DnnStatus (*create_filter)(DnnFilter*);
  DnnStatus (*destroy_filter)(DnnFilter);
  DnnStatus (*set_filter)(DnnFilter, DnnType, DnnFormat, int n, const int* sizes);
  DnnStatus (*create_convolution)(DnnConvolution*);
  DnnStatus (*destroy_convolution)(DnnConvolution);
  DnnStatus (*set_convolution)(DnnConvolution, int n, const int* padding, const int* stride, const int* dilation,
                               DnnMode, DnnType compute);
  DnnStatus (*set_groups)(DnnConvolution, int groups);
  DnnStatus (*set_math)(DnnConvolution, DnnMath);
  // The _v7 heuristics: at most `wanted` algorithms, the fastest first.
  DnnStatus (*find_output)(DnnHandle, DnnTensor x, DnnFilter w, DnnConvolution, DnnTensor y, int wanted, int* found,
                           DnnAlgorithm*);
  DnnStatus (*find_input)(DnnHandle, DnnFilter w, DnnTensor y, DnnConvolution, DnnTensor x, int wanted, int* found,
                          DnnAlgorithm*);
  DnnStatus (*find_weight)(DnnHandle, DnnTensor x, DnnTensor y, DnnConvolution, DnnFilter w, int wanted, int* found,
                           DnnAlgorithm*);
  // cudnnConvolutionForward, ...BackwardData, ...BackwardFilter
  DnnStatus (*output)(DnnHandle, const void* alpha, DnnTensor, const void* x, DnnFilter, const void* w, DnnConvolution,
                      int algorithm, void* workspace, size_t bytes, const void* beta, DnnTensor, void* y);
  DnnStatus (*input)(DnnHandle, const void* alpha, DnnFilter, const void* w, DnnTensor, const void* y, DnnConvolution,
                     int algorithm, void* workspace, size_t bytes, const void* beta, DnnTensor, void* x);
  DnnStatus (*weight)(DnnHandle, const void* alpha, DnnTensor, const void* x, DnnTensor, const void* y, DnnConvolution,
                      int algorithm, void* workspace, size_t bytes, const void* beta, DnnFilter, void* w);
};

const VendorLibrary& dnn_library();  // not of the emulation
// nullptr if cuDNN is not there, or switched off.
const Dnn* dnn();
// The calling thread's handle of the current device, on its current stream. Null where it had none and is recording a
// graph: none is made then.
DnnStatus find_dnn_handle(const Dnn& d, DnnHandle& h);
// Whether a call succeeded. If not, CUDA's last error is forgotten, which would be blamed on the next kernel; an error
// that stays is a DeviceError here. Every status goes through this or check_dnn.
bool dnn_succeeded(DnnStatus s);
void check_dnn(const Dnn& d, DnnStatus s, const char* what);

}  // namespace tg::cuda
