// Runs and registers the pointwise rows: type promotion, broadcasting, one-instruction programs.
#include <algorithm>
#include <cstring>
#include <deque>
#include <string>

#include "backends/backend.h"
#include "ops/formula.h"
#include "ops/ops.h"
#include "ops/pointwise.h"

namespace tg {
namespace {

enum class Rule { Same, Arith, Float, Compare, Bits, IntDiv, Where };

// Operands of one call, at most three.
struct Operands {
  const Value* v;
  int n;
  bool tensor(int i) const { return v[i].is_tensor(); }
};

DType result_dtype(const char* op, Rule rule, const Operands& o) {
  DType p = promoted_dtype({o.v + (rule == Rule::Where), o.n - (rule == Rule::Where)});
  switch (rule) {
    case Rule::Arith:
      TG_CHECK(p != DType::Bool, DTypeError, op, ": bool tensors are not supported; use logical_xor or logical_not");
      return p;
    case Rule::Bits:
      TG_CHECK(!is_float(p), DTypeError, op, ": expected integer or bool operands, got ", p);
      return p;
    case Rule::Float:
      return is_float(p) ? p : default_dtype();
    default:
      return p;
  }
}

// Same bytes seen through the same geometry: reading element i before writing element i is then safe.
bool same_view(const Tensor& a, const Tensor& b) {
  return a.impl()->offset == b.impl()->offset && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.dtype() == b.dtype();
}

View broadcast_view(const Tensor& t, const Dims& shape) {
  View v(t);
  int off = shape.size() - t.ndim();
  if (off == 0 && t.sizes() == shape) return v;
  Dims st = Dims::filled(shape.size(), 0);
  for (int i = 0; i < t.ndim(); ++i) st[off + i] = t.sizes()[i] == 1 ? 0 : t.strides()[i];
  v.shape = shape;
  v.stride = st;
  return v;
}

void reject_zero_divisor(const char* op, const Value& v) {
  if (v.is_number()) {
    TG_CHECK(v.scalar().i() != 0, ValueError, op, ": integer division by zero");
  } else if (v.tensor().numel() > 0) {
    TG_CHECK(all(v.tensor()).item<bool>(), ValueError, op, ": integer division by zero; other=", describe(v.tensor()));
  }
}

void reject_negative_power(const char* op, const Operands& o) {
  const Value& e = o.v[1];
  TG_CHECK(!e.is_number() || e.scalar().i() >= 0, ValueError, op,
           ": integers to negative integer powers are not allowed; use a floating-point input; input=",
           describe(o.v[0].tensor()), ", exponent=", e.scalar().i());
}

Dims common_shape(const char* op, const Operands& o, Device& dev) {
  const Tensor* first = nullptr;
  Dims shape;
  for (int i = 0; i < o.n; ++i) {
    if (!o.tensor(i)) continue;
    const Tensor& t = o.v[i].tensor();
    if (!first) {
      first = &t;
      shape = t.sizes();
      dev = t.device();
      continue;
    }
    TG_CHECK(t.device() == dev, DeviceError, op, ": expected all tensors on one device, got ", dev, " and ",
             t.device());
    if (!(t.sizes() == shape)) shape = broadcast_shapes(op, shape, t.sizes());
  }
  return shape;
}

// Memory order of the result: that of the first operand that has its shape and no broadcast or reversed dimension
// (PyTorch's habit, and the order in which memory is read forwards); contiguous if there is none.
[[gnu::always_inline]] inline Tensor allocate(Args operands, const Dims& shape, DType dtype, Device dev) {
  for (const Value& v : operands) {
    if (!v.is_tensor() || !(v.tensor().sizes() == shape)) continue;
    const Tensor& t = v.tensor();
    if (t.is_contiguous()) return empty_like_tensor(t, dtype);
    if (std::any_of(t.strides().begin(), t.strides().end(), [](int64_t s) { return s <= 0; })) continue;
    Dims order = memory_order(shape, t.strides()), sizes, strides = shape;
    for (int64_t d : order) sizes.push_back(shape[int(d)]);
    Dims dense = contiguous_strides(sizes);
    for (int k = 0; k < order.size(); ++k) strides[int(order[k])] = dense[k];
    Tensor r = empty_tensor(shape, dtype, dev);
    r.impl()->strides = strides;
    r.impl()->contiguous = is_contiguous(shape, strides);
    return r;
  }
  return empty_tensor(shape, dtype, dev);
}

// Powers of floating-point values that a cheaper function gives.
std::optional<Opc> simple_power(double exponent) {
  if (exponent == 1.0) return Opc::positive;
  if (exponent == 2.0) return Opc::square;
  if (exponent == 0.5) return Opc::sqrt;
  if (exponent == -1.0) return Opc::reciprocal;
  return {};
}

// Whether every element of t is the same one.
bool one_element(const Tensor& t) {
  for (int i = 0; i < t.ndim(); ++i)
    if (t.strides()[i] != 0 && t.sizes()[i] != 1) return false;
  return true;
}

// One row, the short way: all tensors of one compute type, side by side in memory or a single element. False if it is
// not that. `in_place`: the result is one of the operands.
[[gnu::always_inline]] inline bool run_flat(Opc code, DType p, Args operands, const Tensor& result, bool in_place) {
  if (result.dtype() != p || compute_type(p) != p || !result.is_contiguous()) return false;
  FlatOperand ins[3];
  uint64_t values[3];
  for (int i = 0; i < operands.size(); ++i) {
    if (!operands[i].is_tensor()) {
      ins[i] = {scalar_bytes(operands[i].scalar(), p, values[i]), true};
      continue;
    }
    const Tensor& t = operands[i].tensor();
    const bool full = t.is_contiguous() && t.numel() == result.numel();
    if (t.dtype() != p || !(full || one_element(t))) return false;
    if (in_place && t.impl()->storage == result.impl()->storage && !(full && t.data() == result.data())) return false;
    ins[i] = {t.data(), !full};
  }
  return tg::backend(result.device()).map_flat(code, p, ins, operands.size(), result.data(), result.numel());
}

// One-instruction program over the operands; `target` is written if given, otherwise a new tensor.
Tensor run(const char* op, Opc code, Rule rule, Operands o, const Tensor* target) {
  DType p = result_dtype(op, rule, o);
  if (code == Opc::pow && is_float(p) && o.tensor(0) && !o.tensor(1))
    if (auto simple = simple_power(o.v[1].scalar().d())) code = *simple, o.n = 1;
  if (rule == Rule::Where)
    TG_CHECK(o.v[0].tensor().dtype() == DType::Bool || o.v[0].tensor().dtype() == DType::U8, DTypeError, op,
             ": condition must be a bool tensor, not ", o.v[0].tensor().dtype());
  if (rule == Rule::IntDiv && !is_float(p)) reject_zero_divisor(op, o.v[1]);
  if (code == Opc::pow && !is_float(p)) reject_negative_power(op, o);
  if (code == Opc::bitwise_not && p == DType::Bool) code = Opc::logical_not;
  if (code == Opc::square && p == DType::Bool) p = DType::I64;  // a power of a bool is an integer
  DType out_dtype = rule == Rule::Compare ? DType::Bool : p;
  Device dev;
  Dims shape = common_shape(op, o, dev);
  if (target) {
    TG_CHECK(shape == target->sizes(), ShapeError, op, "_: the result has size ", shape,
             ", which does not fit the tensor written in place; self=", describe(*target));
    TG_CHECK(can_cast(out_dtype, target->dtype()), DTypeError, op, "_: result type ", out_dtype, " can't be cast to ",
             target->dtype(), "; self=", describe(*target));
    reject_self_overlap(op, *target);
  }
  Tensor result = target ? *target : allocate({o.v, o.n}, shape, out_dtype, dev);
  if (result.numel() == 0 || run_flat(code, p, {o.v, o.n}, result, target != nullptr)) return result;
  Program prog;
  prog.compute = compute_type(p);
  Instr instr{code, {0, 0, 0}};
  Views ins;
  Tensor copies[3];
  for (int i = 0; i < o.n; ++i)
    if (o.tensor(i)) {
      const Tensor& t = o.v[i].tensor();
      instr.src[i] = uint8_t(ins.size());
      bool alias = target && t.impl()->storage == target->impl()->storage && !same_view(t, *target);
      if (alias) copies[i] = clone(t);
      ins.push_back(broadcast_view(alias ? copies[i] : t, shape));
    }
  prog.n_inputs = ins.size();
  for (int i = 0; i < o.n; ++i)
    if (!o.tensor(i)) {
      instr.src[i] = prog.const_reg(prog.consts.size());
      prog.consts.push_back(o.v[i].scalar());
    }
  prog.code.push_back(instr);
  prog.outs.push_back(prog.code_reg(0));
  Views outs;
  outs.push_back(View(result));
  tg::backend(dev).map(prog, ins, outs);
  return result;
}

}  // namespace

namespace formula {

Formula::Source Formula::source(const Term& t) {
  if (t.step_ >= 0) return {Source::Step, uint8_t(t.step_)};
  if (!t.tensor_) {
    numbers_.push_back(t.number_);
    return {Source::Number, uint8_t(numbers_.size() - 1)};
  }
  for (int i = 0; i < inputs_.size(); ++i)
    if (inputs_[i] == t.tensor_) return {Source::Input, uint8_t(i)};
  written_ = written_ && (t.tensor_->dtype() == g_.dtype() || t.tensor_->dtype() == DType::Bool);
  inputs_.push_back(t.tensor_);
  return {Source::Input, uint8_t(inputs_.size() - 1)};
}

Term Formula::add(Opc op, std::initializer_list<Term> args) {
  // What numbers alone give is a number of double precision, which the ops one by one compute.
  bool numbers = true;
  for (const Term& t : args) numbers = numbers && !t.tensor_ && t.step_ < 0;
  written_ = written_ && !numbers;
  Step s{op, 0, {}};
  for (const Term& t : args) s.from[s.n++] = source(t);
  steps_.push_back(s);
  return Term(*this, steps_.size() - 1);
}

uint8_t Formula::reg(const Program& p, const Source& s) const {
  if (s.kind == Source::Input) return s.index;
  return s.kind == Source::Number ? p.const_reg(s.index) : p.code_reg(s.index);
}

bool Formula::run_single(const Tensor& out, bool in_place) const {
  const Step& s = steps_[0];
  Value operands[3];
  for (int k = 0; k < s.n; ++k)
    operands[k] = s.from[k].kind == Source::Input ? Value(*inputs_[s.from[k].index]) : Value(numbers_[s.from[k].index]);
  return run_flat(s.op, g_.dtype(), {operands, s.n}, out, in_place);
}

Tensor Formula::run(const Term& result, bool may_write_g) {
  if (result.step_ < 0 || !written_) return {};
  const DType dtype = g_.dtype();
  const Dims& shape = g_.sizes();
  SmallVec<Value, 4> operands;
  for (const Tensor* t : inputs_) operands.push_back(Value(*t));
  for (const Tensor* t : inputs_) may_write_g = may_write_g && (t->is_contiguous() || !(t->sizes() == shape));
  Tensor out = may_write_g ? g_ : allocate({operands.data(), operands.size()}, shape, dtype, g_.device());
  if (out.numel() == 0 || (steps_.size() == 1 && run_single(out, may_write_g))) return out;
  Program p;
  p.compute = compute_type(dtype);
  p.n_inputs = inputs_.size();
  p.consts = numbers_;
  for (const Step& s : steps_) {
    Instr in{s.op, {0, 0, 0}};
    for (int k = 0; k < s.n; ++k) in.src[k] = reg(p, s.from[k]);
    p.code.push_back(in);
  }
  p.outs.push_back(p.code_reg(p.code.size() - 1));
  Views ins, outs;
  for (const Tensor* t : inputs_) ins.push_back(broadcast_view(*t, shape));
  outs.push_back(View(out));
  tg::backend(g_.device()).map(p, ins, outs);
  return out;
}

}  // namespace formula

namespace {

// Public name of the row with this opcode.
template <Opc code>
const char* row_name() {
  static const char* name = [] {
    for (auto* d : all_ops())
      if (d->opcode == int(code)) return d->base.c_str();
    return "pointwise";
  }();
  return name;
}

template <Opc code, Rule rule, int n>
void body(Args a, Outputs& out) {
  if (any_tensor({a.p, n})) return out.push_back(run(row_name<code>(), code, rule, {a.p, n}, nullptr));
  // Numbers alone have no shape or device: the first becomes a 0-d tensor.
  GradOperand first(a[0].scalar());
  Value v[3] = {Value(static_cast<const Tensor&>(first)), n > 1 ? a[1] : Value(), n > 2 ? a[2] : Value()};
  out.push_back(run(row_name<code>(), code, rule, {v, n}, nullptr));
}

template <Opc code, Rule rule, int n>
void body_inplace(Args a, Outputs&) {
  run(row_name<code>(), code, rule, {a.p, n}, &a[0].tensor());
}

// Which of a, b, c and y a gradient expression names: that is what backward keeps.
constexpr bool is_word(char ch) {
  return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_';
}
Reads reads_of(const char* expr) {
  Reads r = 0;
  for (const char* p = expr; *p;) {
    if (!is_word(*p)) {
      ++p;
      continue;
    }
    const char* q = p;
    while (is_word(*q)) ++q;
    if (q - p == 1) r |= *p == 'a' ? in(0) : *p == 'b' ? in(1) : *p == 'c' ? in(2) : *p == 'y' ? out(0) : 0;
    p = q;
  }
  return r;
}

struct NoGradient {};
[[maybe_unused]] constexpr NoGradient none;
Tensor grad_value(Tensor t) { return t; }
Tensor grad_value(NoGradient) { return {}; }
Grad rule_of(const char* expr, Tensor (*fn)(GradCtx&)) {
  return std::strcmp(expr, "none") == 0 ? Grad{} : Grad{reads_of(expr), fn};
}

const OpDef& row(const char* schema, uint32_t flags, Autocast autocast, const char* samples, const char* aliases,
                 const char* doc, Opc code, Body run_body, Body inplace, std::vector<Grad> grads) {
  OpSpec s;
  s.doc = doc;
  s.primitive = run_body;
  s.inplace = inplace;
  s.grads = std::move(grads);
  s.flags = flags;
  s.autocast = autocast;
  static std::deque<std::string> kept;  // the two halves of "range|oracle"
  std::string_view text = samples;
  size_t bar = text.find('|');
  s.samples = kept.emplace_back(text.substr(0, bar)).c_str();
  s.torch = kept.emplace_back(bar == text.npos ? "" : text.substr(bar + 1)).c_str();
  s.aliases = aliases;
  return register_op(schema, std::move(s), int(code));
}

// ---- gradients too long for a row

Tensor pow_grad_base(const Tensor& g, const Operand& a, const Operand& b) {
  if (!b.is_tensor() && b.scalar().d() == 0) return zeros_like(g);
  if (!b.is_tensor())
    return g * (b * pow(a, b.scalar().is_float() ? Scalar(b.scalar().d() - 1) : Scalar(b.scalar().i() - 1)));
  return where(eq(b, 0.0), 0.0, g * (b * pow(a, b - 1.0)));
}

formula::Term pow_grad_base(const formula::Term& g, const formula::Term& a, const formula::Term& b) {
  const double e = b.number_or(0);
  if (e == 0) return formula::Term::unwritten();
  const auto simple = simple_power(e - 1);
  return g * (b * (simple ? formula::step(*simple, {a}) : pow(a, e - 1)));
}

// d/db a^b = a^b log(a); the limit at a = 0, b >= 0 is 0.
Tensor pow_grad_exponent(const Tensor& g, const Tensor& a, const Operand& b, const Tensor& y) {
  return g * where(logical_and(eq(a, 0.0), ge(b, 0.0)), 0.0, y * log(a));
}

// Of max(a, b) for a: ties share, NaN passes.
template <class G, class A, class B>
G extreme_grad(const G& g, const A& a, const B& b) {
  return where(lt(a, b), 0.0, where(eq(a, b), g * 0.5, g));
}

Tensor polygamma_grad(const Tensor& g, const Operand& n, const Tensor& x) {
  return g * polygamma(Scalar(n.scalar().i() + 1), x);
}

// mish = x tanh(softplus(x)); d = t + x sigmoid(x) (1 - t^2)
template <class T>
T mish_grad(const T& g, const T& x) {
  const T t = tanh(softplus(x, 1.0, 20.0));
  return g * (t + x * sigmoid(x) * (1.0 - square(t)));
}

// Derivative of silu's derivative s (1 + x (1 - s)): s (1 - s) (2 + x (1 - 2 s))
Tensor silu_grad2(const Tensor& g, const Tensor& x) {
  Tensor s = sigmoid(x);
  return g * s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s));
}

