// reduce: every accumulator is 8 bytes (double or int64). Two walks: by rows, when the reduced elements lie next to
// each other, and by columns, when the kept ones do. The reduced range is cut into chunks whose bounds depend on the
// shape alone; the sums of chunks are merged in order, so the number of threads never changes a bit.
#include <cstdlib>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/interp.h"

namespace tg::cpu {
namespace {

constexpr int64_t kWide = 4096;      // columns that are reduced side by side at most
constexpr int64_t kFewReduced = 24;  // rows shorter than this go by columns even when they lie side by side

Red red_of(ReduceOp op) { return static_cast<Red>(op); }

uint64_t neutral_bits(Red op, int num) {
  const bool ints = num == 2;
  auto bits = [](double d) { return std::bit_cast<uint64_t>(d); };
  switch (op) {
    case Red::Prod:
    case Red::All:
      return ints ? 1 : bits(1.0);
    case Red::Max:
      return ints ? uint64_t(INT64_MIN) : bits(-HUGE_VAL);
    case Red::Min:
      return ints ? uint64_t(INT64_MAX) : bits(HUGE_VAL);
    default:
      return 0;
  }
}

struct Plan {
  const Loops& l = loops();
  Red op;
  int num, n_ins;
  const Program *pre, *post;  // post's compute type is the accumulator's if the caller gave none
  uint64_t neutral;
  Nd kept, red;   // views: inputs, then the output
  bool plain;     // no program before: elements may be read where they are
  int64_t chunk;  // reduced elements of one unit of work
  int64_t chunks;

  // The inputs as they lie in memory are what the loops read.
  bool readable() const { return plain && red.dtype[0] == kNumType[num]; }
  RowLoop row() const { return l.row[int(op)][num]; }
  ColLoop col() const { return l.col[int(op)][num]; }
  MergeLoop merge() const { return l.merge[int(op)][num]; }
  // Byte offsets of a reduced position.
  void offsets(const Cursor& r, int64_t* base) const {
    for (int v = 0; v < n_ins; ++v) base[v] = r.p[v] - red.data[v];
  }
};

// Sums of equal blocks, combined as a binary tree while they arrive: the error grows with the logarithm of the count.
class Tree {
 public:
  explicit Tree(const Plan& p) : merge_(p.merge()), neutral_(p.neutral) {}
  void push(uint64_t x) {
    slot_[depth_++] = x;
    for (uint64_t c = ++count_; (c & 1) == 0; c >>= 1) fold();
  }
  uint64_t result() {
    if (depth_ == 0) return neutral_;
    while (depth_ > 1) fold();
    return slot_[0];
  }

