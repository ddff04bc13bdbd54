// Moving elements by position: gather, scatter, fold, nonzero and the range of indices.
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"
#include "backends/cpu/stream.h"
#include "backends/scalar_math.h"

namespace tg::cpu {
namespace {

// A bool byte is moved as a byte.
template <class S>
using Stored = std::conditional_t<std::is_same_v<S, bool>, uint8_t, S>;

template <class F>
void visit_item(int64_t item, F&& f) {
  switch (item) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    case 4:
      return f(Tag<uint32_t>{});
    default:
      return f(Tag<uint64_t>{});
  }
}

// A contiguous copy of another dtype, alive as long as this.
class Converted {
 public:
  Converted(const View& v, DType t, bool fill) : view_(v) {
    if (v.dtype == t) return;
    memory_.emplace(v.numel() * itemsize(t));
    view_.dtype = t;
    view_.data = memory_->as<void>();
    view_.stride = contiguous_strides(v.shape);
    if (fill) convert_copy(v, view_);
  }
  const View& view() const { return view_; }
  bool copied() const { return memory_.has_value(); }

 private:
  View view_;
  std::optional<Temp> memory_;
};

Nd order_free(const Views& v, int lead) {
  plan::Nest n = plan::nest_of(v);
  plan::merge_axes(n);
  plan::sort_axes(n, lead);
  plan::merge_axes(n);
  return Nd(std::move(n), v);
}

constexpr int64_t kRowsAhead = 2048;

// Rows in an order that the processor cannot foresee: it looks ahead only after some lines of a row, so that several
// are moved in step, and the beginnings of some arrive while others are on their way.
constexpr int64_t kRowsTogether = 8;

// Rows that are worth being moved whole, and still many enough to be shared among threads.
bool whole_rows(int64_t bytes) { return bytes >= 16 * kLineBytes && bytes <= 1024 * kLineBytes; }
int64_t rows_per_chunk(int64_t row) { return std::max<int64_t>(1, kGrain / (row * kRowsTogether)) * kRowsTogether; }

void stream_rows(char* const* to, const char* const* from, int64_t rows, int64_t bytes) {
  constexpr int64_t kPiece = 4 * kLineBytes;
  int64_t head[kRowsTogether], whole = bytes / kPiece * kPiece;
  for (int64_t r = 0; r < rows; ++r) {
    head[r] = -reinterpret_cast<uintptr_t>(to[r]) % kLineBytes;
    whole = std::min(whole, (bytes - head[r]) / kPiece * kPiece);
    std::memcpy(to[r], from[r], size_t(head[r]));
  }
  for (int64_t i = 0; i < whole; i += kPiece)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = i + head[r]; k < i + head[r] + kPiece; k += kLineBytes) stream_line(to[r] + k, from[r] + k);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t done = head[r] + whole;
    stream_bytes(to[r] + done, from[r] + done, bytes - done);
  }
}

template <class U>
void gather_row(const Nd& nd, char* const* at, int64_t k, int64_t along, bool stream) {
  const int64_t so = nd.inner_stride(0), sx = nd.inner_stride(1), si = nd.inner_stride(2);
  U* out = reinterpret_cast<U*>(at[0]);
  const int64_t* index = reinterpret_cast<const int64_t*>(at[1]);
  const U* in = reinterpret_cast<const U*>(at[2]);
  if (sx == 0) {
    const U* row = in + *index * along;
    if (si == 1 && so == 1 && stream)
      stream_bytes<kRowsAhead>(out, row, k * int64_t(sizeof(U)));
    else if (si == 1 && so == 1)
      std::memcpy(out, row, size_t(k) * sizeof(U));
    else
      for (int64_t j = 0; j < k; ++j) out[j * so] = row[j * si];
  } else {
    for (int64_t j = 0; j < k; ++j) out[j * so] = in[j * si + index[j * sx] * along];
  }
}

// out[j] = in[index[j]] by neighbouring indices, into `in` that lies side by side.
bool picks(const Nd& nd, int64_t along) {
  return nd.inner_stride(0) == 1 && nd.inner_stride(1) == 1 && nd.inner_stride(2) == 0 && along == 1;
}

