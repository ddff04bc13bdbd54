// CUDA from Python: devices and the vendor's libraries. What users see is written in Python, in tinygrad_cpp/cuda.
#include <pybind11/stl.h>

#include "backends/collective.h"
#include "backends/cuda.h"
#include "backends/cuda_counts.h"
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

// An event of a device; made when it is first recorded, as only then its device is known.
class EventObject {
 public:
  EventObject(bool timing, bool blocking) : timing_(timing), blocking_(blocking) {}
  EventObject(const EventObject&) = delete;
  EventObject& operator=(const EventObject&) = delete;
  ~EventObject() {
    if (handle_ && !cuda::forked()) cuda::runtime().event_destroy(handle_);
  }
  void record(int device, uintptr_t stream) {
    if (!handle_) handle_ = cuda::runtime().event_create(device_ = device, timing_, blocking_);
    TG_CHECK(device == device_, ValueError, "Event.record: the event belongs to cuda:", device_,
             ", the stream to cuda:", device);
    cuda::runtime().event_record(handle_, device, to_handle(stream));
  }
  void wait(int device, uintptr_t stream) const {
    if (handle_) cuda::runtime().stream_wait_event(device, to_handle(stream), handle_);
  }
  bool query() const { return !handle_ || cuda::runtime().event_query(handle_); }
  void synchronize() const {
    if (handle_) cuda::runtime().event_synchronize(handle_);
  }
  float elapsed(const EventObject& end) const {
    TG_CHECK(handle_ && end.handle_ && timing_ && end.timing_, ValueError,
             "Event.elapsed_time: both events need enable_timing=True and a record() before");
    TG_CHECK(query() && end.query(), ValueError,
             "Event.elapsed_time: work has not reached both events yet; synchronize() first");
    return cuda::runtime().event_elapsed_ms(handle_, end.handle_);
  }
  uintptr_t address() const { return reinterpret_cast<uintptr_t>(handle_); }
  int device() const { return device_; }
  static cuda::StreamHandle to_handle(uintptr_t s) { return reinterpret_cast<cuda::StreamHandle>(s); }

 private:
  cuda::EventHandle handle_ = nullptr;
  int device_ = -1;
  bool timing_, blocking_;
};

void bind_graphs(py::module_& m) {
  using E = EventObject;
  m.def("_cuda_capture_begin", [](int device, uintptr_t s, uint64_t pool) {
    return cuda::runtime().capture_begin(device, E::to_handle(s), pool);
  });
  m.def("_cuda_capture_end", [](int device, uintptr_t s) {
    return reinterpret_cast<uintptr_t>(cuda::runtime().capture_end(device, E::to_handle(s)));
  });
  m.def("_cuda_capturing", &cuda::capturing);
  m.def("_cuda_allow_tf32", &cuda::allow_tf32);
  m.def("_cuda_set_allow_tf32", &cuda::set_allow_tf32);
  m.def("_cudnn_allow_tf32", &cuda::allow_tf32_in_convolutions);
  m.def("_cudnn_set_allow_tf32", &cuda::set_allow_tf32_in_convolutions);
  m.def("_cudnn_enabled", &cuda::use_cudnn);
  m.def("_cudnn_set_enabled", &cuda::set_use_cudnn);
  m.def("_cudnn_attention_counts", [] {
    const cuda::DnnAttentionCounts& c = cuda::dnn_attention_counts();
    return std::tuple(c.by_cudnn.load(), c.by_own_kernel.load(), c.disbelieved.load());
  });
  m.def("_cuda_launches", [] { return cuda::runtime().launches(); });
  m.def("_cuda_graph_launch", [](uintptr_t g, int device, uintptr_t s) {
    cuda::runtime().graph_launch(reinterpret_cast<cuda::GraphHandle>(g), device, E::to_handle(s));
  });
  m.def("_cuda_graph_destroy", [](uintptr_t g) {
    if (!cuda::forked()) cuda::runtime().graph_destroy(reinterpret_cast<cuda::GraphHandle>(g));
  });
  m.def("_cuda_pool_release", [](int device, uint64_t pool) {
    if (!cuda::forked()) cuda::runtime().pool_release(device, pool);
  });
  m.def("_cuda_profile", [](const std::string& what, const std::string& text) {
    cuda::Runtime* r = cuda::is_available() ? cuda::plugin() : nullptr;
    if (!r) return;
    if (what == "push") return r->profile_push(text.c_str());
    return what == "pop" ? r->profile_pop() : r->profile_mark(text.c_str());
  });
}

void bind_streams(py::module_& m) {
  using E = EventObject;
  auto no_gil = py::call_guard<py::gil_scoped_release>();
  auto address = [](cuda::StreamHandle s) { return reinterpret_cast<uintptr_t>(s); };
  m.def("_cuda_new_stream",
        [=](int device, int priority) { return address(cuda::runtime().stream_from_pool(device, priority)); });
  m.def("_cuda_current_stream", [=](int device) { return address(cuda::runtime().current_stream(device)); });
  m.def("_cuda_set_stream",
        [](int device, uintptr_t s) { cuda::runtime().set_current_stream(device, E::to_handle(s)); });
  m.def(
      "_cuda_stream_synchronize",
      [](int device, uintptr_t s) { cuda::runtime().stream_synchronize(device, E::to_handle(s)); }, no_gil);
  m.def("_cuda_stream_query",
        [](int device, uintptr_t s) { return cuda::runtime().stream_query(device, E::to_handle(s)); });
  m.def("_cuda_record_stream", [](const Tensor& t, int device, uintptr_t s) {
    TG_CHECK(t.defined() && !t.device().is_cpu(), DeviceError,
             "record_stream: only tensors of a CUDA device have streams");
    TG_CHECK(t.device().index == device, DeviceError, "record_stream: the tensor is on ", t.device(),
             ", the stream on cuda:", device);
    const Storage& storage = *t.impl()->storage;
    if (storage.data && !storage.free_external) cuda::runtime().record_stream(device, storage.data, E::to_handle(s));
  });
  py::class_<E>(m, "_CudaEvent")
      .def(py::init<bool, bool>())
      .def("record", &E::record)
      .def("wait", &E::wait)
      .def("query", &E::query)
      .def("synchronize", &E::synchronize, no_gil)
      .def("elapsed", &E::elapsed)
      .def_property_readonly("address", &E::address)
      .def_property_readonly("device", &E::device);
}

void bind_nccl(py::module_& m) {
  auto no_gil = py::call_guard<py::gil_scoped_release>();
  m.def("_nccl_version", &cuda::nccl_version, no_gil);
  m.def("_nccl_found", &cuda::has_nccl, no_gil);
  m.def(
      "_nccl_collective",
      [](int kind, const std::vector<Tensor>& ins, const std::vector<Tensor>& outs, int op, int root) {
        cuda::collective(cuda::Collective(kind), ins, outs, op, root);
      },
      no_gil);
}

}  // namespace

void init_cuda(py::module_& m) {
  python_vendor_folders = package_folders;
  bind_streams(m);
  bind_graphs(m);
  bind_nccl(m);
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
  m.def("_cuda_built", &cuda::is_built);
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
  m.def("_cuda_can_access_peer", [](int a, int b) { return cuda::runtime().can_access_peer(a, b); });
  m.def("_cuda_memory", [](int device) { return cuda::runtime().free_and_total_memory(device); });
  m.def(
      "_cuda_synchronize", [](int device) { cuda::runtime().device_synchronize(device); },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace tg::python
