// Fused kernels, one row at a time. Sixteen lanes are written out in the source, so every instruction set computes the
// same bits; lanes are added up in double every kFlush elements.
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/loops.h"
#include "backends/cpu/wide.h"

namespace tg::cpu::TG_ISA {
namespace {

constexpr int64_t kLanes = 16, kFlush = 1024;
using V = Wide<float>;
using VI = Wide<int32_t>;

TG_IN V spread(float x) { return V{} + x; }
TG_IN V load(const float* p) { return load<V>(p); }
// The last k < 16 elements, the other lanes filled.
TG_IN V load_part(const float* p, int64_t k, float fill) {
#ifdef __AVX512F__
  return (V)_mm512_mask_loadu_ps((__m512)spread(fill), __mmask16((1u << k) - 1), p);  // the copy below is a call
#else
  float l[kLanes];
  for (float& x : l) x = fill;
  std::memcpy(l, p, size_t(k) * sizeof(float));
  return load(l);
#endif
}
TG_IN void store_part(float* p, V v, int64_t k) {
#ifdef __AVX512F__
  _mm512_mask_storeu_ps(p, __mmask16((1u << k) - 1), (__m512)v);
#else
  float l[kLanes];
  store(l, v);
  std::memcpy(p, l, size_t(k) * sizeof(float));
#endif
}

// out = f(lanes of each input), element by element.
template <class F, class... P>
TG_IN void map_row(float* out, int64_t n, F f, P... in) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store(out + i, f(load(in + i)...));
  }
  if (i < n) store_part(out + i, f(load_part(in + i, n - i, 0.0f)...), n - i);
}

TG_IN double add_lanes(V v) {
  float l[kLanes];
  store(l, v);
  double d[kLanes / 2];
  for (int j = 0; j < 8; ++j) d[j] = double(l[j]) + double(l[j + 8]);
  for (int half = 4; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) d[j] += d[j + half];
  return d[0];
}

// Sum over the row of f(lanes of each input)..
template <class F, class... P>
TG_IN double sum_row(int64_t n, F f, P... in) {
  double total = 0;
  for (int64_t b = 0; b < n; b += kFlush) {
    const int64_t e = b + kFlush < n ? b + kFlush : n;
    V s0{}, s1{};
    int64_t i = b;
    for (; i + 2 * kLanes <= e; i += 2 * kLanes) {
      s0 = s0 + f(load(in + i)...);
      s1 = s1 + f(load(in + i + kLanes)...);
    }
    if (i + kLanes <= e) s0 = s0 + f(load(in + i)...), i += kLanes;
    if (i < e) {
      float l[kLanes] = {};
      store_part(l, f(load_part(in + i, e - i, 0.0f)...), e - i);
      s1 = s1 + load(l);
    }
    total += add_lanes(s0 + s1);
  }
  return total;
}

// exp x = (1 + part) scale, with the reduction and polynomial of Cephes' expf (S. Moshier): |part| <= 0.42. For x above
// -87.3; beyond the largest exponent it stays there. kAtMost0: no x is above 0.
struct Exp {
  V part, scale;
};
template <bool kAtMost0 = false>
TG_IN Exp exp_parts(V x) {
  const V most = spread(88.3762626647950f), top = kAtMost0 ? x : choose(x > most, most, x);
  const V t = top * 1.44269504088896341f + 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  const V k = t - 12582912.0f;
  const V r = (top - k * 0.693359375f) + k * 2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {p * (r * r) + r, bits_as<V>((bits_as<VI>(t) - 0x4b400000 + 127) << 23)};
}

// Within 2 units in the last place; 0 below the smallest normal number.
template <bool kAtMost0 = false>
TG_IN V exp(V x) {
  const Exp e = exp_parts<kAtMost0>(x);
  const V below = choose(x < spread(-87.3365447505531f), V{}, (e.part + 1.0f) * e.scale);
  return kAtMost0 ? below : choose(x > spread(88.7228317f), spread(std::numeric_limits<float>::infinity()), below);
}

TG_IN V sigmoid(V x) { return spread(1.0f) / (exp(V{} - x) + 1.0f); }

// From exp 2x - 1, which keeps its digits near 0.
TG_IN V tanh(V x) {
  const V most = spread(10.0f), least = spread(-10.0f), low = choose(x < least, least, x);
  const Exp e = exp_parts(choose(low > most, most, low) * 2.0f);
  const V less = e.part * e.scale + (e.scale - 1.0f);
  return less / (less + 2.0f);
}

// The largest element; NaN if there is one.
TG_IN float max_row(const float* x, int64_t n) {
  const float low = -std::numeric_limits<float>::infinity();
  V m = spread(low), m2 = m;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V a = load(x + i), b = load(x + i + kLanes);
    m = choose((a > m) | (a != a), a, m);
    m2 = choose((b > m2) | (b != b), b, m2);
  }
  for (; i < n; i += kLanes) {
    V a = n - i >= kLanes ? load(x + i) : load_part(x + i, n - i, low);
    m = choose((a > m) | (a != a), a, m);
  }
  m = choose((m2 > m) | (m2 != m2), m2, m);
  float l[kLanes], best;
  store(l, m);
  best = l[0];
  for (float v : l) best = v > best || v != v ? v : best;
  return best;
}

