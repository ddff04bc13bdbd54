// Files: safetensors, .npy, charts.
#include <fcntl.h>

#include "io/checkpoint_folder.h"
#include "io/file_faults.h"
#include "io/npy.h"
#include "io/plot.h"
#include "io/safetensors.h"
#include "python/casters.h"

namespace tg::python {
namespace {

using Named = std::vector<std::pair<std::string, Tensor>>;
using Metadata = std::map<std::string, std::string>;

io::TensorFile make_file(const Named& tensors, const Metadata& metadata) {
  io::TensorFile f;
  for (auto& [name, t] : tensors) {
    TG_CHECK(t.defined(), TypeError, "save: '", name, "' is no tensor");
    f.tensors.emplace_back(name, t);
  }
  f.metadata = metadata;
  return f;
}

py::str text(const std::string& s) {
  PyObject* o = PyUnicode_DecodeUTF8(s.data(), Py_ssize_t(s.size()), nullptr);
  if (!o) PyErr_Clear();
  TG_CHECK(o, FormatError, "load: the file's header holds text that is not UTF-8");
  return py::reinterpret_steal<py::str>(o);
}

// A list of (name, tensor) and a dict.
py::tuple contents(const io::TensorFile& f) {
  py::list tensors;
  py::dict metadata;
  for (auto& [name, t] : f.tensors) tensors.append(py::make_tuple(text(name), t));
  for (auto& [k, v] : f.metadata) metadata[text(k)] = text(v);
  return py::make_tuple(tensors, metadata);
}

// Values over 1, 2, ..., or a dict from places to values.
io::Curve curve(const py::handle& label, const py::handle& values) {
  io::Curve c{label.cast<std::string>(), {}};
  if (!py::isinstance<py::dict>(values)) {
    c.y = values.cast<std::vector<double>>();
    return c;
  }
  for (auto [x, y] : values.cast<py::dict>()) c.x.push_back(x.cast<double>()), c.y.push_back(y.cast<double>());
  return c;
}

void save_plot(const std::string& path, const std::vector<std::pair<std::string, py::dict>>& charts, bool log) {
  std::vector<io::Chart> all;
  for (auto& [title, curves] : charts) {
    io::Chart chart{title, {}, log};
    for (auto [label, values] : curves) chart.curves.push_back(curve(label, values));
    all.push_back(std::move(chart));
  }
  py::gil_scoped_release no_gil;
  io::save_plot(all, path);
}

void save_bars(const std::string& path, const std::string& title, const std::vector<std::string>& labels,
               const py::dict& series, double line, double most) {
  io::Bars bars{title, labels, {}, line, most};
  for (auto [label, values] : series) bars.series.push_back(curve(label, values));
  py::gil_scoped_release no_gil;
  io::save_plot(bars, path);
}

// In the place of the file system from __enter__ to __exit__.
void init_file_faults(py::module_& m) {
  using io::FaultyFiles;
  static const std::map<std::string, FaultyFiles::Mode> modes = {
      {"error", FaultyFiles::Mode::Error}, {"short", FaultyFiles::Mode::Short}, {"stop", FaultyFiles::Mode::Stop}};
  py::class_<FaultyFiles>(m, "_FaultyFiles", "Records file operations; the at-th one fails. For tests.")
      .def(py::init([](int64_t at, int error, const std::string& mode) {
             TG_CHECK(modes.count(mode), ValueError, "_FaultyFiles: unknown mode '", mode, "'");
             return std::make_unique<FaultyFiles>(at, error, modes.at(mode));
           }),
           py::arg("at") = 0, py::arg("error") = EIO, py::arg("mode") = "error")
      .def("__enter__",
           [](FaultyFiles& f) {
             io::set_file_system(&f);
             return &f;
           })
      .def("__exit__", [](FaultyFiles&, const py::args&) { io::set_file_system(nullptr); })
      .def_property_readonly("count", &FaultyFiles::count)
      .def_property_readonly("journal", [](const FaultyFiles& f) {
        py::list events;
        for (auto& e : f.journal()) events.append(py::make_tuple(e.op, e.path, py::bytes(e.data)));
        return events;
      });
}

// Exceptions of the callbacks are Python's; those that mean a damaged file are named by their class.
void init_checkpoint_folder(py::module_& m) {
  using io::CheckpointFolder;
  m.def("best_interval", &io::best_interval, py::arg("save_seconds"), py::arg("mean_time_between_failures"),
        R"(Seconds of work between two saves that lose the least time, to saving and to work done twice, in all.

The estimate of J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future
Generation Computer Systems 22 (2006); for short saves it is J. W. Young's sqrt(2 * save * failures), "A first order
approximation to the optimum checkpoint interval", Communications of the ACM 17 (1974).)");
  py::class_<CheckpointFolder>(m, "_CheckpointFolder")
      .def(py::init<std::string, int64_t>())
      .def("path", &CheckpointFolder::path)
      .def("steps", &CheckpointFolder::steps)
      .def("check", &CheckpointFolder::check)
      .def("write",
           [](CheckpointFolder& c, int64_t step, const Named& tensors, const Metadata& metadata) {
             io::TensorFile f = make_file(tensors, metadata);
             py::gil_scoped_release no_gil;
             c.write(step, f);
           })
      .def("newest",
           [](CheckpointFolder& c, const py::function& read, const py::function& passed_over) {
             const py::module_ errors = py::module_::import("tinygrad_cpp._C");
             return c.newest(
                 [&](int64_t step) {
                   try {
                     read(step);
                   } catch (py::error_already_set& e) {
                     const bool damaged = e.matches(errors.attr("FormatError")) || e.matches(errors.attr("IoError"));
                     if (damaged) throw FormatError(py::str(e.value()).cast<std::string>());
                     throw;
                   }
                 },
                 [&](int64_t step, const std::string& error) { passed_over(step, error); });
           })
      .def("remove_left_overs", &CheckpointFolder::remove_left_overs);
}

}  // namespace

void init_io(py::module_& m) {
  m.def("_to_safetensors", [](const Named& tensors, const Metadata& metadata) {
    return py::bytes(io::to_safetensors(make_file(tensors, metadata)));
  });
  m.def("_from_safetensors", [](const py::bytes& bytes, const std::string& what) {
    return contents(io::from_safetensors(std::string(bytes), what));
  });
  m.def("_save_safetensors", [](const Named& tensors, const Metadata& metadata, const std::string& path) {
    io::TensorFile f = make_file(tensors, metadata);
    py::gil_scoped_release no_gil;
    io::save(f, path);
  });
  m.def("_load_safetensors", [](const std::string& path) {
    auto read = [&] {
      py::gil_scoped_release no_gil;
      return io::load(path);
    };
    return contents(read());
  });
  m.def("_read_file", [](const std::string& path, int64_t most) {
    auto read = [&] {
      py::gil_scoped_release no_gil;
      return io::read_file(path, most < 0 ? size_t(-1) : size_t(most));
    };
    return py::bytes(read());
  });
  m.def("_write_file", [](const std::string& path, const py::bytes& data) {
    std::string_view v(data);
    io::write_file(path, {{v.data(), v.size()}});
  });
  py::class_<io::OutputFile>(m, "_OutputFile", "Bytes written at the end of a file, at once and without a flush.")
      .def(py::init([](const std::string& path) {
        return std::make_unique<io::OutputFile>(path, O_WRONLY | O_CREAT | O_APPEND);
      }))
      .def("write",
           [](io::OutputFile& f, const py::buffer& data) {
             py::buffer_info b = data.request();
             f.write(b.ptr, size_t(b.size * b.itemsize));
           })
      .def("close", &io::OutputFile::close);
  m.def(
      "_read_into",
      [](const std::string& path, const py::buffer& to) {
        py::buffer_info b = to.request(true);
        py::gil_scoped_release no_gil;
        io::InputFile(path).read(b.ptr, size_t(b.size * b.itemsize));
      },
      py::arg("path"), py::arg("to"), "Fills an array with the beginning of a file; IoError if that is too short.");
  m.def("_remove_file", &io::remove_file);
  m.def("_make_folders", &io::make_folders);
  init_file_faults(m);
  init_checkpoint_folder(m);
  m.def("load_npy", &io::load_npy, py::arg("path"), py::call_guard<py::gil_scoped_release>(),
        "The tensor in a .npy file.");
  m.def("save_npy", &io::save_npy, py::arg("tensor"), py::arg("path"), py::call_guard<py::gil_scoped_release>(),
        "Writes a tensor as a .npy file.");
  m.def("save_plot", &save_plot, py::arg("path"), py::arg("charts"), py::arg("log") = false,
        "Writes line charts side by side as a PNG: charts is a list of (title, {label: values}), where values are a "
        "list or a dict from x to y; log makes both axes logarithmic.");
  m.def("_save_bars", &save_bars, py::arg("path"), py::arg("title"), py::arg("labels"), py::arg("series"),
        py::arg("line"), py::arg("most"));
}

}  // namespace tg::python
