// The objects dtype, device and Size.
#include <pybind11/stl.h>

#include "backends/cuda.h"
#include "core/allocator.h"
#include "ops/pointwise.h"
#include "python/casters.h"

namespace tg::python {

PyTypeObject *dtype_type = nullptr, *device_type = nullptr, *size_type = nullptr;

namespace {

PyObject* dtype_objects[kNumDTypes];

DType value_of(PyObject* o) { return reinterpret_cast<PyDType*>(o)->value; }
PyDevice* device_of(PyObject* o) { return reinterpret_cast<PyDevice*>(o); }

PyTypeObject* make_type(PyType_Spec spec, PyObject* base = nullptr) {
  PyObject* t = base ? PyType_FromSpecWithBases(&spec, base) : PyType_FromSpec(&spec);
  if (!t) throw_python_error();
  return reinterpret_cast<PyTypeObject*>(t);
}

// ---- dtype

PyObject* dtype_repr(PyObject* o) { return PyUnicode_FromFormat("tinygrad_cpp.%s", name(value_of(o))); }
// Pickled by name: there is one object per type.
PyObject* dtype_reduce(PyObject* o, PyObject*) { return PyUnicode_FromString(name(value_of(o))); }

PyTypeObject* make_dtype_type() {
  static PyGetSetDef getset[] = {
      {"is_floating_point", [](PyObject* o, void*) { return wrap_bool(is_float(value_of(o))); }, nullptr,
       "True for float16, bfloat16, float32 and float64.", nullptr},
      {"is_complex", [](PyObject*, void*) { return wrap_bool(false); }, nullptr, "False: there are none.", nullptr},
      {"is_signed",
       [](PyObject* o, void*) { return wrap_bool(value_of(o) != DType::Bool && value_of(o) != DType::U8); }, nullptr,
       "True if the type holds negative numbers.", nullptr},
      {"itemsize", [](PyObject* o, void*) { return PyLong_FromLongLong(itemsize(value_of(o))); }, nullptr,
       "Bytes of one element.", nullptr},
      {"name", [](PyObject* o, void*) { return PyUnicode_FromString(name(value_of(o))); }, nullptr,
       "The type's name, such as 'float32'.", nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr},
  };
  static PyMethodDef methods[] = {
      {"__reduce__", dtype_reduce, METH_NOARGS, nullptr},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("Element type of a tensor.")},
      {Py_tp_repr, reinterpret_cast<void*>(dtype_repr)},
      {Py_tp_getset, getset},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  return make_type(
      {"tinygrad_cpp.dtype", sizeof(PyDType), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots});
}

// ---- device

PyObject* new_device(PyTypeObject* type, Device d, bool has_index) {
  PyObject* o = type->tp_alloc(type, 0);
  if (!o) throw_python_error();
  new (&device_of(o)->value) Device(d);
  device_of(o)->has_index = has_index;
  return o;
}

// A device as it is written; false if the object is none.
bool read_device(PyObject* o, Device& out, bool& has_index) {
  if (is_device(o)) {
    out = device_of(o)->value;
    has_index = device_of(o)->has_index;
    return true;
  }
  if (PyLong_Check(o) && !PyBool_Check(o)) {  // the number of a CUDA device
    int64_t i;
    TG_CHECK(to_int(o, i) && i >= 0 && i < 1024, ValueError, "device: index must be in [0, 1024)");
    out = Device(DeviceType::CUDA, int(i));
    has_index = true;
    return true;
  }
  if (!PyUnicode_Check(o)) return false;
  Py_ssize_t n;
  const char* s = PyUnicode_AsUTF8AndSize(o, &n);
  if (!s) throw_python_error();
  std::string_view text(s, size_t(n));
  out = Device(text);
  has_index = text.find(':') != text.npos;
  return true;
}

PyObject* device_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"type", "index", nullptr};
    PyObject *kind, *index = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:device", const_cast<char**>(names), &kind, &index))
      throw_python_error();
    Device d;
    bool has_index;
    TG_CHECK(read_device(kind, d, has_index), TypeError, "device(): argument 'type' must be str or device, not ",
             Py_TYPE(kind)->tp_name);
    if (index != Py_None) {
      int64_t i;
      TG_CHECK(to_int(index, i), TypeError, "device(): argument 'index' must be int, not ", Py_TYPE(index)->tp_name);
      TG_CHECK(i >= 0 && i < 1024, ValueError, "device(): index must be in [0, 1024), got ", i);
      d.index = int16_t(i);
      has_index = true;
    }
    return new_device(type, d, has_index);
  });
}