// Second derivative of 0.5 x (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3):
// (1 - t^2) (u' + 0.5 x u'' - x t u'^2), t = tanh(u)
Tensor gelu_tanh_grad2(const Tensor& g, const Tensor& x) {
  const double k = 0.7978845608028654, c = 0.044715;
  Tensor x2 = square(x), t = tanh(k * (x + c * x * x2)), du = k * (1.0 + 3.0 * c * x2);
  return g * (1.0 - square(t)) * (du + 3.0 * k * c * x2 - x * t * square(du));
}

using formula::Term;

// Whether an expression is more than a name.
constexpr bool computes(std::string_view expr) { return expr.find_first_of("(*/+-") != expr.npos; }

// The gradient of operand `arg` of an op with n operands: f(g, a, b, c, y) is its row's expression, for tensors or,
// where all it names are rows, for terms. With terms it is one pass over memory, and if nobody will look at g again its
// memory takes the result.
template <int n, bool kComputes, class F>
Tensor gradient(GradCtx& ctx, int arg, F f) {
  const Tensor& g = ctx.g();
  auto operand = [&](int i) { return i < n && ctx.reads(in(i)) ? ctx.a(i) : GradOperand(Tensor()); };
  const GradOperand a = operand(0), b = operand(1), c = operand(2);
  const Tensor y = ctx.reads(out(0)) ? ctx.y() : Tensor();
  if constexpr (kComputes && std::is_invocable_r_v<Term, F, Term, Term, Term, Term, Term>)
    if (g.device().is_cpu() && is_float(g.dtype()) && !modes().grad && modes().fast_paths) {
      formula::Formula steps(g);
      const Term result = f(Term(steps, g), Term(steps, a), Term(steps, b), Term(steps, c), Term(steps, y));
      try {
        if (Tensor t = steps.run(result, ctx.last_use_of_g(arg)); t.defined()) return t;
      } catch (OutOfMemoryError& e) {
        e.text = ctx.call().op->base + "_backward: " + e.text + "; grad=" + describe(g);
        throw;
      }
    }
  if constexpr (n == 1) {
    const Tensor& x = a.tensor();
    return grad_value(f(g, x, b, c, y));
  } else {
    return grad_value(f(g, a, b, c, y));
  }
}

