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

// Runs modules one after the other in segments, each of them checkpointed but the last. With about sqrt(n) segments of
// n modules the peak grows with sqrt(n). ValueError if there are fewer modules than segments.
TG_API Tensor checkpoint_sequential(const std::vector<std::shared_ptr<Module>>& modules, int64_t segments, Tensor x,
                                    const CheckpointOptions& options = {});

}  // namespace tg::nn
