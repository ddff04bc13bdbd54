#include "io/checkpoint_folder.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/file.h"

namespace tg::io {
namespace {

constexpr std::string_view kPrefix = "step-", kSuffix = ".safetensors";
constexpr size_t kDigits = 12;

// The step in "step-000000000012.safetensors" and, unless it has to be the whole name, what follows; -1 if it is none.
int64_t step_in(std::string_view name, std::string_view* rest) {
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits < kDigits || digits > 18 || !name.substr(digits).starts_with(kSuffix)) return -1;
  *rest = name.substr(digits + kSuffix.size());
  return std::stoll(std::string(name.substr(0, digits)));
}

// ".tmp.<process>.<number>", which write_file leaves when it is killed.
bool is_left_over(std::string_view rest) {
  return rest.starts_with(".tmp.") && rest.find_first_not_of("0123456789.", 5) == rest.npos;
}

}  // namespace

CheckpointFolder::CheckpointFolder(std::string folder, int64_t keep) : folder_(std::move(folder)), keep_(keep) {
  TG_CHECK(keep > 0, ValueError, "checkpoint.Training: keep must be a positive integer, got ", keep);
}

std::vector<std::string> CheckpointFolder::names() const {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, missing))
    names.push_back(entry.path().filename().string());
  return names;
}

std::string CheckpointFolder::path(int64_t step) const {
  char name[48];
  std::snprintf(name, sizeof name, "step-%012lld.safetensors", static_cast<long long>(step));
  return (std::filesystem::path(folder_) / name).string();
}

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> steps;
  std::string_view rest;
  for (const std::string& name : names())
    if (int64_t step = step_in(name, &rest); step >= 0 && rest.empty()) steps.push_back(step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

void CheckpointFolder::check(int64_t step) const {
  TG_CHECK(step >= 0, ValueError, "checkpoint.save: step must not be negative, got ", step);
  const std::vector<int64_t> all = steps();
  for (auto s = all.rbegin(); s != all.rend() && *s > step; ++s)
    TG_CHECK(damaged_.count(*s), ValueError, "checkpoint.save: '", folder_, "' holds step ", *s,
             ", which is later than ", step, "; call restore() first or choose another folder");
}

void CheckpointFolder::write(int64_t step, const TensorFile& content) {
  if (!std::filesystem::is_directory(folder_)) make_folders(folder_);
  save(content, path(step));
  damaged_.erase(step);
  std::vector<int64_t> sound;
  for (int64_t s : steps())
    if (s <= step && !damaged_.count(s)) sound.push_back(s);
  for (size_t i = 0; i + size_t(keep_) < sound.size(); ++i) remove_file(path(sound[i]));
}

std::optional<int64_t> CheckpointFolder::newest(const std::function<void(int64_t)>& read,
                                                const std::function<void(int64_t, const std::string&)>& passed_over) {
  const std::vector<int64_t> all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    std::string error;
    try {
      read(*step);
      return *step;
    } catch (const FormatError& e) {
      error = e.text;
    } catch (const IoError& e) {
      error = e.text;
    }
    damaged_.insert(*step);
    passed_over(*step, error);
  }
  TG_CHECK(all.empty(), FormatError, "checkpoint: all ", all.size(), " checkpoints in '", folder_, "' are damaged");
  return std::nullopt;
}

void CheckpointFolder::remove_left_overs() const {
  std::string_view rest;
  for (const std::string& name : names())
    if (step_in(name, &rest) >= 0 && is_left_over(rest)) remove_file((std::filesystem::path(folder_) / name).string());
}

double best_interval(double save_seconds, double mean_time_between_failures) {
  TG_CHECK(save_seconds >= 0 && mean_time_between_failures > 0, ValueError,
           "best_interval: save_seconds must not be negative and the time between failures must be positive, got ",
           save_seconds, " and ", mean_time_between_failures);
  const double ratio = save_seconds / (2 * mean_time_between_failures);
  if (ratio >= 1) return mean_time_between_failures;
  const double young = std::sqrt(2 * save_seconds * mean_time_between_failures);
  return young * (1 + std::sqrt(ratio) / 3 + ratio / 9) - save_seconds;
}

}  // namespace tg::io