// clang-format off
#define TG_GRAD(n, i, d) rule_of(#d, [](GradCtx& ctx) { return gradient<n, computes(#d)>(ctx, i, \
  []([[maybe_unused]] const auto& g, [[maybe_unused]] const auto& a, [[maybe_unused]] const auto& b, \
     [[maybe_unused]] const auto& c, [[maybe_unused]] const auto& y) -> decltype(d) { return d; }); })
#define TG_ROW(name, params, rule, flags, ac, n, samples, aliases, doc, ...) \
  [[maybe_unused]] const OpDef& row_##name = row(#name params " -> Tensor", flags, Autocast::ac, samples, aliases, doc, \
      Opc::name, body<Opc::name, Rule::rule, n>, body_inplace<Opc::name, Rule::rule, n>, {__VA_ARGS__});
#define TG_P1(name, rule, flags, ac, expr, da, samples, aliases, doc) \
  TG_ROW(name, "(Tensor input)", rule, flags, ac, 1, samples, aliases, doc, TG_GRAD(1, 0, da))
#define TG_P2(name, params, rule, flags, ac, expr, da, db, samples, aliases, doc) \
  TG_ROW(name, params, rule, flags, ac, 2, samples, aliases, doc, TG_GRAD(2, 0, da), TG_GRAD(2, 1, db))
