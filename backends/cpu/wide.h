// 64 bytes of T as one value, for loops whose lanes are written out in the source so that every instruction set adds in
// the same order. AVX-512 has such registers. Elsewhere the compiler would split GCC's vectors of that width well for
// arithmetic, but compare and choose in them element by element: here they are pairs of halves, down to a register.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees it in its own immintrin.h
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"
#define TG_IN [[gnu::always_inline]] static inline

namespace tg::cpu::TG_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kRegister = 64;
#elif defined(__AVX__)
constexpr int kRegister = 32;
#else
constexpr int kRegister = 16;
#endif

template <class T, int kBytes>
struct Pair;
template <class T, int kBytes, bool kFits = (kBytes <= kRegister)>
struct VecOf {
  typedef T Type __attribute__((vector_size(kBytes)));
};
template <class T, int kBytes>
struct VecOf<T, kBytes, false> {
  using Type = Pair<T, kBytes>;
};
template <class T, int kBytes = 64>
using Wide = typename VecOf<T, kBytes>::Type;

template <class T, int kBytes>
struct Pair {
  Wide<T, kBytes / 2> low, high;
};

// What comparisons give: all bits set, or none.
template <class T>
using MaskOf = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

#define TG_WIDE(op)                                                                                      \
  template <class T, int B>                                                                              \
  [[gnu::always_inline]] inline Pair<T, B> operator op(const Pair<T, B>& a, const Pair<T, B>& b) {       \
    return {a.low op b.low, a.high op b.high};                                                           \
  }                                                                                                      \
  template <class T, int B>                                                                              \
  [[gnu::always_inline]] inline Pair<T, B> operator op(const Pair<T, B>& a, std::type_identity_t<T> b) { \
    return {a.low op b, a.high op b};                                                                    \
  }
TG_WIDE(+)
TG_WIDE(-)
TG_WIDE(*)
TG_WIDE(/)
TG_WIDE(|)
TG_WIDE(&)
TG_WIDE(<<)
#undef TG_WIDE

template <class T, int B>
TG_IN Pair<MaskOf<T>, B> operator<(const Pair<T, B>& a, const Pair<T, B>& b) {
  using Half = Wide<MaskOf<T>, B / 2>;
  return {(Half)(a.low < b.low), (Half)(a.high < b.high)};
}
template <class T, int B>
TG_IN Pair<MaskOf<T>, B> operator>(const Pair<T, B>& a, const Pair<T, B>& b) {
  return b < a;
}
template <class T, int B>
TG_IN Pair<MaskOf<T>, B> operator!=(const Pair<T, B>& a, const Pair<T, B>& b) {
  using Half = Wide<MaskOf<T>, B / 2>;
  return {(Half)(a.low != b.low), (Half)(a.high != b.high)};
}

template <class V>
constexpr bool kIsPair = false;
template <class T, int B>
constexpr bool kIsPair<Pair<T, B>> = true;

// m ? a : b, lane by lane; of single values as well.
template <class M, class V>
TG_IN V choose(const M& m, const V& a, const V& b) {
  if constexpr (kIsPair<V>)
    return {choose(m.low, a.low, b.low), choose(m.high, a.high, b.high)};
  else
    return m ? a : b;
}

// x > m ? x : m, or x < m ? x : m, which is m where either is no number: one instruction, where GCC 12 makes two.
template <bool Largest, class V>
TG_IN V extreme(const V& x, const V& m) {
  if constexpr (kIsPair<V>) return {extreme<Largest>(x.low, m.low), extreme<Largest>(x.high, m.high)};
#if defined(__AVX512F__)  // with masks of all lanes: GCC 12 warns of the other forms' undefined lanes
  else if constexpr (std::is_same_v<V, Wide<float>>)
    return (V)(Largest ? _mm512_maskz_max_ps(0xffff, (__m512)x, (__m512)m)
                       : _mm512_maskz_min_ps(0xffff, (__m512)x, (__m512)m));
  else if constexpr (std::is_same_v<V, Wide<double>>)
    return (V)(Largest ? _mm512_maskz_max_pd(0xff, (__m512d)x, (__m512d)m)
                       : _mm512_maskz_min_pd(0xff, (__m512d)x, (__m512d)m));
#elif defined(__AVX__)
  else if constexpr (std::is_same_v<V, Wide<float, 32>>)
    return (V)(Largest ? _mm256_max_ps((__m256)x, (__m256)m) : _mm256_min_ps((__m256)x, (__m256)m));
  else if constexpr (std::is_same_v<V, Wide<double, 32>>)
    return (V)(Largest ? _mm256_max_pd((__m256d)x, (__m256d)m) : _mm256_min_pd((__m256d)x, (__m256d)m));
#endif
  else
    return choose(Largest ? x > m : x < m, x, m);
}

// The bits of v as another type of the same size.
template <class To, class V>
TG_IN To bits_as(const V& v) {
  if constexpr (kIsPair<V>)
    return {bits_as<decltype(To::low)>(v.low), bits_as<decltype(To::high)>(v.high)};
  else
    return (To)v;
}

// Floats in double.
TG_IN Wide<double> to_double(const Wide<float, 32>& x) {
#if defined(__AVX512F__)
  return (Wide<double>)_mm512_maskz_cvtps_pd(0xff, (__m256)x);  // GCC 12 makes two conversions and joins them
#elif defined(__AVX__)
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
#else
  auto both = [](const Wide<float, 16>& f) -> Wide<double, 32> {
    return {__builtin_convertvector(__builtin_shufflevector(f, f, 0, 1), Wide<double, 16>),
            __builtin_convertvector(__builtin_shufflevector(f, f, 2, 3), Wide<double, 16>)};
  };
  return {both(x.low), both(x.high)};
#endif
}

// Part by part: a copy of a whole pair would go through memory.
template <class V, class T>
TG_IN V load(const T* p) {
  if constexpr (kIsPair<V>) {
    using Half = decltype(V::low);
    return {load<Half>(p), load<Half>(p + sizeof(Half) / sizeof(T))};
  } else {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
}
template <class V, class T>
TG_IN void store(T* p, const V& v) {
  if constexpr (kIsPair<V>) {
    store(p, v.low);
    store(p + sizeof(v.low) / sizeof(T), v.high);
  } else {
    std::memcpy(p, &v, sizeof v);
  }
}

// The lower and the upper half of a vector of floats.
TG_IN Wide<float, 32> lower(const Wide<float>& v) {
#ifdef __AVX512F__
  return (Wide<float, 32>)_mm512_castps512_ps256((__m512)v);
#else
  return v.low;
#endif
}
TG_IN Wide<float, 32> upper(const Wide<float>& v) {
#ifdef __AVX512F__
  return (Wide<float, 32>)_mm512_extractf32x8_ps((__m512)v, 1);
#else
  return v.high;
#endif
}

}  // namespace
}  // namespace tg::cpu::TG_ISA
