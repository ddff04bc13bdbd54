// Trainings that are saved, stopped and restored from C++ alone; files of modules. Faults are in tests/python.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "autograd/autograd.h"
#include "core/generator.h"
#include "core/modes.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "train/model_file.h"
#include "train/training.h"

using namespace tg;

namespace {

namespace fs = std::filesystem;

// A folder that goes with the test.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("tg_training_" + std::to_string(::getpid()));
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
  std::string operator/(const char* name) const { return (path / name).string(); }
};

// Mixed precision, dropout that is computed again in backward, a scheduler, a scaler.
struct Run {
  nn::Sequential model{nn::Checkpoint(nn::Sequential(nn::Linear(4, 8), nn::Dropout(0.3), nn::ReLU())),
                       nn::Linear(8, 3)};
  optim::AdamW optimizer{model->parameters(), {.lr = 0.01}};
  optim::CosineAnnealingLR scheduler{optimizer, 12};
  optim::GradScaler scaler{{.init_scale = 0x1p22, .growth_interval = 3}};
  train::Training training;

  explicit Run(const std::string& folder, int64_t every = 1)
      : training(*model, optimizer, {.folder = folder, .keep = 20, .every = every}, &scheduler, &scaler) {}

  // The last parameters as text, and the step restored from.
  std::string go(int64_t until, int64_t* from = nullptr) {
    int64_t step = training.restore();
    if (from) *from = step;
    while (step < until) {
      if (step % 4 == 0) training.extra["order"] = randperm(32);
      Tensor x =
          sin(index_select(reshape(arange(128), {32, 4}), 0, training.extra["order"].narrow(0, step % 4 * 8, 8)));
      Tensor loss;
      {
        AutocastMode half(DeviceType::CPU, DType::F16);
        loss = cross_entropy(model(x), argmax(x.narrow(1, 0, 3), 1));
      }
      optimizer.zero_grad();
      scaler.scale(loss).backward();
      scaler.step(optimizer);
      scaler.update();
      scheduler.step();
      training.after(++step);
      if (training.preempted()) break;
    }
    std::string text = str(scaler.get_scale(), " ", scheduler.get_last_lr()[0], " ", default_generator().offset());
    for (const Tensor& p : model->parameters())
      text.append(static_cast<const char*>(p.data()), size_t(p.numel()) * sizeof(float));
    return text;
  }
};

void damage(const std::string& path) {
  std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(-1, std::ios::end);
  f.put('x');
}

}  // namespace

TEST_CASE("training: stopped at each step it ends in the same bits") {
  Folder folder;
  constexpr int64_t kSteps = 12;
  manual_seed(1);
  Run whole(folder / "whole");
  const std::string expected = whole.go(kSteps);
  CHECK(whole.scaler.skipped_steps > 0);
  CHECK(whole.scaler.skipped_steps < kSteps);
  for (int64_t stop = 1; stop < kSteps; ++stop) {
    const std::string name = io::CheckpointFolder("").path(stop), to = folder / std::to_string(stop).c_str();
    fs::create_directories(to);
    fs::copy_file(folder.path / "whole" / name, fs::path(to) / name);
    manual_seed(2);
    int64_t from = 0;
    CHECK(Run(to, 1000).go(kSteps, &from) == expected);
    CHECK(from == stop);
  }
}

TEST_CASE("training: SIGTERM saves at the end of the step") {
  Folder folder;
  manual_seed(1);
  const std::string expected = Run(folder / "alone", 1000).go(8);
  manual_seed(1);
  {
    Run run(folder / "stopped", 1000);
    run.go(3);
    CHECK(io::CheckpointFolder(folder / "stopped").steps().empty());
    run.training.save(3);
    std::raise(SIGTERM);
    run.go(8);
    CHECK(run.training.preempted());
  }
  CHECK(io::CheckpointFolder(folder / "stopped").steps() == std::vector<int64_t>{3, 4});
  CHECK(Run(folder / "stopped", 1000).go(8) == expected);
}

TEST_CASE("training: damaged checkpoints are passed over, wrong ones refused") {
  Folder folder;
  Run(folder / "run").go(3);
  io::CheckpointFolder files(folder / "run");
  damage(files.path(3));
  std::ofstream(files.path(2) + ".tmp.1.2") << "cut short";
  Run run(folder / "run");
  CHECK(run.training.restore() == 2);
  CHECK_FALSE(fs::exists(files.path(2) + ".tmp.1.2"));
  CHECK_THROWS_AS(run.training.save(1), ValueError);
  run.training.save(3);  // over the damaged one
  CHECK(Run(folder / "run").training.restore() == 3);

  nn::Sequential other(nn::Linear(4, 9));
  optim::SGD optimizer(other->parameters());
  train::Training wrong(*other, optimizer, {.folder = folder / "run", .on_sigterm = false});
  CHECK_THROWS_AS(wrong.restore(), Error);
  for (int64_t s : files.steps()) damage(files.path(s));
  CHECK_THROWS_AS(Run(folder / "run").training.restore(), FormatError);
  CHECK_THROWS_AS(train::Training(*other, optimizer, {.folder = "x", .keep = 0}), ValueError);
  CHECK_THROWS_AS(train::Training(*other, optimizer, {.folder = "x", .every = -1}), ValueError);
}

TEST_CASE("model files: tied weights are stored once and found under all their names") {
  struct Tied : nn::Module {
    nn::Embedding embed = reg("embed", nn::Embedding(50, 4));
    nn::Linear head = reg("head", nn::Linear(4, 50, false));
    Tied() { head->weight = embed->weight; }
  };
  Folder folder;
  fs::create_directories(folder.path);
  Tied a, b;
  train::save(a, folder / "a.safetensors", {{"note", "x"}});
  CHECK(fs::file_size(folder / "a.safetensors") < 50 * 4 * 4 + 400);
  io::TensorFile f = io::load(folder / "a.safetensors");
  CHECK(f.tensors.size() == 1);
  CHECK(train::load(b, folder / "a.safetensors") == std::map<std::string, std::string>{{"note", "x"}});
  CHECK(equal(b.head->weight, a.embed->weight));
  CHECK(b.head->weight.is_same(b.embed->weight));
  f.tensors[0].first = "head.weight";  // as other programs may have it
  io::save(f, folder / "b.safetensors");
  train::load(b, folder / "b.safetensors");
  f.tensors[0].first = "neck.weight";
  io::save(f, folder / "c.safetensors");
  CHECK_THROWS_AS(train::load(b, folder / "c.safetensors"), Error);
}
