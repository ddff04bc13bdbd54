// Elements picked by, or sent to, positions along one dimension.
#include "backends/cuda.h"
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/grads.h"
#include "ops/index.h"

namespace tg {

static void check_index_range(const char* op, int64_t lo, int64_t hi, int64_t size, int dim, bool wrap) {
  int64_t least = wrap ? -size : 0;
  TG_CHECK(hi < lo || (lo >= least && hi < size), IndexError, op, ": index ", lo < least ? lo : hi,
           " is out of bounds for dimension ", dim, " with size ", size);
}

static bool recording_on(Device d) { return !d.is_cpu() && cuda::capturing(); }
bool recorded(const Tensor& t) { return recording_on(t.device()); }

static thread_local bool indices_are_known = false;
KnownIndices::KnownIndices(bool on) : before_(indices_are_known) { indices_are_known |= on; }
KnownIndices::~KnownIndices() { indices_are_known = before_; }

void reject_recording(const char* op, Device device) {
  TG_CHECK(!recording_on(device), NotImplementedError, op, ": works on the host and cannot be recorded in a graph");
}

void require_in_replays(const Tensor& holds, const std::string& text) {
  NoGrad guard;
  const Tensor place = reshape(arange(holds.numel(), DType::I64, holds.device()), holds.sizes());
  bounded_index(where(holds, -1, place), -1, -1, str(text, "; the element at fault"));
}

Tensor bounded_index(const Tensor& index, int64_t low, int64_t high, const std::string& text) {
  const Tensor in = contiguous(index), out = empty_tensor(index.sizes(), DType::I64, index.device());
  backend(index.device()).bound_index(View(in), low, high, View(out), text);
  return out;
}

Tensor checked_index(const char* op, const Tensor& index, int64_t size, int dim, bool wrap) {
  TG_CHECK(is_int(index.dtype()), DTypeError, op, ": index must be an integer tensor, got index=", describe(index));
  NoGrad guard;
  Tensor i = narrow_to(index, DType::I64);
  if (indices_are_known) return i;
  if (recorded(i)) {
    const int64_t low = wrap ? -size : 0;
    TG_CHECK(size > 0 || i.numel() == 0, IndexError, op, ": there is no index into dimension ", dim, " with size 0");
    i = bounded_index(i, low, size - 1,
                      str(op, ": an index is out of bounds for dimension ", dim, " with size ", size));
    return wrap ? where(lt(i, 0), i + size, i) : i;
  }
  auto [lo, hi] = backend(i.device()).int_range(View(i));
  check_index_range(op, lo, hi, size, dim, wrap);
  return lo < 0 ? where(lt(i, 0), i + size, i) : i;
}

std::vector<IndexItem> index_at(int dim, const Tensor& index) {
  std::vector<IndexItem> items(size_t(dim), IndexItem(Slice{}));
  items.emplace_back(index);
  return items;
}

void check_gather_index(const char* op, const Tensor& input, int dim, const Tensor& index) {
  TG_CHECK(index.device() == input.device(), DeviceError, op,
           ": index must be on the device of input; input=", describe(input), ", index=", describe(index));
  if (index.numel() == 0) return;
  TG_CHECK(std::max(input.ndim(), 1) == std::max(index.ndim(), 1), ShapeError, op,
           ": index must have as many dimensions as input; input=", describe(input), ", index=", describe(index));
  for (int i = 0; i < index.ndim() && i < input.ndim(); ++i)
    TG_CHECK(i == dim || index.sizes()[i] <= input.sizes()[i], ShapeError, op, ": index has size ", index.sizes()[i],
             " at dimension ", i, ", more than input's ", input.sizes()[i], "; input=", describe(input),
             ", index=", describe(index));
}

namespace {

int64_t length_of(const Tensor& t, int dim) { return t.ndim() == 0 ? 1 : t.sizes()[dim]; }

// A view with at least one dimension, whose sizes outside of `dim` are those of `index`.
View lines_of(const Tensor& t, int dim, const Dims& index) {
  View v(t);
  if (t.ndim() == 0) {
    v.shape = {1};
    v.stride = {1};
    return v;
  }
  for (int i = 0; i < t.ndim(); ++i)
    if (i != dim) v.shape[i] = index[i];
  return v;
}
View index_view(const Tensor& index) { return lines_of(index, 0, {index.numel()}); }

// ---- gather

Tensor gather_body(const Tensor& x, int64_t dim, const Tensor& index, bool) {
  int d = wrap_dim("gather", dim, x.ndim());
  check_gather_index("gather", x, d, index);
  TG_CHECK(is_int(index.dtype()), DTypeError, "gather: index must be an integer tensor, got index=", describe(index));
  Tensor out = empty_tensor(index.sizes(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  View iv = index.ndim() == 0 ? index_view(index) : View(index), ov = out.ndim() == 0 ? index_view(out) : View(out);
  if (indices_are_known || recorded(index)) {
    const Tensor i = checked_index("gather", index, length_of(x, d), d, false);
    backend(x.device()).gather(lines_of(x, d, iv.shape), d, i.ndim() == 0 ? index_view(i) : View(i), ov);
    return out;
  }
  auto [lo, hi] = backend(x.device()).gather_checked(lines_of(x, d, iv.shape), d, iv, ov);
  check_index_range("gather", lo, hi, length_of(x, d), d, false);
  return out;
}
Tensor zeros_for(GradCtx& c, int i) { return zeros(c.shape(i), c.g().dtype(), c.g().device()); }
Tensor gather_grad(GradCtx& c) { return scatter_add_(zeros_for(c, 0), c.arg<int64_t>(1), c.x(2), c.g()); }

Tensor take_along_dim_body(const Tensor& x, const Tensor& indices, std::optional<int64_t> dim) {
  if (!dim)
    return gather(reshape(x, {-1}), 0, checked_index("take_along_dim", reshape(indices, {-1}), x.numel(), 0, true));
  int d = wrap_dim("take_along_dim", *dim, x.ndim());
  TG_CHECK(x.ndim() == indices.ndim() && x.ndim() > 0, ShapeError,
           "take_along_dim: input and indices must have the same number of dimensions, at least 1; input=", describe(x),
           ", indices=", describe(indices));
  Dims a = x.sizes(), b = indices.sizes();
  a[d] = b[d] = 1;
  Dims common = broadcast_shapes("take_along_dim", a, b), to_x = common, to_i = common;
  to_x[d] = x.sizes()[d];
  to_i[d] = indices.sizes()[d];
  return gather(expand(x, to_x), d, checked_index("take_along_dim", expand(indices, to_i), x.sizes()[d], d, true));
}

// ---- scatter: the exact forms have src and index of one size

void run_scatter(const char* op, ScatterOp mode, const Tensor& out, int64_t dim, const Tensor& index,
                 const Tensor& src) {
  int d = wrap_dim(op, dim, out.ndim());
  check_gather_index(op, out, d, index);
  Tensor i = checked_index(op, index, length_of(out, d), d, false);
  if (i.numel() == 0) return;
  View iv = i.ndim() == 0 ? index_view(i) : View(i), sv = broadcast_to_view(src, iv.shape);
  backend(out.device()).scatter(mode, sv, d, iv, lines_of(out, d, iv.shape));
}
Tensor scattered(const char* op, ScatterOp mode, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  Tensor out = clone(x);
  run_scatter(op, mode, out, dim, index, src);
  return out;
}

// The part of src that index covers.
Tensor covered(const char* op, const Tensor& x, const Tensor& index, const Tensor& src) {
  TG_CHECK(src.dtype() == x.dtype(), DTypeError, op, ": src must have the dtype of input; input=", describe(x),
           ", src=", describe(src));
  if (src.sizes() == index.sizes() || index.numel() == 0) return src;
  TG_CHECK(src.ndim() == index.ndim(), ShapeError, op,
           ": src must have as many dimensions as index; index=", describe(index), ", src=", describe(src));
  Tensor part = src;
  for (int i = 0; i < index.ndim(); ++i) {
    TG_CHECK(index.sizes()[i] <= src.sizes()[i], ShapeError, op, ": index has size ", index.sizes()[i],
             " at dimension ", i, ", more than src's ", src.sizes()[i], "; index=", describe(index),
             ", src=", describe(src));
    if (index.sizes()[i] < part.sizes()[i]) part = narrow(part, i, 0, index.sizes()[i]);
  }
  return part;
}

Tensor scatter_set_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return scattered("scatter", ScatterOp::Set, x, dim, index, src);
}
Tensor scatter_sum_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return scattered("scatter_add", ScatterOp::Add, x, dim, index, src);
}
Tensor scatter_prod_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return scattered("scatter_reduce", ScatterOp::Prod, x, dim, index, src);
}
Tensor scatter_extreme_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src, bool largest) {
  return scattered("scatter_reduce", largest ? ScatterOp::Max : ScatterOp::Min, x, dim, index, src);
}

