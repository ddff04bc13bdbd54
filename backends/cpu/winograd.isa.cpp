// Transforms of Winograd's convolution, a vector of tiles or channels side by side. Additions and halvings only, in one
// order: AVX2 and AVX-512 give the same bits.
#include "backends/cpu/winograd.h"

#include "backends/cpu/loops.h"

#ifdef __AVX2__
#include "backends/cpu/vector.h"

namespace tg::cpu::TG_ISA {
namespace {

struct Pair {
  V even, odd;
};
// The even and the odd elements of two vectors that follow each other.
TG_IN Pair split(V low, V high) {
  Lanes even, odd;
  for (int j = 0; j < L; ++j) even[j] = 2 * j, odd[j] = 2 * j + 1;
  return {__builtin_shuffle(low, high, even), __builtin_shuffle(low, high, odd)};
}
// And back: n elements, each from `even` followed by one from `odd`.
TG_IN void store_joined(float* p, V even, V odd, int64_t n) {
  Lanes low, high;
  for (int j = 0; j < L; ++j) low[j] = j / 2 + j % 2 * L, high[j] = low[j] + L / 2;
  const V v[2] = {__builtin_shuffle(even, odd, low), __builtin_shuffle(even, odd, high)};
  for (int i = 0; i < 2; ++i, p += L, n -= L) {
    if (n >= L)
      store(p, v[i]);
    else if (n > 0)
      store_part(p, v[i], n);
  }
}
TG_IN V load_row(const float* row, int64_t at, int64_t width) { return row ? load_some(row + at, width - at) : V{}; }

void input(const WinogradRow& r) {
  for (int64_t t = 0; t < r.tiles; t += L) {
    V part[4][4];  // of columns 2t.., 2t + L.., and of both moved by 2: B' d
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const int64_t at = 2 * t + j % 2 * L + j / 2 * 2;
      V d[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) d[i] = load_row(r.rows[i], at, r.width);
      part[0][j] = d[0] - d[2], part[1][j] = d[1] + d[2], part[2][j] = d[2] - d[1], part[3][j] = d[1] - d[3];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Pair now = split(part[i][0], part[i][1]), next = split(part[i][2], part[i][3]);
      float* to = r.part + 4 * i * r.apart + t;
      store(to, now.even - next.even);
      store(to + r.apart, now.odd + next.even);
      store(to + 2 * r.apart, next.even - now.odd);
      store(to + 3 * r.apart, now.odd - next.odd);
    }
  }
}

void grad(const WinogradRow& r) {
  for (int64_t t = 0; t < r.tiles; t += L) {
    V y[2][2];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) y[i][j] = load_row(r.rows[i], 2 * t + j * L, r.width);
    const Pair a = split(y[0][0], y[0][1]), b = split(y[1][0], y[1][1]);
    const Pair part[4] = {a, {a.even + b.even, a.odd + b.odd}, {a.even - b.even, a.odd - b.odd}, {-b.even, -b.odd}};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      float* to = r.part + 4 * i * r.apart + t;
      store(to, part[i].even);
      store(to + r.apart, part[i].even + part[i].odd);
      store(to + 2 * r.apart, part[i].even - part[i].odd);
      store(to + 3 * r.apart, -part[i].odd);
    }
  }
}

void output(const float* part, int64_t apart, int64_t tiles, float* y0, float* y1, int64_t width) {
  for (int64_t t = 0; t < tiles; t += L) {
    Pair h[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* from = part + 4 * i * apart + t;
      const V m1 = load(from + apart), m2 = load(from + 2 * apart);
      h[i] = {load(from) + m1 + m2, m1 - m2 - load(from + 3 * apart)};
    }
    store_joined(y0 + 2 * t, h[0].even + h[1].even + h[2].even, h[0].odd + h[1].odd + h[2].odd, width - 2 * t);
    if (y1) store_joined(y1 + 2 * t, h[1].even - h[2].even - h[3].even, h[1].odd - h[2].odd - h[3].odd, width - 2 * t);
  }
}

// G v of a column of three, G' v of one of four.
TG_IN void expand(V a, V b, V c, V* out, int step) {
  const V half = spread(0.5f);
  out[0] = a, out[step] = half * (a + c + b), out[2 * step] = half * (a + c - b), out[3 * step] = c;
}
TG_IN void contract(V a, V b, V c, V d, V* out, int step) {
  const V half = spread(0.5f), middle = half * (b + c);
  out[0] = a + middle, out[step] = half * (b - c), out[2 * step] = middle + d;
}

void weight(const float* w, int64_t n, float* part, int64_t apart) {
  for (int64_t at = 0; at < n; at += L, w += 9 * L) {
    const int64_t lanes = least(L, n - at);
    float taps[9][L] = {};
    for (int64_t lane = 0; lane < lanes; ++lane)
      for (int j = 0; j < 9; ++j) taps[j][lane] = w[9 * lane + j];
    V half[12], whole[16];
    for (int j = 0; j < 3; ++j) expand(load(taps[j]), load(taps[3 + j]), load(taps[6 + j]), half + j, 3);
    for (int i = 0; i < 4; ++i) expand(half[3 * i], half[3 * i + 1], half[3 * i + 2], whole + 4 * i, 1);
    for (int i = 0; i < 16; ++i) {
      if (lanes == L)
        store(part + i * apart + at, whole[i]);
      else
        store_part(part + i * apart + at, whole[i], lanes);
    }
  }
}

void weight_grad(const float* part, int64_t apart, int64_t slices, int64_t slice, int64_t n, float* w) {
  for (int64_t at = 0; at < n; at += L, w += 9 * L) {
    const int64_t lanes = least(L, n - at);
    V half[12], whole[16], result[9];
    for (int i = 0; i < 16; ++i) {
      whole[i] = V{};
      for (int64_t k = 0; k < slices; ++k) whole[i] += load_some(part + k * slice + i * apart + at, lanes);
    }
    for (int j = 0; j < 4; ++j) contract(whole[j], whole[4 + j], whole[8 + j], whole[12 + j], half + j, 4);
    for (int i = 0; i < 3; ++i)
      contract(half[4 * i], half[4 * i + 1], half[4 * i + 2], half[4 * i + 3], result + 3 * i, 1);
    float taps[9][L];
    for (int j = 0; j < 9; ++j) store(taps[j], result[j]);
    for (int64_t lane = 0; lane < lanes; ++lane)
      for (int j = 0; j < 9; ++j) w[9 * lane + j] = taps[j][lane];
  }
}

}  // namespace

void fill_winograd(Loops& t) { t.winograd = {input, grad, output, weight, weight_grad}; }

}  // namespace tg::cpu::TG_ISA
#else
namespace tg::cpu::TG_ISA {
void fill_winograd(Loops&) {}  // goes with the own product kernel
}  // namespace tg::cpu::TG_ISA
#endif