const char* type_name(Device d) { return d.is_cpu() ? "cpu" : "cuda"; }

PyObject* device_repr(PyObject* o) {
  const PyDevice* d = device_of(o);
  if (!d->has_index) return PyUnicode_FromFormat("device(type='%s')", type_name(d->value));
  return PyUnicode_FromFormat("device(type='%s', index=%d)", type_name(d->value), int(d->value.index));
}
PyObject* device_str(PyObject* o) {
  const PyDevice* d = device_of(o);
  if (!d->has_index) return PyUnicode_FromString(type_name(d->value));
  return PyUnicode_FromFormat("%s:%d", type_name(d->value), int(d->value.index));
}
Py_hash_t device_hash(PyObject* o) {
  return Py_hash_t(int(device_of(o)->value.type) * 4099 + device_of(o)->value.index + 7);
}
PyObject* device_compare(PyObject* a, PyObject* b, int op) {
  if (!is_device(b) || (op != Py_EQ && op != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  return wrap_bool((device_of(a)->value == device_of(b)->value) == (op == Py_EQ));
}
PyObject* device_reduce(PyObject* o, PyObject*) {
  return Py_BuildValue("(O(N))", reinterpret_cast<PyObject*>(Py_TYPE(o)), device_str(o));
}

// ---- where tensors are made without being told otherwise

struct Place {
  Device device;
  bool has_index;
};
thread_local std::optional<Place> chosen_place;
thread_local std::vector<std::optional<Place>> outer_places;  // of the with blocks around

// "cuda" is the device that is current when it is used.
Device resolved(Device d, bool has_index) {
  if (d.is_cpu() || has_index) return d;
  cuda::Runtime* r = cuda::device_count() > 0 ? cuda::plugin() : nullptr;
  return r ? Device(DeviceType::CUDA, r->current_device()) : d;
}
Place available_place(PyObject* o) {
  Device d = device_of(o)->value;
  bool has_index = device_of(o)->has_index;
  allocator(resolved(d, has_index));  // DeviceError if there is no such device
  return {d, has_index};
}

PyObject* device_enter(PyObject* o, PyObject*) {
  return guarded([&]() -> PyObject* {
    Place inner = available_place(o);
    outer_places.push_back(chosen_place);
    chosen_place = inner;
    return Py_NewRef(o);
  });
}
PyObject* device_exit(PyObject*, PyObject*) {
  if (!outer_places.empty()) {
    chosen_place = outer_places.back();
    outer_places.pop_back();
  }
  Py_RETURN_NONE;
}

PyTypeObject* make_device_type() {
  static PyGetSetDef getset[] = {
      {"type", [](PyObject* o, void*) { return PyUnicode_FromString(type_name(device_of(o)->value)); }, nullptr,
       "'cpu' or 'cuda'.", nullptr},
      {"index",
       [](PyObject* o, void*) {
         return device_of(o)->has_index ? PyLong_FromLong(device_of(o)->value.index) : Py_NewRef(Py_None);
       },
       nullptr, "Number of the device, None for the current one.", nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr},
  };
  static PyMethodDef methods[] = {
      {"__reduce__", device_reduce, METH_NOARGS, nullptr},
      {"__enter__", device_enter, METH_NOARGS, nullptr},
      {"__exit__", device_exit, METH_VARARGS, nullptr},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot slots[] = {
      {Py_tp_doc,
       const_cast<char*>("device(type, index=None)\n\nWhere a tensor's memory lives: 'cpu', 'cuda', 'cuda:1'.")},
      {Py_tp_new, reinterpret_cast<void*>(device_new)},
      {Py_tp_repr, reinterpret_cast<void*>(device_repr)},
      {Py_tp_str, reinterpret_cast<void*>(device_str)},
      {Py_tp_hash, reinterpret_cast<void*>(device_hash)},
      {Py_tp_richcompare, reinterpret_cast<void*>(device_compare)},
      {Py_tp_getset, getset},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  return make_type({"tinygrad_cpp.device", sizeof(PyDevice), 0, Py_TPFLAGS_DEFAULT, slots});
}

// ---- Size

PyObject* size_from_tuple(PyObject* tuple) {
  Py_ssize_t n = PyTuple_GET_SIZE(tuple);
  PyObject* s = size_type->tp_alloc(size_type, n);
  if (!s) return nullptr;
  for (Py_ssize_t i = 0; i < n; ++i) PyTuple_SET_ITEM(s, i, Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
  return s;
}
// Slices and sums of sizes are sizes again.
PyObject* as_size(PyObject* o) {
  if (!o || !PyTuple_CheckExact(o)) return o;
  PyObject* s = size_from_tuple(o);
  Py_DECREF(o);
  return s;
}
PyObject* size_subscript(PyObject* o, PyObject* key) {
  return as_size(PyTuple_Type.tp_as_mapping->mp_subscript(o, key));
}
PyObject* size_concat(PyObject* a, PyObject* b) { return as_size(PyTuple_Type.tp_as_sequence->sq_concat(a, b)); }
PyObject* size_repr(PyObject* o) {
  std::string s = "tinygrad_cpp.Size([";
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); ++i) {
    PyObject* r = PyObject_Repr(PyTuple_GET_ITEM(o, i));
    if (!r) return nullptr;
    s += std::string(i ? ", " : "") + PyUnicode_AsUTF8(r);
    Py_DECREF(r);
  }
  return PyUnicode_FromString((s + "])").c_str());
}
PyObject* size_numel(PyObject* o, PyObject*) {
  return guarded([&]() -> PyObject* {
    std::vector<int64_t> v;
    TG_CHECK(to_ints(o, v), TypeError, "numel(): the size holds something that is no int");
    return PyLong_FromLongLong(numel_of(v, "numel"));
  });
}
PyObject* size_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    PyObject* o = PyTuple_Type.tp_new(type, args, kwargs);
    if (!o) throw_python_error();
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); ++i) {
      if (PyLong_Check(PyTuple_GET_ITEM(o, i))) continue;
      std::string given = Py_TYPE(PyTuple_GET_ITEM(o, i))->tp_name;
      Py_DECREF(o);
      fail<TypeError>("Size(): element ", i, " must be int, not ", given);
    }
    return o;
  });
}
PyObject* size_reduce(PyObject* o, PyObject*) {
  return Py_BuildValue("(O(N))", reinterpret_cast<PyObject*>(size_type), PySequence_List(o));
}

