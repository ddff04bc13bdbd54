#include "autograd/saved.h"

#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tg {
namespace {

struct HookStack {
  std::vector<std::shared_ptr<const SavedHooks>> hooks;
  std::string forbidden;
};
HookStack& hook_stack() {
  thread_local HookStack s;
  return s;
}
thread_local bool hooks_in_force = false;  // apart from the stack: nothing to construct where ops are recorded

// A value whose gradient goes to `e`. A leaf is reached through an identity, as it cannot have two tensors.
Tensor with_edge(const Tensor& value, const Edge& e) {
  if (e.node) {
    Tensor y = without_history(value);
    set_history(y, e.node, e.slot);
    return y;
  }
  CustomFunction identity{
      "Unpack", [&](FunctionCtx&, const std::vector<Tensor>&) { return std::vector<Tensor>{without_history(value)}; },
      [](FunctionCtx&, const std::vector<Tensor>& g) { return g; }};
  return apply_function(std::move(identity), {Tensor(e.leaf)})[0];
}

}  // namespace

bool saved_hooks_active() { return hooks_in_force; }

void push_saved_hooks(std::shared_ptr<const SavedHooks> hooks) {
  HookStack& s = hook_stack();
  TG_CHECK(s.forbidden.empty(), AutogradError, s.forbidden);
  s.hooks.push_back(std::move(hooks));
  hooks_in_force = true;
}

void pop_saved_hooks() {
  HookStack& s = hook_stack();
  TG_CHECK(!s.hooks.empty(), AutogradError, "saved_tensors_hooks: left more often than entered");
  s.hooks.pop_back();
  hooks_in_force = !s.hooks.empty();
}

std::string forbid_saved_hooks(const std::string& why) {
  TG_CHECK(why.empty() || !hooks_in_force, AutogradError, why);
  return std::exchange(hook_stack().forbidden, why);
}

PackedTensor::PackedTensor(const Tensor& t, bool output)
    : hooks_(hook_stack().hooks.back()), edge_(output ? Edge{} : edge_of(t)), meta_(meta_info(t)) {
  NoGrad off;
  uint32_t version = t.version();
  value_ = hooks_->pack(edge_.leaf ? t : without_history(t));
  TG_CHECK(t.version() == version, AutogradError, "saved_tensors_hooks: the pack hook edited its argument in place; ",
           describe(t));
}

Tensor PackedTensor::unpack(const std::string& who) const {
  Tensor t = [&] {
    NoGrad off;
    return hooks_->unpack(value_);
  }();
  TG_CHECK(t.defined(), AutogradError, who, ": the unpack hook of saved_tensors_hooks returned no tensor");
  TG_CHECK(t.sizes() == meta_.sizes && t.dtype() == meta_.dtype && t.device() == meta_.device, AutogradError, who,
           ": the unpack hook of saved_tensors_hooks returned ", describe(t), " where ", meta_.dtype, meta_.sizes, "@",
           meta_.device, " was packed");
  return modes().grad && edge_ ? with_edge(t, edge_) : t;
}

KeptTensor::KeptTensor(const Tensor& t, int output) {
  saved_.output = output;
  if (!t.defined()) return;
  if (hooks_in_force) {
    packed_ = std::make_shared<PackedTensor>(t, output >= 0);
    return;
  }
  saved_.tensor = output >= 0 ? without_history(t) : t;
  saved_.version = t.version();
}

Tensor KeptTensor::get(const std::string& who, Node* node) const {
  SavedTensor s = saved_;
  if (packed_) {
    s.tensor = packed_->unpack(who);
  } else if (s.tensor.defined()) {
    TG_CHECK(s.tensor.version() == s.version, AutogradError, who, ": a saved tensor (", describe(s.tensor),
             ") was modified in place by ", s.tensor.impl()->storage->last_writer, " since; it is at version ",
             s.tensor.version(), ", expected version ", s.version);
  }
  return s.output >= 0 && s.tensor.defined() && modes().grad && node ? as_output(s, *node) : s.tensor;
}

void KeptTensor::release() {
  saved_.tensor = Tensor();
  packed_.reset();
}

}  // namespace tg
