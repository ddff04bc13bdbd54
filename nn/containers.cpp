#include "nn/containers.h"

namespace tg::nn {

size_t ModuleListImpl::index(int64_t i, int64_t end) const {
  TG_CHECK(i >= -size() && i < end, IndexError, type_name(), ": index ", i, " is out of range for ", size(),
           " modules");
  return size_t(i < 0 ? i + size() : i);
}

const std::shared_ptr<Module>& ModuleListImpl::at(int64_t i) const { return kids()[index(i, size())].module; }

Module& ModuleListImpl::operator[](int64_t i) const {
  const auto& m = at(i);
  TG_CHECK(m, ValueError, type_name(), ": module ", i, " is None");
  return *m;
}

void ModuleListImpl::rename() {
  for (size_t i = 0; i < kids().size(); ++i) kids()[i].name = std::to_string(i);
}

void ModuleListImpl::insert(int64_t i, std::shared_ptr<Module> m) {
  kids().insert(kids().begin() + ptrdiff_t(index(i, size() + 1)), Child{"", std::move(m)});
  rename();
}

void ModuleListImpl::replace(int64_t i, std::shared_ptr<Module> m) { kids()[index(i, size())].module = std::move(m); }

void ModuleListImpl::erase(int64_t i) {
  kids().erase(kids().begin() + ptrdiff_t(index(i, size())));
  rename();
}

void ModuleListImpl::extend(const std::vector<std::shared_ptr<Module>>& modules) {
  for (auto& m : modules) append(m);
}

Tensor SequentialImpl::forward(const Tensor& x) {
  Tensor y = x;
  for (size_t i = 0; i < kids().size(); ++i) {
    std::shared_ptr<Module> m = kids()[i].module;  // a hook may edit the list
    TG_CHECK(m, TypeError, "forward: module ", i, " of Sequential is None");
    y = (*m)(y);
  }
  return y;
}

static Tensor as_parameter(const Tensor& t) {
  return t.defined() && !t.impl()->is_parameter ? Parameter(t, is_float(t.dtype())) : t;
}

static std::string describe_slots(const Module& m) {
  std::string s;
  for (const auto& slot : m.slots())
    if (slot.at->defined())
      s += str(s.empty() ? "" : "\n", "(", slot.name, "): Parameter containing: ", describe(*slot.at));
  return s;
}

void ParameterListImpl::append(const Tensor& t) { register_parameter(std::to_string(slots().size()), as_parameter(t)); }

Tensor ParameterListImpl::operator[](int64_t i) const {
  TG_CHECK(i >= -size() && i < size(), IndexError, "ParameterList: index ", i, " is out of range for ", size(),
           " parameters");
  return *slots()[size_t(i < 0 ? i + size() : i)].at;
}

std::string ParameterListImpl::extra_repr() const { return describe_slots(*this); }

void ParameterDictImpl::set(const std::string& key, const Tensor& t) { register_parameter(key, as_parameter(t)); }

std::string ParameterDictImpl::extra_repr() const { return describe_slots(*this); }

}  // namespace tg::nn
