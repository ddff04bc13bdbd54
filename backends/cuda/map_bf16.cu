// Row kernels on arrays of BFloat16.
#include "backends/cuda/rows.cuh"

namespace tg::cuda {
bool launch_row_bf16(const RowLaunch& l) { return launch_row<BFloat16>(l); }
}  // namespace tg::cuda
