// The extension module tinygrad_cpp._C.
#include "python/bindings.h"

PYBIND11_MODULE(_C, m) {
  namespace p = tg::python;
  m.doc() = "Compiled part of tinygrad_cpp.";
  p::init_errors(m);
  p::init_dtype_device(m);
  p::init_tensor_type(m);
  p::init_runtime(m);
  p::init_ops(m);
  p::init_attributes(m);
  p::init_data(m);
  p::init_dlpack(m);
  p::init_autograd(m);
  p::init_io(m);
  p::init_testing(m);
  if (bind_nn) bind_nn(m);
  if (bind_optim) bind_optim(m);
}
