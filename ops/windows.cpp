#include "ops/windows.h"

#include "ops/fast_path.h"

namespace tg {

Dims spatial_option(const char* op, const char* name, IntList values, int n, int64_t least) {
  TG_CHECK(values.size() == 1 || values.size() == n, ValueError, op, ": ", name, " must have 1 or ", n,
           " elements, got ", values);
  Dims d;
  for (int i = 0; i < n; ++i) {
    int64_t v = values[values.size() == 1 ? 0 : i];
    TG_CHECK(v >= least && v < (int64_t(1) << 31), ValueError, op, ": ", name, " must be at least ", least,
             " and below 2^31, got ", values);
    d.push_back(v);
  }
  return d;
}

namespace {

View split_axes(const View& v, const Dims& out, const Dims& kernel, const Dims& stride, const Dims& dilation,
                bool taps_first) {
  int n = out.size(), lead = v.ndim() - n;
  View w;
  w.data = v.data;
  w.dtype = v.dtype;
  w.shape = Dims(v.shape.begin(), v.shape.begin() + lead);
  w.stride = Dims(v.stride.begin(), v.stride.begin() + lead);
  for (int part = 0; part < 2; ++part) {
    bool taps = (part == 0) == taps_first;
    for (int i = 0; i < n; ++i) {
      w.shape.push_back(taps ? kernel[i] : out[i]);
      w.stride.push_back(v.stride[lead + i] * (taps ? dilation[i] : stride[i]));
    }
  }
  return w;
}

// Number of windows along each of the last axes.
Dims window_counts(const Tensor& x, const Dims& kernel, const Dims& stride, const Dims& dilation) {
  Dims out;
  int n = kernel.size(), lead = x.ndim() - n;
  for (int i = 0; i < n; ++i) {
    int64_t size = x.sizes()[lead + i], span = window_span(kernel[i], dilation[i]);
    TG_CHECK(span <= size, ShapeError, "windows: a window covers ", span, " elements but dimension ", lead + i, " has ",
             size, "; input=", describe(x));
    out.push_back((size - span) / stride[i] + 1);
  }
  return out;
}

Tensor windows_primitive(const Tensor& x, IntList kernel, IntList stride, IntList dilation) {
  int n = int(kernel.size());
  TG_CHECK(n <= x.ndim(), ShapeError, "windows: ", n, " window dimensions for input=", describe(x));
  Dims k = spatial_option("windows", "kernel", kernel, n, 1), s = spatial_option("windows", "stride", stride, n, 1),
       d = spatial_option("windows", "dilation", dilation, n, 1);
  View v = window_view(View(x), window_counts(x, k, s, d), k, s, d);
  return make_view(x, v.shape, v.stride, x.storage_offset());
}

Tensor windows_fold_primitive(const Tensor& x, IntList size, IntList stride, IntList dilation) {
  int n = int(size.size()), lead = x.ndim() - 2 * n;
  TG_CHECK(lead >= 0, ShapeError, "windows_fold: input needs ", 2 * n, " window dimensions; input=", describe(x));
  Dims s = spatial_option("windows_fold", "stride", stride, n, 1),
       d = spatial_option("windows_fold", "dilation", dilation, n, 1);
  Dims out, kernel, sizes(x.sizes().begin(), x.sizes().begin() + lead);
  for (int i = 0; i < n; ++i) {
    out.push_back(x.sizes()[lead + i]);
    kernel.push_back(x.sizes()[lead + n + i]);
    sizes.push_back(size[i]);
    int64_t need = out[i] == 0 ? 0 : (out[i] - 1) * s[i] + window_span(kernel[i], d[i]);
    TG_CHECK(need <= size[i], ShapeError, "windows_fold: windows cover ", need, " elements but size is ", size,
             "; input=", describe(x));
  }
  Tensor y = zeros(sizes, x.dtype(), x.device());
  if (x.numel() > 0) backend(x.device()).fold(View(x), window_view(View(y), out, kernel, s, d));
  return y;
}

Tensor windows_grad(GradCtx& c) {
  const Dims& sizes = c.shape(0);
  int64_t n = c.arg<IntList>(1).size();
  return windows_fold(c.g(), IntList(sizes.end() - n, n), c.arg<IntList>(2), c.arg<IntList>(3));
}
Tensor windows_fold_grad(GradCtx& c) {
  const Dims& sizes = c.shape(0);
  int64_t n = c.arg<IntList>(1).size();
  return windows(c.g(), IntList(sizes.end() - n, n), c.arg<IntList>(2), c.arg<IntList>(3));
}

TG_OP("windows(Tensor input, int[] kernel, int[] stride, int[] dilation) -> Tensor",
      .doc = "View (.., o1, .., on, k1, .., kn) of the windows over the last n axes.",
      .primitive = box<windows_primitive>, .grads = {{0, windows_grad}}, .flags = kHidden | kView, .torch = "none",
      .samples = "T(2,7), [3], [1], [1]; T(2,7), [2], [2], [3]; T(2,5,6), [2,3], [1,2], [2,1]");
TG_OP("windows_fold(Tensor input, int[] size, int[] stride, int[] dilation) -> Tensor",
      .doc = "Sum of windows (.., o1, .., on, k1, .., kn) where they lie: the adjoint of windows.",
      .primitive = box<windows_fold_primitive>, .grads = {{0, windows_fold_grad}}, .flags = kHidden, .torch = "none",
      .samples = "T(2,5,3), [7], [1], [1]; T(2,2,2), [7], [2], [3]; T(2,3,2,2,3), [5,6], [1,2], [2,1]");

}  // namespace

View window_view(const View& v, const Dims& out, const Dims& kernel, const Dims& stride, const Dims& dilation) {
  return split_axes(v, out, kernel, stride, dilation, false);
}
View column_view(const View& v, const Dims& out, const Dims& kernel, const Dims& stride, const Dims& dilation) {
  return split_axes(v, out, kernel, stride, dilation, true);
}

}  // namespace tg
