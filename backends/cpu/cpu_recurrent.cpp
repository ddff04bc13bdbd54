// Recurrent layers: the steps of an LSTM in one pass over their rows. (Products by packed weights: cpu_gemm.cpp.)
#include <algorithm>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

constexpr int64_t kStepGrain = 2048;  // elements of the cell state that are worth a chunk

// The kernel for each of the rows, which have `width` elements, or four times as many. False if it cannot take them.
bool run_rows(FusedRow kernel, std::initializer_list<View> ins, std::initializer_list<View> outs, int64_t width) {
  for (const auto& vs : {ins, outs})
    for (const View& v : vs)
      if (v.dtype != DType::F32 || (v.stride[1] != 1 && v.shape[1] != 1)) return false;
  constexpr int kMost = 5;
  const int64_t grain = std::max<int64_t>(1, kStepGrain / std::max<int64_t>(width, 1));
  parallel_for(ins.begin()->shape[0], grain, [&](int64_t b, int64_t e) {
    for (int64_t row = b; row < e; ++row) {
      float *in[kMost], *out[kMost];
      auto at = [&](const View& v) { return static_cast<float*>(v.data) + row * v.stride[0]; };
      std::transform(ins.begin(), ins.end(), in, at);
      std::transform(outs.begin(), outs.end(), out, at);
      kernel(in, out, width, 0);
    }
  });
  return true;
}

}  // namespace

bool CpuBackend::lstm_step(const View& sums, const View& before, const View& cells, const View& hidden) {
  return run_rows(loops().lstm_step, {before}, {sums, cells, hidden}, cells.shape[1]);
}

bool CpuBackend::lstm_step_grad(const View& d_hidden, const View& d_cells, const View& gates, const View& cells,
                                const View& before, const View& d_before, const View& d_sums) {
  return run_rows(loops().lstm_step_grad, {d_hidden, d_cells, gates, cells, before}, {d_before, d_sums},
                  cells.shape[1]);
}

}  // namespace tg::cpu
