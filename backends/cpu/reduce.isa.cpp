// Accumulation loops of the reductions. The lanes are fixed by the source, not by the registers of the machine, so
// every instruction set adds in the same order.
#include <cstring>
#include <type_traits>

#include "backends/cpu/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"

namespace tg::cpu::TG_ISA {
namespace {

template <class T>
using AccOf = std::conditional_t<std::is_same_v<T, int64_t>, int64_t, double>;

template <class A>
constexpr A neutral(Red op) {
  if (op == Red::Prod || op == Red::All) return A(1);
  if (op == Red::Max || op == Red::Min) {
    if constexpr (std::is_same_v<A, double>)
      return op == Red::Max ? -__builtin_inf() : __builtin_inf();
    else
      return op == Red::Max ? INT64_MIN : INT64_MAX;
  }
  return A(0);
}

// One step for scalars and, with the same text, for GCC's vectors. Integer sums wrap.
template <Red op, class A>
[[gnu::always_inline]] inline A step(A m, A x) {
  if constexpr (op == Red::Sum || op == Red::Prod) {
    if constexpr (std::is_same_v<A, int64_t>) {
      uint64_t u = uint64_t(m), v = uint64_t(x);
      return A(op == Red::Sum ? u + v : u * v);
    } else {
      return op == Red::Sum ? m + x : m * x;
    }
  } else if constexpr (op == Red::Max) {
    return (x > m) | (x != x) ? x : m;
  } else if constexpr (op == Red::Min) {
    return (x < m) | (x != x) ? x : m;
  } else if constexpr (op == Red::Any) {
    return (m != A(0)) | (x != A(0)) ? A(1) : A(0);
  } else {
    return (m != A(0)) & (x != A(0)) ? A(1) : A(0);
  }
}

constexpr int kLanes = 32, kWidth = 8;
typedef double VecD __attribute__((vector_size(64)));
typedef int64_t VecI __attribute__((vector_size(64)));
typedef uint64_t VecU __attribute__((vector_size(64)));

// (V: vectors of float, double or int64.)
template <Red op, class V>
[[gnu::always_inline]] inline void vstep(V& m, const V& x) {
  if constexpr (op == Red::Sum || op == Red::Prod) {
    if constexpr (std::is_same_v<V, VecI>)
      m = (V)(op == Red::Sum ? (VecU)m + (VecU)x : (VecU)m * (VecU)x);
    else
      m = op == Red::Sum ? m + x : m * x;
  } else if constexpr (op == Red::Max) {
    m = (x > m) | (x != x) ? x : m;
  } else if constexpr (op == Red::Min) {
    m = (x < m) | (x != x) ? x : m;
  } else if constexpr (op == Red::Any) {
    m = (m != V{}) | (x != V{}) ? V{} + 1 : V{};
  } else {
    m = (m != V{}) & (x != V{}) ? V{} + 1 : V{};
  }
}

template <class V, class T>
[[gnu::always_inline]] inline V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Four vectors of T as one of the accumulator's type. Floats are combined before they are converted: two roundings in
// float for a quarter of the conversions. Products would leave float's range.
template <Red op, class V, class S>
[[gnu::always_inline]] inline V combine(S a, S b, S c, S d) {
  if constexpr (op == Red::Prod && !std::is_same_v<V, S>) {
    return combine<op, V>(__builtin_convertvector(a, V), __builtin_convertvector(b, V), __builtin_convertvector(c, V),
                          __builtin_convertvector(d, V));
  } else {
    vstep<op>(a, b);
    vstep<op>(c, d);
    vstep<op>(a, c);
    return __builtin_convertvector(a, V);
  }
}

template <Red op, class T>
[[gnu::flatten]] void row(const void* psrc, int64_t n, void* pacc) {
  using A = AccOf<T>;
  using V = std::conditional_t<std::is_same_v<A, double>, VecD, VecI>;
  typedef T S __attribute__((vector_size(kWidth * sizeof(T))));
  const T* src = static_cast<const T*>(psrc);
  const A zero = neutral<A>(op);
  V m0 = V{} + zero, m1 = m0;
  auto take = [](const T* p, V& m) __attribute__((always_inline)) {
    vstep<op>(m, combine<op, V>(load<S>(p), load<S>(p + 8), load<S>(p + 16), load<S>(p + 24)));
  };
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    take(src + i, m0);
    take(src + i + kLanes, m1);
  }
  for (; i < n; i += kLanes) {
    T rest[kLanes];
    const int64_t k = n - i < kLanes ? n - i : kLanes;
    for (int j = 0; j < kLanes; ++j) rest[j] = T(zero);
    std::memcpy(rest, src + i, size_t(k) * sizeof(T));
    take(rest, m0);
  }
  vstep<op>(m0, m1);
  A l[kWidth];
  std::memcpy(l, &m0, sizeof l);
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) l[j] = step<op>(l[j], l[j + half]);
  A* acc = static_cast<A*>(pacc);
  *acc = step<op>(*acc, l[0]);
}

template <Red op, class T>
[[gnu::flatten]] void col(const void* psrc, int64_t stride, int64_t rows, void* pacc, int64_t width) {
  using A = AccOf<T>;
  using V = std::conditional_t<std::is_same_v<A, double>, VecD, VecI>;
  typedef T S __attribute__((vector_size(kWidth * sizeof(T))));
  A* acc = static_cast<A*>(pacc);
  const T* src = static_cast<const T*>(psrc);
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, src += 4 * stride) {
    const T *x0 = src, *x1 = src + stride, *x2 = src + 2 * stride, *x3 = src + 3 * stride;
    int64_t j = 0;
    for (; j + kWidth <= width; j += kWidth) {
      V m = load<V>(acc + j);
      vstep<op>(m, combine<op, V>(load<S>(x0 + j), load<S>(x1 + j), load<S>(x2 + j), load<S>(x3 + j)));
      std::memcpy(acc + j, &m, sizeof m);
    }
    for (; j < width; ++j)
      for (const T* x : {x0, x1, x2, x3}) acc[j] = step<op, A>(acc[j], A(x[j]));
  }
  for (; r < rows; ++r, src += stride) {
    int64_t j = 0;
    for (; j + kWidth <= width; j += kWidth) {
      V m = load<V>(acc + j);
      vstep<op>(m, __builtin_convertvector(load<S>(src + j), V));
      std::memcpy(acc + j, &m, sizeof m);
    }
    for (; j < width; ++j) acc[j] = step<op, A>(acc[j], A(src[j]));
  }
}

template <Red op, class A>
[[gnu::flatten]] void merge(const void* pother, void* pacc, int64_t n) {
  const A* other = static_cast<const A*>(pother);
  A* acc = static_cast<A*>(pacc);
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) acc[j] = step<op, A>(acc[j], other[j]);
}

template <Red op>
void fill(Loops& t) {
  int k = int(op);
  t.row[k][0] = row<op, float>, t.row[k][1] = row<op, double>, t.row[k][2] = row<op, int64_t>;
  t.col[k][0] = col<op, float>, t.col[k][1] = col<op, double>, t.col[k][2] = col<op, int64_t>;
  t.merge[k][0] = t.merge[k][1] = merge<op, double>, t.merge[k][2] = merge<op, int64_t>;
}

}  // namespace

void fill_reduce(Loops& t) {
  fill<Red::Sum>(t);
  fill<Red::Prod>(t);
  fill<Red::Max>(t);
  fill<Red::Min>(t);
  fill<Red::Any>(t);
  fill<Red::All>(t);
}

}  // namespace tg::cpu::TG_ISA
