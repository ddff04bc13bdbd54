// Vector with room for N elements in place; the heap only beyond that.
#pragma once
#include <memory>
#include <vector>

namespace tg {

template <class T, int N>
class SmallVec {
 public:
  SmallVec() = default;
  explicit SmallVec(int n) { resize(n); }
  void resize(int n) {
    if (n > N && heap_.empty()) {
      heap_.reserve(size_t(n));
      for (int i = 0; i < n_; ++i) heap_.push_back(std::move(in_[i]));
    }
    if (n > N) heap_.resize(size_t(n));
    else
      for (int i = n_; i < n; ++i) in_[i] = T();
    n_ = n;
  }
  void push_back(T v) {
    resize(n_ + 1);
    (*this)[n_ - 1] = std::move(v);
  }
  int size() const { return n_; }
  bool empty() const { return n_ == 0; }
  T* data() { return heap_.empty() ? in_ : heap_.data(); }
  const T* data() const { return heap_.empty() ? in_ : heap_.data(); }
  T& operator[](int i) { return data()[i]; }
  const T& operator[](int i) const { return data()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + n_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + n_; }

 private:
  int n_ = 0;
  T in_[N];
  std::vector<T> heap_;
};

}  // namespace tg