PyTypeObject* make_size_type() {
  static PyMethodDef methods[] = {
      {"numel", size_numel, METH_NOARGS, "Product of the sizes."},
      {"__reduce__", size_reduce, METH_NOARGS, nullptr},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("Sizes of a tensor: a tuple of ints.")},
      {Py_tp_new, reinterpret_cast<void*>(size_new)},
      {Py_tp_repr, reinterpret_cast<void*>(size_repr)},
      {Py_mp_subscript, reinterpret_cast<void*>(size_subscript)},
      {Py_sq_concat, reinterpret_cast<void*>(size_concat)},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  return make_type({"tinygrad_cpp.Size", 0, 0, Py_TPFLAGS_DEFAULT, slots}, reinterpret_cast<PyObject*>(&PyTuple_Type));
}

}  // namespace

PyObject* wrap_dtype(DType t) { return Py_NewRef(dtype_objects[int(t)]); }

PyObject* wrap_device(Device d) {
  static PyObject* cpu = new_device(device_type, Device(), false);
  return d.is_cpu() ? Py_NewRef(cpu) : new_device(device_type, d, true);
}

PyObject* wrap_size(IntList sizes) {
  PyObject* s = size_type->tp_alloc(size_type, sizes.size());
  if (!s) throw_python_error();
  for (int64_t i = 0; i < sizes.size(); ++i) {
    PyObject* n = PyLong_FromLongLong(sizes[i]);
    if (!n) {
      Py_DECREF(s);
      throw_python_error();
    }
    PyTuple_SET_ITEM(s, i, n);
  }
  return s;
}

bool to_dtype(PyObject* o, DType& out) {
  if (is_dtype(o))
    out = value_of(o);
  else if (o == reinterpret_cast<PyObject*>(&PyFloat_Type))
    out = DType::F64;
  else if (o == reinterpret_cast<PyObject*>(&PyLong_Type))
    out = DType::I64;
  else if (o == reinterpret_cast<PyObject*>(&PyBool_Type))
    out = DType::Bool;
  else
    return false;
  return true;
}

