#include "backends/cuda/check.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "backends/cuda/device.h"
#include "core/error.h"
#include "core/modes.h"

namespace tg::cuda {

namespace {

// What this thread queued last, and for which op.
struct Work {
  const char *kernel, *op, *backward_of;
};
constexpr uint64_t kRemembered = 8;
thread_local Work t_queued[kRemembered];
thread_local uint64_t t_works = 0, t_launches = 0;

// "mul in the backward of softmax", empty outside of any.
std::string op_text(const char* op, const char* backward_of) {
  std::string s = op ? op : "";
  if (backward_of) s += std::string(s.empty() ? "" : " in ") + "the backward of " + backward_of;
  return s;
}

// "; ...: sum (reduce_kernel<R, L>), exp (row_kernel<Row, S>)".
std::string suspects() {
  std::string s;
  for (uint64_t i = t_works; i > 0 && t_works - i < kRemembered; --i) {
    const Work& w = t_queued[(i - 1) % kRemembered];
    std::string_view kernel = w.kernel;
    if (kernel.starts_with('(')) kernel = kernel.substr(1, kernel.size() - 2);  // as TG_LAUNCH wants commas
    const std::string op = op_text(w.op, w.backward_of);
    s += i == t_works ? "; a kernel launched before is at fault, this thread's last ones, newest first: " : ", ";
    s += op.empty() ? std::string(kernel) : op + " (" + std::string(kernel) + ")";
  }
  return s.empty() ? s : s + "; TG_CUDA_LAUNCH_BLOCKING=1 finds it";
}

bool from_a_kernel(cudaError_t e) { return e == cudaErrorIllegalAddress || e == cudaErrorLaunchFailure; }

}  // namespace

// Work runs later than its launch, so the fault of a kernel shows at some later call, of another op: the text says so.
void fail_call(cudaError_t e, const char* what) {
  cudaGetLastError();  // an error that is not sticky is forgotten, so that the next call starts clean
  std::string note;
  if (from_a_kernel(e) && !launch_blocking())
    note = suspects();
  else if (const std::string op = op_text(modes().op, modes().backward_of); !op.empty())
    note = "; at work: " + op;
  fail<DeviceError>("cuda: ", what, ": ", cudaGetErrorString(e), " (", cudaGetErrorName(e), ")", note);
}

// TG_CUDA_LAUNCH_BLOCKING=1 waits for each kernel and thereby names the one at fault, and its op.
bool launch_blocking() {
  static const bool on = [] {
    const char* v = std::getenv("TG_CUDA_LAUNCH_BLOCKING");
    return v && *v && *v != '0';
  }();
  return on;
}

void check_launch(cudaError_t e, const char* kernel) {
  if (launch_blocking() && e == cudaSuccess && !recording_graph()) e = cudaStreamSynchronize(stream());
  if (TG_UNLIKELY(e != cudaSuccess)) fail_call(e, kernel);
  note_work(kernel);
  ++t_launches;
}
void note_work(const char* call) { t_queued[t_works++ % kRemembered] = {call, modes().op, modes().backward_of}; }
uint64_t launches() { return t_launches; }

}  // namespace tg::cuda
