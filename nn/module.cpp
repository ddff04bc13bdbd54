#include "nn/module.h"

#include <cxxabi.h>

#include <cmath>
#include <cstring>

#include <unordered_set>

#include "ops/ops.h"

namespace tg::nn {
namespace {

// Deeper than any real model; a child that contains its parent ends here instead of on the stack guard.
constexpr int kMaxDepth = 500;

// Counts the levels of a recursion that goes through virtual functions.
class DepthGuard {
 public:
  explicit DepthGuard(const char* what) {
    TG_CHECK(depth_ < kMaxDepth, ValueError, what, ": more than ", kMaxDepth, " levels; does a module contain itself?");
    ++depth_;
  }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  static thread_local int depth_;
};
thread_local int DepthGuard::depth_ = 0;

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

std::string indent(const std::string& text, int spaces) {
  std::string out, pad(size_t(spaces), ' ');
  for (char c : text) {
    out += c;
    if (c == '\n') out += pad;
  }
  return out;
}

template <class V>
std::string quoted(const V& names) {
  std::string s;
  for (auto& n : names) s += (s.empty() ? "\"" : ", \"") + n + "\"";
  return s;
}

}  // namespace

std::string number_text(double d) {
  if (!std::isfinite(d)) return std::isnan(d) ? "nan" : d > 0 ? "inf" : "-inf";
  char buf[64];
  int digits = 0;  // after the first, as few as give the same number back
  do std::snprintf(buf, sizeof buf, "%.*e", digits, d);
  while (std::strtod(buf, nullptr) != d && digits++ < 17);
  int exponent = std::atoi(std::strchr(buf, 'e') + 1);
  if (exponent < -4 || exponent >= 16) return buf;
  std::snprintf(buf, sizeof buf, "%.*f", std::max(1, digits - exponent), d);
  return buf;
}

Tensor Parameter(const Tensor& data, bool requires_grad) {
  TG_CHECK(data.defined(), TypeError, "Parameter: expected a tensor");
  TG_CHECK(!requires_grad || is_float(data.dtype()), DTypeError,
           "Parameter: only floating-point tensors can require gradients; data=", describe(data));
  Tensor t = make_view(data, data.sizes(), data.strides(), data.storage_offset());
  t.impl()->base.reset();
  t.impl()->is_inference = false;
  t.impl()->is_parameter = true;
  t.impl()->requires_grad = requires_grad;
  return t;
}

// ---- calling

Tensor Module::forward(const Tensor&) {
  fail<NotImplementedError>("forward: ", type_name(), " does not define forward for one tensor");
}

void Module::forward_list(TensorList xs, Outputs& out) {
  TG_CHECK(xs.size() == 1, TypeError, "forward: ", type_name(), " takes 1 tensor, got ", xs.size());
  out.push_back(forward(xs[0]));
}

std::string Module::type_name() const {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status),
                                              std::free);
  std::string s = status == 0 ? text.get() : typeid(*this).name();
  s = s.substr(0, s.find('<'));
  if (size_t colon = s.rfind(':'); colon != s.npos) s = s.substr(colon + 1);
  if (s.size() > 4 && s.ends_with("Impl")) s.resize(s.size() - 4);
  return s;
}

// ---- registration

void Module::check_new_name(const char* what, const std::string& name, bool is_child) const {
  TG_CHECK(!name.empty(), ValueError, what, ": the name can't be empty");
  TG_CHECK(name.find('.') == name.npos, ValueError, what, ": the name can't contain \".\", got '", name, "'");
  const Slot* s = find_slot(name);
  bool tensor_taken = is_child && s && s->present && s->kind != Kind::Attribute;
  bool child_taken = !is_child && const_cast<Module*>(this)->find_child(name);
  TG_CHECK(!tensor_taken && !child_taken, ValueError, what, ": ", type_name(), " already has an attribute '", name,
           "'");
}

Module::Slot* Module::find_slot(std::string_view name) {
  for (Slot& s : slots_)
    if (s.name == name) return &s;
  return nullptr;
}

Module::Child* Module::find_child(std::string_view name) {
  for (Child& c : kids_)
    if (c.name == name) return &c;
  return nullptr;
}

