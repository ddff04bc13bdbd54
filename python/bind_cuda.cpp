// CUDA from Python: the vendor's libraries. What users see is written in Python, in tinygrad_cpp/cuda.
#include <pybind11/stl.h>

#include "core/vendor.h"
#include "python/casters.h"

namespace tg::python {
namespace {

// Folders of the nvidia-* packages; none when the interpreter is gone.
std::vector<std::string> package_folders() {
  if (!Py_IsInitialized()) return {};
  py::gil_scoped_acquire gil;
  try {
    return py::module_::import("tinygrad_cpp._vendor").attr("folders")().cast<std::vector<std::string>>();
  } catch (py::error_already_set&) {
    return {};
  }
}

}  // namespace

void init_cuda(py::module_& m) {
  python_vendor_folders = package_folders;
  m.def(
      "_find_vendor",
      [](const std::vector<std::string>& names, const std::vector<std::string>& before) {
        py::gil_scoped_release release;
        VendorLibrary library(names, before);
        return std::pair(library.path(), library.tried());
      },
      py::arg("names"), py::arg("before") = std::vector<std::string>(),
      "Opens the first of these libraries that is found: its path, or an empty one, and what was tried.");
}

}  // namespace tg::python
