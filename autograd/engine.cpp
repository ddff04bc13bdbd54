// The backward pass: nodes in decreasing order of creation, so that a node runs when all its consumers have. No
// recursion; leaves are written at the end, so a failing pass changes no .grad.
#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tg {
namespace {

// ---- seeded mutations (tests only)
struct MutationTable {
  std::mutex m;
  std::map<std::pair<std::string, int>, Mutation> table;
  std::atomic<bool> any{false};
};
MutationTable& mutations() {
  static MutationTable t;
  return t;
}

Tensor mutated(const OpNode& n, int edge, const Tensor& g) {
  MutationTable& t = mutations();
  std::lock_guard lock(t.m);
  int arg = 0;
  while (arg + 1 < n.call.first_edge.size() && (n.call.first_edge[arg] < 0 || n.call.first_edge[arg] < edge)) ++arg;
  auto it = t.table.find({n.call.op->name, arg});
  if (it == t.table.end()) return g;
  const Dims& want = n.call.metas[edge].sizes;
  switch (it->second) {
    case Mutation::Sign:
      return -g;
    case Mutation::Factor:
      return g * 1.5;
    case Mutation::Zero:
      return zeros_like(g);
    case Mutation::Transpose:
      return g.ndim() >= 2 && g.sizes() == want && g.sizes()[0] == g.sizes()[1] ? transpose(g, 0, 1) : flip(g, {-1});
    case Mutation::DropReduction: {
      if (g.sizes() == want) return g * 2.0;
      Tensor r = g;  // keep the first slice where a sum belongs
      while (r.ndim() > want.size()) r = select(r, 0, 0);
      for (int d = 0; d < r.ndim(); ++d)
        if (want[d] == 1 && r.sizes()[d] != 1) r = narrow(r, d, 0, 1);
      return r;
    }
    default:
      return g;
  }
}

// The gradient in the shape, dtype and on the device of its input: broadcasting in the forward pass is a sum here.
Tensor fit(Tensor g, const Meta& want, const Node& node, int i) {
  if (!(g.sizes() == want.sizes)) {
    TG_CHECK(broadcastable_to(want.sizes, g.sizes()), AutogradError, node.name(), ": the gradient of input ", i,
             " has size ", g.sizes(), ", which does not reduce to the input's size ", want.sizes);
    g = sum_to_size(g, want.sizes);
  }
  if (g.dtype() != want.dtype) g = cast(g, want.dtype);
  if (g.device() != want.device) g = to(g, want.device);  // as where a copy went to another device
  return g;
}

void accumulate(Tensor& into, Tensor g) {
  if (!into.defined())
    into = std::move(g);
  else if (!modes().grad && reusable(into))
    add_(into, g);
  else
    into = add(into, g);
}

// Runs the hooks in order; what one returns must be a gradient of the same tensor.
void run_hooks(const std::vector<std::pair<uint64_t, TensorHook>>& hooks, Tensor& g) {
  for (auto& [id, hook] : std::vector(hooks)) {  // a hook may remove itself
    Tensor r = hook(g);
    if (!r.defined()) continue;
    TG_CHECK(r.sizes() == g.sizes() && r.dtype() == g.dtype() && r.device() == g.device(), AutogradError,
             "register_hook: a hook returned ", describe(r), " for the gradient ", describe(g));
    g = r;
  }
}

// Leaves that got a gradient, in order. A few are looked through, more have an index.
struct Leaves {
  static constexpr size_t kFew = 16;
  std::vector<std::pair<Ref<TensorImpl>, Tensor>> list;
  std::unordered_map<const TensorImpl*, size_t> index;

