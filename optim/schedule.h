// Learning rates as functions of the epoch: what the schedulers of C++ and of Python compute.
//
// `next` forms give the rate of epoch e from that of the epoch before, so that schedulers can be combined and rates
// edited in between; `at` forms give it from the initial rate alone.
#pragma once
#include <cstdint>
#include <vector>

#include "core/api.h"

namespace tg::optim::schedule {

TG_API double step_next(double lr, int64_t e, int64_t step_size, double gamma);
TG_API double step_at(double base, int64_t e, int64_t step_size, double gamma);
TG_API double multi_step_next(double lr, int64_t e, const std::vector<int64_t>& milestones, double gamma);
TG_API double multi_step_at(double base, int64_t e, const std::vector<int64_t>& milestones, double gamma);
TG_API double constant_next(double lr, int64_t e, double factor, int64_t total);
TG_API double constant_at(double base, int64_t e, double factor, int64_t total);
TG_API double linear_next(double lr, int64_t e, double start, double end, int64_t total);
TG_API double linear_at(double base, int64_t e, double start, double end, int64_t total);
TG_API double exponential_next(double lr, int64_t e, double gamma);
TG_API double exponential_at(double base, int64_t e, double gamma);
TG_API double polynomial_next(double lr, int64_t e, int64_t total, double power);
TG_API double polynomial_at(double base, int64_t e, int64_t total, double power);
TG_API double cosine_next(double lr, double base, int64_t e, int64_t t_max, double eta_min);
TG_API double cosine_at(double base, double e, double t_max, double eta_min);

// Cosine annealing that starts again after t_0 epochs, each run t_mult times as long as the one before.
struct Restart {
  double since = 0;    // epochs since the last restart
  int64_t length = 1;  // of the current run
};
TG_API Restart restart_at(double epoch, int64_t t_0, int64_t t_mult);

// The 1cycle policy: from `start` up to `top`, down again, and to `low`; three_phase inserts the way back to `start`.
struct OneCycle {
  int64_t total_steps = 1;
  double pct_start = 0.3;
  bool cosine = true, three_phase = false;
  // Value at a step; ValueError after the last.
  TG_API double at(int64_t step, double start, double top, double low) const;
};

// Watches a metric and says when it has stopped improving.
struct Plateau {
  bool minimize = true, relative = true;
  double threshold = 1e-4;
  int64_t patience = 10, cooldown = 0;
  double best = 0;
  int64_t num_bad_epochs = 0, cooldown_counter = 0;
  TG_API void reset();
  TG_API bool is_better(double value) const;
  // Takes the metric of one more epoch; true if the rate should be reduced now.
  TG_API bool update(double value);
};

}  // namespace tg::optim::schedule
