// Thread-local modes the dispatch chain looks at. One word, so that "nothing special" is one branch.
#pragma once
#include <cstdint>

#include "core/api.h"

namespace tg {

struct Modes {
  bool grad = true;        // record on the tape
  bool inference = false;  // inference_mode: results can never enter a graph
  bool intercept = false;  // any of the slow slots below is on (profiler, anomaly, autocast, capture)
  bool anomaly = false;    // remember where each node was made, check gradients for NaN
  bool fast_paths = true;  // off: ops with a composite body run that body
};
TG_API Modes& modes();

// Sets grad mode for a scope.
class GradMode {
 public:
  explicit GradMode(bool on) : old_(modes().grad) { modes().grad = on; }
  ~GradMode() { modes().grad = old_; }
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool old_;
};
// torch.no_grad for C++.
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};
// torch.inference_mode for C++.
class InferenceMode : NoGrad {
 public:
  InferenceMode() : old_(modes().inference) { modes().inference = true; }
  ~InferenceMode() { modes().inference = old_; }

 private:
  bool old_;
};

}  // namespace tg