// out = exp(x - top), and its sum; no x is above top.
TG_IN double exp_row(const float* x, float top, float* out, int64_t n) {
  const V t = spread(top);
  double total = 0;
  for (int64_t b = 0; b < n; b += kFlush) {
    const int64_t e = b + kFlush < n ? b + kFlush : n;
    V s{};
    int64_t i = b;
    for (; i + kLanes <= e; i += kLanes) {
      V v = exp<true>(load(x + i) - t);
      s = s + v;
      if (out) store(out + i, v);
    }
    if (i < e) {
      V v = exp<true>(load_part(x + i, e - i, -std::numeric_limits<float>::infinity()) - t);
      s = s + v;
      if (out) store_part(out + i, v, e - i);
    }
    total += add_lanes(s);
  }
  return total;
}

// arg: 1 = slices of only -inf give 0.
[[gnu::flatten]] void softmax(const float* const* in, float* const* out, int64_t n, double safe) {
  float top = max_row(in[0], n);
  if (safe != 0 && top < std::numeric_limits<float>::lowest()) top = std::numeric_limits<float>::lowest();
  double total = exp_row(in[0], top, out[0], n);
  const V scale = spread(safe != 0 && total == 0 ? 0.0f : float(1.0 / total));
  map_row(out[0], n, [&](V e) { return e * scale; }, out[0]);
}

[[gnu::flatten]] void log_softmax(const float* const* in, float* const* out, int64_t n, double) {
  const float top = max_row(in[0], n);
  const V a = spread(top), b = spread(float(std::log(exp_row(in[0], top, nullptr, n))));
  map_row(out[0], n, [&](V x) { return (x - a) - b; }, in[0]);
}

[[gnu::flatten]] void log_sum_exp(const float* const* in, float* const* out, int64_t n, double) {
  const float top = max_row(in[0], n);
  const bool finite = top - top == 0;
  out[0][0] = finite ? float(double(top) + std::log(exp_row(in[0], top, nullptr, n))) : top;
}

[[gnu::flatten]] void softmax_grad(const float* const* in, float* const* out, int64_t n, double) {
  const V dot = spread(float(sum_row(n, [](V y, V g) { return y * g; }, in[0], in[1])));
  map_row(out[0], n, [&](V y, V g) { return y * (g - dot); }, in[0], in[1]);
}

[[gnu::flatten]] void log_softmax_grad(const float* const* in, float* const* out, int64_t n, double) {
  const V total = spread(float(sum_row(n, [](V g) { return g; }, in[1])));
  map_row(out[0], n, [&](V y, V g) { return g - exp(y) * total; }, in[0], in[1]);
}

[[gnu::flatten]] void scaled_exp(const float* const* in, float* const* out, int64_t n, double) {
  const V shift = spread(in[1][0]), scale = spread(in[2][0]);
  map_row(out[0], n, [&](V x) { return exp(x - shift) * scale; }, in[0]);
}

// kMean: less the row's mean, as in layer norm; RMS norm takes x as it is.
template <bool kMean>
TG_IN V centred(V x, V mean) {
  return kMean ? x - mean : x;
}

template <bool kMean>
TG_IN void norm_of(const float* const* in, float* const* out, int64_t n, double eps) {
  const float mean = kMean ? float(sum_row(n, [](V x) { return x; }, in[0]) / double(n)) : 0.0f;
  const V m = spread(mean);
  auto square = [&](V x) { return centred<kMean>(x, m) * centred<kMean>(x, m); };
  const double var = sum_row(n, square, in[0]) / double(n);
  const V r = spread(float(1.0 / std::sqrt(var + eps)));
  const float *w = in[1], *b = in[2];
  auto hat = [&](V x) { return centred<kMean>(x, m) * r; };
  if (w && b)
    map_row(out[0], n, [&](V x, V u, V v) { return hat(x) * u + v; }, in[0], w, b);
  else if (w)
    map_row(out[0], n, [&](V x, V u) { return hat(x) * u; }, in[0], w);
  else if (b)
    map_row(out[0], n, [&](V x, V v) { return hat(x) + v; }, in[0], b);
  else
    map_row(out[0], n, hat, in[0]);
  if (kMean) out[1][0] = mean;
  out[2][0] = float(var);
}
[[gnu::flatten]] void norm(const float* const* in, float* const* out, int64_t n, double eps) {
  out[1] ? norm_of<true>(in, out, n, eps) : norm_of<false>(in, out, n, eps);
}

