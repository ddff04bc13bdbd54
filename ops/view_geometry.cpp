#include "ops/ops.h"
#include "ops/view.h"

namespace tg {

Extent extent_of(const Geometry& g) {
  __int128 lo = g.offset, hi = g.offset;
  for (int i = 0; i < g.sizes.size(); ++i) {
    if (g.sizes[i] == 0) return {0, -1};
    __int128 span = __int128(g.sizes[i] - 1) * g.strides[i];
    (span < 0 ? lo : hi) += span;
    TG_CHECK(lo >= INT64_MIN / 16 && hi <= INT64_MAX / 16, ShapeError, "view: size ", g.sizes, " with stride ",
             g.strides, " reaches beyond the address space");
  }
  return {int64_t(lo), int64_t(hi)};
}

bool may_overlap(const Geometry& g) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // |stride|, size
  for (int i = 0; i < g.sizes.size(); ++i) {
    if (g.sizes[i] == 0) return false;
    if (g.sizes[i] > 1) dims.emplace_back(std::abs(g.strides[i]), g.sizes[i]);
  }
  std::sort(dims.begin(), dims.end());
  int64_t reach = 0;  // largest offset of the finer dimensions
  for (auto [stride, size] : dims) {
    if (stride <= reach) return true;
    reach += stride * (size - 1);
  }
  return false;
}

Dims infer_size(const char* op, IntList size, const Tensor& input) {
  Dims out = size.dims();
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < out.size(); ++i) {
    TG_CHECK(out[i] >= -1, ShapeError, op, ": negative size ", out[i], " at dimension ", i, " of ", size,
             "; input=", describe(input));
    if (out[i] == -1) {
      TG_CHECK(unknown < 0, ShapeError, op, ": only one size can be -1, got ", size, "; input=", describe(input));
      unknown = i;
    } else {
      TG_CHECK(!__builtin_mul_overflow(known, out[i], &known), ShapeError, op, ": size ", size,
               " has more than 2^63 elements; input=", describe(input));
    }
  }
  int64_t n = input.numel();
  if (unknown >= 0) {
    TG_CHECK(known != 0, ShapeError, op, ": -1 at dimension ", unknown, " of ", size,
             " can't be found because the other sizes have product 0; input=", describe(input));
    TG_CHECK(n % known == 0, ShapeError, op, ": size ", size, " does not fit ", n,
             " elements; input=", describe(input));
    out[unknown] = n / known;
    known = n;
  }
  TG_CHECK(known == n || (n == 0 && numel_of(out, op) == 0), ShapeError, op, ": size ", size, " does not fit ", n,
           " elements; input=", describe(input));
  return out;
}

// Dimensions of g that lie behind one another without gaps form a block; each
// block has to be cut into new dimensions on its own.
std::optional<Dims> view_strides(const Geometry& g, const Dims& sizes) {
  Dims out = contiguous_strides(sizes);
  for (int64_t s : g.sizes)
    if (s == 0) return out;
  int at = sizes.size() - 1;
  int64_t block = 1,
          step = 1;  // elements in the block so far, stride of its last dimension
  bool fresh = true;
  for (int d = g.sizes.size() - 1; d >= 0; --d) {
    if (fresh) step = g.strides[d];
    fresh = false;
    block *= g.sizes[d];
    if (d > 0 && (g.sizes[d - 1] == 1 || g.strides[d - 1] == block * step)) continue;
    int64_t taken = 1;
    while (at >= 0 && (taken < block || sizes[at] == 1)) {
      out[at] = taken * step;
      taken *= sizes[at--];
    }
    if (taken != block) return std::nullopt;
    block = 1;
    fresh = true;
  }
  return out;
}

Geometry permute_geometry(Geometry g, const Dims& axes) {
  Geometry out = g;
  for (int i = 0; i < axes.size(); ++i) {
    out.sizes[i] = g.sizes[int(axes[i])];
    out.strides[i] = g.strides[int(axes[i])];
  }
  return out;
}

