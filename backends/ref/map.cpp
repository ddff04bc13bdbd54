// Programs, evaluated one element at a time through a switch over the opcodes.
#include "backends/random_bits.h"
#include "backends/ref/ref.h"
#include "backends/scalar_math.h"

namespace tg::ref {
namespace {

const char* opc_name(Opc op) {
  static const char* const names[] = {
#define TG_P1(name, ...) #name,
#define TG_P2(name, ...) #name,
#define TG_P3(name, ...) #name,
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
      "Identity", "Index", "RandUniform", "RandNormal", "RandBits"};
  return names[int(op)];
}

template <class T>
[[noreturn]] T no_such_row(Opc op) {
  fail<DTypeError>("program: ", opc_name(op), " is not defined for ", DTypeOf<T>::value);
}

// The row `op` of operands a, b, c.
template <class T>
T apply(Opc op, T a, [[maybe_unused]] T b, [[maybe_unused]] T c) {
  switch (op) {
#define TG_ROW(name, rule, expr)                   \
  case Opc::name:                                  \
    if constexpr (sm::rule_has<T>(sm::Rule::rule)) \
      return expr;                                 \
    else                                           \
      return no_such_row<T>(op);
#define TG_P1(name, rule, flags, autocast, expr, ...) TG_ROW(name, rule, expr)
#define TG_P2(name, params, rule, flags, autocast, expr, ...) TG_ROW(name, rule, expr)
#define TG_P3(name, params, rule, flags, autocast, expr, ...) TG_ROW(name, rule, expr)
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
#undef TG_ROW
    case Opc::Identity:
      return a;
    default:
      fail<ValueError>("program: unknown opcode ", int(op));
  }
}

template <class T>
T run_instr(const Program& p, const Instr& in, const T* regs, int64_t i) {
  switch (in.op) {
    case Opc::Index:
      return T(i);
    case Opc::RandUniform:
    case Opc::RandNormal:
    case Opc::RandBits:
      return rnd::element<T>(rnd::Draw(rand_kind(in.op)), p.seed, p.offset, p.first + i);
    default:
      return apply<T>(in.op, regs[in.src[0]], regs[in.src[1]], regs[in.src[2]]);
  }
}

}  // namespace

template <class T>
void run_program(const Program& p, T* regs, int64_t i) {
  T* next = regs + p.n_inputs;
  for (const Scalar& s : p.consts) *next++ = std::is_integral_v<T> ? T(s.i()) : T(s.d());
  for (const Instr& in : p.code) {
    T y = run_instr(p, in, regs, i);
    *next++ = y;
  }
}
template void run_program<float>(const Program&, float*, int64_t);
template void run_program<double>(const Program&, double*, int64_t);
template void run_program<int64_t>(const Program&, int64_t*, int64_t);

// Every input of an element is read before an output of it is written, so an output may be an input's very view.
void RefBackend::map(const Program& p, const Views& ins, const Views& outs) {
  if (outs.empty()) return;
  visit_compute(p.compute, [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::vector<T> regs(size_t(num_regs(p)) + 3);
    int64_t i = 0;
    for_each_index(outs[0].shape, [&](const Dims& index) {
      for (int k = 0; k < ins.size(); ++k) regs[size_t(k)] = load<T>(ins[k], offset_of(ins[k], index));
      run_program<T>(p, regs.data(), i++);
      for (int k = 0; k < outs.size(); ++k) store<T>(outs[k], offset_of(outs[k], index), regs[p.outs[k]]);
    });
  });
}

}  // namespace tg::ref