Tensor keep_untouched(GradCtx& c) { return scatter(c.g(), c.arg<int64_t>(1), c.x(2), 0); }
// The gradient of src where index has fewer elements only happens for an empty index: zeros.
Tensor gather_back(GradCtx& c, const Tensor& g) {
  return c.x(2).numel() == 0 ? zeros_for(c, 3) : gather(g, c.arg<int64_t>(1), c.x(2));
}
Tensor from_positions(GradCtx& c) { return gather_back(c, c.g()); }

// y = x * (product of what index sends there). Zeros among the factors are taken out so that nothing is divided by 0.
Tensor prod_grad_input(GradCtx& c) {
  return c.g() * scatter_prod(ones(c.shape(0), c.g().dtype(), c.g().device()), c.arg<int64_t>(1), c.x(2), c.x(3));
}
Tensor prod_grad_src(GradCtx& c) {
  int64_t dim = c.arg<int64_t>(1);
  Tensor x = c.x(0), index = c.x(2), src = c.x(3);
  if (index.numel() == 0) return zeros_for(c, 3);
  Tensor zero = eq(src, 0),
         zeros_there = scatter_sum(zeros(x.sizes(), DType::I64, x.device()), dim, index, to(zero, DType::I64));
  Tensor alone = logical_and(zero, eq(gather(zeros_there, dim, index), 1));
  Tensor others = scatter_prod(x, dim, index, masked_fill(src, alone, 1));
  Tensor y = scatter_prod(x, dim, index, src);
  return where(alone, gather(c.g() * others, dim, index), gather(c.g() * y, dim, index) / masked_fill(src, zero, 1));
}

