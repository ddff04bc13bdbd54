#include "backends/cpu/interp.h"

#include <algorithm>
#include <cstring>

namespace tg::cpu {
namespace {

template <class T>
void fill_index(void* out, int64_t first, int64_t n) {
  T* p = static_cast<T*>(out);
  for (int64_t i = 0; i < n; ++i) p[i] = T(first + i);
}

void spread(const Scalar& s, int num, void* out, int64_t n) {
  if (num == 0)
    std::fill_n(static_cast<float*>(out), n, float(s.d()));
  else if (num == 1)
    std::fill_n(static_cast<double*>(out), n, s.d());
  else
    std::fill_n(static_cast<int64_t*>(out), n, s.i());
}

}  // namespace

Interp::Interp(const Program& p, const Loops& l, int64_t longest)
    : p_(p), l_(l), num_(int(num_of(p.compute))), item_(itemsize(p.compute)) {
  const int regs = p.n_inputs + p.consts.size() + p.code.size();
  TG_CHECK(regs <= 256, ValueError, "map: a program has at most 256 registers, got ", regs);
  int64_t fit = kBytes / (item_ * std::max(regs, 1)) & ~int64_t(7);
  tile_ = std::max<int64_t>(1, std::min({kTile, fit, longest}));
  reg_[0] = nullptr;  // what an instruction without operands names
  for (int i = 0; i < p.consts.size(); ++i) {
    int r = p.const_reg(i);
    spread(p.consts[i], num_, tile_of(r), tile_);
    reg_[r] = tile_of(r);
  }
}

void Interp::fetch(const Cursor& c, int first, int64_t n, const int64_t* base) {
  for (int i = 0; i < p_.n_inputs; ++i)
    reg_[i] = load_tile(l_, num_, c, first + i, base ? base[first + i] : 0, tile_of(i), n);
}

bool Interp::can_write_direct() const {
  const int last = p_.code_reg(p_.code.size() - 1);
  bool found = false;
  for (uint8_t r : p_.outs) {
    if (r < p_.n_inputs) return false;  // stored after the last instruction: its memory must be intact till then
    found = found || r == last;
  }
  return found && !p_.code.empty();
}

void Interp::run(int64_t n, int64_t logical, void* direct) {
  const int count = p_.code.size();
  for (int i = 0; i < count; ++i) {
    int r = p_.code_reg(i);
    void* out = direct && i == count - 1 ? direct : tile_of(r);
    exec(p_.code[i], n, logical, out);
    reg_[r] = out;
  }
}

void Interp::exec(const Instr& in, int64_t n, int64_t logical, void* out) {
  const void* a = reg_[in.src[0]];
  switch (in.op) {
    case Opc::Identity:
      if (a != out) std::memcpy(out, a, size_t(n * item_));
      return;
    case Opc::Index:
      if (num_ == 0)
        fill_index<float>(out, logical, n);
      else if (num_ == 1)
        fill_index<double>(out, logical, n);
      else
        fill_index<int64_t>(out, logical, n);
      return;
    case Opc::RandUniform:
    case Opc::RandNormal:
    case Opc::RandBits:
      return l_.rand[rand_kind(in.op)][num_](p_.seed, p_.offset, p_.first + logical, out, n);
    default: {
      MapLoop f = l_.map[num_][int(in.op)];
      TG_CHECK(f, DTypeError, "map: instruction ", int(in.op), " does not exist for ", kNumType[num_]);
      return f(a, reg_[in.src[1]], reg_[in.src[2]], out, n);
    }
  }
}

Program identity_program(DType compute) {
  Program p;
  p.compute = compute;
  p.n_inputs = 1;
  p.outs.push_back(0);
  return p;
}

const void* load_tile(const Loops& l, int num, const Cursor& c, int v, int64_t base, void* dst, int64_t n) {
  const Nd& nd = c.nd;
  const bool one_piece = n <= c.row_left() || nd.flat[v];
  const int64_t stride = nd.flat[v] ? 1 : nd.inner_stride(v);
  if (one_piece && stride == 1 && nd.dtype[v] == kNumType[num]) return c.p[v] + base;
  const LoadLoop load = l.load[int(nd.dtype[v])][num];
  char* to = static_cast<char*>(dst);
  const int64_t item = itemsize(kNumType[num]);
  each_piece(c, v, n, [&](char* p, int64_t at, int64_t k) { load(p + base, stride, to + at * item, k); });
  return dst;
}

void store_tile(const Loops& l, int num, const void* src, const Cursor& c, int v, int64_t n) {
  const Nd& nd = c.nd;
  const int64_t stride = nd.flat[v] ? 1 : nd.inner_stride(v);
  const StoreLoop store = l.store[num][int(nd.dtype[v])];
  const char* from = static_cast<const char*>(src);
  const int64_t item = itemsize(kNumType[num]);
  each_piece(c, v, n, [&](char* p, int64_t at, int64_t k) {
    if (p != from) store(from + at * item, p, stride, k);
  });
}

}  // namespace tg::cpu
