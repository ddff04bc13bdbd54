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
TG_IN void stream(float* p, V v) { _mm512_stream_ps(p, v); }
TG_IN __m256 load_part_of_8(const float* p, int64_t n) { return _mm256_maskz_loadu_ps(__mmask8(first(n)), p); }
TG_IN void store_part(float* p, __m256 v, int64_t n) { _mm256_mask_storeu_ps(p, __mmask8(first(n)), v); }
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
TG_IN void stream(float* p, V v) { _mm256_stream_ps(p, v); }
TG_IN __m256 load_part_of_8(const float* p, int64_t n) { return load_part(p, n); }
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

// ---- N vectors of N floats as columns, 8 or L of them

#ifdef __AVX512F__
TG_IN V low_floats(V a, V b) { return _mm512_unpacklo_ps(a, b); }
TG_IN V high_floats(V a, V b) { return _mm512_unpackhi_ps(a, b); }
TG_IN V low_pairs(V a, V b) { return (V)_mm512_unpacklo_pd((__m512d)a, (__m512d)b); }
TG_IN V high_pairs(V a, V b) { return (V)_mm512_unpackhi_pd((__m512d)a, (__m512d)b); }
// Columns of quarters: r[k] gets the k-th quarter of each.
TG_IN void turn_blocks(const V* q, V* r) {
  const V a = _mm512_shuffle_f32x4(q[0], q[4], 0x88), b = _mm512_shuffle_f32x4(q[8], q[12], 0x88),
          c = _mm512_shuffle_f32x4(q[0], q[4], 0xdd), d = _mm512_shuffle_f32x4(q[8], q[12], 0xdd);
  r[0] = _mm512_shuffle_f32x4(a, b, 0x88), r[8] = _mm512_shuffle_f32x4(a, b, 0xdd);
  r[4] = _mm512_shuffle_f32x4(c, d, 0x88), r[12] = _mm512_shuffle_f32x4(c, d, 0xdd);
}
#endif
TG_IN __m256 low_floats(__m256 a, __m256 b) { return _mm256_unpacklo_ps(a, b); }
TG_IN __m256 high_floats(__m256 a, __m256 b) { return _mm256_unpackhi_ps(a, b); }
TG_IN __m256 low_pairs(__m256 a, __m256 b) { return (__m256)_mm256_unpacklo_pd((__m256d)a, (__m256d)b); }
TG_IN __m256 high_pairs(__m256 a, __m256 b) { return (__m256)_mm256_unpackhi_pd((__m256d)a, (__m256d)b); }
TG_IN void turn_blocks(const __m256* q, __m256* r) {
  r[0] = _mm256_permute2f128_ps(q[0], q[4], 0x20), r[4] = _mm256_permute2f128_ps(q[0], q[4], 0x31);
}
// Blocks of 4 x 4 within the lanes of 128 bits first, then the blocks.
template <class X, int N>
TG_IN void transpose(X (&r)[N]) {
  X q[N];  // q[i + j]: column j of each block of rows i to i + 3
#pragma GCC unroll 4
  for (int i = 0; i < N; i += 4) {
    const X a = low_floats(r[i], r[i + 1]), b = high_floats(r[i], r[i + 1]), c = low_floats(r[i + 2], r[i + 3]),
            d = high_floats(r[i + 2], r[i + 3]);
    q[i] = low_pairs(a, c), q[i + 1] = high_pairs(a, c), q[i + 2] = low_pairs(b, d), q[i + 3] = high_pairs(b, d);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) turn_blocks(q + j, r + j);
}

}  // namespace
}  // namespace tg::cpu::TG_ISA
