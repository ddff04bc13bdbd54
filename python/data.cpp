// Tensors from Python data and back: tensor(), lists, NumPy arrays.
#include <pybind11/numpy.h>

#include "ops/ops.h"
#include "python/casters.h"

namespace tg::python {
namespace {

// ---- nested lists

// What a nest of lists holds: its shape and the dtype PyTorch infers (bool < int < float, tensors by promotion).
struct Nest {
  Dims sizes;
  bool any = false, any_float = false, any_int = false;
  std::optional<DType> tensors;  // promoted type of tensors and NumPy scalars among the elements
};

bool is_list(PyObject* o) { return PyList_Check(o) || PyTuple_Check(o); }

std::string position(const std::vector<int64_t>& path) {
  std::string s;
  for (int64_t i : path) s += "[" + std::to_string(i) + "]";
  return s.empty() ? "the top" : s;
}

DType numpy_dtype(const py::dtype& d) {
  char kind = d.kind();
  int64_t size = d.itemsize();
  bool native = d.byteorder() == '=' || d.byteorder() == '|';
  if (native) {
    if (kind == 'b' && size == 1) return DType::Bool;
    if (kind == 'u' && size == 1) return DType::U8;
    if (kind == 'i') return size == 1 ? DType::I8 : size == 2 ? DType::I16 : size == 4 ? DType::I32 : DType::I64;
    if (kind == 'f' && size <= 8) return size == 2 ? DType::F16 : size == 4 ? DType::F32 : DType::F64;
  }
  fail<TypeError>("from_numpy: cannot convert an array of type ", std::string(py::str(d)),
                  "; the supported ones are float64, float32, float16, int64, int32, int16, int8, uint8 and bool");
}

void note_leaf(PyObject* o, Nest& n, const std::vector<int64_t>& path) {
  n.any = true;
  auto note_type = [&](DType t) { n.tensors = n.tensors ? promote(*n.tensors, t) : t; };
  Scalar s = 0;
  if (is_tensor(o)) return note_type(unwrap(o).dtype());
  if (is_numpy_array(o) || is_numpy_scalar(o)) {
    // Python's own subclasses of float and int among NumPy's count as NumPy's
    return note_type(numpy_dtype(py::reinterpret_borrow<py::object>(o).attr("dtype").cast<py::dtype>()));
  }
  TG_CHECK(to_scalar(o, s), TypeError, "tensor: cannot make a tensor from ", Py_TYPE(o)->tp_name, " at ",
           position(path));
  n.any_float |= s.is_float();
  n.any_int |= s.kind() == Scalar::Kind::Int;
}

Dims leaf_sizes(PyObject* o) {
  if (is_tensor(o)) return unwrap(o).sizes();
  if (!is_numpy_array(o)) return {};
  Dims d;
  auto a = py::reinterpret_borrow<py::array>(o);
  for (py::ssize_t i = 0; i < a.ndim(); ++i) d.push_back(a.shape(i));
  return d;
}

// Walks the nest: fixes the shape along the first path, then checks every other against it.
void examine(PyObject* o, Nest& n, int depth, bool first, std::vector<int64_t>& path) {
  if (!is_list(o)) {
    Dims inner = leaf_sizes(o);
    note_leaf(o, n, path);
    if (first)
      for (int64_t s : inner) n.sizes.push_back(s);
    bool fits =
        n.sizes.size() == depth + inner.size() && std::equal(inner.begin(), inner.end(), n.sizes.begin() + depth);
    TG_CHECK(fits, ValueError, "tensor: ragged list: expected a sequence of length ",
             depth < n.sizes.size() ? n.sizes[depth] : 0, " at ", position(path), ", got ",
             inner.empty() ? "a number" : "a tensor of another size");
    return;
  }
  int64_t len = PySequence_Fast_GET_SIZE(o);
  if (first) n.sizes.push_back(len);
  TG_CHECK(depth < n.sizes.size(), ValueError, "tensor: ragged list: expected a number at ", position(path),
           ", got a sequence of length ", len);
  TG_CHECK(n.sizes[depth] == len, ValueError, "tensor: ragged list: expected a sequence of length ", n.sizes[depth],
           " at ", position(path), ", got length ", len);
  for (int64_t i = 0; i < len && i < PySequence_Fast_GET_SIZE(o); ++i) {
    path.push_back(i);
    examine(PySequence_Fast_GET_ITEM(o, i), n, depth + 1, first && i == 0, path);
    path.pop_back();
  }
}

// Writes the leaves in order.
template <class T>
struct Filler {
  T* out;
  int64_t room;  // elements left: a list that changed meanwhile cannot overrun
  void put(PyObject* o) {
    if (is_list(o)) {
      for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); ++i) put(PySequence_Fast_GET_ITEM(o, i));
      return;
    }
    if (PyFloat_CheckExact(o)) return one(PyFloat_AS_DOUBLE(o));
    if (is_tensor(o) || is_numpy_array(o)) {
      Tensor t = is_tensor(o) ? unwrap(o) : from_numpy(o, false);
      Tensor c = empty_tensor(t.sizes(), DTypeOf<T>::value);
      NoGrad guard;
      static const OpDef& copy = find_op("copy_");
      run_op1(copy, {Value(c), Value(t)});
      TG_CHECK(c.numel() <= room, ValueError, "tensor: the list changed while it was read");
      std::copy_n(static_cast<const T*>(c.data()), c.numel(), out);
      out += c.numel();
      room -= c.numel();
      return;
    }
    Scalar s = 0;
    TG_CHECK(to_scalar(o, s), TypeError, "tensor: cannot make a tensor from ", Py_TYPE(o)->tp_name);
    if (s.is_float())
      one(s.d());
    else
      one(s.i());
  }
  template <class V>
  void one(V v) {
    TG_CHECK(room > 0, ValueError, "tensor: the list changed while it was read");
    if constexpr (std::is_integral_v<V> && std::is_integral_v<T> && !std::is_same_v<T, bool>)
      TG_CHECK(std::in_range<T>(v), ValueError, "tensor: ", v, " does not fit into ", name(DTypeOf<T>::value));
    *out++ = convert<T>(v);
    --room;
  }
};

