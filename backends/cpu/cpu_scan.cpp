// arg_reduce and scan: searches and running values along one axis.
#include <cstdlib>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"
#include "backends/cpu/stream.h"
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

// Of n neighbouring lines of `length` that are worked on side by side: the longer the stretches of their rows, the more
// of a row is fetched ahead. Whole lines of the cache.
constexpr int64_t kWide = 4096, kPerLine = kLineBytes / sizeof(float);
int64_t wide_columns(int64_t n, int64_t length) {
  const int64_t wide = std::max(std::clamp<int64_t>(n / num_threads(), 64, kWide), lines_per_chunk(length));
  return (wide + kPerLine - 1) / kPerLine * kPerLine;
}

bool side_by_side(const Nd& nd, int64_t along) {
  return nd.inner() >= 16 && std::llabs(nd.inner_stride(0)) < std::llabs(along);
}

// True if `x` beats the extreme so far; the first NaN beats every number and is never beaten.
template <class T>
bool beats(bool largest, T x, T best) {
  return (largest ? x > best : x < best) || (x != x && best == best);
}

struct Search {
  LoadLoop load;
  RowLoop row;
  FindLoop find;
  SearchLoop search;
  int64_t item, n;
  bool largest, direct;  // direct: memory holds what is compared
};

// The extreme of a line and where it is first: of each piece the extreme, and its place if it beats those before.
template <class T>
int64_t search_line(const char* p, int64_t stride, const Search& s, T& best) {
  T tile[kTile];
  const bool direct = s.direct && stride == 1;
  const int64_t piece = direct ? kRedChunk : kTile;
  int64_t at = 0;
  for (int64_t b = 0; b < s.n; b += piece) {
    const int64_t k = std::min(piece, s.n - b);
    const T* x = reinterpret_cast<const T*>(p + b * s.item);
    if (!direct) s.load(p + b * stride * s.item, stride, tile, k), x = tile;
    Wide<T> wide = Wide<T>(x[0]);
    s.row(x, k, &wide);
    const T top = T(wide);
    if (b > 0 && !beats(s.largest, top, best)) continue;
    const int64_t i = s.find(x, &top, k);
    best = x[i], at = b + i;
  }
  return at;
}

// Neighbouring lines together, when they are what lies side by side in memory.
template <class T>
void search_columns(const char* p, int64_t stride, int64_t along, const Search& s, int64_t width, T* best,
                    int64_t* at) {
  s.load(p, stride, best, width);
  std::fill_n(at, width, int64_t(0));
  if (s.direct && stride == 1) return s.search(p + along * s.item, along, s.n - 1, 1, best, at, width);
  T tile[kTile];
  for (int64_t a = 1; a < s.n; ++a) {
    s.load(p + a * along * s.item, stride, tile, width);
    s.search(tile, 0, 1, a, best, at, width);
  }
}

}  // namespace

