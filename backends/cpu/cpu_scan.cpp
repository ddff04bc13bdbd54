// arg_reduce and scan: searches and running values along one axis.
#include <cstdlib>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"
#include "backends/scalar_math.h"

namespace tg::cpu {
namespace {

template <class T>
using Wide = std::conditional_t<std::is_integral_v<T>, int64_t, double>;

template <class F>
void visit_num(DType compute, F&& f) {
  if (compute == DType::F32)
    f(Tag<float>{});
  else if (compute == DType::F64)
    f(Tag<double>{});
  else
    f(Tag<int64_t>{});
}

// The views without `axis`, merged and sorted by the first. Views without data are replaced by the first.
Nd lines(const View& a, const View& b, const View& c, int axis) {
  Views v;
  for (const View* x : {&a, &b, &c}) {
    View w = x->data ? *x : a;
    w.shape.erase(axis);
    w.stride.erase(axis);
    for (int d = 0; d < w.ndim(); ++d) w.shape[d] = a.shape[d < axis ? d : d + 1];
    v.push_back(w);
  }
  plan::Nest n = plan::nest_of(v);
  plan::merge_axes(n);
  plan::sort_axes(n, 0);
  plan::merge_axes(n);
  return Nd(std::move(n), v);
}

int64_t lines_per_chunk(int64_t length) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(length, 1)); }

// True if `x` beats the extreme so far; the first NaN beats every number and is never beaten.
template <class T>
bool beats(bool largest, T x, T best) {
  return (largest ? x > best : x < best) || (x != x && best == best);
}

// Elements of a long line that are searched side by side.
constexpr int64_t kLanes = 128;

struct Search {
  LoadLoop load;
  SearchLoop search;
  int64_t item, n;
  bool largest;
};

// The extreme of a line and where it is first.
template <class T>
int64_t search_line(const char* p, int64_t stride, const Search& s, T& best) {
  T tile[kTile], tops[kLanes];
  int64_t rows[kLanes] = {}, at = 0;
  const int64_t whole = s.n / kLanes * kLanes;
  for (int64_t b = 0; b < s.n; b += kTile) {
    const int64_t k = std::min(kTile, s.n - b);
    s.load(p + b * stride * s.item, stride, tile, k);
    if (b == 0) {
      best = tile[0];
      std::copy_n(tile, std::min(kLanes, k), tops);
    }
    int64_t i = 0;
    for (const int64_t end = std::min(k, whole - b); i < end; i += kLanes)
      s.search(tile + i, (b + i) / kLanes, tops, rows, kLanes);
    for (; i < k; ++i)
      if (beats(s.largest, tile[i], best)) best = tile[i], at = b + i;
  }
  // The rest came after all lanes, and the first element began it; of equals the first counts.
  for (int64_t i = 0; whole > 0 && i < kLanes; ++i) {
    const int64_t here = rows[i] * kLanes + i;
    const bool equal = tops[i] == best || (tops[i] != tops[i] && best != best);
    if (beats(s.largest, tops[i], best) || (equal && here < at)) best = tops[i], at = here;
  }
  return at;
}

// Neighbouring lines together, when they are what lies side by side in memory.
template <class T>
void search_columns(const char* p, int64_t stride, int64_t axis_step, const Search& s, int64_t width, T* best,
                    int64_t* at) {
  T tile[kTile];
  s.load(p, stride, best, width);
  std::fill_n(at, width, int64_t(0));
  for (int64_t a = 1; a < s.n; ++a) {
    s.load(p + a * axis_step, stride, tile, width);
    s.search(tile, a, best, at, width);
  }
}

}  // namespace

