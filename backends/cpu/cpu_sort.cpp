// sort: keys are mapped to unsigned integers whose order is the wanted one, then sorted stably with their positions:
// by merging when short, by radix when long.

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {
namespace {

constexpr int64_t kRadixFrom = 512;

// Ascending order of keys: numbers, then NaN. -0 and 0 are one key.
inline uint32_t key_of(float x) {
  if (x != x) return UINT32_MAX;
  uint32_t u = std::bit_cast<uint32_t>(x == 0 ? 0.0f : x);
  return u & 0x80000000u ? ~u : u | 0x80000000u;
}
inline uint64_t key_of(double x) {
  if (x != x) return UINT64_MAX;
  uint64_t u = std::bit_cast<uint64_t>(x == 0 ? 0.0 : x);
  return u >> 63 ? ~u : u | uint64_t(1) << 63;
}
inline uint64_t key_of(int64_t x) { return uint64_t(x) ^ uint64_t(1) << 63; }
inline uint32_t key_of(Half x) { return key_of(from_half(x)); }
inline uint32_t key_of(BFloat16 x) { return key_of(from_bf16(x)); }
inline uint32_t key_of(uint8_t x) { return x; }
inline uint32_t key_of(int8_t x) { return uint32_t(int32_t(x)) ^ 0x80000000u; }
inline uint32_t key_of(int16_t x) { return uint32_t(int32_t(x)) ^ 0x80000000u; }
inline uint32_t key_of(int32_t x) { return uint32_t(x) ^ 0x80000000u; }

template <class K>
struct Item {
  K key;
  K at;  // positions fit into 32 bits when keys do: longer lines use 64-bit keys
};

// Digits of 8 bits, least significant first; digits that all keys share are skipped.
template <class K>
Item<K>* radix_sort(Item<K>* x, Item<K>* spare, int64_t n) {
  for (int shift = 0; shift < int(8 * sizeof(K)); shift += 8) {
    int64_t start[257] = {};
    for (int64_t i = 0; i < n; ++i) ++start[((x[i].key >> shift) & 255) + 1];
    if (start[((x[0].key >> shift) & 255) + 1] == n) continue;
    for (int d = 0; d < 256; ++d) start[d + 1] += start[d];
    for (int64_t i = 0; i < n; ++i) spare[start[(x[i].key >> shift) & 255]++] = x[i];
    std::swap(x, spare);
  }
  return x;
}

// Insertion into runs of 16, then merging of runs.
template <class K>
Item<K>* merge_sort(Item<K>* x, Item<K>* spare, int64_t n) {
  constexpr int64_t kRun = 16;
  for (int64_t b = 0; b < n; b += kRun)
    for (int64_t i = b + 1; i < std::min(b + kRun, n); ++i) {
      Item<K> v = x[i];
      int64_t j = i;
      for (; j > b && v.key < x[j - 1].key; --j) x[j] = x[j - 1];
      x[j] = v;
    }
  for (int64_t run = kRun; run < n; run *= 2) {
    for (int64_t b = 0; b < n; b += 2 * run) {
      int64_t m = std::min(b + run, n), e = std::min(b + 2 * run, n), i = b, j = m, o = b;
      while (i < m && j < e) spare[o++] = x[j].key < x[i].key ? x[j++] : x[i++];
      while (i < m) spare[o++] = x[i++];
      while (j < e) spare[o++] = x[j++];
    }
    std::swap(x, spare);
  }
  return x;
}

template <class T, class K>
void sort_lines(const Nd& nd, int64_t n, bool descending, int64_t si, int64_t sv, int64_t sx, bool want_values) {
  parallel_for(nd.n, std::max<int64_t>(1, 8192 / std::max<int64_t>(n, 1)), [&](int64_t b, int64_t e) {
    Temp temp(2 * n * int64_t(sizeof(Item<K>)) + n * int64_t(sizeof(T)));
    Item<K>* items = temp.as<Item<K>>();
    Item<K>* spare = items + n;
    T* line = reinterpret_cast<T*>(spare + n);  // the values may overwrite the input
    for (Cursor c(nd, b); c.linear < e; c.advance_in_row(1)) {
      const T* in = reinterpret_cast<const T*>(c.p[0]);
      for (int64_t i = 0; i < n; ++i) {
        line[i] = in[i * si];
        K key = K(key_of(line[i]));
        items[i] = {descending ? K(~key) : key, K(i)};
      }
      const Item<K>* r = n < kRadixFrom ? merge_sort(items, spare, n) : radix_sort(items, spare, n);
      T* values = reinterpret_cast<T*>(c.p[1]);
      int64_t* index = reinterpret_cast<int64_t*>(c.p[2]);
      for (int64_t i = 0; i < n; ++i) {
        if (want_values) values[i * sv] = line[r[i].at];
        index[i * sx] = int64_t(r[i].at);
      }
    }
  });
}

}  // namespace

void CpuBackend::sort(const View& in, int axis, bool descending, const View& values, const View& index) {
  const int64_t n = in.shape[axis];
  if (in.numel() == 0) return;
  TG_CHECK(index.dtype == DType::I64 && (!values.data || values.dtype == in.dtype), DTypeError,
           "sort: positions must be int64 and values of the input's dtype");
  Views v;
  for (const View* x : {&in, values.data ? &values : &in, &index}) {
    View w = *x;
    w.shape.erase(axis);
    w.stride.erase(axis);
    v.push_back(w);
  }
  plan::Nest nest = plan::nest_of(v);
  plan::merge_axes(nest);
  const Nd nd(std::move(nest), v);
  const int64_t si = in.stride[axis], sv = values.data ? values.stride[axis] : 0, sx = index.stride[axis];
  visit(in.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    using T = std::conditional_t<std::is_same_v<S, bool>, uint8_t, S>;  // a bool byte is moved as a byte
    using K = decltype(key_of(T{}));
    if (sizeof(K) == 8 || n > int64_t(UINT32_MAX))
      sort_lines<T, uint64_t>(nd, n, descending, si, sv, sx, values.data != nullptr);
    else
      sort_lines<T, K>(nd, n, descending, si, sv, sx, values.data != nullptr);
  });
}

}  // namespace tg::cpu
