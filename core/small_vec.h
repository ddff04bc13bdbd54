// Vector with room for N elements in place; the heap only beyond that.
#pragma once
#include <algorithm>
#include <memory>
#include <utility>

namespace tg {

template <class T, int N>
class SmallVec {
 public:
  SmallVec() = default;
  explicit SmallVec(int n) { resize(n); }
  SmallVec(const SmallVec& o) { *this = o; }
  SmallVec(SmallVec&& o) noexcept { *this = std::move(o); }
  SmallVec& operator=(const SmallVec& o) {
    if (this == &o) return *this;
    resize(0);
    reserve(o.n_);
    for (int i = 0; i < o.n_; ++i) data()[i] = o[i];
    n_ = o.n_;
    return *this;
  }
  SmallVec& operator=(SmallVec&& o) noexcept {
    if (o.heap_) {
      heap_ = std::move(o.heap_);
      capacity_ = std::exchange(o.capacity_, N);
    } else {
      heap_.reset();
      capacity_ = N;
      for (int i = 0; i < o.n_; ++i) in_[i] = std::move(o.in_[i]);
    }
    n_ = std::exchange(o.n_, 0);
    return *this;
  }
  void reserve(int n) {
    if (n <= capacity_) return;
    if (capacity_ < N) __builtin_unreachable();  // what the optimizer cannot see; it would warn about an empty array
    auto bigger = std::make_unique<T[]>(size_t(n));
    for (int i = 0; i < n_; ++i) bigger[size_t(i)] = std::move((*this)[i]);
    heap_ = std::move(bigger);
    capacity_ = n;
  }
  // New elements are value-initialised; removed ones are reset, so that handles let go.
  void resize(int n) {
    if (n > capacity_) reserve(std::max(n, 2 * capacity_));
    for (int i = n_; i < n; ++i) data()[i] = T();
    for (int i = n; i < n_; ++i) data()[i] = T();
    n_ = n;
  }
  void push_back(T v) {
    if (n_ == capacity_) reserve(2 * capacity_);
    data()[n_++] = std::move(v);
  }
  int size() const { return n_; }
  bool empty() const { return n_ == 0; }
  T* data() { return heap_ ? heap_.get() : in_; }
  const T* data() const { return heap_ ? heap_.get() : in_; }
  T& operator[](int i) { return data()[i]; }
  const T& operator[](int i) const { return data()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + n_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + n_; }

 private:
  int n_ = 0, capacity_ = N;
  T in_[N];
  std::unique_ptr<T[]> heap_;
};

}  // namespace tg
