#include "core/shape.h"

namespace tg {

std::string to_string(IntList d) {
  std::string s = "[";
  for (int64_t i = 0; i < d.size(); ++i) s += (i ? ", " : "") + std::to_string(d[i]);
  return s + "]";
}

int64_t numel_of(IntList sizes, const char* op) {
  bool zero = false;
  for (int64_t s : sizes) {
    TG_CHECK(s >= 0, ShapeError, op, ": negative dimension ", s, " in size ", sizes);
    zero |= s == 0;
  }
  if (zero) return 0;
  int64_t n = 1;
  for (int64_t s : sizes)
    TG_CHECK(!__builtin_mul_overflow(n, s, &n), ShapeError, op, ": size ", sizes, " has more than 2^63 elements");
  return n;
}

Dims contiguous_strides(IntList sizes) {
  Dims st = Dims::filled(int(sizes.size()), 1);
  for (int i = int(sizes.size()) - 2; i >= 0; --i) st[i] = st[i + 1] * std::max<int64_t>(sizes[i + 1], 1);
  return st;
}

bool is_contiguous(const Dims& sizes, const Dims& strides) {
  int64_t expect = 1;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    if (sizes[i] == 0) return true;
    if (sizes[i] == 1) continue;
    if (strides[i] != expect) return false;
    expect *= sizes[i];
  }
  return true;
}

int wrap_dim(const char* op, int64_t dim, int ndim) {
  int64_t n = std::max(ndim, 1);
  TG_CHECK(dim >= -n && dim < n, IndexError, op, ": dimension out of range (expected to be in [", -n, ", ", n - 1,
           "], but got ", dim, ")");
  return int(dim < 0 ? dim + n : dim);
}

Dims wrap_dims(const char* op, IntList axes, int ndim) {
  Dims out;
  if (axes.empty()) {
    for (int i = 0; i < ndim; ++i) out.push_back(i);
    return out;
  }
  for (int64_t a : axes) {
    int d = wrap_dim(op, a, ndim);
    TG_CHECK(!out.contains(d), ValueError, op, ": dimension ", a, " appears twice in ", axes);
    out.push_back(d);
  }
  if (ndim == 0) out.resize(0);
  return out;
}

Dims broadcast_shapes(const char* op, const Dims& a, const Dims& b) {
  int n = std::max(a.size(), b.size());
  Dims out = Dims::filled(n, 1);
  for (int i = 0; i < n; ++i) {
    int ia = a.size() - n + i, ib = b.size() - n + i;
    int64_t x = ia < 0 ? 1 : a[ia], y = ib < 0 ? 1 : b[ib];
    TG_CHECK(x == y || x == 1 || y == 1, ShapeError, op, ": sizes do not broadcast at dimension ", i, ": ", x, " vs ",
             y, "; a=", a, ", b=", b);
    out[i] = x == 1 ? y : x;
  }
  return out;
}

bool broadcastable_to(const Dims& from, const Dims& to) {
  int off = to.size() - from.size();
  if (off < 0) return false;
  for (int i = 0; i < from.size(); ++i)
    if (from[i] != 1 && from[i] != to[off + i]) return false;
  return true;
}

}  // namespace tg
