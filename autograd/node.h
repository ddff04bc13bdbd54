// The tape: nodes of the backward graph and the autograd part of a tensor.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "core/grad_ctx.h"
#include "core/op.h"

namespace tg {

struct Node;
class PackedTensor;
TG_API void ref_destroy(Node* n);  // iterative: freeing a million-node chain uses constant stack

// Where a gradient goes: output `slot` of a node, or a leaf's .grad. Both empty: nowhere.
struct Edge {
  Ref<Node> node;
  Ref<TensorImpl> leaf;
  int slot = 0;
  explicit operator bool() const { return node || leaf; }
};

using Meta = SavedCall::Meta;
using TensorHook = std::function<Tensor(const Tensor&)>;  // may return a replacement, or undefined to keep it

// Hooks and retained gradient of one output of a node.
struct OutputHooks {
  int slot;
  std::vector<std::pair<uint64_t, TensorHook>> hooks;
  std::shared_ptr<Tensor> retained;
};

struct TG_API Node : RefCounted {
  Node();
  virtual ~Node() = default;
  // "MulBackward0"
  virtual std::string name() const = 0;
  // "mul": what the forward pass called; lives as long as the process.
  virtual const char* forward() const = 0;
  // Gradients of the inputs from those of the outputs (undefined = zero). needs[i]: results[i] is wanted.
  virtual void apply(const Tensor* grads, const bool* needs, Tensor* results) = 0;
  // Frees what was saved; a later apply() then fails with a clear error if it needed it.
  virtual void release_saved() {}
  virtual int num_outputs() const { return 1; }
  // Shape and dtype the gradient of input i must have.
  virtual const Meta& input_meta(int i) const = 0;
  virtual const Meta& output_meta(int j) const = 0;

  SmallVec<Edge, 3> next;  // one per tensor input
  uint64_t seq;            // grows with creation: every consumer has a larger one
  std::vector<OutputHooks> outputs_hooks;
  std::unique_ptr<std::string> made_at;  // user's stack, in anomaly mode

  OutputHooks& hooks_of(int slot);
};

// Node of an op of the table.
struct OpNode final : Node, Recycled<OpNode> {
  SavedCall call;
  bool released = false;
  std::vector<SavedTensor> index_tensors;  // tensors inside an Index argument, to check their versions
  // Values that hooks have packed (autograd/saved.h): input i at i, output j at ~j. Null without hooks.
  std::shared_ptr<std::vector<std::pair<int, PackedTensor>>> packed;

  std::string name() const override;
  const char* forward() const override { return call.op->base.c_str(); }
  void apply(const Tensor* grads, const bool* needs, Tensor* results) override;
  void release_saved() override;
  SavedCall unpack_values() const;
  int num_outputs() const override { return call.out_metas.size(); }
  const Meta& input_meta(int i) const override { return call.metas[i]; }
  const Meta& output_meta(int j) const override { return call.out_metas[j]; }
};

struct AutogradMeta final : AutogradMetaBase, Recycled<AutogradMeta> {
  Ref<Node> grad_fn;
  int slot = 0;
  Tensor grad;                                         // of a leaf
  std::shared_ptr<Tensor> retained;                    // of a non-leaf after retain_grad()
  std::vector<std::pair<uint64_t, TensorHook>> hooks;  // of a leaf
  std::vector<std::pair<uint64_t, std::function<void(const Tensor&)>>> post_accumulate;
};

// The meta of a tensor, made if missing / null if missing.
TG_API AutogradMeta& meta_of(const Tensor& t);
TG_API AutogradMeta* find_meta(const Tensor& t);
// Where the gradient of `t` goes; rebuilds the history of a view whose base was edited in place.
TG_API Edge edge_of(const Tensor& t);
// Makes `t` output `slot` of `node`.
TG_API void set_history(const Tensor& t, Ref<Node> node, int slot);
Meta meta_info(const Tensor& t);
// Same memory and version counter, no graph, not a view of anything.
Tensor without_history(const Tensor& t);
// A saved output as a result of its node, so that derivatives of gradients flow through it.
Tensor as_output(const SavedTensor& s, Node& node);
// Node of a recorded call with edges and metas; values are saved by save_values().
Ref<OpNode> make_op_node(const OpDef& op, Args args);
// Keeps what the needed gradients read.
void save_values(OpNode& node, Args args, const Outputs& out);

}  // namespace tg