Module::Slot& Module::slot_for(const std::string& name) {
  if (Slot* s = find_slot(name)) return *s;
  Slot& s = slots_.emplace_back();
  s.name = name;
  s.own = std::make_unique<Tensor>();
  s.at = s.own.get();
  return s;
}

void Module::declare(const std::string& name, Tensor& member, Kind kind, bool persistent) {
  slots_.push_back({name, &member, kind, persistent, true, nullptr});
}

Tensor& Module::reg(const std::string& name, Tensor& member) {
  check_new_name("reg", name, false);
  if (member.defined() && !member.impl()->is_parameter) member = Parameter(member, is_float(member.dtype()));
  declare(name, member);
  return member;
}

Tensor& Module::reg_buffer(const std::string& name, Tensor& member, bool persistent) {
  check_new_name("reg_buffer", name, false);
  declare(name, member, Kind::Buffer, persistent);
  return member;
}

void Module::register_parameter(const std::string& name, const Tensor& t) {
  check_new_name("register_parameter", name, false);
  TG_CHECK(!t.defined() || t.impl()->is_parameter, TypeError, "register_parameter: '", name,
           "' must be a Parameter or None; got ", describe(t));
  Slot& s = slot_for(name);
  *s.at = t;
  s.kind = Kind::Parameter;
  s.present = true;
}

void Module::register_buffer(const std::string& name, const Tensor& t, bool persistent) {
  check_new_name("register_buffer", name, false);
  Slot& s = slot_for(name);
  TG_CHECK(!s.present || s.kind != Kind::Parameter, ValueError, "register_buffer: ", type_name(),
           " already has a parameter '", name, "'");
  *s.at = t;
  s.kind = Kind::Buffer;
  s.persistent = persistent;
  s.present = true;
}

void Module::register_module(const std::string& name, std::shared_ptr<Module> m) {
  check_new_name("register_module", name, true);
  if (Child* c = find_child(name))
    c->module = std::move(m);
  else
    kids_.push_back({name, std::move(m)});
}

bool Module::remove(std::string_view name) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& s = slots_[i];
    if (s.name != name || !s.present) continue;
    *s.at = {};
    s.present = false;
    s.kind = Kind::Attribute;
    if (s.own) slots_.erase(slots_.begin() + ptrdiff_t(i));
    return true;
  }
  return std::erase_if(kids_, [&](const Child& c) { return c.name == name; }) > 0;
}

Tensor Module::tensor(std::string_view name) const {
  const Slot* s = find_slot(name);
  TG_CHECK(s && s->present, ValueError, "tensor: ", type_name(), " has no parameter or buffer '", name, "'");
  return *s->at;
}

Module& Module::child(std::string_view name) {
  Child* c = find_child(name);
  TG_CHECK(c && c->module, ValueError, "child: ", type_name(), " has no module '", name, "'");
  return *c->module;
}

std::shared_ptr<Module> Module::get_submodule(std::string_view path) {
  Module* at = this;
  std::shared_ptr<Module> found;
  while (!path.empty()) {
    size_t dot = path.find('.');
    std::string_view name = path.substr(0, dot);
    Child* c = at->find_child(name);
    TG_CHECK(c && c->module, ValueError, "get_submodule: ", at->type_name(), " has no module '", name, "'");
    found = c->module;
    at = found.get();
    path = dot == path.npos ? std::string_view() : path.substr(dot + 1);
  }
  return found ? found : shared_from_this();
}

// ---- walks

void Module::walk(const std::string& prefix, const std::function<void(const std::string&, const Module&)>& f,
                  int depth) const {
  TG_CHECK(depth < kMaxDepth, ValueError, "Module: more than ", kMaxDepth, " levels at '", prefix.substr(0, 80),
           "...'; does a module contain itself?");
  f(prefix, *this);
  for (const Child& c : kids_)
    if (c.module) c.module->walk(join(prefix, c.name), f, depth + 1);
}