// Indices that are looked at, then used. Long rows of them fetch the next indices and as much of the next row of `in`:
// either ends with a page, which the processor does not look beyond.
constexpr int64_t kPicked = 512;

template <class U>
void pick(U* out, const U* in, const int64_t* index, int64_t n, bool stream) {
  constexpr int64_t kTile = kStreamTile / int64_t(sizeof(U));
  auto some = [&](U* to, int64_t from, int64_t count) {
    for (int64_t j = 0; j < count; ++j) to[j] = in[index[from + j]];
  };
  if (!stream) return some(out, 0, n);
  const int64_t head = std::min(n, int64_t(-reinterpret_cast<uintptr_t>(out) % kLineBytes / sizeof(U)));
  some(out, 0, head);
  int64_t j = head;
  alignas(kLineBytes) U tile[kTile];
  for (; j + kTile <= n; j += kTile) {
    some(tile, j, kTile);
    stream_bytes(out + j, tile, kStreamTile);
  }
  some(out + j, j, n - j);
}

void fetch_lines(const void* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(static_cast<const char*>(from) + i);
}

// A range of indices that several threads widen.
class Range {
 public:
  void widen(int64_t low, int64_t high) {
    std::lock_guard lock(mutex_);
    low_ = std::min(low_, low), high_ = std::max(high_, high);
  }
  std::pair<int64_t, int64_t> result() const { return {low_, high_}; }

 private:
  std::mutex mutex_;
  int64_t low_ = INT64_MAX, high_ = INT64_MIN;
};

void widen_by_row(const int64_t* p, int64_t step, int64_t n, int64_t& low, int64_t& high) {
  if (step == 1) return loops().range(p, n, &low, &high);
  for (int64_t j = 0; j < (step == 0 ? 1 : n); ++j) {
    low = std::min(low, p[j * step]);
    high = std::max(high, p[j * step]);
  }
}

// Whole rows of `in`, each by one index, past the caches; `range` as in gather_pieces.
void gather_rows(const Nd& nd, int64_t along, int64_t size, Range* range) {
  const int outer = nd.ndim() - 2;
  const int64_t row = nd.inner(), bytes = row * nd.item[0];
  parallel_for(nd.n / row, rows_per_chunk(row), [&](int64_t b, int64_t e) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (Cursor c(nd, b * row); c.linear < e * row;) {
      const int64_t k = std::min({kRowsTogether, e - c.linear / row, nd.size(outer) - c.idx[outer]});
      char* to[kRowsTogether];
      const char* from[kRowsTogether];
      for (int64_t r = 0; r < k; ++r) {
        const int64_t index = *reinterpret_cast<const int64_t*>(c.p[1] + r * nd.step(1, outer));
        low = std::min(low, index), high = std::max(high, index);
        to[r] = c.p[0] + r * nd.step(0, outer);
        from[r] = c.p[2] + r * nd.step(2, outer) + index * along * nd.item[2];
      }
      if (!range || (low >= 0 && high < size)) stream_rows(to, from, k, bytes);
      c.advance_rows(k);
    }
    stream_end();
    if (range) range->widen(low, high);
  });
}

// With `range`, the indices of each piece are looked at before they are used, while they are in cache.
void gather_pieces(const Nd& nd, int64_t along, int64_t size, Range* range) {
  visit_item(nd.item[0], [&](auto tag) {
    using U = typename decltype(tag)::type;
    const bool stream = streams_rows(nd.n * int64_t(sizeof(U)), nd.inner() * int64_t(sizeof(U)));
    parallel_for(nd.n, kGrain, [&](int64_t b, int64_t e) {
      int64_t low = INT64_MAX, high = INT64_MIN;
      auto inside = [&](const int64_t* p, int64_t n) {
        if (range) widen_by_row(p, nd.inner_stride(1), n, low, high);
        return !range || (low >= 0 && high < size);
      };
      each_row(nd, b, e, [&](char* const* at, int64_t k) {
        auto* index = reinterpret_cast<const int64_t*>(at[1]);
        if (!picks(nd, along)) {
          if (inside(index, k)) gather_row<U>(nd, at, k, along, stream);
          return;
        }
        U* out = reinterpret_cast<U*>(at[0]);
        auto* in = reinterpret_cast<const U*>(at[2]);
        const bool far = k >= kPicked;
        for (int64_t j = 0; j < k; j += kPicked) {
          const int64_t n = std::min(kPicked, k - j);
          if (far) fetch_lines(index + j + kPicked, n * 8), fetch_lines(in + size + j, n * int64_t(sizeof(U)));
          if (!inside(index + j, n)) return void(inside(index + j + n, k - j - n));
          pick(out + j, in, index + j, n, stream);
        }
      });
      if (stream) stream_end();
      if (range) range->widen(low, high);
    });
  });
}

