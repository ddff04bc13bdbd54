// Geometry of loops, shared by the backends: which axes several views can walk together, in which order, and how a
// reduction splits into kept and reduced axes. No kernel here, only sizes and strides.
#pragma once
#include "backends/backend.h"

namespace tg::plan {

inline constexpr int kMaxViews = 16;

// A nest of loops over up to kMaxViews views at once: axis 0 is the outermost loop. Strides are in elements.
struct Nest {
  int n_views = 0;
  Dims shape;
  Dims stride[kMaxViews];  // stride[k] belongs to view k
  Nest() = default;
  Nest(const Nest& o) { *this = o; }
  Nest& operator=(const Nest& o) {
    n_views = o.n_views;
    shape = o.shape;
    for (int k = 0; k < n_views; ++k) stride[k] = o.stride[k];
    return *this;
  }
  int ndim() const { return shape.size(); }
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return n;
  }
  // Appends an axis with the sizes and strides of `from`'s axis.
  void push_axis(const Nest& from, int axis);
};

// Views of one shape as a nest, axes as given. ValueError beyond kMaxViews.
TG_API Nest nest_of(const Views& a, const Views& b = {});

// Drops axes of size 1 and merges neighbours that every view walks as one. Keeps the row-major order of elements.
TG_API void merge_axes(Nest& n);

// Sorts axes so that the innermost has the smallest strides, judged by view `lead` first (usually the output), then by
// the others. Changes the order of elements: only for loops whose order does not matter. Stable, so that views which
// agree on nothing keep their axes as they are.
TG_API void sort_axes(Nest& n, int lead);

// Both: the fewest loops for an order-free walk.
TG_API Nest collapse(const Views& a, const Views& b, int lead);

// Axes of a reduction by kind; both keep all views' strides (0 for the output in `reduced`).
struct ReduceSplit {
  Nest kept, reduced;
};
// Axes in which `out` has stride 0 are reduced, except those of size 1, which belong to neither. Both parts are merged
// but not sorted: reduced elements keep their row-major order. The last view of each nest is `out`.
TG_API ReduceSplit split_reduction(const Views& ins, const View& out);

}  // namespace tg::plan
