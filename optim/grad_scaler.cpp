#include "optim/grad_scaler.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "core/graph.h"
#include "ops/ops.h"
#include "optim/half.h"

namespace tg::optim {
namespace {

constexpr size_t kLosses = 4;  // remembered since the last update

// Every living scaler that is on, and the lock of what check_unscaled reads in them.
struct Scalers {
  std::mutex mutex;
  std::vector<GradScaler*> living;
};
Scalers& scalers() {
  static Scalers* s = new Scalers;  // never destroyed: a scaler may be static
  return *s;
}

GradScaler::Target target_of(const Optimizer& o) {
  GradScaler::Target t{&o, {}, {}, {}};
  std::vector<std::pair<size_t, size_t>> places;
  for (size_t g = 0; g < o.param_groups.size(); ++g)
    for (size_t i = 0; i < o.param_groups[g].params.size(); ++i) {
      const Tensor& p = o.param_groups[g].params[i];
      t.params.push_back(p);
      t.wide.push_back(steps_in_float32(o.param_groups[g].options, p));
      places.push_back({g, i});
    }
  t.name_of = [places](size_t i) { return str("parameter ", places[i].second, " of group ", places[i].first); };
  return t;
}

// Gives every group its "grad_scale" for one step.
class GradScale {
 public:
  GradScale(Optimizer& o, double scale) : o_(o) {
    for (ParamGroup& g : o_.param_groups) g["grad_scale"] = scale;
  }
  ~GradScale() {
    for (ParamGroup& g : o_.param_groups) g.options.erase("grad_scale");
  }
  GradScale(const GradScale&) = delete;
  GradScale& operator=(const GradScale&) = delete;