  // Its position, or the end of the list.
  size_t find(const TensorImpl* leaf) const {
    if (list.size() > kFew) {
      auto it = index.find(leaf);
      return it == index.end() ? list.size() : it->second;
    }
    size_t i = 0;
    while (i < list.size() && list[i].first.get() != leaf) ++i;
    return i;
  }
  void add(const Ref<TensorImpl>& leaf) {
    list.emplace_back(leaf, Tensor());
    if (list.size() <= kFew) return;
    for (size_t i = index.size(); i < list.size(); ++i) index.emplace(list[i].first.get(), i);
  }
};

class Run {
 public:
  Run(bool keep, bool create, const std::vector<Tensor>& inputs)
      : keep_(keep), create_(create), filtered_(!inputs.empty()) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      Edge e = edge_of(inputs[i]);
      if (e.node)
        captures_[e.node.get()].push_back({e.slot, Tensor()});
      else if (e.leaf)
        wanted_leaves_.insert(e.leaf.get());
      input_edges_.push_back(std::move(e));
    }
  }

  void seed(const Tensor& root, const Tensor& g) {
    Edge e = edge_of(root);
    if (filtered_ && e.node) find_needed(e.node.get());
    send(e, g);
  }

  void go() {
    GradMode mode(create_);
    const Current current(this);
    AutocastOff in_the_types_of_forward;
    int steps = 0;
    while (!pending_.empty()) {
      auto next = pending_.extract(pending_.begin());
      current.backward_of = next.mapped().node->forward();
      process(*next.mapped().node, next.mapped().grads);
      if ((++steps & 63) == 0 && slots().check_interrupt) slots().check_interrupt();
    }
    current.backward_of = current.outer_backward_of;
    for (auto& [leaf, g] : leaves_.list) run_leaf_hooks(leaf, g);
  }

  void write_leaves() {
    for (auto& [leaf, g] : leaves_.list) write_leaf(Tensor(leaf), g);
  }

  // Only memory that nobody else sees, and nothing that is looked at or changed on the way.
  static Tensor* gradient_so_far(const Node& n, int edge) {
    Run* run = Current::run;
    if (!run || modes().grad || modes().anomaly || mutations().any.load(std::memory_order_relaxed)) return nullptr;
    const size_t at = run->leaves_.find(n.next[edge].leaf.get());
    if (at == run->leaves_.list.size()) return nullptr;
    Tensor& sum = run->leaves_.list[at].second;
    const bool may_add = sum.defined() && reusable(sum) && sum.sizes() == n.input_meta(edge).sizes;
    return may_add ? &sum : nullptr;
  }

  // Gradients of the inputs given to the constructor; undefined where unused.
  std::vector<Tensor> results() {
    std::vector<Tensor> out;
    for (Edge& e : input_edges_) {
      Tensor g;
      if (e.node) {
        for (auto& [slot, t] : captures_[e.node.get()])
          if (slot == e.slot) g = t;
      } else if (e.leaf) {
        if (const size_t at = leaves_.find(e.leaf.get()); at < leaves_.list.size()) g = leaves_.list[at].second;
      }
      out.push_back(g);
    }
    return out;
  }

 private:
  // The backward pass that this thread is in; a rule may begin another.
  struct Current {
    static inline thread_local Run* run = nullptr;
    Run* const outer = run;
    const char*& backward_of = modes().backward_of;
    const char* const outer_backward_of = backward_of;
    explicit Current(Run* r) { run = r; }
    ~Current() {
      run = outer;
      backward_of = outer_backward_of;
    }
  };
  struct Pending {
    Ref<Node> node;
    SmallVec<Tensor, 1> grads;
  };

  void send(const Edge& e, Tensor g) {
    if (e.leaf) {
      if (filtered_ && !wanted_leaves_.count(e.leaf.get())) return;
      const size_t at = leaves_.find(e.leaf.get());
      if (at == leaves_.list.size()) leaves_.add(e.leaf);
      accumulate(leaves_.list[at].second, std::move(g));
      return;
    }
    auto [it, fresh] = pending_.try_emplace(e.node->seq);
    if (fresh) {
      it->second.node = e.node;
      it->second.grads.resize(e.node->num_outputs());
    }
    accumulate(it->second.grads[e.slot], std::move(g));
  }

  // Nodes from which a wanted input can be reached, by an explicit-stack post-order walk.
  void find_needed(Node* root) {
    std::vector<std::pair<Node*, int>> stack{{root, 0}};
    visited_.insert(root);
    while (!stack.empty()) {
      auto& [n, i] = stack.back();
      if (i < n->next.size()) {
        const Edge& e = n->next[i++];
        Node* self = n;
        if (e.leaf && wanted_leaves_.count(e.leaf.get())) needed_.insert(self);
        if (e.node && visited_.insert(e.node.get()).second) stack.push_back({e.node.get(), 0});
        continue;
      }
      Node* done = n;
      stack.pop_back();
      for (const Edge& e : done->next)
        if (e.node && (needed_.count(e.node.get()) || captures_.count(e.node.get()))) needed_.insert(done);
    }
  }

  bool wants(const Edge& e) const {
    if (!e) return false;
    if (!filtered_) return true;
    return e.leaf ? wanted_leaves_.count(e.leaf.get()) > 0
                  : needed_.count(e.node.get()) > 0 || captures_.count(e.node.get()) > 0;
  }

  static void run_leaf_hooks(const Ref<TensorImpl>& leaf, Tensor& g) {
    if (AutogradMeta* m = find_meta(Tensor(leaf))) run_hooks(m->hooks, g);
  }

  void process(Node& n, SmallVec<Tensor, 1>& grads) {
    for (OutputHooks& h : n.outputs_hooks) {
      Tensor& g = grads[h.slot];
      if (!g.defined()) continue;
      run_hooks(h.hooks, g);
      if (h.retained) *h.retained = h.retained->defined() ? add(*h.retained, g) : g;
    }
    if (filtered_) {
      if (auto it = captures_.find(&n); it != captures_.end())
        for (auto& [slot, t] : it->second) t = grads[slot];
      if (!needed_.count(&n)) return;
    }
    int k = n.next.size();
    SmallVec<bool, 4> needs(k);
    SmallVec<Tensor, 4> results(k);
    for (int i = 0; i < k; ++i) needs[i] = wants(n.next[i]);
    apply(n, grads.data(), needs.data(), results.data());
    for (int i = 0; i < k; ++i) {
      if (!needs[i] || !results[i].defined()) continue;
      Tensor g = std::move(results[i]);
      if (TG_UNLIKELY(mutations().any.load(std::memory_order_relaxed)))
        if (auto* op = dynamic_cast<OpNode*>(&n)) g = mutated(*op, i, g);
      send(n.next[i], fit(std::move(g), n.input_meta(i), n, i));
    }
    if (!keep_) n.release_saved();
  }

  void apply(Node& n, const Tensor* grads, const bool* needs, Tensor* results) {
    try {
      n.apply(grads, needs, results);
    } catch (Error& e) {
      if (n.made_at) e.text += "\nThe forward call was made at:\n" + *n.made_at;
      throw;
    }
    if (TG_LIKELY(!modes().anomaly)) return;
    for (int i = 0; i < n.next.size(); ++i)
      if (needs[i] && results[i].defined() && is_float(results[i].dtype()))
        TG_CHECK(!any(isnan(results[i])).item<bool>(), AutogradError, n.name(),
                 ": returned nan for the gradient of input ", i,
                 n.made_at ? "; the forward call was made at:\n" + *n.made_at
                           : std::string("; enable anomaly detection "
                                         "around the forward pass as well to see where it was made"));
  }

  // In place when .grad exists, so that its identity and aliases stay valid, unless the sum itself must be recorded.
  void write_leaf(const Tensor& leaf, const Tensor& g) {
    if (!g.defined()) return;
    AutogradMeta& m = meta_of(leaf);
    GradMode mode(create_);
    if (!m.grad.defined())
      m.grad = create_ ? g : owned_copy(g);
    else if (create_)
      m.grad = add(m.grad, g);
    else
      add_(m.grad, g);
    for (auto& [id, hook] : std::vector(m.post_accumulate)) hook(leaf);
  }
  static Tensor owned_copy(const Tensor& g) {
    const bool mine = unshared(g) && g.is_contiguous() && !g.requires_grad();
    return mine ? g : clone(g.requires_grad() ? detach(g) : g);
  }

  bool keep_, create_, filtered_;
  std::map<uint64_t, Pending, std::greater<>> pending_;  // by sequence number, which names one node
  Leaves leaves_;
  std::vector<Edge> input_edges_;
  std::unordered_map<Node*, std::vector<std::pair<int, Tensor>>> captures_;
  std::unordered_set<TensorImpl*> wanted_leaves_;
  std::unordered_set<Node*> needed_, visited_;
};

