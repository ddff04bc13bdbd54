// Thread-local modes the dispatch chain looks at. One word, so that "nothing special" is one branch.
#pragma once
#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"

namespace tg {

// Mixed precision, by type of device: which ops it lowers is a column of the op table (core/op.h).
struct AutocastState {
  uint8_t on = 0;  // bit of each type of device it is on for
  bool cache = true;
  DType dtype[2] = {DType::BF16, DType::F16};  // what ops of class Low compute in
  int depth = 0;                               // regions entered; the casts of weights live as long as the outermost
};

struct Modes {
  bool grad = true;         // record on the tape
  bool inference = false;   // inference_mode: results can never enter a graph
  bool intercept = false;   // any of the slow slots below is on (profiler, anomaly, capture)
  bool memory_log = false;  // notes what memory is made for (core/memory_log.h)
  bool anomaly = false;     // remember where each node was made, check gradients for NaN
  bool fast_paths = true;   // off: ops with a composite body run that body
  AutocastState autocast;
  // The op whose primitive runs and the one whose gradient is computed, for errors of kernels, which show after their
  // calls have returned. Null outside of any; names live as long as the process.
  const char* op = nullptr;
  const char* backward_of = nullptr;
};
extern TG_API thread_local constinit Modes modes_of_thread;
inline Modes& modes() { return modes_of_thread; }

// Sets grad mode for a scope.
class GradMode {
 public:
  explicit GradMode(bool on) : modes_(modes()), old_(modes_.grad) { modes_.grad = on; }
  ~GradMode() { modes_.grad = old_; }
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 protected:
  Modes& modes_;  // looked up once: that is a call

 private:
  bool old_;
};
// torch.no_grad for C++.
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};
// Below the tape: kernels that are launched in this scope are this op's.
class AtWork : NoGrad {
 public:
  explicit AtWork(const char* op) : outer_(modes_.op) { modes_.op = op; }
  ~AtWork() { modes_.op = outer_; }

 private:
  const char* outer_;
};
// torch.inference_mode for C++.
class InferenceMode : NoGrad {
 public:
  InferenceMode() : old_(modes().inference) { modes().inference = true; }
  ~InferenceMode() { modes().inference = old_; }

 private:
  bool old_;
};

// torch.autocast for C++: ops on tensors of this type of device run in the type that is best for them.
//
//   Tensor loss;
//   {
//     AutocastMode half(DeviceType::CPU, DType::BF16);
//     loss = cross_entropy((*model)(x), y);
//   }
//   loss.backward();  // gradients arrive in the type of their parameters
class TG_API AutocastMode {
 public:
  // DTypeError if `dtype` is not float16 or bfloat16. `cache`: a weight is cast once per region and version.
  explicit AutocastMode(DeviceType device, DType dtype = DType::BF16, bool enabled = true, bool cache = true);
  ~AutocastMode();
  AutocastMode(const AutocastMode&) = delete;
  AutocastMode& operator=(const AutocastMode&) = delete;

 private:
  AutocastState old_;
};
// Ops below run in the types of their operands: the parts of an op that autocast has decided on, and backward.
class AutocastOff {
 public:
  AutocastOff() : old_(modes().autocast.on) { modes().autocast.on = 0; }
  ~AutocastOff() { modes().autocast.on = old_; }
  AutocastOff(const AutocastOff&) = delete;
  AutocastOff& operator=(const AutocastOff&) = delete;

 private:
  uint8_t old_;
};
// Forgets the casts of weights of this thread.
TG_API void clear_autocast_cache();

}  // namespace tg
