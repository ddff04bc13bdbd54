// DLPack, the exchange of tensors between libraries without copying: https://dmlc.github.io/dlpack/latest/
#include "backends/cuda.h"
#include "ops/ops.h"
#include "python/casters.h"

namespace tg::python {
namespace {

// The structures of the specification, version 1.0 (and the unversioned form before it).
struct DLDevice {
  int32_t type;
  int32_t id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};
constexpr int32_t kCpu = 1, kCuda = 2, kCudaHost = 3;
constexpr uint64_t kReadOnly = 1, kCopied = 2;
enum Code : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4, kBool = 6 };

DLDevice dl_device_of(Device d) { return {d.is_cpu() ? kCpu : kCuda, d.index}; }

// The CUDA stream that the protocol's number stands for: 1 is the default one.
cuda::StreamHandle stream_of(int64_t number) {
  return number == 1 ? nullptr : reinterpret_cast<cuda::StreamHandle>(uintptr_t(number));
}
int64_t number_of(cuda::StreamHandle s) { return s ? int64_t(reinterpret_cast<uintptr_t>(s)) : 1; }

// The consumer's stream waits for what this thread's current stream has queued.
void make_wait(int device, cuda::StreamHandle consumer) {
  cuda::Runtime& r = cuda::runtime();
  cuda::StreamHandle own = r.current_stream(device);
  if (own != consumer) r.join(device, own, device, consumer);
}

DLDataType type_of(DType t) {
  uint8_t code = t == DType::Bool   ? kBool
                 : t == DType::U8   ? kUInt
                 : t == DType::BF16 ? kBFloat
                 : is_float(t)      ? kFloat
                                    : kInt;
  return {code, uint8_t(itemsize(t) * 8), 1};
}

std::optional<DType> dtype_of(DLDataType d) {
  if (d.lanes != 1) return std::nullopt;
  for (int i = 0; i < kNumDTypes; ++i) {
    DLDataType t = type_of(DType(i));
    if (t.code == d.code && t.bits == d.bits) return DType(i);
  }
  return std::nullopt;
}

template <class M>
struct Exported {
  M managed;
  Tensor t;
  Dims sizes, strides;
};

template <class M>
M* export_tensor(const Tensor& t) {
  keep_in_place(t);
  auto* e = new Exported<M>{};
  e->t = t;
  e->sizes = t.sizes();
  e->strides = t.strides();
  DLTensor& d = e->managed.tensor;
  d = {t.data(), dl_device_of(t.device()), t.ndim(), type_of(t.dtype()), e->sizes.begin(), e->strides.begin(), 0};
  e->managed.context = e;
  e->managed.deleter = [](M* m) { delete static_cast<Exported<M>*>(m->context); };
  return &e->managed;
}

template <class M>
void destroy_capsule(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;  // a consumer took it over and renamed it
  auto* m = static_cast<M*>(PyCapsule_GetPointer(capsule, name));
  if (m->deleter) m->deleter(m);
}

[[noreturn]] void buffer_error(const std::string& text) {
  PyErr_SetString(PyExc_BufferError, text.c_str());
  throw_python_error();
}

std::pair<int, int> int_pair(const py::object& o, const char* what) {
  try {
    return o.cast<std::pair<int, int>>();
  } catch (const py::cast_error&) {
    fail<TypeError>("__dlpack__: ", what, " must be a pair of integers, not ", Py_TYPE(o.ptr())->tp_name);
  }
}

py::object to_dlpack(py::object self, const py::object& stream, const py::object& max_version,
                     const py::object& dl_device, const py::object& copy) {
  Tensor t = unwrap(self.ptr());
  if (t.requires_grad()) buffer_error("__dlpack__: a tensor that requires grad cannot be exported, use detach()");
  if (t.device().is_cpu() && !stream.is_none()) buffer_error("__dlpack__: a CPU tensor takes no stream");
  bool copied = !copy.is_none() && copy.cast<bool>();
  DLDevice here = dl_device_of(t.device());
  auto wanted = dl_device.is_none() ? std::pair{int(here.type), int(here.id)} : int_pair(dl_device, "dl_device");
  if (wanted != std::pair{int(here.type), int(here.id)}) {
    bool forbidden = !copy.is_none() && !copied;
    if (forbidden || wanted != std::pair{int(kCpu), 0}) buffer_error("__dlpack__: cannot export to another device");
    t = run_op1(find_op("device_copy"), {Value(t), Value(Device()), Value(false)});
    copied = true;
  } else if (copied) {
    t = run_op1(find_op("clone"), {Value(t)});
  }
  if (!t.device().is_cpu()) {
    int64_t number = 1;  // the default stream, as the protocol says
    if (!stream.is_none() && (!to_int(stream.ptr(), number) || number == 0 || number == 2 || number < -1))
      buffer_error("__dlpack__: stream is None, -1 (no wait), 1 (the default stream) or a stream's address");
    if (number != -1) make_wait(t.device().index, stream_of(number));
  }
  bool versioned = !max_version.is_none() && int_pair(max_version, "max_version").first >= 1;
  if (!versioned) {
    return checked(PyCapsule_New(export_tensor<DLManagedTensor>(t), "dltensor",
                                 [](PyObject* c) { destroy_capsule<DLManagedTensor>(c, "dltensor"); }));
  }
  auto* m = export_tensor<DLManagedTensorVersioned>(t);
  m->major = 1;
  m->minor = 0;
  m->flags = copied ? kCopied : 0;
  return checked(PyCapsule_New(m, "dltensor_versioned", [](PyObject* c) {
    destroy_capsule<DLManagedTensorVersioned>(c, "dltensor_versioned");
  }));
}

// Takes over what the capsule holds.
template <class M>
Tensor import_managed(M* m, bool& read_only) {
  const DLTensor& d = m->tensor;
  auto fail_import = [](const std::string& text) { buffer_error("from_dlpack: " + text); };
  const bool host = d.device.type == kCpu || d.device.type == kCudaHost;
  if (!host && (d.device.type != kCuda || d.device.id < 0 || d.device.id >= cuda::device_count()))
    fail_import(str("there is no device of type ", d.device.type, " and number ", d.device.id));
  const Device device = host ? Device() : Device(DeviceType::CUDA, d.device.id);
  auto dtype = dtype_of(d.dtype);
  if (!dtype)
    fail_import(str("unsupported element type: code ", int(d.dtype.code), ", bits ", int(d.dtype.bits), ", lanes ",
                    d.dtype.lanes));
  if (d.ndim < 0 || d.ndim > kMaxDims) fail_import("unsupported number of dimensions " + std::to_string(d.ndim));
  Dims sizes(d.shape, d.shape + d.ndim);
  numel_of(sizes, "from_dlpack");
  Dims strides = d.strides ? Dims(d.strides, d.strides + d.ndim) : contiguous_strides(sizes);
  char* data = static_cast<char*>(d.data) + d.byte_offset;
  if (reinterpret_cast<uintptr_t>(data) % uintptr_t(itemsize(*dtype))) fail_import("the memory is not aligned");
  if constexpr (std::is_same_v<M, DLManagedTensorVersioned>) read_only = m->flags & kReadOnly;
  return from_blob(data, sizes, strides, *dtype, device, m, [](void* p) {
    // the exporter may be a Python library
    if (!Py_IsInitialized()) return;
    PyGILState_STATE gil = PyGILState_Ensure();
    auto* managed = static_cast<M*>(p);
    if (managed->deleter) managed->deleter(managed);
    PyGILState_Release(gil);
  });
}

py::object request_capsule(const py::object& x) {
  TG_CHECK(py::hasattr(x, "__dlpack__"), TypeError, "from_dlpack: expected an object with __dlpack__, not ",
           Py_TYPE(x.ptr())->tp_name);
  py::dict options;
  if (py::hasattr(x, "__dlpack_device__")) {
    auto [type, index] = int_pair(x.attr("__dlpack_device__")(), "the result of __dlpack_device__");
    if (type == kCuda && index >= 0 && index < cuda::device_count())
      options["stream"] = number_of(cuda::runtime().current_stream(index));
  }
  try {
    return x.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0), **options);
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_TypeError)) throw;  // an exporter from before versions existed
  }
  return x.attr("__dlpack__")(**options);
}

