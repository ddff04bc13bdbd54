// Sizes and strides: small fixed-capacity vectors, so a tensor's geometry never allocates.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.h"

namespace tg {

inline constexpr int kMaxDims = 12;

// Up to kMaxDims int64 values (sizes, strides or axes).
class Dims {
 public:
  Dims() { d_[0] = d_[1] = 0; }  // not all of it: see the copy
  Dims(std::initializer_list<int64_t> v) : Dims(v.begin(), v.end()) {}
  template <class It>
  Dims(It b, It e) : Dims() {
    for (; b != e; ++b) push_back(*b);
  }
  Dims(const Dims& o) { *this = o; }
  Dims& operator=(const Dims& o) {
    n_ = o.n_;
    d_[0] = o.d_[0];  // two without a question: most tensors have few dimensions, a call of memmove costs more
    d_[1] = o.d_[1];
    if (n_ > 2) std::copy(o.d_ + 2, o.d_ + n_, d_ + 2);
    return *this;
  }
  static Dims filled(int n, int64_t v) {
    Dims d;
    for (int i = 0; i < n; ++i) d.push_back(v);
    return d;
  }
  int size() const { return n_; }
  bool empty() const { return n_ == 0; }
  int64_t operator[](int i) const { return d_[in_range(i)]; }
  int64_t& operator[](int i) { return d_[in_range(i)]; }
  int64_t back() const { return d_[in_range(n_ - 1)]; }
  const int64_t* begin() const { return d_; }
  const int64_t* end() const { return d_ + n_; }
  int64_t* begin() { return d_; }
  int64_t* end() { return d_ + n_; }
  void push_back(int64_t v) {
    TG_CHECK(unsigned(n_) < unsigned(kMaxDims), ShapeError, "a tensor has at most ", kMaxDims, " dimensions");
    d_[n_++] = v;
  }
  void insert(int at, int64_t v) {
    push_back(v);
    std::rotate(d_ + at, d_ + n_ - 1, d_ + n_);
  }
  void erase(int at) {
    std::copy(d_ + at + 1, d_ + n_, d_ + at);
    --n_;
  }
  void pop_back() { --n_; }
  void resize(int n, int64_t v = 0) {
    while (n_ < n) push_back(v);
    n_ = n;
  }
  bool contains(int64_t v) const { return std::find(begin(), end(), v) != end(); }
  bool operator==(const Dims& o) const {
    bool same = n_ == o.n_;
    for (int i = 0; same && i < n_; ++i) same = d_[i] == o.d_[i];
    return same;
  }

 private:
  // Tells the optimizer what callers guarantee; without it GCC warns about index -1 where loops count down.
  static int in_range(int i) {
    if (i < 0 || i >= kMaxDims) __builtin_unreachable();
    return i;
  }
  int n_ = 0;
  int64_t d_[kMaxDims];
};

// Borrowed list of int64 of any length: what ops take for sizes, axes and paddings. Valid for the call only.
class IntList {
 public:
  IntList() = default;
  // The array behind a braced list lives until the end of the full expression: long enough for a call.
  IntList(std::initializer_list<int64_t> v) : n_(int64_t(v.size())) { p_ = v.begin(); }
  IntList(const std::vector<int64_t>& v) : p_(v.data()), n_(int64_t(v.size())) {}
  IntList(const Dims& d) : p_(d.begin()), n_(d.size()) {}
  IntList(const int64_t* p, int64_t n) : p_(p), n_(n) {}
  // A single number stands for a list of one: sum(x, 1).
  template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
  IntList(T v) : n_(1), one_(v) {}
  int64_t size() const { return n_; }
  bool empty() const { return n_ == 0; }
  int64_t operator[](int64_t i) const { return begin()[i]; }
  const int64_t* begin() const { return p_ ? p_ : &one_; }
  const int64_t* end() const { return begin() + n_; }
  Dims dims() const { return Dims(begin(), end()); }

 private:
  const int64_t* p_ = nullptr;
  int64_t n_ = 0, one_ = 0;
};

// What an op takes for an optional list: a list, a number, braces, or std::nullopt.
struct OptIntList : std::optional<IntList> {
  using std::optional<IntList>::optional;
  OptIntList(std::optional<IntList> v) : std::optional<IntList>(v) {}
  OptIntList(std::initializer_list<int64_t> v) : std::optional<IntList>(IntList(v)) {}
};

// "[2, 3]" as PyTorch prints sizes
TG_API std::string to_string(IntList d);
inline std::ostream& operator<<(std::ostream& o, const Dims& d) { return o << to_string(d); }
inline std::ostream& operator<<(std::ostream& o, IntList d) { return o << to_string(d); }

// Product of the sizes. Raises ShapeError (naming `op`) when it does not fit into int64 or a size is negative.
TG_API int64_t numel_of(IntList sizes, const char* op = "tensor");
// Row-major strides of a contiguous tensor; sizes of 0 count as 1, as in PyTorch.
TG_API Dims contiguous_strides(IntList sizes);
TG_API bool is_contiguous(const Dims& sizes, const Dims& strides);

// Maps an axis in [-n, n) to [0, n); IndexError naming op and range otherwise. A 0-d tensor accepts -1 and 0.
TG_API int wrap_dim(const char* op, int64_t dim, int ndim);
// Wraps every axis, rejects repeats; an empty list means all axes.
TG_API Dims wrap_dims(const char* op, IntList axes, int ndim);

// The common shape of a and b under broadcasting; ShapeError names the op, both shapes and the dimension.
TG_API Dims broadcast_shapes(const char* op, const Dims& a, const Dims& b);
// True if `from` broadcasts to `to`.
TG_API bool broadcastable_to(const Dims& from, const Dims& to);

}  // namespace tg
