// The backend of one CUDA device. Every call queues kernels on the calling thread's current stream and returns; those
// that give a number to the host wait for it.
#pragma once
#include "backends/attention.h"
#include "backends/backend.h"
#include "backends/convolution.h"
#include "backends/update_kernels.h"

namespace tg::cuda {

class CudaBackend final : public Backend, public UpdateKernels, public AttentionKernels, public ConvolutionKernels {
 public:
  explicit CudaBackend(int device) : device_(device) {}
  const char* name() const override { return "cuda"; }
  void map(const Program& p, const Views& ins, const Views& outs) override;
  void reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
              const View& out) override;
  void arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) override;
  void scan(ScanOp op, const View& in, int axis, const View& out, const View& index) override;
  void nonzero(const View& in, std::vector<int64_t>& out) override;
  void gemm(double alpha, const View& a, const View& b, double beta, const View& c) override;
  bool gemm_bias(const View& a, const View& b, const View& bias, const View& c) override;
  bool gemm_gelu(const View& a, const View& b, const View& bias, const View& c, const View& before) override;
  void gather(const View& in, int axis, const View& index, const View& out) override;
  void scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) override;
  void bound_index(const View& index, int64_t low, int64_t high, const View& out, const std::string& text) override;
  std::pair<int64_t, int64_t> int_range(const View& index) override;
  void sort(const View& in, int axis, bool descending, const View& values, const View& index) override;
  void fold(const View& in, const View& out) override;
  bool fused(Fused f, const Views& ins, const Views& outs, double arg) override;
  bool attends_halves() const override { return true; }
  bool attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) override;
  bool attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                      const View& dq, const View& dk, const View& dv, const View& dmask) override;
  void update(optim::Formula f, DType t, const double* coefs, const std::vector<UpdateItem>& items) override;
  void update_counted(optim::Formula f, DType t, const double* coefs, std::array<double, 2> betas,
                      const std::vector<UpdateItem>& items) override;
  int64_t unscale(DType t, double factor, const std::vector<UpdateItem>& items) override;
  void scale(DType t, const View& factor, const std::vector<UpdateItem>& items) override;
  void norms(DType t, const std::vector<UpdateItem>& items, void* out) override;
  void widen(DType half, double factor, const std::vector<UpdateItem>& items) override;
  void narrow(DType half, const std::vector<UpdateItem>& items) override;
  bool convolve(ConvPart part, const ConvShape& g, const Dims& padding, View x, View w, View y,
                const std::function<void*()>& allocate) override;
  void copy_bytes(void* dst, const void* src, size_t n) override;
  void synchronize() override;

 private:
  const int device_;
};

}  // namespace tg::cuda
