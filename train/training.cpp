#include "train/training.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "core/generator.h"
#include "core/modes.h"
#include "ops/ops.h"
#include "train/model_file.h"

namespace tg::train {
namespace {

volatile std::sig_atomic_t sigterm_came = 0;
void note_sigterm(int) { sigterm_came = 1; }

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Tensor numbers(const std::vector<double>& v) {
  Tensor t = empty({int64_t(v.size())}, DType::F64);
  std::copy(v.begin(), v.end(), t.data<double>());
  return t;
}
Tensor words(const std::vector<uint64_t>& v) {
  Tensor t = empty({int64_t(v.size())}, DType::I64);
  if (!v.empty()) std::memcpy(t.data(), v.data(), v.size() * sizeof v[0]);
  return t;
}

// A setting as a tensor: none has no element, a flag is a bool, a number one float64, a pair two.
Tensor to_tensor(const optim::Setting& s) {
  if (auto flag = std::get_if<bool>(&s)) return full({1}, double(*flag), DType::Bool);
  if (auto number = std::get_if<double>(&s)) return numbers({*number});
  if (auto pair = std::get_if<std::array<double, 2>>(&s)) return numbers({(*pair)[0], (*pair)[1]});
  return numbers({});
}
optim::Setting to_setting(const Tensor& t) {
  if (t.dtype() == DType::Bool) return t[0].item<bool>();
  if (t.numel() == 1) return t[0].item();
  if (t.numel() == 2) return std::array<double, 2>{t[0].item(), t[1].item()};
  return std::monostate();
}

// Tensors of a file by what their names begin with.
class Reader {
 public:
  explicit Reader(const io::TensorFile& f) : f_(f) {}
  // The rest of the name and the tensor, of every name that begins so.
  std::vector<std::pair<std::string, Tensor>> under(std::string_view prefix) const {
    std::vector<std::pair<std::string, Tensor>> found;
    for (const auto& [name, t] : f_.tensors)
      if (name.starts_with(prefix)) found.push_back({name.substr(prefix.size()), t});
    return found;
  }
  optim::Named<double> numbers_under(std::string_view prefix) const {
    optim::Named<double> found;
    for (const auto& [name, t] : under(prefix)) {
      TG_CHECK(t.dtype() == DType::F64 && t.numel() == 1, FormatError, "checkpoint.restore: '", prefix, name,
               "' is no number");
      found[name] = t[0].item();
    }
    return found;
  }
  // That of int64 words, of this many.
  std::vector<uint64_t> words_of(const char* name, int64_t n) const {
    const Tensor& t = f_[name];
    TG_CHECK(t.dtype() == DType::I64 && t.numel() == n, FormatError, "checkpoint.restore: '", name, "' is not ", n,
             " whole numbers");
    std::vector<uint64_t> v(size_t(n), 0);
    std::memcpy(v.data(), contiguous(t).data(), v.size() * sizeof v[0]);
    return v;
  }

