// Scaling of losses, so that small gradients do not vanish in float16 (P. Micikevicius et al., "Mixed precision
// training", 2018). bfloat16 has the range of float32 and needs none.
//
//   optim::GradScaler scaler;
//   {
//     AutocastMode half(DeviceType::CPU, DType::F16);
//     loss = cross_entropy(model(x), y);
//   }
//   scaler.scale(loss).backward();
//   scaler.unscale_(optimizer);  // only to look at the gradients or to clip them
//   scaler.step(optimizer);      // left out if a gradient is infinite or NaN
//   scaler.update();
#pragma once
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <unordered_set>

#include "optim/optimizer.h"
#include "optim/unscale.h"

namespace tg::optim {

struct GradScalerOptions {
  double init_scale = 65536, growth_factor = 2, backoff_factor = 0.5;
  int64_t growth_interval = 2000;
  bool enabled = true;  // off: everything passes through
};

class TG_API GradScaler {
 public:
  // ValueError if the scale would not grow or not back off.
  explicit GradScaler(const GradScalerOptions& options = {});
  ~GradScaler();
  GradScaler(const GradScaler&) = delete;
  GradScaler& operator=(const GradScaler&) = delete;

  bool is_enabled() const { return enabled_; }
  // The loss times the scale.
  Tensor scale(const Tensor& loss);
  // Takes the scale off the gradients of the optimizer's parameters and looks whether they are finite, in one pass.
  // Error after step() or when called twice; ValueError for gradients in float16, which would vanish again.
  void unscale_(Optimizer& optimizer);
  // The optimizer's step on true gradients; left out, with result false, if one of them is not finite.
  bool step(Optimizer& optimizer);
  // Moves the scale after the steps of an iteration / sets it.
  void update();
  void update(double new_scale);
  // 1 when off.
  double get_scale() const { return enabled_ ? loss_scale.scale : 1; }

  // Nothing has been unscaled or stepped since the last update().
  bool is_between_iterations() const { return progress_.empty(); }

  // Steps left out, and why the last one was.
  int64_t skipped_steps = 0;
  std::string last_skip;

  // Scale, factors, interval and steps since the last change, under PyTorch's names; empty when off.
  Named<double> state_dict() const;
  void load_state_dict(const Named<double>& d);
  LossScale loss_scale;

  // The same for optimizers of any class: what a scaler has to know of one.
  struct Target {
    const void* key;                             // tells optimizers apart
    std::vector<Tensor> params;                  // all of them
    std::vector<bool> wide;                      // by parameter: its steps are computed in float32 (optim/half.h)
    std::function<std::string(size_t)> name_of;  // of a parameter, for messages
  };
  void unscale_(const Target& target);
  // Before a step: what the step has to divide the gradients of `wide` parameters by; nothing: leave the step out.
  std::optional<double> begin_step(const Target& target);

 private:
  enum class Stage { Ready, Unscaled, Stepped };
  // What happened to the gradients of an optimizer since the last update().
  struct Progress {
    Stage stage = Stage::Ready;
    bool looked = false, overflow = false;
    double rest = 1;  // the scale that the step itself takes off
  };
  void unscale(const Target& target, Progress& progress, bool in_step);
  size_t first_overflow(const Target& target, size_t known);
  friend TG_API void check_unscaled(TensorList parameters, const char* op);

  bool enabled_;
  std::map<const void*, Progress> progress_;
  std::unordered_set<const TensorImpl*> unscaled_;         // parameters whose gradients are true again
  std::deque<std::pair<std::thread::id, Tensor>> losses_;  // scaled since the last update
};

// Error if the gradient of one of the parameters still carries the scale of a scaler of this thread.
TG_API void check_unscaled(TensorList parameters, const char* op);

}  // namespace tg::optim
