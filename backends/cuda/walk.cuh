// Loops of a plan::Nest on the device: from the number of an element to its offset in each view. Numbers have 32 bits,
// since 64-bit division is slow; larger nests are cut into pieces of max_piece() on the host. Offsets have 64.
#pragma once
#include <bit>

#include "backends/cuda/element.cuh"
#include "backends/plan/plan.h"

namespace tg::cuda {

inline int64_t max_piece() {
  constexpr int64_t most = int64_t(1) << 30;
#ifdef TG_CUDA_EMULATION
  return emu::max_piece(most);
#else
  return most;
#endif
}

// n / d by a multiplication, for n < 2^31 (Granlund and Montgomery, "Division by invariant integers using
// multiplication", PLDI 1994).
struct FastDiv {
  uint32_t d = 1, factor = 1, shift = 0;
  FastDiv() = default;
  explicit FastDiv(uint32_t divisor) : d(divisor) {
    shift = uint32_t(std::bit_width(d - 1));
    factor = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - d)) / d + 1);
  }
  __device__ __forceinline__ uint32_t divide(uint32_t n) const { return (__umulhi(n, factor) + n) >> shift; }
};

template <int K>
struct Walk {
  int ndim = 0;
  uint32_t n = 0;  // elements
  FastDiv size[kMaxDims];
  int64_t stride[K][kMaxDims] = {};

  Walk() = default;
  explicit Walk(const plan::Nest& nest) : ndim(nest.ndim()), n(uint32_t(nest.numel())) {
    for (int d = 0; d < ndim; ++d) {
      size[d] = FastDiv(uint32_t(nest.shape[d]));
      for (int k = 0; k < nest.n_views; ++k) stride[k][d] = nest.stride[k][d];
    }
  }
  // Adds the offsets of element i to off[0 ... K).
  __device__ __forceinline__ void offsets(uint32_t i, int64_t (&off)[K]) const {
    for (int d = ndim - 1; d > 0; --d) {
      uint32_t q = size[d].divide(i), r = i - q * size[d].d;
      i = q;
      TG_UNROLL
      for (int k = 0; k < K; ++k) off[k] += r * stride[k][d];
    }
    if (ndim > 0) {
      TG_UNROLL
      for (int k = 0; k < K; ++k) off[k] += i * stride[k][0];
    }
  }
};

// f(piece, start): the nest in pieces of at most `limit` elements; start[k] is the offset of the piece in view k.
template <class F>
void for_pieces(const plan::Nest& nest, F&& f, int64_t limit = max_piece()) {
  int64_t start[plan::kMaxViews] = {};
  auto cut = [&](auto& self, const plan::Nest& n) -> void {
    if (n.numel() <= limit) return f(n, start);
    int d = 0;
    for (int i = 1; i < n.ndim(); ++i)
      if (n.shape[i] > n.shape[d]) d = i;
    int64_t inner = n.numel() / n.shape[d], step = std::max<int64_t>(1, limit / inner);
    plan::Nest part = n;
    for (int64_t at = 0; at < n.shape[d]; at += step) {
      part.shape[d] = std::min(step, n.shape[d] - at);
      for (int k = 0; k < n.n_views; ++k) start[k] += at * n.stride[k][d];
      self(self, part);
      for (int k = 0; k < n.n_views; ++k) start[k] -= at * n.stride[k][d];
    }
  };
  if (nest.numel() > 0) cut(cut, nest);
}

inline unsigned blocks_for(uint64_t n, unsigned threads) { return unsigned((n + threads - 1) / threads); }

}  // namespace tg::cuda
