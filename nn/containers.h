// Modules that hold modules or parameters.
#pragma once
#include "nn/module.h"

namespace tg::nn {

// Modules in a row, named "0", "1", ...
class TG_API ModuleListImpl : public Module {
 public:
  ModuleListImpl() = default;
  explicit ModuleListImpl(Blank) {}
  template <class... M>
    requires(sizeof...(M) > 0 && (std::convertible_to<M, std::shared_ptr<Module>> && ...))
  explicit ModuleListImpl(const M&... modules) {
    (append(modules), ...);
  }
  void append(std::shared_ptr<Module> m) { register_module(std::to_string(kids().size()), std::move(m)); }
  int64_t size() const { return int64_t(kids().size()); }
  // Negative positions count from the end; IndexError outside of the range.
  const std::shared_ptr<Module>& at(int64_t i) const;
  Module& operator[](int64_t i) const;
  // The i-th module as the type it was made with.
  template <class M>
  M& get(int64_t i) const {
    M* m = dynamic_cast<M*>(&(*this)[i]);
    TG_CHECK(m, TypeError, type_name(), ": module ", i, " is a ", (*this)[i].type_name());
    return *m;
  }
  // Puts `m` before position i / takes position i out; the names stay consecutive.
  void insert(int64_t i, std::shared_ptr<Module> m);
  void replace(int64_t i, std::shared_ptr<Module> m);
  void erase(int64_t i);
  void extend(const std::vector<std::shared_ptr<Module>>& modules);
  std::string type_name() const override { return "ModuleList"; }
  bool folds_repr() const override { return true; }

 private:
  size_t index(int64_t i, int64_t end) const;
  void rename();
};
using ModuleList = Handle<ModuleListImpl>;

// Each module's output is the next one's input: nn::Sequential(nn::Linear(64, 32), nn::ReLU(), nn::Linear(32, 10)).
class TG_API SequentialImpl : public ModuleListImpl {
 public:
  using ModuleListImpl::ModuleListImpl;
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Sequential"; }
  bool folds_repr() const override { return false; }
};
struct Sequential : Handle<SequentialImpl> {
  using Handle<SequentialImpl>::Handle;
  template <class... M>
    requires(sizeof...(M) > 0 && (std::convertible_to<M, std::shared_ptr<Module>> && ...))
  explicit Sequential(const M&... modules) : Handle(std::make_shared<SequentialImpl>()) {
    ((*this)->append(modules), ...);
  }
};

class TG_API ModuleDictImpl : public Module {
 public:
  ModuleDictImpl() = default;
  explicit ModuleDictImpl(Blank) {}
  Module& operator[](std::string_view key) { return child(key); }
  void set(const std::string& key, std::shared_ptr<Module> m) { register_module(key, std::move(m)); }
  std::string type_name() const override { return "ModuleDict"; }
};
using ModuleDict = Handle<ModuleDictImpl>;

class TG_API ParameterListImpl : public Module {
 public:
  ParameterListImpl() = default;
  explicit ParameterListImpl(Blank) {}
  void append(const Tensor& t);
  int64_t size() const { return int64_t(slots().size()); }
  Tensor operator[](int64_t i) const;
  std::string type_name() const override { return "ParameterList"; }
  std::string extra_repr() const override;
};
using ParameterList = Handle<ParameterListImpl>;

class TG_API ParameterDictImpl : public Module {
 public:
  ParameterDictImpl() = default;
  explicit ParameterDictImpl(Blank) {}
  void set(const std::string& key, const Tensor& t);
  std::string type_name() const override { return "ParameterDict"; }
  std::string extra_repr() const override;
};
using ParameterDict = Handle<ParameterDictImpl>;

}  // namespace tg::nn
