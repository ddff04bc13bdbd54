// The extension module tinygrad_cpp._C.
#include "core/version.h"
#include "python/bindings.h"

namespace {

// pybind11 would hand out unconstructed memory when a method is called on a module whose __init__ did not run yet.
void guard_modules(py::handle base) {
  auto* type = reinterpret_cast<PyTypeObject*>(base.ptr());
  py::detail::with_internals([&](py::detail::internals& all) {
    for (auto& [key, info] : all.registered_types_cpp)
      if (PyType_IsSubtype(info->type, type))
        info->operator_new = [](size_t) -> void* { throw py::attribute_error("Module.__init__() was not called"); };
  });
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  namespace p = tg::python;
  m.doc() = "Compiled part of tinygrad_cpp.";
  m.attr("__version__") = TG_VERSION;
  p::init_errors(m);
  p::init_dtype_device(m);
  p::init_tensor_type(m);
  p::init_runtime(m);
  p::init_amp(m);
  p::init_ops(m);
  p::init_attributes(m);
  p::init_data(m);
  p::init_dlpack(m);
  p::init_autograd(m);
  p::init_io(m);
  p::init_cuda(m);
  p::init_kernels(m);
  p::init_testing(m);
  bind_nn(m);
  guard_modules(m.attr("_nn").attr("Module"));
  bind_optim(m);
}
