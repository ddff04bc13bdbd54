#include "nn/checkpoint.h"

#include <algorithm>

namespace tg::nn {

CheckpointImpl::CheckpointImpl(std::shared_ptr<Module> module, CheckpointOptions options) : options_(options) {
  TG_CHECK(module, ValueError, "Checkpoint: the module is null");
  register_module("module", std::move(module));
}

Tensor CheckpointImpl::forward(const Tensor& x) {
  std::shared_ptr<Module> m = kids()[0].module;
  return checkpoint([m](const Tensor& in) { return (*m)(in); }, x, options_);
}

Tensor checkpoint_sequential(const std::vector<std::shared_ptr<Module>>& modules, int64_t segments, Tensor x,
                             const CheckpointOptions& options) {
  const int64_t n = int64_t(modules.size()), size = n / std::max<int64_t>(segments, 1);
  TG_CHECK(segments >= 1 && segments <= std::max<int64_t>(n, 1), ValueError,
           "checkpoint_sequential: segments must be in 1..", n, ", got ", segments);
  auto run = [&](int64_t from, int64_t to) {
    return [part = std::vector(modules.begin() + from, modules.begin() + to)](Tensor y) {
      for (const auto& m : part) y = (*m)(y);
      return y;
    };
  };
  for (int64_t i = 0; i + 1 < segments; ++i) x = checkpoint(run(i * size, (i + 1) * size), x, options);
  return run((segments - 1) * size, n)(x);
}

}  // namespace tg::nn
