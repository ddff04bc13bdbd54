#include "optim/lr_scheduler.h"

#include <algorithm>

namespace tg::optim {
namespace {

void set_lr(ParamGroup& g, double lr) { g["lr"] = lr; }

std::vector<double> rates(const Optimizer& o) {
  std::vector<double> v;
  for (const ParamGroup& g : o.param_groups) v.push_back(g.options.number("lr"));
  return v;
}

}  // namespace

LRScheduler::LRScheduler(Optimizer& optimizer) : optimizer_(&optimizer) {
  for (ParamGroup& g : optimizer.param_groups)
    if (!g.options.find("initial_lr")) g["initial_lr"] = g.options.number("lr");
}

void LRScheduler::step() {
  ++last_epoch_;
  for (size_t i = 0; i < optimizer_->param_groups.size(); ++i) {
    ParamGroup& g = optimizer_->param_groups[i];
    set_lr(g, next(i, g.options.number("lr"), last_epoch_));
  }
}

void LRScheduler::step_to(int64_t epoch) {
  last_epoch_ = epoch;
  for (size_t i = 0; i < optimizer_->param_groups.size(); ++i) set_lr(optimizer_->param_groups[i], at(i, epoch));
}

std::vector<double> LRScheduler::get_last_lr() const { return rates(*optimizer_); }

void LRScheduler::load_state_dict(const Named<double>& d) {
  const double* epoch = d.find("last_epoch");
  TG_CHECK(epoch, ValueError, "load_state_dict: the scheduler's state has no 'last_epoch'");
  last_epoch_ = int64_t(*epoch);
}

StepLR::StepLR(Optimizer& o, int64_t step_size, double gamma) : LRScheduler(o), step_size_(step_size), gamma_(gamma) {
  TG_CHECK(step_size > 0, ValueError, "StepLR: step_size must be positive, got ", step_size);
  LRScheduler::step();
}

MultiStepLR::MultiStepLR(Optimizer& o, std::vector<int64_t> milestones, double gamma)
    : LRScheduler(o), milestones_(std::move(milestones)), gamma_(gamma) {
  LRScheduler::step();
}

ConstantLR::ConstantLR(Optimizer& o, double factor, int64_t total) : LRScheduler(o), factor_(factor), total_(total) {
  TG_CHECK(factor > 0 && factor <= 1, ValueError, "ConstantLR: factor must be in (0, 1], got ", factor);
  LRScheduler::step();
}

LinearLR::LinearLR(Optimizer& o, double start, double end, int64_t total)
    : LRScheduler(o), start_(start), end_(end), total_(total) {
  TG_CHECK(start > 0 && start <= 1, ValueError, "LinearLR: start_factor must be in (0, 1], got ", start);
  TG_CHECK(end >= 0 && end <= 1, ValueError, "LinearLR: end_factor must be in [0, 1], got ", end);
  TG_CHECK(total > 0, ValueError, "LinearLR: total_iters must be positive, got ", total);
  LRScheduler::step();
}

ExponentialLR::ExponentialLR(Optimizer& o, double gamma) : LRScheduler(o), gamma_(gamma) { LRScheduler::step(); }

PolynomialLR::PolynomialLR(Optimizer& o, int64_t total, double power) : LRScheduler(o), total_(total), power_(power) {
  TG_CHECK(total > 0, ValueError, "PolynomialLR: total_iters must be positive, got ", total);
  LRScheduler::step();
}

CosineAnnealingLR::CosineAnnealingLR(Optimizer& o, int64_t t_max, double eta_min)
    : LRScheduler(o), t_max_(t_max), eta_min_(eta_min) {
  TG_CHECK(t_max > 0, ValueError, "CosineAnnealingLR: t_max must be positive, got ", t_max);
  LRScheduler::step();
}

CosineAnnealingWarmRestarts::CosineAnnealingWarmRestarts(Optimizer& o, int64_t t_0, int64_t t_mult, double eta_min)
    : LRScheduler(o), t_0_(t_0), t_mult_(t_mult), eta_min_(eta_min) {
  TG_CHECK(t_0 > 0, ValueError, "Expected positive integer T_0, but got ", t_0);
  TG_CHECK(t_mult >= 1, ValueError, "Expected integer T_mult >= 1, but got ", t_mult);
  LRScheduler::step();
}

LambdaLR::LambdaLR(Optimizer& o, std::function<double(int64_t)> lr_lambda)
    : LRScheduler(o), lambda_(std::move(lr_lambda)) {
  LRScheduler::step();
}

OneCycleLR::OneCycleLR(Optimizer& o, double max_lr, const OneCycleOptions& options)
    : LRScheduler(o),
      max_lr_(max_lr),
      options_(options),
      cycle_{options.total_steps, options.pct_start, options.cosine, options.three_phase} {
  TG_CHECK(options.total_steps > 0, ValueError, "Expected positive integer total_steps, but got ", options.total_steps);
  for (ParamGroup& g : o.param_groups) {
    g["initial_lr"] = max_lr / options.div_factor;
    bool moving = g.options.find("momentum") || g.options.find("betas");
    TG_CHECK(!options.cycle_momentum || moving, ValueError,
             "optimizer must support momentum or beta1 with `cycle_momentum` option enabled");
  }
  OneCycleLR::step();
}

void OneCycleLR::step() {
  LRScheduler::step();
  if (!options_.cycle_momentum) return;
  double top = options_.max_momentum;
  double momentum = cycle_.at(last_epoch_, top, options_.base_momentum, top);
  for (ParamGroup& g : optimizer_->param_groups) {
    if (g.options.find("betas"))
      g["betas"] = std::array{momentum, g.options.pair("betas")[1]};
    else
      g["momentum"] = momentum;
  }
}

double OneCycleLR::next(size_t i, double, int64_t e) const {
  return cycle_.at(e, base(i), max_lr_, base(i) / options_.final_div_factor);
}

ReduceLROnPlateau::ReduceLROnPlateau(Optimizer& optimizer, const PlateauOptions& options)
    : optimizer_(&optimizer), options_(options) {
  TG_CHECK(options.factor < 1, ValueError, "Factor should be < 1.0.");
  TG_CHECK(options.mode == "min" || options.mode == "max", ValueError, "mode ", options.mode, " is unknown!");
  TG_CHECK(options.threshold_mode == "rel" || options.threshold_mode == "abs", ValueError, "threshold mode ",
           options.threshold_mode, " is unknown!");
  plateau_.minimize = options.mode == "min";
  plateau_.relative = options.threshold_mode == "rel";
  plateau_.threshold = options.threshold;
  plateau_.patience = options.patience;
  plateau_.cooldown = options.cooldown;
  plateau_.reset();
}

void ReduceLROnPlateau::step(double metric) {
  if (!plateau_.update(metric)) return;
  for (ParamGroup& g : optimizer_->param_groups) {
    double old = g.options.number("lr"), lr = std::max(old * options_.factor, options_.min_lr);
    if (old - lr > options_.eps) set_lr(g, lr);
  }
}

std::vector<double> ReduceLROnPlateau::get_last_lr() const { return rates(*optimizer_); }

SequentialLR::SequentialLR(Optimizer& o, std::vector<std::shared_ptr<LRScheduler>> schedulers,
                           std::vector<int64_t> milestones)
    : LRScheduler(o), schedulers_(std::move(schedulers)), milestones_(std::move(milestones)) {
  TG_CHECK(!schedulers_.empty() && milestones_.size() + 1 == schedulers_.size(), ValueError,
           "SequentialLR: needs one milestone less than schedulers, got ", milestones_.size(), " and ",
           schedulers_.size());
  for (const auto& s : schedulers_)
    TG_CHECK(s && s->optimizer_ == &o, ValueError, "SequentialLR: a scheduler belongs to another optimizer");
  // the constructors of the schedulers have each set the rates: start again with the first
  for (ParamGroup& g : o.param_groups) set_lr(g, g.options.number("initial_lr"));
  last_epoch_ = 0;
  for (const auto& s : schedulers_) --s->last_epoch_;
  schedulers_[0]->step();
}

void SequentialLR::step() {
  ++last_epoch_;
  auto k = size_t(std::upper_bound(milestones_.begin(), milestones_.end(), last_epoch_) - milestones_.begin());
  if (k > 0 && milestones_[k - 1] == last_epoch_)
    schedulers_[k]->step_to(0);
  else
    schedulers_[k]->step();
}

Named<double> SequentialLR::state_dict() const {
  Named<double> d = LRScheduler::state_dict();
  for (size_t k = 0; k < schedulers_.size(); ++k)
    for (const auto& [name, value] : schedulers_[k]->state_dict()) d[str(k, ".", name)] = value;
  return d;
}

void SequentialLR::load_state_dict(const Named<double>& d) {
  LRScheduler::load_state_dict(d);
  for (size_t k = 0; k < schedulers_.size(); ++k) {
    Named<double> own;
    std::string prefix = str(k, ".");
    for (const auto& [name, value] : d)
      if (name.starts_with(prefix)) own[name.substr(prefix.size())] = value;
    schedulers_[k]->load_state_dict(own);
  }
}

}  // namespace tg::optim