#define TG_P3(name, params, rule, flags, ac, expr, da, db, dc, samples, aliases, doc) \
  TG_ROW(name, params, rule, flags, ac, 3, samples, aliases, doc, TG_GRAD(3, 0, da), TG_GRAD(3, 1, db), TG_GRAD(3, 2, dc))
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
// clang-format on

}  // namespace

bool any_tensor(Args a) {
  for (const Value& v : a)
    if (v.is_tensor()) return true;
  return false;
}

DType promoted_dtype(Args a) {
  // PyTorch's rule: tensors with dimensions decide; 0-d tensors and numbers only lift the category.
  int dim = -1, zero = -1, num = -1;
  auto join = [](int& acc, DType t) { acc = acc < 0 ? int(t) : int(promote(DType(acc), t)); };
  for (const Value& v : a) {
    if (v.is_tensor())
      join(v.tensor().ndim() > 0 ? dim : zero, v.tensor().dtype());
    else
      join(num, v.scalar().dtype());
  }
  auto combine = [](int high, int low) {
    if (high < 0) return low;
    if (low < 0) return high;
    return category(DType(low)) > category(DType(high)) ? int(promote(DType(high), DType(low))) : high;
  };
  return DType(combine(combine(dim, zero), num));
}

Dims memory_order(const Dims& sizes, const Dims& strides) {
  Dims order;
  for (int i = 0; i < sizes.size(); ++i) order.push_back(i);
  auto key = [&](int64_t d) { return sizes[int(d)] == 1 ? INT64_MAX : strides[int(d)]; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) > key(b); });
  return order;
}