void gather_from(const View& in, int axis, const View& index, const View& out, Range* range) {
  const Converted idx(index, DType::I64, true), to(out, in.dtype, false);
  Views v;
  v.push_back(to.view());
  v.push_back(idx.view());
  v.push_back(in);
  v[2].stride[axis] = 0;  // the index supplies this part of the address
  v[2].shape = out.shape;
  const Nd nd = order_free(v, 0);
  const int64_t along = in.stride[axis], size = in.shape[axis];
  const bool rows = nd.ndim() > 1 && nd.inner_stride(0) == 1 && nd.inner_stride(1) == 0 && nd.inner_stride(2) == 1;
  const int64_t bytes = nd.inner() * nd.item[0];
  const bool together = rows && whole_rows(bytes) && streams_rows(nd.n * nd.item[0], bytes);
  (together ? gather_rows : gather_pieces)(nd, along, size, range);
  if (to.copied()) convert_copy(to.view(), out);
}

}  // namespace

void CpuBackend::gather(const View& in, int axis, const View& index, const View& out) {
  if (out.numel() > 0) gather_from(in, axis, index, out, nullptr);
}

std::pair<int64_t, int64_t> CpuBackend::gather_checked(const View& in, int axis, const View& index, const View& out) {
  if (out.numel() == 0) return {0, -1};
  Range range;
  gather_from(in, axis, index, out, &range);
  return range.result();
}