Tensor from_list(PyObject* data, std::optional<DType> dtype) {
  Nest n;
  std::vector<int64_t> path;
  examine(data, n, 0, true, path);
  DType t = default_dtype();
  if (n.any) t = n.any_float ? default_dtype() : n.any_int ? DType::I64 : DType::Bool;
  if (n.tensors) t = n.any_float || n.any_int ? promote(*n.tensors, t) : *n.tensors;
  if (dtype) t = *dtype;
  Tensor out = empty_tensor(n.sizes, t);
  visit(t, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Filler<T> fill{static_cast<T*>(out.data()), out.numel()};
    fill.put(data);
    TG_CHECK(fill.room == 0, ValueError, "tensor: the list changed while it was read");
  });
  return out;
}

Tensor copy_to(const Tensor& src, std::optional<DType> dtype, Device device) {
  NoGrad guard;
  Tensor out = empty_tensor(src.sizes(), dtype.value_or(src.dtype()), device);
  static const OpDef& copy = find_op("copy_");
  run_op1(copy, {Value(out), Value(src)});
  return out;
}

// ---- NumPy

void release_object(void* owner) {
  if (!Py_IsInitialized()) return;
  PyGILState_STATE gil = PyGILState_Ensure();
  Py_DECREF(static_cast<PyObject*>(owner));
  PyGILState_Release(gil);
}

// Strides in elements; false if they are no multiples of the element or the data is not aligned.
bool element_strides(const py::array& a, int64_t item, Dims& strides) {
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.strides(i) % item) return false;
    strides.push_back(a.strides(i) / item);
  }
  return reinterpret_cast<uintptr_t>(a.data()) % uintptr_t(item) == 0;
}

}  // namespace

Tensor from_numpy(PyObject* o, bool warn_read_only) {
  TG_CHECK(is_numpy_array(o), TypeError, "from_numpy: expected a NumPy array, not ", Py_TYPE(o)->tp_name);
  auto a = py::reinterpret_borrow<py::array>(o);
  DType t = numpy_dtype(a.dtype());
  TG_CHECK(a.ndim() <= kMaxDims, ShapeError, "from_numpy: an array of ", a.ndim(), " dimensions; a tensor has at most ",
           kMaxDims);
  Dims sizes, strides;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) sizes.push_back(a.shape(i));
  if (!element_strides(a, itemsize(t), strides)) return from_numpy(a.attr("copy")().ptr(), false);
  if (!a.writeable()) {
    if (warn_read_only &&
        PyErr_WarnEx(PyExc_UserWarning, "from_numpy: the array is read-only, so its values are copied", 1) < 0)
      throw_python_error();
    return from_numpy(a.attr("copy")().ptr(), false);
  }
  PyObject* owner = a.release().ptr();
  return from_blob(reinterpret_cast<py::detail::PyArray_Proxy*>(owner)->data, sizes, strides, t, Device(), owner,
                   release_object);
}

PyObject* to_numpy(const Tensor& t) {
  TG_CHECK(!t.requires_grad(), AutogradError,
           "numpy: a tensor that requires grad has no NumPy array, use detach().numpy(); self=", describe(t));
  TG_CHECK(t.device().is_cpu(), DeviceError, "numpy: only CPU tensors, use cpu() first; self=", describe(t));
  TG_CHECK(t.dtype() != DType::BF16, TypeError, "numpy: NumPy has no bfloat16, use float() first; self=", describe(t));
  std::vector<py::ssize_t> shape(t.sizes().begin(), t.sizes().end()), strides;
  for (int64_t s : t.strides()) strides.push_back(py::ssize_t(s * itemsize(t.dtype())));
  keep_in_place(t);
  // the tensor's own wrapper keeps the memory alive, so that a.base is a tensor
  py::object base = wrap_object(t);
  return py::array(py::dtype(name(t.dtype())), shape, strides, t.data(), base).release().ptr();
}

