// Named settings of a parameter group and named tensors of a parameter's state.
#pragma once
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace tg::optim {

// Values by name, in the order they were added: a handful, so a list is enough.
template <class T>
class Named {
 public:
  Named() = default;
  Named(std::initializer_list<std::pair<std::string, T>> v) : items_(v) {}
  const T* find(std::string_view name) const {
    for (const auto& [key, value] : items_)
      if (key == name) return &value;
    return nullptr;
  }
  // Added if it is missing.
  T& operator[](std::string_view name) {
    for (auto& [key, value] : items_)
      if (key == name) return value;
    return items_.emplace_back(std::string(name), T()).second;
  }
  void erase(std::string_view name) {
    std::erase_if(items_, [&](const auto& item) { return item.first == name; });
  }
  bool empty() const { return items_.empty(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }

 private:
  std::vector<std::pair<std::string, T>> items_;
};

// None, a flag, a number, or a pair such as Adam's betas.
using Setting = std::variant<std::monostate, bool, double, std::array<double, 2>>;

class TG_API Options : public Named<Setting> {
 public:
  using Named<Setting>::Named;
  // ValueError if the setting is missing or of another kind; a flag counts as the number 0 or 1.
  double number(std::string_view name) const;
  bool flag(std::string_view name) const;
  std::array<double, 2> pair(std::string_view name) const;
};

using State = Named<Tensor>;

}  // namespace tg::optim
