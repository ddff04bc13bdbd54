// Row kernels on arrays of float.
#include "backends/cuda/rows.cuh"

namespace tg::cuda {
bool launch_row_f32(const RowLaunch& l) { return launch_row<float>(l); }
}  // namespace tg::cuda