namespace {

template <class S>
using Compute = std::conditional_t<std::is_integral_v<S>, int64_t, std::conditional_t<sizeof(S) == 8, double, float>>;

// old op x, in the compute type and rounded to the stored one. X is the stored or the compute type.
template <ScatterOp op, class S, class X>
inline S merged(S old, X x) {
  if constexpr (op == ScatterOp::Set) {
    return convert<S>(x);
  } else {
    using T = Compute<S>;
    const T a = convert<T>(old), b = convert<T>(x);
    if constexpr (op == ScatterOp::Add)
      return convert<S>(T(a + b));
    else if constexpr (op == ScatterOp::Prod)
      return convert<S>(sm::mul(a, b));
    else if constexpr (op == ScatterOp::Max)
      return convert<S>(sm::max_nan(a, b));
    else
      return convert<S>(sm::min_nan(a, b));
  }
}

// The vector loop that computes to = to op from over n neighbours, where memory is of the compute type and it is worth
// a call; null elsewhere.
template <ScatterOp op, class S, class X>
MapLoop merge_loop(int64_t n) {
  if constexpr (op == ScatterOp::Set || !std::is_same_v<S, X> || !std::is_same_v<S, Compute<S>>) {
    return nullptr;
  } else {
    constexpr Opc code = op == ScatterOp::Add    ? Opc::add
                         : op == ScatterOp::Prod ? Opc::mul
                         : op == ScatterOp::Max  ? Opc::maximum
                                                 : Opc::minimum;
    return n >= 16 ? loops().map[int(num_of(DTypeOf<S>::value))][int(code)] : nullptr;
  }
}

struct ScatterPlan {
  Nd nd;                         // the axes other than `axis`: src, index, out
  int64_t n;                     // length of the axis
  int64_t src_step, index_step;  // along the axis, in elements
  int64_t out_step, out_n;
};

// Whole rows: for every i, a run of neighbouring elements goes to row index[i].
template <ScatterOp op, class S, class X>
void scatter_rows(const ScatterPlan& p, int64_t b, int64_t e) {
  constexpr bool moves = op == ScatterOp::Set && std::is_same_v<S, X>;
  const int64_t item = sizeof(S);
  const bool stream = moves && streams_rows(p.nd.n * std::min(p.n, p.out_n) * item, p.nd.inner() * item);
  const MapLoop loop = merge_loop<op, S, X>(p.nd.inner());
  Cursor c(p.nd, b);
  while (c.linear < e) {
    const int64_t k = std::min(e - c.linear, c.row_left());
    const X* src = reinterpret_cast<const X*>(c.p[0]);
    const int64_t* index = reinterpret_cast<const int64_t*>(c.p[1]);
    S* out = reinterpret_cast<S*>(c.p[2]);
    for (int64_t i = 0; i < p.n; ++i) {
      S* to = out + index[i * p.index_step] * p.out_step;
      const X* from = src + i * p.src_step;
      if (stream)
        stream_bytes<kRowsAhead>(to, from, k * item);
      else if (moves)
        std::memcpy(static_cast<void*>(to), from, size_t(k * item));
      else if (loop)
        loop(to, from, nullptr, to, k);
      else
        for (int64_t j = 0; j < k; ++j) to[j] = merged<op, S, X>(to[j], from[j]);
    }
    c.advance_in_row(k);
  }
  if (stream) stream_end();
}

// Elements [0, k) across the axis, the axis outside: `to` is their part of the output, its rows `step` apart.
template <ScatterOp op, class S, class X>
void scatter_stripe(const ScatterPlan& p, const X* src, const int64_t* index, S* to, int64_t step, int64_t so,
                    int64_t k) {
  for (int64_t i = 0; i < p.n; ++i, src += p.src_step, index += p.index_step)
    for (int64_t j = 0; j < k; ++j) {
      S& at = to[index[j] * step + j * so];
      at = merged<op, S, X>(at, src[j]);
    }
}

// Every element has an index of its own and neighbours lie across the axis: memory order, the axis outside. A stripe of
// the output that a cache would not hold, or not with its rows a power of two apart, is worked on as a copy side by
// side.
template <ScatterOp op, class S, class X>
void scatter_across(const ScatterPlan& p, int64_t b, int64_t e) {
  constexpr int64_t kStripeBytes = 1 << 18, kPerLine = kLineBytes / sizeof(S), kWide = 1024;
  const int64_t so = p.nd.inner_stride(2);
  const int64_t width =
      std::clamp<int64_t>(kStripeBytes / int64_t(sizeof(S)) / p.out_n / kPerLine * kPerLine, kPerLine, kWide);
  const bool copies = so == 1 && width < kWide && 2 * p.n >= p.out_n;
  Temp memory(copies ? width * p.out_n * int64_t(sizeof(S)) : 0);
  S* stripe = memory.template as<S>();
  for (Cursor c(p.nd, b); c.linear < e;) {
    const int64_t k = std::min({e - c.linear, c.row_left(), copies ? width : kWide});
    const X* src = reinterpret_cast<const X*>(c.p[0]);
    const int64_t* index = reinterpret_cast<const int64_t*>(c.p[1]);
    S* out = reinterpret_cast<S*>(c.p[2]);
    if (copies) {
      for (int64_t i = 0; i < p.out_n; ++i) std::memcpy(stripe + i * k, out + i * p.out_step, size_t(k) * sizeof(S));
      scatter_stripe<op, S, X>(p, src, index, stripe, k, 1, k);
      for (int64_t i = 0; i < p.out_n; ++i) std::memcpy(out + i * p.out_step, stripe + i * k, size_t(k) * sizeof(S));
    } else {
      scatter_stripe<op, S, X>(p, src, index, out, p.out_step, so, k);
    }
    c.advance_in_row(k);
  }
}

template <ScatterOp op, class S, class X>
void scatter_lines(const ScatterPlan& p, int64_t b, int64_t e) {
  for (Cursor c(p.nd, b); c.linear < e; c.advance_in_row(1)) {
    const X* src = reinterpret_cast<const X*>(c.p[0]);
    const int64_t* index = reinterpret_cast<const int64_t*>(c.p[1]);
    S* out = reinterpret_cast<S*>(c.p[2]);
    for (int64_t i = 0; i < p.n; ++i) {
      S& to = out[index[i * p.index_step] * p.out_step];
      to = merged<op, S, X>(to, src[i * p.src_step]);
    }
  }
}

// Rows that are set, each of all there is across the axis. Threads share the rows, as halves of rows would be too short
// to be fetched ahead; of those with the same index only the last is moved.
void set_rows(const ScatterPlan& p) {
  const int64_t row = p.nd.n, item = p.nd.item[2], bytes = row * item;
  const bool stream = streams_rows(bytes * std::min(p.n, p.out_n), bytes);
  Temp memory(p.out_n * int64_t(sizeof(int64_t)));
  int64_t* last = memory.as<int64_t>();  // who writes a row of the output; of the others nothing is known or read
  auto index = [&](int64_t i) { return reinterpret_cast<const int64_t*>(p.nd.data[1])[i * p.index_step]; };
  for (int64_t i = 0; i < p.n; ++i) last[index(i)] = i;
  parallel_for(p.n, rows_per_chunk(row), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t at = index(i);
      if (last[at] != i) continue;
      char* to = p.nd.data[2] + at * p.out_step * item;
      const char* from = p.nd.data[0] + i * p.src_step * item;
      stream ? stream_bytes<kRowsAhead>(to, from, bytes) : void(std::memcpy(to, from, size_t(bytes)));
    }
    if (stream) stream_end();
  });
}

