// Module: named parameters, buffers and children, and everything that walks over them. One class for C++ and Python.
//
//   struct Net : nn::Module {
//     nn::Linear a = reg("a", nn::Linear(64, 32));
//     nn::Linear b = reg("b", nn::Linear(32, 10));
//     Tensor forward(const Tensor& x) override { return b(relu(a(x))); }
//   };
//   Net net;                    // or nn::Handle<Net>, which can be put into a Sequential
//   Tensor y = net(x);
#pragma once
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/value.h"

namespace tg::nn {

class Module;
template <class M>
class Handle;

// Marks constructors that only declare the names of a module and leave its tensors undefined (unpickling, copying).
struct Blank {};

// A tensor that modules register as theirs: shares memory with `data`, takes part in the tape.
TG_API Tensor Parameter(const Tensor& data, bool requires_grad = true);

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using NamedModules = std::vector<std::pair<std::string, std::shared_ptr<Module>>>;

// What load_state_dict did not match (only without `strict`).
struct LoadResult {
  std::vector<std::string> missing, unexpected;
};

// A module made by a Python class; defined where Python is known (python/bind_nn.h).
struct PySide;

// A number as Python writes it: 20.0, 1e-05.
TG_API std::string number_text(double d);

class TG_API Module : public std::enable_shared_from_this<Module> {
 public:
  enum class Kind : uint8_t { Parameter, Buffer, Attribute };
  // One named tensor. `at` is a member of the C++ class, or `own` for names added at run time.
  struct Slot {
    std::string name;
    Tensor* at = nullptr;
    Kind kind = Kind::Attribute;  // Attribute: declared, but at present neither parameter nor buffer
    bool persistent = true;       // buffers: part of the state_dict
    bool present = false;         // false after `del module.name`
    std::unique_ptr<Tensor> own;
  };
  struct Child {
    std::string name;
    std::shared_ptr<Module> module;  // may be null, as None in Python
  };
  // Stands around forward while hooks are registered.
  using CallWrapper = std::function<Tensor(Module&, TensorList)>;

  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  // What subclasses write. forward_list is for modules with another number of inputs or outputs.
  virtual Tensor forward(const Tensor& x);
  virtual void forward_list(TensorList xs, Outputs& out);
  // Runs forward, through the hooks if there are any.
  Tensor operator()(const Tensor& x) { return wrapper_ ? (*wrapper_)(*this, TensorList(&x, 1)) : forward(x); }
  void set_call_wrapper(CallWrapper w) { wrapper_ = w ? std::make_unique<CallWrapper>(std::move(w)) : nullptr; }
  bool has_call_wrapper() const { return wrapper_ != nullptr; }

  // "Linear"; by default the name of the C++ class without namespace and a trailing "Impl".
  virtual std::string type_name() const;
  // What stands between the brackets of repr, "in_features=4, out_features=2, bias=True".
  virtual std::string extra_repr() const { return {}; }
  // Children printed as "(0-2): 3 x Linear(...)" where equal in a row (ModuleList).
  virtual bool folds_repr() const { return false; }
  std::string repr() const;

  // ---- registration. A name may not be empty, contain a dot, or be taken by another kind.

  // A member tensor, registered by address: assigning to the member later replaces the parameter (weight tying).
  Tensor& reg(const std::string& name, Tensor& member);
  Tensor& reg_buffer(const std::string& name, Tensor& member, bool persistent = true);
  // A child; returns it, to be used as the initialiser of a member.
  template <class M>
  Handle<M> reg(const std::string& name, Handle<M> child) {
    register_module(name, child.ptr());
    return child;
  }
  template <class H, class = typename H::HandleType>
  H reg(const std::string& name, H child) {
    register_module(name, child.ptr());
    return child;
  }
  void register_parameter(const std::string& name, const Tensor& t);  // undefined: a parameter that is None
  void register_buffer(const std::string& name, const Tensor& t, bool persistent = true);
  void register_module(const std::string& name, std::shared_ptr<Module> m);

  // ---- single names; pointers are valid until the next registration

