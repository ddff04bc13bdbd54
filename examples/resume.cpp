// A training that may be killed at any moment and goes on with the same bits when it is started again: in float16 with
// a scaled loss, and with blocks whose activations are computed again in backward.
//
//   resume [data folder] [folder for checkpoints] [epochs] [steps between checkpoints]
#include <tg/tg.h>

#include <cstdio>
#include <cstdlib>

using namespace tg;

constexpr int64_t kWidth = 64, kBlocks = 4, kBatch = 32;

// A two-layer network with dropout, added to what comes in: (N, kWidth) to (N, kWidth).
struct Block : nn::Module {
  nn::LayerNorm norm = reg("norm", nn::LayerNorm(kWidth));
  nn::Sequential inner = reg("inner", nn::Sequential(nn::Linear(kWidth, 2 * kWidth), nn::GELU(), nn::Dropout(0.1),
                                                     nn::Linear(2 * kWidth, kWidth)));
  Tensor forward(const Tensor& x) override { return x + inner(norm(x)); }
};

int main(int argc, char** argv) {
  const std::string data = argc > 1 ? argv[1] : "python/tinygrad_cpp/data", folder = argc > 2 ? argv[2] : "run";
  const int64_t epochs = argc > 3 ? std::atoi(argv[3]) : 20, every = argc > 4 ? std::atoi(argv[4]) : 10;
  const Tensor x = cast(io::load_npy(data + "/digits_images.npy"), DType::F32).flatten(1) / 16;  // (1797, 64)
  const Tensor y = cast(io::load_npy(data + "/digits_labels.npy"), DType::I64);
  const int64_t batches = x.size(0) / kBatch, steps = epochs * batches;

  manual_seed(0);
  nn::Sequential model(nn::Linear(64, kWidth));
  for (int64_t i = 0; i < kBlocks; ++i) model->append(nn::Checkpoint(nn::Handle<Block>()));
  model->append(nn::Linear(kWidth, 10));
  optim::AdamW optimizer(model->parameters(), {.lr = 3e-3});
  optim::CosineAnnealingLR scheduler(optimizer, steps);
  optim::GradScaler scaler({.init_scale = 0x1p24, .growth_interval = 100});
  train::Training training(*model, optimizer, {.folder = folder, .every = every}, &scheduler, &scaler);

  int64_t step = training.restore();
  std::printf("from step %lld\n", static_cast<long long>(step));
  std::fflush(stdout);
  Tensor& order = training.extra["order"];  // of the samples in this epoch
  while (step < steps) {
    if (step % batches == 0) order = randperm(x.size(0));
    const Tensor batch = order.narrow(0, step % batches * kBatch, kBatch);
    Tensor loss;
    {
      AutocastMode half(DeviceType::CPU, DType::F16);
      loss = cross_entropy(model(x.index_select(0, batch)), y.index_select(0, batch));
    }
    optimizer.zero_grad();
    scaler.scale(loss).backward();
    scaler.unscale_(optimizer);
    optim::clip_grad_norm_(model->parameters(), 1.0);
    if (!scaler.step(optimizer)) std::printf("a step is left out: %s\n", scaler.last_skip.c_str());
    scaler.update();
    scheduler.step();
    if (++step % batches == 0)
      std::printf("epoch %lld  loss %.4f  scale %g\n", static_cast<long long>(step / batches), loss.item(),
                  scaler.get_scale());
    std::fflush(stdout);
    training.after(step);
    if (training.preempted()) return 143;
  }
  training.save(steps);
  model->eval();
  NoGrad guard;
  const double accuracy = cast(eq(argmax(model(x), 1), y), DType::F32).mean().item();
  std::printf("after %lld steps %.2f %% are right\n", static_cast<long long>(steps), 100 * accuracy);
}
