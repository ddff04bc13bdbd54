// The range of indices, and searches for extremes.
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

// Bit by bit what beats() in cpu_scan.cpp says, without branches.
template <class T, bool Largest>
[[gnu::flatten]] void search(const void* row, int64_t number, void* best, int64_t* at, int64_t n) {
  const T* x = static_cast<const T*>(row);
  T* top = static_cast<T*>(best);
  for (int64_t i = 0; i < n; ++i) {
    const T v = x[i], b = top[i];
    const bool take = bool(int(Largest ? v > b : v < b) | (int(v != v) & int(b == b)));
    top[i] = take ? v : b;
    at[i] = take ? number : at[i];
  }
}

template <class T>
void fill_search(Loops& t, Num num) {
  t.search[0][int(num)] = search<T, false>;
  t.search[1][int(num)] = search<T, true>;
}

}  // namespace

void fill_index(Loops& t) {
  t.range = range;
  fill_search<float>(t, Num::F);
  fill_search<double>(t, Num::D);
  fill_search<int64_t>(t, Num::I);
}

}  // namespace tg::cpu::TG_ISA
