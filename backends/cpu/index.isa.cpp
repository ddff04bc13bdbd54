// The range of indices.
#include "backends/cpu/loops.h"

namespace tg::cpu::TG_ISA {
namespace {

[[gnu::flatten]] void range(const int64_t* p, int64_t n, int64_t* low, int64_t* high) {
  int64_t lo = *low, hi = *high;
  for (int64_t i = 0; i < n; ++i) {
    lo = p[i] < lo ? p[i] : lo;
    hi = p[i] > hi ? p[i] : hi;
  }
  *low = lo, *high = hi;
}

}  // namespace

void fill_index(Loops& t) { t.range = range; }

}  // namespace tg::cpu::TG_ISA
