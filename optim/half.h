// Steps of parameters that are stored in float16 or bfloat16. A group may ask for one of two ways not to lose updates
// smaller than the spacing of the half type; moments are float32 in both:
//   "master_weights"       a float32 copy of the parameter is kept in its state as "master_weight" and stepped instead
//   "stochastic_rounding"  the step is computed in float32 and rounded up or down at random, right on average
// "grad_scale" divides the gradients, in float32, before such a step.
#pragma once
#include "optim/rules.h"

namespace tg::optim {

// Whether a group with these options computes this parameter's steps in float32.
TG_API bool steps_in_float32(const Options& o, const Tensor& param);
// rule.update and rule.init with the above.
TG_API void update_group(const Rule& rule, const Options& o, std::vector<Slot>& slots);
TG_API void init_state(const Rule& rule, const Options& o, const Tensor& param, State& state);
// x (float32) in a half type, rounded to a neighbour with the probability of its nearness.
TG_API Tensor round_stochastically(const Tensor& x, DType half);

}  // namespace tg::optim