// Everything equal to the extreme shares the gradient.
Tensor extreme_share(GradCtx& c, const Tensor& y) {
  int64_t dim = c.arg<int64_t>(1);
  Tensor x = c.x(0), index = c.x(2), src = c.x(3);
  NoGrad guard;
  Tensor hits = to(eq(x, y), y.dtype());
  if (index.numel() > 0) hits = scatter_sum(hits, dim, index, to(eq(src, gather(y, dim, index)), y.dtype()));
  return clamp_min(hits, 1);
}
Tensor extreme_grad_input(GradCtx& c) {
  Tensor y = c.y();
  return where(eq(c.x(0), y), c.g() / extreme_share(c, y), 0);
}
Tensor extreme_grad_src(GradCtx& c) {
  Tensor y = c.y(), index = c.x(2);
  if (index.numel() == 0) return zeros_for(c, 3);
  int64_t dim = c.arg<int64_t>(1);
  return where(eq(c.x(3), gather(y, dim, index)), gather(c.g() / extreme_share(c, y), dim, index), 0);
}

Tensor scatter_src(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return scatter_set(x, dim, index, covered("scatter", x, index, src));
}
Tensor scatter_value(const Tensor& x, int64_t dim, const Tensor& index, Scalar value) {
  Tensor v = empty_tensor({}, x.dtype(), x.device());
  fill_with(v, checked_scalar("scatter", value, x.dtype()));
  return scattered("scatter", ScatterOp::Set, x, dim, index, v);
}
Tensor scatter_add_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return scatter_sum(x, dim, index, covered("scatter_add", x, index, src));
}
// In place: the same without the copy.
void scatter_src_inplace(Args a, Outputs&) {
  const Tensor &x = a[0].tensor(), &index = a[2].tensor();
  run_scatter("scatter_", ScatterOp::Set, x, a[1].i(), index, covered("scatter_", x, index, a[3].tensor()));
}
void scatter_add_inplace(Args a, Outputs&) {
  const Tensor &x = a[0].tensor(), &index = a[2].tensor();
  run_scatter("scatter_add_", ScatterOp::Add, x, a[1].i(), index, covered("scatter_add_", x, index, a[3].tensor()));
}

