// Activation checkpointing as a module.
#pragma once
#include "core/checkpoint.h"
#include "nn/module.h"

namespace tg::nn {

// Runs a module without keeping what it computes: backward runs it again, with the same bits.
//   Checkpoint block(nn::Handle<Block>(64, 4));
class TG_API CheckpointImpl : public Module {
 public:
  explicit CheckpointImpl(std::shared_ptr<Module> module, CheckpointOptions options = {});
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Checkpoint"; }

 private:
  CheckpointOptions options_;
};
using Checkpoint = Handle<CheckpointImpl>;

}  // namespace tg::nn