bool is_dense(const Dims& sizes, const Dims& strides, Dims& order) {
  order = memory_order(sizes, strides);
  Dims s, st;
  for (int64_t d : order) {
    s.push_back(sizes[int(d)]);
    st.push_back(strides[int(d)]);
  }
  return is_contiguous(s, st);
}

void reject_self_overlap(const char* op, const Tensor& t) {
  for (int i = 0; i < t.ndim(); ++i)
    TG_CHECK(t.strides()[i] != 0 || t.sizes()[i] <= 1, ValueError, op,
             "_: several elements of the tensor written in place share one memory location (dimension ", i,
             " is expanded); clone it first; self=", describe(t));
}

Tensor operator+(const Operand& a, const Operand& b) { return add(a, b); }
Tensor operator-(const Operand& a, const Operand& b) { return sub(a, b); }
Tensor operator*(const Operand& a, const Operand& b) { return mul(a, b); }
Tensor operator/(const Operand& a, const Operand& b) { return div(a, b); }
Tensor operator==(const Operand& a, const Operand& b) { return eq(a, b); }
Tensor operator!=(const Operand& a, const Operand& b) { return ne(a, b); }
Tensor operator<(const Operand& a, const Operand& b) { return lt(a, b); }
Tensor operator<=(const Operand& a, const Operand& b) { return le(a, b); }
Tensor operator>(const Operand& a, const Operand& b) { return gt(a, b); }
Tensor operator>=(const Operand& a, const Operand& b) { return ge(a, b); }
Tensor operator&(const Operand& a, const Operand& b) { return bitwise_and(a, b); }
Tensor operator|(const Operand& a, const Operand& b) { return bitwise_or(a, b); }
Tensor operator^(const Operand& a, const Operand& b) { return bitwise_xor(a, b); }
Tensor operator~(const Tensor& a) { return bitwise_not(a); }
Tensor operator-(const Operand& a) { return a.is_tensor() ? neg(a.tensor()) : mul(a, -1); }
const Tensor& operator+=(const Tensor& a, const Operand& b) { return add_(a, b); }
const Tensor& operator-=(const Tensor& a, const Operand& b) { return sub_(a, b); }
const Tensor& operator*=(const Tensor& a, const Operand& b) { return mul_(a, b); }
const Tensor& operator/=(const Tensor& a, const Operand& b) { return div_(a, b); }

}  // namespace tg