// The smallest / largest value of a type: what a maximum / minimum starts from.
Scalar neutral(DType t, bool largest) {
  if (is_float(t)) return largest ? -INFINITY : INFINITY;
  if (t == DType::Bool) return !largest;
  if (t == DType::U8) return largest ? 0 : 255;
  int64_t top = int64_t((uint64_t(1) << (itemsize(t) * 8 - 1)) - 1);
  return largest ? -top - 1 : top;
}

Tensor scatter_reduce_body(const Tensor& input, int64_t dim, const Tensor& index, const Tensor& source,
                           std::string_view reduce, bool include_self) {
  const char* op = "scatter_reduce";
  bool mean = reduce == "mean", sum = reduce == "sum", prod = reduce == "prod", amax = reduce == "amax";
  TG_CHECK(mean || sum || prod || amax || reduce == "amin", ValueError, op,
           ": reduce must be sum, prod, mean, amax or amin, got '", reduce, "'");
  Tensor src = covered(op, input, index, source), x = input;
  if (!include_self) {
    Scalar start = sum || mean ? Scalar(0) : prod ? Scalar(1) : neutral(x.dtype(), amax);
    x = scatter(x, dim, index, start);
  }
  if (prod) return scatter_prod(x, dim, index, src);
  if (!sum && !mean) return scatter_extreme(x, dim, index, src, amax);
  Tensor total = scatter_sum(x, dim, index, src);
  if (sum) return total;
  Tensor count =
      scatter_sum(include_self ? ones_like(x) : scatter(ones_like(x), dim, index, 0), dim, index, ones_like(src));
  return is_float(x.dtype()) ? total / count : floor_divide(total, count);
}

// index names the slice of dim that each slice of source goes to.
Tensor index_reduce_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                         std::string_view reduce, bool include_self) {
  TG_CHECK(reduce != "sum", ValueError, "index_reduce: reduce must be prod, mean, amax or amin, got 'sum'");
  TG_CHECK(index.ndim() <= 1, ShapeError, "index_reduce: index must be a vector; index=", describe(index));
  int d = wrap_dim("index_reduce", dim, x.ndim());
  Dims whole = x.sizes(), along = Dims::filled(x.ndim(), 1);
  if (x.ndim() > 0) whole[d] = along[d] = index.numel();
  TG_CHECK(source.sizes() == whole, ShapeError, "index_reduce: source must have size ", whole, "; input=", describe(x),
           ", source=", describe(source));
  Tensor at = expand(reshape(index, along), source.sizes());
  return scatter_reduce(x, dim, at, source, reduce, include_self);
}

Tensor scatter_reduce_src(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src,
                          std::string_view reduce) {
  TG_CHECK(reduce == "add" || reduce == "multiply", ValueError, "scatter: reduce must be add or multiply, got '",
           reduce, "'");
  return scatter_reduce(x, dim, index, src, reduce == "add" ? "sum" : "prod", true);
}
Tensor scatter_reduce_value(const Tensor& x, int64_t dim, const Tensor& index, Scalar value, std::string_view reduce) {
  return scatter_reduce_src(x, dim, index, full(index.sizes(), value, x.dtype(), x.device()), reduce);
}