 private:
  void fold() {
    --depth_;
    merge_(&slot_[depth_], &slot_[depth_ - 1], 1);
  }
  MergeLoop merge_;
  uint64_t neutral_, slot_[65], count_ = 0;
  int depth_ = 0;
};

// Reduced elements [b, e) of the kept element at `out`.
uint64_t reduce_run(const Plan& p, Interp& it, const Cursor& out, int64_t b, int64_t e) {
  const RowLoop row = p.row();
  const Nd& red = p.red;
  const bool direct = p.readable() && (red.inner_stride(0) == 1 || red.ndim() == 0);
  int64_t base[plan::kMaxViews];
  for (int v = 0; v < p.n_ins; ++v) base[v] = out.p[v] - red.data[v];
  Tree tree(p);
  Cursor c(red, b);
  const bool rows = red.inner() >= 64;
  while (c.linear < e) {
    uint64_t acc = p.neutral;
    int64_t n = e - c.linear;
    if (direct && (rows || red.flat[0])) {
      n = std::min({n, kRedChunk, c.row_left()});
      row(c.p[0] + base[0], n, &acc);
    } else {
      n = std::min({n, it.tile(), rows ? c.row_left() : it.tile()});
      it.fetch(c, 0, n, base);
      it.run(n, 0);
      row(it.output(0), n, &acc);
    }
    tree.push(acc);
    c.advance(n);
  }
  return tree.result();
}

// Results of kept elements [at, at + n), from accumulators to the output's memory.
void finish(const Plan& p, Interp& post, Cursor& c, const uint64_t* acc, int64_t n) {
  alignas(64) char tile[kTile * 8];
  for (int64_t i = 0; i < n;) {
    int64_t k = std::min(n - i, post.tile());
    const DType from = p.num == 2 ? DType::I64 : DType::F64;
    const int to = int(num_of(p.post->compute));
    p.l.load[int(from)][to](acc + i, 1, tile, k);
    post.set_input(0, tile);
    post.run(k, c.linear);
    store_tile(p.l, to, post.output(0), c, p.n_ins, k);
    c.advance(k);
    i += k;
  }
}

// Merges `chunks` partial results per kept element, stored chunk by chunk, and finishes them.
void finish_partials(const Plan& p, const uint64_t* partial, int64_t stride) {
  parallel_for(p.kept.n, 4096, [&](int64_t b, int64_t e) {
    Interp post(*p.post, p.l, e - b);
    Cursor c(p.kept, b);
    uint64_t acc[kTile];
    while (c.linear < e) {
      int64_t at = c.linear, n = std::min(e - at, kTile);
      std::copy_n(partial + at, n, acc);
      for (int64_t k = 1; k < p.chunks; ++k) p.merge()(partial + k * stride + at, acc, n);
      finish(p, post, c, acc, n);
    }
  });
}

void by_rows(const Plan& p) {
  if (p.chunks <= 1) {
    const RowLoop row = p.row();
    const bool whole = p.readable() && p.red.flat[0] && p.red.n <= kRedChunk;
    parallel_for(p.kept.n, std::max<int64_t>(1, grain_of(p.kept.n * p.red.n) / std::max<int64_t>(p.red.n, 1)),
                 [&](int64_t b, int64_t e) {
                   Interp it(*p.pre, p.l, p.red.n), post(*p.post, p.l, e - b);
                   Cursor c(p.kept, b), out(p.kept, b);
                   uint64_t acc[256];
                   while (c.linear < e) {
                     int64_t n = std::min<int64_t>(e - c.linear, 256);
                     if (whole) {  // what reduce_run does, without its preparations
                       std::fill_n(acc, n, p.neutral);
                       for (int64_t i = 0; i < n; ++i, c.advance(1)) row(c.p[0], p.red.n, &acc[i]);
                     } else {
                       for (int64_t i = 0; i < n; ++i, c.advance(1)) acc[i] = reduce_run(p, it, c, 0, p.red.n);
                     }
                     finish(p, post, out, acc, n);
                   }
                 });
    return;
  }
  Temp partial(p.kept.n * p.chunks * 8);
  parallel_for(p.kept.n * p.chunks, 1, [&](int64_t b, int64_t e) {
    for (int64_t u = b; u < e; ++u) {
      int64_t k = u % p.chunks, at = u / p.chunks, first = k * p.chunk;
      Interp it(*p.pre, p.l, p.chunk);
      partial.as<uint64_t>()[k * p.kept.n + at] =
          reduce_run(p, it, Cursor(p.kept, at), first, std::min(first + p.chunk, p.red.n));
    }
  });
  finish_partials(p, partial.as<uint64_t>(), p.kept.n);
}

// Adds reduced elements [b, e) to the accumulators of the n kept elements at `c`.
void reduce_columns(const Plan& p, Interp& it, const Cursor& c, int64_t n, int64_t b, int64_t e, uint64_t* acc) {
  const Nd& red = p.red;
  const bool one_row = n <= c.row_left() || p.kept.flat[0];
  const bool direct = p.readable() && one_row && (p.kept.flat[0] || p.kept.inner_stride(0) == 1);
  std::fill_n(acc, n, p.neutral);
  int64_t base[plan::kMaxViews];
  for (Cursor r(red, b); r.linear < e;) {
    p.offsets(r, base);
    if (direct) {
      int64_t k = std::min(e - r.linear, r.row_left());
      p.col()(c.p[0] + base[0], red.inner_stride(0), k, acc, n);
      r.advance(k);
    } else {
      it.fetch(c, 0, n, base);
      it.run(n, 0);
      p.col()(it.output(0), 0, 1, acc, n);
      r.advance(1);
    }
  }
}

void by_columns(const Plan& p) {
  const bool rows = p.kept.inner() >= 64;
  const int64_t width = std::min<int64_t>(rows ? p.kept.inner() : p.kept.n, kTile);
  const bool one = p.chunks <= 1;
  // Long stretches of a row, where each thread still gets several units: more of it is fetched ahead.
  const bool direct = p.kept.inner() > kTile && p.readable() && p.kept.inner_stride(0) == 1;
  int64_t most = direct ? kWide : width;
  while (most > width && (p.kept.n + most - 1) / most * p.chunks < 4 * num_threads()) most /= 2;
  most = std::max(most, width);
  Temp partial(one ? 0 : p.kept.n * p.chunks * 8);
  // Columns of one unit: enough work when the reduced range is short.
  const int64_t span = std::max(most, one ? kGrain / std::max<int64_t>(p.red.n, 1) : 0);
  const int64_t spans = (p.kept.n + span - 1) / span;
  parallel_for(spans * p.chunks, 1, [&](int64_t ub, int64_t ue) {
    Interp it(*p.pre, p.l, width), post(*p.post, p.l, width);
    uint64_t acc[kWide];
    for (int64_t u = ub; u < ue; ++u) {
      const int64_t s = u % spans * span, end = std::min(s + span, p.kept.n), k = u / spans, first = k * p.chunk;
      Cursor c(p.kept, s), out(p.kept, s);
      while (c.linear < end) {
        int64_t n = std::min({direct ? most : it.tile(), end - c.linear, rows ? c.row_left() : it.tile()});
        uint64_t* to = one ? acc : partial.as<uint64_t>() + k * p.kept.n + c.linear;
        reduce_columns(p, it, c, n, first, std::min(first + p.chunk, p.red.n), to);
        if (one) finish(p, post, out, acc, n);
        c.advance(n);
      }
    }
  });
  if (!one) finish_partials(p, partial.as<uint64_t>(), p.kept.n);
}

int64_t smallest_stride(const Nd& nd) {
  int64_t s = INT64_MAX;
  for (int d = 0; d < nd.ndim(); ++d)
    if (nd.nest.stride[0][d] != 0) s = std::min<int64_t>(s, std::llabs(nd.nest.stride[0][d]));
  return s;
}

Nd sorted(plan::Nest nest, const Views& ins, const Views& outs) {
  plan::sort_axes(nest, 0);
  plan::merge_axes(nest);
  return Nd(std::move(nest), ins, outs);
}

// Operands without elements stand still: there may be no memory to step through.
Views standing_still(Views views) {
  for (View& v : views)
    for (int64_t& s : v.stride) s = 0;
  return views;
}

// One result of few elements that lie side by side, as most losses end: no nest of loops is laid out for it.
bool reduce_small(Red op, DType compute, const View& in, const Program* post, const View& out) {
  int64_t n = 1;
  for (int d = in.ndim() - 1; d >= 0; --d) {
    if (in.shape[d] == 1) continue;
    if (in.stride[d] != n || out.stride[d] != 0) return false;
    n *= in.shape[d];
  }
  const int num = int(num_of(compute));
  if (n > kRedChunk || in.dtype != compute || kNumType[num] != compute) return false;
  const Loops& l = loops();
  uint64_t acc = neutral_bits(op, num);
  l.row[int(op)][num](in.data, n, &acc);
  const int from = num == 2 ? 2 : 1;
  if (!post) {
    l.store[from][int(out.dtype)](&acc, out.data, 1, 1);
    return true;
  }
  Interp it(*post, l, 1);
  const int to = int(num_of(post->compute));
  uint64_t value;
  l.load[int(kNumType[from])][to](&acc, 1, &value, 1);
  it.set_input(0, &value);
  it.run(1, 0);
  l.store[to][int(out.dtype)](it.output(0), out.data, 1, 1);
  return true;
}

}  // namespace

void CpuBackend::reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
                        const View& out) {
  if (!pre && ins.size() == 1 && reduce_small(red_of(op), compute, ins[0], post, out)) return;
  const Program same = identity_program(compute);
  const Program wide = identity_program(compute == DType::F32 ? DType::F64 : compute);
  Views outs;
  outs.push_back(out);
  plan::ReduceSplit split = plan::split_reduction(ins[0].numel() > 0 ? ins : standing_still(ins), out);
  Plan p{.op = red_of(op),
         .num = int(num_of(compute)),
         .n_ins = ins.size(),
         .pre = pre ? pre : &same,
         .post = post ? post : &wide,
         .neutral = neutral_bits(red_of(op), int(num_of(compute))),
         .kept = sorted(std::move(split.kept), ins, outs),
         .red = sorted(std::move(split.reduced), ins, outs),
         .plain = pre == nullptr,
         .chunk = 0,
         .chunks = 1};
  if (p.kept.n == 0) return;
  const bool few = p.red.n < kFewReduced && p.kept.n >= 64;
  const bool columns = p.kept.ndim() > 0 && (few || smallest_stride(p.kept) < smallest_stride(p.red));
  if (columns) {
    int64_t width = std::min<int64_t>(p.kept.inner() >= 64 ? p.kept.inner() : p.kept.n, kTile);
    p.chunk = std::max<int64_t>(16, 8 * kGrain / width);
  } else {
    p.chunk = kGrain;
  }
  p.chunks = std::max<int64_t>(1, (p.red.n + p.chunk - 1) / p.chunk);
  if (p.chunks == 1) p.chunk = std::max<int64_t>(p.red.n, 1);
  if (columns)
    by_columns(p);
  else
    by_rows(p);
}

}  // namespace tg::cpu
