// Boxed op arguments: what the dispatch chain, the tape and the Python parser pass around.
#pragma once
#include <string_view>
#include <tuple>
#include <vector>

#include "core/tensor.h"

namespace tg {

// A borrowed argument, valid for the call only.
class Value {
 public:
  enum class Kind : uint8_t {
    None,
    Tensor,
    Tensors,
    Int,
    Float,
    Bool,
    Ints,
    Floats,
    Str,
    DType,
    Device,
    Generator,
    Index
  };
  Value() = default;
  Value(const tg::Tensor& t) : kind_(t.defined() ? Kind::Tensor : Kind::None) { u_.t = &t; }
  Value(const Operand& o) {
    if (o.is_tensor())
      *this = Value(o.tensor());
    else
      *this = Value(o.scalar());
  }
  Value(const Scalar& s) {
    if (s.kind() == Scalar::Kind::Bool)
      *this = Value(s.b());
    else if (s.is_float())
      *this = Value(s.d());
    else
      *this = Value(s.i());
  }
  Value(TensorList l) : kind_(Kind::Tensors) { u_.ts = {l.begin(), l.size()}; }
  Value(int64_t i) : kind_(Kind::Int) { u_.i = i; }
  Value(double d) : kind_(Kind::Float) { u_.d = d; }
  Value(bool b) : kind_(Kind::Bool) { u_.i = b; }
  Value(const IntList& l) : kind_(Kind::Ints) { u_.is = {l.begin(), l.size()}; }
  Value(const std::vector<double>& l) : kind_(Kind::Floats) { u_.ds = {l.data(), int64_t(l.size())}; }
  Value(std::string_view s) : kind_(Kind::Str) { u_.s = {s.data(), int64_t(s.size())}; }
  Value(tg::DType t) : kind_(Kind::DType) { u_.i = int64_t(t); }
  Value(tg::Device d) : kind_(Kind::Device) { u_.dev = d; }
  Value(tg::Generator* g) : kind_(g ? Kind::Generator : Kind::None) { u_.g = g; }
  Value(const std::vector<IndexItem>& v) : kind_(Kind::Index) { u_.ix = &v; }
  template <class T>
  Value(const std::optional<T>& o) {
    if (o) *this = Value(*o);
  }
  static Value floats(const double* p, int64_t n) {
    Value v;
    v.kind_ = Kind::Floats;
    v.u_.ds = {p, n};
    return v;
  }

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::None; }
  bool is_tensor() const { return kind_ == Kind::Tensor; }
  bool is_number() const { return kind_ == Kind::Int || kind_ == Kind::Float || kind_ == Kind::Bool; }
  const tg::Tensor& tensor() const { return *u_.t; }
  TensorList tensors() const { return {u_.ts.p, u_.ts.n}; }
  int64_t i() const { return u_.i; }
  double d() const { return kind_ == Kind::Float ? u_.d : double(u_.i); }
  Scalar scalar() const {
    if (kind_ == Kind::Float) return u_.d;
    if (kind_ == Kind::Bool) return u_.i != 0;
    return u_.i;
  }
  IntList ints() const { return {u_.is.p, u_.is.n}; }
  std::pair<const double*, int64_t> floats() const { return {u_.ds.p, u_.ds.n}; }
  std::string_view string() const { return {u_.s.p, size_t(u_.s.n)}; }
  tg::DType dtype() const { return tg::DType(u_.i); }
  tg::Device device() const { return u_.dev; }
  tg::Generator* generator() const { return is_none() ? nullptr : u_.g; }
  const std::vector<IndexItem>& index() const { return *u_.ix; }

 private:
  template <class T>
  struct Span {
    const T* p;
    int64_t n;
  };
  Kind kind_ = Kind::None;
  union {
    const tg::Tensor* t;
    Span<tg::Tensor> ts;
    int64_t i;
    double d;
    Span<int64_t> is;
    Span<double> ds;
    Span<char> s;
    tg::Device dev;
    tg::Generator* g;
    const std::vector<IndexItem>* ix;
  } u_{};
};

// Borrowed span of arguments.
struct Args {
  const Value* p = nullptr;
  int n = 0;
  const Value& operator[](int i) const { return p[i]; }
  int size() const { return n; }
  const Value* begin() const { return p; }
  const Value* end() const { return p + n; }
};

