// What the recurrent layers and their fast paths share.
#pragma once
#include <vector>

#include "ops/fast_path.h"

namespace tg {

// A time step: rows [row, row + n) of the packed rows. Its first m rows continue the sequences of the step whose rows
// begin at `prev`, the others begin from the initial state.
struct Step {
  size_t t = 0;
  int64_t row = 0, n = 0, prev = 0, m = 0;
};

// The steps in the order they are computed.
inline std::vector<Step> recurrent_steps(IntList batch_sizes, bool reverse) {
  std::vector<Step> steps(size_t(batch_sizes.size()));
  int64_t row = 0;
  for (size_t t = 0; t < steps.size(); ++t) {
    steps[t].t = t, steps[t].row = row, steps[t].n = batch_sizes[int64_t(t)];
    row += steps[t].n;
  }
  if (reverse) std::reverse(steps.begin(), steps.end());
  for (size_t i = 1; i < steps.size(); ++i) {
    steps[i].prev = steps[i - 1].row;
    steps[i].m = std::min(steps[i - 1].n, steps[i].n);
  }
  return steps;
}

struct RecurrentArgs {
  const Tensor &x, &hx, &cx, &w_ih, &w_hh, &b_ih, &b_hh, &w_hr;
};
// Rejects operands that do not fit each other; `gates` blocks of weights per hidden unit.
void check_recurrent(const char* op, int64_t gates, const RecurrentArgs& a, IntList batch_sizes);
// ValueError unless 'tanh' or 'relu'.
bool is_tanh(std::string_view nonlinearity);

}  // namespace tg
