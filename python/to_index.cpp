// Index expressions: what stands between the brackets of x[...].
#include "python/bindings.h"

namespace tg::python {
namespace {

std::optional<int64_t> slice_end(PyObject* o) {
  if (o == Py_None) return std::nullopt;
  int64_t i;
  // beyond 64 bits means "to the end", as for lists
  if (PyLong_Check(o)) {
    int overflow = 0;
    long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow) return overflow > 0 ? INT64_MAX : INT64_MIN;
    if (v == -1 && PyErr_Occurred()) throw_python_error();
    return v;
  }
  TG_CHECK(to_int(o, i), TypeError, "index: slice bounds must be int or None, not ", Py_TYPE(o)->tp_name);
  return i;
}

IndexItem slice_item(PyObject* o) {
  auto* s = reinterpret_cast<PySliceObject*>(o);
  return IndexItem(Slice{slice_end(s->start), slice_end(s->stop), slice_end(s->step)});
}

IndexItem item(PyObject* o) {
  int64_t i;
  if (PyBool_Check(o)) return IndexItem(o == Py_True);
  if (PyLong_Check(o)) {
    to_int(o, i);
    return IndexItem(i);
  }
  if (PySlice_Check(o)) return slice_item(o);
  if (o == Py_None) return IndexItem(std::nullopt);
  if (o == Py_Ellipsis) return IndexItem::ellipsis();
  if (is_tensor(o)) {
    const Tensor& t = unwrap(o);
    TG_CHECK(!is_float(t.dtype()), IndexError,
             "index: tensors used as indices must be integer or bool; index=", describe(t));
    return IndexItem(t);
  }
  if (is_numpy_array(o) || PyList_Check(o) || PyTuple_Check(o) || PyRange_Check(o)) {
    py::object list = PyRange_Check(o) ? checked(PySequence_List(o)) : py::reinterpret_borrow<py::object>(o);
    bool empty = PyList_Check(list.ptr()) && PyList_GET_SIZE(list.ptr()) == 0;
    Tensor t = tensor_from(list.ptr(), empty ? std::optional(DType::I64) : std::nullopt, Device());
    TG_CHECK(!is_float(t.dtype()), IndexError,
             "index: lists used as indices must hold int or bool; index=", describe(t));
    return IndexItem(t);
  }
  Scalar s = 0;
  if (is_numpy_scalar(o) && to_scalar(o, s) && s.kind() == Scalar::Kind::Bool) return IndexItem(s.b());
  if (to_int(o, i)) return IndexItem(i);
  fail<TypeError>("index: only int, slice, None, Ellipsis, bool, tensors and lists can index a tensor, not ",
                  Py_TYPE(o)->tp_name);
}

}  // namespace

std::vector<IndexItem> to_index(PyObject* key) {
  std::vector<IndexItem> items;
  if (PyTuple_Check(key)) {
    items.reserve(size_t(PyTuple_GET_SIZE(key)));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i) items.push_back(item(PyTuple_GET_ITEM(key, i)));
  } else {
    items.push_back(item(key));
  }
  return items;
}

}  // namespace tg::python
