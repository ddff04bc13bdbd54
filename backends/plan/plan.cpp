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

// Axis `outer` and axis d are one axis if stepping `outer` is the same as stepping all of d.
bool mergeable(const Nest& n, int outer, int d) {
  for (int k = 0; k < n.n_views; ++k)
    if (n.stride[k][outer] != n.stride[k][d] * n.shape[d]) return false;
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
  int last = -1;  // axes up to this one are done
  for (int d = 0; d < n.ndim(); ++d) {
    if (n.shape[d] == 1) continue;
    const bool merged = last >= 0 && mergeable(n, last, d);
    if (!merged) ++last;
    n.shape[last] = merged ? n.shape[last] * n.shape[d] : n.shape[d];
    for (int k = 0; k < n.n_views; ++k) n.stride[k][last] = n.stride[k][d];
  }
  n.shape.resize(last + 1);
  for (int k = 0; k < n.n_views; ++k) n.stride[k].resize(last + 1);
}

void sort_axes(Nest& n, int lead) {
  int order[kMaxDims];
  bool sorted = true;
  for (int d = 0; d < n.ndim(); ++d) {
    int at = d;
    for (; at > 0 && inner_to(n, lead, order[at - 1], d); --at) order[at] = order[at - 1], sorted = false;
    order[at] = d;
  }
  if (sorted) return;
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
