// pybind11 conversions of the framework's value types, for every file that binds functions taking or giving them.
#pragma once
#include <pybind11/stl.h>

#include "python/bindings.h"

namespace pybind11::detail {

// None <-> undefined tensor.
template <>
struct type_caster<tg::Tensor> {
  PYBIND11_TYPE_CASTER(tg::Tensor, const_name("Tensor"));
  bool load(handle src, bool) {
    if (src.is_none()) return true;
    if (!tg::python::is_tensor(src.ptr())) return false;
    value = tg::python::unwrap(src.ptr());
    return true;
  }
  static handle cast(const tg::Tensor& t, return_value_policy, handle) { return tg::python::wrap(t); }
};

template <>
struct type_caster<tg::DType> {
  PYBIND11_TYPE_CASTER(tg::DType, const_name("dtype"));
  bool load(handle src, bool) { return tg::python::to_dtype(src.ptr(), value); }
  static handle cast(tg::DType t, return_value_policy, handle) { return tg::python::wrap_dtype(t); }
};

template <>
struct type_caster<tg::Device> {
  PYBIND11_TYPE_CASTER(tg::Device, const_name("device"));
  bool load(handle src, bool) { return tg::python::to_device(src.ptr(), value); }
  static handle cast(tg::Device d, return_value_policy, handle) { return tg::python::wrap_device(d); }
};

template <>
struct type_caster<tg::Scalar> {
 public:
  static constexpr auto name = const_name("float");
  template <class T>
  using cast_op_type = movable_cast_op_type<T>;
  bool load(handle src, bool) {
    if (tg::python::is_tensor(src.ptr())) {
      value = tg::python::unwrap(src.ptr()).item_scalar();
      return true;
    }
    return tg::python::to_scalar(src.ptr(), value);
  }
  static handle cast(const tg::Scalar& s, return_value_policy, handle) { return tg::python::wrap_scalar(s); }
  operator tg::Scalar*() { return &value; }
  operator tg::Scalar&() { return value; }
  operator tg::Scalar&&() && { return std::move(value); }

 private:
  tg::Scalar value = 0;
};

// Sizes as a list or tuple; a single int stands for a list of one.
template <>
struct type_caster<tg::Dims> {
  PYBIND11_TYPE_CASTER(tg::Dims, const_name("Sequence[int]"));
  bool load(handle src, bool) {
    std::vector<int64_t> v;
    if (!tg::python::to_ints(src.ptr(), v)) return false;
    value = tg::Dims(v.begin(), v.end());
    return true;
  }
  static handle cast(const tg::Dims& d, return_value_policy, handle) { return tg::python::wrap_size(d); }
};

}  // namespace pybind11::detail

namespace tg::python {

// f itself, or, if its first parameter is a tensor, f that refuses None there (the caster takes it for optional ones).
template <class R, class... A>
auto on_tensor(R (*f)(const Tensor&, A...)) {
  return [f](const Tensor& t, A... a) -> R {
    TG_CHECK(t.defined(), TypeError, "expected a Tensor, not None");
    return f(t, std::forward<A>(a)...);
  };
}
template <class R, class... A>
auto on_tensor(R (*f)(A...)) {
  return f;
}

template <class R>
auto on_tensor(R (Tensor::*f)() const) {
  return [f](const Tensor& t) -> R {
    TG_CHECK(t.defined(), TypeError, "expected a Tensor, not None");
    return (t.*f)();
  };
}

// Arguments of functions that take them as objects; TypeError naming both otherwise.
DType dtype_argument(const char* function, const char* argument, const py::object& o);
Device device_argument(const char* function, const char* argument, const py::object& o);

// Marks memory that others look into from now on (NumPy, DLPack), so that resize_ does not move it.
inline void keep_in_place(const Tensor& t) {
  Storage& s = *t.impl()->storage;
  if (!s.owner) s.owner = &s;
}

// Adds a method to Tensor. A lambda with captures takes its self as an object and unwraps it.
template <class F, class... E>
void method(const char* name, F&& f, const E&... extra) {
  py::handle type(reinterpret_cast<PyObject*>(tensor_type));
  if constexpr (std::is_member_function_pointer_v<std::decay_t<F>>)
    type.attr(name) = py::cpp_function(on_tensor(f), py::name(name), py::is_method(type), extra...);
  else if constexpr (requires { +f; })
    type.attr(name) = py::cpp_function(on_tensor(+f), py::name(name), py::is_method(type), extra...);
  else
    type.attr(name) = py::cpp_function(std::forward<F>(f), py::name(name), py::is_method(type), extra...);
}

}  // namespace tg::python