void seed_all(Run& run, const char* what, const std::vector<Tensor>& roots, const std::vector<Tensor>& grads,
              bool create) {
  GradMode mode(create);
  TG_CHECK(grads.empty() || grads.size() == roots.size(), ValueError, what, ": got ", grads.size(), " gradients for ",
           roots.size(), " tensors");
  for (size_t i = 0; i < roots.size(); ++i) {
    const Tensor& r = roots[i];
    TG_CHECK(r.defined() && r.requires_grad(), AutogradError, what, ": tensor ", i,
             " does not require gradients and has no grad_fn; self=", describe(r));
    Tensor g = i < grads.size() ? grads[i] : Tensor();
    if (!g.defined()) {
      TG_CHECK(r.numel() == 1, AutogradError, what,
               ": gradients are created implicitly only for one-element tensors, got ", describe(r));
      g = ones(r.sizes(), r.dtype(), r.device());
    }
    TG_CHECK(g.sizes() == r.sizes(), ShapeError, what, ": gradient ", i, " has size ", g.sizes(), ", the tensor ",
             r.sizes());
    TG_CHECK(g.device() == r.device(), DeviceError, what, ": gradient ", i,
             " must be on the device of its tensor; gradient=", describe(g), ", tensor=", describe(r));
    if (g.dtype() != r.dtype()) g = cast(g, r.dtype());
    run.seed(r, g);
  }
}