// ---- whole slices along a dimension

Tensor index_select_body(const Tensor& x, int64_t dim, const Tensor& index) {
  int d = wrap_dim("index_select", dim, x.ndim());
  TG_CHECK(index.ndim() <= 1, ShapeError,
           "index_select: index must have at most 1 dimension, got index=", describe(index));
  TG_CHECK(index.device() == x.device(), DeviceError,
           "index_select: index must be on the device of input; input=", describe(x), ", index=", describe(index));
  TG_CHECK(x.ndim() > 0 || index.numel() == 1, ShapeError,
           "index_select: index of a tensor without dimensions must have 1 element; index=", describe(index));
  Tensor i = checked_index("index_select", index, length_of(x, d), d, false);
  Dims sizes = x.sizes();
  if (x.ndim() > 0) sizes[d] = i.numel();
  Tensor out = empty_tensor(sizes, x.dtype(), x.device());
  if (out.numel() == 0) return out;
  if (x.ndim() == 0) {
    copy_into(out, x);
    return out;
  }
  View iv(i);
  iv.shape = sizes;
  iv.stride = Dims::filled(x.ndim(), 0);
  iv.stride[d] = i.ndim() == 0 ? 1 : i.strides()[0];
  backend(x.device()).gather(View(x), d, iv, View(out));
  return out;
}
Tensor index_select_grad(GradCtx& c) {
  if (c.shape(0).empty()) return c.g();
  return index_add_(zeros_for(c, 0), c.arg<int64_t>(1), c.x(2), c.g());
}

// Scales those rows of weight that are used, and whose norm is above max_norm, down to it: in place, as PyTorch does.
void bound_rows(const Tensor& weight, const Tensor& used, double max_norm, double norm_type) {
  Tensor rows = index_select(weight, 0, used), n = norm(rows, norm_type, 1, true);
  index_copy_(weight, 0, used, where(gt(n, max_norm), rows * (max_norm / (n + 1e-7)), rows));
}
Tensor embedding_body(const Tensor& input, const Tensor& weight, std::optional<int64_t>, std::optional<double> max_norm,
                      double norm_type, bool, bool) {
  TG_CHECK(weight.ndim() == 2, ShapeError, "embedding: weight must have 2 dimensions; weight=", describe(weight));
  TG_CHECK(is_int(input.dtype()), DTypeError, "embedding: input must be an integer tensor; input=", describe(input));
  Tensor i = reshape(checked_index("embedding", input, weight.sizes()[0], 0, false), {-1});
  if (max_norm) bound_rows(weight, i, *max_norm, norm_type);
  Dims sizes = input.sizes();
  sizes.push_back(weight.sizes()[1]);
  return reshape(index_select_body(weight, 0, i), sizes);
}
Tensor embedding_grad(GradCtx& c) {
  Tensor index = reshape(c.x(0), {-1}), g = reshape(c.g(), {index.numel(), c.shape(1)[1]});
  if (auto padding = c.arg<std::optional<int64_t>>(2)) {
    int64_t row = *padding < 0 ? *padding + c.shape(1)[0] : *padding;
    g = masked_fill(g, unsqueeze(eq(index, row), -1), 0);
  }
  if (c.arg<bool>(5)) {  // the mean over the uses of a row instead of their sum
    Tensor one = ones({index.numel()}, g.dtype(), g.device());
    Tensor uses = index_add(zeros({c.shape(1)[0]}, g.dtype(), g.device()), 0, index, one);
    g = g / unsqueeze(index_select(uses, 0, index), -1);
  }
  // Not in a half type: many small rows, rounded one by one, would vanish in a large sum.
  if (Tensor* sum = is_half(g.dtype()) ? nullptr : c.sum_so_far(1); sum && sum->dtype() == g.dtype())
    return index_add_(*sum, 0, index, g), Tensor();
  return index_add_(zeros_for(c, 1), 0, index, g);
}

