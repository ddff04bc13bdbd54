// Generators, threads, memory, modes and print options; what connects the interpreter to the library.
#include <chrono>
#include <random>

#include "backends/cpu/blas_info.h"
#include "backends/cpu/loops.h"
#include "core/caching_allocator.h"
#include "core/memory_log.h"
#include "core/pool.h"
#include "python/casters.h"

namespace tg::python {
namespace {

// Ctrl-C during long work: asked by the pool between chunks, at most every 20 ms.
void check_interrupt() {
  thread_local auto last = std::chrono::steady_clock::time_point{};
  auto now = std::chrono::steady_clock::now();
  if (now - last < std::chrono::milliseconds(20)) return;
  last = now;
  if (!Py_IsInitialized()) return;
  py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// The user's stack where a node of the tape is made, for anomaly mode.
std::string user_stack() {
  py::gil_scoped_acquire gil;
  try {
    auto lines = py::module_::import("traceback").attr("format_stack")();
    return py::str("").attr("join")(lines).cast<std::string>();
  } catch (py::error_already_set&) {
    return "";
  }
}

// file:line of the innermost frame outside of the package.
std::string user_line() {
  py::gil_scoped_acquire gil;
  py::error_scope kept;  // memory may be asked for while an exception is on its way
  try {
    return py::module_::import("tinygrad_cpp.memory").attr("_user_line")().cast<std::string>();
  } catch (py::error_already_set&) {
    return "";
  }
}

uint64_t random_seed() {
  std::random_device d;
  return (uint64_t(d()) << 32 | d()) & 0x7fffffffffffffffu;
}

// What int() takes, in [-2^63, 2^64); negative seeds count from 2^64, as in PyTorch.
uint64_t seed_from(const py::object& seed) {
  auto n = py::reinterpret_steal<py::object>(PyNumber_Long(seed.ptr()));
  if (!n) {
    bool bad_value = PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_OverflowError);
    PyErr_Clear();
    TG_CHECK(!bad_value, ValueError, "manual_seed(): ", std::string(py::repr(seed)), " is no whole number");
    fail<TypeError>("manual_seed(): argument 'seed' must be int, not ", Py_TYPE(seed.ptr())->tp_name);
  }
  long long low = PyLong_AsLongLong(n.ptr());
  if (low != -1 || !PyErr_Occurred()) return uint64_t(low);
  PyErr_Clear();
  unsigned long long v = PyLong_AsUnsignedLongLong(n.ptr());
  bool overflow = PyErr_Occurred() != nullptr;
  PyErr_Clear();
  TG_CHECK(!overflow, ValueError, "manual_seed(): ", std::string(py::str(n)).substr(0, 60),
           " is outside of [-2^63, 2^64)");
  return v;
}

// State of a generator: 16 bytes, seed and offset.
Tensor generator_state(const Generator& g) {
  Tensor t = empty_tensor({16}, DType::U8);
  uint64_t words[2] = {g.seed(), g.offset()};
  std::memcpy(t.data(), words, sizeof words);
  return t;
}
void set_generator_state(Generator& g, const Tensor& t) {
  TG_CHECK(t.defined() && t.dtype() == DType::U8 && t.numel() == 16 && t.is_contiguous(), ValueError,
           "set_state: expected the uint8 tensor of 16 elements that get_state() gives, got ", describe(t));
  uint64_t words[2];
  std::memcpy(words, t.data(), sizeof words);
  g.set_state(words[0], words[1]);
}

void bind_generators(py::module_& m) {
  py::class_<Generator>(m, "Generator", "A source of random numbers, independent of the default one.")
      .def(py::init([](const py::object&) { return std::make_unique<Generator>(random_seed()); }),
           py::arg("device") = "cpu")
      .def(
          "manual_seed",
          [](Generator& g, const py::object& seed) -> Generator& {
            g.manual_seed(seed_from(seed));
            return g;
          },
          py::arg("seed"), py::return_value_policy::reference, "Starts the sequence that belongs to the seed.")
      .def(
          "seed",
          [](Generator& g) {
            g.manual_seed(random_seed());
            return g.seed();
          },
          "Starts from a random seed and returns it.")
      .def("initial_seed", &Generator::seed, "The seed in use.")
      .def("get_state", &generator_state, "The state as a uint8 tensor.")
      .def("set_state", &set_generator_state, py::arg("state"), "Continues from a state.")
      .def_property_readonly("device", [](const Generator&) { return Device(); });
  m.attr("default_generator") = py::cast(&default_generator(), py::return_value_policy::reference);
  m.def(
      "manual_seed",
      [](const py::object& seed) {
        manual_seed(seed_from(seed));
        return py::cast(&default_generator(), py::return_value_policy::reference);
      },
      py::arg("seed"), "Seeds the default generator: the same seed gives the same numbers on any number of threads.");
  m.def(
      "seed",
      [] {
        uint64_t s = random_seed();
        manual_seed(s);
        return s;
      },
      "Seeds the default generator at random and returns the seed.");
  m.def("initial_seed", [] { return default_generator().seed(); }, "The seed of the default generator.");
  m.def("get_rng_state", [] { return generator_state(default_generator()); }, "State of the default generator.");
  m.def(
      "set_rng_state", [](const Tensor& t) { set_generator_state(default_generator(), t); }, py::arg("new_state"),
      "Continues the default generator from a state.");
}

void bind_memory(py::module_& m) {
  m.def(
      "_memory_stats",
      [](Device d) {
        MemoryStats s = allocator(d).stats();
        py::dict r;
        r["live"] = s.live;
        r["cached"] = s.cached;
        r["peak"] = s.peak;
        r["allocations"] = s.allocations;
        return r;
      },
      py::arg("device") = Device());
  m.def("_device_memory_stats", [](Device d) {
    const auto* caching = dynamic_cast<const CachingAllocator*>(&allocator(d));  // not in a forked process
    const DeviceMemoryStats s = caching ? caching->device_stats() : DeviceMemoryStats();
    py::dict r;
    r["reserved"] = s.reserved;
    r["reserved_peak"] = s.reserved_peak;
    r["active"] = s.active;
    r["active_peak"] = s.active_peak;
    r["allocated"] = s.allocated;
    r["retries"] = s.retries;
    r["refusals"] = s.refusals;
    return r;
  });
  m.def("_reset_peak", [](Device d) { allocator(d).reset_peak(); }, py::arg("device") = Device());
  m.def("_release_cached", [](Device d) { allocator(d).release_cached(); }, py::arg("device") = Device());
  m.def(
      "_set_memory_limit",
      [](int64_t bytes, Device d) {
        TG_CHECK(bytes >= 0, ValueError, "set_limit: expected a number of bytes or 0 for none, got ", bytes);
        allocator(d).set_limit(bytes);
      },
      py::arg("bytes"), py::arg("device") = Device());
  m.def("_set_memory_log", [](bool on) { return std::exchange(modes().memory_log, on); });
  m.def(
      "_memory_holders",
      [](Device d) {
        py::list r;
        for (const MemoryHolder& h : memory_holders(d))
          r.append(py::make_tuple(uintptr_t(h.data), h.bytes, h.op, h.where));
        return r;
      },
      py::arg("device") = Device(), "(address, bytes, op, line) of what is noted and still held, the largest first.");
  m.def("_bytes_text", &bytes_text);
  m.def(
      "_fail_allocation_at", [](int64_t i, Device d) { allocator(d).fail_at(i); }, py::arg("i"),
      py::arg("device") = Device(), "The i-th allocation from now on fails once; 0 turns it off.");
}

void bind_modes(py::module_& m) {
  m.def("is_grad_enabled", [] { return modes().grad; }, "Whether ops are recorded on the tape in this thread.");
  m.def("_set_grad_enabled", [](bool on) { return std::exchange(modes().grad, on); });
  m.def("is_inference_mode_enabled", [] { return modes().inference; }, "Whether inference_mode is on in this thread.");
  m.def("_set_inference", [](bool on) { return std::exchange(modes().inference, on); });
  m.def("is_anomaly_enabled", [] { return modes().anomaly; }, "Whether anomaly detection is on in this thread.");
  m.def("_set_anomaly", [](bool on) { return std::exchange(modes().anomaly, on); });
}

void set_print_options(const py::object& precision, const py::object& threshold, const py::object& edgeitems,
                       const py::object& linewidth, const py::object& profile, const py::object& sci_mode) {
  PrintOptions& o = print_options();
  if (!profile.is_none()) {
    auto p = profile.cast<std::string>();
    TG_CHECK(p == "default" || p == "short" || p == "full", ValueError,
             "set_printoptions: profile must be default, short or full, got ", p);
    o = PrintOptions();
    if (p == "short") o.precision = 2, o.edgeitems = 2;
    if (p == "full") o.threshold = INT32_MAX;
  }
  auto set = [](const py::object& v, int& field, const char* name, int lo, int hi) {
    if (v.is_none()) return;
    double d = v.cast<double>();  // threshold may be inf
    TG_CHECK(d >= lo, ValueError, "set_printoptions: ", name, " must be at least ", lo, ", got ", d);
    field = int(std::min(d, double(hi)));
  };
  set(precision, o.precision, "precision", 0, 100);
  set(threshold, o.threshold, "threshold", 0, INT32_MAX);
  set(edgeitems, o.edgeitems, "edgeitems", 1, 1 << 20);
  set(linewidth, o.linewidth, "linewidth", 1, INT32_MAX);
  o.sci_mode = sci_mode.is_none() ? -1 : int(sci_mode.cast<bool>());
}

}  // namespace

void init_runtime(py::module_& m) {
  slots().check_interrupt = check_interrupt;
  slots().user_stack = user_stack;
  slots().user_line = user_line;
  bind_generators(m);
  bind_memory(m);
  bind_modes(m);
  m.def("get_num_threads", &num_threads, "Threads that work on one op.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"), "Sets the number of threads that work on one op.");
  m.def("_blas_info", &cpu::blas_info, "What the BLAS is, and its file.");
  m.def("_cpu_isa", [] { return cpu::loops().isa; }, "The instruction set whose loops run here.");
  m.def("set_printoptions", &set_print_options, py::arg("precision") = py::none(), py::arg("threshold") = py::none(),
        py::arg("edgeitems") = py::none(), py::arg("linewidth") = py::none(), py::arg("profile") = py::none(),
        py::arg("sci_mode") = py::none(), "How tensors are printed.");
}

}  // namespace tg::python
