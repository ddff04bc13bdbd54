#include "nn/checkpoint.h"

namespace tg::nn {

CheckpointImpl::CheckpointImpl(std::shared_ptr<Module> module, CheckpointOptions options) : options_(options) {
  TG_CHECK(module, ValueError, "Checkpoint: the module is null");
  register_module("module", std::move(module));
}

Tensor CheckpointImpl::forward(const Tensor& x) {
  std::shared_ptr<Module> m = kids()[0].module;
  return checkpoint([m](const Tensor& in) { return (*m)(in); }, x, options_);
}

}  // namespace tg::nn