NamedTensors Module::named(Kind kind, const std::string& prefix, bool recurse, bool dedup) const {
  NamedTensors out;
  std::unordered_set<const TensorImpl*> seen;
  std::unordered_set<const Module*> visited;
  auto own = [&](const std::string& at, const Module& m) {
    if (dedup && !visited.insert(&m).second) return;
    for (const Slot& s : m.slots_)
      if (s.kind == kind && s.at->defined() && (!dedup || seen.insert(s.at->impl()).second))
        out.emplace_back(join(at, s.name), *s.at);
  };
  if (recurse)
    walk(prefix, own);
  else
    own(prefix, *this);
  return out;
}

NamedTensors Module::named_parameters(const std::string& prefix, bool recurse, bool dedup) const {
  return named(Kind::Parameter, prefix, recurse, dedup);
}
NamedTensors Module::named_buffers(const std::string& prefix, bool recurse, bool dedup) const {
  return named(Kind::Buffer, prefix, recurse, dedup);
}

static std::vector<Tensor> tensors_of(NamedTensors named) {
  std::vector<Tensor> out;
  for (auto& [n, t] : named) out.push_back(std::move(t));
  return out;
}
std::vector<Tensor> Module::parameters(bool recurse) const { return tensors_of(named_parameters("", recurse)); }
std::vector<Tensor> Module::buffers(bool recurse) const { return tensors_of(named_buffers("", recurse)); }

NamedModules Module::named_modules(const std::string& prefix, bool dedup) {
  NamedModules out;
  std::unordered_set<const Module*> seen;
  std::function<void(const std::string&, std::shared_ptr<Module>, int)> go;
  go = [&](const std::string& at, std::shared_ptr<Module> m, int depth) {
    TG_CHECK(depth < kMaxDepth, ValueError, "named_modules: more than ", kMaxDepth, " levels");
    if (!seen.insert(m.get()).second && dedup) return;
    out.emplace_back(at, m);
    for (const Child& c : m->kids_)
      if (c.module) go(join(at, c.name), c.module, depth + 1);
  };
  auto self = weak_from_this().lock();
  go(prefix, self ? self : std::shared_ptr<Module>(std::shared_ptr<void>(), this), 0);
  return out;
}

NamedModules Module::named_children() {
  NamedModules out;
  std::unordered_set<const Module*> seen;
  for (const Child& c : kids_)
    if (c.module && seen.insert(c.module.get()).second) out.emplace_back(c.name, c.module);
  return out;
}

void Module::apply(const std::function<void(Module&)>& f) {
  DepthGuard guard("apply");
  for (auto& [name, m] : named_children()) m->apply(f);
  f(*this);
}

// ---- state

NamedTensors Module::state_dict(const std::string& prefix) const {
  NamedTensors out;
  walk(prefix, [&](const std::string& at, const Module& m) {
    for (Kind kind : {Kind::Parameter, Kind::Buffer})
      for (const Slot& s : m.slots_)
        if (s.kind == kind && s.at->defined() && (kind == Kind::Parameter || s.persistent))
          out.emplace_back(join(at, s.name), s.at->detach());
  });
  return out;
}

LoadResult Module::load_state_dict(const NamedTensors& state, bool strict, bool assign) {
  std::unordered_map<std::string_view, const Tensor*> given;
  for (auto& [name, t] : state) given.emplace(name, &t);
  std::unordered_set<std::string> known;
  LoadResult result;
  std::string errors;
  std::vector<std::pair<const Slot*, const Tensor*>> todo;
  walk("", [&](const std::string& at, const Module& m) {
    for (const Slot& s : m.slots_) {
      bool wanted = s.at->defined() && (s.kind == Kind::Parameter || (s.kind == Kind::Buffer && s.persistent));
      if (!wanted) continue;
      std::string path = join(at, s.name);
      known.insert(path);
      auto it = given.find(path);
      if (it == given.end()) {
        result.missing.push_back(path);
      } else if (!it->second->defined() || it->second->sizes() != s.at->sizes()) {
        errors += str("\n\tsize mismatch for ", path, ": copying a param with shape ",
                      it->second->defined() ? str(it->second->sizes()) : "of no tensor",
                      " from checkpoint, the shape in current model is ", s.at->sizes(), ".");
      } else {
        todo.emplace_back(&s, it->second);
      }
    }
  });
  for (auto& [name, t] : state)
    if (!known.count(name)) result.unexpected.push_back(name);
  if (strict) {
    std::string keys;
    if (!result.missing.empty()) keys += str("\n\tMissing key(s) in state_dict: ", quoted(result.missing), ".");
    if (!result.unexpected.empty())
      keys += str("\n\tUnexpected key(s) in state_dict: ", quoted(result.unexpected), ".");
    errors = keys + errors;
  }
  TG_CHECK(errors.empty(), ShapeError, "load_state_dict: Error(s) in loading state_dict for ", type_name(), ":",
           errors);
  NoGrad guard;
  for (auto& [slot, t] : todo) {
    if (!assign)
      copy_(*slot->at, *t);
    else if (slot->kind == Kind::Parameter)
      *slot->at = Parameter(*t, slot->at->requires_grad());
    else
      *slot->at = *t;
  }
  return result;
}

