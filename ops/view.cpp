// Views: other geometry over the same memory.
#include "ops/view.h"

#include "ops/grads.h"

namespace tg {
namespace {

// ---- view, reshape

// Contiguous, and axes of size 1 have the strides that go with it: any sizes then do too.
bool row_major_strides(const Tensor& x) { return x.is_contiguous() && x.strides() == contiguous_strides(x.sizes()); }

Tensor view_body(const Tensor& x, IntList size) {
  Dims sizes = infer_size("view", size, x);
  std::optional<Dims> strides = row_major_strides(x) ? contiguous_strides(sizes) : view_strides(geometry_of(x), sizes);
  TG_CHECK(strides, ShapeError, "view: sizes ", x.sizes(), " with strides ", x.strides(), " cannot be viewed as ",
           sizes, "; use reshape; input=", describe(x));
  return make_view(x, sizes, *strides, x.storage_offset());
}
Tensor reshape_body(const Tensor& x, IntList shape) {
  Dims sizes = infer_size("reshape", shape, x);
  return view(row_major_strides(x) || view_strides(geometry_of(x), sizes) ? x : clone(x), sizes);
}
// The same bytes as elements of another type. The last dimension takes up a change of width.
Tensor view_dtype_body(const Tensor& x, DType dtype) {
  int64_t from = itemsize(x.dtype()), to = itemsize(dtype), ratio = std::max(from, to) / std::min(from, to);
  TG_CHECK(dtype != DType::Bool || x.dtype() == DType::Bool, DTypeError,
           "view: bytes other than 0 and 1 are no bool; use bool() or ne(0); input=", describe(x));
  Geometry g = geometry_of(x);
  int last = x.ndim() - 1;
  if (ratio > 1) {
    TG_CHECK(last >= 0 && g.strides[last] == 1, ShapeError, "view: from ", x.dtype(), " to ", dtype,
             " the last dimension must be contiguous; input=", describe(x));
    bool fits = from > to || (g.offset % ratio == 0 && g.sizes[last] % ratio == 0);
    for (int i = 0; i <= last; ++i) {
      if (from < to && i < last) fits = fits && g.strides[i] % ratio == 0;
      if (i < last) g.strides[i] = from > to ? g.strides[i] * ratio : g.strides[i] / ratio;
    }
    TG_CHECK(fits, ShapeError, "view: from ", x.dtype(), " to ", dtype, " last size, strides and offset must be ",
             "multiples of ", ratio, "; strides ", x.strides(), ", offset ", x.storage_offset(),
             ", input=", describe(x));
    g.sizes[last] = from > to ? g.sizes[last] * ratio : g.sizes[last] / ratio;
    g.offset = from > to ? g.offset * ratio : g.offset / ratio;
    TG_CHECK(reinterpret_cast<uintptr_t>(x.impl()->storage->data) % uintptr_t(to) == 0, ShapeError,
             "view: the memory is not aligned for ", dtype, "; input=", describe(x));
  }
  Tensor y = view_of(x, g);
  y.impl()->dtype = dtype;
  y.impl()->base = nullptr;  // as detach: bits have no gradient
  return y;
}
Tensor view_as_body(const Tensor& x, const Tensor& other) { return view(x, other.sizes()); }
Tensor reshape_as_body(const Tensor& x, const Tensor& other) { return reshape(x, other.sizes()); }
Tensor ravel_body(const Tensor& x) { return reshape(x, {-1}); }

Tensor flatten_body(const Tensor& x, int64_t start_dim, int64_t end_dim) {
  int a = wrap_dim("flatten", start_dim, x.ndim()), b = wrap_dim("flatten", end_dim, x.ndim());
  TG_CHECK(a <= b, ValueError, "flatten: start_dim ", start_dim, " comes after end_dim ", end_dim,
           "; input=", describe(x));
  if (x.ndim() == 0) return reshape(x, {1});
  if (a == b) return x;
  Dims sizes(x.sizes().begin(), x.sizes().begin() + a + 1);
  for (int i = a + 1; i <= b; ++i) sizes[a] *= x.sizes()[i];
  for (int i = b + 1; i < x.ndim(); ++i) sizes.push_back(x.sizes()[i]);
  return reshape(x, sizes);
}

Tensor unflatten_body(const Tensor& x, int64_t dim, IntList sizes) {
  int d = wrap_dim("unflatten", dim, x.ndim());
  TG_CHECK(x.ndim() > 0 && !sizes.empty(), ShapeError, "unflatten: expected a dimension and its sizes, got ", sizes,
           "; input=", describe(x));
  Dims part = sizes.dims(), out(x.sizes().begin(), x.sizes().begin() + d);
  int64_t n = x.sizes()[d], known = 1;
  int unknown = -1;
  for (int i = 0; i < part.size(); ++i) {
    TG_CHECK(part[i] >= -1 && (part[i] >= 0 || unknown < 0), ShapeError, "unflatten: sizes ", sizes,
             " may have one -1 and no other negative value; input=", describe(x));
    if (part[i] == -1)
      unknown = i;
    else if (__builtin_mul_overflow(known, part[i], &known))
      known = -1;
  }
  if (unknown >= 0 && known > 0) {
    part[unknown] = n / known;
    known *= part[unknown];
  }
  TG_CHECK(known == n && !part.contains(-1), ShapeError, "unflatten: sizes ", sizes, " do not multiply to the size ", n,
           " of dimension ", d, "; input=", describe(x));
  for (int64_t s : part) out.push_back(s);
  for (int i = d + 1; i < x.ndim(); ++i) out.push_back(x.sizes()[i]);
  return view(x, out);
}

Tensor reshape_back(GradCtx& c) { return reshape(c.g(), c.shape(0)); }

// ---- expand

Tensor expand_body(const Tensor& x, IntList size) {
  int lead = int(size.size()) - x.ndim();
  TG_CHECK(lead >= 0, ShapeError, "expand: ", size.size(), " sizes are too few for ", x.ndim(),
           " dimensions; size=", size, ", input=", describe(x));
  Geometry g{size.dims(), Dims::filled(int(size.size()), 0), x.storage_offset()};
  for (int i = 0; i < g.sizes.size(); ++i) {
    int64_t have = i < lead ? 1 : x.sizes()[i - lead];
    if (g.sizes[i] == -1 && i >= lead) g.sizes[i] = have;
    TG_CHECK(g.sizes[i] >= 0, ShapeError, "expand: negative size ", g.sizes[i], " at dimension ", i, " of ", size,
             "; input=", describe(x));
    TG_CHECK(have == 1 || have == g.sizes[i], ShapeError, "expand: size ", have, " of dimension ", i - lead,
             " can't become ", g.sizes[i], "; size=", size, ", input=", describe(x));
    if (i >= lead && have == g.sizes[i]) g.strides[i] = x.strides()[i - lead];
  }
  numel_of(g.sizes, "expand");
  return view_of(x, g);
}
Tensor expand_as_body(const Tensor& x, const Tensor& other) { return expand(x, other.sizes()); }
Tensor broadcast_to_body(const Tensor& x, IntList size) { return expand(x, size); }

// ---- order of dimensions

Dims permutation(const char* op, IntList dims, const Tensor& x) {
  TG_CHECK(dims.size() == x.ndim(), ShapeError, op, ": ", dims.size(), " dimensions given for a tensor of ", x.ndim(),
           "; dims=", dims, ", input=", describe(x));
  return wrap_dims(op, dims, x.ndim());
}
Tensor permute_body(const Tensor& x, IntList dims) {
  return view_of(x, permute_geometry(geometry_of(x), permutation("permute", dims, x)));
}
Tensor permute_grad(GradCtx& c) {
  Dims axes = wrap_dims("permute", c.arg<IntList>(1), c.g().ndim()), back = axes;
  for (int i = 0; i < axes.size(); ++i) back[int(axes[i])] = i;
  return permute(c.g(), back);
}

Tensor transpose_body(const Tensor& x, int64_t dim0, int64_t dim1) {
  int a = wrap_dim("transpose", dim0, x.ndim()), b = wrap_dim("transpose", dim1, x.ndim());
  Geometry g = geometry_of(x);
  if (x.ndim() > 0) {
    std::swap(g.sizes[a], g.sizes[b]);
    std::swap(g.strides[a], g.strides[b]);
  }
  return view_of(x, g);
}
Tensor transpose_grad(GradCtx& c) { return transpose(c.g(), c.arg<int64_t>(1), c.arg<int64_t>(2)); }
Tensor swapaxes_body(const Tensor& x, int64_t axis0, int64_t axis1) { return transpose(x, axis0, axis1); }
Tensor t_body(const Tensor& x) {
  TG_CHECK(x.ndim() <= 2, ShapeError, "t: expected at most 2 dimensions, got ", x.ndim(), "; input=", describe(x));
  return x.ndim() == 2 ? transpose(x, 0, 1) : alias(x);
}

Tensor movedim_list(const Tensor& x, IntList source, IntList destination) {
  TG_CHECK(source.size() == destination.size(), ShapeError, "movedim: ", source.size(), " sources but ",
           destination.size(), " destinations; source=", source, ", destination=", destination);
  if (source.empty()) return alias(x);
  Dims from = wrap_dims("movedim", source, x.ndim()), to = wrap_dims("movedim", destination, x.ndim());
  Dims order = Dims::filled(x.ndim(), -1);
  for (int i = 0; i < from.size(); ++i) order[int(to[i])] = from[i];
  int next = 0;
  for (int64_t& o : order) {
    if (o >= 0) continue;
    while (from.contains(next)) ++next;
    o = next++;
  }
  return permute(x, order);
}
Tensor movedim_int(const Tensor& x, int64_t source, int64_t destination) {
  return movedim_list(x, IntList(source), IntList(destination));
}

// ---- dimensions of size 1

Tensor squeeze_dims(const Tensor& x, const Dims& dims) {
  Geometry g = geometry_of(x);
  for (int d = x.ndim() - 1; d >= 0; --d) {
    if (g.sizes[d] != 1 || !dims.contains(d)) continue;
    g.sizes.erase(d);
    g.strides.erase(d);
  }
  return view_of(x, g);
}
Tensor squeeze_all(const Tensor& x) { return squeeze_dims(x, wrap_dims("squeeze", {}, x.ndim())); }
Tensor squeeze_dim(const Tensor& x, int64_t dim) { return squeeze_dims(x, {wrap_dim("squeeze", dim, x.ndim())}); }
Tensor squeeze_list(const Tensor& x, IntList dim) {
  return squeeze_dims(x, dim.empty() ? Dims() : wrap_dims("squeeze", dim, x.ndim()));
}
Tensor unsqueeze_body(const Tensor& x, int64_t dim) {
  int d = wrap_dim("unsqueeze", dim, x.ndim() + 1);
  Geometry g = geometry_of(x);
  int64_t stride = d < x.ndim() ? g.sizes[d] * g.strides[d] : 1;
  g.sizes.insert(d, 1);
  g.strides.insert(d, stride);
  return view_of(x, g);
}

// ---- parts

Tensor select_body(const Tensor& x, int64_t dim, int64_t index) {
  return view_of(x, select_geometry("select", geometry_of(x), dim, index));
}
Tensor select_grad(GradCtx& c) {
  return embed(c.g(), c.shape(0),
               select_geometry("select", row_major(c.shape(0)), c.arg<int64_t>(1), c.arg<int64_t>(2)));
}

using OptInt = std::optional<int64_t>;
Tensor slice_body(const Tensor& x, int64_t dim, OptInt start, OptInt stop, int64_t step) {
  return view_of(x, slice_geometry("slice", geometry_of(x), dim, start, stop, step));
}
Tensor slice_grad(GradCtx& c) {
  return embed(c.g(), c.shape(0),
               slice_geometry("slice", row_major(c.shape(0)), c.arg<int64_t>(1), c.arg<OptInt>(2), c.arg<OptInt>(3),
                              c.arg<int64_t>(4)));
}
Tensor narrow_body(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  TG_CHECK(x.ndim() > 0, ShapeError, "narrow: a tensor without dimensions can't be narrowed; input=", describe(x));
  int d = wrap_dim("narrow", dim, x.ndim());
  int64_t n = x.sizes()[d], from = start < 0 ? start + n : start;
  TG_CHECK(start >= -n && start <= n, IndexError, "narrow: start ", start, " is out of bounds for dimension ", d,
           " with size ", n, "; input=", describe(x));
  TG_CHECK(length >= 0 && length <= n - from, ShapeError, "narrow: start ", start, " and length ", length,
           " reach beyond dimension ", d, " with size ", n, "; input=", describe(x));
  return slice(x, d, from, from + length);
}

Tensor diagonal_body(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  return view_of(x, diagonal_geometry("diagonal", geometry_of(x), offset, dim1, dim2));
}
Tensor diagonal_grad(GradCtx& c) {
  return embed(
      c.g(), c.shape(0),
      diagonal_geometry("diagonal", row_major(c.shape(0)), c.arg<int64_t>(1), c.arg<int64_t>(2), c.arg<int64_t>(3)));
}

Tensor unfold_body(const Tensor& x, int64_t dimension, int64_t size, int64_t step) {
  return view_of(x, window_geometry("unfold", geometry_of(x), dimension, size, step));
}
Tensor unfold_grad(GradCtx& c) {
  return embed(
      c.g(), c.shape(0),
      window_geometry("unfold", row_major(c.shape(0)), c.arg<int64_t>(1), c.arg<int64_t>(2), c.arg<int64_t>(3)));
}

// ---- the same elements

Tensor alias_body(const Tensor& x) { return view_of(x, geometry_of(x)); }
// Not a view to autograd: edits are seen through the version counter alone.
Tensor detach_body(const Tensor& x) {
  Tensor y = alias_body(x);
  y.impl()->base = nullptr;
  return y;
}

TG_OP("view(Tensor input, int[] size) -> Tensor",
      .doc = "The same memory with other sizes; one may be -1. ShapeError if the strides do not allow it.",
      .primitive = box<view_body>, .grads = {{0, reshape_back}}, .flags = kView | kMethodOnly,
      .samples = "T(3,4), [4, 3]; T(3,4), [-1]; T(2,3,4), [6, -1]; T(), [1, 1]; T(0,3), [3, 0]; T(1), []; T(6), [2, 3]",
      .notes = "layout");
TG_OP(
    "view.dtype(Tensor input, dtype dtype) -> Tensor",
    .doc =
        "The same memory as elements of another type, without gradient. Where they are wider or narrower the last "
        "dimension, which must be contiguous, changes its size. Nothing but bool can be seen as bool.",
    .primitive = box<view_dtype_body>, .flags = kView | kNoGrad | kMethodOnly, .torch = "Tensor.view",
    .samples = "I(3,4), DT('float64'); I(3,4), DT('int32'); I(2,8), DT('int64'); B(3,4), DT('uint8'); I(), DT('int64')",
    .notes = "layout");
TG_OP("reshape(Tensor input, int[] shape) -> Tensor",
      .doc = "The elements in the same order with other sizes (one may be -1): a view where possible, else a copy.",
      .composite = box<reshape_body>,
      .samples = "T(3,4), [4, 3]; T(3,4), [-1]; T(2,3,4), [6, -1]; T(), [1, 1]; T(0,3), [3, 0]; T(1), []");
TG_OP("view_as(Tensor input, Tensor other) -> Tensor", .doc = "input.view(other.size()).",
      .composite = box<view_as_body>, .flags = kMethodOnly | kAnyDevices, .samples = "T(3,4), T(2,6); T(), T(1)",
      .notes = "layout");
TG_OP("reshape_as(Tensor input, Tensor other) -> Tensor", .doc = "input.reshape(other.size()).",
      .composite = box<reshape_as_body>, .flags = kMethodOnly | kAnyDevices, .samples = "T(3,4), T(2,6); T(), T(1)");
TG_OP("ravel(Tensor input) -> Tensor", .doc = "All elements in one dimension.", .composite = box<ravel_body>,
      .samples = "T(3,4); T(); T(0,2)");
TG_OP("flatten(Tensor input, int start_dim=0, int end_dim=-1) -> Tensor",
      .doc = "Dimensions start_dim to end_dim merged into one.", .composite = box<flatten_body>,
      .samples = "T(2,3,4); T(2,3,4), 1; T(2,3,4), 0, 1; T(2,3,4), -2, -1; T(); T(3); T(2,3), 1, 1");
TG_OP("unflatten(Tensor input, int dim, int[] sizes) -> Tensor",
      .doc = "Dimension dim cut into sizes, one of which may be -1.", .composite = box<unflatten_body>,
      .samples = "T(6,2), 0, [2, 3]; T(2,6), -1, [3, -1]; T(4), 0, [4, 1]; T(2,0), 1, [0, 3]");
TG_OP("expand(Tensor input, int[] size) -> Tensor",
      .doc = "View in which dimensions of size 1 repeat; -1 keeps a size, new dimensions come first.",
      .primitive = box<expand_body>, .grads = {{0, same_grad}}, .flags = kView | kMethodOnly,
      .samples = "T(3,1), [3, 4]; T(3), [2, 3]; T(1,3), [2, -1]; T(), [2, 2]; T(1), [0]; T(2,1), [3, 2, 1]");
TG_OP("expand_as(Tensor input, Tensor other) -> Tensor", .doc = "input.expand(other.size()).",
      .composite = box<expand_as_body>, .flags = kMethodOnly | kAnyDevices, .samples = "T(3,1), T(3,4); T(), T(2)");
TG_OP("broadcast_to(Tensor input, int[] size) -> Tensor", .doc = "input.expand(size).",
      .composite = box<broadcast_to_body>, .samples = "T(3,1), [3, 4]; T(3), [2, 3]; T(), [2]");
TG_OP("permute(Tensor input, int[] dims) -> Tensor", .doc = "Dimensions in another order.",
      .primitive = box<permute_body>, .grads = {{0, permute_grad}}, .flags = kView,
      .samples = "T(2,3,4), [2, 0, 1]; T(3,4), [1, 0]; T(2,3,4), [0, -1, 1]; T(), []; T(0,2), [1, 0]");
TG_OP("transpose(Tensor input, int dim0, int dim1) -> Tensor", .doc = "Two dimensions exchanged.",
      .primitive = box<transpose_body>, .grads = {{0, transpose_grad}}, .flags = kView | kMakeInplace,
      .aliases = "swapdims", .samples = "T(3,4), 0, 1; T(2,3,4), -1, 0; T(3), 0, 0; T(), 0, -1");
TG_OP("swapaxes(Tensor input, int axis0, int axis1) -> Tensor", .doc = "Two dimensions exchanged.",
      .composite = box<swapaxes_body>, .flags = kView | kMakeInplace, .samples = "T(3,4), 0, 1; T(2,3,4), -1, 0");
TG_OP("t(Tensor input) -> Tensor", .doc = "Transpose of a matrix; vectors and numbers stay.", .composite = box<t_body>,
      .flags = kView | kMakeInplace, .samples = "T(3,4); T(3); T()");
TG_OP("movedim.int(Tensor input, int source, int destination) -> Tensor", .doc = "One dimension moved.",
      .composite = box<movedim_int>, .aliases = "moveaxis", .samples = "T(2,3,4), 0, 2; T(2,3,4), -1, 0; T(3), 0, 0");
TG_OP("movedim.list(Tensor input, int[] source, int[] destination) -> Tensor",
      .doc = "Dimensions moved to new positions, the others keep their order.", .composite = box<movedim_list>,
      .aliases = "moveaxis", .samples = "T(2,3,4), [0, 1], [2, 0]; T(2,3,4), [-1], [0]");
TG_OP("squeeze(Tensor input) -> Tensor", .doc = "Without the dimensions of size 1.", .primitive = box<squeeze_all>,
      .grads = {{0, reshape_back}}, .flags = kView | kMakeInplace, .samples = "T(1,3,1); T(2,3); T(); T(1); T(0,1)");
TG_OP("squeeze.dim(Tensor input, int dim) -> Tensor", .doc = "Without dimension dim if its size is 1.",
      .primitive = box<squeeze_dim>, .grads = {{0, reshape_back}}, .flags = kView | kMakeInplace,
      .samples = "T(1,3,1), 0; T(1,3,1), -1; T(1,3,1), 1; T(), 0");
TG_OP("squeeze.dims(Tensor input, int[] dim) -> Tensor",
      .doc = "Without those of the given dimensions whose size is 1.", .primitive = box<squeeze_list>,
      .grads = {{0, reshape_back}}, .flags = kView | kMakeInplace,
      .samples = "T(1,3,1), [0, 2]; T(1,3,1), [0, 1]; T(1,3,1), [-1]");
TG_OP("unsqueeze(Tensor input, int dim) -> Tensor", .doc = "With a new dimension of size 1 at dim.",
      .primitive = box<unsqueeze_body>, .grads = {{0, reshape_back}}, .flags = kView | kMakeInplace,
      .samples = "T(3,4), 0; T(3,4), 1; T(3,4), -1; T(), 0; T(0), 1");
TG_OP("select(Tensor input, int dim, int index) -> Tensor",
      .doc = "One position of dim; negative index counts from the end.", .primitive = box<select_body>,
      .grads = {{0, select_grad}}, .flags = kView,
      .samples = "T(3,4), 0, 1; T(3,4), -1, -2; T(2,3,4), 1, 0; T(3), 0, 2");
TG_OP("slice(Tensor input, int dim=0, int? start=None, int? stop=None, int step=1) -> Tensor",
      .doc = "start:stop:step of dim with the meaning of Python slices, negative steps included.",
      .primitive = box<slice_body>, .grads = {{0, slice_grad}}, .flags = kView | kHidden, .torch = "none",
      .samples =
          "T(5,3), 0, 1, 4; T(5,3), 0, 0, 5, 2; T(3,5), 1, -2; T(5), 0, None, None, -1; T(7), 0, 5, 1, -2; T(4), 0, 3, "
          "1; T(3,4), -1, 0, 9, 3");
TG_OP("narrow(Tensor input, int dim, int start, int length) -> Tensor", .doc = "length positions of dim from start on.",
      .composite = box<narrow_body>, .samples = "T(5,3), 0, 1, 3; T(3,5), 1, -2, 2; T(4), 0, 4, 0; T(4), -1, 0, 4");
TG_OP("diagonal(Tensor input, int offset=0, int dim1=0, int dim2=1) -> Tensor",
      .doc = "Diagonal of two dimensions, moved to the end.", .primitive = box<diagonal_body>,
      .grads = {{0, diagonal_grad}}, .flags = kView,
      .samples = "T(3,4); T(3,4), 1; T(4,3), -2; T(2,3,4), 0, 1, 2; T(2,3,4), -1, -1, 0; T(3,3), 7; T(0,3)");
TG_OP("unfold.window(Tensor input, int dimension, int size, int step) -> Tensor",
      .doc = "All windows of the given size along dimension, step apart, in a new last dimension.",
      .primitive = box<unfold_body>, .grads = {{0, unfold_grad}}, .flags = kView | kMethodOnly,
      .torch = "Tensor.unfold",
      .samples = "T(7), 0, 3, 1; T(7), 0, 3, 2; T(3,5), 1, 2, 2; T(5,2), -2, 5, 1; T(4), 0, 1, 3; T(), 0, 1, 1");
TG_OP("alias(Tensor input) -> Tensor", .doc = "A view of the whole tensor.", .primitive = box<alias_body>,
      .grads = {{0, same_grad}}, .flags = kView | kHidden, .torch = "none", .samples = "T(3,4); T()");
TG_OP("detach(Tensor input) -> Tensor", .doc = "The same memory without history.", .primitive = box<detach_body>,
      .flags = kView | kNoGrad, .samples = "T(3,4); T()");

}  // namespace
}  // namespace tg
