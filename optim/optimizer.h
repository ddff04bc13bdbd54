// Optimizers: parameter groups, state, and the classes SGD, Adam, AdamW, Adamax, NAdam,
// RAdam, RMSprop, Adagrad, Adadelta, ASGD, Rprop.
//
//   optim::Adam opt(model->parameters(), {.lr = 1e-3});
//   opt.zero_grad(); loss.backward(); opt.step();
//
// For parameters stored in a half type: opt.param_groups[0]["master_weights"] = true (see optim/half.h).
#pragma once
#include <functional>
#include <map>
#include <unordered_map>

#include "optim/rules.h"

namespace tg::optim {

// Parameters that share settings. A setting that is left out is the optimizer's: {params, {{"lr", 1e-2}}}.
struct ParamGroup {
  std::vector<Tensor> params;
  Options options = {};
  Setting& operator[](std::string_view name) { return options[name]; }
};

// PyTorch's structure: parameters are numbered through all groups, in order.
struct StateDict {
  struct Group {
    std::vector<int64_t> params;
    Options options;
  };
  std::map<int64_t, State> state;
  std::vector<Group> param_groups;
};

class TG_API Optimizer {
 public:
  // `rule` null: the subclass overrides step(). ValueError for no parameters, a non-leaf, or one given twice.
  Optimizer(std::vector<ParamGroup> groups, Options defaults, const Rule* rule = nullptr);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Changes every parameter that has a gradient.
  virtual void step();
  // Calls the closure, which computes the loss and its gradients, then steps; returns the loss.
  Tensor step(const std::function<Tensor()>& closure);
  void zero_grad(bool set_to_none = true);
  void add_param_group(ParamGroup group);

  // Shares the state's tensors; load copies them, cast to each parameter's dtype and device.
  StateDict state_dict() const;
  void load_state_dict(const StateDict& d);
  // The state of a parameter, made empty if there is none.
  State& state(const Tensor& param) { return state_[param.impl()]; }

  Options defaults;
  std::vector<ParamGroup> param_groups;

 private:
  const Rule* rule_;
  std::unordered_map<const TensorImpl*, State> state_;  // the groups keep the parameters alive
};

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  TG_API operator Options() const;
};
struct AdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 0;
  bool amsgrad = false, maximize = false, decoupled_weight_decay = false;
  TG_API operator Options() const;
};
struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 1e-2;
  bool amsgrad = false, maximize = false;
  TG_API operator Options() const;
};
struct RMSpropOptions {
  double lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0;
  bool centered = false, maximize = false;
  TG_API operator Options() const;
};
struct AdagradOptions {
  double lr = 1e-2, lr_decay = 0, weight_decay = 0, initial_accumulator_value = 0, eps = 1e-10;
  bool maximize = false;
  TG_API operator Options() const;
};
struct AdadeltaOptions {
  double lr = 1.0, rho = 0.9, eps = 1e-6, weight_decay = 0;
  bool maximize = false;
  TG_API operator Options() const;
};
struct AdamaxOptions {
  double lr = 2e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 0;
  bool maximize = false;
  TG_API operator Options() const;
};
struct NAdamOptions {
  double lr = 2e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 0, momentum_decay = 4e-3;
  bool decoupled_weight_decay = false, maximize = false;
  TG_API operator Options() const;
};
struct RAdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 0;
  bool decoupled_weight_decay = false, maximize = false;
  TG_API operator Options() const;
};
struct ASGDOptions {
  double lr = 1e-2, lambd = 1e-4, alpha = 0.75, t0 = 1e6, weight_decay = 0;
  bool maximize = false;
  TG_API operator Options() const;
};
struct RpropOptions {
  double lr = 1e-2;
  std::array<double, 2> etas = {0.5, 1.2}, step_sizes = {1e-6, 50};
  bool maximize = false;
  TG_API operator Options() const;
};

#define TG_OPTIMIZER(NAME)                                                     \
  class NAME : public Optimizer {                                              \
   public:                                                                     \
    explicit NAME(std::vector<Tensor> params, const NAME##Options& o = {})     \
        : NAME(std::vector<ParamGroup>{{std::move(params)}}, o) {}             \
    explicit NAME(std::vector<ParamGroup> groups, const NAME##Options& o = {}) \
        : Optimizer(std::move(groups), o, &find_rule(#NAME)) {}                \
  }
TG_OPTIMIZER(SGD);
TG_OPTIMIZER(Adam);
TG_OPTIMIZER(AdamW);
TG_OPTIMIZER(Adamax);
TG_OPTIMIZER(NAdam);
TG_OPTIMIZER(RAdam);
TG_OPTIMIZER(RMSprop);
TG_OPTIMIZER(Adagrad);
TG_OPTIMIZER(Adadelta);
TG_OPTIMIZER(ASGD);
TG_OPTIMIZER(Rprop);
#undef TG_OPTIMIZER

}  // namespace tg::optim
