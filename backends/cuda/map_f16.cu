// Row kernels on arrays of Half.
#include "backends/cuda/rows.cuh"

namespace tg::cuda {
bool launch_row_f16(const RowLaunch& l) { return launch_row<Half>(l); }
}  // namespace tg::cuda