DType dtype_argument(const char* function, const char* argument, const py::object& o) {
  DType t;
  TG_CHECK(to_dtype(o.ptr(), t), TypeError, function, "(): argument '", argument, "' must be dtype, not ",
           Py_TYPE(o.ptr())->tp_name);
  return t;
}

Device device_argument(const char* function, const char* argument, const py::object& o) {
  Device d;
  TG_CHECK(to_device(o.ptr(), d), TypeError, function, "(): argument '", argument, "' must be device or str, not ",
           Py_TYPE(o.ptr())->tp_name);
  return d;
}

bool to_device(PyObject* o, Device& out) {
  bool has_index;
  if (!read_device(o, out, has_index)) return false;
  out = resolved(out, has_index);
  return true;
}

std::optional<Device> default_device() {
  if (TG_LIKELY(!chosen_place)) return std::nullopt;
  return resolved(chosen_place->device, chosen_place->has_index);
}

void init_dtype_device(py::module_& m) {
  dtype_type = make_dtype_type();
  device_type = make_device_type();
  size_type = make_size_type();
  m.attr("dtype") = py::handle(reinterpret_cast<PyObject*>(dtype_type));
  m.attr("device") = py::handle(reinterpret_cast<PyObject*>(device_type));
  m.attr("Size") = py::handle(reinterpret_cast<PyObject*>(size_type));
  for (int i = 0; i < kNumDTypes; ++i) {
    PyObject* o = dtype_type->tp_alloc(dtype_type, 0);
    if (!o) throw_python_error();
    reinterpret_cast<PyDType*>(o)->value = DType(i);
    dtype_objects[i] = o;
    m.attr(name(DType(i))) = py::handle(o);
  }
  for (auto [alias, t] : {std::pair{"half", DType::F16},
                          {"float", DType::F32},
                          {"double", DType::F64},
                          {"short", DType::I16},
                          {"int", DType::I32},
                          {"long", DType::I64}})
    m.attr(alias) = py::handle(dtype_objects[int(t)]);
  m.def(
      "promote_types",
      [](const py::object& a, const py::object& b) {
        DType first = dtype_argument("promote_types", "type1", a);
        return promote(first, dtype_argument("promote_types", "type2", b));
      },
      py::arg("type1"), py::arg("type2"), "The smallest type that both convert to.");
  m.def(
      "can_cast",
      [](const py::object& a, const py::object& b) {
        DType first = dtype_argument("can_cast", "from_", a);
        return can_cast(first, dtype_argument("can_cast", "to", b));
      },
      py::arg("from_"), py::arg("to"), "Whether a conversion stays in or above its category.");
  m.def(
      "result_type",
      [](const py::object& a, const py::object& b) {
        Value v[2];
        Scalar numbers[2] = {0, 0};
        for (int i = 0; i < 2; ++i) {
          PyObject* o = (i ? b : a).ptr();
          TG_CHECK(is_tensor(o) || to_scalar(o, numbers[i]), TypeError, "result_type(): argument 'tensor", i + 1,
                   "' must be Tensor or number, not ", Py_TYPE(o)->tp_name);
          v[i] = is_tensor(o) ? Value(unwrap(o)) : Value(numbers[i]);
        }
        return promoted_dtype({v, 2});
      },
      py::arg("tensor1"), py::arg("tensor2"), "The type that an operation on the two gives.");
  m.def("get_default_dtype", &default_dtype, "The type of floating-point literals.");
  m.def(
      "set_default_dtype",
      [](const py::object& d) {
        DType t = dtype_argument("set_default_dtype", "d", d);
        TG_CHECK(is_float(t), TypeError, "set_default_dtype: only floating-point types, got ", name(t));
        set_default_dtype(t);
      },
      py::arg("d"), "Sets the type of floating-point literals.");
  m.def(
      "get_default_device", [] { return default_device().value_or(Device()); },
      "Where this thread makes tensors without being told otherwise.");
  m.def(
      "set_default_device",
      [](const py::object& d) {
        if (d.is_none()) return chosen_place.reset();
        chosen_place = available_place(py::handle(reinterpret_cast<PyObject*>(device_type))(d).ptr());
      },
      py::arg("device"),
      "Sets where this thread makes tensors without being told otherwise; None is the CPU. DeviceError if there is no "
      "such device.");
}

}  // namespace tg::python
