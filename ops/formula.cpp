#include "ops/formula.h"

#include "backends/backend.h"
#include "ops/pointwise.h"

namespace tg::formula {

Formula::Source Formula::source(const Term& t) {
  if (t.step_ >= 0) return {Source::Step, uint8_t(t.step_)};
  if (!t.tensor_) {
    numbers_.push_back(t.number_);
    return {Source::Number, uint8_t(numbers_.size() - 1)};
  }
  for (int i = 0; i < inputs_.size(); ++i)
    if (inputs_[i] == t.tensor_) return {Source::Input, uint8_t(i)};
  one_type_ = one_type_ && (t.tensor_->dtype() == g_.dtype() || t.tensor_->dtype() == DType::Bool);
  inputs_.push_back(t.tensor_);
  return {Source::Input, uint8_t(inputs_.size() - 1)};
}

Term Formula::add(Opc op, std::initializer_list<Term> args) {
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
  if (result.step_ < 0 || !one_type_) return {};
  const DType dtype = g_.dtype();
  const Dims& shape = g_.sizes();
  SmallVec<Value, 4> operands;
  for (const Tensor* t : inputs_) operands.push_back(Value(*t));
  Tensor out = may_write_g ? g_ : allocate_pointwise({operands.data(), operands.size()}, shape, dtype, g_.device());
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
  backend(g_.device()).map(p, ins, outs);
  return out;
}

}  // namespace tg::formula
