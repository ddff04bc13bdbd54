// NCCL, opened when it is first needed, as cuBLAS is (backends/cuda/blas.h): its functions are declared here. Types and
// numbers are those of nccl.h of NCCL 2.28.
#pragma once
#include <cstddef>

#include "backends/cuda/check.h"

namespace tg::cuda {

struct CollectiveCall;

using NcclComm = struct ncclComm*;
enum NcclStatus : int { kNcclSuccess = 0, kNcclCudaError = 1, kNcclInvalidArgument = 4, kNcclInvalidUsage = 5 };
enum NcclType : int {
  kNcclI8 = 0,
  kNcclU8 = 1,
  kNcclI32 = 2,
  kNcclI64 = 4,
  kNcclF16 = 6,
  kNcclF32 = 7,
  kNcclF64 = 8,
  kNcclBF16 = 9
};
enum NcclOp : int { kNcclSum = 0, kNcclProd = 1, kNcclMax = 2, kNcclMin = 3, kNcclAvg = 4 };

// What is called of the library. Calls between group_start() and group_end() begin together, as one thread must let
// those of several devices: each of them waits for the others.
struct Nccl {
  NcclStatus (*version)(int*);
  const char* (*error_string)(NcclStatus);
  NcclStatus (*init_all)(NcclComm*, int n, const int* devices);
  NcclStatus (*group_start)();
  NcclStatus (*group_end)();
  NcclStatus (*all_reduce)(const void* in, void* out, size_t n, NcclType, NcclOp, NcclComm, cudaStream_t);
  NcclStatus (*reduce)(const void* in, void* out, size_t n, NcclType, NcclOp, int root, NcclComm, cudaStream_t);
  NcclStatus (*broadcast)(const void* in, void* out, size_t n, NcclType, int root, NcclComm, cudaStream_t);
  NcclStatus (*all_gather)(const void* in, void* out, size_t n, NcclType, NcclComm, cudaStream_t);
  NcclStatus (*reduce_scatter)(const void* in, void* out, size_t n, NcclType, NcclOp, NcclComm, cudaStream_t);
};

// Its number (22809 is 2.28.9); 0 if NCCL is not there.
int nccl_version();
// Queues one collective on the current stream of each device in it. NCCL must be there.
void run_collective(const CollectiveCall& call);

}  // namespace tg::cuda