void CpuBackend::arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) {
  const int64_t n = in.shape[axis], along = in.stride[axis];
  if (in.numel() == 0) return;
  const Nd nd = lines(in, values, index, axis);
  const Loops& l = loops();
  const bool columns = nd.inner() >= 16 && std::llabs(nd.inner_stride(0)) < std::llabs(along);
  visit_num(compute_type(in.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int num = int(num_of(DTypeOf<T>::value));
    const Search s{l.load[int(in.dtype)][num], l.search[largest][num], nd.item[0], n, largest};
    parallel_for(nd.n, std::max<int64_t>(columns ? 64 : 1, lines_per_chunk(n)), [&](int64_t b, int64_t e) {
      T best[kTile];
      int64_t at[kTile];
      for (Cursor c(nd, b); c.linear < e;) {
        const int64_t k = columns ? std::min({kTile, e - c.linear, c.row_left()}) : 1;
        if (columns)
          search_columns(c.p[0], nd.inner_stride(0), along * nd.item[0], s, k, best, at);
        else
          at[0] = search_line(c.p[0], along, s, best[0]);
        if (values.data) l.store[num][int(values.dtype)](best, c.p[1], nd.inner_stride(1), k);
        l.store[int(Num::I)][int(index.dtype)](at, c.p[2], nd.inner_stride(2), k);
        c.advance_in_row(k);
      }
    });
  });
}

namespace {

// Running value of tile x in place; `acc` and `best` carry over from the elements before. `at` may be null.
template <class T>
void scan_tile(ScanOp op, T* x, int64_t n, int64_t first, Wide<T>& acc, int64_t& best, int64_t* at) {
  using A = Wide<T>;
  int64_t i = 0;
  if (first == 0) acc = A(x[0]), best = 0, i = 1;
  auto run = [&](auto step) {
    if (i == 1 && at) at[0] = 0;
    for (; i < n; ++i) {
      step(A(x[i]), first + i);
      x[i] = T(acc);
      if (at) at[i] = best;
    }
  };
  switch (op) {
    case ScanOp::Sum:
      return run([&](A v, int64_t) { acc = acc + v; });
    case ScanOp::Prod:
      return run([&](A v, int64_t) { acc = sm::mul(acc, v); });
    case ScanOp::LogSumExp:
      return run([&](A v, int64_t) { acc = A(sm::logaddexp(double(acc), double(v))); });
    case ScanOp::Max:
      return run([&](A v, int64_t j) {
        if (v != v || v >= acc) acc = v, best = j;
      });
    case ScanOp::Min:
      return run([&](A v, int64_t j) {
        if (v != v || v <= acc) acc = v, best = j;
      });
  }
}

}  // namespace

// The position is the latest of equal extremes, as in PyTorch's cummax.
void CpuBackend::scan(ScanOp op, const View& in, int axis, const View& out, const View& index) {
  const int64_t n = in.shape[axis];
  if (in.numel() == 0) return;
  const Nd nd = lines(in, out, index, axis);
  const Loops& l = loops();
  const int64_t si = in.stride[axis], so = out.stride[axis], sx = index.data ? index.stride[axis] : 0;
  visit_num(compute_type(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int num = int(num_of(DTypeOf<T>::value));
    parallel_for(nd.n, lines_per_chunk(n), [&](int64_t b, int64_t e) {
      T tile[kTile];
      int64_t at[kTile];
      for (Cursor c(nd, b); c.linear < e; c.advance_in_row(1)) {
        Wide<T> acc{};
        int64_t best = 0;
        for (int64_t first = 0; first < n; first += kTile) {
          const int64_t k = std::min(kTile, n - first);
          l.load[int(in.dtype)][num](c.p[0] + first * si * nd.item[0], si, tile, k);
          scan_tile<T>(op, tile, k, first, acc, best, index.data ? at : nullptr);
          l.store[num][int(out.dtype)](tile, c.p[1] + first * so * nd.item[1], so, k);
          if (index.data) l.store[int(Num::I)][int(index.dtype)](at, c.p[2] + first * sx * nd.item[2], sx, k);
        }
      }
    });
  });
}

}  // namespace tg::cpu
