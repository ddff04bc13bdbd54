// The fast CPU backend. One .cpp per family of kernels; the class only gathers them.
#pragma once
#include "backends/attention.h"
#include "backends/recurrent.h"

namespace tg::cpu {

// Whether a program asks for the row-major index of its elements (and so must be run in that order).
bool needs_index(const Program& p);
// Copies with conversion between views of one shape.
void convert_copy(const View& from, const View& to);

class CpuBackend final : public Backend, public AttentionKernels, public RecurrentKernels {
 public:
  const char* name() const override { return "cpu"; }
  void map(const Program& p, const Views& ins, const Views& outs) override;
  bool map_flat(Opc op, DType type, const FlatOperand* ins, int n_ins, void* out, int64_t n) override;
  void reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
              const View& out) override;
  void arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) override;
  void scan(ScanOp op, const View& in, int axis, const View& out, const View& index) override;
  void nonzero(const View& in, std::vector<int64_t>& out) override;
  void gemm(double alpha, const View& a, const View& b, double beta, const View& c) override;
  bool gemm_bias(const View& a, const View& b, const View& bias, const View& c) override;
  void gather(const View& in, int axis, const View& index, const View& out) override;
  std::pair<int64_t, int64_t> gather_checked(const View& in, int axis, const View& index, const View& out) override;
  void scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) override;
  std::pair<int64_t, int64_t> int_range(const View& index) override;
  void sort(const View& in, int axis, bool descending, const View& values, const View& index) override;
  void fold(const View& in, const View& out) override;
  bool convolution(const ConvShape& g, const View& x, const View& w, const View& y) override;
  bool convolution_weight(const ConvShape& g, const View& x, const View& y, const View& w) override;
  bool fused(Fused kernel, const Views& ins, const Views& outs, double arg) override;
  bool attends_halves() const override { return false; }
  bool attention(const View& q, const View& k, const View& v, const AttentionOptions& o, const View& out) override;
  bool attention_grad(const View& q, const View& k, const View& v, const View& g, const AttentionOptions& o,
                      const View& dq, const View& dk, const View& dv, const View& dmask) override;
  ProductBy product_by(const View& b) override;
  bool lstm_step(const View& sums, const View& before, const View& cells, const View& hidden) override;
  bool lstm_step_grad(const View& d_hidden, const View& d_cells, const View& gates, const View& cells,
                      const View& before, const View& d_before, const View& d_sums) override;
  void copy_bytes(void* dst, const void* src, size_t n) override;
  void synchronize() override {}
};

}  // namespace tg::cpu
