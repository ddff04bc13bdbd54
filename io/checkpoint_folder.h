// The checkpoints of a training: a folder with one safetensors file per saved step, of which the newest are kept.
#pragma once
#include <functional>
#include <optional>
#include <set>

#include "io/safetensors.h"

namespace tg::io {

class TG_API CheckpointFolder {
 public:
  // ValueError unless keep is positive. The folder is made by the first write.
  explicit CheckpointFolder(std::string folder, int64_t keep = 3);

  const std::string& folder() const { return folder_; }
  // The file of a step.
  std::string path(int64_t step) const;
  // The saved steps, oldest first, damaged ones included.
  std::vector<int64_t> steps() const;
  // ValueError if a negative step or an undamaged later one would stand in the way of saving this one.
  void check(int64_t step) const;
  // Saves a step whole or not at all, then removes what is older than the newest `keep`.
  void write(int64_t step, const TensorFile& content);
  // The newest step that read(step) accepts; nothing if there is none. A FormatError or IoError of it means that the
  // step is damaged: passed_over(step, error) is told, and the next older one is tried. FormatError if all are damaged.
  std::optional<int64_t> newest(const std::function<void(int64_t)>& read,
                                const std::function<void(int64_t, const std::string&)>& passed_over);
  // Removes what interrupted saves have left.
  void remove_left_overs() const;

 private:
  std::vector<std::string> names() const;
  std::string folder_;
  int64_t keep_;
  std::set<int64_t> damaged_;
};

// Seconds of work between two saves that lose the least time, to saving and to work done twice, in all: the estimate of
// J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future Generation
// Computer Systems 22 (2006); for short saves it is J. W. Young's sqrt(2 * save * failures), "A first order
// approximation to the optimum checkpoint interval", Communications of the ACM 17 (1974). ValueError for a negative
// save time or a time between failures that is not positive.
TG_API double best_interval(double save_seconds, double mean_time_between_failures);

}  // namespace tg::io
