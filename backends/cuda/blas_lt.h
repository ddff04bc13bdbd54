// cuBLASLt: products whose algorithm its heuristics choose, with a bias, gelu or a sum in the same pass. Opened and
// declared as cuBLAS is (backends/cuda/blas.h); the numbers are those of cublasLt.h.
#pragma once
#include "backends/cuda/blas.h"

namespace tg::cuda {

using LtHandle = struct cublasLtContext*;
using LtOperation = struct cublasLtMatmulDescOpaque*;
using LtLayout = struct cublasLtMatrixLayoutOpaque*;
using LtPreference = struct cublasLtMatmulPreferenceOpaque*;

enum LtOperationField : int {
  kLtTransA = 3,
  kLtTransB = 4,
  kLtEpilogue = 7,
  kLtBiasPointer = 8,
  kLtBeforePointer = 11,
  kLtBeforeLead = 12
};
// Bits. kLtBefore: what gelu, by its tanh formula, is applied to is stored as well, with a leading dimension that is a
// multiple of kLtBeforeStep.
enum LtEpilogue : uint32_t { kLtPlain = 1, kLtBias = 4, kLtGelu = 32, kLtBefore = 128 };
constexpr int64_t kLtBeforeStep = 8;
enum LtLayoutField : int { kLtBatch = 5, kLtBatchStride = 6 };
enum LtPreferenceField : int { kLtWorkspace = 1, kLtReductions = 3, kLtAlignA = 5, kLtAlignB, kLtAlignC, kLtAlignD };
// Sums split over blocks are added up in the compute type, not in the result's.
constexpr uint32_t kLtReduceInCompute = 2;

struct LtAlgorithm {
  uint64_t data[8];
};
struct LtChoice {
  LtAlgorithm algorithm;
  size_t workspace;
  BlasStatus state;
  float waves;
  int reserved[4];
};

struct BlasLt {
  BlasStatus (*create)(LtHandle*);
  BlasStatus (*operation_create)(LtOperation*, BlasCompute, BlasType scale);
  BlasStatus (*operation_set)(LtOperation, LtOperationField, const void*, size_t);
  BlasStatus (*operation_destroy)(LtOperation);
  BlasStatus (*layout_create)(LtLayout*, BlasType, uint64_t rows, uint64_t columns, int64_t lead);
  BlasStatus (*layout_set)(LtLayout, LtLayoutField, const void*, size_t);
  BlasStatus (*layout_destroy)(LtLayout);
  BlasStatus (*preference_create)(LtPreference*);
  BlasStatus (*preference_set)(LtPreference, LtPreferenceField, const void*, size_t);
  BlasStatus (*preference_destroy)(LtPreference);
  BlasStatus (*choose)(LtHandle, LtOperation, LtLayout a, LtLayout b, LtLayout c, LtLayout d, LtPreference, int wanted,
                       LtChoice*, int* found);
  BlasStatus (*multiply)(LtHandle, LtOperation, const void* alpha, const void* a, LtLayout, const void* b, LtLayout,
                         const void* beta, const void* c, LtLayout, void* d, LtLayout, const LtAlgorithm*,
                         void* workspace, size_t, cudaStream_t);
};

// nullptr if cuBLASLt is not there.
const BlasLt* blas_lt();

// What is done to a product in its pass.
struct Epilogue {
  const void* bias = nullptr;  // m values, added to each column
  bool gelu = false;           // the tanh formula, after the bias
  void* before = nullptr;      // gets what gelu is applied to
  int64_t lead_before = 0;
  explicit operator bool() const { return bias || gelu; }
  uint32_t number() const {
    uint32_t bits = 0;
    if (bias) bits |= kLtBias;
    if (gelu) bits |= kLtGelu;
    if (before) bits |= kLtBefore;
    return bits ? bits : kLtPlain;
  }
};

// A product as cuBLAS takes it: column-major c = alpha op(a) op(b) + beta c, `batch` times.
struct BlasProduct {
  BlasType type;
  BlasCompute compute;
  BlasOperation op_a, op_b;
  int64_t m, n, k, lead_a, lead_b, lead_c, stride_a, stride_b, stride_c, batch;
  const void *a, *b;
  void* c;
  const void *alpha, *beta;  // of the scale's type
  Epilogue after = {};
};

// Queues the product; false if cuBLASLt is not there or has no algorithm for it.
bool multiply_lt(const BlasProduct& p);

}  // namespace tg::cuda
