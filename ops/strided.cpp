// as_strided, and the scatters: copies with a window replaced.
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/view.h"

namespace tg {
namespace {

// ---- as_strided

// Offsets of the storage a view may look at. Borrowed memory has no known size:
// there the base tensor's own extent.
Extent storage_extent(const Tensor& t) {
  const Storage& s = *t.impl()->storage;
  if (!s.free_external) return {0, int64_t(s.nbytes) / itemsize(t.dtype()) - 1};
  return extent_of(geometry_of(t.impl()->base ? Tensor(t.impl()->base) : t));
}

void check_window(const char* op, const Tensor& t, const Geometry& g) {
  TG_CHECK(g.sizes.size() == g.strides.size(), ShapeError, op, ": size ", g.sizes, " and stride ", g.strides,
           " have different lengths; input=", describe(t));
  numel_of(g.sizes, op);
  Extent e = extent_of(g), s = storage_extent(t);
  TG_CHECK(e.hi < e.lo || (e.lo >= s.lo && e.hi <= s.hi), ShapeError, op, ": size ", g.sizes, ", stride ", g.strides,
           " and offset ", g.offset, " reach elements ", e.lo, " to ", e.hi, " of a storage that has ", s.lo, " to ",
           s.hi, "; input=", describe(t));
  TG_CHECK(g.offset >= 0 || s.lo < 0, ShapeError, op, ": negative offset ", g.offset, "; input=", describe(t));
}

Tensor as_strided_body(const Tensor& x, IntList size, IntList stride, std::optional<int64_t> offset) {
  return as_strided_view(x, size, stride, offset.value_or(x.storage_offset()), x.strides(), x.storage_offset());
}

// The last two arguments are the input's own geometry, which the gradient needs
// and metas do not keep.
Tensor as_strided_view_body(const Tensor& x, IntList size, IntList stride, int64_t offset, IntList, int64_t) {
  Geometry g{size.dims(), stride.dims(), offset};
  check_window("as_strided", x, g);
  return view_of(x, g);
}

bool is_row_major(const Geometry& g) { return is_contiguous(g.sizes, g.strides); }

// A flat stretch of memory that holds both geometries, with offsets counted
// from its start.
int64_t common_stretch(Geometry& a, Geometry& b) {
  Extent x = extent_of(a), y = extent_of(b);
  if (x.hi < x.lo) x = y;
  if (y.hi < y.lo) y = x;
  int64_t lo = std::min(x.lo, y.lo), hi = std::max(x.hi, y.hi);
  a.offset -= lo;
  b.offset -= lo;
  return hi - lo + 1;
}

Tensor as_strided_grad(GradCtx& c) {
  Geometry window{c.g().sizes(), c.arg<IntList>(2).dims(), c.arg<int64_t>(3)};
  Geometry self{c.shape(0), c.arg<IntList>(4).dims(), c.arg<int64_t>(5)};
  if (c.g().numel() == 0 || numel_of(self.sizes) == 0) return zeros(self.sizes, c.g().dtype(), c.g().device());
  int64_t n = common_stretch(self, window);
  if (is_row_major(self) && self.offset == 0 && n == numel_of(self.sizes)) return embed(c.g(), self.sizes, window);
  auto spread = [&](const Tensor& t, const Geometry& from) {
    Tensor flat = strided_scatter(t, from.sizes, from.strides, from.offset, n);
    return strided_gather(flat, self.sizes, self.strides, self.offset);
  };
  Tensor g = spread(c.g(), window);
  // Elements of the input that are one memory location share its gradient.
  return may_overlap(self) ? g / spread(ones(self.sizes, g.dtype(), g.device()), self) : g;
}

// ---- scatters

// A copy of x, seen as if laid out with `in_stride`, in which the window (src's
// size, stride, offset from x's first element) is replaced by src.
Tensor window_scatter_body(const Tensor& x, const Tensor& src, IntList stride, int64_t offset, IntList in_stride) {
  Geometry self{x.sizes(), in_stride.dims(), 0}, window{src.sizes(), stride.dims(), offset};
  if (is_row_major(self)) {
    Tensor out = clone(x);
    copy_into(view_of(out, window), src);
    return out;
  }
  int64_t n = common_stretch(self, window);
  Tensor flat = zeros({n}, x.dtype(), x.device());
  copy_into(view_of(flat, self), x);
  copy_into(view_of(flat, window), src);
  return clone(view_of(flat, self));
}
Tensor window_scatter_grad_input(GradCtx& c) {
  return window_scatter(c.g(), zeros(c.shape(1), c.g().dtype(), c.g().device()), c.arg<IntList>(2), c.arg<int64_t>(3),
                        c.arg<IntList>(4));
}
Tensor window_scatter_grad_src(GradCtx& c) {
  Geometry self{c.shape(0), c.arg<IntList>(4).dims(), 0},
      window{c.shape(1), c.arg<IntList>(2).dims(), c.arg<int64_t>(3)};
  Tensor flat = reshape(c.g(), {-1});
  if (!is_row_major(self)) {
    int64_t n = common_stretch(self, window);
    flat = strided_scatter(c.g(), self.sizes, self.strides, self.offset, n);
  }
  return strided_gather(flat, window.sizes, window.strides, window.offset);
}

Tensor scatter_into(const char* op, const Tensor& x, const Tensor& src, const Geometry& window) {
  TG_CHECK(src.sizes() == window.sizes, ShapeError, op, ": src has size ", src.sizes(), ", the part it replaces has ",
           window.sizes, "; input=", describe(x), ", src=", describe(src));
  return window_scatter(x, to(src, x), window.strides, window.offset, contiguous_strides(x.sizes()));
}
Tensor select_scatter_body(const Tensor& x, const Tensor& src, int64_t dim, int64_t index) {
  return scatter_into("select_scatter", x, src, select_geometry("select_scatter", row_major(x.sizes()), dim, index));
}
Tensor slice_scatter_body(const Tensor& x, const Tensor& src, int64_t dim, std::optional<int64_t> start,
                          std::optional<int64_t> end, int64_t step) {
  return scatter_into("slice_scatter", x, src,
                      slice_geometry("slice_scatter", row_major(x.sizes()), dim, start, end, step));
}
Tensor diagonal_scatter_body(const Tensor& x, const Tensor& src, int64_t offset, int64_t dim1, int64_t dim2) {
  return scatter_into("diagonal_scatter", x, src,
                      diagonal_geometry("diagonal_scatter", row_major(x.sizes()), offset, dim1, dim2));
}
Tensor as_strided_scatter_body(const Tensor& x, const Tensor& src, IntList size, IntList stride,
                               std::optional<int64_t> offset) {
  Geometry window{size.dims(), stride.dims(), offset.value_or(x.storage_offset())};
  check_window("as_strided_scatter", x, window);
  TG_CHECK(src.sizes() == window.sizes, ShapeError, "as_strided_scatter: src has size ", src.sizes(),
           ", the part it replaces has ", window.sizes, "; input=", describe(x), ", src=", describe(src));
  Extent self = extent_of(geometry_of(x)), part = extent_of(window);
  TG_CHECK(part.hi < part.lo || !x.is_contiguous() || (part.lo >= self.lo && part.hi <= self.hi), ShapeError,
           "as_strided_scatter: the window reaches outside of input; input=", describe(x), ", size=", size,
           ", stride=", stride);
  return window_scatter(x, to(src, x), window.strides, window.offset - x.storage_offset(), x.strides());
}

TG_OP("as_strided(Tensor input, int[] size, int[] stride, int? storage_offset=None) -> Tensor",
      .doc = "View of the input's storage with any sizes and strides; ShapeError if it reaches outside of it.",
      .composite = box<as_strided_body>, .flags = kView | kMakeInplace,
      .samples =
          "T(3,4), [2, 2], [4, 1]; T(3,4), [3], [5], 0; T(6), [4, 3], [1, 1]; T(6), [2, 3], [0, 1]; T(3,4), [2, 3], "
          "[1, 4], 1; T(4), [], [], 2; T(5), [0, 3], [3, 1]",
      .notes = "layout");
TG_OP("as_strided_view(Tensor input, int[] size, int[] stride, int offset, int[] in_stride, int in_offset) -> Tensor",
      .doc = "as_strided with the geometry of its input spelled out.", .primitive = box<as_strided_view_body>,
      .grads = {{0, as_strided_grad}}, .flags = kView | kHidden, .torch = "none",
      .samples = "T(3,4), [2, 2], [4, 1], 0, [4, 1], 0; T(6), [4, 3], [1, 1], 0, [1], 0", .notes = "layout");
TG_OP("window_scatter(Tensor input, Tensor src, int[] stride, int offset, int[] in_stride) -> Tensor",
      .doc = "Copy of input, taken as laid out with in_stride, whose window with these strides is src.",
      .primitive = box<window_scatter_body>, .grads = {{0, window_scatter_grad_input}, {0, window_scatter_grad_src}},
      .flags = kHidden, .torch = "none",
      .samples = "T(3,4), T(2,2), [4, 1], 1, [4, 1]; T(3,4), T(2,2), [1, 3], 0, [1, 3]; T(3), T(2), [-1], 2, [1]");
TG_OP("select_scatter(Tensor input, Tensor src, int dim, int index) -> Tensor",
      .doc = "Copy of input with input.select(dim, index) replaced by src.", .composite = box<select_scatter_body>,
      .samples = "T(3,4), T(4), 0, 1; T(3,4), T(3), -1, -2; T(2,3,4), T(2,4), 1, 0");
TG_OP(
    "slice_scatter(Tensor input, Tensor src, int dim=0, int? start=None, int? end=None, int step=1) -> Tensor",
    .doc = "Copy of input with the slice start:end:step of dim replaced by src.", .composite = box<slice_scatter_body>,
    .samples =
        "T(3,4), T(2,4), 0, 1, 3; T(3,4), T(3,2), 1, 0, 4, 2; T(3,4), T(3,4); T(5), T(2), -1, -2; T(3), T(0), 0, 2, 1");
TG_OP("diagonal_scatter(Tensor input, Tensor src, int offset=0, int dim1=0, int dim2=1) -> Tensor",
      .doc = "Copy of input with a diagonal replaced by src.", .composite = box<diagonal_scatter_body>,
      .samples = "T(3,3), T(3); T(3,4), T(3), 1; T(3,4), T(2), -1; T(2,3,3), T(2,3), 0, 1, 2");
// PyTorch 2.13's derivative of this one is wrong in the input (its own gradcheck says so).
TG_OP("as_strided_scatter(Tensor input, Tensor src, int[] size, int[] stride, int? storage_offset=None) -> Tensor",
      .doc = "Copy of input with the window as_strided(size, stride, storage_offset) replaced by src.",
      .composite = box<as_strided_scatter_body>, .torch = "none",
      .samples = "T(3,4), T(2,2), [2, 2], [4, 1]; T(3,4), T(3), [3], [5], 0; T(6), T(2,2), [2, 2], [1, 3], 1",
      .notes = "layout");

}  // namespace
}  // namespace tg
