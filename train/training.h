// Training that may be interrupted: saves everything a run depends on, and goes on from there with the same bits.
//
//   train::Training training(model, optimizer, {.folder = "run"}, &scheduler, &scaler);
//   for (int64_t step = training.restore(); step < steps;) {
//     ...  // forward, backward, optimizer.step(), scheduler.step(), optimizer.zero_grad()
//     training.after(++step);
//     if (training.preempted()) return 143;
//   }
//
// Python's tinygrad_cpp.checkpoint.Training saves Python objects as well; both keep io::CheckpointFolder.
#pragma once
#include <map>

#include "io/checkpoint_folder.h"
#include "nn/module.h"
#include "optim/grad_scaler.h"
#include "optim/lr_scheduler.h"

namespace tg::train {

struct TrainingOptions {
  std::string folder;
  int64_t keep = 3;   // files
  int64_t every = 0;  // steps between saves; 0: as io::best_interval says for the time that saves take here
  double mean_time_between_failures = 24 * 3600;  // seconds
  bool on_sigterm = true;                         // note SIGTERM, and save at the end of the step
};

class TG_API Training {
 public:
  // Everything must outlive it. ValueError for options out of range.
  Training(nn::Module& model, optim::Optimizer& optimizer, const TrainingOptions& options,
           optim::LRScheduler* scheduler = nullptr, optim::GradScaler* scaler = nullptr);
  // Gives SIGTERM back to who had it.
  ~Training();
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  // Saved and restored with the rest: where the program stands in its data, sums over steps, ...
  std::map<std::string, Tensor> extra;

  // Everything as it was after the newest undamaged checkpoint, whose step is returned; 0 if there is none. FormatError
  // if all are damaged; ValueError if it is that of another program.
  int64_t restore();
  void save(int64_t step);
  // To be called when a step is complete: saves if it is time to, or after SIGTERM, and says whether it did.
  bool after(int64_t step);
  // Whether SIGTERM has come: the program should end.
  bool preempted() const;

 private:
  io::TensorFile content(int64_t step) const;
  void take(const io::TensorFile& content);

  nn::Module& model_;
  optim::Optimizer& optimizer_;
  optim::LRScheduler* scheduler_;
  optim::GradScaler* scaler_;
  TrainingOptions options_;
  io::CheckpointFolder files_;
  double save_seconds_ = 0, since_;
  void (*old_handler_)(int) = nullptr;
};

}  // namespace tg::train
