// Gradients of pointwise rows in one pass over memory. The expressions of core/pointwise.def are evaluated over terms,
// which write down the steps of a Program instead of computing; each step is a row, so its numbers are those of the ops
// one after another (half types: of float32 in between).
#pragma once
#include <initializer_list>
#include <type_traits>

#include "backends/program.h"
#include "core/value.h"

namespace tg::formula {

class Formula;

// A tensor, a number, or the result of an earlier step.
class Term {
 public:
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  Term(T number) : number_(number) {}
  // The operand must outlive the formula; one that is not read may be undefined.
  Term(Formula& f, const Operand& o) : formula_(&f), tensor_(o.is_tensor() ? &o.tensor() : nullptr) {
    if (!tensor_) number_ = o.scalar();
  }
  // What no steps are written for: the formula is then computed op by op.
  static Term unwritten() { return Term(0); }
  double number_or(double otherwise) const { return tensor_ || step_ >= 0 ? otherwise : number_.d(); }

 private:
  friend class Formula;
  friend Term step(Opc, std::initializer_list<Term>);
  Term(Formula& f, int of) : formula_(&f), step_(of) {}
  Formula* formula_ = nullptr;  // none: a number that the expression names
  const Tensor* tensor_ = nullptr;
  Scalar number_ = 0;
  int step_ = -1;
};

class Formula {
 public:
  // Of an incoming gradient of that shape and floating type.
  explicit Formula(const Tensor& g) : g_(g) {}
  Formula(const Formula&) = delete;
  Formula& operator=(const Formula&) = delete;

  Term add(Opc op, std::initializer_list<Term> args);
  // Executes the steps up to `result`, the last one, in g's memory if g may be written and no operand has another order
  // in memory. Undefined if they are no program: tensors of several types, numbers alone, or no step at all.
  Tensor run(const Term& result, bool may_write_g);

 private:
  // Where an argument comes from, before it is known how many registers come first.
  struct Source {
    enum Kind : uint8_t { Input, Number, Step } kind = Input;
    uint8_t index = 0;
  };
  struct Step {
    Opc op;
    int n;
    Source from[3];
  };
  Source source(const Term& t);
  bool run_single(const Tensor& out, bool in_place) const;
  uint8_t reg(const Program& p, const Source& s) const;

  const Tensor& g_;
  SmallVec<const Tensor*, 4> inputs_;
  SmallVec<Scalar, 2> numbers_;
  SmallVec<Step, 4> steps_;
  bool written_ = true;  // as steps: no tensors of several types, no steps of numbers alone
};

inline Term step(Opc op, std::initializer_list<Term> args) {
  for (const Term& t : args)
    if (t.formula_) return t.formula_->add(op, args);
  fail<ValueError>("formula: a step of numbers alone");
}

#define TG_P1(name, ...) \
  inline Term name(const Term& a) { return step(Opc::name, {a}); }
#define TG_P2(name, ...) \
  inline Term name(const Term& a, const Term& b) { return step(Opc::name, {a, b}); }
#define TG_P3(name, ...) \
  inline Term name(const Term& a, const Term& b, const Term& c) { return step(Opc::name, {a, b, c}); }
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
inline Term operator+(const Term& a, const Term& b) { return add(a, b); }
inline Term operator-(const Term& a, const Term& b) { return sub(a, b); }
inline Term operator*(const Term& a, const Term& b) { return mul(a, b); }
inline Term operator/(const Term& a, const Term& b) { return div(a, b); }
inline Term operator-(const Term& a) { return neg(a); }

}  // namespace tg::formula
