// The formulas as vector loops over plain memory of one type, in one pass; compiled once per instruction set.
#include <utility>

#include "backends/formulas.h"

namespace tg::optim::TG_ISA {
namespace {

// ivdep: arrays of different tensors do not overlap, and each element depends on itself alone.
#define TG_X(name, arrays, coefs)                                                                     \
  template <class T, size_t... I>                                                                     \
  [[gnu::always_inline]] inline void name##_over(void* const* data, const double* numbers, int64_t n, \
                                                 std::index_sequence<I...>) {                         \
    T* p[] = {static_cast<T*>(data[I])...};                                                           \
    T c[coefs];                                                                                       \
    for (int k = 0; k < coefs; ++k) c[k] = T(numbers[k]);                                             \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i) {                                            \
      T x[] = {p[I][i]...};                                                                           \
      update_##name(x, c);                                                                            \
      ((I != 1 ? void(p[I][i] = x[I]) : void()), ...);                                                \
    }                                                                                                 \
  }                                                                                                   \
  template <class T>                                                                                  \
  void name##_loop(void* const* data, const double* numbers, int64_t n) {                             \
    name##_over<T>(data, numbers, n, std::make_index_sequence<arrays>());                             \
  }
TG_FORMULAS(TG_X)
#undef TG_X

}  // namespace

const UpdateLoop* loops(bool f64) {
#define TG_X(name, arrays, coefs) name##_loop<float>,
  static constexpr UpdateLoop kF32[] = {TG_FORMULAS(TG_X)};
#undef TG_X
#define TG_X(name, arrays, coefs) name##_loop<double>,
  static constexpr UpdateLoop kF64[] = {TG_FORMULAS(TG_X)};
#undef TG_X
  return f64 ? kF64 : kF32;
}

}  // namespace tg::optim::TG_ISA
