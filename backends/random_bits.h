// From Philox words to random numbers: the one place with the formulas, used by every CPU backend.
// Static like backends/scalar_math.h, since the vector kernels include it once per instruction set.
#pragma once
#include "backends/scalar_math.h"
#include "core/convert.h"
#include "core/philox.h"

namespace tg::rnd {

using Words = std::array<uint32_t, 4>;

// The kinds of numbers, in the order of the random instructions (rand_kind of backends/program.h).
enum class Draw : uint8_t { Uniform, Normal, Bits };

// Numbers of type T that one block of four words makes; element i of a stream is number i % n of block i / n.
template <class T>
constexpr int per_block = std::is_same_v<T, float> ? 4 : 2;

TG_SM uint64_t word64(const Words& w, int i) { return uint64_t(w[2 * i]) << 32 | w[2 * i + 1]; }

// [0, 1): 24 bits of a word, or 53 bits of two words.
TG_SM void uniform_block(const Words& w, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = float(w[i] >> 8) * 0x1p-24f;
}
TG_SM void uniform_block(const Words& w, double* out) {
  for (int i = 0; i < 2; ++i) out[i] = double(word64(w, i) >> 11) * 0x1p-53;
}
// Box-Muller: u1 in (0, 1] and u2 in [0, 1) give r cos(2 pi u2) and r sin(2 pi u2) with r = sqrt(-2 log u1).
TG_SM void normal_block(const Words& w, float* out) {
  for (int i = 0; i < 4; i += 2) {
    float u1 = float((w[i] >> 8) + 1) * 0x1p-24f, u2 = float(w[i + 1] >> 8) * 0x1p-24f;
    float r = sm::sqrt(-2.0f * float(sm::log_core(u1))), angle = 6.283185307179586f * u2;
    out[i] = r * sm::cos_core(angle);
    out[i + 1] = r * sm::sin_core(angle);
  }
}
TG_SM void normal_block(const Words& w, double* out) {
  double u1 = double((word64(w, 0) >> 11) + 1) * 0x1p-53, u2 = double(word64(w, 1) >> 11) * 0x1p-53;
  double r = sm::sqrt(-2.0 * sm::log(u1)), angle = 6.283185307179586 * u2;
  out[0] = r * sm::cos(angle);
  out[1] = r * sm::sin(angle);
}
// 63 bits of two words, never negative.
TG_SM void bits_block(const Words& w, int64_t* out) {
  for (int i = 0; i < 2; ++i) out[i] = int64_t(word64(w, i) >> 1);
}

// Element i of the stream (seed, offset). A float program makes floats and a double program doubles; an int64 program
// converts the doubles, and float programs convert the int64 of Draw::Bits.
template <class T>
TG_SM T element(Draw kind, uint64_t seed, uint64_t offset, int64_t i) {
  using F = std::conditional_t<std::is_same_v<T, float>, float, double>;
  if (kind == Draw::Bits) {
    int64_t v[2];
    bits_block(philox(seed, offset, uint64_t(i) / 2), v);
    return T(v[i % 2]);
  }
  F v[per_block<F>];
  Words w = philox(seed, offset, uint64_t(i) / per_block<F>);
  if (kind == Draw::Uniform)
    uniform_block(w, v);
  else
    normal_block(w, v);
  return convert<T>(v[i % per_block<F>]);
}

}  // namespace tg::rnd
