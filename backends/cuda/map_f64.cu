// Row kernels on arrays of double.
#include "backends/cuda/rows.cuh"

namespace tg::cuda {
bool launch_row_f64(const RowLaunch& l) { return launch_row<double>(l); }
}  // namespace tg::cuda
