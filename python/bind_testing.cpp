// Switches for the project's own tests: backend and fast-path choice, calls by full op name, seeded gradient mutations.
#include "autograd/autograd.h"
#include "backends/backend.h"
#include "python/bindings.h"
#include "python/casters.h"

namespace tg::python {

static PyObject* call_by_name(PyObject*, PyObject* const* args, Py_ssize_t n, PyObject* kwnames) {
  return guarded([&]() -> PyObject* {
    TG_CHECK(n >= 1 && PyUnicode_Check(args[0]), TypeError, "_call_op: expected the op's full name first");
    return call_op(find_op(PyUnicode_AsUTF8(args[0])), args + 1, size_t(n - 1), kwnames);
  });
}

void init_testing(py::module_& m) {
  static PyMethodDef call_op_def = {
      "_call_op", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call_by_name)),
      METH_FASTCALL | METH_KEYWORDS, "Calls the op with this full name (overload included)."};
  m.attr("_call_op") = checked(PyCFunction_New(&call_op_def, nullptr));
  m.def("_use_ref_backend", &use_ref_backend, "Serve the CPU by the plain-loop reference backend.");
  m.def("_set_fast_paths", [](bool on) { modes().fast_paths = on; }, "Off: ops with a composite body run that body.");
  m.def(
      "_mutate_gradient",
      [](const std::string& op, int input, int kind) { mutate_gradient(op, input, Mutation(kind)); },
      "Makes the gradient of one input wrong: 0 off, 1 sign, 2 factor, 3 dropped reduction, 4 transpose, 5 zero.");
}

}  // namespace tg::python