void CpuBackend::arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) {
  const int64_t n = in.shape[axis], along = in.stride[axis];
  if (in.numel() == 0) return;
  const Nd nd = lines(in, values, index, axis);
  const Loops& l = loops();
  const bool columns = side_by_side(nd, along);
  visit_num(compute_type(in.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int num = int(num_of(DTypeOf<T>::value));
    const Search s{.load = l.load[int(in.dtype)][num],
                   .row = l.row[int(largest ? Red::Max : Red::Min)][num],
                   .find = l.find[num],
                   .search = l.search[largest][num],
                   .item = nd.item[0],
                   .n = n,
                   .largest = largest,
                   .direct = in.dtype == DTypeOf<T>::value};
    const int64_t grain = columns ? wide_columns(nd.n, n) : std::max<int64_t>(1, grain_of(nd.n * n) / n);
    parallel_for(nd.n, grain, [&](int64_t b, int64_t e) {
      T best[kWide];
      int64_t at[kWide];
      for (Cursor c(nd, b); c.linear < e;) {
        const int64_t k = columns ? std::min({s.direct ? kWide : kTile, e - c.linear, c.row_left()}) : 1;
        if (columns)
          search_columns(c.p[0], nd.inner_stride(0), along, s, k, best, at);
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

// Running values of R tiles in place, which follow each other in x; `acc` and `best` carry over from the elements
// before. `at` may be null. R lines wait for each other's additions, not for their own.
template <int R, class T>
void scan_tiles(ScanOp op, T* x, int64_t n, int64_t first, Wide<T>* carry, int64_t* latest, int64_t* at) {
  using A = Wide<T>;
  A acc[R];
  int64_t best[R];
  std::copy_n(carry, R, acc);
  std::copy_n(latest, R, best);
  auto run = [&](auto step) {
    int64_t i = 0;
    if (first == 0) {
      for (int r = 0; r < R; ++r) acc[r] = A(x[r * kTile]), best[r] = 0;
      for (int r = 0; r < R && at; ++r) at[r * kTile] = 0;
      i = 1;
    }
    for (; i < n; ++i)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const int64_t e = r * kTile + i;
        step(r, A(x[e]), first + i);
        x[e] = T(acc[r]);
        if (at) at[e] = best[r];
      }
  };
  switch (op) {
    case ScanOp::Sum:
      run([&](int r, A v, int64_t) { acc[r] = acc[r] + v; });
      break;
    case ScanOp::Prod:
      run([&](int r, A v, int64_t) { acc[r] = sm::mul(acc[r], v); });
      break;
    case ScanOp::LogSumExp:
      run([&](int r, A v, int64_t) { acc[r] = A(sm::logaddexp(double(acc[r]), double(v))); });
      break;
    case ScanOp::Max:
      run([&](int r, A v, int64_t j) {
        if (v != v || v >= acc[r]) acc[r] = v, best[r] = j;
      });
      break;
    case ScanOp::Min:
      run([&](int r, A v, int64_t j) {
        if (v != v || v <= acc[r]) acc[r] = v, best[r] = j;
      });
      break;
  }
  std::copy_n(acc, R, carry);
  std::copy_n(best, R, latest);
}

// What a scan reads and writes; steps of the axis are in elements.
struct Scan {
  static constexpr int kTogether = 8;
  ScanOp op;
  LoadLoop load;
  StoreLoop store, store_index;
  const Nd& nd;
  int64_t n, si, so, sx;
  bool indexed, streams;  // streams: past the caches

  // The loop that takes many float lines, each along its own memory, at once; null if these are none.
  template <class T>
  LineScans::Loop line_loop(const LineScans& l) const {
    const bool plain = std::is_same_v<T, float> && nd.ndim() > 0 && nd.dtype[0] == DType::F32 &&
                       nd.dtype[1] == DType::F32 && si == 1 && so == 1 && !indexed && l.count > 0;
    return !plain ? nullptr : op == ScanOp::Sum ? l.sum : op == ScanOp::Prod ? l.product : nullptr;
  }
  void by_squares(const Cursor& c, LineScans::Loop loop) const {
    loop(reinterpret_cast<const float*>(c.p[0]), nd.inner_stride(0), reinterpret_cast<float*>(c.p[1]),
         nd.inner_stride(1), n, streams && aligned(c.p[1], nd.inner_stride(1)));
  }
  // Whether lines of the output that are so many elements apart begin with a line of the cache.
  bool aligned(const char* first, int64_t apart) const {
    return (reinterpret_cast<uintptr_t>(first) | uint64_t(apart * nd.item[1])) % kLineBytes == 0;
  }

  // R neighbouring lines, each along its own memory.
  template <int R, class T>
  void along(const Cursor& c) const {
    T tile[R * kTile];
    int64_t at[R * kTile], best[R] = {};
    Wide<T> acc[R] = {};
    const int d = nd.ndim() - 1;
    auto place = [&](int v, int r, int64_t first, int64_t stride) {
      return c.p[v] + (R > 1 ? r * nd.step(v, d) : 0) + first * stride * nd.item[v];
    };
    for (int64_t first = 0; first < n; first += kTile) {
      const int64_t k = std::min(kTile, n - first);
      for (int r = 0; r < R; ++r) load(place(0, r, first, si), si, tile + r * kTile, k);
      scan_tiles<R>(op, tile, k, first, acc, best, indexed ? at : nullptr);
      for (int r = 0; r < R; ++r) store(tile + r * kTile, place(1, r, first, so), so, k);
      for (int r = 0; r < R && indexed; ++r) store_index(at + r * kTile, place(2, r, first, sx), sx, k);
    }
  }

  // The loop that streams neighbouring float lines whose rows are whole lines of the cache; null where they are none.
  template <class T>
  ScanLoop column_loop(const Loops& l) const {
    const bool plain = std::is_same_v<T, float> && nd.ndim() > 0 && nd.dtype[0] == DType::F32 &&
                       nd.dtype[1] == DType::F32 && nd.inner_stride(0) == 1 && nd.inner_stride(1) == 1;
    return !plain || !streams || !aligned(nd.data[1], so) ? nullptr
           : op == ScanOp::Sum                            ? l.stream_sum
           : op == ScanOp::Prod                           ? l.stream_prod
                                                          : nullptr;
  }
  // `width` of them: at most kWide, whole lines.
  void across_streamed(const Cursor& c, int64_t width, ScanLoop loop) const {
    double acc[kWide];
    std::copy_n(reinterpret_cast<const float*>(c.p[0]), width, acc);
    stream_bytes(c.p[1], c.p[0], width * nd.item[1]);
    loop(c.p[0] + si * nd.item[0], si, c.p[1] + so * nd.item[1], so, n - 1, acc, width);
  }

  // `width` neighbouring lines, one step of all after the other.
  template <class T>
  void across(const Cursor& c, int64_t width, ScanLoop step) const {
    T row[kTile];
    Wide<T> acc[kTile];
    load(c.p[0], nd.inner_stride(0), row, width);
    std::copy_n(row, width, acc);
    store(row, c.p[1], nd.inner_stride(1), width);
    char* const second[] = {c.p[0] + si * nd.item[0], c.p[1] + so * nd.item[1]};
    const bool direct = nd.dtype[0] == DTypeOf<T>::value && nd.dtype[1] == DTypeOf<T>::value &&
                        nd.inner_stride(0) == 1 && nd.inner_stride(1) == 1;
    if (direct && !streams) return step(second[0], si, second[1], so, n - 1, acc, width);
    if (direct) {
      T rows[kTogether * kTile];
      for (int64_t i = 0; i < n - 1; i += kTogether) {
        const int64_t k = std::min<int64_t>(kTogether, n - 1 - i);
        step(second[0] + i * si * nd.item[0], si, rows, width, k, acc, width);
        for (int64_t r = 0; r < k; ++r)
          stream_bytes(second[1] + (i + r) * so * nd.item[1], rows + r * width, width * int64_t(sizeof(T)));
      }
      return;
    }
    for (int64_t i = 0; i < n - 1; ++i) {
      load(second[0] + i * si * nd.item[0], nd.inner_stride(0), row, width);
      step(row, 0, row, 0, 1, acc, width);
      store(row, second[1] + i * so * nd.item[1], nd.inner_stride(1), width);
    }
  }
};

}  // namespace

// The position is the latest of equal extremes, as in PyTorch's cummax.
void CpuBackend::scan(ScanOp op, const View& in, int axis, const View& out, const View& index) {
  const int64_t n = in.shape[axis];
  if (in.numel() == 0) return;
  const Nd nd = lines(in, out, index, axis);
  const Loops& l = loops();
  visit_num(compute_type(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kTogether = Scan::kTogether;
    const int num = int(num_of(DTypeOf<T>::value));
    const ScanLoop step = op == ScanOp::Sum ? l.scan_sum[num] : op == ScanOp::Prod ? l.scan_prod[num] : nullptr;
    const bool columns = step && !index.data && side_by_side(nd, in.stride[axis]);
    const int64_t row = columns ? nd.inner() : n;  // elements that are written side by side
    const Scan s{.op = op,
                 .load = l.load[int(in.dtype)][num],
                 .store = l.store[num][int(out.dtype)],
                 .store_index = l.store[int(Num::I)][int(DType::I64)],
                 .nd = nd,
                 .n = n,
                 .si = in.stride[axis],
                 .so = out.stride[axis],
                 .sx = index.data ? index.stride[axis] : 0,
                 .indexed = index.data != nullptr,
                 .streams = in.data != out.data && streams_rows(in.numel() * nd.item[1], row * nd.item[1])};
    const ScanLoop streamed = columns ? s.column_loop<T>(l) : nullptr;
    const LineScans::Loop lines = s.line_loop<T>(l.lines);
    int64_t grain = streamed  ? wide_columns(nd.n, n)
                    : columns ? std::max(columns_per_chunk(nd.n), lines_per_chunk(n))
                              : lines_per_chunk(n);
    if (lines && nd.n >= 2 * l.lines.count) grain = (grain + l.lines.count - 1) / l.lines.count * l.lines.count;
    parallel_for(nd.n, grain, [&](int64_t b, int64_t e) {
      for (Cursor c(nd, b); c.linear < e;) {
        const int64_t left = std::min(e - c.linear, c.row_left());
        const int64_t whole = streamed && s.aligned(c.p[1], s.so) ? std::min(kWide, left) / kPerLine * kPerLine : 0;
        const int64_t width = whole > 0                        ? whole
                              : columns                        ? std::min(kTile, left)
                              : lines && left >= l.lines.count ? l.lines.count
                              : left >= kTogether              ? kTogether
                                                               : 1;
        if (whole > 0)
          s.across_streamed(c, width, streamed);
        else if (columns)
          s.across<T>(c, width, step);
        else if (lines && width == l.lines.count)
          s.by_squares(c, lines);
        else if (width > 1)
          s.along<kTogether, T>(c);
        else
          s.along<1, T>(c);
        c.advance_in_row(width);
      }
      if (s.streams) stream_end();
    });
  });
}

}  // namespace tg::cpu