namespace {
PyObject* list_along(const Tensor& t, int axis, const char* p) {
  if (axis == t.ndim()) {
    return visit(t.dtype(), [&](auto tag) -> PyObject* {
      using T = typename decltype(tag)::type;
      T v = *reinterpret_cast<const T*>(p);
      if constexpr (std::is_same_v<T, bool>)
        return wrap_bool(v);
      else if constexpr (std::is_integral_v<T>)
        return PyLong_FromLongLong(v);
      else
        return PyFloat_FromDouble(convert<double>(v));
    });
  }
  py::object list = checked(PyList_New(Py_ssize_t(t.sizes()[axis])));
  int64_t step = t.strides()[axis] * itemsize(t.dtype());
  for (int64_t i = 0; i < t.sizes()[axis]; ++i)
    PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), list_along(t, axis + 1, p + i * step));
  return list.release().ptr();
}
}  // namespace

PyObject* to_list(const Tensor& t) {
  Tensor host = host_mirror(t);
  return list_along(host, 0, static_cast<const char*>(host.data()));
}

Tensor tensor_from(PyObject* data, std::optional<DType> dtype, Device device) {
  if (is_tensor(data)) return copy_to(unwrap(data), dtype, device);
  if (is_numpy_array(data)) return copy_to(from_numpy(data, false), dtype, device);
  Scalar s = 0;
  if (!is_list(data) && !to_scalar(data, s)) {
    auto o = py::reinterpret_borrow<py::object>(data);
    if (py::hasattr(o, "__array__")) return tensor_from(o.attr("__array__")().ptr(), dtype, device);
    TG_CHECK(!PyUnicode_Check(data) && !PyDict_Check(data) && PySequence_Check(data), TypeError,
             "tensor: cannot make a tensor from ", Py_TYPE(data)->tp_name);
    return tensor_from(checked(PySequence_List(data)).ptr(), dtype, device);
  }
  Tensor t = from_list(data, dtype);
  return device.is_cpu() ? t : copy_to(t, std::nullopt, device);
}

namespace {
std::optional<DType> optional_dtype(const char* function, const py::object& o) {
  return o.is_none() ? std::nullopt : std::optional(dtype_argument(function, "dtype", o));
}
std::optional<Device> optional_device(const char* function, const py::object& o) {
  return o.is_none() ? default_device() : std::optional(device_argument(function, "device", o));
}

// Shares memory where type and device allow it.
Tensor as_tensor(const py::object& data, const py::object& type, const py::object& place) {
  std::optional<DType> dtype = optional_dtype("as_tensor", type);
  std::optional<Device> device = optional_device("as_tensor", place);
  Tensor t;
  if (is_tensor(data.ptr()))
    t = unwrap(data.ptr());
  else if (is_numpy_array(data.ptr()))
    t = from_numpy(data.ptr(), false);
  else
    return tensor_from(data.ptr(), dtype, device.value_or(Device()));
  bool same = (!dtype || *dtype == t.dtype()) && (!device || *device == t.device());
  if (same) return t;
  static const OpDef &cast = find_op("cast"), &move = find_op("device_copy");
  if (dtype && *dtype != t.dtype()) t = run_op1(cast, {Value(t), Value(*dtype)});
  return device && *device != t.device() ? run_op1(move, {Value(t), Value(*device), Value(false)}) : t;
}
}  // namespace

void init_data(py::module_& m) {
  m.def(
      "tensor",
      [](const py::object& data, const py::object& dtype, const py::object& device, bool requires_grad, bool pinned) {
        Device own = is_tensor(data.ptr()) ? unwrap(data.ptr()).device() : Device();
        Tensor t =
            tensor_from(data.ptr(), optional_dtype("tensor", dtype), optional_device("tensor", device).value_or(own));
        if (pinned) t = unwrap(pin_memory(wrap_object(t)).ptr());
        if (requires_grad) t.set_requires_grad(true);
        return t;
      },
      py::arg("data"), py::kw_only(), py::arg("dtype") = py::none(), py::arg("device") = py::none(),
      py::arg("requires_grad") = false, py::arg("pin_memory") = false,
      "A new tensor with a copy of the data: numbers, nested lists, arrays, tensors (which stay on their device).");
  m.def("as_tensor", &as_tensor, py::arg("data"), py::arg("dtype") = py::none(), py::arg("device") = py::none(),
        "The data as a tensor, without a copy where possible.");
  m.def(
      "from_numpy", [](py::object a) { return from_numpy(a.ptr()); }, py::arg("array"),
      "A tensor over the array's memory; any strides. A read-only array is copied, with a warning.");
}

}  // namespace tg::python
