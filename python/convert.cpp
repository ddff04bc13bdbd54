// Numbers and lists from Python objects. Fast for Python's own types; NumPy's and everything with __index__ or
// __float__ after that.
#include "python/bindings.h"

namespace tg::python {
namespace {

// numpy.<name> if NumPy is imported in this process, else null: an object cannot be NumPy's before that.
PyObject* numpy_type(const char* name) {
  PyObject* modules = PyImport_GetModuleDict();
  PyObject* np = modules ? PyDict_GetItemString(modules, "numpy") : nullptr;
  return np ? PyObject_GetAttrString(np, name) : nullptr;
}

// isinstance(o, numpy.<name>), the type being looked up once.
bool is_numpy(PyObject* o, const char* name, PyObject*& type) {
  PyTypeObject* t = Py_TYPE(o);
  if (t == &PyLong_Type || t == &PyFloat_Type || t == &PyList_Type || t == &PyTuple_Type || t == &PyUnicode_Type)
    return false;
  if (!type) {
    type = numpy_type(name);
    if (!type) {
      PyErr_Clear();
      return false;
    }
  }
  return PyObject_TypeCheck(o, reinterpret_cast<PyTypeObject*>(type));
}

bool is_numpy_bool(PyObject* o) {
  static PyObject* type = nullptr;
  return is_numpy(o, "bool_", type);
}

int64_t long_value(PyObject* o) {
  int overflow = 0;
  long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (overflow) {
    PyObject* r = PyObject_Str(o);
    std::string text = r ? PyUnicode_AsUTF8(r) : "the number";
    Py_XDECREF(r);
    PyErr_Clear();
    fail<ValueError>(text.substr(0, 60), " does not fit into a 64-bit integer");
  }
  if (v == -1 && PyErr_Occurred()) throw_python_error();
  return v;
}

bool is_zero_dim(PyObject* o) { return is_tensor(o) && unwrap(o).ndim() == 0 && !unwrap(o).requires_grad(); }

}  // namespace

bool is_numpy_array(PyObject* o) {
  static PyObject* type = nullptr;
  return is_numpy(o, "ndarray", type);
}

bool is_numpy_scalar(PyObject* o) {
  static PyObject* type = nullptr;
  return is_numpy(o, "generic", type);
}

bool to_int(PyObject* o, int64_t& out) {
  if (PyBool_Check(o)) return false;
  if (PyLong_Check(o)) {
    out = long_value(o);
    return true;
  }
  if (is_tensor(o)) {
    if (!is_zero_dim(o) || !is_int(unwrap(o).dtype())) return false;
    out = unwrap(o).item_scalar().i();
    return true;
  }
  if (!PyIndex_Check(o) || is_numpy_array(o) || is_numpy_bool(o)) return false;
  PyObject* i = PyNumber_Index(o);
  if (!i) {
    PyErr_Clear();
    return false;
  }
  py::object hold = py::reinterpret_steal<py::object>(i);
  out = long_value(i);
  return true;
}

bool to_float(PyObject* o, double& out) {
  if (PyFloat_Check(o)) {
    out = PyFloat_AS_DOUBLE(o);
    return true;
  }
  Scalar s = 0;
  if (is_tensor(o) ? !is_zero_dim(o) : !to_scalar(o, s)) return false;
  out = is_tensor(o) ? unwrap(o).item_scalar().d() : s.d();
  return true;
}

bool to_scalar(PyObject* o, Scalar& out) {
  if (PyFloat_Check(o)) {
    out = PyFloat_AS_DOUBLE(o);
  } else if (PyBool_Check(o)) {
    out = o == Py_True;
  } else if (PyLong_Check(o)) {
    out = long_value(o);
  } else if (is_tensor(o)) {
    return false;
  } else if (is_numpy_bool(o)) {
    out = PyObject_IsTrue(o) == 1;
  } else if (is_numpy_array(o)) {
    return false;
  } else if (PyIndex_Check(o)) {
    int64_t i;
    if (!to_int(o, i)) return false;
    out = i;
  } else if (is_numpy_scalar(o)) {
    double d = PyFloat_AsDouble(o);
    if (d == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    out = d;
  } else {
    return false;
  }
  return true;
}

bool to_ints(PyObject* o, std::vector<int64_t>& out) {
  int64_t i;
  if (PyTuple_Check(o) || PyList_Check(o)) {
    Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    out.reserve(size_t(n));
    for (Py_ssize_t k = 0; k < n && k < PySequence_Fast_GET_SIZE(o); ++k) {
      if (!to_int(PySequence_Fast_GET_ITEM(o, k), i)) return false;
      out.push_back(i);
    }
    return true;
  }
  if (to_int(o, i)) {
    out.push_back(i);
    return true;
  }
  // ranges, 1-d arrays and tensors of integers
  if (PyUnicode_Check(o) || PyBytes_Check(o) || PyDict_Check(o) || !PySequence_Check(o)) return false;
  PyObject* list = PySequence_List(o);
  if (!list) {
    PyErr_Clear();
    return false;
  }
  py::object hold = py::reinterpret_steal<py::object>(list);
  return to_ints(list, out);
}

PyObject* wrap_scalar(const Scalar& s) {
  if (s.is_float()) return PyFloat_FromDouble(s.d());
  if (s.kind() == Scalar::Kind::Bool) return wrap_bool(s.b());
  return PyLong_FromLongLong(s.i());
}

}  // namespace tg::python