  Slot* find_slot(std::string_view name);
  const Slot* find_slot(std::string_view name) const { return const_cast<Module*>(this)->find_slot(name); }
  Child* find_child(std::string_view name);
  // The parameter or buffer called `name`; ValueError if there is none.
  Tensor tensor(std::string_view name) const;
  // The child called `name`; ValueError if there is none.
  Module& child(std::string_view name);
  // "a.b.0": ValueError naming the part that is missing.
  std::shared_ptr<Module> get_submodule(std::string_view path);
  bool remove(std::string_view name);
  const std::vector<Slot>& slots() const { return slots_; }
  std::vector<Child>& kids() { return kids_; }
  const std::vector<Child>& kids() const { return kids_; }

  // ---- walks. A tensor or module that is reachable twice appears once.

  NamedTensors named_parameters(const std::string& prefix = "", bool recurse = true, bool dedup = true) const;
  NamedTensors named_buffers(const std::string& prefix = "", bool recurse = true, bool dedup = true) const;
  std::vector<Tensor> parameters(bool recurse = true) const;
  std::vector<Tensor> buffers(bool recurse = true) const;
  // This module (named by the prefix alone; held without ownership if it lives on the stack) and all below it.
  NamedModules named_modules(const std::string& prefix = "", bool dedup = true);
  NamedModules named_children();
  void apply(const std::function<void(Module&)>& f);  // children first

  // ---- state

  // Parameters and persistent buffers with their paths, detached, sharing memory.
  NamedTensors state_dict(const std::string& prefix = "") const;
  // Copies the values in, in place; with `assign` the tensors themselves are taken over. One error names every missing,
  // unexpected and mis-shaped key, before anything is written.
  LoadResult load_state_dict(const NamedTensors& state, bool strict = true, bool assign = false);

  virtual void train(bool on = true);
  void eval() { train(false); }
  void zero_grad(bool set_to_none = true);
  void requires_grad_(bool on = true);
  // Casts floating-point parameters and buffers, moves all; the tensors stay the same objects.
  void to(std::optional<DType> dtype, std::optional<Device> device = {});
  void to(DType dtype) { to(std::optional(dtype)); }
  void to(Device device) { to(std::nullopt, device); }

  bool training = true;

  virtual PySide* py_side() { return nullptr; }

 protected:
  // Registers a member that may be absent until set: the constructor of a layer names its tensors with it.
  void declare(const std::string& name, Tensor& member, Kind kind = Kind::Parameter, bool persistent = true);

 private:
  void check_new_name(const char* what, const std::string& name, bool child) const;
  Slot& slot_for(const std::string& name);
  NamedTensors named(Kind kind, const std::string& prefix, bool recurse, bool dedup) const;
  void walk(const std::string& prefix, const std::function<void(const std::string&, const Module&)>& f,
            int depth = 0) const;
  std::string repr_at(int depth) const;

  std::vector<Slot> slots_;
  std::vector<Child> kids_;
  std::unique_ptr<CallWrapper> wrapper_;
};

// Shared ownership of a module with value syntax: Handle<Net> net(args of Net); net(x); net->parameters().
template <class M>
class Handle {
 public:
  using HandleType = M;
  template <class... A>
    requires std::constructible_from<M, A...>
  explicit(sizeof...(A) == 1) Handle(A&&... a) : p_(std::make_shared<M>(std::forward<A>(a)...)) {}
  Handle(std::shared_ptr<M> p) : p_(std::move(p)) {}
  M* operator->() const { return p_.get(); }
  M& operator*() const { return *p_; }
  const std::shared_ptr<M>& ptr() const { return p_; }
  operator std::shared_ptr<Module>() const { return p_; }
  Tensor operator()(const Tensor& x) const { return static_cast<Module&>(*p_)(x); }
  // Several inputs, or anything else forward takes.
  template <class... A>
    requires(sizeof...(A) != 1)
  auto operator()(A&&... a) const {
    return p_->forward(std::forward<A>(a)...);
  }

 private:
  std::shared_ptr<M> p_;
};

}  // namespace tg::nn
