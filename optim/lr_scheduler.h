// Schedulers: set the learning rate of an optimizer's groups, epoch by epoch. Call step() after the optimizer's.
#pragma once
#include <functional>
#include <memory>

#include "optim/optimizer.h"
#include "optim/schedule.h"

namespace tg::optim {

class TG_API LRScheduler {
 public:
  // Remembers each group's rate as its "initial_lr". A subclass calls step() once at the end of its constructor.
  explicit LRScheduler(Optimizer& optimizer);
  virtual ~LRScheduler() = default;
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;

  // Goes on to the next epoch.
  virtual void step();
  // Goes to a given epoch, from the initial rates.
  virtual void step_to(int64_t epoch);
  std::vector<double> get_last_lr() const;
  int64_t last_epoch() const { return last_epoch_; }
  // Everything that changes while stepping, as numbers.
  virtual Named<double> state_dict() const { return {{"last_epoch", double(last_epoch_)}}; }
  virtual void load_state_dict(const Named<double>& d);
  Optimizer& optimizer() const { return *optimizer_; }

 protected:
  // The rate of group i in epoch e, whose rate so far is lr.
  virtual double next(size_t i, double lr, int64_t e) const = 0;
  // The same from the initial rate.
  virtual double at(size_t i, int64_t e) const { return next(i, base(i), e); }
  double base(size_t i) const { return optimizer_->param_groups[i].options.number("initial_lr"); }

  Optimizer* optimizer_;
  int64_t last_epoch_ = -1;
  friend class SequentialLR;
};

class TG_API StepLR : public LRScheduler {
 public:
  StepLR(Optimizer& o, int64_t step_size, double gamma = 0.1);

 protected:
  double next(size_t, double lr, int64_t e) const override { return schedule::step_next(lr, e, step_size_, gamma_); }
  double at(size_t i, int64_t e) const override { return schedule::step_at(base(i), e, step_size_, gamma_); }
  int64_t step_size_;
  double gamma_;
};

class TG_API MultiStepLR : public LRScheduler {
 public:
  MultiStepLR(Optimizer& o, std::vector<int64_t> milestones, double gamma = 0.1);

 protected:
  double next(size_t, double lr, int64_t e) const override {
    return schedule::multi_step_next(lr, e, milestones_, gamma_);
  }
  double at(size_t i, int64_t e) const override { return schedule::multi_step_at(base(i), e, milestones_, gamma_); }
  std::vector<int64_t> milestones_;
  double gamma_;
};

class TG_API ConstantLR : public LRScheduler {
 public:
  explicit ConstantLR(Optimizer& o, double factor = 1.0 / 3, int64_t total_iters = 5);

 protected:
  double next(size_t, double lr, int64_t e) const override { return schedule::constant_next(lr, e, factor_, total_); }
  double at(size_t i, int64_t e) const override { return schedule::constant_at(base(i), e, factor_, total_); }
  double factor_;
  int64_t total_;
};

class TG_API LinearLR : public LRScheduler {
 public:
  explicit LinearLR(Optimizer& o, double start_factor = 1.0 / 3, double end_factor = 1, int64_t total_iters = 5);

 protected:
  double next(size_t, double lr, int64_t e) const override {
    return schedule::linear_next(lr, e, start_, end_, total_);
  }
  double at(size_t i, int64_t e) const override { return schedule::linear_at(base(i), e, start_, end_, total_); }
  double start_, end_;
  int64_t total_;
};

class TG_API ExponentialLR : public LRScheduler {
 public:
  ExponentialLR(Optimizer& o, double gamma);

 protected:
  double next(size_t, double lr, int64_t e) const override { return schedule::exponential_next(lr, e, gamma_); }
  double at(size_t i, int64_t e) const override { return schedule::exponential_at(base(i), e, gamma_); }
  double gamma_;
};

class TG_API PolynomialLR : public LRScheduler {
 public:
  explicit PolynomialLR(Optimizer& o, int64_t total_iters = 5, double power = 1);

 protected:
  double next(size_t, double lr, int64_t e) const override { return schedule::polynomial_next(lr, e, total_, power_); }
  double at(size_t i, int64_t e) const override { return schedule::polynomial_at(base(i), e, total_, power_); }
  int64_t total_;
  double power_;
};

class TG_API CosineAnnealingLR : public LRScheduler {
 public:
  CosineAnnealingLR(Optimizer& o, int64_t t_max, double eta_min = 0);

 protected:
  double next(size_t i, double lr, int64_t e) const override {
    return schedule::cosine_next(lr, base(i), e, t_max_, eta_min_);
  }
  double at(size_t i, int64_t e) const override {
    return schedule::cosine_at(base(i), double(e), double(t_max_), eta_min_);
  }
  int64_t t_max_;
  double eta_min_;
};

class TG_API CosineAnnealingWarmRestarts : public LRScheduler {
 public:
  CosineAnnealingWarmRestarts(Optimizer& o, int64_t t_0, int64_t t_mult = 1, double eta_min = 0);

 protected:
  double next(size_t i, double, int64_t e) const override {
    schedule::Restart r = schedule::restart_at(double(e), t_0_, t_mult_);
    return schedule::cosine_at(base(i), r.since, double(r.length), eta_min_);
  }
  int64_t t_0_, t_mult_;
  double eta_min_;
};

// The initial rate times a function of the epoch.
class TG_API LambdaLR : public LRScheduler {
 public:
  LambdaLR(Optimizer& o, std::function<double(int64_t)> lr_lambda);

 protected:
  double next(size_t i, double, int64_t e) const override { return base(i) * lambda_(e); }
  std::function<double(int64_t)> lambda_;
};

struct OneCycleOptions {
  int64_t total_steps = 0;
  double pct_start = 0.3;
  bool cosine = true, cycle_momentum = true;
  double base_momentum = 0.85, max_momentum = 0.95, div_factor = 25, final_div_factor = 1e4;
  bool three_phase = false;
};
class TG_API OneCycleLR : public LRScheduler {
 public:
  OneCycleLR(Optimizer& o, double max_lr, const OneCycleOptions& options);
  void step() override;

 protected:
  double next(size_t i, double lr, int64_t e) const override;
  double max_lr_;
  OneCycleOptions options_;
  schedule::OneCycle cycle_;
};

struct PlateauOptions {
  std::string mode = "min";
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  std::string threshold_mode = "rel";
  int64_t cooldown = 0;
  double min_lr = 0, eps = 1e-8;
};
// Reduces the rates when a metric stops improving.
class TG_API ReduceLROnPlateau {
 public:
  explicit ReduceLROnPlateau(Optimizer& optimizer, const PlateauOptions& options = {});
  void step(double metric);
  std::vector<double> get_last_lr() const;
  const schedule::Plateau& plateau() const { return plateau_; }

 private:
  Optimizer* optimizer_;
  PlateauOptions options_;
  schedule::Plateau plateau_;
};

// One scheduler after another: the k-th (from 1 on) takes over at milestones[k - 1], with its epoch 0.
class TG_API SequentialLR : public LRScheduler {
 public:
  SequentialLR(Optimizer& o, std::vector<std::shared_ptr<LRScheduler>> schedulers, std::vector<int64_t> milestones);
  void step() override;
  Named<double> state_dict() const override;
  void load_state_dict(const Named<double>& d) override;

 protected:
  double next(size_t, double lr, int64_t) const override { return lr; }
  std::vector<std::shared_ptr<LRScheduler>> schedulers_;
  std::vector<int64_t> milestones_;
};

}  // namespace tg::optim
