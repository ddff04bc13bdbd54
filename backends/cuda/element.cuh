// Elements of device memory: conversion between storage and arithmetic types, and vectors of 16 bytes.
#pragma once
#include "backends/cuda/cuda.h"
#include "core/dtype.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define TG_UNROLL _Pragma("unroll")
#define TG_NOINLINE __noinline__
#else
#define TG_UNROLL
#define TG_NOINLINE [[gnu::noinline]]
#endif

namespace tg::cuda {

// tg::convert, with the device's instructions where it has them.
template <class To, class From>
__device__ __forceinline__ To convert_to(From x) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<From, Half>)
    return convert_to<To>(__half2float(__ushort_as_half(x.bits)));
  else if constexpr (std::is_same_v<To, Half> && std::is_same_v<From, double>)
    return Half{__half_as_ushort(__float2half_rn(float(x)))};
  else if constexpr (std::is_same_v<To, Half>)
    return Half{__half_as_ushort(__float2half_rn(float(x)))};
  else if constexpr (std::is_same_v<To, BFloat16>)
    return BFloat16{__bfloat16_as_ushort(__float2bfloat16_rn(float(x)))};
  else
#endif
    return convert<To>(x);
}

// The type arithmetic on a storage type is done in, see compute_type().
template <class S>
using Compute = std::conditional_t<
    std::is_same_v<S, double>, double,
    std::conditional_t<std::is_same_v<S, float> || std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>, float,
                       int64_t>>;

template <class S>
inline constexpr int kVector = 16 / sizeof(S);
template <class S, int N = kVector<S>>
struct alignas(sizeof(S) * N) Vector {
  S v[N];
};

// One element of any type; the branch is the same for all threads.
template <class T>
__device__ __forceinline__ T load_any(const void* p, DType t, int64_t i) {
  switch (t) {
#define TG_X(D, S) \
  case DType::D:   \
    return convert_to<T>(static_cast<const S*>(p)[i]);
    TG_FOR_DTYPES(TG_X)
#undef TG_X
  }
  return T(0);
}
template <class T>
__device__ __forceinline__ void store_any(void* p, DType t, int64_t i, T x) {
  switch (t) {
#define TG_X(D, S)                            \
  case DType::D:                              \
    static_cast<S*>(p)[i] = convert_to<S>(x); \
    return;
    TG_FOR_DTYPES(TG_X)
#undef TG_X
  }
}

// f(Tag<T>{}) for the arithmetic type of a program.
template <class F>
void visit_compute(DType t, F&& f) {
  if (t == DType::F32)
    f(Tag<float>{});
  else if (t == DType::F64)
    f(Tag<double>{});
  else
    f(Tag<int64_t>{});
}

}  // namespace tg::cuda
