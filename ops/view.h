// Geometry of views: every view op is a function from geometry to geometry,
// applied to the tensor in forward and to a contiguous tensor of the same size
// in its gradient.
#pragma once
#include <optional>

#include "core/tensor.h"

namespace tg {

struct Geometry {
  Dims sizes, strides;
  int64_t offset = 0;  // absolute, in elements
};
// Smallest and largest element offset a geometry reaches; hi < lo when it has
// no elements.
struct Extent {
  int64_t lo = 0, hi = -1;
};

inline Geometry geometry_of(const Tensor& t) { return {t.sizes(), t.strides(), t.storage_offset()}; }
inline Geometry row_major(const Dims& sizes) { return {sizes, contiguous_strides(sizes), 0}; }
inline Tensor view_of(const Tensor& t, const Geometry& g) { return make_view(t, g.sizes, g.strides, g.offset); }
// ShapeError when an offset does not fit into int64.
Extent extent_of(const Geometry& g);
// True unless it is certain that no two elements share memory.
bool may_overlap(const Geometry& g);

// Replaces the one -1 in `size` so that the product is `numel`; ShapeError
// otherwise.
Dims infer_size(const char* op, IntList size, const Tensor& input);
// Strides that show the same elements in the same order with other sizes; none
// if there are no such strides.
std::optional<Dims> view_strides(const Geometry& g, const Dims& sizes);

Geometry permute_geometry(Geometry g, const Dims& axes);
Geometry select_geometry(const char* op, Geometry g, int64_t dim, int64_t index);
Geometry slice_geometry(const char* op, Geometry g, int64_t dim, std::optional<int64_t> start,
                        std::optional<int64_t> stop, int64_t step);
Geometry diagonal_geometry(const char* op, Geometry g, int64_t offset, int64_t dim1, int64_t dim2);
Geometry window_geometry(const char* op, Geometry g, int64_t dim, int64_t size, int64_t step);

// Adjoint of a view of a contiguous tensor of size `sizes`: zeros with `g`
// added where the view looks.
Tensor embed(const Tensor& g, const Dims& sizes, const Geometry& where);

}  // namespace tg