 private:
  const io::TensorFile& f_;
};

}  // namespace

Training::Training(nn::Module& model, optim::Optimizer& optimizer, const TrainingOptions& options,
                   optim::LRScheduler* scheduler, optim::GradScaler* scaler)
    : model_(model),
      optimizer_(optimizer),
      scheduler_(scheduler),
      scaler_(scaler),
      options_(options),
      files_(options.folder, options.keep),
      since_(seconds_now()) {
  TG_CHECK(options.every >= 0, ValueError, "checkpoint.Training: every must not be negative, got ", options.every);
  io::best_interval(0, options.mean_time_between_failures);  // checks it
  if (!options.on_sigterm) return;
  sigterm_came = 0;
  old_handler_ = std::signal(SIGTERM, note_sigterm);
}

Training::~Training() {
  if (options_.on_sigterm) std::signal(SIGTERM, old_handler_);
}

bool Training::preempted() const { return options_.on_sigterm && sigterm_came; }

io::TensorFile Training::content(int64_t step) const {
  NoGrad guard;
  io::TensorFile f;
  auto add = [&](const std::string& name, const Tensor& t) { f.tensors.push_back({name, t}); };
  for (const auto& [name, t] : untied_state(model_)) add("model." + name, t);
  const optim::StateDict state = optimizer_.state_dict();
  for (const auto& [number, values] : state.state)
    for (const auto& [name, t] : values)
      if (t.defined()) add(str("optimizer.", number, ".", name), t);
  for (size_t g = 0; g < state.param_groups.size(); ++g)
    for (const auto& [name, setting] : state.param_groups[g].options)
      add(str("group.", g, ".", name), to_tensor(setting));
  if (scheduler_)
    for (const auto& [name, value] : scheduler_->state_dict()) add("scheduler." + name, numbers({value}));
  if (scaler_)
    for (const auto& [name, value] : scaler_->state_dict()) add("scaler." + name, numbers({value}));
  for (const auto& [name, t] : extra) add("extra." + name, t);
  const Generator& g = default_generator();
  add("generator", words({g.seed(), g.offset()}));
  add("step", words({uint64_t(step)}));
  return f;
}

void Training::take(const io::TensorFile& f) {
  const Reader reader(f);
  optim::StateDict state = optimizer_.state_dict();  // the numbering of parameters is that of this program
  state.state.clear();
  for (const auto& [name, t] : reader.under("optimizer.")) {
    const size_t dot = name.find('.');
    TG_CHECK(dot > 0 && dot <= 9 && name.find_first_not_of("0123456789") == dot, FormatError,
             "checkpoint.restore: 'optimizer.", name, "' has no parameter's number");
    state.state[std::stoll(name.substr(0, dot))][name.substr(dot + 1)] = t;
  }
  for (size_t g = 0; g < state.param_groups.size(); ++g) {
    auto settings = reader.under(str("group.", g, "."));
    TG_CHECK(!settings.empty(), ValueError, "checkpoint.restore: the checkpoint has fewer parameter groups, ", g);
    state.param_groups[g].options = {};
    for (const auto& [name, t] : settings) state.param_groups[g].options[name] = to_setting(t);
  }
  const std::vector<uint64_t> generator = reader.words_of("generator", 2);
  model_.load_state_dict(tied_state(model_, reader.under("model.")));
  optimizer_.load_state_dict(state);
  if (scheduler_) scheduler_->load_state_dict(reader.numbers_under("scheduler."));
  if (scaler_) scaler_->load_state_dict(reader.numbers_under("scaler."));
  for (const auto& [name, t] : reader.under("extra.")) extra[name] = t;
  default_generator().set_state(generator[0], generator[1]);
}

int64_t Training::restore() {
  io::TensorFile found;
  std::optional<int64_t> step = files_.newest(
      [&](int64_t s) {
        io::TensorFile f = io::load(files_.path(s));
        TG_CHECK(Reader(f).words_of("step", 1)[0] == uint64_t(s), FormatError, "load: '", files_.path(s),
                 "' is not the checkpoint of step ", s);
        found = std::move(f);
      },
      [](int64_t s, const std::string& error) {
        std::fprintf(stderr, "checkpoint: step %lld is passed over: %s\n", static_cast<long long>(s), error.c_str());
      });
  files_.remove_left_overs();
  if (!step) return 0;
  take(found);
  since_ = seconds_now();
  return *step;
}

void Training::save(int64_t step) {
  files_.check(step);
  const double begin = seconds_now();
  files_.write(step, content(step));
  since_ = seconds_now();
  save_seconds_ = since_ - begin;
}

bool Training::after(int64_t step) {
  constexpr double kFirstGuess = 0.01;  // seconds that a save takes, until there was one
  const double interval =
      io::best_interval(save_seconds_ > 0 ? save_seconds_ : kFirstGuess, options_.mean_time_between_failures);
  const bool due = options_.every > 0 ? step % options_.every == 0 : seconds_now() - since_ >= interval;
  if (!due && !preempted()) return false;
  save(step);
  return true;
}

}  // namespace tg::train
