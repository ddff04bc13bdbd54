// Attributes and methods of Tensor that are no ops: geometry, type, conversion, copying and pickling.

#include <memory>

#include "backends/backend.h"
#include "backends/cuda.h"
#include "ops/ops.h"
#include "python/casters.h"

namespace tg::python {
namespace {

using Getter = PyObject* (*)(const Tensor&);

template <Getter get>
PyObject* getter(PyObject* o, void*) {
  return guarded([&] { return get(unwrap(o)); });
}

PyObject* get_T(const Tensor& t) {
  Dims dims;
  for (int i = t.ndim() - 1; i >= 0; --i) dims.push_back(i);
  static const OpDef& permute = find_op("permute");
  return wrap(run_op1(permute, {Value(t), Value(IntList(dims))}));
}
PyObject* get_mT(const Tensor& t) {
  TG_CHECK(t.ndim() >= 2, ShapeError, "mT: expected at least 2 dimensions; self=", describe(t));
  static const OpDef& transpose = find_op("transpose");
  return wrap(run_op1(transpose, {Value(t), Value(int64_t(-2)), Value(int64_t(-1))}));
}
PyObject* get_H(const Tensor& t) {
  TG_CHECK(t.ndim() == 2 || t.ndim() == 0, ShapeError, "H: expected 2 dimensions; self=", describe(t));
  return get_T(t);
}

PyGetSetDef kGeometry[] = {
    {"shape", getter<[](const Tensor& t) { return wrap_size(t.sizes()); }>, nullptr, "Sizes.", nullptr},
    {"dtype", getter<[](const Tensor& t) { return wrap_dtype(t.dtype()); }>, nullptr, "Element type.", nullptr},
    {"device", getter<[](const Tensor& t) { return wrap_device(t.device()); }>, nullptr, "Where the memory lives.",
     nullptr},
    {"ndim", getter<[](const Tensor& t) { return PyLong_FromLong(t.ndim()); }>, nullptr, "Number of dimensions.",
     nullptr},
    {"itemsize", getter<[](const Tensor& t) { return PyLong_FromLongLong(itemsize(t.dtype())); }>, nullptr,
     "Bytes of one element.", nullptr},
    {"nbytes", getter<[](const Tensor& t) { return PyLong_FromLongLong(itemsize(t.dtype()) * t.numel()); }>, nullptr,
     "Bytes of all elements.", nullptr},
    {"is_cuda", getter<[](const Tensor& t) { return wrap_bool(!t.device().is_cpu()); }>, nullptr,
     "True on a CUDA device.", nullptr},
    {"is_cpu", getter<[](const Tensor& t) { return wrap_bool(t.device().is_cpu()); }>, nullptr, "True on the CPU.",
     nullptr},
    {"_version", getter<[](const Tensor& t) { return PyLong_FromUnsignedLong(t.version()); }>, nullptr,
     "Counts in-place writes to the memory.", nullptr},
    {"T", getter<get_T>, nullptr, "All dimensions reversed.", nullptr},
    {"mT", getter<get_mT>, nullptr, "Last two dimensions swapped.", nullptr},
    {"H", getter<get_H>, nullptr, "A matrix transposed.", nullptr},
    {"mH", getter<get_mT>, nullptr, "Last two dimensions swapped.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

// ---- conversion

// self if it has the type, or is on the device, already
py::object convert_to(const py::object& self, DType dtype) {
  static const OpDef& op = find_op("to.dtype");
  return wrap_object(run_op1(op, {Value(unwrap(self.ptr())), Value(dtype), Value(false), Value(false)}));
}
Tensor moved_to(const Tensor& t, Device device, bool non_blocking = false) {
  static const OpDef& op = find_op("to.device");
  return run_op1(op, {Value(t), Value(device), Value(), Value(non_blocking), Value(false)});
}
py::object convert_to(const py::object& self, Device device, bool non_blocking = false) {
  return wrap_object(moved_to(unwrap(self.ptr()), device, non_blocking));
}
bool non_blocking_of(const py::kwargs& options) {
  return options.contains("non_blocking") && py::bool_(options["non_blocking"]);
}

struct PinnedBlock {
  explicit PinnedBlock(size_t n) : p(cuda::runtime().pinned_allocate(n)), bytes(n) {}
  PinnedBlock(const PinnedBlock&) = delete;
  PinnedBlock& operator=(const PinnedBlock&) = delete;
  ~PinnedBlock() {
    if (!cuda::forked()) cuda::runtime().pinned_free(p, bytes);
  }
  void* p;
  size_t bytes;
};

}  // namespace

py::object pin_memory(const py::object& self) {
  const Tensor& t = unwrap(self.ptr());
  if (!cuda::is_available() || t.numel() == 0) return self;
  TG_CHECK(t.device().is_cpu(), DeviceError,
           "pin_memory: only memory of the CPU can be page-locked; self=", describe(t));
  if (cuda::runtime().is_pinned(t.data())) return self;
  auto block = std::make_unique<PinnedBlock>(size_t(t.numel() * itemsize(t.dtype())));
  void* const memory = block->p;
  Tensor out = from_blob(memory, t.sizes(), contiguous_strides(t.sizes()), t.dtype(), Device(), block.release(),
                         [](void* b) { std::unique_ptr<PinnedBlock>(static_cast<PinnedBlock*>(b)); });
  static const OpDef& copy = find_op("copy_");
  run_op1(copy, {Value(out), Value(t)});  // gradients flow through it
  return wrap_object(out);
}

namespace {

constexpr const char* kTypeNames[] = {"BoolTensor", "ByteTensor", "CharTensor",     "ShortTensor", "IntTensor",
                                      "LongTensor", "HalfTensor", "BFloat16Tensor", "FloatTensor", "DoubleTensor"};

// The name PyTorch gives the type, its module included: programs compare with it.
std::string type_name(const Tensor& t) {
  return std::string(t.device().is_cpu() ? "torch." : "torch.cuda.") + kTypeNames[int(t.dtype())];
}

// The values as the type of a device: the one the tensor is on, else the current one.
py::object convert_to(const py::object& self, DType dtype, bool cuda) {
  py::object t = convert_to(self, dtype);
  if (unwrap(t.ptr()).device().is_cpu() != cuda) return t;
  return convert_to(t, cuda ? device_argument("type", "device", py::str("cuda")) : Device());
}

py::object type_method(py::object self, py::object dtype, const py::kwargs&) {
  const Tensor& t = unwrap(self.ptr());
  if (dtype.is_none()) return py::str(type_name(t));
  DType d;
  if (to_dtype(dtype.ptr(), d)) return convert_to(self, d);
  // the classes LongTensor, cuda.FloatTensor ...
  if (PyType_Check(dtype.ptr()) && py::hasattr(dtype, "dtype") && to_dtype(dtype.attr("dtype").ptr(), d))
    return convert_to(self, d, dtype.attr("is_cuda").cast<bool>());
  TG_CHECK(PyUnicode_Check(dtype.ptr()), TypeError, "type(): argument 'dtype' must be dtype or str, not ",
           Py_TYPE(dtype.ptr())->tp_name);
  const auto wanted = dtype.cast<std::string>();
  const size_t end = wanted.rfind('.') + 1;  // 0 without a module
  const std::string where = wanted.substr(0, end), what = wanted.substr(end);
  const bool cuda = where == "torch.cuda.";
  for (int i = 0; i < kNumDTypes; ++i)
    if ((cuda || where.empty() || where == "torch.") && what == kTypeNames[i]) return convert_to(self, DType(i), cuda);
  fail<ValueError>("type(): no tensor type named '", wanted, "'");
}

// One method per element type: float(), long() ...
void bind_casts(py::handle type) {
  static constexpr std::pair<const char*, DType> names[] = {
      {"float", DType::F32}, {"double", DType::F64}, {"half", DType::F16},  {"bfloat16", DType::BF16},
      {"int", DType::I32},   {"long", DType::I64},   {"short", DType::I16}, {"char", DType::I8},
      {"byte", DType::U8},   {"bool", DType::Bool}};
  for (auto [name, dtype] : names)
    type.attr(name) = py::cpp_function([dtype = dtype](py::object self, py::kwargs) { return convert_to(self, dtype); },
                                       py::name(name), py::is_method(type),
                                       "The values as this element type; self if it has it already.");
}

// ---- copying and pickling

py::bytes raw_bytes(const Tensor& t) {
  Tensor c = host_mirror(t);
  if (!c.is_contiguous()) {
    NoGrad guard;
    static const OpDef& contiguous = find_op("contiguous");
    c = run_op1(contiguous, {Value(c)});
  }
  return py::bytes(static_cast<const char*>(c.data()), size_t(c.numel() * itemsize(c.dtype())));
}

// Unpickles a tensor: element type, sizes and bytes, checked against each other.
Tensor from_bytes(DType dtype, const Dims& sizes, const py::bytes& data) {
  std::string_view bytes = data;
  Tensor t = empty_tensor(sizes, dtype);
  TG_CHECK(int64_t(bytes.size()) == t.numel() * itemsize(dtype), ValueError, "from_bytes: ", bytes.size(),
           " bytes do not fit ", describe(t));
  if (!bytes.empty()) std::memcpy(t.data(), bytes.data(), bytes.size());
  return t;
}

py::object rebuild_tensor(py::type type, DType dtype, const Dims& sizes, const py::bytes& data, bool requires_grad,
                          bool is_parameter, py::object state, Device device) {
  TG_CHECK(PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), tensor_type), TypeError,
           "Tensor: cannot unpickle a ", py::str(type).cast<std::string>());
  Tensor t = moved_to(from_bytes(dtype, sizes, data), device);
  t.impl()->is_parameter = is_parameter;
  if (requires_grad) t.set_requires_grad(true);
  auto o = py::reinterpret_steal<py::object>(wrap_as(reinterpret_cast<PyTypeObject*>(type.ptr()), t));
  if (!state.is_none()) o.attr("__dict__").attr("update")(state);
  return o;
}

py::object state_of(py::handle self) {
  PyObject* dict = reinterpret_cast<PyTensor*>(self.ptr())->dict;
  if (!dict || PyDict_GET_SIZE(dict) == 0) return py::none();
  return py::reinterpret_borrow<py::object>(dict);
}

py::tuple reduce_tensor(py::object self, py::object) {
  const Tensor& t = unwrap(self.ptr());
  TG_CHECK(t.is_leaf(), AutogradError, "pickle: only leaf tensors, use detach() first; self=", describe(t));
  auto make = py::module_::import("tinygrad_cpp._C").attr("_rebuild_tensor");
  return py::make_tuple(make, py::make_tuple(py::type::of(self), t.dtype(), py::cast(t.sizes()), raw_bytes(t),
                                             t.requires_grad(), t.impl()->is_parameter, state_of(self), t.device()));
}

// The values of a deep copy. Tensors that share memory share that of the copies too: one copy of each storage, which
// the memo knows by the address and the element type.
Tensor copied_values(const Tensor& t, py::dict& memo) {
  static const OpDef& clone = find_op("clone");
  const Ref<Storage>& storage = t.impl()->storage;
  if (t.impl()->is_parameter || storage->use_count() == 1) return run_op1(clone, {Value(t)});
  auto key = py::make_tuple("storage", reinterpret_cast<uintptr_t>(storage.get()), int(t.dtype()));
  if (!memo.contains(key)) {
    Tensor all = make_view(t, {int64_t(storage->nbytes) / int64_t(itemsize(t.dtype()))}, {1}, 0);
    memo[key] = wrap_object(run_op1(clone, {Value(all)}));
  }
  Tensor c = make_view(memo[key].cast<Tensor>(), t.sizes(), t.strides(), t.storage_offset());
  c.impl()->base.reset();
  return c;
}

py::object deep_copy(py::object self, py::dict memo) {
  auto key = py::int_(reinterpret_cast<uintptr_t>(self.ptr()));
  if (memo.contains(key)) return memo[key];
  const Tensor& t = unwrap(self.ptr());
  TG_CHECK(t.is_leaf(), AutogradError,
           "deepcopy: only tensors made by the user (leaves) can be copied, use detach().clone(); self=", describe(t));
  NoGrad guard;
  Tensor c = copied_values(t, memo);
  c.impl()->is_parameter = t.impl()->is_parameter;
  if (t.requires_grad()) c.set_requires_grad(true);
  auto o = py::reinterpret_steal<py::object>(wrap_as(Py_TYPE(self.ptr()), c));
  memo[key] = o;
  auto deepcopy = py::module_::import("copy").attr("deepcopy");
  if (Tensor g = t.grad(); g.defined()) c.set_grad(deepcopy(wrap_object(g), memo).cast<Tensor>());
  if (auto state = state_of(self); !state.is_none()) o.attr("__dict__").attr("update")(deepcopy(state, memo));
  return o;
}

py::object shallow_copy(py::object self) {
  const Tensor& t = unwrap(self.ptr());
  Tensor c = make_view(t, t.sizes(), t.strides(), t.storage_offset());
  c.impl()->base.reset();
  c.impl()->is_parameter = t.impl()->is_parameter;
  if (t.is_leaf() && t.requires_grad()) c.set_requires_grad(true);
  auto o = py::reinterpret_steal<py::object>(wrap_as(Py_TYPE(self.ptr()), c));
  if (auto state = state_of(self); !state.is_none()) o.attr("__dict__").attr("update")(state);
  return o;
}

py::str format(py::object self, const py::str& spec) {
  const Tensor& t = unwrap(self.ptr());
  // without a format Parameters, and classes of one's own, show their repr
  if (t.ndim() == 0 && (py::len(spec) > 0 || Py_TYPE(self.ptr()) == tensor_type))
    return py::str(checked(PyObject_Format(checked(wrap_scalar(t.item_scalar())).ptr(), spec.ptr())));
  TG_CHECK(py::len(spec) == 0, TypeError, "format: only a 0-d tensor takes a format; self=", describe(t));
  return py::str(self);
}

py::object sizes_of(const Tensor& t, const std::optional<int64_t>& dim) {
  if (dim) return py::int_(t.size(*dim));
  return checked(wrap_size(t.sizes()));
}

py::object strides_of(const Tensor& t, const std::optional<int64_t>& dim) {
  if (dim) return py::int_(t.stride(*dim));
  py::tuple s(size_t(t.ndim()));
  for (int i = 0; i < t.ndim(); ++i) s[size_t(i)] = t.strides()[i];
  return s;
}

void bind_geometry() {
  method("size", &sizes_of, py::arg("dim") = py::none(), "Sizes, or the size of one dimension.");
  method("stride", &strides_of, py::arg("dim") = py::none(), "Strides in elements, or that of one dimension.");
  method("dim", &Tensor::ndim, "Number of dimensions.");
  method("ndimension", &Tensor::ndim, "Number of dimensions.");
  for (const char* name : {"numel", "nelement"}) method(name, &Tensor::numel, "Number of elements.");
  method("element_size", [](const Tensor& t) { return itemsize(t.dtype()); }, "Bytes of one element.");
  method("data_ptr", [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data()); }, "Address of element 0.");
  method(
      "_storage",
      [](const Tensor& t) {
        const Storage& s = *t.impl()->storage;
        return py::make_tuple(reinterpret_cast<uintptr_t>(s.data), s.nbytes);
      },
      "Address and bytes of the memory that views of one tensor share.");
  method("storage_offset", &Tensor::storage_offset, "Elements before the first one in the storage.");
  method("is_contiguous", [](const Tensor& t, py::kwargs) { return t.is_contiguous(); }, "Row-major without gaps.");
  method("is_floating_point", [](const Tensor& t) { return is_float(t.dtype()); }, "True for floating-point types.");
  method("is_complex", [](const Tensor&) { return false; }, "False: there are no complex types.");
  method(
      "is_signed", [](const Tensor& t) { return t.dtype() != DType::Bool && t.dtype() != DType::U8; },
      "True if the type holds negative numbers.");
  method("is_inference", [](const Tensor& t) { return t.impl()->is_inference; }, "Made under inference_mode.");
  method(
      "is_pinned",
      [](const Tensor& t, py::object) {
        return t.device().is_cpu() && t.numel() > 0 && cuda::is_available() && cuda::plugin()->is_pinned(t.data());
      },
      py::arg("device") = py::none(),
      "Whether the memory is page-locked, so that copies from it run beside other work.");
  method(
      "get_device", [](const Tensor& t) { return t.device().is_cpu() ? -1 : int(t.device().index); },
      "Number of the CUDA device, -1 on the CPU.");
  method(
      "pin_memory", [](py::object self, py::object) { return pin_memory(self); }, py::arg("device") = py::none(),
      "A copy in page-locked memory, from which `to(device, non_blocking=True)` runs beside other work; the tensor "
      "itself "
      "if it lies there, or if there is no CUDA device.");
}

void bind_values() {
  method(
      "item", [](const Tensor& t) { return checked(wrap_scalar(t.item_scalar())); },
      "The value of a one-element tensor.");
  method("tolist", [](const Tensor& t) { return checked(to_list(t)); }, "The values as nested lists.");
  method(
      "numpy",
      [](const Tensor& t, bool force) {
        return checked(to_numpy(force && t.requires_grad() ? run_op1(find_op("detach"), {Value(t)}) : t));
      },
      py::kw_only(), py::arg("force") = false, "A NumPy array over the same memory.");
  method(
      "__array__",
      [](const Tensor& t, const py::object& dtype, const py::object& copy) {
        py::object a = checked(to_numpy(t));
        if (!dtype.is_none()) a = a.attr("astype")(dtype, py::arg("copy") = false);
        if (!copy.is_none() && copy.cast<bool>()) a = a.attr("copy")();
        return a;
      },
      py::arg("dtype") = py::none(), py::arg("copy") = py::none());
  method("__array_wrap__", [](py::object, py::object array, py::args) {
    if (!is_numpy_array(array.ptr())) array = py::module_::import("numpy").attr("asarray")(array);
    return from_numpy(array.ptr(), false);
  });
  py::handle(reinterpret_cast<PyObject*>(tensor_type)).attr("__array_priority__") = 1000;
  method("__format__", &format);
}

void bind_conversion() {
  method(
      "cpu", [](py::object self, py::kwargs) { return convert_to(self, Device()); },
      "On the CPU; the values have arrived when this returns.");
  method(
      "cuda",
      [](py::object self, py::object device, py::kwargs options) {
        Device d = device_argument("cuda", "device", device.is_none() ? py::str("cuda") : device);
        TG_CHECK(!d.is_cpu(), ValueError, "cuda: expected a cuda device, got ", d);
        return convert_to(self, d, non_blocking_of(options));
      },
      py::arg("device") = py::none(), "On a CUDA device, the current one unless told otherwise.");
  method("type", &type_method, py::arg("dtype") = py::none(), "Name of the type, or the values as another type.");
  method(
      "new_tensor",
      [](const Tensor& t, py::object data, std::optional<DType> dtype, std::optional<Device> device, bool grad) {
        Tensor r = tensor_from(data.ptr(), dtype ? dtype : std::optional(t.dtype()), device.value_or(t.device()));
        if (grad) r.set_requires_grad(true);
        return r;
      },
      py::arg("data"), py::kw_only(), py::arg("dtype") = py::none(), py::arg("device") = py::none(),
      py::arg("requires_grad") = false, "A copy of the data with this tensor's element type.");
  bind_casts(reinterpret_cast<PyObject*>(tensor_type));
}

void bind_copying(py::module_& m) {
  method("__reduce_ex__", &reduce_tensor);
  method("__deepcopy__", &deep_copy);
  method("__copy__", &shallow_copy);
  m.def("_rebuild_tensor", &rebuild_tensor);
  m.def("_tensor_bytes", &raw_bytes, "The values in row-major order.");
  m.def("_tensor_from_bytes", &from_bytes);
}

}  // namespace

void init_attributes(py::module_& m) {
  for (PyGetSetDef* g = kGeometry; g->name; ++g) {
    PyObject* d = PyDescr_NewGetSet(tensor_type, g);
    if (!d) throw_python_error();
    py::handle(reinterpret_cast<PyObject*>(tensor_type)).attr(g->name) = py::reinterpret_steal<py::object>(d);
  }
  bind_geometry();
  bind_values();
  bind_conversion();
  bind_copying(m);
  m.def("is_tensor", [](py::object o) { return is_tensor(o.ptr()); }, py::arg("obj"), "Whether obj is a Tensor.");
  m.def("is_floating_point", on_tensor(+[](const Tensor& t) { return is_float(t.dtype()); }), py::arg("input"),
        "Whether the element type is a floating-point one.");
  m.def("numel", on_tensor(+[](const Tensor& t) { return t.numel(); }), py::arg("input"), "Number of elements.");
}

}  // namespace tg::python
