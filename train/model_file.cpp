#include "train/model_file.h"

namespace tg::train {
namespace {

// What tensors of a module share when they are one; of one without elements only itself.
const void* place_of(const Tensor& t) { return t.numel() > 0 ? t.data() : static_cast<const void*>(t.impl()); }

}  // namespace

nn::NamedTensors untied_state(const nn::Module& model) {
  nn::NamedTensors state;
  std::map<const void*, Dims> stored;
  for (auto& [name, t] : model.state_dict())
    if (auto [first, fresh] = stored.insert({place_of(t), t.sizes()}); fresh || first->second != t.sizes())
      state.push_back({name, t});
  return state;
}

nn::NamedTensors tied_state(const nn::Module& model, nn::NamedTensors state) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  std::map<const void*, Tensor> values;
  const nn::NamedTensors own = model.state_dict();
  for (const auto& [name, t] : own)
    if (auto it = given.find(name); it != given.end()) values.insert({place_of(t), it->second});
  for (const auto& [name, t] : own)
    if (auto it = values.find(place_of(t)); !given.count(name) && it != values.end())
      state.push_back({name, it->second});
  return state;
}

void save(const nn::Module& model, const std::string& path, const std::map<std::string, std::string>& metadata) {
  io::save({untied_state(model), metadata}, path);
}

std::map<std::string, std::string> load(nn::Module& model, const std::string& path) {
  io::TensorFile f = io::load(path);
  model.load_state_dict(tied_state(model, std::move(f.tensors)));
  return f.metadata;
}

}  // namespace tg::train
