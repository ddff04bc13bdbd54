// tg.cuda.RawKernel: kernels that a user writes.
#include "backends/rtc/raw_kernel.h"
#include "python/casters.h"

namespace tg::python {
namespace {

using cuda::Dim3;
using cuda::KernelArg;

// An int or up to three, x first.
Dim3 to_dim3(py::handle o, const char* what) {
  std::vector<int64_t> v;
  TG_CHECK(to_ints(o.ptr(), v) && !v.empty() && v.size() <= 3, TypeError, "RawKernel: ", what,
           " is an int or a tuple of 1 to 3, not ", Py_TYPE(o.ptr())->tp_name);
  Dim3 d;
  unsigned* at[] = {&d.x, &d.y, &d.z};
  for (size_t i = 0; i < v.size(); ++i) {
    TG_CHECK(v[i] > 0 && v[i] <= 0x7fffffff, ValueError, "RawKernel: ", what, "[", i, "] is ", v[i]);
    *at[i] = unsigned(v[i]);
  }
  return d;
}

// NumPy's scalars have a type of their own; Python's int and float take the parameter's.
KernelArg to_kernel_arg(py::handle o, size_t i) {
  if (is_tensor(o.ptr())) return unwrap(o.ptr());
  Scalar s;
  TG_CHECK(to_scalar(o.ptr(), s), TypeError, "RawKernel: argument ", i, " is a ", Py_TYPE(o.ptr())->tp_name,
           "; tensors and numbers can be passed");
  if (PyBool_Check(o.ptr())) return s.b();
  if (!is_numpy_scalar(o.ptr())) return s;
  const std::string type = py::str(o.attr("dtype").attr("name"));
  if (type == "bool") return s.b();
  if (type == "int32") return int32_t(s.i());
  if (type == "int64") return s.i();
  if (type == "float32") return float(s.d());
  if (type == "float64") return s.d();
  fail<TypeError>("RawKernel: argument ", i, " is a NumPy ", type,
                  "; bool, int32, int64, float32 and float64 can be passed");
}

// None, or an object with the attribute cuda_stream; device_index as well, if it is there.
std::optional<cuda::KernelStream> to_stream(py::handle o) {
  if (o.is_none()) return std::nullopt;
  TG_CHECK(py::hasattr(o, "cuda_stream"), TypeError, "RawKernel: stream is a ", Py_TYPE(o.ptr())->tp_name,
           ", expected a cuda.Stream");
  const int device = py::hasattr(o, "device_index") ? o.attr("device_index").cast<int>() : -1;
  return cuda::KernelStream(reinterpret_cast<void*>(o.attr("cuda_stream").cast<uintptr_t>()), device);
}

void launch(const cuda::RawKernel& k, py::handle grid, py::handle block, py::tuple args, int64_t shared_mem,
            py::handle stream) {
  TG_CHECK(shared_mem >= 0, ValueError, "RawKernel: shared_mem is ", shared_mem, " bytes");
  std::vector<KernelArg> all;
  for (size_t i = 0; i < args.size(); ++i) all.push_back(to_kernel_arg(args[i], i));
  const Dim3 g = to_dim3(grid, "grid"), b = to_dim3(block, "block");
  const std::optional<cuda::KernelStream> s = to_stream(stream);
  py::gil_scoped_release no_gil;  // the first launch compiles
  k(g, b, all, size_t(shared_mem), s);
}

}  // namespace

void init_kernels(py::module_& m) {
  py::class_<cuda::RawKernel>(
      m, "RawKernel",
      "A CUDA C++ kernel from source text, compiled when it is first launched.\n\n"
      "name is the __global__ function's name (a C++ expression, so 'scale<float>' works); options go to NVRTC.\n"
      "Without a GPU, cuda.emulate() lets the CPU run it.")
      .def(py::init<std::string, std::string, std::vector<std::string>>(), py::arg("source"), py::arg("name"),
           py::arg("options") = std::vector<std::string>())
      .def("__call__", &launch, py::arg("grid"), py::arg("block"), py::arg("args") = py::tuple(),
           py::arg("shared_mem") = 0, py::arg("stream") = py::none(),
           "Queues the kernel: grid blocks of block threads (an int or up to three each), shared_mem bytes of dynamic "
           "shared\n"
           "memory, on stream (the current one if None). Tensors must be contiguous, on one CUDA device and of the "
           "parameters'\n"
           "element types. NumPy scalars must have the parameter's type; Python numbers take it if they fit.\n"
           "Errors: CompileError, TypeError, DTypeError, ValueError, DeviceError, AutogradError (a tensor requires "
           "grad).")
      .def("compile", &cuda::RawKernel::compile, py::call_guard<py::gil_scoped_release>(),
           "Compiles for the current device without running it.")
      .def_property_readonly("name", &cuda::RawKernel::name, "The kernel's name.")
      .def_property_readonly("ran_on", &cuda::RawKernel::ran_on,
                             "Where it ran last: a device's name, or 'emulation'; '' before the first launch.")
      .def("__repr__", [](const cuda::RawKernel& k) { return str("RawKernel('", k.name(), "')"); });
}

}  // namespace tg::python
