// Reverse-mode differentiation over the tape: backward, grad, hooks, custom functions, checks.
#pragma once
#include <any>
#include <functional>
#include <string>
#include <vector>

#include "autograd/node.h"
#include "autograd/saved.h"

namespace tg {

// Adds the gradients of `roots` (weighted by `grads`; undefined = 1 for one-element roots) to the .grad of every leaf,
// or only of `inputs` if given. The graph's saved values are freed unless retain_graph (default: create_graph).
// Errors: AutogradError (no graph, second pass over a freed graph, stale saved value), ShapeError.
TG_API void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& grads = {}, bool retain_graph = false,
                     bool create_graph = false, const std::vector<Tensor>& inputs = {});

// Gradients of `outputs` with respect to `inputs`, leaving .grad alone. With allow_unused an input that was not used
// gives an undefined tensor, otherwise AutogradError.
TG_API std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                                const std::vector<Tensor>& grad_outputs = {}, bool retain_graph = false,
                                bool create_graph = false, bool allow_unused = false);

// Called with the gradient of `t` when it is complete; a defined result replaces it. Returns an id for remove_hook.
TG_API uint64_t add_hook(const Tensor& t, TensorHook hook);
// Called after the leaf's .grad was written.
TG_API uint64_t add_post_accumulate_hook(const Tensor& t, std::function<void(const Tensor&)> hook);
TG_API bool remove_hook(const Tensor& t, uint64_t id);

// Cuts `t` from its graph in place.
TG_API void detach_(const Tensor& t);
// Gives a view of an edited base its history as a view of the base's new value.
void rebuild_view_history(const Tensor& t);

// ---- custom functions

// What a custom function carries from forward to backward.
class TG_API FunctionCtx {
 public:
  // Tensors backward may read; they are checked for in-place edits.
  void save_for_backward(const std::vector<Tensor>& tensors) { to_save_ = tensors; }
  std::vector<Tensor> saved() const;
  void mark_non_differentiable(const std::vector<Tensor>& tensors) { non_differentiable_ = tensors; }
  // Inputs that forward edited in place and returns: they become outputs of this function.
  void mark_dirty(const std::vector<Tensor>& tensors) { dirty_ = tensors; }
  bool needs_input_grad(int i) const { return needs_[size_t(i)]; }
  std::any data;  // anything else

 private:
  friend struct FunctionNode;
  friend TG_API std::vector<Tensor> apply_function(struct CustomFunction, const std::vector<Tensor>&);
  std::vector<Tensor> to_save_, non_differentiable_, dirty_;
  std::vector<KeptTensor> saved_;
  std::vector<bool> needs_;
  Node* node_ = nullptr;
  std::string name_;
};

// forward runs outside of the tape; backward gets one gradient per output (undefined if unused) and returns one per
// input (undefined for none). Written with public ops it is differentiable again.
struct CustomFunction {
  std::string name;
  std::function<std::vector<Tensor>(FunctionCtx&, const std::vector<Tensor>&)> forward;
  std::function<std::vector<Tensor>(FunctionCtx&, const std::vector<Tensor>&)> backward;
};
TG_API std::vector<Tensor> apply_function(CustomFunction f, const std::vector<Tensor>& inputs);

// ---- checks

// Scope in which nodes remember where they were made and gradients are checked for NaN.
class TG_API DetectAnomaly {
 public:
  explicit DetectAnomaly(bool on = true) : old_(modes().anomaly) { modes().anomaly = on; }
  ~DetectAnomaly() { modes().anomaly = old_; }
  DetectAnomaly(const DetectAnomaly&) = delete;
  DetectAnomaly& operator=(const DetectAnomaly&) = delete;

 private:
  bool old_;
};

struct CheckOptions {
  double eps = 1e-3;  // step of the 4th-order central difference
  double atol = 1e-7, rtol = 1e-6;
};
using CheckedFn = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;
// Compares the gradients of fn at `inputs` (float64) with differences; returns "" or what differs.
TG_API std::string gradcheck(const CheckedFn& fn, const std::vector<Tensor>& inputs, const CheckOptions& o = {});
// The same for the gradient function itself.
TG_API std::string gradgradcheck(const CheckedFn& fn, const std::vector<Tensor>& inputs,
                                 const CheckOptions& o = {1e-3, 1e-6, 1e-5});

// Seeded wrong gradients, to show that the checks catch them: applied to the gradient of input `input` of op `op`.
enum class Mutation : uint8_t { None, Sign, Factor, DropReduction, Transpose, Zero };
TG_API void mutate_gradient(const std::string& op, int input, Mutation m);

}  // namespace tg
