// A nest of loops with the addresses it walks: rows of several strided views in step.
#pragma once
#include <algorithm>

#include "backends/plan/plan.h"
#include "core/pool.h"

namespace tg::cpu {

inline constexpr int64_t kGrain = 32768;  // elements per parallel chunk, where memory is no matter
// Of a loop over n elements: chunks enough that no thread waits long for the last, large enough to be worth taking. Of
// what outgrows the caches they are larger: where a chunk begins, its thread waits for the memory to be fetched ahead.
inline int64_t grain_of(int64_t n) {
  if (n <= 4 * kGrain) return kGrain / 4;
  return std::min(n / 16, std::max<int64_t>(1, n / (64 * kGrain)) * kGrain);
}

// Of n lines that go side by side: stretches of memory long enough to be fetched ahead, and work for several threads.
inline int64_t columns_per_chunk(int64_t n) { return std::clamp<int64_t>(n / 4, 64, 1024); }

struct Nd {
  plan::Nest nest;
  int nv = 0;
  int64_t n = 0;  // elements
  char* data[plan::kMaxViews];
  int64_t item[plan::kMaxViews];
  DType dtype[plan::kMaxViews];
  bool flat[plan::kMaxViews];  // element i lies at data + i * item, whatever the axes

  // The views of `nest`, in its order.
  Nd(plan::Nest nest, const Views& a, const Views& b = {});
  int ndim() const { return nest.ndim(); }
  int64_t size(int d) const { return nest.shape[d]; }
  int64_t inner() const { return ndim() ? nest.shape.back() : 1; }
  int64_t inner_stride(int v) const { return ndim() ? nest.stride[v].back() : 0; }
  // Bytes from one index to the next along axis d.
  int64_t step(int v, int d) const { return nest.stride[v][d] * item[v]; }
};

// A position in an Nd with the address of every view there.
struct Cursor {
  const Nd& nd;
  int64_t linear = 0;
  int64_t idx[kMaxDims];
  char* p[plan::kMaxViews];

  explicit Cursor(const Nd& n, int64_t at = 0) : nd(n) { seek(at); }
  void seek(int64_t at);
  // Elements left in the current row.
  int64_t row_left() const { return nd.ndim() ? nd.inner() - idx[nd.ndim() - 1] : 1; }
  // k <= row_left()
  void advance_in_row(int64_t k) {
    linear += k;
    int d = nd.ndim() - 1;
    if (d < 0) return;
    idx[d] += k;
    for (int v = 0; v < nd.nv; ++v) p[v] += k * nd.step(v, d);
    if (idx[d] == nd.size(d)) carry(d);
  }
  // rows <= rows left along the second innermost axis; only at the start of a row
  void advance_rows(int64_t rows) {
    const int d = nd.ndim() - 2;
    linear += rows * nd.inner();
    idx[d] += rows;
    for (int v = 0; v < nd.nv; ++v) p[v] += rows * nd.step(v, d);
    if (idx[d] == nd.size(d)) carry(d);
  }
  void advance(int64_t k) {
    if (k <= row_left())
      advance_in_row(k);
    else
      seek(linear + k);
  }

 private:
  void carry(int from);  // axis `from` has come to its end
};

// Calls f(addresses, length) for each row, or part of one, of the elements [b, e). Short rows are what this is for: the
// addresses of neighbouring rows are a step apart.
template <class F>
void each_row(const Nd& nd, int64_t b, int64_t e, F&& f) {
  const int outer = nd.ndim() - 2;
  const int64_t length = nd.inner();
  for (Cursor c(nd, b); c.linear < e;) {
    if (outer < 0 || c.idx[outer + 1] != 0 || e - c.linear < length) {
      const int64_t k = std::min(e - c.linear, c.row_left());
      f(static_cast<char* const*>(c.p), k);
      c.advance_in_row(k);
      continue;
    }
    const int64_t rows = std::min(nd.size(outer) - c.idx[outer], (e - c.linear) / length);
    char* at[plan::kMaxViews];
    for (int v = 0; v < nd.nv; ++v) at[v] = c.p[v];
    for (int64_t r = 0; r < rows; ++r) {
      f(static_cast<char* const*>(at), length);
      for (int v = 0; v < nd.nv; ++v) at[v] += nd.step(v, outer);
    }
    c.advance_rows(rows);
  }
}

// Calls f(address, elements before it, length) for each row's part of the next n elements of view v.
template <class F>
void each_piece(const Cursor& c, int v, int64_t n, F&& f) {
  const Nd& nd = c.nd;
  int64_t left = c.row_left();
  if (n <= left || nd.flat[v]) return f(c.p[v], int64_t(0), n);
  const int inner = nd.ndim() - 1;
  int64_t idx[kMaxDims];
  for (int d = 0; d < inner; ++d) idx[d] = c.idx[d];
  char* row = c.p[v] - c.idx[inner] * nd.step(v, inner);  // start of the current row
  f(c.p[v], int64_t(0), left);
  for (int64_t done = left; done < n;) {
    for (int d = inner - 1; d >= 0; --d) {
      row += nd.step(v, d);
      if (++idx[d] < nd.size(d)) break;
      row -= nd.step(v, d) * nd.size(d);
      idx[d] = 0;
    }
    int64_t k = std::min(nd.inner(), n - done);
    f(row, done, k);
    done += k;
  }
}

// Temporary memory from the device's allocator.
class Temp {
 public:
  explicit Temp(int64_t bytes) : bytes_(size_t(bytes)), p_(allocator(Device{}).allocate(bytes_)) {}
  ~Temp() { allocator(Device{}).deallocate(p_, bytes_); }
  Temp(const Temp&) = delete;
  Temp& operator=(const Temp&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(p_);
  }

 private:
  size_t bytes_;
  void* p_;
};

}  // namespace tg::cpu