void Module::train(bool on) {
  DepthGuard guard("train");
  training = on;
  for (auto& [name, m] : named_children()) m->train(on);
}

void Module::zero_grad(bool set_to_none) {
  NoGrad guard;
  for (const Tensor& p : parameters()) {
    Tensor g = p.grad();
    if (!g.defined()) continue;
    if (set_to_none)
      p.set_grad({});
    else
      zero_(g);
  }
}

void Module::requires_grad_(bool on) {
  for (const Tensor& p : parameters()) p.set_requires_grad(on);
}

void Module::to(std::optional<DType> dtype, std::optional<Device> device) {
  TG_CHECK(!dtype || is_float(*dtype), DTypeError, "to: modules can only be cast to floating-point types, got ",
           name(dtype.value_or(DType::F32)));
  NoGrad guard;
  auto move = [&](const Tensor& t) {
    DType want = dtype && is_float(t.dtype()) ? *dtype : t.dtype();
    Device at = device.value_or(t.device());
    if (want == t.dtype() && at == t.device()) return;
    Tensor grad = t.grad();
    Tensor moved = want == t.dtype() ? t.detach() : tg::to(t.detach(), want);
    if (at != t.device()) moved = tg::to(moved, at);
    if (grad.defined()) t.set_grad({});
    set_data(t, moved);
    if (grad.defined()) {
      grad = want == grad.dtype() ? grad.detach() : tg::to(grad.detach(), want);
      t.set_grad(at == grad.device() ? grad : tg::to(grad, at));
    }
  };
  for (const Tensor& p : parameters()) move(p);
  for (const Tensor& b : buffers()) move(b);
}

// ---- repr

std::string Module::repr_at(int depth) const {
  TG_CHECK(depth < kMaxDepth, ValueError, "repr: more than ", kMaxDepth, " levels; does a module contain itself?");
  std::string extra = extra_repr();
  std::vector<std::pair<std::string, std::string>> lines;  // name, text
  std::vector<std::pair<int, int>> range;                  // first and last index of equal neighbours
  for (size_t i = 0; i < kids_.size(); ++i) {
    const auto& m = kids_[i].module;
    std::string text = m ? m->repr_at(depth + 1) : "None";
    if (folds_repr() && !lines.empty() && lines.back().second == text) {
      range.back().second = int(i);
      continue;
    }
    lines.emplace_back(kids_[i].name, std::move(text));
    range.emplace_back(int(i), int(i));
  }
  if (lines.empty() && extra.find('\n') == extra.npos) return type_name() + "(" + extra + ")";
  std::string out = type_name() + "(";
  if (!extra.empty()) out += "\n  " + indent(extra, 2);
  for (size_t i = 0; i < lines.size(); ++i) {
    auto [first, last] = range[i];
    std::string head =
        first == last ? "(" + lines[i].first + "): " : str("(", first, "-", last, "): ", last - first + 1, " x ");
    out += "\n  " + indent(head + lines[i].second, 2);
  }
  return out + "\n)";
}

std::string Module::repr() const { return repr_at(0); }

}  // namespace tg::nn
