#include "optim/optimizer.h"

#include "core/modes.h"
#include "ops/ops.h"
#include "optim/half.h"

namespace tg::optim {

Optimizer::Optimizer(std::vector<ParamGroup> groups, Options d, const Rule* rule)
    : defaults(std::move(d)), rule_(rule) {
  if (rule_) rule_->check(defaults);
  for (ParamGroup& g : groups) add_param_group(std::move(g));
  bool any = false;
  for (const ParamGroup& g : param_groups) any |= !g.params.empty();
  TG_CHECK(any, ValueError, "optimizer got an empty parameter list");
}

void Optimizer::add_param_group(ParamGroup group) {
  for (const auto& [name, value] : defaults)
    if (!group.options.find(name)) group.options[name] = value;
  if (rule_) rule_->check(group.options);
  std::vector<const TensorImpl*> seen;
  for (const ParamGroup& g : param_groups)
    for (const Tensor& p : g.params) seen.push_back(p.impl());
  for (const Tensor& p : group.params) {
    TG_CHECK(p.defined(), ValueError, "optimizer: a parameter is undefined");
    TG_CHECK(p.is_leaf(), ValueError, "can't optimize a non-leaf Tensor; param=", describe(p));
    bool twice = std::find(seen.begin(), seen.end(), p.impl()) != seen.end();
    TG_CHECK(!twice, ValueError, "optimizer: a parameter appears more than once; param=", describe(p));
    seen.push_back(p.impl());
    if (rule_) {
      NoGrad guard;
      init_state(*rule_, group.options, p, state(p));
    }
  }
  param_groups.push_back(std::move(group));
}

void Optimizer::step() {
  TG_CHECK(rule_, NotImplementedError, "Optimizer: the subclass does not override step()");
  NoGrad guard;
  for (ParamGroup& g : param_groups) {
    std::vector<Slot> slots;
    for (const Tensor& p : g.params)
      if (Tensor grad = p.grad(); grad.defined()) slots.push_back({p, grad, &state(p)});
    update_group(*rule_, g.options, slots);
  }
}

Tensor Optimizer::step(const std::function<Tensor()>& closure) {
  GradMode guard(true);
  Tensor loss = closure();
  step();
  return loss;
}

void Optimizer::zero_grad(bool set_to_none) {
  NoGrad guard;
  for (const ParamGroup& g : param_groups)
    for (const Tensor& p : g.params) {
      Tensor grad = p.grad();
      if (set_to_none)
        p.set_grad({});
      else if (grad.defined())
        p.set_grad(zeros_like(grad));
    }
}

StateDict Optimizer::state_dict() const {
  StateDict d;
  int64_t n = 0;
  for (const ParamGroup& g : param_groups) {
    d.param_groups.push_back({{}, g.options});
    for (const Tensor& p : g.params) {
      d.param_groups.back().params.push_back(n);
      auto it = state_.find(p.impl());
      if (it != state_.end() && !it->second.empty()) d.state[n] = it->second;
      ++n;
    }
  }
  return d;
}

void Optimizer::load_state_dict(const StateDict& d) {
  TG_CHECK(d.param_groups.size() == param_groups.size(), ValueError,
           "loaded state dict has a different number of parameter groups, ", d.param_groups.size(), " vs ",
           param_groups.size());
  for (size_t i = 0; i < param_groups.size(); ++i)
    TG_CHECK(d.param_groups[i].params.size() == param_groups[i].params.size(), ValueError,
             "loaded state dict contains a parameter group that doesn't match the size of optimizer's group, ",
             d.param_groups[i].params.size(), " vs ", param_groups[i].params.size());
  NoGrad guard;
  std::unordered_map<const TensorImpl*, State> loaded;
  for (size_t i = 0; i < param_groups.size(); ++i) {
    const ParamGroup& g = param_groups[i];
    if (rule_) rule_->check(d.param_groups[i].options);
    for (size_t k = 0; k < g.params.size(); ++k) {
      auto it = d.state.find(d.param_groups[i].params[k]);
      if (it == d.state.end()) continue;
      const Tensor& p = g.params[k];
      const DType kept = steps_in_float32(d.param_groups[i].options, p) ? DType::F32 : p.dtype();
      for (const auto& [name, value] : it->second) {
        bool follows = value.defined() && name != "step" && is_float(p.dtype());
        Tensor copy = value.defined() ? clone(value) : value;
        loaded[p.impl()][name] = follows ? cast(copy, kept) : copy;
      }
    }
  }
  state_ = std::move(loaded);
  for (size_t i = 0; i < param_groups.size(); ++i) param_groups[i].options = d.param_groups[i].options;
}

#define TG_SETTING(name) {#name, name}
SGDOptions::operator Options() const {
  return {TG_SETTING(lr),           TG_SETTING(momentum), TG_SETTING(dampening),
          TG_SETTING(weight_decay), TG_SETTING(nesterov), TG_SETTING(maximize)};
}
AdamOptions::operator Options() const {
  return {TG_SETTING(lr),
          TG_SETTING(betas),
          TG_SETTING(eps),
          TG_SETTING(weight_decay),
          TG_SETTING(amsgrad),
          TG_SETTING(maximize),
          TG_SETTING(decoupled_weight_decay)};
}
AdamWOptions::operator Options() const {
  return {TG_SETTING(lr),           TG_SETTING(betas),   TG_SETTING(eps),
          TG_SETTING(weight_decay), TG_SETTING(amsgrad), TG_SETTING(maximize)};
}
AdamaxOptions::operator Options() const {
  return {TG_SETTING(lr), TG_SETTING(betas), TG_SETTING(eps), TG_SETTING(weight_decay), TG_SETTING(maximize)};
}
NAdamOptions::operator Options() const {
  return {TG_SETTING(lr),           TG_SETTING(betas),          TG_SETTING(eps),
          TG_SETTING(weight_decay), TG_SETTING(momentum_decay), TG_SETTING(decoupled_weight_decay),
          TG_SETTING(maximize)};
}
RAdamOptions::operator Options() const {
  return {TG_SETTING(lr),
          TG_SETTING(betas),
          TG_SETTING(eps),
          TG_SETTING(weight_decay),
          TG_SETTING(decoupled_weight_decay),
          TG_SETTING(maximize)};
}
RMSpropOptions::operator Options() const {
  return {TG_SETTING(lr),       TG_SETTING(alpha),    TG_SETTING(eps),     TG_SETTING(weight_decay),
          TG_SETTING(momentum), TG_SETTING(centered), TG_SETTING(maximize)};
}
AdagradOptions::operator Options() const {
  return {TG_SETTING(lr),
          TG_SETTING(lr_decay),
          TG_SETTING(eps),
          TG_SETTING(weight_decay),
          TG_SETTING(initial_accumulator_value),
          TG_SETTING(maximize)};
}
AdadeltaOptions::operator Options() const {
  return {TG_SETTING(lr), TG_SETTING(rho), TG_SETTING(eps), TG_SETTING(weight_decay), TG_SETTING(maximize)};
}
ASGDOptions::operator Options() const {
  return {TG_SETTING(lr), TG_SETTING(lambd),        TG_SETTING(alpha),
          TG_SETTING(t0), TG_SETTING(weight_decay), TG_SETTING(maximize)};
}
RpropOptions::operator Options() const {
  return {TG_SETTING(lr), TG_SETTING(etas), TG_SETTING(step_sizes), TG_SETTING(maximize)};
}
#undef TG_SETTING

}  // namespace tg::optim
