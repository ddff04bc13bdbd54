// map: one-instruction programs over plain memory run their loop directly, everything else tile by tile.
#include <cstring>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/interp.h"
#include "backends/cpu/stream.h"

namespace tg::cpu {
namespace {

enum class Layout : uint8_t { Other, Full, One };

// Full: row-major without gaps. One: every index is the same element.
Layout layout(const View& v) {
  int64_t expect = 1;
  bool full = true, one = true;
  for (int d = v.ndim() - 1; d >= 0; --d) {
    if (v.shape[d] == 1) continue;
    full = full && v.stride[d] == expect;
    one = one && v.stride[d] == 0;
    expect *= v.shape[d];
  }
  return full ? Layout::Full : one ? Layout::One : Layout::Other;
}

// A scalar operand, spread over a tile.
void spread(const void* src, int64_t item, void* tile, int64_t n) {
  if (item == 4) {
    uint32_t v;
    std::memcpy(&v, src, 4);
    std::fill_n(static_cast<uint32_t*>(tile), n, v);
  } else {
    uint64_t v;
    std::memcpy(&v, src, 8);
    std::fill_n(static_cast<uint64_t*>(tile), n, v);
  }
}

// Elements of a tile of one number: few enough that what passes through the first-level cache does not drive it out
// (with 1024 a product by a number took 1.0 to 1.2 ms, with 256 0.8, as long as relu).
constexpr int64_t kNumberTile = 256;

// f over n elements of `item` bytes.
void run_flat(MapLoop f, int64_t item, const FlatOperand* ins, int n_ins, void* out, int64_t n) {
  alignas(64) char tiles[3][kNumberTile * 8];
  const void* src[3];
  int64_t step[3];  // bytes per element: 0 for a tile
  bool scalars = false;
  for (int k = 0; k < 3; ++k) {
    if (k >= n_ins || (k > 0 && ins[k].data == ins[0].data && ins[k].one == ins[0].one)) {  // not read, or the same
      src[k] = src[0], step[k] = step[0];
    } else if (ins[k].one) {
      spread(ins[k].data, item, tiles[k], std::min(n, kNumberTile));
      src[k] = tiles[k], step[k] = 0, scalars = true;
    } else {
      src[k] = ins[k].data, step[k] = item;
    }
  }
  auto at = [&](int k, int64_t i) { return static_cast<const char*>(src[k]) + i * step[k]; };
  auto to = [&](int64_t i) { return static_cast<char*>(out) + i * item; };
  bool stream = kCanStream && n * item >= kStreamed;
  for (int k = 0; k < 3; ++k) stream = stream && src[k] != out;  // what was read just now is in the caches
  parallel_for(n, grain_of(n), [&](int64_t b, int64_t e) {
    int64_t block = scalars ? kNumberTile : e - b;
    if (stream) {
      int64_t read = 0;  // operands in memory
      for (int k = 0; k < 3; ++k) read += step[k] != 0 && (k == 0 || src[k] != src[0]);
      block = kStreamTile / std::max<int64_t>(read, 1) / kLineBytes * kLineBytes / item;
    }
    alignas(kLineBytes) char tile[kStreamTile];
    for (int64_t i = b; i < e; i += block) {
      const int64_t k = std::min(block, e - i);
      f(at(0, i), at(1, i), at(2, i), stream ? tile : to(i), k);
      if (stream) stream_bytes(to(i), tile, k * item);
    }
    if (stream) stream_end();
  });
}

// One instruction on memory of the compute type, operands either full or one element. False if it is not that.
bool map_direct(const Program& p, const Views& ins, const Views& outs) {
  if (p.code.size() != 1 || outs.size() != 1 || ins.size() != p.n_inputs || p.n_inputs > 3) return false;
  const Instr& in = p.code[0];
  if (in.op >= Opc::Identity || p.outs[0] != p.code_reg(0)) return false;
  const View& out = outs[0];
  if (out.dtype != p.compute || layout(out) != Layout::Full) return false;
  const int num = int(num_of(p.compute));
  const MapLoop f = loops().map[num][int(in.op)];
  if (!f) return false;
  FlatOperand operands[3];
  uint64_t values[3];
  for (int k = 0; k < 3; ++k) {
    const int r = in.src[k];
    if (k > 0 && r == in.src[0]) {
      operands[k] = operands[0];
    } else if (r < p.n_inputs) {
      const Layout how = layout(ins[r]);
      if (ins[r].dtype != p.compute || how == Layout::Other) return false;
      operands[k] = {ins[r].data, how == Layout::One};
    } else {
      operands[k] = {scalar_bytes(p.consts[r - p.n_inputs], p.compute, values[k]), true};
    }
  }
  run_flat(f, itemsize(p.compute), operands, 3, out.data, out.numel());
  return true;
}

template <class U>
void copy_row(const char* src, int64_t ss, char* dst, int64_t ds, int64_t n) {
  const U* s = reinterpret_cast<const U*>(src);
  U* d = reinterpret_cast<U*>(dst);
  if (ss == 1 && ds == 1) {
    std::memmove(d, s, size_t(n) * sizeof(U));
  } else if (ss == 0 && ds == 1) {
    std::fill_n(d, n, *s);
  } else {
    for (int64_t i = 0; i < n; ++i) d[i * ds] = s[i * ss];
  }
}

// d[i * d0 + k * d1] = s[i * s0 + k * s1] where the inner axes differ (s0 and d1 are small): squares of one cache
// line's side, so that each line of both is touched once. `stream`: lines of d are aligned and go past the caches.
template <class U>
void copy_block(const char* src, int64_t s0, int64_t s1, char* dst, int64_t d0, int64_t d1, int64_t n0, int64_t n1,
                bool stream) {
  constexpr int64_t kSide = 64 / sizeof(U), kAhead = 2 * kSide;
  const U* s = reinterpret_cast<const U*>(src);
  U* d = reinterpret_cast<U*>(dst);
  for (int64_t j = 0; j < n1; j += kSide) {
    const int64_t m = std::min(kSide, n1 - j);
    for (int64_t i = 0; i < n0; i += kSide) {
      const U* from = s + i * s0 + j * s1;
      U* to = d + i * d0 + j * d1;
      if (m < kSide || n0 - i < kSide || s0 != 1 || d1 != 1) {
        for (int64_t a = 0; a < std::min(kSide, n0 - i); ++a)
          for (int64_t b = 0; b < m; ++b) to[a * d0 + b * d1] = from[a * s0 + b * s1];
        continue;
      }
      U square[kSide][kSide];
      for (int64_t b = 0; b < kSide; ++b) {
        if (j + b + kAhead < n1) __builtin_prefetch(from + (b + kAhead) * s1);
        std::memcpy(square[b], from + b * s1, sizeof square[b]);
      }
      for (int64_t a = 0; a < kSide; ++a) {
        alignas(64) U line[kSide];
        for (int64_t b = 0; b < kSide; ++b) line[b] = square[b][a];
        if (stream)
          stream_line(to + a * d0, line);
        else
          std::memcpy(to + a * d0, line, sizeof line);
      }
    }
  }
}

constexpr int64_t kLinesStreamed = 4;

// A copy without conversion, in any layout.
template <class U>
void copy_same(const Nd& nd) {
  const int last = nd.ndim() - 1;
  const int64_t L = nd.inner(), so = nd.inner_stride(0), si = nd.inner_stride(1);
  const bool transposed = last >= 1 && nd.nest.stride[1][last - 1] == 1 && si != 1 && si != 0 && L >= 8;
  if (transposed) {
    const int64_t rows = nd.n / L, n0 = nd.size(last - 1);
    bool stream = kCanStream && nd.n * int64_t(sizeof(U)) >= kStreamed;
    stream = stream && reinterpret_cast<uintptr_t>(nd.data[0]) % 64 == 0;
    for (int d = 0; d < last; ++d) stream = stream && nd.step(0, d) % 64 == 0;
    const int64_t slab = (stream ? kLinesStreamed : 2) * 64 / int64_t(sizeof(U));
    const int64_t per = (n0 + slab - 1) / slab;  // slabs of a few cache lines in every matrix
    parallel_for(rows / n0 * per, std::max<int64_t>(1, grain_of(nd.n) / (slab * L)), [&](int64_t b, int64_t e) {
      for (int64_t u = b; u < e; ++u) {
        int64_t first = u % per * slab, count = std::min(slab, n0 - first);
        Cursor c(nd, (u / per * n0 + first) * L);
        copy_block<U>(c.p[1], nd.nest.stride[1][last - 1], si, c.p[0], nd.nest.stride[0][last - 1], so, count, L,
                      stream);
      }
      if (stream) stream_end();
    });
    return;
  }
  const int64_t item = sizeof(U);
  const bool stream = si == 1 && so == 1 && streams_rows(nd.n * item, L * item);
  parallel_for(nd.n, grain_of(nd.n), [&](int64_t b, int64_t e) {
    each_row(nd, b, e, [&](char* const* at, int64_t k) {
      const int64_t bytes = k * item;
      if (stream && (at[0] + bytes <= at[1] || at[1] + bytes <= at[0]))
        stream_bytes(at[0], at[1], bytes);
      else
        copy_row<U>(at[1], si, at[0], so, k);
    });
    if (stream) stream_end();
  });
}

// Whether the only output is the only input, converted or not.
bool is_identity(const Program& p) {
  if (p.n_inputs != 1 || p.outs.size() != 1 || p.code.size() > 1) return false;
  if (p.code.size() == 1 && (p.code[0].op != Opc::Identity || p.code[0].src[0] != 0)) return false;
  return p.outs[0] == 0 || (p.code.size() == 1 && p.outs[0] == p.code_reg(0));
}

// A conversion from or to the compute type, from memory to memory.
bool map_convert(const Program& p, const Views& ins, const Views& outs) {
  if (!is_identity(p) || (ins[0].dtype != p.compute && outs[0].dtype != p.compute)) return false;
  const Nd nd(plan::collapse(outs, ins, 0), outs, ins);
  const int64_t so = nd.inner_stride(0), si = nd.inner_stride(1);
  const int num = int(num_of(p.compute));
  const bool narrows = ins[0].dtype == p.compute;
  if (nd.inner() < 64 || (narrows ? si : so) != 1) return false;  // short rows are gathered into tiles
  const LoadLoop load = loops().load[int(ins[0].dtype)][num];
  const StoreLoop store = loops().store[num][int(outs[0].dtype)];
  auto convert = [&](const char* from, char* to, int64_t k) {
    narrows ? store(from, to, so, k) : load(from, si, to, k);
  };
  const bool stream = so == 1 && streams_rows(nd.n * nd.item[0], nd.inner() * nd.item[0]);
  parallel_for(nd.n, grain_of(nd.n), [&](int64_t b, int64_t e) {
    alignas(kLineBytes) char tile[kStreamTile];
    const int64_t block = kStreamTile / std::max(nd.item[0], nd.item[1]);
    each_row(nd, b, e, [&](char* const* at, int64_t n) {
      if (!stream) return convert(at[1], at[0], n);
      for (int64_t i = 0; i < n; i += block) {
        const int64_t k = std::min(block, n - i);
        convert(at[1] + i * si * nd.item[1], tile, k);
        stream_bytes(at[0] + i * nd.item[0], tile, k * nd.item[0]);
      }
    });
    if (stream) stream_end();
  });
  return true;
}

bool map_copy(const Program& p, const Views& ins, const Views& outs) {
  if (!is_identity(p) || ins[0].dtype != outs[0].dtype || compute_type(ins[0].dtype) != p.compute) return false;
  const int64_t n = outs[0].numel(), item = itemsize(outs[0].dtype);
  if (n == 0) return true;
  if (n <= kGrain && layout(outs[0]) == Layout::Full && layout(ins[0]) == Layout::Full) {
    std::memmove(outs[0].data, ins[0].data, size_t(n * item));
    return true;
  }
  if (n <= kGrain && item >= 4 && layout(outs[0]) == Layout::Full && layout(ins[0]) == Layout::One) {
    spread(ins[0].data, item, outs[0].data, n);
    return true;
  }
  const Nd nd(plan::collapse(outs, ins, 0), outs, ins);
  switch (nd.item[0]) {
    case 1:
      copy_same<uint8_t>(nd);
      break;
    case 2:
      copy_same<uint16_t>(nd);
      break;
    case 4:
      copy_same<uint32_t>(nd);
      break;
    default:
      copy_same<uint64_t>(nd);
  }
  return true;
}

void map_tiles(const Program& p, const Views& ins, const Views& outs) {
  plan::Nest nest = plan::nest_of(outs, ins);
  plan::merge_axes(nest);
  if (!needs_index(p)) {
    plan::sort_axes(nest, 0);
    plan::merge_axes(nest);
  }
  const Nd nd(std::move(nest), outs, ins);
  const int n_outs = outs.size(), num = int(num_of(p.compute));
  const bool rows = nd.inner() >= 64;  // short rows are gathered into tiles instead
  int direct_out = -1;
  for (int k = 0; k < n_outs && direct_out < 0; ++k)
    if (!p.code.empty() && p.outs[k] == p.code_reg(p.code.size() - 1) && outs[k].dtype == p.compute) direct_out = k;

  const int64_t grain = std::max<int64_t>(4096, grain_of(nd.n) / std::max(1, p.code.size()));
  parallel_for(nd.n, grain, [&](int64_t b, int64_t e) {
    Interp it(p, loops(), e - b);
    Cursor c(nd, b);
    const int k = it.can_write_direct() ? direct_out : -1;
    while (c.linear < e) {
      const int64_t left = c.row_left();
      const int64_t n = std::min({it.tile(), e - c.linear, rows ? left : it.tile()});
      const bool direct = k >= 0 && (nd.flat[k] || (n <= left && nd.inner_stride(k) == 1));
      it.fetch(c, n_outs, n);
      it.run(n, c.linear, direct ? c.p[k] : nullptr);
      for (int o = 0; o < n_outs; ++o) store_tile(loops(), num, it.output(o), c, o, n);
      c.advance(n);
    }
  });
}

}  // namespace

bool needs_index(const Program& p) {
  for (const Instr& i : p.code)
    if (i.op >= Opc::Index) return true;
  return false;
}

void convert_copy(const View& from, const View& to) {
  Program p;
  p.compute = is_float(from.dtype) ? compute_type(from.dtype) : compute_type(to.dtype);
  p.n_inputs = 1;
  p.code.push_back({Opc::Identity});
  p.outs.push_back(p.code_reg(0));
  Views ins, outs;
  ins.push_back(from);
  outs.push_back(to);
  cpu_backend().map(p, ins, outs);
}

bool CpuBackend::map_flat(Opc op, DType type, const FlatOperand* ins, int n_ins, void* out, int64_t n) {
  const MapLoop f = op < Opc::Identity ? loops().map[int(num_of(type))][int(op)] : nullptr;
  if (f) run_flat(f, itemsize(type), ins, n_ins, out, n);
  return f != nullptr;
}

void CpuBackend::map(const Program& p, const Views& ins, const Views& outs) {
  if (map_direct(p, ins, outs) || map_copy(p, ins, outs) || map_convert(p, ins, outs)) return;
  map_tiles(p, ins, outs);
}

}  // namespace tg::cpu
