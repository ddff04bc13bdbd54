// CUDA from Python: devices and the vendor's libraries. What users see is written in Python, in tinygrad_cpp/cuda.
#include <pybind11/stl.h>

#include "backends/cuda.h"
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
  m.def("_cuda_emulate", &cuda::emulate, py::arg("on") = true);
  m.def("_cuda_emulating", &cuda::emulating);
  m.def("_cuda_device_count", &cuda::device_count);
  m.def("_cuda_probe", [] {
    cuda::Probe p = cuda::probe();
    static const char* const missing[] = {"", "plug-in", "driver", "newer driver", "device", "other"};
    py::dict d;
    d["missing"] = missing[int(p.missing)];
    d["devices"] = p.devices;
    d["driver_version"] = p.driver_version;
    d["runtime_version"] = p.runtime_version;
    d["emulated"] = p.emulated;
    d["text"] = p.text;
    d["plugin"] = p.plugin_path;
    return d;
  });
  m.def("_cuda_properties", [](int device) {
    cuda::DeviceProperties p = cuda::runtime().properties(device);
    py::dict d;
    d["name"] = p.name;
    d["major"] = p.major;
    d["minor"] = p.minor;
    d["multi_processor_count"] = p.multiprocessors;
    d["total_memory"] = p.total_memory;
    d["shared_memory_per_block"] = p.shared_memory_per_block;
    d["L2_cache_size"] = p.l2_cache;
    d["warp_size"] = p.warp_size;
    d["max_threads_per_block"] = p.max_threads_per_block;
    d["max_threads_per_multi_processor"] = p.max_threads_per_multiprocessor;
    return d;
  });
  m.def("_cuda_current_device", [] { return cuda::runtime().current_device(); });
  m.def("_cuda_set_device", [](int device) { cuda::runtime().set_current_device(device); });
  m.def("_cuda_memory", [](int device) { return cuda::runtime().free_and_total_memory(device); });
  m.def(
      "_cuda_synchronize", [](int device) { cuda::runtime().device_synchronize(device); },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace tg::python