Tensor one_hot_body(const Tensor& x, int64_t num_classes) {
  TG_CHECK(is_int(x.dtype()), DTypeError, "one_hot: expected an integer tensor, got tensor=", describe(x));
  TG_CHECK(num_classes != 0 && num_classes >= -1, ValueError, "one_hot: num_classes must be positive or -1, got ",
           num_classes);
  TG_CHECK(x.numel() > 0 || num_classes > 0, ValueError,
           "one_hot: num_classes can't be found from an empty tensor; tensor=", describe(x));
  Tensor index = unsqueeze(narrow_to(x, DType::I64), -1);
  if (recorded(index) && num_classes > 0) {
    Dims sizes = x.sizes();
    sizes.push_back(num_classes);
    index =
        bounded_index(index, 0, num_classes - 1, str("one_hot: a class value is not below num_classes ", num_classes));
    return scatter(zeros(sizes, DType::I64, x.device()), -1, index, 1);
  }
  auto [lo, hi] = backend(x.device()).int_range(View(index));
  TG_CHECK(lo >= 0, IndexError, "one_hot: class values must not be negative, got ", lo, "; tensor=", describe(x));
  TG_CHECK(num_classes < 0 || hi < num_classes, IndexError, "one_hot: class value ", hi, " is not below num_classes ",
           num_classes, "; tensor=", describe(x));
  Dims sizes = x.sizes();
  sizes.push_back(num_classes < 0 ? hi + 1 : num_classes);
  return scatter(zeros(sizes, DType::I64, x.device()), -1, index, 1);
}

TG_OP("gather(Tensor input, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor",
      .doc =
          "out[i][j] = input[index[i][j]][j] for dim 0, and so on: one element of input per element of index. "
          "IndexError if an index is not in [0, size). sparse_grad is ignored.",
      .primitive = box<gather_body>, .grads = {{in(2), gather_grad}},
      .samples =
          "T(3,4), 1, I(3,2, hi=4); T(3,4), 0, I(2,4, hi=3); T(3,4), -1, I(2,5, hi=4); T(5), 0, I(7, hi=5); T(), 0, "
          "I(hi=1); T(3), 0, I(0, hi=3); T(2,3,4), 1, I(2,5,4, hi=3)");
TG_OP("take_along_dim(Tensor input, Tensor indices, int? dim=None) -> Tensor",
      .doc =
          "gather whose input and indices broadcast outside of dim and whose indices may be negative; without dim, of "
          "the flattened input.",
      .composite = box<take_along_dim_body>,
      .samples =
          "T(3,4), I(3,2, hi=4), 1; T(3,4), I(1,4, hi=3), 0; T(3,4), I(5, hi=12); T(3,1), I(3,2, hi=1), dim=-1; T(4), "
          "I(3, lo=-4, hi=4), 0");
TG_OP("scatter(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
      .doc =
          "Copy of input with out[index[i][j]][j] = src[i][j] for dim 0, and so on. Of several elements for one place "
          "the last stays.",
      .composite = box<scatter_src>, .inplace = scatter_src_inplace, .flags = kMakeInplace,
      .samples =
          "T(3,4), 1, PERM(3,4, dim=1), T(3,4); T(3,4), 0, PERM(3,4, dim=0), T(3,4); T(5), 0, PERM(5), C(7); T(4,3), "
          "0, PERM(4,3, dim=0), C(5,3)");
TG_OP("scatter.value(Tensor input, int dim, Tensor index, Scalar value) -> Tensor",
      .doc = "Copy of input with `value` at the positions index names along dim.", .primitive = box<scatter_value>,
      .grads = {{in(2), keep_untouched}}, .flags = kMakeInplace,
      .samples =
          "T(3,4), 1, I(3,2, hi=4), 2.5; T(3,4), 0, I(2,4, hi=3), -1; T(5), 0, I(3, hi=5), 0; T(), 0, I(hi=1), 2.0; "
          "I(3,4, hi=9), 1, I(3,2, hi=4), 7");
