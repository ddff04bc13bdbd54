#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/error.h"

namespace tg::optim::schedule {
namespace {

constexpr double pi = std::numbers::pi;

// From a (x = 0) to b (x = 1) along half a cosine.
double half_cosine(double a, double b, double x) { return b + (a - b) * (1 + std::cos(pi * x)) / 2; }

// Epoch counts that are divided by.
void check_length(const char* scheduler, const char* name, int64_t n) {
  TG_CHECK(n > 0, ValueError, scheduler, ": ", name, " must be positive, got ", n);
}

}  // namespace

double step_next(double lr, int64_t e, int64_t step_size, double gamma) {
  check_length("StepLR", "step_size", step_size);
  return e != 0 && e % step_size == 0 ? lr * gamma : lr;
}
double step_at(double base, int64_t e, int64_t step_size, double gamma) {
  check_length("StepLR", "step_size", step_size);
  return base * std::pow(gamma, double(e / step_size));
}

double multi_step_next(double lr, int64_t e, const std::vector<int64_t>& milestones, double gamma) {
  return lr * std::pow(gamma, double(std::count(milestones.begin(), milestones.end(), e)));
}
double multi_step_at(double base, int64_t e, const std::vector<int64_t>& milestones, double gamma) {
  auto passed = std::count_if(milestones.begin(), milestones.end(), [&](int64_t m) { return m <= e; });
  return base * std::pow(gamma, double(passed));
}

double constant_next(double lr, int64_t e, double factor, int64_t total) {
  if (e == 0) return lr * factor;
  return e == total ? lr / factor : lr;
}
double constant_at(double base, int64_t e, double factor, int64_t total) { return e >= total ? base : base * factor; }

double linear_next(double lr, int64_t e, double start, double end, int64_t total) {
  check_length("LinearLR", "total_iters", total);
  if (e == 0) return lr * start;
  if (e > total) return lr;
  double slope = end - start;  // the factor of epoch e is start + slope * e / total
  return lr * (1 + slope / (double(total) * start + double(e - 1) * slope));
}
double linear_at(double base, int64_t e, double start, double end, int64_t total) {
  check_length("LinearLR", "total_iters", total);
  return base * (start + (end - start) * double(std::min(e, total)) / double(total));
}

double exponential_next(double lr, int64_t e, double gamma) { return e == 0 ? lr : lr * gamma; }
double exponential_at(double base, int64_t e, double gamma) { return base * std::pow(gamma, double(e)); }

double polynomial_next(double lr, int64_t e, int64_t total, double power) {
  check_length("PolynomialLR", "total_iters", total);
  if (e == 0 || e > total) return lr;
  return lr * std::pow(double(total - e) / double(total - e + 1), power);
}
double polynomial_at(double base, int64_t e, int64_t total, double power) {
  check_length("PolynomialLR", "total_iters", total);
  return base * std::pow(1 - double(std::min(e, total)) / double(total), power);
}

double cosine_next(double lr, double base, int64_t e, int64_t t_max, double eta_min) {
  check_length("CosineAnnealingLR", "T_max", t_max);
  if (e == 0) return lr;
  // at the bottom the quotient below is 0 / 0: one step up from eta_min
  if ((e - 1 - t_max) % (2 * t_max) == 0) return lr + (base - eta_min) * (1 - std::cos(pi / double(t_max))) / 2;
  double now = 1 + std::cos(pi * double(e) / double(t_max)), before = 1 + std::cos(pi * double(e - 1) / double(t_max));
  return now / before * (lr - eta_min) + eta_min;
}
double cosine_at(double base, double e, double t_max, double eta_min) { return half_cosine(base, eta_min, e / t_max); }

Restart restart_at(double epoch, int64_t t_0, int64_t t_mult) {
  TG_CHECK(epoch >= 0, ValueError, "Expected non-negative epoch, but got ", epoch);
  if (t_mult == 1) return {std::fmod(epoch, double(t_0)), t_0};
  Restart r{epoch, t_0};
  while (r.since >= double(r.length)) {
    r.since -= double(r.length);
    TG_CHECK(!__builtin_mul_overflow(r.length, t_mult, &r.length), ValueError, "Expected a smaller epoch than ", epoch);
  }
  return r;
}

double OneCycle::at(int64_t step, double start, double top, double low) const {
  TG_CHECK(step <= total_steps, ValueError, "Tried to step ", step, " times. The specified number of total steps is ",
           total_steps);
  struct Phase {
    double end, from, to;
  };
  double rise = pct_start * double(total_steps), last = double(total_steps - 1);
  std::vector<Phase> phases{{rise - 1, start, top}};
  if (three_phase) phases.push_back({2 * rise - 2, top, start});
  phases.push_back({last, phases.back().to, low});
  double begin = 0;
  for (const Phase& p : phases) {
    if (double(step) <= p.end || &p == &phases.back()) {
      double x = p.end > begin ? (double(step) - begin) / (p.end - begin) : 1;
      return cosine ? half_cosine(p.from, p.to, x) : p.from + (p.to - p.from) * x;
    }
    begin = p.end;
  }
  return low;
}

void Plateau::reset() {
  best = minimize ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  num_bad_epochs = cooldown_counter = 0;
}

bool Plateau::is_better(double value) const {
  double sign = minimize ? -1 : 1;
  double bound = relative ? best * (1 + sign * threshold) : best + sign * threshold;
  return minimize ? value < bound : value > bound;
}

bool Plateau::update(double value) {
  if (is_better(value)) {
    best = value;
    num_bad_epochs = 0;
  } else {
    ++num_bad_epochs;
  }
  if (cooldown_counter > 0) {
    --cooldown_counter;
    num_bad_epochs = 0;
  }
  if (num_bad_epochs <= patience) return false;
  cooldown_counter = cooldown;
  num_bad_epochs = 0;
  return true;
}

}  // namespace tg::optim::schedule