template <bool kMean>
TG_IN void norm_grad_of(const float* const* in, float* const* out, int64_t n, double eps) {
  const float *x = in[0], *g = in[1], *w = in[2];
  const V mean = spread(kMean ? in[3][0] : 0.0f), r = spread(float(1.0 / std::sqrt(double(in[4][0]) + eps)));
  auto hat = [&](V xx) { return centred<kMean>(xx, mean) * r; };
  float s0 = 0, s1;
  if (w) {
    if (kMean) s0 = float(sum_row(n, [](V gg, V ww) { return gg * ww; }, g, w) / double(n));
    s1 = float(sum_row(n, [&](V xx, V gg, V ww) { return gg * ww * hat(xx); }, x, g, w) / double(n));
  } else {
    if (kMean) s0 = float(sum_row(n, [](V gg) { return gg; }, g) / double(n));
    s1 = float(sum_row(n, [&](V xx, V gg) { return gg * hat(xx); }, x, g) / double(n));
  }
  const V a = spread(s0), b = spread(s1);
  if (w)
    map_row(out[0], n, [&](V xx, V gg, V ww) { return r * (centred<kMean>(gg * ww, a) - hat(xx) * b); }, x, g, w);
  else
    map_row(out[0], n, [&](V xx, V gg) { return r * (centred<kMean>(gg, a) - hat(xx) * b); }, x, g);
}
[[gnu::flatten]] void norm_grad(const float* const* in, float* const* out, int64_t n, double eps) {
  in[3] ? norm_grad_of<true>(in, out, n, eps) : norm_grad_of<false>(in, out, n, eps);
}

// The sums over rows: out[0] += g xhat, out[1] += g.
[[gnu::flatten]] void norm_weights(const float* const* in, float* const* out, int64_t n, double eps) {
  const V r = spread(float(1.0 / std::sqrt(double(in[3][0]) + eps)));
  if (!in[2]) return map_row(out[0], n, [&](V s, V x, V g) { return s + g * (x * r); }, out[0], in[0], in[1]);
  const V mean = spread(in[2][0]);
  map_row(out[0], n, [&](V s, V x, V g) { return s + g * ((x - mean) * r); }, out[0], in[0], in[1]);
  map_row(out[1], n, [](V s, V g) { return s + g; }, out[1], in[1]);
}

// f(i, k): vector i of the row, k elements of which exist.
template <class F>
TG_IN void each_vector(int64_t n, F f) {
  for (int64_t i = 0; i < n; i += kLanes) f(i, n - i < kLanes ? n - i : kLanes);
}
TG_IN V load_some(const float* p, int64_t k) { return k == kLanes ? load(p) : load_part(p, k, 0.0f); }
TG_IN void store_some(float* p, V v, int64_t k) { k == kLanes ? store(p, v) : store_part(p, v, k); }

[[gnu::flatten]] void lstm_step(const float* const* in, float* const* out, int64_t n, double) {
  float* const gates = out[0];
  each_vector(n, [&](int64_t at, int64_t k) {
    auto sum = [&](int gate) { return load_some(gates + gate * n + at, k); };
    const V i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = tanh(sum(2)), o = sigmoid(sum(3));
    const V c = f * load_some(in[0] + at, k) + i * g;
    int gate = 0;
    for (V v : {i, f, g, o}) store_some(gates + gate++ * n + at, v, k);
    store_some(out[1] + at, c, k);
    store_some(out[2] + at, o * tanh(c), k);
  });
}

[[gnu::flatten]] void lstm_step_grad(const float* const* in, float* const* out, int64_t n, double) {
  const V one = spread(1.0f);
  each_vector(n, [&](int64_t at, int64_t k) {
    auto operand = [&](int which) { return load_some(in[which] + at, k); };
    auto gate = [&](int which) { return load_some(in[2] + which * n + at, k); };
    const V dh = operand(0), i = gate(0), f = gate(1), g = gate(2), o = gate(3), t = tanh(operand(3));
    const V dc = operand(1) + dh * o * (one - t * t);
    const V sums[] = {dc * g * (i * (one - i)), dc * operand(4) * (f * (one - f)), dc * i * (one - g * g),
                      dh * t * (o * (one - o))};
    for (int which = 0; which < 4; ++which) store_some(out[1] + which * n + at, sums[which], k);
    store_some(out[0] + at, load_some(out[0] + at, k) + dc * f, k);
  });
}

}  // namespace

void fill_fused(Loops& t) {
  auto set = [&](Fused k, FusedRow f) { t.fused[int(k)] = f; };
  set(Fused::Softmax, softmax);
  set(Fused::LogSoftmax, log_softmax);
  set(Fused::LogSumExp, log_sum_exp);
  set(Fused::SoftmaxGrad, softmax_grad);
  set(Fused::LogSoftmaxGrad, log_softmax_grad);
  set(Fused::ScaledExp, scaled_exp);
  set(Fused::Norm, norm);
  set(Fused::NormGrad, norm_grad);
  set(Fused::NormWeights, norm_weights);
  t.lstm_step = lstm_step;
  t.lstm_step_grad = lstm_step_grad;
}

}  // namespace tg::cpu::TG_ISA