// PyTorch has no derivative of these two; scatter_reduce is what the matrix compares.
TG_OP("scatter.reduce(Tensor input, int dim, Tensor index, Tensor src, *, str reduce) -> Tensor",
      .doc = "scatter that adds to ('add') or multiplies ('multiply') what is there.",
      .composite = box<scatter_reduce_src>, .flags = kMakeInplace, .torch = "none",
      .samples = "T(3,4), 1, I(3,2, hi=4), T(3,2), reduce='add'; T(3,4), 0, I(2,4, hi=3), T(2,4), reduce='multiply'");
TG_OP("scatter.value_reduce(Tensor input, int dim, Tensor index, Scalar value, *, str reduce) -> Tensor",
      .doc = "scatter of one number that adds to ('add') or multiplies ('multiply') what is there.",
      .composite = box<scatter_reduce_value>, .flags = kMakeInplace, .torch = "none",
      .samples = "T(3,4), 1, I(3,2, hi=4), 2.0, reduce='add'; T(3,4), 0, I(2,4, hi=3), 3.0, reduce='multiply'");
TG_OP(
    "scatter_add(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
    .doc = "Copy of input with src[i][j] added to out[index[i][j]][j] for dim 0, and so on.",
    .composite = box<scatter_add_body>, .inplace = scatter_add_inplace, .flags = kMakeInplace,
    .autocast = Autocast::Widest,
    .samples =
        "T(3,4), 1, I(3,2, hi=4), T(3,2); T(3,4), 0, I(5,4, hi=3), T(5,4); T(5), 0, I(9, hi=5), T(9); T(3,4), -1, "
        "I(2,6, hi=4), C(3,7); T(), 0, I(hi=1), T(); T(3), 0, I(0, hi=3), T(0); I(4, hi=9), 0, I(6, hi=4), I(6, hi=9)");
TG_OP(
    "scatter_reduce(Tensor input, int dim, Tensor index, Tensor src, str reduce, *, bool include_self=True) -> Tensor",
    .doc =
        "What src sends to each place reduced by 'sum', 'prod', 'mean', 'amax' or 'amin', together with input's own "
        "value unless include_self is False.",
    .composite = box<scatter_reduce_body>, .flags = kMakeInplace,
    .samples =
        "T(3,4), 1, I(3,6, hi=4), T(3,6), 'sum'; T(3,4), 0, I(5,4, hi=3), T(5,4), 'prod'; T(4), 0, I(9, hi=4), T(9), "
        "'mean'; T(4), 0, I(9, hi=4), T(9), 'amax'; T(4), 0, I(9, hi=4), T(9), 'amin'; T(4), 0, I(5, hi=4), T(5), "
        "'prod', include_self=False; T(4), 0, I(5, hi=4), T(5), 'mean', include_self=False; T(4), 0, I(5, hi=4), T(5), "
        "'amax', include_self=False; T(4), 0, I(5, hi=4), T(5), 'sum', include_self=False");
TG_OP(
    "index_reduce(Tensor input, int dim, Tensor index, Tensor source, str reduce, *, bool include_self=True) -> Tensor",
    .doc =
        "The slices of source that index sends to each place along dim reduced by 'prod', 'mean', 'amax' or 'amin', "
        "together with input's own unless include_self is False.",
    .composite = box<index_reduce_body>, .flags = kMakeInplace,
    .samples =
        "T(3,4), 0, I(5, hi=3), T(5,4), 'prod'; T(3,4), 1, I(6, hi=4), T(3,6), 'mean'; T(4), -1, I(9, hi=4), T(9), "
        "'amax'; T(3,4), 0, I(5, hi=3), T(5,4), 'amin', include_self=False; T(3,4), 0, I(2, hi=3), T(2,4), 'mean', "
        "include_self=False");
