#include "backends/plan/plan.h"

#include <cstdlib>

namespace tg::plan {

void Nest::push_axis(const Nest& from, int axis) {
  n_views = from.n_views;
  shape.push_back(from.shape[axis]);
  for (int k = 0; k < n_views; ++k) stride[k].push_back(from.stride[k][axis]);
}

Nest nest_of(const Views& a, const Views& b) {
  Nest n;
  n.n_views = a.size() + b.size();
  TG_CHECK(n.n_views <= kMaxViews, ValueError, "map: at most ", kMaxViews, " views in one loop, got ", n.n_views);
  for (int k = 0; k < n.n_views; ++k) {
    const View& v = k < a.size() ? a[k] : b[k - a.size()];
    if (k == 0) n.shape = v.shape;
    n.stride[k] = v.stride;
  }
  return n;
}

namespace {

// Axis d and axis d + 1 are one axis if stepping d is the same as stepping all of d + 1.
bool mergeable(const Nest& n, int outer, const Nest& from, int d) {
  for (int k = 0; k < n.n_views; ++k)
    if (n.stride[k][outer] != from.stride[k][d] * from.shape[d]) return false;
  return true;
}

// True if axis a should be further in than axis b.
bool inner_to(const Nest& n, int lead, int a, int b) {
  for (int i = 0; i < n.n_views; ++i) {
    int k = i == 0 ? lead : i <= lead ? i - 1 : i;
    int64_t sa = std::llabs(n.stride[k][a]), sb = std::llabs(n.stride[k][b]);
    if (sa != 0 && sb != 0 && sa != sb) return sa < sb;
  }
  return false;
}

}  // namespace

void merge_axes(Nest& n) {
  Nest r;
  r.n_views = n.n_views;
  for (int d = 0; d < n.ndim(); ++d) {
    if (n.shape[d] == 1) continue;
    int last = r.ndim() - 1;
    if (last >= 0 && mergeable(r, last, n, d)) {
      r.shape[last] *= n.shape[d];
      for (int k = 0; k < n.n_views; ++k) r.stride[k][last] = n.stride[k][d];
    } else {
      r.push_axis(n, d);
    }
  }
  n = r;
}

void sort_axes(Nest& n, int lead) {
  int order[kMaxDims];
  for (int d = 0; d < n.ndim(); ++d) {
    int at = d;
    for (; at > 0 && inner_to(n, lead, order[at - 1], d); --at) order[at] = order[at - 1];
    order[at] = d;
  }
  Nest r;
  r.n_views = n.n_views;
  for (int d = 0; d < n.ndim(); ++d) r.push_axis(n, order[d]);
  n = r;
}

Nest collapse(const Views& a, const Views& b, int lead) {
  Nest n = nest_of(a, b);
  merge_axes(n);
  sort_axes(n, lead);
  merge_axes(n);
  return n;
}

ReduceSplit split_reduction(const Views& ins, const View& out) {
  Views outs;
  outs.push_back(out);
  Nest all = nest_of(ins, outs);
  int o = all.n_views - 1;
  ReduceSplit s;
  s.kept.n_views = s.reduced.n_views = all.n_views;
  for (int d = 0; d < all.ndim(); ++d) {
    if (all.shape[d] == 1) continue;
    (all.stride[o][d] == 0 ? s.reduced : s.kept).push_axis(all, d);
  }
  merge_axes(s.kept);
  merge_axes(s.reduced);
  return s;
}

}  // namespace tg::plan
