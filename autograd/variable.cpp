// The autograd side of a tensor: leaf flag, history, gradient, hooks.
#include "autograd/autograd.h"

#include <algorithm>
#include <unordered_set>

#include "autograd/node.h"
#include "core/graph.h"
#include "ops/ops.h"

namespace tg {

AutogradMeta* find_meta(const Tensor& t) { return static_cast<AutogradMeta*>(t.impl()->autograd.get()); }

AutogradMeta& meta_of(const Tensor& t) {
  auto& p = t.impl()->autograd;
  if (!p) p = std::make_unique<AutogradMeta>();
  return static_cast<AutogradMeta&>(*p);
}

Meta meta_info(const Tensor& t) { return {t.sizes(), t.dtype(), t.device()}; }

void set_history(const Tensor& t, Ref<Node> node, int slot) {
  AutogradMeta& m = meta_of(t);
  m.grad_fn = std::move(node);
  m.slot = slot;
  t.impl()->requires_grad = true;
  t.impl()->view_version = t.version();
}

Edge edge_of(const Tensor& t) {
  TensorImpl* p = t.impl();
  if (p->base && p->base->requires_grad && !p->untracked_view && t.version() != p->view_version)
    rebuild_view_history(t);
  AutogradMeta* m = find_meta(t);
  if (m && m->grad_fn) return {m->grad_fn, nullptr, m->slot};
  if (p->requires_grad) return {nullptr, t.ref(), 0};
  return {};
}

const Tensor& Tensor::set_requires_grad(bool on) const {
  TG_CHECK(defined(), ValueError, "requires_grad_: undefined tensor");
  if (on == impl_->requires_grad && is_leaf()) return *this;
  TG_CHECK(is_leaf(), AutogradError, "requires_grad_: only leaf tensors can change the flag; self=", describe(*this),
           "; use detach() to cut it from its graph");
  TG_CHECK(!on || is_float(dtype()), DTypeError,
           "requires_grad_: only floating-point tensors can require gradients, got ", dtype(),
           "; self=", describe(*this));
  TG_CHECK(!on || !impl_->is_inference, AutogradError,
           "requires_grad_: the tensor was made under inference_mode; clone it");
  impl_->requires_grad = on;
  return *this;
}

std::vector<const TensorImpl*> leaves_reached(const Tensor& t) {
  std::unordered_set<const Node*> seen;
  std::vector<Ref<Node>> todo;
  std::vector<std::pair<uint64_t, const TensorImpl*>> found;  // with the number of the node that leads there
  auto follow = [&](const Edge& edge, uint64_t from) {
    if (edge.leaf) found.push_back({from, edge.leaf.get()});
    if (edge.node && seen.insert(edge.node.get()).second) todo.push_back(edge.node);
  };
  follow(edge_of(t), 0);
  while (!todo.empty()) {
    const Ref<Node> node = std::move(todo.back());
    todo.pop_back();
    for (const Edge& next : node->next) follow(next, node->seq);
  }
  std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.first > b.first; });  // as the engine
  std::vector<const TensorImpl*> leaves;
  for (auto& [seq, leaf] : found) leaves.push_back(leaf);
  return leaves;
}

Ref<Node> Tensor::grad_fn() const {
  if (!defined()) return nullptr;
  return edge_of(*this).node;
}

bool Tensor::is_leaf() const {
  if (!defined()) return true;
  return !edge_of(*this).node;
}

Tensor Tensor::grad() const {
  AutogradMeta* m = defined() ? find_meta(*this) : nullptr;
  if (!m) return {};
  return m->retained ? *m->retained : m->grad;
}

void Tensor::set_grad(const Tensor& g) const {
  if (g.defined()) {
    TG_CHECK(g.sizes() == sizes(), ShapeError, "grad: a gradient of size ", g.sizes(),
             " does not fit a tensor of size ", sizes());
    TG_CHECK(g.dtype() == dtype(), DTypeError, "grad: a gradient of type ", g.dtype(),
             " does not fit a tensor of type ", dtype());
    TG_CHECK(g.device() == device(), DeviceError, "grad: a gradient on ", g.device(), " does not fit a tensor on ",
             device());
    TG_CHECK(!g.is_same(*this), ValueError, "grad: a tensor can't be its own gradient");
  } else if (!find_meta(*this)) {
    return;
  }
  AutogradMeta& m = meta_of(*this);
  if (m.retained)
    *m.retained = g;
  else
    m.grad = g;
}

void Tensor::retain_grad() const {
  TG_CHECK(requires_grad(), AutogradError,
           "retain_grad: the tensor does not require gradients; self=", describe(*this));
  Edge e = edge_of(*this);
  if (!e.node) return;
  OutputHooks& h = e.node->hooks_of(e.slot);
  if (!h.retained) h.retained = std::make_shared<Tensor>();
  meta_of(*this).retained = h.retained;
}

namespace {
std::atomic<uint64_t> g_hook_id{1};
template <class V>
bool erase_id(V& v, uint64_t id) {
  return std::erase_if(v, [&](auto& p) { return p.first == id; }) > 0;
}
}  // namespace

uint64_t add_hook(const Tensor& t, TensorHook hook) {
  TG_CHECK(t.defined() && t.requires_grad(), AutogradError,
           "register_hook: the tensor does not require gradients; self=", describe(t));
  uint64_t id = g_hook_id++;
  Edge e = edge_of(t);
  if (e.node)
    e.node->hooks_of(e.slot).hooks.emplace_back(id, std::move(hook));
  else
    meta_of(t).hooks.emplace_back(id, std::move(hook));
  return id;
}

uint64_t add_post_accumulate_hook(const Tensor& t, std::function<void(const Tensor&)> hook) {
  TG_CHECK(t.defined() && t.requires_grad() && t.is_leaf(), AutogradError,
           "register_post_accumulate_grad_hook: expected a leaf that requires gradients; self=", describe(t));
  uint64_t id = g_hook_id++;
  meta_of(t).post_accumulate.emplace_back(id, std::move(hook));
  return id;
}

bool remove_hook(const Tensor& t, uint64_t id) {
  bool found = false;
  if (AutogradMeta* m = find_meta(t)) {
    found = erase_id(m->hooks, id) || erase_id(m->post_accumulate, id);
    if (m->grad_fn)
      for (OutputHooks& h : m->grad_fn->outputs_hooks) found = erase_id(h.hooks, id) || found;
  }
  return found;
}

void set_data(const Tensor& t, const Tensor& data) {
  TG_CHECK(data.defined(), TypeError, "data: expected a tensor");
  TensorImpl *p = t.impl(), *d = data.impl();
  TG_CHECK(!p->requires_grad || is_float(d->dtype), DTypeError, "data: a tensor that requires gradients can't become ",
           d->dtype, "; self=", describe(t));
  p->storage = d->storage;
  p->offset = d->offset;
  p->numel = d->numel;
  p->dtype = d->dtype;
  p->contiguous = d->contiguous;
  p->sizes = d->sizes;
  p->strides = d->strides;
  p->base = nullptr;
}

void detach_(const Tensor& t) {
  TG_CHECK(!t.is_view(), AutogradError, "detach_: views can't be detached in place; use detach(); self=", describe(t));
  if (AutogradMeta* m = find_meta(t)) {
    m->grad_fn = nullptr;
    m->retained = nullptr;
  }
  t.impl()->requires_grad = false;
}

static std::string backward_name(const Tensor& t) { return "<" + t.grad_fn()->name() + ">"; }
static const bool name_installed = [] { return grad_fn_name = backward_name, true; }();

}  // namespace tg