const bool gradient_so_far_installed = [] { return slots().gradient_so_far = Run::gradient_so_far, true; }();

}  // namespace

// The call with what hooks have packed; shares lists with the original.
SavedCall OpNode::unpack_values() const {
  SavedCall c;
  c.op = call.op;
  c.kept = call.kept;
  c.values = call.values;
  c.metas = call.metas;
  c.first_edge = call.first_edge;
  c.out_metas = call.out_metas;
  c.inputs = call.inputs;
  c.outputs = call.outputs;
  for (const auto& [at, value] : *packed) {
    SavedTensor& s = at >= 0 ? c.inputs[at] : c.outputs[~at];
    s.tensor = value.unpack(name());
    s.version = s.tensor.version();
  }
  return c;
}

void OpNode::apply(const Tensor* grads, const bool* needs, Tensor* results) {
  TG_CHECK(
      !released || call.kept == 0, AutogradError, name(),
      ": backward went through this graph a second time, but its saved values were freed by the first; call backward "
      "with retain_graph=True");
  for (const SavedTensor& s : index_tensors)
    TG_CHECK(s.tensor.version() == s.version, AutogradError, call.op->base, ": an index tensor (", describe(s.tensor),
             ") is needed for its gradient but was modified in place by ", s.tensor.impl()->storage->last_writer,
             " since");
  std::optional<SavedCall> unpacked;
  if (TG_UNLIKELY(packed != nullptr)) unpacked = unpack_values();
  GradCtx ctx(unpacked ? *unpacked : call, this, grads, needs, results);
  const OpSpec& spec = call.op->spec;
  if (spec.joint.fn) return spec.joint.fn(ctx);
  for (int i = 0; i < int(spec.grads.size()); ++i)
    if (spec.grads[size_t(i)].fn && ctx.needs(i)) ctx.set(i, spec.grads[size_t(i)].fn(ctx));
}

void OpNode::release_saved() {
  for (auto& s : call.inputs) s.tensor = Tensor();
  for (auto& s : call.outputs) s.tensor = Tensor();
  packed.reset();
  released = true;
}

void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& grads, bool retain_graph, bool create_graph,
              const std::vector<Tensor>& inputs) {
  Run run(retain_graph || create_graph, create_graph, inputs);
  seed_all(run, "backward", roots, grads, create_graph);
  run.go();
  std::vector<Tensor> found;
  if (!inputs.empty()) found = run.results();
  for (size_t i = 0; i < found.size(); ++i)
    TG_CHECK(!found[i].defined() || inputs[i].is_leaf(), AutogradError, "backward: input ", i,
             " is not a leaf; use grad() instead");
  found.clear();
  run.write_leaves();
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const std::vector<Tensor>& grad_outputs, bool retain_graph, bool create_graph,
                         bool allow_unused) {
  TG_CHECK(!inputs.empty(), ValueError, "grad: needs at least one input");
  for (size_t i = 0; i < inputs.size(); ++i)
    TG_CHECK(inputs[i].defined() && inputs[i].requires_grad(), AutogradError, "grad: input ", i,
             " does not require gradients; ", describe(inputs[i]));
  Run run(retain_graph || create_graph, create_graph, inputs);
  seed_all(run, "grad", outputs, grad_outputs, create_graph);
  run.go();
  std::vector<Tensor> out = run.results();
  for (size_t i = 0; i < out.size(); ++i)
    TG_CHECK(allow_unused || out[i].defined(), AutogradError, "grad: input ", i, " (", describe(inputs[i]),
             ") was not used in the graph; pass allow_unused=True if that is intended");
  return out;
}

void Tensor::backward(const Tensor& gradient, bool retain_graph, bool create_graph) const {
  tg::backward({*this}, {gradient}, retain_graph, create_graph);
}

void mutate_gradient(const std::string& op, int input, Mutation m) {
  MutationTable& t = mutations();
  std::lock_guard lock(t.m);
  if (m == Mutation::None)
    t.table.erase({op, input});
  else
    t.table[{op, input}] = m;
  t.any = !t.table.empty();
}

}  // namespace tg
