// Mixed precision: regions and the state of this thread.
#include <optional>

#include "core/modes.h"
#include "python/casters.h"

namespace tg::python {
namespace {

DeviceType device_type_of(const std::string& name) {
  TG_CHECK(name == "cpu" || name == "cuda", ValueError, "autocast: device_type must be 'cpu' or 'cuda', not '", name,
           "'");
  return name == "cpu" ? DeviceType::CPU : DeviceType::CUDA;
}

// A region that is left explicitly, in the reverse order of entering.
struct AutocastRegion {
  std::optional<AutocastMode> mode;
};

}  // namespace

void init_amp(py::module_& m) {
  py::class_<AutocastRegion>(m, "_AutocastRegion")
      .def(py::init([](const std::string& device, DType dtype, bool enabled, bool cache) {
        auto r = std::make_unique<AutocastRegion>();
        r->mode.emplace(device_type_of(device), dtype, enabled, cache);
        return r;
      }))
      .def("leave", [](AutocastRegion& r) { r.mode.reset(); });
  m.def(
      "is_autocast_enabled",
      [](const std::string& device) { return (modes().autocast.on >> int(device_type_of(device)) & 1) != 0; },
      py::arg("device_type") = "cuda", "Whether ops of this thread on this type of device run in mixed precision.");
  m.def(
      "set_autocast_enabled",
      [](const std::string& device, bool on) {
        const uint8_t bit = uint8_t(1u << int(device_type_of(device)));
        uint8_t& bits = modes().autocast.on;
        bits = uint8_t(on ? bits | bit : bits & ~bit);
      },
      py::arg("device_type"), py::arg("enabled"), "Turns mixed precision on or off in this thread.");
  m.def(
      "get_autocast_dtype",
      [](const std::string& device) { return modes().autocast.dtype[int(device_type_of(device))]; },
      py::arg("device_type"), "The type that products are computed in under autocast.");
  m.def(
      "set_autocast_dtype",
      [](const std::string& device, DType dtype) {
        TG_CHECK(is_half(dtype), DTypeError, "set_autocast_dtype: expected float16 or bfloat16, got ", dtype);
        modes().autocast.dtype[int(device_type_of(device))] = dtype;
      },
      py::arg("device_type"), py::arg("dtype"), "Sets the type that products are computed in under autocast.");
  m.def("is_autocast_cache_enabled", [] { return modes().autocast.cache; }, "Whether casts of weights are kept.");
  m.def(
      "set_autocast_cache_enabled", [](bool on) { modes().autocast.cache = on; }, py::arg("enabled"),
      "Whether casts of weights are kept until the region ends.");
  m.def("clear_autocast_cache", &clear_autocast_cache, "Forgets the casts of weights.");
}

}  // namespace tg::python
