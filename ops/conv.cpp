// Convolutions in one, two and three dimensions as matrix products over columns of windows.
// Three hidden ops are each other's gradients: with y = convolution(x, w),
//   x' = convolution_input(y, w)   the adjoint in x (a transposed convolution)
//   w' = convolution_weight(x, y)  the adjoint in w
#include "backends/convolution.h"
#include "ops/copy_view.h"
#include "ops/windows.h"

namespace tg {
namespace {

// x (N, groups * in, s..), w (groups * out, in, k..), y (N, groups * out, o..); one entry per spatial dimension in
// Dims.
//
// The columns (rows, span) of a sample and group hold the taps of all spatial axes but the first. Where the first has
// stride 1, a step of its kernel only shifts the columns: y = sum over steps k of w[k] @ columns[:, k *
// step:][:points]. That is a third of the copying of a 3x3 kernel. Otherwise `shifts` is 1 and the columns hold all
// taps.
struct ConvGeometry : ConvShape {
  int n = 0;
  int64_t taps = 1, points = 1;  // elements of a window, windows per sample
  int64_t shifts = 1, step = 0;  // products per sample, distance of their columns
  int64_t span = 0;              // columns of a sample, `points` of which take part in each product
  Dims size, padding;
  int64_t rows() const { return in * taps / shifts; }  // of the column matrix of one group
  bool are_columns() const {                           // the padded input is the column matrix
    for (int i = 0; i < n; ++i)
      if (stride[i] != 1 || (kernel[i] != 1 && (i > 0 || shifts == 1))) return false;
    return true;
  }
};

// Products with fewer rows would cost more than the columns they save.
constexpr int64_t kLeastRows = 16;

void choose_shifts(ConvGeometry& g) {
  const int64_t inner = g.windows[0] > 0 ? g.points / g.windows[0] : 0;
  g.span = g.points;
  if (g.stride[0] != 1 || g.kernel[0] == 1 || g.in * g.taps / g.kernel[0] < kLeastRows) return;
  g.shifts = g.kernel[0];
  g.step = g.dilation[0] * inner;
  g.span = g.padded[0] * inner;
}

// `w`: sizes of the weight; `windows` empty = as many as fit.
ConvGeometry geometry(const char* op, const Dims& x, const Dims& w, IntList stride, IntList padding, IntList dilation,
                      int64_t groups, const Dims& windows = {}) {
  ConvGeometry g;
  g.n = w.size() - 2;
  TG_CHECK(g.n >= 1 && x.size() == w.size(), ShapeError, op,
           ": input and weight must have the same number of dimensions", ", at least 3; input has shape ", x,
           ", weight ", w);
  TG_CHECK(groups > 0 && w[0] % groups == 0 && x[1] == w[1] * groups, ShapeError, op, ": input has ", x[1],
           " channels but weight expects ", w[1] * groups, " (groups=", groups, "); input has shape ", x, ", weight ",
           w);
  g.batch = x[0], g.groups = groups, g.in = w[1], g.out = w[0] / groups;
  g.stride = spatial_option(op, "stride", stride, g.n, 1);
  g.padding = spatial_option(op, "padding", padding, g.n, 0);
  g.dilation = spatial_option(op, "dilation", dilation, g.n, 1);
  for (int i = 0; i < g.n; ++i) {
    int64_t size = x[2 + i], k = w[2 + i], pad = size + 2 * g.padding[i];
    TG_CHECK(k > 0, ShapeError, op, ": the kernel is empty in spatial dimension ", i, "; weight has shape ", w);
    int64_t span = window_span(k, g.dilation[i]);
    TG_CHECK(span <= pad, ShapeError, op, ": the kernel covers ", span, " elements but the padded input has ", pad,
             " in spatial dimension ", i, "; input has shape ", x, ", weight ", w);
    int64_t fit = (pad - span) / g.stride[i] + 1;
    TG_CHECK(windows.empty() || windows[i] <= fit, ShapeError, op, ": ", windows[i], " windows do not fit into ", pad,
             " elements in spatial dimension ", i);
    g.size.push_back(size);
    g.kernel.push_back(k);
    g.padded.push_back(pad);
    g.windows.push_back(windows.empty() ? fit : windows[i]);
    g.taps *= k;
    g.points *= g.windows[i];
  }
  choose_shifts(g);
  return g;
}

Dims joined(int64_t a, int64_t b, const Dims& rest) {
  Dims d{a, b};
  for (int64_t s : rest) d.push_back(s);
  return d;
}

// The part of a padded tensor (N, C, padded..) that holds the unpadded one.
Tensor interior(const Tensor& t, const ConvGeometry& g) {
  int64_t offset = t.storage_offset();
  for (int i = 0; i < g.n; ++i) offset += g.padding[i] * t.strides()[2 + i];
  return make_view(t, joined(t.size(0), t.size(1), g.size), t.strides(), offset);
}

Tensor padded_image(const Tensor& x, const ConvGeometry& g) {
  if (g.padded == g.size) return contiguous(x);
  Tensor t = zeros(joined(x.size(0), x.size(1), g.padded), x.dtype(), x.device());
  copy_view(x.device(), View(x), View(interior(t, g)));
  return t;
}

// (b, groups, rows, cols) over contiguous memory with the given strides, in elements.
View matrices(const Tensor& t, int64_t b, int64_t groups, int64_t rows, int64_t cols, Dims stride) {
  View v(t);
  v.shape = {b, groups, rows, cols};
  v.stride = stride;
  return v;
}

// c[n, g] = a[n, g] @ b[n, g] + beta c[n, g]. The waist has one batch axis: loops over the shorter of the two.
void grouped_gemm(Backend& be, const View& a, const View& b, double beta, const View& c) {
  int loop = c.shape[0] <= c.shape[1] ? 0 : 1;
  auto slice = [&](View v, int64_t i) {
    v.data = static_cast<char*>(v.data) + i * v.stride[loop] * itemsize(v.dtype);
    v.shape.erase(loop);
    v.stride.erase(loop);
    return v;
  };
  for (int64_t i = 0; i < c.shape[loop]; ++i) be.gemm(1.0, slice(a, i), slice(b, i), beta, slice(c, i));
}

// Calls f(first sample, number of samples, columns (count, groups, rows, span)) for blocks of samples, so that the
// column buffer stays small. Filled from the padded input `x` before, or (`store`) zeroed before and added to x after.
template <class F>
void for_column_blocks(const ConvGeometry& g, const Tensor& x, bool store, F&& f) {
  Backend& be = backend(x.device());
  int64_t per_group = g.rows() * g.span, per_sample = g.groups * per_group;
  if (g.are_columns()) {
    View cols = matrices(x, g.batch, g.groups, g.rows(), g.span, {per_sample, per_group, g.span, 1});
    f(0, g.batch, cols);
    return;
  }
  constexpr int64_t kBufferBytes = int64_t(4) << 20;
  int64_t block =
      std::clamp<int64_t>(kBufferBytes / std::max<int64_t>(1, per_sample * itemsize(x.dtype())), 1, g.batch);
  Tensor buffer = empty_tensor({block, per_sample}, x.dtype(), x.device());
  Dims windows = g.windows, kernel = g.kernel;
  if (g.shifts > 1) windows[0] = g.padded[0], kernel[0] = 1;
  View taps = column_view(View(x), windows, kernel, g.stride, g.dilation);
  View flat = taps;  // the same axes over the contiguous buffer
  flat.data = buffer.data();
  flat.stride = contiguous_strides(flat.shape);
  for (int64_t first = 0; first < g.batch; first += block) {
    int64_t count = std::min(block, g.batch - first);
    View cols = matrices(buffer, count, g.groups, g.rows(), g.span, {per_sample, per_group, g.span, 1});
    View from = slice_view(taps, 0, first, count), to = flat;
    to.shape[0] = count;
    if (!store)
      copy_view(x.device(), from, to);
    else if (g.shifts > 1)
      zero_(buffer);
    f(first, count, cols);
    if (store) be.fold(to, from);
  }
}

// The columns that meet step k of the first kernel axis.
View columns_of(const View& cols, const ConvGeometry& g, int64_t k) {
  return slice_view(cols, 3, k * g.step, g.points);
}

View transposed(View v) {
  std::swap(v.shape[2], v.shape[3]);
  std::swap(v.stride[2], v.stride[3]);
  return v;
}

// A weight (groups * out, in, k0, k..) as (k0, groups * out, in, k..): one matrix for each product. `to_steps` copies
// from the weight to the steps, else back.
void copy_steps(const ConvGeometry& g, const Tensor& weight, const Tensor& steps, bool to_steps) {
  View w(weight), v(steps);
  const int64_t inner = g.taps / g.shifts;
  w.shape = v.shape = {g.shifts, g.groups * g.out, g.in, inner};
  w.stride = {inner, g.in * g.taps, g.taps, 1};
  v.stride = contiguous_strides(v.shape);
  copy_view(weight.device(), to_steps ? w : v, to_steps ? v : w);
}
Tensor steps_of(const ConvGeometry& g, const Tensor& weight) {
  Tensor w = contiguous(weight);
  if (g.shifts == 1) return w;
  Tensor steps = empty_tensor({g.shifts, g.groups * g.out, g.rows()}, w.dtype(), w.device());
  copy_steps(g, w, steps, true);
  return steps;
}
// The matrices (count, groups, out, rows) of step k, the same for every sample.
View step_matrices(const ConvGeometry& g, const Tensor& steps, int64_t k, int64_t count) {
  View v = matrices(steps, count, g.groups, g.out, g.rows(), {0, g.out * g.rows(), g.rows(), 1});
  v.data = static_cast<char*>(v.data) + k * g.groups * g.out * g.rows() * itemsize(v.dtype);
  return v;
}
// A contiguous y or its gradient as (batch, groups, out, points).
View result_matrices(const ConvGeometry& g, const Tensor& y) {
  int64_t per_group = g.out * g.points;
  return matrices(y, g.batch, g.groups, g.out, g.points, {g.groups * per_group, per_group, g.points, 1});
}

// The one of the three that is wanted, and given undefined, from a library of the device; undefined if there is none
// that takes the call.
Tensor by_library(ConvPart part, const ConvGeometry& g, Tensor x, Tensor w, Tensor y) {
  const Tensor given = part == ConvPart::Output ? x : y;
  ConvolutionKernels* kernels = modes().fast_paths ? convolution_kernels(given.device()) : nullptr;
  if (!kernels) return {};
  Tensor result;
  auto view = [&](Tensor& t, const Dims& sizes) {
    if (t.defined()) return View(t = contiguous(t));
    View v;
    v.dtype = given.dtype(), v.shape = sizes, v.stride = contiguous_strides(sizes);
    return v;
  };
  const View vx = view(x, joined(g.batch, g.groups * g.in, g.size));
  const View vw = view(w, joined(g.groups * g.out, g.in, g.kernel));
  const View vy = view(y, joined(g.batch, g.groups * g.out, g.windows));
  const Dims& sizes = (part == ConvPart::Output ? vy : part == ConvPart::Input ? vx : vw).shape;
  auto allocate = [&] {
    result = empty_tensor(sizes, given.dtype(), given.device());
    return result.data();
  };
  return kernels->convolve(part, g, g.padding, vx, vw, vy, allocate) ? result : Tensor();
}

Tensor convolution_primitive(const Tensor& x, const Tensor& weight, IntList stride, IntList padding, IntList dilation,
                             int64_t groups) {
  ConvGeometry g = geometry("convolution", x.sizes(), weight.sizes(), stride, padding, dilation, groups);
  Dims sizes = joined(g.batch, g.groups * g.out, g.windows);
  if (numel_of(sizes, "convolution") == 0 || g.rows() == 0) return zeros(sizes, x.dtype(), x.device());
  if (Tensor y = by_library(ConvPart::Output, g, x, weight, {}); y.defined()) return y;
  Tensor y = empty_tensor(sizes, x.dtype(), x.device());
  Tensor px = padded_image(x, g);
  Backend& be = backend(x.device());
  if (modes().fast_paths && be.convolution(g, View(px), View(contiguous(weight)), View(y))) return y;
  Tensor w = steps_of(g, weight);
  View vy = result_matrices(g, y);
  for_column_blocks(g, px, false, [&](int64_t first, int64_t count, const View& cols) {
    for (int64_t k = 0; k < g.shifts; ++k)
      grouped_gemm(be, step_matrices(g, w, k, count), columns_of(cols, g, k), k > 0, slice_view(vy, 0, first, count));
  });
  return y;
}

// The weight with its channels exchanged and its taps reversed: (groups * in, out, k..).
Tensor reversed_weight(const ConvGeometry& g, const Tensor& weight) {
  Tensor w = contiguous(weight), r = empty_tensor(joined(g.groups * g.in, g.out, g.kernel), w.dtype(), w.device());
  View from(w), to(r);
  from.shape = to.shape = {g.groups, g.in, g.out, g.taps};
  from.stride = {g.out * g.in * g.taps, g.taps, g.in * g.taps, -1};
  from.data = static_cast<char*>(from.data) + (g.taps - 1) * itemsize(w.dtype());
  to.stride = contiguous_strides(to.shape);
  copy_view(w.device(), from, to);
  return r;
}

// The adjoint of a convolution of stride 1 is one: of the padded gradient by the reversed weight.
bool input_by_convolution(const ConvGeometry& g, const Tensor& grad, const Tensor& weight, Tensor& dx) {
  ConvGeometry t;
  t.n = g.n;
  t.batch = g.batch, t.groups = g.groups, t.in = g.out, t.out = g.in;
  t.kernel = g.kernel, t.windows = g.size, t.stride = g.stride, t.dilation = g.dilation, t.size = g.windows;
  for (int i = 0; i < g.n; ++i) {
    const int64_t span = window_span(g.kernel[i], g.dilation[i]), pad = span - 1 - g.padding[i];
    if (g.stride[i] != 1 || pad < 0 || g.windows[i] != g.padded[i] - span + 1) return false;
    t.padding.push_back(pad);
    t.padded.push_back(g.windows[i] + 2 * pad);
  }
  if (grad.numel() == 0 || g.in == 0) return false;
  dx = empty_tensor(joined(g.batch, g.groups * g.in, g.size), grad.dtype(), grad.device());
  return backend(grad.device()).convolution(t, View(padded_image(grad, t)), View(reversed_weight(g, weight)), View(dx));
}

Tensor convolution_input_primitive(const Tensor& grad, const Tensor& weight, IntList size, IntList stride,
                                   IntList padding, IntList dilation, int64_t groups) {
  const char* op = "convolution_input";
  TG_CHECK(grad.ndim() >= 3 && grad.ndim() == weight.ndim() && size.size() == grad.ndim() - 2, ShapeError, op,
           ": grad, weight and size do not match; grad=", describe(grad), ", weight=", describe(weight),
           ", size=", size);
  TG_CHECK(grad.size(1) == weight.size(0), ShapeError, op, ": grad has ", grad.size(1), " channels but weight expects ",
           weight.size(0), "; grad=", describe(grad), ", weight=", describe(weight));
  Dims windows(grad.sizes().begin() + 2, grad.sizes().end());
  ConvGeometry g = geometry(op, joined(grad.size(0), weight.size(1) * groups, size.dims()), weight.sizes(), stride,
                            padding, dilation, groups, windows);
  if (grad.numel() > 0)
    if (Tensor dx = by_library(ConvPart::Input, g, {}, weight, grad); dx.defined()) return dx;
  if (Tensor dx; modes().fast_paths && input_by_convolution(g, grad, weight, dx)) return dx;
  Tensor px = zeros(joined(g.batch, g.groups * g.in, g.padded), grad.dtype(), grad.device());
  if (px.numel() > 0 && grad.numel() > 0) {
    Tensor y = contiguous(grad), w = steps_of(g, weight);
    View vy = result_matrices(g, y);
    Backend& be = backend(grad.device());
    for_column_blocks(g, px, true, [&](int64_t first, int64_t count, const View& cols) {
      for (int64_t k = 0; k < g.shifts; ++k)
        grouped_gemm(be, transposed(step_matrices(g, w, k, count)), slice_view(vy, 0, first, count), g.shifts > 1,
                     columns_of(cols, g, k));
    });
  }
  return g.padded == g.size ? px : contiguous(interior(px, g));
}

Tensor convolution_weight_primitive(const Tensor& x, const Tensor& grad, IntList kernel, IntList stride,
                                    IntList padding, IntList dilation, int64_t groups) {
  const char* op = "convolution_weight";
  TG_CHECK(x.ndim() >= 3 && grad.ndim() == x.ndim() && kernel.size() == x.ndim() - 2, ShapeError, op,
           ": input, grad and kernel do not match; input=", describe(x), ", grad=", describe(grad),
           ", kernel=", kernel);
  TG_CHECK(groups > 0 && x.size(0) == grad.size(0), ShapeError, op, ": input has ", x.size(0), " samples but grad has ",
           grad.size(0), "; input=", describe(x), ", grad=", describe(grad));
  Dims windows(grad.sizes().begin() + 2, grad.sizes().end());
  Dims sizes = joined(grad.size(1), x.size(1) / groups, kernel.dims());
  ConvGeometry g = geometry(op, x.sizes(), sizes, stride, padding, dilation, groups, windows);
  if (numel_of(sizes, op) == 0 || grad.numel() == 0) return zeros(sizes, x.dtype(), x.device());
  Tensor y = contiguous(grad);
  if (Tensor dw = by_library(ConvPart::Weight, g, x, {}, y); dw.defined()) return dw;
  Tensor dw = zeros(sizes, x.dtype(), x.device());
  Tensor px = padded_image(x, g);
  Backend& be = backend(x.device());
  if (modes().fast_paths && be.convolution_weight(g, View(px), View(y), View(dw))) return dw;
  Tensor steps = g.shifts == 1 ? dw : zeros({g.shifts, g.groups * g.out, g.rows()}, x.dtype(), x.device());
  View vy = result_matrices(g, y);
  // The steps are the batch of the products: (steps, groups, out, rows) += y @ columns^T for each sample.
  View to = step_matrices(g, steps, 0, g.shifts);
  to.stride[0] = g.groups * g.out * g.rows();
  for_column_blocks(g, px, false, [&](int64_t first, int64_t count, const View& cols) {
    for (int64_t i = 0; i < count; ++i) {
      View a = slice_view(vy, 0, first + i, 1), b = columns_of(slice_view(cols, 0, i, 1), g, 0);
      a.shape[0] = b.shape[0] = g.shifts;
      a.stride[0] = 0, b.stride[0] = g.step;
      grouped_gemm(be, a, transposed(b), 1.0, to);
    }
  });
  if (g.shifts > 1) copy_steps(g, dw, steps, false);
  return dw;
}

// ---- gradients

// output_padding of a transposed convolution may leave room for more windows than there were.
Tensor first_windows(Tensor t, const Dims& sizes) {
  for (int d = 2; d < t.ndim(); ++d)
    if (t.size(d) != sizes[d]) t = narrow(t, d, 0, sizes[d]);
  return t;
}
IntList spatial(const Dims& sizes) { return IntList(sizes.begin() + 2, sizes.size() - 2); }

Tensor convolution_dx(GradCtx& c) {
  return convolution_input(c.g(), c.x(1), spatial(c.shape(0)), c.arg<IntList>(2), c.arg<IntList>(3), c.arg<IntList>(4),
                           c.arg<int64_t>(5));
}
Tensor convolution_dw(GradCtx& c) {
  return convolution_weight(c.x(0), c.g(), spatial(c.shape(1)), c.arg<IntList>(2), c.arg<IntList>(3), c.arg<IntList>(4),
                            c.arg<int64_t>(5));
}
Tensor convolution_input_dy(GradCtx& c) {
  return first_windows(
      convolution(c.g(), c.x(1), c.arg<IntList>(3), c.arg<IntList>(4), c.arg<IntList>(5), c.arg<int64_t>(6)),
      c.shape(0));
}
Tensor convolution_input_dw(GradCtx& c) {
  return convolution_weight(c.g(), c.x(0), spatial(c.shape(1)), c.arg<IntList>(3), c.arg<IntList>(4), c.arg<IntList>(5),
                            c.arg<int64_t>(6));
}
Tensor convolution_weight_dx(GradCtx& c) {
  return convolution_input(c.x(1), c.g(), spatial(c.shape(0)), c.arg<IntList>(3), c.arg<IntList>(4), c.arg<IntList>(5),
                           c.arg<int64_t>(6));
}
Tensor convolution_weight_dy(GradCtx& c) {
  return first_windows(
      convolution(c.x(0), c.g(), c.arg<IntList>(3), c.arg<IntList>(4), c.arg<IntList>(5), c.arg<int64_t>(6)),
      c.shape(1));
}

// ---- public ops

// Shape and type checks shared by both directions; `channels`: the axis of weight that matches the input's channels.
void check_conv(const char* op, int n, const Tensor& x, const Tensor& w, const Tensor& bias, int64_t groups,
                bool transpose) {
  TG_CHECK(w.ndim() == n + 2, ShapeError, op, ": weight must have ", n + 2, " dimensions, got ", w.ndim(),
           "; weight=", describe(w));
  TG_CHECK(x.ndim() == n + 1 || x.ndim() == n + 2, ShapeError, op, ": input must have ", n + 1, " or ", n + 2,
           " dimensions, got ", x.ndim(), "; input=", describe(x));
  TG_CHECK(groups > 0, ValueError, op, ": groups must be positive, got ", groups);
  int64_t ch = x.size(-1 - n), want = transpose ? w.size(0) : w.size(1) * groups;
  TG_CHECK(ch == want, ShapeError, op, ": input has ", ch, " channels but weight expects ", want, " (groups=", groups,
           "); input=", describe(x), ", weight=", describe(w));
  TG_CHECK(w.size(0) % groups == 0, ShapeError, op, ": ", w.size(0), transpose ? " input" : " output",
           " channels cannot be divided into ", groups, " groups; weight=", describe(w));
  TG_CHECK(x.dtype() == w.dtype(), DTypeError, op, ": input and weight must have one dtype; input=", describe(x),
           ", weight=", describe(w));
  TG_CHECK(x.device() == w.device(), DeviceError, op, ": input and weight must be on one device; input=", describe(x),
           ", weight=", describe(w));
  int64_t out = transpose ? w.size(1) * groups : w.size(0);
  TG_CHECK(!bias.defined() || (bias.ndim() == 1 && bias.size(0) == out), ShapeError, op, ": bias must have ", out,
           " elements, one per output channel; bias=", describe(bias), ", weight=", describe(w));
}

Tensor with_bias(const Tensor& y, const Tensor& bias, bool unbatched) {
  Tensor r = y;
  if (bias.defined()) {
    Dims s = Dims::filled(y.ndim(), 1);
    s[1] = bias.numel();
    r = y + reshape(bias, s);
  }
  return unbatched ? squeeze(r, 0) : r;
}

Tensor conv_nd(const char* op, int n, const Tensor& input, const Tensor& w, const Tensor& bias, IntList stride,
               IntList padding, IntList dilation, int64_t groups) {
  check_conv(op, n, input, w, bias, groups, false);
  bool unbatched = input.ndim() == n + 1;
  Tensor x = unbatched ? unsqueeze(input, 0) : input;
  geometry(op, x.sizes(), w.sizes(), stride, padding, dilation, groups);  // errors under the public name
  return with_bias(convolution(x, w, stride, padding, dilation, groups), bias, unbatched);
}

// 'same' pads so that the size stays (one more at the end when odd), 'valid' not at all.
Tensor conv_named(const char* op, int n, const Tensor& input, const Tensor& w, const Tensor& bias, IntList stride,
                  std::string_view padding, IntList dilation, int64_t groups) {
  TG_CHECK(padding == "same" || padding == "valid", ValueError, op,
           ": padding must be a number, 'same' or 'valid', got '", padding, "'");
  if (padding == "valid") return conv_nd(op, n, input, w, bias, stride, 0, dilation, groups);
  check_conv(op, n, input, w, bias, groups, false);
  Dims s = spatial_option(op, "stride", stride, n, 1), d = spatial_option(op, "dilation", dilation, n, 1), even;
  std::vector<int64_t> odd(size_t(2 * n));
  for (int i = 0; i < n; ++i) {
    TG_CHECK(s[i] == 1, ValueError, op, ": padding='same' needs stride 1, got ", stride);
    int64_t total = window_span(w.size(2 + i), d[i]) - 1;
    even.push_back(total / 2);
    odd[size_t(2 * (n - 1 - i) + 1)] = total % 2;  // pad() counts from the last dimension
  }
  bool any_odd = std::any_of(odd.begin(), odd.end(), [](int64_t v) { return v != 0; });
  return conv_nd(op, n, any_odd ? pad(input, odd) : input, w, bias, stride, even, dilation, groups);
}

Tensor conv_transpose_nd(const char* op, int n, const Tensor& input, const Tensor& w, const Tensor& bias,
                         IntList stride, IntList padding, IntList output_padding, int64_t groups, IntList dilation) {
  check_conv(op, n, input, w, bias, groups, true);
  bool unbatched = input.ndim() == n + 1;
  Tensor x = unbatched ? unsqueeze(input, 0) : input;
  Dims s = spatial_option(op, "stride", stride, n, 1), p = spatial_option(op, "padding", padding, n, 0),
       d = spatial_option(op, "dilation", dilation, n, 1),
       extra = spatial_option(op, "output_padding", output_padding, n, 0), size;
  for (int i = 0; i < n; ++i) {
    TG_CHECK(extra[i] < std::max(s[i], d[i]), ValueError, op,
             ": output_padding must be smaller than stride or dilation", ", got output_padding=", output_padding,
             ", stride=", stride, ", dilation=", dilation);
    int64_t out = (x.size(2 + i) - 1) * s[i] - 2 * p[i] + window_span(w.size(2 + i), d[i]) + extra[i];
    TG_CHECK(out > 0 && x.size(2 + i) > 0, ShapeError, op, ": the output would have ", out,
             " elements in spatial dimension ", i, "; input=", describe(input), ", weight=", describe(w));
    size.push_back(out);
  }
  return with_bias(convolution_input(x, w, size, s, p, d, groups), bias, unbatched);
}

#define TG_CONV(N)                                                                                                     \
  Tensor conv##N##d_body(const Tensor& x, const Tensor& w, const Tensor& b, IntList stride, IntList padding,           \
                         IntList dilation, int64_t groups) {                                                           \
    return conv_nd("conv" #N "d", N, x, w, b, stride, padding, dilation, groups);                                      \
  }                                                                                                                    \
  Tensor conv##N##d_named(const Tensor& x, const Tensor& w, const Tensor& b, IntList stride, std::string_view padding, \
                          IntList dilation, int64_t groups) {                                                          \
    return conv_named("conv" #N "d", N, x, w, b, stride, padding, dilation, groups);                                   \
  }                                                                                                                    \
  Tensor conv_transpose##N##d_body(const Tensor& x, const Tensor& w, const Tensor& b, IntList stride, IntList padding, \
                                   IntList output_padding, int64_t groups, IntList dilation) {                         \
    return conv_transpose_nd("conv_transpose" #N "d", N, x, w, b, stride, padding, output_padding, groups, dilation);  \
  }
TG_CONV(1)
TG_CONV(2)
TG_CONV(3)
#undef TG_CONV

// ---- unfold and fold: the columns themselves, (N, C * taps, points)

Tensor im2col_body(const Tensor& input, IntList kernel_size, IntList dilation, IntList padding, IntList stride) {
  const char* op = "unfold";
  TG_CHECK(input.ndim() == 3 || input.ndim() == 4, ShapeError, op,
           ": input must have 3 or 4 dimensions; input=", describe(input));
  Dims k = spatial_option(op, "kernel_size", kernel_size, 2, 1), d = spatial_option(op, "dilation", dilation, 2, 1),
       p = spatial_option(op, "padding", padding, 2, 0), s = spatial_option(op, "stride", stride, 2, 1);
  bool unbatched = input.ndim() == 3;
  Tensor x = unbatched ? unsqueeze(input, 0) : input;
  geometry(op, x.sizes(), {1, x.size(1), k[0], k[1]}, s, p, d, 1);
  if (p[0] + p[1] > 0) x = pad(x, {p[1], p[1], p[0], p[0]});
  Tensor w = permute(windows(x, k, s, d), {0, 1, 4, 5, 2, 3});
  Tensor cols = reshape(w, {w.size(0), w.size(1) * k[0] * k[1], w.size(4) * w.size(5)});
  return unbatched ? squeeze(cols, 0) : cols;
}

Tensor fold_body(const Tensor& input, IntList output_size, IntList kernel_size, IntList dilation, IntList padding,
                 IntList stride) {
  const char* op = "fold";
  TG_CHECK(input.ndim() == 2 || input.ndim() == 3, ShapeError, op,
           ": input must have 2 or 3 dimensions; input=", describe(input));
  Dims size = spatial_option(op, "output_size", output_size, 2, 1),
       k = spatial_option(op, "kernel_size", kernel_size, 2, 1), d = spatial_option(op, "dilation", dilation, 2, 1),
       p = spatial_option(op, "padding", padding, 2, 0), s = spatial_option(op, "stride", stride, 2, 1);
  bool unbatched = input.ndim() == 2;
  Tensor x = unbatched ? unsqueeze(input, 0) : input;
  TG_CHECK(x.size(1) % (k[0] * k[1]) == 0, ShapeError, op, ": dimension 1 must be divisible by the ", k[0] * k[1],
           " elements of the kernel, got ", x.size(1), "; input=", describe(input));
  int64_t ch = x.size(1) / (k[0] * k[1]);
  ConvGeometry g = geometry(op, {x.size(0), ch, size[0], size[1]}, {1, ch, k[0], k[1]}, s, p, d, 1);
  TG_CHECK(x.size(2) == g.points, ShapeError, op, ": output_size=", output_size, " has ", g.points,
           " windows but input has ", x.size(2), "; input=", describe(input));
  Tensor w = reshape(x, {x.size(0), ch, k[0], k[1], g.windows[0], g.windows[1]});
  Tensor y = windows_fold(permute(w, {0, 1, 4, 5, 2, 3}), g.padded, s, d);
  y = narrow(narrow(y, 2, p[0], size[0]), 3, p[1], size[1]);
  return unbatched ? squeeze(y, 0) : y;
}

TG_OP("convolution(Tensor input, Tensor weight, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor",
      .doc = "Convolution in any number of spatial dimensions, without bias.", .primitive = box<convolution_primitive>,
      .grads = {{in(1), convolution_dx}, {in(0), convolution_dw}}, .flags = kHidden, .torch = "none",
      .samples = "T(2,3,5,4), T(4,3,3,2), [1], [1], [1], 1; T(2,4,7), T(6,2,3), [2], [1], [2], 2");
TG_OP(
    "convolution_input(Tensor grad, Tensor weight, int[] size, int[] stride, int[] padding, int[] dilation, "
    "int groups) -> Tensor",
    .doc = "Adjoint of convolution in its input, whose spatial sizes are `size`.",
    .primitive = box<convolution_input_primitive>,
    .grads = {{in(1), convolution_input_dy}, {in(0), convolution_input_dw}}, .flags = kHidden, .torch = "none",
    .samples = "T(2,4,5,5), T(4,3,3,2), [5,4], [1], [1], [1], 1; T(2,6,3), T(6,2,3), [7], [2], [1], [2], 2");
TG_OP(
    "convolution_weight(Tensor input, Tensor grad, int[] kernel, int[] stride, int[] padding, int[] dilation, "
    "int groups) -> Tensor",
    .doc = "Adjoint of convolution in its weight, whose spatial sizes are `kernel`.",
    .primitive = box<convolution_weight_primitive>,
    .grads = {{in(1), convolution_weight_dx}, {in(0), convolution_weight_dy}}, .flags = kHidden, .torch = "none",
    .samples = "T(2,3,5,4), T(2,4,5,5), [3,2], [1], [1], [1], 1; T(2,4,7), T(2,6,3), [3], [2], [1], [2], 2");

TG_OP(
    "conv1d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, int[] dilation=1, "
    "int groups=1) -> Tensor",
    .doc = "Convolution of (N, C, L) or (C, L) with weight (out, C / groups, k).", .composite = box<conv1d_body>,
    .flags = kAlsoNN, .autocast = Autocast::Low,
    .samples = "T(2,3,7), T(4,3,3), T(4); T(3,7), T(4,3,3); T(2,4,9), T(6,2,3), T(6), 2, 1, 2, 2; T(2,3,7), T(4,3,1)");
TG_OP(
    "conv1d.named(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, str padding='valid', int[] "
    "dilation=1, "
    "int groups=1) -> Tensor",
    .doc = "Convolution with padding 'same' or 'valid'.", .composite = box<conv1d_named>, .flags = kAlsoNN,
    .autocast = Autocast::Low,
    .samples = "T(2,3,7), T(4,3,4), T(4), padding='same'; T(2,3,7), T(4,3,3), None, 2, 'valid'");
TG_OP(
    "conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, int[] dilation=1, "
    "int groups=1) -> Tensor",
    .doc = "Convolution of (N, C, H, W) or (C, H, W) with weight (out, C / groups, kh, kw).",
    .composite = box<conv2d_body>, .flags = kAlsoNN, .autocast = Autocast::Low,
    .samples =
        "T(2,3,6,5), T(4,3,3,2), T(4); T(3,5,5), T(4,3,3,3), None, 1, 1; T(2,4,7,6), T(6,2,3,2), T(6), [2,1], "
        "[1,0], [2,1], 2; T(2,4,5,5), T(4,1,3,3), None, 1, 1, 1, 4; T(2,3,4,4), T(5,3,1,1), T(5); T(0,3,5,5), "
        "T(4,3,3,3), T(4); T(1,2,17,9), T(3,2,5,3), T(3), 3, 2");
TG_OP(
    "conv2d.named(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, str padding='valid', int[] "
    "dilation=1, "
    "int groups=1) -> Tensor",
    .doc = "Convolution with padding 'same' or 'valid'.", .composite = box<conv2d_named>, .flags = kAlsoNN,
    .autocast = Autocast::Low,
    .samples = "T(2,3,6,5), T(4,3,3,2), T(4), 1, 'same'; T(2,3,6,5), T(4,3,3,2), None, [2,1], 'valid'");
TG_OP(
    "conv3d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, int[] dilation=1, "
    "int groups=1) -> Tensor",
    .doc = "Convolution of (N, C, D, H, W) or (C, D, H, W) with weight (out, C / groups, kd, kh, kw).",
    .composite = box<conv3d_body>, .flags = kAlsoNN, .autocast = Autocast::Low,
    .samples =
        "T(1,2,4,4,3), T(3,2,2,2,2), T(3); T(2,3,4,4), T(2,2,2,3,2), None, 1, 1; T(1,2,5,4,4), T(2,1,2,2,2), "
        "None, [2,1,2], [0,1,1], [2,1,1], 2");
TG_OP(
    "conv3d.named(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, str padding='valid', int[] "
    "dilation=1, "
    "int groups=1) -> Tensor",
    .doc = "Convolution with padding 'same' or 'valid'.", .composite = box<conv3d_named>, .flags = kAlsoNN,
    .autocast = Autocast::Low, .samples = "T(1,2,4,4,3), T(3,2,2,3,2), T(3), 1, 'same'");
TG_OP(
    "conv_transpose1d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, "
    "int[] output_padding=0, int groups=1, int[] dilation=1) -> Tensor",
    .doc = "Transposed convolution of (N, C, L) or (C, L) with weight (C, out / groups, k).",
    .composite = box<conv_transpose1d_body>, .flags = kAlsoNN, .autocast = Autocast::Low,
    .samples = "T(2,3,5), T(3,4,3), T(4); T(3,5), T(3,4,3), None, 2, 1, 1; T(2,4,4), T(4,3,3), T(6), 3, 2, 1, 2, 2");
TG_OP(
    "conv_transpose2d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, "
    "int[] output_padding=0, int groups=1, int[] dilation=1) -> Tensor",
    .doc = "Transposed convolution of (N, C, H, W) or (C, H, W) with weight (C, out / groups, kh, kw).",
    .composite = box<conv_transpose2d_body>, .flags = kAlsoNN, .autocast = Autocast::Low,
    .samples =
        "T(2,3,4,3), T(3,4,3,2), T(4); T(3,3,3), T(3,2,2,2), None, 2; T(2,4,3,4), T(4,3,3,2), T(6), [2,1], "
        "[1,0], [1,0], 2, [1,2]; T(1,2,3,3), T(2,2,3,3), None, 1, 1, 1, 1, 2");
TG_OP(
    "conv_transpose3d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, "
    "int[] output_padding=0, int groups=1, int[] dilation=1) -> Tensor",
    .doc = "Transposed convolution of (N, C, D, H, W) or (C, D, H, W) with weight (C, out / groups, kd, kh, kw).",
    .composite = box<conv_transpose3d_body>, .flags = kAlsoNN, .autocast = Autocast::Low,
    .samples = "T(1,2,3,2,2), T(2,3,2,2,2), T(3); T(2,2,3,2), T(2,1,2,2,2), None, 2, 1, 1, 2");
TG_OP("unfold.im2col(Tensor input, int[] kernel_size, int[] dilation=1, int[] padding=0, int[] stride=1) -> Tensor",
      .doc = "Windows of (N, C, H, W) or (C, H, W) as columns (N, C * kh * kw, windows).",
      .composite = box<im2col_body>, .flags = kNN, .torch = "nn.functional.unfold",
      .samples = "T(2,3,5,4), [3,2]; T(3,5,4), 2; T(2,3,6,5), [2,3], 2, [1,0], [2,1]");
TG_OP(
    "fold(Tensor input, int[] output_size, int[] kernel_size, int[] dilation=1, int[] padding=0, int[] stride=1) -> "
    "Tensor",
    .doc = "Sum of columns (N, C * kh * kw, windows) where their windows lie in (N, C, H, W).",
    .composite = box<fold_body>, .flags = kNN, .torch = "nn.functional.fold",
    .samples = "T(2,18,9), [5,4], [3,2]; T(12,12), [5,4], 2; T(2,18,12), [6,5], [2,3], 1, [1,0], [2,1]");

}  // namespace
}  // namespace tg