template <ScatterOp op, class S, class X>
void scatter_typed(const ScatterPlan& p, bool disjoint) {
  const Nd& nd = p.nd;
  const bool rows = nd.ndim() > 0 && nd.inner_stride(0) == 1 && nd.inner_stride(1) == 0 && nd.inner_stride(2) == 1;
  const bool across = nd.ndim() > 0 && nd.inner_stride(0) == 1 && nd.inner_stride(1) == 1 && p.src_step != 1;
  if constexpr (op == ScatterOp::Set && std::is_same_v<S, X>)
    if (rows && nd.ndim() == 1 && whole_rows(nd.n * nd.item[2])) return set_rows(p);
  int64_t grain = std::max(rows || across ? columns_per_chunk(nd.n) : 1, kGrain / std::max<int64_t>(p.n, 1));
  if (rows) grain = std::max(grain, nd.n / num_threads());  // long stretches of memory
  if (!disjoint) grain = nd.n;
  parallel_for(nd.n, grain, [&](int64_t b, int64_t e) {
    if (rows)
      scatter_rows<op, S, X>(p, b, e);
    else if (across)
      scatter_across<op, S, X>(p, b, e);
    else
      scatter_lines<op, S, X>(p, b, e);
  });
}

template <class S, class X>
void scatter_op(ScatterOp op, const ScatterPlan& p, bool disjoint) {
  switch (op) {
    case ScatterOp::Set:
      return scatter_typed<ScatterOp::Set, S, X>(p, disjoint);
    case ScatterOp::Add:
      return scatter_typed<ScatterOp::Add, S, X>(p, disjoint);
    case ScatterOp::Prod:
      return scatter_typed<ScatterOp::Prod, S, X>(p, disjoint);
    case ScatterOp::Max:
      return scatter_typed<ScatterOp::Max, S, X>(p, disjoint);
    case ScatterOp::Min:
      return scatter_typed<ScatterOp::Min, S, X>(p, disjoint);
  }
}

}  // namespace

// Elements meet in `out` only along `axis`, so the other axes may be cut among threads; along it they come in order.
void CpuBackend::scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) {
  if (src.numel() == 0) return;
  const Converted from(src, src.dtype == out.dtype ? out.dtype : compute_type(out.dtype), true),
      idx(index, DType::I64, true);
  Views v;
  v.push_back(from.view());
  v.push_back(idx.view());
  v.push_back(out);
  for (View& w : v) {
    w.shape = src.shape;
    w.shape.erase(axis);
    w.stride.erase(axis);
  }
  bool disjoint = true;
  for (int d = 0; d < v[2].ndim(); ++d) disjoint = disjoint && (v[2].stride[d] != 0 || v[2].shape[d] == 1);
  const ScatterPlan p{order_free(v, 2),        src.shape[axis],  from.view().stride[axis],
                      idx.view().stride[axis], out.stride[axis], out.shape[axis]};
  visit(out.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    if (from.view().dtype == out.dtype)
      scatter_op<S, S>(op, p, disjoint);
    else
      scatter_op<S, Compute<S>>(op, p, disjoint);
  });
}

