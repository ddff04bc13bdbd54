// More of CUDA's functions, which kernels of users may call and those of this library do not: one by one as the CUDA
// Math API and the programming guide define them. Only in the text that kernels of users are compiled against.
#pragma once
#include <bit>
#include <ctime>

#include "backends/cuda/emu/emu.h"

template <class T>
T __ldg(const T* p) {
  return *p;
}

// The lanes that the warp has: a kernel must not rely on which of them stand together.
inline unsigned __activemask() {
  const dim3 b = ::tg::emu::current->block_size;
  const int threads = int(b.x * b.y * b.z), left = threads - (::tg::emu::current->linear & ~31);
  return left >= 32 ? 0xffffffffu : (1u << left) - 1;
}
// Grows; in no relation to any GPU's cycles.
inline long long clock64() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

template <class T>
T atomicSub(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return T(old - v); });
}
template <class T>
T atomicAnd(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return T(old & v); });
}
template <class T>
T atomicXor(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return T(old ^ v); });
}
inline unsigned atomicInc(unsigned* p, unsigned last) {
  return tg::emu::atomic_update(p, [last](unsigned old) { return old >= last ? 0u : old + 1; });
}
inline unsigned atomicDec(unsigned* p, unsigned last) {
  return tg::emu::atomic_update(p, [last](unsigned old) { return old == 0 || old > last ? last : old - 1; });
}

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

// Rounded to nearest, as the host does.
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }

inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1) << (31 - i);
  return r;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(unsigned(x))) << 32 | __brev(unsigned(x >> 32));
}
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
// The low 24 bits of each, with their sign in __mul24; the low 32 bits of the product.
inline int __mul24(int a, int b) {
  return int(unsigned(int(unsigned(a) << 8) >> 8) * unsigned(int(unsigned(b) << 8) >> 8));
}
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
