// Puts calls on the tape.
#include "autograd/autograd.h"
#include "autograd/node.h"
#include "autograd/saved.h"
#include "ops/ops.h"

namespace tg {

static std::atomic<uint64_t> g_seq{1};
Node::Node() : seq(g_seq.fetch_add(1, std::memory_order_relaxed)) {
  if (TG_UNLIKELY(modes().anomaly))
    made_at = std::make_unique<std::string>(slots().user_stack ? slots().user_stack() : "");
}

OutputHooks& Node::hooks_of(int slot) {
  for (OutputHooks& h : outputs_hooks)
    if (h.slot == slot) return h;
  outputs_hooks.push_back({slot, {}, nullptr});
  return outputs_hooks.back();
}

// A dying node hands its edges to this thread's list instead of recursing into them.
void ref_destroy(Node* n) {
  thread_local std::vector<Node*> pending;
  thread_local bool active = false;
  pending.push_back(n);
  if (active) return;
  active = true;
  while (!pending.empty()) {
    Node* d = pending.back();
    pending.pop_back();
    delete d;
  }
  active = false;
}

std::string OpNode::name() const {
  std::string s;
  bool up = true;
  for (char c : call.op->base) {
    if (c == '_')
      up = true;
    else
      s += up ? char(std::toupper(c)) : c, up = false;
  }
  return s + "Backward0";
}

Ref<OpNode> make_op_node(const OpDef& op, Args args) {
  Ref<OpNode> n = make_ref<OpNode>();
  SavedCall& c = n->call;
  c.op = &op;
  for (const Value& v : args) {
    if (v.is_tensor()) {
      c.first_edge.push_back(c.metas.size());
      c.metas.push_back(meta_info(v.tensor()));
      n->next.push_back(edge_of(v.tensor()));
    } else if (v.kind() == Value::Kind::Tensors) {
      c.first_edge.push_back(c.metas.size());
      for (const Tensor& t : v.tensors()) {
        c.metas.push_back(meta_info(t));
        n->next.push_back(edge_of(t));
      }
    } else {
      c.first_edge.push_back(-1);
    }
  }
  n->seq = g_seq.fetch_add(1, std::memory_order_relaxed);  // after any node edge_of() made
  return n;
}

static Value keep(OpNode& n, const Value& v) {
  SavedCall& c = n.call;
  switch (v.kind()) {
    case Value::Kind::Tensor:
    case Value::Kind::Tensors:
      return {};
    case Value::Kind::Ints:
      c.ints.push_back(std::make_unique<std::vector<int64_t>>(v.ints().begin(), v.ints().end()));
      return Value(IntList(*c.ints.back()));
    case Value::Kind::Floats: {
      auto [p, k] = v.floats();
      c.floats.push_back(std::make_unique<std::vector<double>>(p, p + k));
      return Value(*c.floats.back());
    }
    case Value::Kind::Str:
      c.strings.push_back(std::make_unique<std::string>(v.string()));
      return Value(std::string_view(*c.strings.back()));
    case Value::Kind::Index:
      c.indices.push_back(std::make_unique<std::vector<IndexItem>>(v.index()));
      for (const IndexItem& i : *c.indices.back())
        if (i.kind == IndexItem::Kind::Tensor) n.index_tensors.push_back({i.tensor, i.tensor.version(), -1});
      return Value(*c.indices.back());
    default:
      return v;
  }
}

// Hands what was kept to the hooks.
static void pack_values(OpNode& n) {
  auto packed = std::make_shared<std::vector<std::pair<int, PackedTensor>>>();
  auto pack = [&](SavedTensor& s, int at) {
    if (s.tensor.defined()) packed->emplace_back(at, PackedTensor(s.tensor, s.output >= 0));
    s.tensor = Tensor();
  };
  for (int i = 0; i < n.call.inputs.size(); ++i) pack(n.call.inputs[i], i);
  for (int j = 0; j < n.call.outputs.size(); ++j) pack(n.call.outputs[j], ~j);
  n.packed = std::move(packed);
}

void save_values(OpNode& n, Args args, const Outputs& out) {
  SavedCall& c = n.call;
  const OpSpec& spec = c.op->spec;
  auto wanted = [&](int i) {
    if (c.first_edge[i] < 0) return false;
    int end = c.metas.size();
    for (int j = i + 1; j < c.first_edge.size() && end == c.metas.size(); ++j)
      if (c.first_edge[j] >= 0) end = c.first_edge[j];
    for (int e = c.first_edge[i]; e < end; ++e)
      if (n.next[e]) return true;
    return false;
  };
  if (spec.joint.fn) c.kept = spec.joint.reads;
  for (int i = 0; i < int(spec.grads.size()); ++i)
    if (spec.grads[size_t(i)].fn && wanted(i)) c.kept |= spec.grads[size_t(i)].reads;
  c.inputs.resize(args.n);
  for (int i = 0; i < args.n; ++i) {
    c.values.push_back(keep(n, args[i]));
    if (!(c.kept & in(i)) || !args[i].is_tensor()) continue;
    const Tensor& t = args[i].tensor();
    TG_CHECK(!t.impl()->is_inference, AutogradError, c.op->base, ": input ", i,
             " was made under inference_mode and can't be kept for backward; clone it first; ", describe(t));
    c.inputs[i] = {t, t.version(), -1};
  }
  c.outputs.resize(out.size());
  for (int j = 0; j < out.size(); ++j) {
    c.out_metas.push_back(meta_info(out[j]));
    if (!(c.kept & tg::out(j))) continue;
    // Kept without its history: a node that owned its own output would never be freed.
    Tensor y = without_history(out[j]);
    c.outputs[j] = {y, y.version(), j};
  }
  if (TG_UNLIKELY(saved_hooks_active())) pack_values(n);
}

static void record(const OpDef& op, Args args, Outputs& out) {
  execute(op, args, out);
  Ref<OpNode> n = make_op_node(op, args);
  save_values(*n, args, out);
  for (int j = 0; j < out.size(); ++j)
    if (is_float(out[j].dtype())) set_history(out[j], n, j);
}

static const bool record_installed = [] { return slots().record = record, true; }();

Tensor GradCtx::y(int j) const {
  const SavedTensor& s = call_.outputs[j];
  const OpDef& op = *call_.op;
  TG_CHECK(s.tensor.defined(), AutogradError, op.base,
           ": backward went through this graph a second time, but its saved "
           "values were freed by the first; call backward with retain_graph=True");
  TG_CHECK(s.tensor.version() == s.version, AutogradError, op.base, ": its result (", describe(s.tensor),
           ") is needed for its gradient but was modified in place by ", s.tensor.impl()->storage->last_writer,
           " since; it is at version ", s.tensor.version(), ", expected version ", s.version);
  return modes().grad ? as_output(s, *node_) : s.tensor;
}

Tensor without_history(const Tensor& t) {
  Tensor y = make_view(t, t.sizes(), t.strides(), t.storage_offset());
  y.impl()->base = nullptr;
  return y;
}

Tensor as_output(const SavedTensor& s, Node& node) {
  Tensor y = without_history(s.tensor);
  set_history(y, Ref<Node>(&node), s.output);
  return y;
}

Tensor GradCtx::g_or_zeros(int j) const {
  if (grads_[j].defined()) return grads_[j];
  const Meta& m = call_.out_metas[j];
  return zeros(m.sizes, m.dtype, m.device);
}

}  // namespace tg
