// Max, average, power-average and adaptive pooling in one, two and three dimensions.
#include <limits>

#include "ops/copy_view.h"
#include "ops/index.h"
#include "ops/position_table.h"
#include "ops/windows.h"

namespace tg {
namespace {

// Geometry over the last n axes. `right` is the padding after the end that the last window needs.
struct Pooling {
  int n = 0;
  Dims size, kernel, stride, padding, dilation, windows, right;
  bool padded() const {
    return std::any_of(padding.begin(), padding.end(), [](int64_t v) { return v > 0; }) ||
           std::any_of(right.begin(), right.end(), [](int64_t v) { return v > 0; });
  }
  // As pad() takes them: pairs from the last axis on.
  std::vector<int64_t> pads() const {
    std::vector<int64_t> v;
    for (int i = n; i-- > 0;) v.push_back(padding[i]), v.push_back(right[i]);
    return v;
  }
};

Pooling pool_geometry(const char* op, const Tensor& x, int n, IntList kernel, IntList stride, IntList padding,
                      IntList dilation, bool ceil_mode) {
  TG_CHECK(x.ndim() == n + 1 || x.ndim() == n + 2, ShapeError, op, ": input must have ", n + 1, " or ", n + 2,
           " dimensions, got ", x.ndim(), "; input=", describe(x));
  Pooling p;
  p.n = n;
  p.kernel = spatial_option(op, "kernel_size", kernel, n, 1);
  p.stride = stride.empty() ? p.kernel : spatial_option(op, "stride", stride, n, 1);
  p.padding = spatial_option(op, "padding", padding, n, 0);
  p.dilation = spatial_option(op, "dilation", dilation, n, 1);
  for (int i = 0; i < n; ++i) {
    int64_t size = x.size(i - n), pad = p.padding[i], span = window_span(p.kernel[i], p.dilation[i]), s = p.stride[i];
    TG_CHECK(pad <= span / 2, ValueError, op, ": padding must be at most half of the kernel, got padding=", padding,
             ", kernel_size=", kernel, ", dilation=", dilation);
    TG_CHECK(size > 0 && size + 2 * pad >= span, ShapeError, op, ": the window covers ", span,
             " elements but the padded ", "input has ", size + 2 * pad, " in dimension ", x.ndim() - n + i,
             "; input=", describe(x));
    int64_t rest = size + 2 * pad - span, windows = (ceil_mode ? (rest + s - 1) / s : rest / s) + 1;
    // with ceil_mode the last window must start inside the input or its left padding
    if (ceil_mode && (windows - 1) * s >= size + pad) --windows;
    p.size.push_back(size);
    p.windows.push_back(windows);
    p.right.push_back(std::max<int64_t>(0, (windows - 1) * s + span - size - pad));
  }
  return p;
}

Dims leading(const Tensor& x, int n) { return Dims(x.sizes().begin(), x.sizes().end() - n); }
Dims joined(Dims a, const Dims& b) {
  for (int64_t s : b) a.push_back(s);
  return a;
}

// ---- max pooling

// (taps, windows): the flat position in the input of each tap; padding counts as the nearest element.
Tensor tap_positions(const Pooling& p, Device device) {
  const Dims shape = joined(p.kernel, p.windows), inner = contiguous_strides(p.size);
  Tensor t = empty_tensor({numel_of(p.kernel), numel_of(p.windows)}, DType::I64, device);
  if (t.numel() == 0) return t;
  const Tensor count = counting(*std::max_element(shape.begin(), shape.end()), device);
  SmallVec<Scalar, 16> numbers;
  numbers.push_back(0);
  Views ins, outs;
  for (int i = 0; i < p.n; ++i) {
    for (int64_t v : {p.stride[i], p.dilation[i], p.padding[i], p.size[i] - 1, inner[i]}) numbers.push_back(v);
    ins.push_back(counted_axis(count, shape, p.n + i));
    ins.push_back(counted_axis(count, shape, i));
  }
  ProgramWriter w(DType::I64, ins.size(), numbers);
  uint8_t flat = w.number(0);
  for (int i = 0; i < p.n; ++i) {
    auto number = [&](int k) { return w.number(1 + 5 * i + k); };
    uint8_t at = w(Opc::add, w(Opc::mul, uint8_t(2 * i), number(0)), w(Opc::mul, uint8_t(2 * i + 1), number(1)));
    at = w(Opc::minimum, w(Opc::maximum, w(Opc::sub, at, number(2)), w.number(0)), number(3));
    flat = w(Opc::add, flat, w(Opc::mul, at, number(4)));
  }
  w.p.outs.push_back(flat);
  View out(t);
  out.shape = shape;
  out.stride = contiguous_strides(shape);
  outs.push_back(out);
  backend(device).map(w.p, ins, outs);
  return t;
}

Scalar lowest_value(DType t) {
  return visit(t, [](auto tag) -> Scalar {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_integral_v<T>)
      return int64_t(std::numeric_limits<T>::lowest());
    else
      return -std::numeric_limits<double>::infinity();
  });
}

using Winners = std::tuple<Tensor, Tensor>;

// Winners and their flat positions in the input's spatial axes.
Winners max_pool_primitive(const Tensor& x, IntList kernel, IntList stride, IntList padding, IntList dilation,
                           bool ceil_mode) {
  int n = int(kernel.size());
  Pooling p = pool_geometry("max_pool", x, n, kernel, stride, padding, dilation, ceil_mode);
  Dims lead = leading(x, n), out = joined(lead, p.windows);
  int64_t rows = numel_of(lead), points = numel_of(p.windows), taps = numel_of(p.kernel);
  Tensor values = empty_tensor(out, x.dtype(), x.device()), where_at = empty_tensor(out, DType::I64, x.device());
  if (values.numel() == 0) return {values, where_at};
  Tensor px = x;
  Backend& b = backend(x.device());
  if (p.padded()) {
    Dims sizes = lead;
    for (int i = 0; i < n; ++i) sizes.push_back(p.size[i] + p.padding[i] + p.right[i]);
    px = full(sizes, lowest_value(x.dtype()), x.dtype(), x.device());
    int64_t offset = px.storage_offset();
    for (int i = 0; i < n; ++i) offset += p.padding[i] * px.strides()[lead.size() + i];
    copy_view(x.device(), View(x), View(make_view(px, x.sizes(), px.strides(), offset)));
  }
  // (rows, taps, points): one axis to search, and neighbouring windows next to each other
  View from = column_view(View(px), p.windows, p.kernel, p.stride, p.dilation), to = from;
  Tensor win = empty_tensor({rows, taps, points}, x.dtype(), x.device());
  to.data = win.data();
  to.stride = contiguous_strides(to.shape);
  copy_view(x.device(), from, to);
  Tensor tap = empty_tensor({rows, 1, points}, DType::I64, x.device());
  b.arg_reduce(true, View(win), 1, View(reshape(values, {rows, 1, points})), View(tap));
  b.gather(broadcast_to_view(tap_positions(p, x.device()), {rows, taps, points}), 1, View(tap),
           View(reshape(where_at, {rows, 1, points})));
  return {values, where_at};
}

// Each winner's gradient goes where it came from; windows that share a winner add up.
Tensor max_pool_grad(GradCtx& c) {
  const Dims& sizes = c.shape(0);
  const int n = int(c.arg<IntList>(1).size());
  const Dims lead(sizes.begin(), sizes.end() - n), spatial(sizes.end() - n, sizes.end());
  const int64_t elements = numel_of(spatial);
  auto flat = [&](const Tensor& t) {
    return reshape(t, joined(lead, {numel_of(Dims(t.sizes().end() - n, t.sizes().end()))}));
  };
  Tensor g = flat(c.g_or_zeros(0)), z = zeros(joined(lead, {elements}), g.dtype(), g.device());
  // On the CPU the caller of max_pool_with_indices may have written them in ways that no version counts.
  KnownIndices known(!g.device().is_cpu());
  return reshape(scatter_add(z, -1, flat(c.y(1)), g), sizes);
}

Winners max_pool_nd(const char* op, int n, const Tensor& x, IntList kernel, std::optional<IntList> stride,
                    IntList padding, IntList dilation, bool ceil_mode) {
  TG_CHECK(x.dtype() != DType::Bool, DTypeError, op, ": bool tensors are not supported; input=", describe(x));
  Pooling p = pool_geometry(op, x, n, kernel, stride.value_or(IntList(nullptr, 0)), padding, dilation, ceil_mode);
  return max_pool(x, p.kernel, p.stride, p.padding, p.dilation, ceil_mode);
}

// Puts values back at the positions max pooling took them from.
Tensor max_unpool_nd(const char* op, int n, const Tensor& x, const Tensor& indices, IntList kernel,
                     std::optional<IntList> stride, IntList padding, std::optional<IntList> output_size) {
  TG_CHECK(x.ndim() == n + 1 || x.ndim() == n + 2, ShapeError, op, ": input must have ", n + 1, " or ", n + 2,
           " dimensions, got ", x.ndim(), "; input=", describe(x));
  TG_CHECK(indices.dtype() == DType::I64 && indices.sizes() == x.sizes(), ShapeError, op,
           ": indices must be int64 with the shape of input; input=", describe(x), ", indices=", describe(indices));
  Dims k = spatial_option(op, "kernel_size", kernel, n, 1),
       s = stride && !stride->empty() ? spatial_option(op, "stride", *stride, n, 1) : k,
       p = spatial_option(op, "padding", padding, n, 0), lead = leading(x, n), size;
  for (int i = 0; i < n; ++i) size.push_back((x.size(i - n) - 1) * s[i] - 2 * p[i] + k[i]);
  if (output_size) {
    TG_CHECK(output_size->size() == n || output_size->size() == x.ndim(), ValueError, op, ": output_size must have ", n,
             " or ", x.ndim(), " elements, got ", *output_size);
    size = Dims(output_size->end() - n, output_size->end());
  }
  int64_t elements = numel_of(size, op), points = 1;
  for (int i = 0; i < n; ++i) points *= x.size(i - n);
  Dims flat = joined(lead, {points});
  Tensor z = zeros(joined(lead, {elements}), x.dtype(), x.device());
  Tensor y = scatter(z, -1, reshape(indices, flat), reshape(x, flat));
  return reshape(y, joined(lead, size));
}

// ---- average pooling

// What each window's sum is divided by, of the shape of the windows. Along each axis it is min(from + kernel, end) -
// max(from, begin) for the window that starts at `from`.
Tensor divisors(const Pooling& p, bool count_include_pad, DType dtype, Device device) {
  Tensor t = empty_tensor(p.windows, dtype, device);
  if (t.numel() == 0) return t;
  const Tensor count = counting(*std::max_element(p.windows.begin(), p.windows.end()), device);
  SmallVec<Scalar, 16> numbers;
  numbers.push_back(1.0);
  Views ins, outs;
  for (int i = 0; i < p.n; ++i) {
    const int64_t pad = count_include_pad ? p.padding[i] : 0;
    for (int64_t v : {p.stride[i], p.padding[i], p.kernel[i], -pad, p.size[i] + pad}) numbers.push_back(double(v));
    ins.push_back(counted_axis(count, p.windows, i));
  }
  ProgramWriter w(DType::F64, ins.size(), numbers);
  uint8_t elements = w.number(0);
  for (int i = 0; i < p.n; ++i) {
    auto number = [&](int k) { return w.number(1 + 5 * i + k); };
    const uint8_t from = w(Opc::sub, w(Opc::mul, uint8_t(i), number(0)), number(1));
    const uint8_t to = w(Opc::minimum, w(Opc::add, from, number(2)), number(4));
    elements = w(Opc::mul, elements, w(Opc::sub, to, w(Opc::maximum, from, number(3))));
  }
  w.p.outs.push_back(elements);
  outs.push_back(View(t));
  backend(device).map(w.p, ins, outs);
  return t;
}

Tensor avg_pool_nd(const char* op, int n, const Tensor& input, IntList kernel, std::optional<IntList> stride,
                   IntList padding, bool ceil_mode, bool count_include_pad, std::optional<int64_t> divisor) {
  Pooling p = pool_geometry(op, input, n, kernel, stride.value_or(IntList(nullptr, 0)), padding, 1, ceil_mode);
  TG_CHECK(is_float(input.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(input));
  TG_CHECK(!divisor || *divisor != 0, ValueError, op, ": divisor_override must not be 0");
  Tensor x = p.padded() ? pad(input, p.pads()) : input;
  Dims axes;
  for (int i = 0; i < n; ++i) axes.push_back(i - n);
  Tensor total = sum(windows(x, p.kernel, p.stride, p.dilation), axes);
  if (divisor) return total / double(*divisor);
  if (!p.padded()) return total / double(numel_of(p.kernel));
  return total / divisors(p, count_include_pad, total.dtype(), total.device());
}

// The p-th root of the sum of p-th powers.
Tensor lp_pool_nd(const char* op, int n, const Tensor& x, double p, IntList kernel, std::optional<IntList> stride,
                  bool ceil_mode) {
  TG_CHECK(p != 0, ValueError, op, ": norm_type must not be 0");
  Tensor mean = avg_pool_nd(op, n, pow(x, p), kernel, stride, 0, ceil_mode, true, 1);
  return pow(sign(mean) * relu(abs(mean)), 1.0 / p);
}

// ---- adaptive pooling: cell i of o covers elements floor(i s / o) to ceil((i + 1) s / o)

// x with axis `d` replaced by (cells, longest cell); `inside` is false past the end of a shorter cell.
struct Cells {
  Tensor values, inside, count;
};
Cells split_cells(const Tensor& x, int d, int64_t cells) {
  const int64_t size = x.size(d);
  int64_t longest = 0;
  for (int64_t i = 0; i < cells; ++i)
    longest = std::max(longest, ((i + 1) * size + cells - 1) / cells - i * size / cells);
  Dims split = x.sizes(), mask = Dims::filled(x.ndim() + 1, 1), per_cell = Dims::filled(x.ndim(), 1);
  split[d] = cells;
  split.insert(d + 1, longest);
  mask[d] = cells, mask[d + 1] = longest;
  per_cell[d] = cells;
  const Dims shape = {cells, longest};
  Tensor index = empty_tensor(shape, DType::I64, x.device()), inside = empty_tensor(shape, DType::Bool, x.device());
  if (index.numel() > 0) {
    const Tensor count = counting(std::max(cells, longest), x.device());
    const Scalar numbers[] = {size, cells, cells - 1, 1};
    ProgramWriter w(DType::I64, 2, numbers);
    const uint8_t begin = w(Opc::mul, 0, w.number(0));  // of the cell, times `cells`
    const uint8_t end = w(Opc::add, w(Opc::add, begin, w.number(0)), w.number(2));
    const uint8_t behind = w(Opc::floor_divide, end, w.number(1));
    const uint8_t at = w(Opc::add, w(Opc::floor_divide, begin, w.number(1)), 1);
    w.p.outs.push_back(w(Opc::minimum, at, w(Opc::sub, behind, w.number(3))));
    w.p.outs.push_back(w(Opc::lt, at, behind));
    Views ins, outs;
    for (int axis : {0, 1}) ins.push_back(counted_axis(count, shape, axis));
    outs.push_back(View(index)), outs.push_back(View(inside));
    backend(x.device()).map(w.p, ins, outs);
  }
  KnownIndices known;
  Tensor values = index_select(x, d, reshape(index, {index.numel()}));
  return {reshape(values, split), reshape(inside, mask), narrow_to(reshape(sum(inside, 1), per_cell), x.dtype())};
}

Dims adaptive_sizes(const char* op, int n, const Tensor& x, IntList output_size) {
  TG_CHECK(x.ndim() == n + 1 || x.ndim() == n + 2, ShapeError, op, ": input must have ", n + 1, " or ", n + 2,
           " dimensions, got ", x.ndim(), "; input=", describe(x));
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
  for (int i = 0; i < n; ++i)
    TG_CHECK(x.size(i - n) > 0, ShapeError, op, ": dimension ", x.ndim() - n + i, " is empty; input=", describe(x));
  return spatial_option(op, "output_size", output_size, n, 0);
}

Tensor adaptive_avg_nd(const char* op, int n, const Tensor& x, IntList output_size) {
  Dims out = adaptive_sizes(op, n, x, output_size);
  bool even = true;
  Dims kernel;
  for (int i = 0; i < n; ++i) {
    even = even && out[i] > 0 && x.size(i - n) % out[i] == 0;
    if (even) kernel.push_back(x.size(i - n) / out[i]);
  }
  if (even) return avg_pool_nd(op, n, x, kernel, std::nullopt, 0, false, true, std::nullopt);
  Tensor y = x;
  for (int i = 0; i < n; ++i) {
    int d = x.ndim() - n + i;
    Cells c = split_cells(y, d, out[i]);
    y = sum(where(c.inside, c.values, 0.0), d + 1) / c.count;
  }
  return y;
}

// The winners are found axis by axis, the last one first: of equal elements that in row-major order first stays.
Winners adaptive_max_nd(const char* op, int n, const Tensor& x, IntList output_size, bool want_indices) {
  Dims out = adaptive_sizes(op, n, x, output_size), spatial(x.sizes().end() - n, x.sizes().end());
  Tensor y = x, at;
  if (want_indices) at = expand(reshape(arange(numel_of(spatial, op), std::nullopt, x.device()), spatial), x.sizes());
  for (int i = n - 1; i >= 0; --i) {
    int d = x.ndim() - n + i;
    Cells c = split_cells(y, d, out[i]);
    Tensor v = where(c.inside, c.values, -std::numeric_limits<double>::infinity());
    if (v.numel() == 0) {
      y = sum(v, d + 1);
      if (want_indices) at = zeros(y.sizes(), DType::I64, x.device());
      continue;
    }
    auto [values, cell] = max(v, d + 1);
    if (want_indices) {
      KnownIndices known;
      at = squeeze(gather(split_cells(at, d, out[i]).values, d + 1, unsqueeze(cell, d + 1)), d + 1);
    }
    y = values;
  }
  return {y, at};
}

#define TG_POOL(N)                                                                                                    \
  Tensor max_pool##N##d_body(const Tensor& x, IntList k, std::optional<IntList> s, IntList p, IntList d, bool ceil) { \
    return std::get<0>(max_pool_nd("max_pool" #N "d", N, x, k, s, p, d, ceil));                                       \
  }                                                                                                                   \
  Winners max_pool##N##d_indices(const Tensor& x, IntList k, std::optional<IntList> s, IntList p, IntList d,          \
                                 bool ceil) {                                                                         \
    return max_pool_nd("max_pool" #N "d_with_indices", N, x, k, s, p, d, ceil);                                       \
  }                                                                                                                   \
  Tensor max_unpool##N##d_body(const Tensor& x, const Tensor& i, IntList k, std::optional<IntList> s, IntList p,      \
                               std::optional<IntList> size) {                                                         \
    return max_unpool_nd("max_unpool" #N "d", N, x, i, k, s, p, size);                                                \
  }                                                                                                                   \
  Tensor avg_pool##N##d_body(const Tensor& x, IntList k, std::optional<IntList> s, IntList p, bool ceil,              \
                             bool include_pad, std::optional<int64_t> divisor) {                                      \
    return avg_pool_nd("avg_pool" #N "d", N, x, k, s, p, ceil, include_pad, divisor);                                 \
  }                                                                                                                   \
  Tensor lp_pool##N##d_body(const Tensor& x, double p, IntList k, std::optional<IntList> s, bool ceil) {              \
    return lp_pool_nd("lp_pool" #N "d", N, x, p, k, s, ceil);                                                         \
  }                                                                                                                   \
  Tensor adaptive_avg_pool##N##d_body(const Tensor& x, IntList size) {                                                \
    return adaptive_avg_nd("adaptive_avg_pool" #N "d", N, x, size);                                                   \
  }                                                                                                                   \
  Tensor adaptive_max_pool##N##d_body(const Tensor& x, IntList size) {                                                \
    return std::get<0>(adaptive_max_nd("adaptive_max_pool" #N "d", N, x, size, false));                               \
  }                                                                                                                   \
  Winners adaptive_max_pool##N##d_indices(const Tensor& x, IntList size) {                                            \
    return adaptive_max_nd("adaptive_max_pool" #N "d_with_indices", N, x, size, true);                                \
  }
TG_POOL(1)
TG_POOL(2)
TG_POOL(3)
#undef TG_POOL
Tensor avg_pool1d_plain(const Tensor& x, IntList k, std::optional<IntList> s, IntList p, bool ceil, bool include_pad) {
  return avg_pool1d_body(x, k, s, p, ceil, include_pad, std::nullopt);
}

TG_OP(
    "max_pool(Tensor input, int[] kernel, int[] stride, int[] padding, int[] dilation, bool ceil_mode) -> "
    "(Tensor output, Tensor indices)",
    .doc = "Largest element of each window over the last axes, and its flat position there.",
    .primitive = box<max_pool_primitive>, .grads = {{out(1), max_pool_grad}}, .flags = kHidden, .torch = "none",
    .samples = "T(2,3,7), [3], [2], [1], [1], False; T(2,3,5,6), [2,3], [1,2], [1,0], [2,1], True");

TG_OP(
    "max_pool1d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[] dilation=1, bool ceil_mode=False) -> Tensor",
    .doc = "Largest element of each window of (N, C, L) or (C, L); the stride defaults to the kernel.",
    .composite = box<max_pool1d_body>, .flags = kAlsoNN,
    .samples = "T(2,3,7), 2; T(3,8), 3, 2, 1; T(2,3,8), 3, 2, 1, 2, True; T(2,3,9), [2], [3]; T(0,3,5), 2");
TG_OP(
    "max_pool1d_with_indices(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[] dilation=1, bool ceil_mode=False) -> (Tensor output, Tensor indices)",
    .doc = "max_pool1d and the flat position of each winner in the spatial dimensions.",
    .composite = box<max_pool1d_indices>, .flags = kNN, .torch = "nn.functional.max_pool1d_with_indices",
    .samples = "T(2,3,7), 2; T(3,8), 3, 2, 1; T(2,3,8), 3, 2, 1, 2, True");
TG_OP(
    "max_unpool1d(Tensor input, Tensor indices, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[]? output_size=None) -> Tensor",
    .doc = "Zeros with the elements of input at the positions max_pool1d_with_indices gave.",
    .composite = box<max_unpool1d_body>, .flags = kNN, .torch = "nn.functional.max_unpool1d",
    .samples = "T(2,3,4), PERM(2,3,4, dim=2), 2; T(3,4), PERM(3,4, dim=1), 3, 2, 1, [8]");
TG_OP(
    "max_pool2d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[] dilation=1, bool ceil_mode=False) -> Tensor",
    .doc = "Largest element of each window of (N, C, H, W) or (C, H, W); the stride defaults to the kernel.",
    .composite = box<max_pool2d_body>, .flags = kAlsoNN,
    .samples =
        "T(1,2,6,5), 2; T(2,5,5), [3,2], [2,1], 1; T(1,2,7,6), 3, 2, 1, 1, True; "
        "T(1,2,6,6), 2, 1, 0, 2; T(0,3,5,5), 2");
TG_OP(
    "max_pool2d_with_indices(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[] dilation=1, bool ceil_mode=False) -> (Tensor output, Tensor indices)",
    .doc = "max_pool2d and the flat position of each winner in the spatial dimensions.",
    .composite = box<max_pool2d_indices>, .flags = kNN, .torch = "nn.functional.max_pool2d_with_indices",
    .samples = "T(1,2,6,5), 2; T(2,5,5), [3,2], [2,1], 1; T(1,2,7,6), 3, 2, 1, 1, True");
TG_OP(
    "max_unpool2d(Tensor input, Tensor indices, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[]? output_size=None) -> Tensor",
    .doc = "Zeros with the elements of input at the positions max_pool2d_with_indices gave.",
    .composite = box<max_unpool2d_body>, .flags = kNN, .torch = "nn.functional.max_unpool2d",
    .samples = "T(2,3,1,4), PERM(2,3,1,4, dim=3), [1,2]");
TG_OP(
    "max_pool3d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[] dilation=1, bool ceil_mode=False) -> Tensor",
    .doc = "Largest element of each window of (N, C, D, H, W) or (C, D, H, W); the stride defaults to the kernel.",
    .composite = box<max_pool3d_body>, .flags = kAlsoNN,
    .samples = "T(1,1,4,4,5), 2; T(1,4,4,4), [2,3,2], [1,2,1], 1; T(1,1,3,5,5), 2, 2, ceil_mode=True");
TG_OP(
    "max_pool3d_with_indices(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[] dilation=1, bool ceil_mode=False) -> (Tensor output, Tensor indices)",
    .doc = "max_pool3d and the flat position of each winner in the spatial dimensions.",
    .composite = box<max_pool3d_indices>, .flags = kNN, .torch = "nn.functional.max_pool3d_with_indices",
    .samples = "T(1,1,4,4,5), 2; T(1,4,4,4), [2,3,2], [1,2,1], 1; T(1,1,3,5,5), 2, 2, ceil_mode=True");
TG_OP(
    "max_unpool3d(Tensor input, Tensor indices, int[] kernel_size, int[]? stride=None, int[] padding=0, "
    "int[]? output_size=None) -> Tensor",
    .doc = "Zeros with the elements of input at the positions max_pool3d_with_indices gave.",
    .composite = box<max_unpool3d_body>, .flags = kNN, .torch = "nn.functional.max_unpool3d",
    .samples = "T(1,2,1,1,4), PERM(1,2,1,1,4, dim=4), [1,1,2]");
TG_OP(
    "avg_pool1d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, bool ceil_mode=False, "
    "bool count_include_pad=True) -> Tensor",
    .doc = "Mean of each window of (N, C, L) or (C, L); the stride defaults to the kernel.",
    .composite = box<avg_pool1d_plain>, .flags = kAlsoNN, .autocast = Autocast::Widest,
    .samples = "T(2,3,7), 2; T(3,8), 3, 2, 1; T(2,3,8), 3, 2, 1, True, False; T(2,3,9), [2], [3]");
TG_OP("lp_pool1d(Tensor input, float norm_type, int[] kernel_size, int[]? stride=None, bool ceil_mode=False) -> Tensor",
      .doc = "norm_type-th root of the sum of the norm_type-th powers of each window of (N, C, L) or (C, L).",
      .composite = box<lp_pool1d_body>, .flags = kNN, .autocast = Autocast::Widest,
      .samples = "T(2,3,7, lo=0.2, hi=2), 2.0, 2; T(3,8, lo=0.2, hi=2), 3.0, 3, 2");
TG_OP(
    "avg_pool2d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, bool ceil_mode=False, "
    "bool count_include_pad=True, int? divisor_override=None) -> Tensor",
    .doc = "Mean of each window of (N, C, H, W) or (C, H, W); the stride defaults to the kernel.",
    .composite = box<avg_pool2d_body>, .flags = kNN, .autocast = Autocast::Widest, .torch = "nn.functional.avg_pool2d",
    .samples =
        "T(2,3,6,5), 2; T(3,5,5), [3,2], [2,1], 1; T(2,3,7,6), 3, 2, 1, True, False; T(2,3,7,6), 3, "
        "2, 1, True; T(1,2,6,6), 2, 1, 0, False, True, 3");
TG_OP("lp_pool2d(Tensor input, float norm_type, int[] kernel_size, int[]? stride=None, bool ceil_mode=False) -> Tensor",
      .doc = "norm_type-th root of the sum of the norm_type-th powers of each window of (N, C, H, W) or (C, H, W).",
      .composite = box<lp_pool2d_body>, .flags = kNN, .autocast = Autocast::Widest,
      .samples = "T(2,3,6,5, lo=0.2, hi=2), 2.0, 2; T(2,3,6,6, lo=0.2, hi=2), 3.0, [3,2], [2,1]");
TG_OP(
    "avg_pool3d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, bool ceil_mode=False, "
    "bool count_include_pad=True, int? divisor_override=None) -> Tensor",
    .doc = "Mean of each window of (N, C, D, H, W) or (C, D, H, W); the stride defaults to the kernel.",
    .composite = box<avg_pool3d_body>, .flags = kNN, .torch = "nn.functional.avg_pool3d",
    .samples =
        "T(1,2,4,4,5), 2; T(2,4,4,4), [2,3,2], [1,2,1], 1, False, False; T(1,1,5,5,5), 2, 2, "
        "ceil_mode=True; T(1,1,4,4,4), 2, divisor_override=5");
TG_OP(
    "lp_pool3d(Tensor input, float norm_type, int[] kernel_size, int[]? stride=None, bool ceil_mode=False) -> Tensor",
    .doc = "norm_type-th root of the sum of the norm_type-th powers of each window of (N, C, D, H, W) or (C, D, H, W).",
    .composite = box<lp_pool3d_body>, .flags = kNN, .samples = "T(1,2,4,4,4, lo=0.2, hi=2), 2.0, 2");
TG_OP("adaptive_avg_pool1d(Tensor input, int[] output_size) -> Tensor",
      .doc = "Mean of output_size cells that cover (N, C, L) or (C, L) evenly.",
      .composite = box<adaptive_avg_pool1d_body>, .flags = kNN, .autocast = Autocast::Widest,
      .torch = "nn.functional.adaptive_avg_pool1d", .samples = "T(2,3,7), 3; T(3,8), 4; T(2,3,5), 1");
TG_OP("adaptive_max_pool1d(Tensor input, int[] output_size) -> Tensor",
      .doc = "Largest element of output_size cells that cover (N, C, L) or (C, L) evenly.",
      .composite = box<adaptive_max_pool1d_body>, .flags = kNN, .torch = "nn.functional.adaptive_max_pool1d",
      .samples = "T(2,3,7), 3; T(3,8), 4; T(2,3,5), 1");
TG_OP("adaptive_max_pool1d_with_indices(Tensor input, int[] output_size) -> (Tensor output, Tensor indices)",
      .doc = "adaptive_max_pool1d and the flat position of each winner in the spatial dimensions.",
      .composite = box<adaptive_max_pool1d_indices>, .flags = kNN,
      .torch = "nn.functional.adaptive_max_pool1d_with_indices", .samples = "T(2,3,7), 3; T(3,8), 4; T(2,3,5), 1");
TG_OP("adaptive_avg_pool2d(Tensor input, int[] output_size) -> Tensor",
      .doc = "Mean of output_size cells that cover (N, C, H, W) or (C, H, W) evenly.",
      .composite = box<adaptive_avg_pool2d_body>, .flags = kNN, .autocast = Autocast::Widest,
      .torch = "nn.functional.adaptive_avg_pool2d",
      .samples = "T(2,3,7,5), 3; T(3,8,6), [4,2]; T(2,3,5,7), [1,1]; T(2,3,2,3), [4,5]");
TG_OP("adaptive_max_pool2d(Tensor input, int[] output_size) -> Tensor",
      .doc = "Largest element of output_size cells that cover (N, C, H, W) or (C, H, W) evenly.",
      .composite = box<adaptive_max_pool2d_body>, .flags = kNN, .torch = "nn.functional.adaptive_max_pool2d",
      .samples = "T(1,2,7,5), 3; T(1,8,6), [4,2]; T(1,2,5,7), [1,1]; T(2,3,2,3), [4,5]");
TG_OP("adaptive_max_pool2d_with_indices(Tensor input, int[] output_size) -> (Tensor output, Tensor indices)",
      .doc = "adaptive_max_pool2d and the flat position of each winner in the spatial dimensions.",
      .composite = box<adaptive_max_pool2d_indices>, .flags = kNN,
      .torch = "nn.functional.adaptive_max_pool2d_with_indices",
      .samples = "T(1,2,7,5), 3; T(1,8,6), [4,2]; T(1,2,5,7), [1,1]; T(2,3,2,3), [4,5]");
TG_OP("adaptive_avg_pool3d(Tensor input, int[] output_size) -> Tensor",
      .doc = "Mean of output_size cells that cover (N, C, D, H, W) or (C, D, H, W) evenly.",
      .composite = box<adaptive_avg_pool3d_body>, .flags = kNN, .torch = "nn.functional.adaptive_avg_pool3d",
      .samples = "T(1,2,4,5,3), 2; T(2,4,4,4), [2,1,3]");
TG_OP("adaptive_max_pool3d(Tensor input, int[] output_size) -> Tensor",
      .doc = "Largest element of output_size cells that cover (N, C, D, H, W) or (C, D, H, W) evenly.",
      .composite = box<adaptive_max_pool3d_body>, .flags = kNN, .torch = "nn.functional.adaptive_max_pool3d",
      .samples = "T(1,1,4,5,3), 2; T(1,4,4,4), [2,1,3]");
TG_OP("adaptive_max_pool3d_with_indices(Tensor input, int[] output_size) -> (Tensor output, Tensor indices)",
      .doc = "adaptive_max_pool3d and the flat position of each winner in the spatial dimensions.",
      .composite = box<adaptive_max_pool3d_indices>, .flags = kNN,
      .torch = "nn.functional.adaptive_max_pool3d_with_indices", .samples = "T(1,1,4,5,3), 2; T(1,4,4,4), [2,1,3]");
}  // namespace
}  // namespace tg
