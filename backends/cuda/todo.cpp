#include "backends/cuda/cuda_backend.h"
namespace tg::cuda {
namespace {
[[noreturn]] void missing(const char* what) { fail<NotImplementedError>("cuda: ", what, " has no kernel yet"); }
}  // namespace
void CudaBackend::reduce(ReduceOp, DType, const Program*, const Views&, const Program*, const View&) {
  missing("reduce");
}
void CudaBackend::arg_reduce(bool, const View&, int, const View&, const View&) { missing("arg_reduce"); }
void CudaBackend::scan(ScanOp, const View&, int, const View&, const View&) { missing("scan"); }
void CudaBackend::nonzero(const View&, std::vector<int64_t>&) { missing("nonzero"); }
void CudaBackend::gemm(double, const View&, const View&, double, const View&) { missing("gemm"); }
void CudaBackend::gather(const View&, int, const View&, const View&) { missing("gather"); }
void CudaBackend::scatter(ScatterOp, const View&, int, const View&, const View&) { missing("scatter"); }
std::pair<int64_t, int64_t> CudaBackend::int_range(const View&) { missing("int_range"); }
void CudaBackend::sort(const View&, int, bool, const View&, const View&) { missing("sort"); }
void CudaBackend::fold(const View&, const View&) { missing("fold"); }
bool CudaBackend::fused(Fused, const Views&, const Views&, double) { return false; }
}  // namespace tg::cuda