TG_OP("scatter_set(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
      .doc = "scatter with src of the size of index.", .primitive = box<scatter_set_body>,
      .grads = {{in(2), keep_untouched}, {}, {}, {in(2), from_positions}}, .flags = kHidden | kFunctionOnly,
      .torch = "none", .samples = "T(3,4), 1, PERM(3,4, dim=1), T(3,4)");
TG_OP("scatter_sum(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
      .doc = "scatter_add with src of the size of index.", .primitive = box<scatter_sum_body>,
      .grads = {{0, same_grad}, {}, {}, {in(2), from_positions}}, .flags = kHidden | kFunctionOnly, .torch = "none",
      .samples = "T(3,4), 1, I(3,2, hi=4), T(3,2)");
TG_OP("scatter_prod(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
      .doc = "input times what src sends to each place.", .primitive = box<scatter_prod_body>,
      .grads = {{in(2) | in(3), prod_grad_input}, {}, {}, {in(0) | in(2) | in(3), prod_grad_src}},
      .flags = kHidden | kFunctionOnly, .torch = "none", .samples = "T(3,4), 1, I(3,6, hi=4), T(3,6)");
TG_OP("scatter_extreme(Tensor input, int dim, Tensor index, Tensor src, bool largest) -> Tensor",
      .doc = "Larger or smaller of input and what src sends to each place.", .primitive = box<scatter_extreme_body>,
      .grads = {{in(0) | in(2) | in(3) | out(0), extreme_grad_input},
                {},
                {},
                {in(0) | in(2) | in(3) | out(0), extreme_grad_src}},
      .flags = kHidden | kFunctionOnly, .torch = "none",
      .samples = "T(3,4), 1, I(3,6, hi=4), T(3,6), True; T(4), 0, I(9, hi=4), T(9), False");
TG_OP("index_select(Tensor input, int dim, Tensor index) -> Tensor",
      .doc = "The slices of dim that the vector index names. IndexError if one is not in [0, size).",
      .primitive = box<index_select_body>, .grads = {{in(2), index_select_grad}},
      .samples =
          "T(3,4), 0, I(5, hi=3); T(3,4), 1, I(2, hi=4); T(2,3,4), -2, I(4, hi=3); T(4), 0, I(hi=4); T(3,4), 0, I(0, "
          "hi=3); T(), 0, I(1, hi=1); T(0,3), 1, I(2, hi=3)");
TG_OP(
    "embedding(Tensor input, Tensor weight, int? padding_idx=None, float? max_norm=None, float norm_type=2.0, bool "
    "scale_grad_by_freq=False, bool sparse=False) -> Tensor",
    .doc =
        "The rows of weight (n, d) that input names, in a new last dimension. The row padding_idx gets no gradient. "
        "With max_norm the rows used are first scaled down to that norm_type-norm, in place. scale_grad_by_freq "
        "divides "
        "the gradient of a row by how often it was used. The gradient is dense whatever `sparse` says.",
    .primitive = box<embedding_body>, .grads = {{}, {in(0), embedding_grad}}, .flags = kNN,
    .torch = "nn.functional.embedding",
    .samples =
        "I(5, hi=4), T(4,3); I(2,3, hi=4), T(4,3); I(hi=4), T(4,3); I(6, hi=4), C(4,3), padding_idx=1; I(6, hi=4), "
        "C(4,3), padding_idx=-1; I(0, hi=4), T(4,3); I(6, hi=4), C(4,3), max_norm=0.5; I(2,3, hi=4), C(4,3), "
        "max_norm=0.7, norm_type=1.0");
TG_OP("one_hot(Tensor tensor, int num_classes=-1) -> Tensor",
      .doc =
          "int64 tensor with a new last dimension of size num_classes (largest value + 1 if -1): 1 at the class, 0 "
          "elsewhere.",
      .composite = box<one_hot_body>, .flags = kNN | kNoGrad,
      .samples = "I(5, hi=4); I(2,3, hi=4), 6; I(0, hi=2), 3; I(hi=3), num_classes=3");

}  // namespace
}  // namespace tg
