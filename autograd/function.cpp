// Custom functions: user code with its own backward, from C++ and (through the same node) from Python.
#include <algorithm>

#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tg {

struct FunctionNode final : Node {
  CustomFunction fn;
  FunctionCtx ctx;
  SmallVec<Meta, 2> inputs, outputs;
  bool released = false;

  std::string name() const override { return fn.name + "Backward"; }
  const char* forward() const override { return "a custom function"; }
  int num_outputs() const override { return outputs.size(); }
  void apply(const Tensor* grads, const bool* needs, Tensor* results) override {
    TG_CHECK(
        !released || ctx.saved_.empty(), AutogradError, name(),
        ": backward went through this graph a second time, but its saved values were freed by the first; call backward "
        "with retain_graph=True");
    ctx.node_ = this;
    std::vector<Tensor> r = fn.backward(ctx, {grads, grads + outputs.size()});
    TG_CHECK(int(r.size()) == next.size(), AutogradError, name(), ": backward returned ", r.size(), " gradients for ",
             next.size(), " inputs");
    for (int i = 0; i < next.size(); ++i)
      if (needs[i]) results[i] = r[size_t(i)];
  }
  void release_saved() override {
    released = true;
    for (KeptTensor& s : ctx.saved_) s.release();
  }
  const Meta& input_meta(int i) const override { return inputs[i]; }
  const Meta& output_meta(int j) const override { return outputs[j]; }
};

std::vector<Tensor> FunctionCtx::saved() const {
  if (!node_) return to_save_;  // still in forward
  std::vector<Tensor> out;
  for (const KeptTensor& s : saved_) out.push_back(s.get(name_, node_));
  return out;
}

namespace {

bool holds(const std::vector<Tensor>& list, const Tensor& t) {
  return std::any_of(list.begin(), list.end(), [&](const Tensor& x) { return x.is_same(t); });
}

// Inputs edited in place get a new history, which leaves and views cannot take.
void check_dirty(const std::string& name, const std::vector<Tensor>& dirty, const std::vector<Tensor>& out) {
  for (const Tensor& t : dirty) {
    TG_CHECK(holds(out, t), AutogradError, name,
             ": mark_dirty: an edited input must also be returned; input=", describe(t));
    TG_CHECK(!(t.is_leaf() && t.requires_grad()), AutogradError, name,
             ": mark_dirty: a leaf tensor that requires gradients is being edited in place; input=", describe(t));
    TG_CHECK(!t.is_view(), AutogradError, name,
             ": mark_dirty: a view cannot be edited in place here; input=", describe(t));
    t.bump_version("a custom function");
  }
}

}  // namespace

std::vector<Tensor> apply_function(CustomFunction f, const std::vector<Tensor>& inputs) {
  auto node = make_ref<FunctionNode>();
  bool record = false;
  for (const Tensor& t : inputs) {
    bool needs = modes().grad && t.defined() && t.requires_grad();
    record |= needs;
    node->ctx.needs_.push_back(needs);
    node->next.push_back(needs ? edge_of(t) : Edge{});
    node->inputs.push_back(t.defined() ? meta_info(t) : Meta{});
  }
  node->fn = std::move(f);
  FunctionCtx& ctx = node->ctx;
  ctx.name_ = node->fn.name;
  std::vector<Tensor> out = [&] {
    NoGrad guard;
    return node->fn.forward(ctx, inputs);
  }();
  if (!record) return out;
  check_dirty(ctx.name_, ctx.dirty_, out);
  for (Tensor& t : out) {
    // An input handed through would otherwise get this node as its own history.
    if (holds(inputs, t) && !holds(ctx.dirty_, t)) t = detach(t);
    node->outputs.push_back(meta_info(t));
  }
  for (const Tensor& t : ctx.to_save_) {
    int output = -1;
    for (size_t j = 0; j < out.size(); ++j)
      if (t.defined() && t.is_same(out[j])) output = int(j);
    ctx.saved_.emplace_back(t, output);
  }
  ctx.to_save_.clear();
  for (size_t j = 0; j < out.size(); ++j) {
    bool skip = !is_float(out[j].dtype()) || holds(ctx.non_differentiable_, out[j]);
    if (!skip) set_history(out[j], node, int(j));
  }
  ctx.non_differentiable_.clear();
  ctx.dirty_.clear();
  return out;
}

}  // namespace tg