 private:
  Optimizer& o_;
};

}  // namespace

GradScaler::GradScaler(const GradScalerOptions& o)
    : loss_scale{o.init_scale, o.growth_factor, o.backoff_factor, o.growth_interval}, enabled_(o.enabled) {
  TG_CHECK(o.growth_factor > 1, ValueError, "GradScaler: the growth factor must be greater than 1, got ",
           o.growth_factor);
  TG_CHECK(o.backoff_factor < 1, ValueError, "GradScaler: the backoff factor must be less than 1, got ",
           o.backoff_factor);
  if (!enabled_) return;
  std::lock_guard lock(scalers().mutex);
  scalers().living.push_back(this);
}

GradScaler::~GradScaler() {
  std::lock_guard lock(scalers().mutex);
  std::erase(scalers().living, this);
}

Tensor GradScaler::scale(const Tensor& loss) {
  if (!enabled_) return loss;
  Tensor oldest;  // freed after the lock: what dies with it may wait for the interpreter
  {
    std::lock_guard lock(scalers().mutex);
    losses_.push_back({std::this_thread::get_id(), loss});
    if (losses_.size() > kLosses) {
      oldest = std::move(losses_.front().second);
      losses_.pop_front();
    }
  }
  return mul(loss, full({}, get_scale(), DType::F32, loss.device()));
}

void GradScaler::unscale_(Optimizer& optimizer) { unscale_(target_of(optimizer)); }

void GradScaler::unscale_(const Target& target) {
  if (!enabled_) return;
  Progress& progress = progress_[target.key];
  TG_CHECK(progress.stage != Stage::Unscaled, Error,
           "unscale_() has already been called on this optimizer since the last update().");
  TG_CHECK(progress.stage != Stage::Stepped, Error, "unscale_() is being called after step().");
  unscale(target, progress, false);
  progress.stage = Stage::Unscaled;
}

// Of the parameters whose gradients are not finite, the one that backward got to first; `known` is one of them, and the
// answer where the loss was scaled elsewhere.
size_t GradScaler::first_overflow(const Target& target, size_t known) {
  std::vector<Tensor> losses;
  {
    std::lock_guard lock(scalers().mutex);
    for (const auto& [thread, loss] : losses_) losses.push_back(loss);
  }
  std::unordered_map<const TensorImpl*, size_t> number;
  for (size_t i = 0; i < target.params.size(); ++i) number.emplace(target.params[i].impl(), i);
  for (const Tensor& loss : losses)
    for (const TensorImpl* leaf : leaves_reached(loss)) {
      auto at = number.find(leaf);
      if (at == number.end()) continue;
      const Tensor grad = target.params[at->second].grad();
      if (grad.defined() && optim::unscale({grad}, 1) >= 0) return at->second;
    }
  return known;
}

void GradScaler::unscale(const Target& target, Progress& progress, bool in_step) {
  std::vector<Tensor> here, later;  // gradients to unscale now; and within the step, in float32
  std::vector<size_t> of_here, of_later;
  for (size_t i = target.params.size(); i-- > 0;) {
    Tensor grad = target.params[i].grad();
    if (!grad.defined()) continue;
    const bool wait = target.wide[i] && is_half(grad.dtype()) && in_step;
    TG_CHECK(wait || grad.dtype() != DType::F16, ValueError,
             "Attempting to unscale FP16 gradients. Their small values would vanish again: keep the parameters in "
             "float32 (autocast), or give the optimizer master_weights=True and leave unscaling to step()");
    (wait ? later : here).push_back(grad);
    (wait ? of_later : of_here).push_back(i);
  }
  TG_CHECK(!here.empty() || !later.empty(), Error,
           "No inf checks were recorded for this optimizer: none of its parameters has a gradient.");
  const int64_t bad_later = optim::unscale(later, 1), bad_here = optim::unscale(here, 1 / get_scale());
  progress.rest = later.empty() ? 1 : get_scale();
  progress.looked = true;
  progress.overflow = bad_later >= 0 || bad_here >= 0;
  if (progress.overflow)
    last_skip = str("the gradient of ",
                    target.name_of(first_overflow(
                        target, bad_later >= 0 ? of_later[size_t(bad_later)] : of_here[size_t(bad_here)])),
                    " is infinite or NaN at a scale of ", get_scale());
  std::lock_guard lock(scalers().mutex);
  for (size_t i : of_here) unscaled_.insert(target.params[i].impl());
}

std::optional<double> GradScaler::begin_step(const Target& target) {
  Progress& progress = progress_[target.key];
  TG_CHECK(progress.stage != Stage::Stepped, Error, "step() has already been called since the last update().");
  if (progress.stage == Stage::Ready) unscale(target, progress, true);
  progress.stage = Stage::Stepped;
  if (!progress.overflow) return progress.rest;
  ++skipped_steps;
  return std::nullopt;
}

bool GradScaler::step(Optimizer& optimizer) {
  std::optional<double> rest = enabled_ ? begin_step(target_of(optimizer)) : 1;
  if (!rest) return false;
  std::optional<GradScale> scaled;
  if (*rest != 1) scaled.emplace(optimizer, *rest);
  optimizer.step();
  return true;
}

void GradScaler::update() {
  if (!enabled_) return;
  bool looked = false, overflow = false;
  for (const auto& [key, p] : progress_) looked |= p.looked, overflow |= p.overflow;
  TG_CHECK(looked, Error, "No inf checks were recorded prior to update.");
  loss_scale.update(overflow);
  update(loss_scale.scale);
}

void GradScaler::update(double new_scale) {
  if (!enabled_) return;
  loss_scale.scale = new_scale;
  progress_.clear();
  decltype(losses_) old;
  std::lock_guard lock(scalers().mutex);
  unscaled_.clear();
  losses_.swap(old);
}

Named<double> GradScaler::state_dict() const {
  if (!enabled_) return {};
  const LossScale& s = loss_scale;
  return {{"scale", s.scale},
          {"growth_factor", s.growth},
          {"backoff_factor", s.backoff},
          {"growth_interval", double(s.interval)},
          {"_growth_tracker", double(s.tracker)}};
}

void GradScaler::load_state_dict(const Named<double>& d) {
  if (!enabled_) return;
  TG_CHECK(!d.empty(), Error,
           "The source state dict is empty, possibly because it was saved from a disabled GradScaler.");
  auto at = [&](const char* name) {
    const double* v = d.find(name);
    TG_CHECK(v, ValueError, "GradScaler.load_state_dict: the state has no '", name, "'");
    return *v;
  };
  loss_scale = {at("scale"), at("growth_factor"), at("backoff_factor"), int64_t(at("growth_interval")),
                int64_t(at("_growth_tracker"))};
}

void check_unscaled(TensorList parameters, const char* op) {
  struct Suspects {
    double scale;
    std::vector<const TensorImpl*> leaves;
    std::vector<Tensor> losses;
  };
  std::vector<Suspects> found;
  {
    std::lock_guard lock(scalers().mutex);
    for (const GradScaler* s : scalers().living) {
      Suspects of{s->get_scale(), {}, {}};
      for (const auto& [thread, loss] : s->losses_)
        if (thread == std::this_thread::get_id()) of.losses.push_back(loss);
      if (of.losses.empty() || of.scale == 1) continue;
      for (const Tensor& p : parameters)
        if (p.defined() && p.grad().defined() && !s->unscaled_.count(p.impl())) of.leaves.push_back(p.impl());
      if (!of.leaves.empty()) found.push_back(std::move(of));
    }
  }
  for (const Suspects& s : found)
    for (const Tensor& loss : s.losses) {
      const std::vector<const TensorImpl*> reached = leaves_reached(loss);
      TG_CHECK(std::find_first_of(reached.begin(), reached.end(), s.leaves.begin(), s.leaves.end()) == reached.end(),
               Error, op, ": the gradients are still ", s.scale,
               " times too large, because the loss was scaled; call scaler.unscale_(optimizer) first");
    }
}

}  // namespace tg::optim
