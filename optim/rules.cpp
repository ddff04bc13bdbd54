#include "optim/rules.h"

#include <cmath>

#include "ops/ops.h"

namespace tg::optim {
namespace {

void check_not_negative(const Options& o, const char* name, const char* label) {
  double v = o.number(name);
  TG_CHECK(v >= 0, ValueError, "Invalid ", label, ": ", v);
}

void check_common(const Options& o) {
  check_not_negative(o, "lr", "learning rate");
  check_not_negative(o, "weight_decay", "weight_decay value");
}

// The gradient the rule works with: of -f when maximizing, plus the L2 penalty's unless weight decay is decoupled.
Tensor descent_gradient(const Options& o, const Slot& s, bool with_decay = true) {
  Tensor g = o.flag("maximize") ? neg(s.grad) : s.grad;
  double decay = o.number("weight_decay");
  return with_decay && decay != 0 ? add(g, s.param, decay) : g;
}

// The named state, zeros of the parameter's shape when it is new.
Tensor zeros_state(Slot& s, const char* name) {
  Tensor& t = (*s.state)[name];
  if (!t.defined()) t = zeros_like(s.param);
  return t;
}

// Steps are counted in a float32 scalar, as in PyTorch's checkpoints.
Tensor zero_count() {
  Tensor t = empty_tensor({}, DType::F32);
  *t.data<float>() = 0;
  return t;
}

double count_step(Slot& s) {
  Tensor& t = (*s.state)["step"];
  if (!t.defined()) t = zero_count();
  add_(t, 1.0);
  return t.item();
}

// ---- SGD

void check_sgd(const Options& o) {
  check_common(o);
  check_not_negative(o, "momentum", "momentum value");
  TG_CHECK(!o.flag("nesterov") || (o.number("momentum") > 0 && o.number("dampening") == 0), ValueError,
           "Nesterov momentum requires a momentum and zero dampening");
}

void update_sgd(const Options& o, std::vector<Slot>& slots) {
  double lr = o.number("lr"), momentum = o.number("momentum"), dampening = o.number("dampening");
  for (Slot& s : slots) {
    Tensor g = descent_gradient(o, s);
    if (momentum != 0) {
      Tensor& buffer = (*s.state)["momentum_buffer"];
      if (!buffer.defined())
        buffer = clone(g);
      else
        add_(mul_(buffer, momentum), g, 1 - dampening);
      g = o.flag("nesterov") ? add(g, buffer, momentum) : buffer;
    }
    add_(s.param, g, -lr);
  }
}

// ---- Adam and AdamW

void check_adam(const Options& o) {
  check_common(o);
  check_not_negative(o, "eps", "epsilon value");
  auto betas = o.pair("betas");
  for (int i = 0; i < 2; ++i)
    TG_CHECK(betas[size_t(i)] >= 0 && betas[size_t(i)] < 1, ValueError, "Invalid beta parameter at index ", i, ": ",
             betas[size_t(i)]);
}

void update_adam_group(const Options& o, std::vector<Slot>& slots, bool decoupled) {
  double lr = o.number("lr"), eps = o.number("eps"), decay = o.number("weight_decay");
  auto [beta1, beta2] = o.pair("betas");
  for (Slot& s : slots) {
    double step = count_step(s);
    Tensor g = descent_gradient(o, s, !decoupled);
    if (decoupled && decay != 0) mul_(s.param, 1 - lr * decay);
    Tensor mean = lerp_(zeros_state(s, "exp_avg"), g, 1 - beta1);
    Tensor square = addcmul_(mul_(zeros_state(s, "exp_avg_sq"), beta2), g, g, 1 - beta2);
    if (o.flag("amsgrad")) {
      Tensor largest = zeros_state(s, "max_exp_avg_sq");
      square = copy_(largest, maximum(largest, square));
    }
    Tensor scale = add_(div_(sqrt(square), std::sqrt(1 - std::pow(beta2, step))), eps);
    addcdiv_(s.param, mean, scale, -lr / (1 - std::pow(beta1, step)));
  }
}

void update_adam(const Options& o, std::vector<Slot>& slots) {
  const Setting* decoupled = o.find("decoupled_weight_decay");
  update_adam_group(o, slots, decoupled && o.flag("decoupled_weight_decay"));
}
void update_adamw(const Options& o, std::vector<Slot>& slots) { update_adam_group(o, slots, true); }

// ---- RMSprop

void check_rmsprop(const Options& o) {
  check_common(o);
  check_not_negative(o, "eps", "epsilon value");
  check_not_negative(o, "momentum", "momentum value");
  check_not_negative(o, "alpha", "alpha value");
}

void update_rmsprop(const Options& o, std::vector<Slot>& slots) {
  double lr = o.number("lr"), alpha = o.number("alpha"), eps = o.number("eps"), momentum = o.number("momentum");
  for (Slot& s : slots) {
    count_step(s);
    Tensor g = descent_gradient(o, s);
    Tensor square = addcmul_(mul_(zeros_state(s, "square_avg"), alpha), g, g, 1 - alpha);
    if (o.flag("centered")) {
      Tensor mean = lerp_(zeros_state(s, "grad_avg"), g, 1 - alpha);
      square = addcmul(square, mean, mean, -1);
    }
    Tensor scale = add_(sqrt(square), eps);
    if (momentum > 0)
      add_(s.param, addcdiv_(mul_(zeros_state(s, "momentum_buffer"), momentum), g, scale), -lr);
    else
      addcdiv_(s.param, g, scale, -lr);
  }
}

// ---- Adagrad and Adadelta

void check_adagrad(const Options& o) {
  check_common(o);
  check_not_negative(o, "lr_decay", "lr_decay value");
  check_not_negative(o, "initial_accumulator_value", "initial_accumulator_value value");
  check_not_negative(o, "eps", "epsilon value");
}

void init_adagrad(const Options& o, const Tensor& param, State& state) {
  state["step"] = zero_count();
  state["sum"] = add_(zeros_like(param), o.number("initial_accumulator_value"));
}

void update_adagrad(const Options& o, std::vector<Slot>& slots) {
  for (Slot& s : slots) {
    if (!s.state->find("sum")) init_adagrad(o, s.param, *s.state);
    double lr = o.number("lr") / (1 + (count_step(s) - 1) * o.number("lr_decay"));
    Tensor g = descent_gradient(o, s);
    Tensor sum = addcmul_((*s.state)["sum"], g, g, 1);
    addcdiv_(s.param, g, add_(sqrt(sum), o.number("eps")), -lr);
  }
}

void check_adadelta(const Options& o) {
  check_common(o);
  check_not_negative(o, "eps", "epsilon value");
  double rho = o.number("rho");
  TG_CHECK(rho >= 0 && rho <= 1, ValueError, "Invalid rho value: ", rho);
}

void update_adadelta(const Options& o, std::vector<Slot>& slots) {
  double rho = o.number("rho"), eps = o.number("eps");
  for (Slot& s : slots) {
    count_step(s);
    Tensor g = descent_gradient(o, s);
    Tensor square = addcmul_(mul_(zeros_state(s, "square_avg"), rho), g, g, 1 - rho);
    Tensor moved = zeros_state(s, "acc_delta");
    Tensor delta = mul_(div_(sqrt_(add(moved, eps)), sqrt_(add(square, eps))), g);
    addcmul_(mul_(moved, rho), delta, delta, 1 - rho);
    add_(s.param, delta, -o.number("lr"));
  }
}

constexpr Rule kRules[] = {
    {"SGD", check_sgd, nullptr, update_sgd},
    {"Adam", check_adam, nullptr, update_adam},
    {"AdamW", check_adam, nullptr, update_adamw},
    {"RMSprop", check_rmsprop, nullptr, update_rmsprop},
    {"Adagrad", check_adagrad, init_adagrad, update_adagrad},
    {"Adadelta", check_adadelta, nullptr, update_adadelta},
};

// `get` of the setting's alternatives, or an error that tells what was wanted.
template <class T>
const T& setting(const Options& o, std::string_view name, const char* kind) {
  const Setting* s = o.find(name);
  TG_CHECK(s, ValueError, "optimizer: the parameter group has no setting '", name, "'");
  const T* v = std::get_if<T>(s);
  TG_CHECK(v, ValueError, "optimizer: the setting '", name, "' must be ", kind);
  return *v;
}

}  // namespace

double Options::number(std::string_view name) const {
  const Setting* s = find(name);
  if (s && std::holds_alternative<bool>(*s)) return std::get<bool>(*s);
  return setting<double>(*this, name, "a number");
}
bool Options::flag(std::string_view name) const {
  const Setting* s = find(name);
  if (s && std::holds_alternative<double>(*s)) return std::get<double>(*s) != 0;
  return setting<bool>(*this, name, "a bool");
}
std::array<double, 2> Options::pair(std::string_view name) const {
  return setting<std::array<double, 2>>(*this, name, "a pair of numbers");
}

const Rule& find_rule(std::string_view name) {
  for (const Rule& r : kRules)
    if (r.name == name) return r;
  fail<ValueError>("optimizer: there is no rule '", name, "'");
}

}  // namespace tg::optim
