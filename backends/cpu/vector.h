// Vectors of floats of the instruction set that a *.isa.cpp file is compiled for: AVX2 or AVX-512.
#pragma once
#ifndef __AVX2__
#error "for files compiled with AVX2 at least"
#endif
#include <cstdint>
#include <cstring>

#include "core/dtype.h"

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees it in its own immintrin.h
#include <immintrin.h>

#pragma GCC diagnostic ignored "-Wpsabi"
#define TG_IN [[gnu::always_inline]] static inline

namespace tg::cpu::TG_ISA {
namespace {

TG_IN int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

#ifdef __AVX512F__
constexpr int L = 16;  // floats of a vector
typedef __m512 V;
TG_IN V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
TG_IN V spread(float x) { return _mm512_set1_ps(x); }
TG_IN __mmask16 first(int64_t n) { return __mmask16(n >= 16 ? 0xffff : (1u << n) - 1); }
TG_IN V load(const float* p) { return _mm512_loadu_ps(p); }
TG_IN V load(const BFloat16* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
TG_IN V load(const Half* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
TG_IN V load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
TG_IN void store(float* p, V v) { _mm512_storeu_ps(p, v); }
TG_IN void store(Half* p, V v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
TG_IN void store_part(float* p, V v, int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
#else
constexpr int L = 8;
typedef __m256 V;
TG_IN V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
TG_IN V spread(float x) { return _mm256_set1_ps(x); }
TG_IN __m256i first(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(least(n, 8))), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TG_IN V load(const float* p) { return _mm256_loadu_ps(p); }
TG_IN V load(const BFloat16* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
TG_IN V load(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
TG_IN V load_part(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
TG_IN void store(float* p, V v) { _mm256_storeu_ps(p, v); }
TG_IN void store(Half* p, V v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
TG_IN void store_part(float* p, V v, int64_t n) { _mm256_maskstore_ps(p, first(n), v); }
#endif
template <class S>
TG_IN V load_part(const S* p, int64_t n) {
  S whole[L] = {};
  std::memcpy(whole, p, size_t(n) * sizeof(S));
  return load(whole);
}
template <class S>
TG_IN V load_some(const S* p, int64_t n) {
  return n >= L ? load(p) : n > 0 ? load_part(p, n) : V{};
}

typedef int32_t Lanes __attribute__((vector_size(L * 4)));

}  // namespace
}  // namespace tg::cpu::TG_ISA