namespace {

template <class S, class X>
void fold_typed(const Nd& nd, int64_t b, int64_t e) {
  const int64_t si = nd.inner_stride(0), so = nd.inner_stride(1);
  if (const MapLoop loop = so == 1 && si == 1 ? merge_loop<ScatterOp::Add, S, X>(nd.inner()) : nullptr)
    return each_row(nd, b, e, [&](char* const* at, int64_t k) { loop(at[1], at[0], nullptr, at[1], k); });
  each_row(nd, b, e, [&](char* const* at, int64_t k) {
    const X* in = reinterpret_cast<const X*>(at[0]);
    S* out = reinterpret_cast<S*>(at[1]);
    if (so == 0) {
      for (int64_t j = 0; j < k; ++j) *out = merged<ScatterOp::Add, S, X>(*out, in[j * si]);
    } else if (so == 1 && si == 1) {
#pragma GCC ivdep
      for (int64_t j = 0; j < k; ++j) out[j] = merged<ScatterOp::Add, S, X>(out[j], in[j]);
    } else {
      for (int64_t j = 0; j < k; ++j) out[j * so] = merged<ScatterOp::Add, S, X>(out[j * so], in[j * si]);
    }
  });
}

}  // namespace

void CpuBackend::fold(const View& in, const View& out) {
  if (in.numel() == 0) return;
  const Converted from(in, in.dtype == out.dtype ? out.dtype : compute_type(out.dtype), true);
  Views v;
  v.push_back(from.view());
  v.push_back(out);
  plan::Nest nest = plan::nest_of(v);
  plan::merge_axes(nest);
  const Nd nd(std::move(nest), v);
  // The outer axis is cut among threads if what lies inside it is shorter than its stride.
  int64_t span = 0;
  for (int d = 1; d < nd.ndim(); ++d) span += (nd.size(d) - 1) * std::llabs(nd.nest.stride[1][d]);
  int64_t grain = nd.n;
  if (nd.ndim() > 0 && std::llabs(nd.nest.stride[1][0]) > span) {
    const int64_t inside = nd.n / nd.size(0);
    grain = inside * std::max<int64_t>(1, grain_of(nd.n) / inside);
  }
  visit(out.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    parallel_for(nd.n, grain, [&](int64_t b, int64_t e) {
      if (from.view().dtype == out.dtype)
        fold_typed<S, S>(nd, b, e);
      else
        fold_typed<S, Compute<S>>(nd, b, e);
    });
  });
}

void CpuBackend::nonzero(const View& in, std::vector<int64_t>& out) {
  if (in.numel() == 0) return;
  Views v;
  v.push_back(in);
  plan::Nest nest = plan::nest_of(v);
  plan::merge_axes(nest);
  const Nd nd(std::move(nest), v);
  visit(in.dtype, [&](auto tag) {
    using S = Stored<typename decltype(tag)::type>;
    const int64_t s = nd.inner_stride(0);
    for (Cursor c(nd); c.linear < nd.n;) {
      const int64_t k = c.row_left();
      const S* p = reinterpret_cast<const S*>(c.p[0]);
      for (int64_t j = 0; j < k; ++j)
        if (convert<bool>(p[j * s])) out.push_back(c.linear + j);
      c.advance_in_row(k);
    }
  });
}

std::pair<int64_t, int64_t> CpuBackend::int_range(const View& index) {
  if (index.numel() == 0) return {0, -1};
  const Converted idx(index, DType::I64, true);
  Views v;
  v.push_back(idx.view());
  const Nd nd = order_free(v, 0);
  Range range;
  parallel_for(nd.n, kGrain, [&](int64_t b, int64_t e) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    each_row(nd, b, e, [&](char* const* at, int64_t k) {
      widen_by_row(reinterpret_cast<const int64_t*>(at[0]), nd.inner_stride(0), k, low, high);
    });
    range.widen(low, high);
  });
  return range.result();
}

}  // namespace tg::cpu
