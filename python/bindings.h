// What the files of the extension module share: the Tensor object, conversions, errors.
#pragma once
#include <pybind11/pybind11.h>

#include "autograd/autograd.h"
#include "core/op.h"

namespace py = pybind11;

// nn/ and optim/ bindings live in files of their own.
void bind_nn(py::module_& m);
void bind_optim(py::module_& m);

namespace tg::python {

// ---- objects

struct PyTensor {
  PyObject_HEAD Tensor t;
  PyObject* dict;
  PyObject* weakrefs;
};
struct PyDType {
  PyObject_HEAD DType value;
};
struct PyDevice {
  PyObject_HEAD Device value;
  bool has_index;
};

// Made once by the init functions below, alive as long as the process.
extern PyTypeObject *tensor_type, *parameter_type, *dtype_type, *device_type, *size_type;

inline bool is_tensor(PyObject* o) {
  PyTypeObject* t = Py_TYPE(o);
  return t == tensor_type || t == parameter_type || PyType_IsSubtype(t, tensor_type);
}
inline bool is_dtype(PyObject* o) { return Py_TYPE(o) == dtype_type; }
inline bool is_device(PyObject* o) { return Py_TYPE(o) == device_type; }

// The tensor of a wrapper; TypeError for another object. If the wrapper was reached by a weak reference while C++ owned
// it, ownership goes back to Python first.
void reclaim(PyTensor* self);
inline const Tensor& unwrap(PyObject* o) {
  if (TG_UNLIKELY(!is_tensor(o))) fail<TypeError>("expected a Tensor, not ", Py_TYPE(o)->tp_name);
  auto* self = reinterpret_cast<PyTensor*>(o);
  if (TG_UNLIKELY(self->t.impl()->owns_py)) reclaim(self);
  return self->t;
}
// The one Python object of a tensor; a new reference. None for an undefined tensor.
PyObject* wrap(Tensor t);
// Same, as an instance of a Python subclass of Tensor: `t` must have no wrapper yet.
PyObject* wrap_as(PyTypeObject* type, Tensor t);
inline py::object wrap_object(Tensor t) { return py::reinterpret_steal<py::object>(wrap(std::move(t))); }

PyObject* wrap_dtype(DType t);
PyObject* wrap_device(Device d);
PyObject* wrap_size(IntList sizes);
PyObject* wrap_scalar(const Scalar& s);
inline PyObject* wrap_bool(bool b) { return Py_NewRef(b ? Py_True : Py_False); }

// ---- conversions of plain values; false with no Python error set when the object is of another kind

bool to_dtype(PyObject* o, DType& out);    // dtype objects and the types float, int, bool
bool to_device(PyObject* o, Device& out);  // device objects, strings, numbers of CUDA devices
// What `with device(...):` or set_default_device() chose in this thread.
std::optional<Device> default_device();
bool to_int(PyObject* o, int64_t& out);    // int (not bool), __index__, 0-d integer tensors; ValueError on overflow
bool to_float(PyObject* o, double& out);   // numbers, NumPy scalars, 0-d tensors
bool to_scalar(PyObject* o, Scalar& out);  // numbers and NumPy scalars, not tensors
bool to_ints(PyObject* o, std::vector<int64_t>& out);
// Element type and shape of a NumPy scalar or array.
bool is_numpy_array(PyObject* o);
bool is_numpy_scalar(PyObject* o);

// x[...]: entries of an index expression, as a tuple or a single object.
std::vector<IndexItem> to_index(PyObject* key);

// ---- data in and out

// tg.tensor: copies nested lists, numbers, arrays, tensors.
Tensor tensor_from(PyObject* data, std::optional<DType> dtype, Device device);
// The tensor, or a copy of it, in page-locked memory; itself where there is no CUDA device.
py::object pin_memory(const py::object& self);
// Shares the array's memory (which stays alive), negative strides included.
Tensor from_numpy(PyObject* array, bool warn_read_only = true);
PyObject* to_numpy(const Tensor& t);
PyObject* to_list(const Tensor& t);

// ---- errors

// Sets the Python error for the C++ exception being handled.
void set_python_error() noexcept;
// Runs f() and turns C++ exceptions into Python errors.
template <class F>
auto guarded(F&& f) noexcept -> decltype(f()) {
  using R = decltype(f());
  try {
    return f();
  } catch (...) {
    set_python_error();
    if constexpr (std::is_pointer_v<R>)
      return nullptr;
    else
      return R(-1);
  }
}
// Passes on the Python error that a failed call has set.
[[noreturn]] inline void throw_python_error() { throw py::error_already_set(); }
inline py::object checked(PyObject* new_ref) {
  if (!new_ref) throw_python_error();
  return py::reinterpret_steal<py::object>(new_ref);
}

// ---- ops

// Calls an op with Python arguments (vectorcall layout).
PyObject* call_op(const OpDef& op, PyObject* const* args, size_t n, PyObject* kwnames);
// Runs an op on C++ values, without the interpreter lock when the tensors are large.
void run_op(const OpDef& op, Args args, Outputs& out);
inline Tensor run_op1(const OpDef& op, std::initializer_list<Value> args) {
  Outputs out;
  run_op(op, {args.begin(), int(args.size())}, out);
  return std::move(out[0]);
}
// Elements above which an op gives up the interpreter lock while it runs.
inline constexpr int64_t kReleaseGil = 32768;

// Type slots behind +, ==, [], len() and the like.
std::vector<PyType_Slot> operator_slots();

// ---- parts of the module, in order of initialisation

void init_errors(py::module_& m);
void init_dtype_device(py::module_& m);
void init_tensor_type(py::module_& m);
void init_ops(py::module_& m);         // functions and methods of the op table
void init_attributes(py::module_& m);  // attributes and methods that are no ops
void init_data(py::module_& m);        // tensor(), NumPy, lists
void init_dlpack(py::module_& m);
void init_autograd(py::module_& m);
void init_io(py::module_& m);
void init_kernels(py::module_& m);  // tg.cuda.RawKernel
void init_amp(py::module_& m);      // mixed precision
void init_runtime(py::module_& m);  // threads, memory, generators, modes, print options
void init_testing(py::module_& m);  // switches for the project's own tests
void init_cuda(py::module_& m);     // devices, streams and events of CUDA; libraries of the vendor

}  // namespace tg::python
