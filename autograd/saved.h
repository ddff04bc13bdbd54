// What nodes keep for backward, and hooks that keep it in another form: on disk, in another type, or not at all.
#pragma once
#include <any>
#include <functional>
#include <memory>
#include <string>

#include "autograd/node.h"

namespace tg {

// `pack` gets each value that is kept for backward (leaves themselves, the rest without history) and returns what is
// kept instead; `unpack` makes the value of it when backward reads it. Both run off the tape.
struct SavedHooks {
  std::function<std::any(const Tensor&)> pack;
  std::function<Tensor(const std::any&)> unpack;
};

// Hooks of this thread; the last ones pushed are in force. AutogradError while they are forbidden.
TG_API void push_saved_hooks(std::shared_ptr<const SavedHooks> hooks);
TG_API void pop_saved_hooks();
// Pushing hooks raises `why` from now on; "" allows it again. Returns what was in force.
TG_API std::string forbid_saved_hooks(const std::string& why);
bool saved_hooks_active();

class SavedHooksScope {
 public:
  explicit SavedHooksScope(std::shared_ptr<const SavedHooks> hooks) { push_saved_hooks(std::move(hooks)); }
  ~SavedHooksScope() { pop_saved_hooks(); }
  SavedHooksScope(const SavedHooksScope&) = delete;
  SavedHooksScope& operator=(const SavedHooksScope&) = delete;
};

// A value that hooks have packed, and where its gradient goes.
class PackedTensor {
 public:
  // `output`: it is a result of the node that keeps it, so it must not hold its own history.
  PackedTensor(const Tensor& t, bool output);
  // The value again, with its history in a backward that is recorded.
  Tensor unpack(const std::string& who) const;

 private:
  std::shared_ptr<const SavedHooks> hooks_;
  std::any value_;
  Edge edge_;
  Meta meta_;
};

// A tensor kept for backward: as it is, with its version, or packed by the hooks in force.
class KeptTensor {
 public:
  // `output`: which result of the node it is, -1 for none.
  explicit KeptTensor(const Tensor& t, int output = -1);
  // AutogradError if it was edited in place since. `node`: the one that keeps it, needed for its results.
  Tensor get(const std::string& who, Node* node = nullptr) const;
  void release();

 private:
  SavedTensor saved_;
  std::shared_ptr<const PackedTensor> packed_;
};

}  // namespace tg
