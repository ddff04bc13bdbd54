// How the optimizers change parameters: one rule each, the same for the C++ classes and the Python ones.
#pragma once
#include <string_view>
#include <vector>

#include "optim/options.h"

namespace tg::optim {

// A parameter that has a gradient, and what the rule remembers about it from step to step.
struct Slot {
  Tensor param, grad;
  State* state = nullptr;
};

struct Rule {
  std::string_view name;
  // ValueError, in PyTorch's words, for settings out of range.
  void (*check)(const Options& o);
  // State a parameter has before its first step; null where the first update makes it.
  void (*init)(const Options& o, const Tensor& param, State& state);
  // One step of a whole group, in place and below the tape. The state has the names PyTorch gives it.
  void (*update)(const Options& o, std::vector<Slot>& slots);
  // Whether a step with given settings and state is the same whatever its number.
  bool uncounted = false;
  // Whether the option "capturable" lets the parameter's device count the steps.
  bool capturable = false;
};

// The rule of an optimizer whose step is a function of each element alone: "SGD", "Adam", "AdamW", "Adamax", "NAdam",
// "RAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop"; ValueError for another name.
TG_API const Rule& find_rule(std::string_view name);

}  // namespace tg::optim
