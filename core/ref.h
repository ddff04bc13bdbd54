// Intrusive reference counting: one pointer per handle, the count lives in the object.
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

namespace tg {

// Base of shared objects. The count starts at 0; the first Ref makes it 1.
class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;
  int64_t use_count() const { return refs_.load(std::memory_order_relaxed); }
  void retain() const { refs_.fetch_add(1, std::memory_order_relaxed); }
  // True when this was the last reference: the caller then destroys the object.
  bool release() const {
    if (refs_.load(std::memory_order_acquire) == 1) return true;  // sole owner: no atomic write needed
    return refs_.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }

 protected:
  ~RefCounted() = default;

 private:
  mutable std::atomic<int64_t> refs_{0};
};

// What happens when the last Ref goes: `delete` by default; a type may overload it (found by ADL).
template <class T>
void ref_destroy(T* p) {
  delete p;
}

// Owning handle of a RefCounted object.
template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}
  explicit Ref(T* p) : p_(p) {
    if (p_) p_->retain();
  }
  Ref(const Ref& o) : Ref(o.p_) {}
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <class U>
  Ref(const Ref<U>& o) : Ref(static_cast<T*>(o.get())) {}
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Ref() { reset(); }
  void reset() {
    T* p = std::exchange(p_, nullptr);
    if (p && p->release()) ref_destroy(p);
  }
  // Gives up ownership without touching the count.
  T* detach() { return std::exchange(p_, nullptr); }
  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  bool operator==(const Ref& o) const { return p_ == o.p_; }

 private:
  T* p_ = nullptr;
};

template <class T, class... A>
Ref<T> make_ref(A&&... a) {
  return Ref<T>(new T(std::forward<A>(a)...));
}

}  // namespace tg
