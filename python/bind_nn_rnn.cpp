// Recurrent layers and cells. nn/modules/rnn.py gives them PyTorch's constructors and packed sequences.
#include "nn/rnn.h"

#include "python/bind_nn.h"

namespace tg::python {
namespace {

using namespace py::literals;

// (output, (h, c)) or (output, h)
py::tuple to_tuple(nn::RNNResult r) {
  py::object state = r.state.size() == 1 ? wrap_object(r.state[0]) : py::object(py::tuple(py::cast(r.state)));
  return py::make_tuple(r.output, state);
}

std::vector<Tensor> states(py::handle hx) {
  std::vector<Tensor> s;
  if (is_tensor(hx.ptr())) {
    s.push_back(unwrap(hx.ptr()));
  } else if (!hx.is_none()) {
    TG_CHECK(py::isinstance<py::sequence>(hx), TypeError,
             "forward: the states must be a tensor or a tuple of two, not ", Py_TYPE(hx.ptr())->tp_name);
    for (py::handle h : hx) s.push_back(h.cast<Tensor>());
  }
  return s;
}

const Tensor& input_of(py::handle x) {
  TG_CHECK(is_tensor(x.ptr()), TypeError, "forward: expected a Tensor, not ", Py_TYPE(x.ptr())->tp_name);
  return unwrap(x.ptr());
}

template <class F>
auto unlocked(F f) {
  py::gil_scoped_release release;
  return f();
}

void bind_layers_of(py::module_& m) {
  using R = nn::RNNBaseImpl;
  auto c = module_class<R>(m, "RNNBase", "Layers of a recurrent cell, in one or both directions.");
  c.def(py::init([](const std::string& mode, int64_t in, int64_t hidden, int64_t layers, bool bias, bool batch_first,
                    double dropout, bool bidirectional, int64_t proj_size, std::optional<Device> device,
                    std::optional<DType> dtype) {
          nn::RNNOptions o{layers,        bias,      batch_first, dropout,
                           bidirectional, proj_size, "tanh",      Where{device, dtype}.options()};
          return std::make_unique<Tramp<R>>(mode, in, hidden, o);
        }),
        "mode"_a, "input_size"_a, "hidden_size"_a, "num_layers"_a = 1, "bias"_a = true, "batch_first"_a = false,
        "dropout"_a = 0.0, "bidirectional"_a = false, "proj_size"_a = 0, "device"_a = py::none(),
        "dtype"_a = py::none())
      .def("reset_parameters", &R::reset_parameters)
      .def("_run",
           [](R& r, py::object input, py::object hx) {
             const Tensor& x = input_of(input);
             auto s = states(hx);
             return to_tuple(unlocked([&] { return r.run(x, s); }));
           })
      .def("_run_packed",
           [](R& r, py::object data, const std::vector<int64_t>& batch_sizes, py::object hx) {
             const Tensor& rows = input_of(data);
             auto s = states(hx);
             return to_tuple(unlocked([&] { return r.run_packed(rows, batch_sizes, s); }));
           })
      .def_property_readonly("all_weights", &R::all_weights)
      // the last of the fields: a copy has all settings by then
      .def_property("_declared", [](const R&) { return true; }, [](R& r, bool) { r.declare_weights(); });
  settings(c, "mode", &R::mode, "input_size", &R::input_size, "hidden_size", &R::hidden_size, "num_layers",
           &R::num_layers, "bias", &R::bias, "batch_first", &R::batch_first, "dropout", &R::dropout, "bidirectional",
           &R::bidirectional, "proj_size", &R::proj_size);
  carry_over(c, "_declared");
}

void bind_cells(py::module_& m) {
  using R = nn::RNNCellBaseImpl;
  auto c = module_class<R>(m, "RNNCellBase", "One step of a recurrent layer.");
  c.def(py::init([](const std::string& mode, int64_t in, int64_t hidden, bool bias, std::optional<Device> device,
                    std::optional<DType> dtype) {
          return std::make_unique<Tramp<R>>(mode, in, hidden, bias, Where{device, dtype}.options());
        }),
        "mode"_a, "input_size"_a, "hidden_size"_a, "bias"_a, "device"_a, "dtype"_a)
      .def("reset_parameters", &R::reset_parameters)
      .def(
          "forward",
          [](R& r, py::object input, py::object hx) -> py::object {
            auto next = r.step(input_of(input), states(hx));
            return next.size() == 1 ? wrap_object(next[0]) : py::object(py::tuple(py::cast(next)));
          },
          "input"_a, "hx"_a = py::none());
  mark_native(c, "forward");
  settings(c, "_mode", &R::mode, "input_size", &R::input_size, "hidden_size", &R::hidden_size, "bias", &R::bias);
}

}  // namespace

void bind_rnn(py::module_& m) {
  bind_layers_of(m);
  bind_cells(m);
}

}  // namespace tg::python