Tensor from_dlpack(const py::object& x, const py::object& device, const py::object& copy) {
  std::optional<Device> wanted;
  if (!device.is_none()) wanted = device_argument("from_dlpack", "device", device);
  py::object capsule = PyCapsule_CheckExact(x.ptr()) ? x : request_capsule(x);
  PyObject* c = capsule.ptr();
  bool read_only = false;
  Tensor t;
  if (PyCapsule_IsValid(c, "dltensor_versioned")) {
    auto* m = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(c, "dltensor_versioned"));
    if (m->major != 1) buffer_error(str("from_dlpack: unknown version ", m->major, ".", m->minor));
    t = import_managed(m, read_only);
    PyCapsule_SetName(c, "used_dltensor_versioned");
  } else if (PyCapsule_IsValid(c, "dltensor")) {
    t = import_managed(static_cast<DLManagedTensor*>(PyCapsule_GetPointer(c, "dltensor")), read_only);
    PyCapsule_SetName(c, "used_dltensor");
  } else {
    fail<ValueError>("from_dlpack: not a DLPack capsule, or one that was used already");
  }
  if (wanted && *wanted != t.device()) {
    if (!copy.is_none() && !copy.cast<bool>()) buffer_error(str("from_dlpack: the memory is on ", t.device()));
    return run_op1(find_op("device_copy"), {Value(t), Value(*wanted), Value(false)});
  }
  bool must_copy = read_only || (!copy.is_none() && copy.cast<bool>());
  if (read_only && !copy.is_none() && !copy.cast<bool>()) buffer_error("from_dlpack: the memory is read-only");
  return must_copy ? run_op1(find_op("clone"), {Value(t)}) : t;
}

}  // namespace

void init_dlpack(py::module_& m) {
  py::handle type(reinterpret_cast<PyObject*>(tensor_type));
  type.attr("__dlpack__") = py::cpp_function(&to_dlpack, py::name("__dlpack__"), py::is_method(type), py::kw_only(),
                                             py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
                                             py::arg("dl_device") = py::none(), py::arg("copy") = py::none());
  type.attr("__dlpack_device__") = py::cpp_function(
      [](const Tensor& t) { return std::pair(int(dl_device_of(t.device()).type), int(t.device().index)); },
      py::name("__dlpack_device__"), py::is_method(type));
  m.def("from_dlpack", &from_dlpack, py::arg("x"), py::kw_only(), py::arg("device") = py::none(),
        py::arg("copy") = py::none(), "A tensor over the memory of an object that speaks DLPack, or of a capsule.");
}

}  // namespace tg::python