Geometry select_geometry(const char* op, Geometry g, int64_t dim, int64_t index) {
  TG_CHECK(g.sizes.size() > 0, IndexError, op, ": a tensor without dimensions can't be indexed");
  int d = wrap_dim(op, dim, g.sizes.size());
  int64_t n = g.sizes[d];
  TG_CHECK(index >= -n && index < n, IndexError, op, ": index ", index, " is out of bounds for dimension ", d,
           " with size ", n);
  g.offset += (index < 0 ? index + n : index) * g.strides[d];
  g.sizes.erase(d);
  g.strides.erase(d);
  return g;
}

Geometry slice_geometry(const char* op, Geometry g, int64_t dim, std::optional<int64_t> start,
                        std::optional<int64_t> stop, int64_t step) {
  TG_CHECK(g.sizes.size() > 0, IndexError, op, ": a tensor without dimensions can't be sliced");
  TG_CHECK(step != 0, ValueError, op, ": step must not be zero (dimension ", dim, ")");
  int d = wrap_dim(op, dim, g.sizes.size());
  int64_t n = g.sizes[d];
  step = std::max<int64_t>(step, -INT64_MAX);
  int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
  auto clip = [&](std::optional<int64_t> v, int64_t missing) {
    return v ? std::clamp(*v < 0 ? *v + n : *v, low, high) : missing;
  };
  int64_t first = clip(start, step > 0 ? low : high), last = clip(stop, step > 0 ? high : low), count = 0;
  if (step > 0 && last > first) count = (last - first - 1) / step + 1;
  if (step < 0 && first > last) count = (first - last - 1) / -step + 1;
  if (count > 0) g.offset += first * g.strides[d];
  if (count > 1) g.strides[d] *= step;
  g.sizes[d] = count;
  return g;
}

Geometry diagonal_geometry(const char* op, Geometry g, int64_t offset, int64_t dim1, int64_t dim2) {
  int n = g.sizes.size();
  TG_CHECK(n >= 2, ShapeError, op, ": expected at least 2 dimensions, got size ", g.sizes);
  int d1 = wrap_dim(op, dim1, n), d2 = wrap_dim(op, dim2, n);
  TG_CHECK(d1 != d2, ValueError, op, ": dim1 and dim2 must differ, both are ", dim1, "; input size ", g.sizes);
  int64_t rows = g.sizes[d1], cols = g.sizes[d2], length = 0;
  if (offset >= 0 && offset < cols) length = std::min(rows, cols - offset);
  if (offset < 0 && offset > -rows) length = std::min(rows + offset, cols);
  if (length > 0) g.offset += offset >= 0 ? offset * g.strides[d2] : -offset * g.strides[d1];
  int64_t stride = g.strides[d1] + g.strides[d2];
  for (int d : {std::max(d1, d2), std::min(d1, d2)}) {
    g.sizes.erase(d);
    g.strides.erase(d);
  }
  g.sizes.push_back(length);
  g.strides.push_back(stride);
  return g;
}

Geometry window_geometry(const char* op, Geometry g, int64_t dim, int64_t size, int64_t step) {
  bool flat = g.sizes.empty();  // counts as one dimension of size 1
  if (flat) g = {{1}, {1}, g.offset};
  int d = wrap_dim(op, dim, g.sizes.size());
  int64_t n = g.sizes[d], stride = g.strides[d];
  TG_CHECK(step > 0, ValueError, op, ": step must be positive, got ", step);
  TG_CHECK(size >= 0 && size <= n, ShapeError, op, ": window of size ", size, " does not fit dimension ", d,
           " with size ", n);
  g.sizes[d] = (n - size) / step + 1;
  if (g.sizes[d] > 1) g.strides[d] *= step;
  if (flat) return {{size}, {stride}, g.offset};
  g.sizes.push_back(size);
  g.strides.push_back(stride);
  return g;
}

Tensor embed(const Tensor& g, const Dims& sizes, const Geometry& where) {
  return reshape(strided_scatter(g, where.sizes, where.strides, where.offset, numel_of(sizes)), sizes);
}

}  // namespace tg