// Results of an op: one or two tensors inline, more on the heap; or a plain value (equal, item).
class Outputs {
 public:
  void push_back(Tensor t) {
    if (n_ < 2 && more_.empty())
      first_[n_] = std::move(t);
    else {
      if (more_.empty())
        for (auto& f : first_) more_.push_back(std::move(f));
      more_.push_back(std::move(t));
    }
    ++n_;
  }
  int size() const { return n_; }
  Tensor& operator[](int i) { return more_.empty() ? first_[i] : more_[i]; }
  const Tensor& operator[](int i) const { return more_.empty() ? first_[i] : more_[i]; }
  Tensor* begin() { return more_.empty() ? first_ : more_.data(); }
  Tensor* end() { return begin() + n_; }
  std::vector<Tensor> list() { return {begin(), end()}; }
  Value value;  // set by ops that return a bool, int or float

 private:
  int n_ = 0;
  Tensor first_[2];
  std::vector<Tensor> more_;
};

// unbox<T>(value): the C++ parameter type of an op body from a boxed argument the schema has already checked.
template <class T>
struct Unbox;
#define TG_UNBOX(T, expr)                                      \
  template <>                                                  \
  struct Unbox<T> {                                            \
    static decltype(auto) get(const Value& v) { return expr; } \
  }
TG_API extern const Tensor undefined_tensor;
template <>
struct Unbox<const Tensor&> {
  static const Tensor& get(const Value& v) { return v.is_tensor() ? v.tensor() : undefined_tensor; }
};
template <>
struct Unbox<Operand> {
  static Operand get(const Value& v) { return v.is_tensor() ? Operand(v.tensor()) : Operand(v.scalar()); }
};
template <>
struct Unbox<const Operand&> : Unbox<Operand> {};
TG_UNBOX(TensorList, v.tensors());
TG_UNBOX(int64_t, v.i());
TG_UNBOX(double, v.d());
TG_UNBOX(bool, v.i() != 0);
TG_UNBOX(IntList, v.ints());
TG_UNBOX(Scalar, v.scalar());
TG_UNBOX(std::string_view, v.string());
TG_UNBOX(DType, v.dtype());
TG_UNBOX(Device, v.device());
TG_UNBOX(Generator*, v.generator());
TG_UNBOX(const std::vector<IndexItem>&, v.index());
#undef TG_UNBOX
template <>
struct Unbox<std::vector<double>> {
  static std::vector<double> get(const Value& v) {
    auto [p, n] = v.floats();
    return {p, p + n};
  }
};
template <>
struct Unbox<const std::vector<double>&> : Unbox<std::vector<double>> {};
template <class T>
struct Unbox<std::optional<T>> {
  static std::optional<T> get(const Value& v) {
    if (v.is_none()) return std::nullopt;
    return std::optional<T>(Unbox<T>::get(v));
  }
};

// Results into Outputs.
inline void put(Outputs& o, Tensor t) { o.push_back(std::move(t)); }
inline void put(Outputs& o, std::vector<Tensor> v) {
  for (auto& t : v) o.push_back(std::move(t));
}
template <class... T>
void put(Outputs& o, std::tuple<T...> t) {
  std::apply([&](auto&... x) { (o.push_back(std::move(x)), ...); }, t);
}
template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
void put(Outputs& o, T v) {
  o.value = Value(Scalar(v));
}

using Body = void (*)(Args, Outputs&);

namespace detail {
template <auto F, class R, class... P, size_t... I>
void call_boxed(R (*)(P...), Args a, Outputs& o, std::index_sequence<I...>) {
  put(o, F(Unbox<P>::get(a[int(I)])...));
}
template <auto F, class R, class... P>
void call_boxed(R (*f)(P...), Args a, Outputs& o) {
  call_boxed<F>(f, a, o, std::index_sequence_for<P...>{});
}
}  // namespace detail

// box<f>: the boxed form of a C++ function whose parameters are those of the op's schema.
template <auto F>
void box(Args a, Outputs& o) {
  detail::call_boxed<F>(+F, a, o);
}

}  // namespace tg
