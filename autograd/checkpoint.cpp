// Checkpointing on top of saved-tensor hooks: packing leaves a ticket, reading the first ticket runs the function again
// and fills all of them. The graph is the one that would have been made without, so sums keep their order.
#include "core/checkpoint.h"

#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tg {
namespace {

struct Region;

// Stands in the graph for one saved value.
struct Ticket {
  std::shared_ptr<Region> region;
  Meta meta;
  Tensor value;  // filled by a second run, handed out once
  uint32_t version = 0;
};

// Ends a second run that has made everything.
struct StopRecompute : Interrupted {
  using Interrupted::Interrupted;
};

std::string meta_text(const Meta& m) { return str(m.dtype, m.sizes, "@", m.device); }

struct Region : std::enable_shared_from_this<Region> {
  CheckpointedFn again;
  std::vector<KeptTensor> inputs;
  std::vector<bool> wants_grad;
  std::vector<std::weak_ptr<Ticket>> tickets;  // those of nodes that died are gone
  CheckpointOptions options;
  uint64_t seed = 0, offset = 0;
  AutocastState autocast;

  std::shared_ptr<SavedHooks> first_hooks();
  void recompute();
  void fill(size_t i, const Tensor& t);
};

std::shared_ptr<SavedHooks> Region::first_hooks() {
  auto hooks = std::make_shared<SavedHooks>();
  hooks->pack = [this](const Tensor& t) -> std::any {  // only called while checkpoint() holds the region
    auto ticket = std::make_shared<Ticket>(Ticket{shared_from_this(), meta_info(t), Tensor()});
    tickets.push_back(ticket);
    return ticket;
  };
  hooks->unpack = [](const std::any& a) {
    const auto& ticket = std::any_cast<const std::shared_ptr<Ticket>&>(a);
    if (!ticket->value.defined()) ticket->region->recompute();
    Tensor t = std::exchange(ticket->value, Tensor());
    TG_CHECK(t.defined(), AutogradError, "checkpoint: the function did not make ", meta_text(ticket->meta),
             " when it was run again; it must do the same for the same inputs");
    TG_CHECK(t.version() == ticket->version, AutogradError, "checkpoint: a value needed for gradients (", describe(t),
             ") was modified in place by ", t.impl()->storage->last_writer, " inside of the function");
    return t;
  };
  return hooks;
}

void Region::fill(size_t i, const Tensor& t) {
  std::shared_ptr<Ticket> ticket = tickets[i].lock();
  if (!ticket) return;
  Meta now = meta_info(t);
  const Meta& was = ticket->meta;
  TG_CHECK(!options.check || (now.sizes == was.sizes && now.dtype == was.dtype && now.device == was.device),
           AutogradError, "checkpoint: value ", i, " kept for backward was ", meta_text(was), " and is ",
           meta_text(now), " when the function is run again; it must do the same for the same inputs");
  ticket->value = t;
  ticket->version = t.version();
}

// The state of the thread and of the generator as they were at the first run; put back at the end.
class StateOfFirstRun {
 public:
  explicit StateOfFirstRun(const Region& r)
      : preserve_(r.options.preserve_rng_state),
        seed_(default_generator().seed()),
        offset_(default_generator().offset()),
        autocast_(modes().autocast) {
    if (preserve_) default_generator().set_state(r.seed, r.offset);
    modes().autocast = r.autocast;
    modes().autocast.cache = false;  // casts made here must not outlive this run
  }
  ~StateOfFirstRun() {
    if (preserve_) default_generator().set_state(seed_, offset_);
    modes().autocast = autocast_;
  }
  StateOfFirstRun(const StateOfFirstRun&) = delete;
  StateOfFirstRun& operator=(const StateOfFirstRun&) = delete;

 private:
  GradMode grad_{true};
  bool preserve_;
  uint64_t seed_, offset_;
  AutocastState autocast_;
};

void Region::recompute() {
  std::vector<Tensor> xs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensor x = inputs[i].get("checkpoint");
    xs.push_back(x.defined() && wants_grad[i] ? detach(x).set_requires_grad(true) : x);
  }
  const size_t total = tickets.size();
  size_t made = 0;
  bool stopped = false;
  auto hooks = std::make_shared<SavedHooks>();
  hooks->pack = [&](const Tensor& t) -> std::any {
    if (made < total) fill(made, t);
    if (++made == total && options.early_stop) {
      stopped = true;
      throw StopRecompute("checkpoint: everything that backward needs has been computed");
    }
    return t;
  };
  hooks->unpack = [](const std::any& a) { return std::any_cast<const Tensor&>(a); };
  try {
    StateOfFirstRun state(*this);
    SavedHooksScope scope(hooks);
    again(xs);
  } catch (...) {  // may have passed through Python, which has its own type for it
    if (!stopped) throw;
  }
  TG_CHECK(!options.check || made == total, AutogradError, "checkpoint: the function kept ", total,
           " values for backward and ", made, " when it is run again; it must do the same for the same inputs");
}

}  // namespace

std::vector<Tensor> checkpoint(const CheckpointedFn& first, const CheckpointedFn& again,
                               const std::vector<Tensor>& inputs, const CheckpointOptions& options) {
  if (!modes().grad) return first(inputs);
  auto region = std::make_shared<Region>();
  region->again = again;
  region->options = options;
  region->seed = default_generator().seed();
  region->offset = default_generator().offset();
  region->autocast = modes().autocast;
  for (const Tensor& t : inputs) {
    // without its history: the graph before this region is held by the nodes that need it
    region->inputs.emplace_back(t.defined() ? without_history(t) : t);
    region->wants_grad.push_back(t.defined() && t.requires_grad());
  }
  SavedHooksScope scope(region->first_hooks());
  return first(inputs);
}

std::vector<Tensor> checkpoint(const CheckpointedFn& fn, const std::vector<Tensor>& inputs,
                               const CheckpointOptions& options) {
  return checkpoint(fn, fn, inputs, options);
}

}  // namespace tg
