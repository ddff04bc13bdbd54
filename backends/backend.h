// The narrow waist: everything a device has to implement. Broadcasting, transposing, slicing, flipping and sliding
// windows are metadata of the views, so no backend holds code for them.
#pragma once
#include <string>
#include <vector>

#include "backends/program.h"
#include "core/tensor.h"

namespace tg {

// Borrowed strided memory. Strides are in elements: 0 broadcasts, negative flips, overlapping slides a window.
struct View {
  void* data = nullptr;  // the element at index 0, ..., 0
  DType dtype = DType::F32;
  Dims shape, stride;
  View() = default;
  View(const Tensor& t) : data(t.data()), dtype(t.dtype()), shape(t.sizes()), stride(t.strides()) {}
  int ndim() const { return shape.size(); }
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return n;
  }
};

using Views = SmallVec<View, 3>;

// Elements side by side, or one that stands for all of them.
struct FlatOperand {
  const void* data;
  bool one;
};

enum class ReduceOp : uint8_t { Sum, Prod, Max, Min, Any, All };
enum class ScanOp : uint8_t { Sum, Prod, Max, Min, LogSumExp };
enum class ScatterOp : uint8_t { Set, Add, Prod, Max, Min };

// A convolution over a padded image, one entry per spatial axis in Dims.
struct ConvShape {
  int64_t batch, groups, in, out;
  Dims kernel, windows, stride, dilation, padded;
};

class TG_API Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;

  // outs[k][i] = program(ins[0][i], ins[1][i], ...) for every index i. All views have the same shape (broadcast inputs
  // have stride 0) and may have any dtype: values are converted to program.compute and back. An output may be the
  // very view of an input (in-place); otherwise outputs overlap nothing.
  virtual void map(const Program& p, const Views& ins, const Views& outs) = 0;

  // Optional, the short way for what most calls are: out[i] = op(in[0][i], ...) for n elements side by side, all of
  // `type`, which is a compute type. False if there is no kernel for it; map() then does the same.
  virtual bool map_flat(Opc op, DType type, const FlatOperand* ins, int n_ins, void* out, int64_t n) {
    (void)op, (void)type, (void)ins, (void)n_ins, (void)out, (void)n;
    return false;
  }

  // out = op over the axes in which `out` has stride 0 and in does not; both have the shape of `in`, whose axes of
  // size 1 may be either. `pre` (may be null: one input, converted to `compute`) is applied to each element first;
  // `post` (may be null) to the result. Max and Min propagate NaN. Empty reductions give the neutral element (the
  // caller rejects those without one). Sum and Prod over fixed chunks: the same bits for any number of threads.
  // The accumulator is at least as wide as `compute`; floats may be added by eights before they enter it.
  virtual void reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
                      const View& out) = 0;

  // Index (int64, first among equals; NaN counts as extreme) of the largest/smallest element along `axis`; `values`
  // (optional, data may be null) gets the element. Outputs have the shape of `in` with size 1 at axis.
  virtual void arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) = 0;

  // Running op along `axis`; `index` (data may be null) gets the position of the running extreme for Max/Min.
  virtual void scan(ScanOp op, const View& in, int axis, const View& out, const View& index) = 0;

  // Row-major positions of the non-zero elements: appended to `out` in order.
  virtual void nonzero(const View& in, std::vector<int64_t>& out) = 0;

  // c[b] = alpha * a[b] @ b[b] + beta * c[b]; a (B, M, K), b (B, K, N), c (B, M, N), any strides, one dtype.
  // Half types accumulate in float32. beta = 0 never reads c. Same bits for any number of threads.
  virtual void gemm(double alpha, const View& a, const View& b, double beta, const View& c) = 0;

  // Optional: c[b] = a[b] @ b[b] + bias, of one floating type; bias has one value per column. False if this backend has
  // no kernel that takes these views.
  virtual bool gemm_bias(const View& a, const View& b, const View& bias, const View& c) {
    (void)a, (void)b, (void)bias, (void)c;
    return false;
  }

  // Optional, as above: c[b] = gelu(a[b] @ b[b] + bias) by its tanh formula. `bias` and `before` may be missing (null
  // data). `before` gets what gelu is applied to, rounded to c's type; c may be computed before that rounding.
  virtual bool gemm_gelu(const View& a, const View& b, const View& bias, const View& c, const View& before) {
    (void)a, (void)b, (void)bias, (void)c, (void)before;
    return false;
  }

  // out[.., i, ..] = in[.., index[.., i, ..], ..] along `axis`. index and out have the same shape; in matches it in all
  // other axes (strides may be 0). Values of index lie in [0, in.shape[axis]): the caller has checked.
  virtual void gather(const View& in, int axis, const View& index, const View& out) = 0;

  // The same for indices that nobody has checked: out is only written if all lie in [0, in.shape[axis]), or partly if
  // not. Returns their range, as int_range does.
  virtual std::pair<int64_t, int64_t> gather_checked(const View& in, int axis, const View& index, const View& out) {
    auto [low, high] = int_range(index);
    if (low >= 0 && high < in.shape[axis]) gather(in, axis, index, out);
    return {low, high};
  }

  // out[.., index[.., i, ..], ..] op= src[.., i, ..] along `axis`, in row-major order of src (deterministic).
  virtual void scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) = 0;

  // For a graph that is being recorded, when nobody can look at values: out = index, both contiguous int64 of one size,
  // with what is not in [low, high] moved there. A replay that meets such a value makes the next wait for the device an
  // IndexError, which begins with `text`.
  virtual void bound_index(const View& index, int64_t low, int64_t high, const View& out, const std::string& text);

  // Smallest and largest value of an int64 view (for index checks); {0, -1} when empty.
  virtual std::pair<int64_t, int64_t> int_range(const View& index) = 0;

  // Stable sort along `axis`: values (may be null) and int64 positions. NaN sorts as the largest.
  virtual void sort(const View& in, int axis, bool descending, const View& values, const View& index) = 0;

  // Adjoint of a sliding window: out[i] += in[i] for every index i, where `out` may overlap itself. Deterministic.
  virtual void fold(const View& in, const View& out) = 0;

  // Optional: true if this backend has a kernel for these views, and has run it. Otherwise the caller goes another way.
  virtual bool fused(Fused, const Views& ins, const Views& outs, double arg = 0) {
    (void)ins, (void)outs, (void)arg;
    return false;
  }

  // Optional, as above: y = the convolution of `x` by `w`, and w = its gradient from y's. All contiguous, of one type:
  // x (batch, groups * in, padded..), w (groups * out, in, kernel..), y (batch, groups * out, windows..).
  virtual bool convolution(const ConvShape&, const View& x, const View& w, const View& y) {
    (void)x, (void)w, (void)y;
    return false;
  }
  virtual bool convolution_weight(const ConvShape&, const View& x, const View& y, const View& w) {
    (void)x, (void)w, (void)y;
    return false;
  }

  virtual void copy_bytes(void* dst, const void* src, size_t n) = 0;
  virtual void synchronize() = 0;
};

// The backend of a device; DeviceError if there is none.
TG_API Backend& backend(Device d);
// The two CPU implementations: `ref` is the plain-loop oracle, `cpu` the fast one.
TG_API Backend& ref_backend();
TG_API Backend& cpu_backend();
// Makes `ref` serve Device cpu while on (conformance tests).
TG_API void use_ref_backend(bool on);
TG_API bool using_ref_backend();

}  // namespace tg
