// Conversions between stored dtypes and compute types, and the table itself.
#include <type_traits>

#include "backends/cpu/loops.h"
#ifdef __AVX2__
#include "backends/cpu/vector.h"
#endif

namespace tg::cpu::TG_ISA {
namespace {

// A bool byte made elsewhere may hold any value: it is read as a byte.
template <class S>
using Stored = std::conditional_t<std::is_same_v<S, bool>, uint8_t, S>;

// Between float16 and float32 side by side the processor converts, a vector at a time.
#ifdef __AVX2__
template <class S, class T>
inline constexpr bool kByProcessor = std::is_same_v<S, Half> && std::is_same_v<T, float>;

void widen(const Half* src, float* dst, int64_t n) {
  int64_t i = 0;
  for (; i + L <= n; i += L) store(dst + i, load(src + i));
  if (i < n) store_part(dst + i, load_part(src + i, n - i), n - i);
}
void narrow(const float* src, Half* dst, int64_t n) {
  int64_t i = 0;
  for (; i + L <= n; i += L) store(dst + i, load(src + i));
  if (i == n) return;
  Half rest[L];
  store(rest, load_part(src + i, n - i));
  std::memcpy(dst + i, rest, size_t(n - i) * sizeof(Half));
}
#endif

template <class S, class T>
[[gnu::flatten]] void load_row(const void* psrc, int64_t stride, void* pdst, int64_t n) {
  const Stored<S>* src = static_cast<const Stored<S>*>(psrc);
  T* dst = static_cast<T*>(pdst);
#ifdef __AVX2__
  if constexpr (kByProcessor<S, T>)
    if (stride == 1) return widen(src, dst, n);
#endif
  auto one = [](Stored<S> x) {
    if constexpr (std::is_same_v<S, bool>)
      return T(x != 0);
    else
      return convert<T>(x);
  };
  if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dst[i] = one(src[i]);
  } else if (stride == 0) {
    T v = one(src[0]);
    for (int64_t i = 0; i < n; ++i) dst[i] = v;
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i] = one(src[i * stride]);
  }
}

template <class T, class S>
[[gnu::flatten]] void store_row(const void* psrc, void* pdst, int64_t stride, int64_t n) {
  const T* src = static_cast<const T*>(psrc);
  Stored<S>* dst = static_cast<Stored<S>*>(pdst);
#ifdef __AVX2__
  if constexpr (kByProcessor<S, T>)
    if (stride == 1) return narrow(src, dst, n);
#endif
  if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dst[i] = convert<S>(src[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i * stride] = convert<S>(src[i]);
  }
}

}  // namespace

void fill_convert(Loops& t) {
#define TG_X(D, S)                                  \
  t.load[int(DType::D)][0] = load_row<S, float>;    \
  t.load[int(DType::D)][1] = load_row<S, double>;   \
  t.load[int(DType::D)][2] = load_row<S, int64_t>;  \
  t.store[0][int(DType::D)] = store_row<float, S>;  \
  t.store[1][int(DType::D)] = store_row<double, S>; \
  t.store[2][int(DType::D)] = store_row<int64_t, S>;
  TG_FOR_DTYPES(TG_X)
#undef TG_X
}

#define TG_STR2(x) #x
#define TG_STR(x) TG_STR2(x)
const Loops& table() {
  static const Loops t = [] {
    Loops l;
    l.isa = TG_STR(TG_ISA);
    fill_map_f32(l);
    fill_map_f64(l);
    fill_map_i64(l);
    fill_convert(l);
    fill_reduce(l);
    fill_fused(l);
    fill_index(l);
    fill_gemm(l);
    fill_winograd(l);
    return l;
  }();
  return t;
}

}  // namespace tg::cpu::TG_ISA
