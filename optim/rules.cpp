#include "optim/rules.h"

#include <cmath>

#include "ops/ops.h"
#include "optim/fused.h"

namespace tg::optim {
namespace {

// ---- settings

void check_not_negative(const Options& o, const char* name, const char* label) {
  double v = o.number(name);
  TG_CHECK(v >= 0, ValueError, "Invalid ", label, ": ", v);
}

void check_common(const Options& o) {
  check_not_negative(o, "lr", "learning rate");
  check_not_negative(o, "weight_decay", "weight_decay value");
}

void check_adam(const Options& o) {
  check_common(o);
  check_not_negative(o, "eps", "epsilon value");
  auto betas = o.pair("betas");
  for (size_t i = 0; i < 2; ++i)
    TG_CHECK(betas[i] >= 0 && betas[i] < 1, ValueError, "Invalid beta parameter at index ", i, ": ", betas[i]);
}

// A setting that checkpoints of older versions and C++ options may lack.
bool flag_or_false(const Options& o, const char* name) { return o.find(name) && o.flag(name); }

// The first coefficients of every formula; weight decay acts on the gradient or, decoupled, on the parameter.
struct Common {
  double sign, decay, keep, lr;
  Common(const Options& o, bool decoupled = false)
      : sign(o.flag("maximize") ? -1 : 1), decay(0), keep(1), lr(o.number("lr")) {
    double weight_decay = o.find("weight_decay") ? o.number("weight_decay") : 0;
    (decoupled ? keep : decay) = decoupled ? 1 - lr * weight_decay : weight_decay;
  }
};

// ---- state

// The named state, filled with `value` in the parameter's shape when it is new.
Tensor state_of(Slot& s, const char* name, double value = 0) {
  Tensor& t = (*s.state)[name];
  if (!t.defined()) t = full_like(s.param, value);
  return t;
}

// A scalar that is kept in the state as a tensor of the default dtype, as in PyTorch's checkpoints.
Tensor scalar_of(Slot& s, const char* name, double value = 0) {
  Tensor& t = (*s.state)[name];
  if (!t.defined()) t = full({}, value, default_dtype());
  return t;
}

// Rounded to the default dtype also where a checkpoint came with another.
void set_scalar(const Tensor& t, double value) {
  if (default_dtype() == DType::F32) value = float(value);
  TG_CHECK(t.numel() == 1, ValueError, "optimizer: a number in the state has ", t.numel(), " elements");
  if (t.device().is_cpu() && t.dtype() == DType::F32) {
    *t.data<float>() = float(value);
    t.bump_version("optimizer step");
  } else {
    fill_(t, value);
  }
}

double count_step(Slot& s) {
  Tensor t = scalar_of(s, "step");
  double step = t.item() + 1;
  set_scalar(t, step);
  return step;
}

// ---- SGD

void check_sgd(const Options& o) {
  check_common(o);
  check_not_negative(o, "momentum", "momentum value");
  TG_CHECK(!o.flag("nesterov") || (o.number("momentum") > 0 && o.number("dampening") == 0), ValueError,
           "Nesterov momentum requires a momentum and zero dampening");
}

void update_sgd(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  double momentum = o.number("momentum"), dampening = o.number("dampening");
  bool nesterov = o.flag("nesterov");
  Batch batch("SGD");
  for (Slot& s : slots) {
    if (momentum == 0) {
      batch.add(Formula::Sgd, {s.param, s.grad}, {c.sign, c.decay, c.keep, c.lr});
      continue;
    }
    const Tensor* old = s.state->find("momentum_buffer");
    bool first = !old || !old->defined();  // the buffer starts as the gradient, undampened
    batch.add(Formula::SgdMomentum, {s.param, s.grad, state_of(s, "momentum_buffer")},
              {c.sign, c.decay, c.keep, c.lr, first ? 0 : momentum, first ? 1 : 1 - dampening, nesterov ? 1.0 : 0.0,
               nesterov ? momentum : 1.0});
  }
  batch.run();
}

// ---- Adam and its kin

void update_adam_group(const Options& o, std::vector<Slot>& slots, bool decoupled) {
  const Common c(o, decoupled);
  auto [beta1, beta2] = o.pair("betas");
  bool amsgrad = o.flag("amsgrad");
  const bool capturable = flag_or_false(o, "capturable");
  Batch batch("Adam");
  for (Slot& s : slots) {
    if (capturable && !s.param.device().is_cpu()) {
      auto coefs = {c.sign, c.decay, c.keep, c.lr, 1 - beta1, beta2, 1 - beta2, 1.0, o.number("eps")};
      const Tensor* old = s.state->find("step");
      const Tensor step =
          old && old->defined() ? old->to(s.param.device(), DType::F32) : zeros({}, DType::F32, s.param.device());
      (*s.state)["step"] = step;
      Tensor mean = state_of(s, "exp_avg"), square = state_of(s, "exp_avg_sq");
      const bool taken =
          amsgrad
              ? batch.add_counted(Formula::AdamLargest, {s.param, s.grad, mean, square, state_of(s, "max_exp_avg_sq")},
                                  coefs, step, {beta1, beta2})
              : batch.add_counted(Formula::Adam, {s.param, s.grad, mean, square}, coefs, step, {beta1, beta2});
      if (taken) continue;
    }
    double step = count_step(s), rate = c.lr / (1 - std::pow(beta1, step));
    auto coefs = {c.sign,         c.decay, c.keep,    rate,
                  1 - beta1,      beta2,   1 - beta2, 1 / std::sqrt(1 - std::pow(beta2, step)),
                  o.number("eps")};
    Tensor mean = state_of(s, "exp_avg"), square = state_of(s, "exp_avg_sq");
    if (amsgrad)
      batch.add(Formula::AdamLargest, {s.param, s.grad, mean, square, state_of(s, "max_exp_avg_sq")}, coefs);
    else
      batch.add(Formula::Adam, {s.param, s.grad, mean, square}, coefs);
  }
  batch.run();
}
void update_adam(const Options& o, std::vector<Slot>& slots) {
  update_adam_group(o, slots, flag_or_false(o, "decoupled_weight_decay"));
}
void update_adamw(const Options& o, std::vector<Slot>& slots) { update_adam_group(o, slots, true); }

void update_adamax(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  auto [beta1, beta2] = o.pair("betas");
  Batch batch("Adamax");
  for (Slot& s : slots) {
    double rate = c.lr / (1 - std::pow(beta1, count_step(s)));
    batch.add(Formula::Adamax, {s.param, s.grad, state_of(s, "exp_avg"), state_of(s, "exp_inf")},
              {c.sign, c.decay, c.keep, rate, 1 - beta1, beta2, o.number("eps")});
  }
  batch.run();
}

void check_nadam(const Options& o) {
  check_adam(o);
  check_not_negative(o, "momentum_decay", "momentum_decay value");
}

void update_nadam(const Options& o, std::vector<Slot>& slots) {
  const Common c(o, flag_or_false(o, "decoupled_weight_decay"));
  auto [beta1, beta2] = o.pair("betas");
  double decay = o.number("momentum_decay");
  auto momentum = [&, b = beta1](double step) { return b * (1 - 0.5 * std::pow(0.96, step * decay)); };
  Batch batch("NAdam");
  for (Slot& s : slots) {
    double step = count_step(s), now = momentum(step), next = momentum(step + 1);
    Tensor product = scalar_of(s, "mu_product", 1);
    mul_(product, now);
    double so_far = product.item();  // rounded to its dtype, as PyTorch has it
    batch.add(Formula::NAdam, {s.param, s.grad, state_of(s, "exp_avg"), state_of(s, "exp_avg_sq")},
              {c.sign, c.decay, c.keep, c.lr * (1 - now) / (1 - so_far), 1 - beta1, beta2, 1 - beta2,
               1 / std::sqrt(1 - std::pow(beta2, step)), o.number("eps"), c.lr * next / (1 - so_far * next)});
  }
  batch.run();
}

void update_radam(const Options& o, std::vector<Slot>& slots) {
  const Common c(o, flag_or_false(o, "decoupled_weight_decay"));
  auto [beta1, beta2] = o.pair("betas");
  double longest = 2 / (1 - beta2) - 1;  // length of the moving average in the limit
  Batch batch("RAdam");
  for (Slot& s : slots) {
    double step = count_step(s), power = std::pow(beta2, step), correction = 1 - power;
    double rate = c.lr / (1 - std::pow(beta1, step)), length = longest - 2 * step * power / correction;
    Tensor mean = state_of(s, "exp_avg"), square = state_of(s, "exp_avg_sq");
    if (length > 5) {  // the variance of the second mean is finite: rectify it
      rate *= std::sqrt(correction * (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length));
      batch.add(Formula::Adam, {s.param, s.grad, mean, square},
                {c.sign, c.decay, c.keep, rate, 1 - beta1, beta2, 1 - beta2, 1, o.number("eps")});
    } else {
      batch.add(Formula::AdamMean, {s.param, s.grad, mean, square},
                {c.sign, c.decay, c.keep, rate, 1 - beta1, beta2, 1 - beta2});
    }
  }
  batch.run();
}

// ---- RMSprop

void check_rmsprop(const Options& o) {
  check_common(o);
  check_not_negative(o, "eps", "epsilon value");
  check_not_negative(o, "momentum", "momentum value");
  check_not_negative(o, "alpha", "alpha value");
}

void update_rmsprop(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  double alpha = o.number("alpha"), eps = o.number("eps"), momentum = o.number("momentum");
  Batch batch("RMSprop");
  for (Slot& s : slots) {
    count_step(s);
    auto coefs = {c.sign, c.decay, c.keep, c.lr, alpha, 1 - alpha, eps, momentum};
    Tensor square = state_of(s, "square_avg"), mean, buffer;
    if (o.flag("centered")) mean = state_of(s, "grad_avg");
    if (momentum > 0) buffer = state_of(s, "momentum_buffer");
    if (mean.defined() && buffer.defined())
      batch.add(Formula::RMSpropCenteredMomentum, {s.param, s.grad, square, mean, buffer}, coefs);
    else if (mean.defined())
      batch.add(Formula::RMSpropCentered, {s.param, s.grad, square, mean}, coefs);
    else if (buffer.defined())
      batch.add(Formula::RMSpropMomentum, {s.param, s.grad, square, buffer}, coefs);
    else
      batch.add(Formula::RMSprop, {s.param, s.grad, square}, coefs);
  }
  batch.run();
}

// ---- Adagrad and Adadelta

void check_adagrad(const Options& o) {
  check_common(o);
  check_not_negative(o, "lr_decay", "lr_decay value");
  check_not_negative(o, "initial_accumulator_value", "initial_accumulator_value value");
  check_not_negative(o, "eps", "epsilon value");
}

void init_adagrad(const Options& o, const Tensor& param, State& state) {
  Slot s{param, {}, &state};
  scalar_of(s, "step");
  state_of(s, "sum", o.number("initial_accumulator_value"));
}

void update_adagrad(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  Batch batch("Adagrad");
  for (Slot& s : slots) {
    double rate = c.lr / (1 + (count_step(s) - 1) * o.number("lr_decay"));
    batch.add(Formula::Adagrad, {s.param, s.grad, state_of(s, "sum", o.number("initial_accumulator_value"))},
              {c.sign, c.decay, c.keep, rate, o.number("eps")});
  }
  batch.run();
}

void check_adadelta(const Options& o) {
  check_common(o);
  check_not_negative(o, "eps", "epsilon value");
  double rho = o.number("rho");
  TG_CHECK(rho >= 0 && rho <= 1, ValueError, "Invalid rho value: ", rho);
}

void update_adadelta(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  double rho = o.number("rho");
  Batch batch("Adadelta");
  for (Slot& s : slots) {
    count_step(s);
    batch.add(Formula::Adadelta, {s.param, s.grad, state_of(s, "square_avg"), state_of(s, "acc_delta")},
              {c.sign, c.decay, c.keep, c.lr, rho, 1 - rho, o.number("eps")});
  }
  batch.run();
}

// ---- ASGD and Rprop

void update_asgd(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  double lambd = o.number("lambd");
  Batch batch("ASGD");
  for (Slot& s : slots) {
    double step = count_step(s);
    Tensor eta = scalar_of(s, "eta", c.lr), mu = scalar_of(s, "mu", 1);
    double rate = eta.item();
    batch.add(Formula::ASGD, {s.param, s.grad, state_of(s, "ax")},
              {c.sign, c.decay, 1 - lambd * rate, rate, mu.item()});
    set_scalar(eta, c.lr / std::pow(1 + lambd * c.lr * step, o.number("alpha")));
    set_scalar(mu, 1 / std::max(1.0, step - o.number("t0")));
  }
  batch.run();
}

void check_rprop(const Options& o) {
  check_not_negative(o, "lr", "learning rate");
  auto [shrink, grow] = o.pair("etas");
  TG_CHECK(0 < shrink && shrink < 1 && 1 < grow, ValueError, "Invalid eta values: ", shrink, ", ", grow);
  o.pair("step_sizes");
}

void update_rprop(const Options& o, std::vector<Slot>& slots) {
  const Common c(o);
  auto [shrink, grow] = o.pair("etas");
  auto [smallest, largest] = o.pair("step_sizes");
  Batch batch("Rprop");
  for (Slot& s : slots) {
    count_step(s);
    batch.add(Formula::Rprop, {s.param, s.grad, state_of(s, "prev"), state_of(s, "step_size", c.lr)},
              {c.sign, c.decay, c.keep, c.lr, 0, 1, shrink, grow, smallest, largest});
  }
  batch.run();
}

constexpr Rule kRules[] = {
    {"SGD", check_sgd, nullptr, update_sgd, true},
    {"Adam", check_adam, nullptr, update_adam, false, true},
    {"AdamW", check_adam, nullptr, update_adamw, false, true},
    {"Adamax", check_adam, nullptr, update_adamax},
    {"NAdam", check_nadam, nullptr, update_nadam},
    {"RAdam", check_adam, nullptr, update_radam},
    {"RMSprop", check_rmsprop, nullptr, update_rmsprop},
    {"Adagrad", check_adagrad, init_adagrad, update_adagrad},
    {"Adadelta", check_adadelta, nullptr, update_adadelta},
    {"ASGD", check_common, nullptr, update_asgd},
    {"Rprop", check_rprop, nullptr, update_rprop},
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
