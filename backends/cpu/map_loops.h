// One loop per row of the op table for type TG_T, which the including *.isa.cpp file sets, as it sets TG_FILL.
// Everything lives in a namespace named after the instruction set: the linker keeps one copy of an inline function,
// and that copy must not come from a file whose instructions the machine may lack.
#include "backends/cpu/loops.h"
#include "backends/random_bits.h"
#include "backends/scalar_math.h"

#pragma GCC diagnostic ignored "-Wtautological-compare"

namespace tg::cpu::TG_ISA {
namespace {

using Elem = TG_T;
constexpr int kType = std::is_same_v<Elem, float> ? 0 : std::is_same_v<Elem, double> ? 1 : 2;

#define TG_P1(name, rule, flags, autocast, expr, ...)                   \
  struct name##_op {                                                    \
    static constexpr bool kExists = sm::rule_has<Elem>(sm::Rule::rule); \
    template <class T>                                                  \
    [[gnu::always_inline]] static inline T f(T a, T, T) {               \
      return static_cast<T>(expr);                                      \
    }                                                                   \
  };
#define TG_P2(name, params, rule, flags, autocast, expr, ...)           \
  struct name##_op {                                                    \
    static constexpr bool kExists = sm::rule_has<Elem>(sm::Rule::rule); \
    template <class T>                                                  \
    [[gnu::always_inline]] static inline T f(T a, T b, T) {             \
      return static_cast<T>(expr);                                      \
    }                                                                   \
  };
#define TG_P3(name, params, rule, flags, autocast, expr, ...)           \
  struct name##_op {                                                    \
    static constexpr bool kExists = sm::rule_has<Elem>(sm::Rule::rule); \
    template <class T>                                                  \
    [[gnu::always_inline]] static inline T f(T a, T b, T c) {           \
      return static_cast<T>(expr);                                      \
    }                                                                   \
  };
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3

// ivdep: an in-place call has out == a, which the compiler would otherwise send to the scalar loop.
template <class Op, int kArity>
[[gnu::flatten]] void map_loop(const void* pa, const void* pb, const void* pc, void* po, int64_t n) {
  const Elem* a = static_cast<const Elem*>(pa);
  const Elem* b = static_cast<const Elem*>(pb);
  const Elem* c = static_cast<const Elem*>(pc);
  Elem* out = static_cast<Elem*>(po);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (kArity == 1)
      out[i] = Op::f(a[i], Elem(0), Elem(0));
    else if constexpr (kArity == 2)
      out[i] = Op::f(a[i], b[i], Elem(0));
    else
      out[i] = Op::f(a[i], b[i], c[i]);
  }
}

// sin and cos of floats. The core is a straight line and vectorises, but holds for |x| <= kTrigMax only; choosing per
// element would undo that. So a block with a larger value (or NaN) goes element by element, the others through the
// core.
struct sin_core_op {
  [[gnu::always_inline]] static inline float f(float a) { return sm::sin_core(a); }
};
struct cos_core_op {
  [[gnu::always_inline]] static inline float f(float a) { return sm::cos_core(a); }
};
template <class Core, class Op>
[[gnu::flatten]] void trig_loop(const void* pa, const void*, const void*, void* po, int64_t n) {
  constexpr int64_t kBlock = 256;
  for (int64_t at = 0; at < n; at += kBlock) {
    const float* a = static_cast<const float*>(pa) + at;
    float* out = static_cast<float*>(po) + at;
    int64_t m = n - at < kBlock ? n - at : kBlock;
    uint32_t beyond = 0;
    for (int64_t i = 0; i < m; ++i) beyond |= uint32_t(!(__builtin_fabsf(a[i]) <= sm::kTrigMax));
    if (beyond) {
      for (int64_t i = 0; i < m; ++i) out[i] = Op::f(a[i], 0.0f, 0.0f);
      continue;
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < m; ++i) out[i] = Core::f(a[i]);
  }
}

// Whole blocks where the range has them, single elements at its ends.
template <rnd::Draw kind>
[[gnu::flatten]] void random_loop(uint64_t seed, uint64_t offset, int64_t first, void* dst, int64_t n) {
  constexpr bool bits = kind == rnd::Draw::Bits;
  using Number = std::conditional_t<bits, int64_t, std::conditional_t<std::is_same_v<Elem, float>, float, double>>;
  constexpr int64_t per = bits ? 2 : rnd::per_block<Number>;
  Elem* out = static_cast<Elem*>(dst);
  int64_t i = 0;
  for (; i < n && (first + i) % per != 0; ++i) out[i] = rnd::element<Elem>(kind, seed, offset, first + i);
  for (; i + per <= n; i += per) {
    const rnd::Words w = philox(seed, offset, uint64_t(first + i) / per);
    Number v[per];
    if constexpr (bits)
      rnd::bits_block(w, v);
    else if constexpr (kind == rnd::Draw::Uniform)
      rnd::uniform_block(w, v);
    else
      rnd::normal_block(w, v);
    for (int64_t j = 0; j < per; ++j) out[i + j] = convert<Elem>(v[j]);
  }
  for (; i < n; ++i) out[i] = rnd::element<Elem>(kind, seed, offset, first + i);
}

template <class Op, int kArity>
constexpr MapLoop map_entry() {
  if constexpr (Op::kExists)
    return map_loop<Op, kArity>;
  else
    return nullptr;
}

}  // namespace

void TG_FILL(Loops& t) {
  MapLoop* row = t.map[kType];
#define TG_P1(name, ...) row[int(Opc::name)] = map_entry<name##_op, 1>();
#define TG_P2(name, ...) row[int(Opc::name)] = map_entry<name##_op, 2>();
#define TG_P3(name, ...) row[int(Opc::name)] = map_entry<name##_op, 3>();
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
  if constexpr (std::is_same_v<Elem, float>) {
    row[int(Opc::sin)] = trig_loop<sin_core_op, sin_op>;
    row[int(Opc::cos)] = trig_loop<cos_core_op, cos_op>;
  }
  t.rand[0][kType] = random_loop<rnd::Draw::Uniform>;
  t.rand[1][kType] = random_loop<rnd::Draw::Normal>;
  t.rand[2][kType] = random_loop<rnd::Draw::Bits>;
}

}  // namespace tg::cpu::TG_ISA
