// Row kernels on arrays of int64_t.
#include "backends/cuda/rows.cuh"

namespace tg::cuda {
bool launch_row_i64(const RowLaunch& l) { return launch_row<int64_t>(l); }
}  // namespace tg::cuda
