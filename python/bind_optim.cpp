// Optimizers: one step of a parameter group that is a Python dict, gradient clipping, the formulas of the schedulers.
#include <pybind11/functional.h>

#include <algorithm>

#include "backends/cuda.h"
#include "core/modes.h"
#include "optim/clip.h"
#include "optim/grad_scaler.h"
#include "optim/half.h"
#include "optim/schedule.h"
#include "python/casters.h"

namespace tg::python {
namespace {

using namespace optim;

// A setting as the rules know it; others (foreach=..., strings) are none of theirs.
Setting to_setting(py::handle v) {
  PyObject* o = v.ptr();
  double d;
  if (o == Py_None) return std::monostate();
  if (PyBool_Check(o)) return o == Py_True;
  if (PyFloat_CheckExact(o)) return PyFloat_AS_DOUBLE(o);
  if (is_tensor(o) && unwrap(o).numel() == 1) return unwrap(o).item();  // a rate, of any number of axes
  if (PyTuple_Check(o) || PyList_Check(o)) {
    std::array<double, 2> pair;
    auto seq = py::reinterpret_borrow<py::sequence>(v);
    if (seq.size() == 2 && to_float(py::object(seq[0]).ptr(), pair[0]) && to_float(py::object(seq[1]).ptr(), pair[1]))
      return pair;
  } else if (to_float(o, d)) {
    return d;
  }
  return std::monostate();
}

Options to_options(const py::dict& group) {
  Options options;
  for (auto [key, value] : group) {
    auto name = key.cast<std::string>();
    if (name != "params") options[name] = to_setting(value);
  }
  return options;
}

// The state of one parameter: what the dict held, and where it came from.
struct Entry {
  py::object param;
  py::object dict;  // null: none yet
  State state;
};

State to_state(const py::object& dict) {
  State state;
  if (!dict) return state;
  for (auto [key, value] : py::reinterpret_borrow<py::dict>(dict))
    if (is_tensor(value.ptr())) state[key.cast<std::string>()] = unwrap(value.ptr());
  return state;
}

// Puts the tensors that are new into the parameter's dict.
void store(const py::dict& states, Entry& e) {
  if (e.state.empty()) return;
  if (!e.dict) {
    e.dict = py::dict();
    states[e.param] = e.dict;
  }
  auto dict = py::reinterpret_borrow<py::dict>(e.dict);
  for (const auto& [name, tensor] : e.state) {
    if (!tensor.defined()) continue;
    PyObject* old = PyDict_GetItemString(dict.ptr(), name.c_str());
    if (old && is_tensor(old) && unwrap(old).is_same(tensor)) continue;
    TG_CHECK(
        !cuda::capturing(), NotImplementedError, "optimizer: a step that makes \"", name,
        "\" anew cannot be recorded, as it would be made anew in every replay; take one step outside of the graph");
    dict[name.c_str()] = wrap_object(tensor);
  }
}

py::object find_state(const py::dict& states, py::handle param) {
  PyObject* found = PyDict_GetItemWithError(states.ptr(), param.ptr());
  if (!found && PyErr_Occurred()) throw_python_error();
  return py::reinterpret_borrow<py::object>(found);
}

// One step of the parameters that have a gradient, with the states {parameter: {name: tensor}}.
void step_params(const Rule& rule, const Options& options, const std::vector<py::object>& params,
                 const py::dict& states) {
  std::vector<Entry> entries;
  std::vector<Slot> slots;
  for (const py::object& p : params) {
    Tensor param = p.cast<Tensor>(), grad = param.grad();
    if (!grad.defined()) continue;
    py::object dict = find_state(states, p);
    entries.push_back({p, dict, to_state(dict)});
    slots.push_back({param, grad});
  }
  for (size_t i = 0; i < slots.size(); ++i) slots[i].state = &entries[i].state;
  {
    py::gil_scoped_release unlocked;
    NoGrad guard;
    update_group(rule, options, slots);
  }
  for (Entry& e : entries) store(states, e);
}

// A graph's replays do what was recorded: they count no steps, and a first step would be the first each time.
void check_recordable(const Rule& rule, const py::dict& group, const py::dict& states) {
  const bool capturable = rule.capturable && group.contains("capturable") && group["capturable"].cast<bool>();
  TG_CHECK(
      rule.uncounted || capturable, NotImplementedError, rule.name,
      ": a graph cannot take this optimizer's step: the step's number would be the same in every replay; ",
      rule.capturable ? "make it with capturable=True" : "replay the gradients and call step() outside of the graph");
  if (!capturable && group["momentum"].cast<double>() == 0) return;
  for (py::handle p : group["params"])
    TG_CHECK(states.contains(p) || !unwrap(p.ptr()).requires_grad(), NotImplementedError, rule.name,
             ": the first step, which makes the state, cannot be recorded, as it would be the first in every replay; "
             "take one before");
}

// One step of `group`, a dict of Optimizer.param_groups. A parameter that is listed twice takes two steps.
void step_group(const std::string& rule_name, const py::dict& group, const py::dict& states) {
  const Rule& rule = find_rule(rule_name);
  if (cuda::capturing()) check_recordable(rule, group, states);
  Options options = to_options(group);
  std::vector<py::object> params;
  for (py::handle p : group["params"]) params.push_back(py::reinterpret_borrow<py::object>(p));
  std::vector<PyObject*> sorted;
  for (const py::object& p : params) sorted.push_back(p.ptr());
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end())
    step_params(rule, options, params, states);
  else
    for (const py::object& p : params) step_params(rule, options, {p}, states);
}

// State that exists before the first step (Adagrad's accumulator).
void init_group(const std::string& rule_name, const py::dict& group, const py::dict& states) {
  const Rule& rule = find_rule(rule_name);
  if (!rule.init) return;
  Options options = to_options(group);
  for (py::handle p : group["params"]) {
    Entry e{py::reinterpret_borrow<py::object>(p), find_state(states, p), {}};
    NoGrad guard;
    init_state(rule, options, p.cast<Tensor>(), e.state);
    store(states, e);
  }
}

void bind_schedule(py::module_& m) {
  namespace s = optim::schedule;
  auto sub = m.def_submodule("_schedule", "Learning rates as functions of the epoch.");
  sub.def("step_next", s::step_next).def("step_at", s::step_at);
  sub.def("multi_step_next", s::multi_step_next).def("multi_step_at", s::multi_step_at);
  sub.def("constant_next", s::constant_next).def("constant_at", s::constant_at);
  sub.def("linear_next", s::linear_next).def("linear_at", s::linear_at);
  sub.def("exponential_next", s::exponential_next).def("exponential_at", s::exponential_at);
  sub.def("polynomial_next", s::polynomial_next).def("polynomial_at", s::polynomial_at);
  sub.def("cosine_next", s::cosine_next).def("cosine_at", s::cosine_at);
  sub.def("restart_at", [](double epoch, int64_t t_0, int64_t t_mult) {
    s::Restart r = s::restart_at(epoch, t_0, t_mult);
    return std::pair(r.since, r.length);
  });
  sub.def("one_cycle",
          [](int64_t step, int64_t total, double pct, bool cosine, bool three_phase, double start, double top,
             double low) { return s::OneCycle{total, pct, cosine, three_phase}.at(step, start, top, low); });
  py::class_<s::Plateau>(sub, "Plateau")
      .def(py::init([](bool minimize, bool relative, double threshold, int64_t patience, int64_t cooldown) {
        s::Plateau p{minimize, relative, threshold, patience, cooldown};
        p.reset();
        return p;
      }))
      .def_readwrite("patience", &s::Plateau::patience)
      .def_readwrite("cooldown", &s::Plateau::cooldown)
      .def_readwrite("threshold", &s::Plateau::threshold)
      .def_readwrite("best", &s::Plateau::best)
      .def_readwrite("num_bad_epochs", &s::Plateau::num_bad_epochs)
      .def_readwrite("cooldown_counter", &s::Plateau::cooldown_counter)
      .def("is_better", &s::Plateau::is_better)
      .def("reset", &s::Plateau::reset)
      .def("update", &s::Plateau::update);
}

// A tensor, or any iterable of them.
std::vector<Tensor> to_tensors(const py::object& o) {
  if (is_tensor(o.ptr())) return {unwrap(o.ptr())};
  std::vector<Tensor> v;
  for (py::handle p : o) v.push_back(p.cast<Tensor>());
  return v;
}

// What tinygrad_cpp.amp.GradScaler stands on. An optimizer is given as (key, parameters, wide, name_of).
void bind_grad_scaler(py::module_& m) {
  using optim::GradScaler;
  using Names = std::function<std::string(size_t)>;
  auto target = [](int64_t key, const py::object& params, std::vector<bool> wide, Names names) {
    return GradScaler::Target{reinterpret_cast<const void*>(key), to_tensors(params), std::move(wide),
                              std::move(names)};
  };
  py::class_<GradScaler>(m, "_GradScaler")
      .def(py::init([](double scale, double growth, double backoff, int64_t interval, bool enabled) {
        return std::make_unique<GradScaler>(optim::GradScalerOptions{scale, growth, backoff, interval, enabled});
      }))
      .def("is_enabled", &GradScaler::is_enabled)
      .def("scale", &GradScaler::scale)
      .def("unscale_",
           [target](GradScaler& s, int64_t key, const py::object& params, std::vector<bool> wide, Names names) {
             GradScaler::Target t = target(key, params, std::move(wide), std::move(names));
             py::gil_scoped_release unlocked;
             s.unscale_(t);
           })
      .def("begin_step",
           [target](GradScaler& s, int64_t key, const py::object& params, std::vector<bool> wide, Names names) {
             GradScaler::Target t = target(key, params, std::move(wide), std::move(names));
             py::gil_scoped_release unlocked;
             return s.begin_step(t);
           })
      .def("update", [](GradScaler& s) { s.update(); })
      .def("is_between_iterations", &GradScaler::is_between_iterations)
      .def("set_scale", [](GradScaler& s, double scale) { s.update(scale); })
      .def("get_scale", &GradScaler::get_scale)
      .def("state_dict",
           [](const GradScaler& s) {
             py::dict d;
             for (const auto& [name, value] : s.state_dict()) d[name.c_str()] = value;
             return d;
           })
      .def("load_state_dict",
           [](GradScaler& s, const py::dict& d) {
             optim::Named<double> state;
             for (auto [name, value] : d) state[name.cast<std::string>()] = value.cast<double>();
             s.load_state_dict(state);
           })
      .def_readwrite("skipped_steps", &GradScaler::skipped_steps)
      .def_readwrite("last_skip", &GradScaler::last_skip)
      .def_readonly("loss_scale", &GradScaler::loss_scale);
}

}  // namespace
}  // namespace tg::python

void bind_optim(py::module_& m) {
  using namespace tg::python;
  m.def("_optim_step", step_group, py::arg("rule"), py::arg("group"), py::arg("states"));
  m.def("_optim_init", init_group, py::arg("rule"), py::arg("group"), py::arg("states"));
  m.def("_optim_check",
        [](const std::string& rule, const py::dict& group) { tg::optim::find_rule(rule).check(to_options(group)); });
  m.def(
      "clip_grad_norm_",
      [](const py::object& parameters, double max_norm, double norm_type, bool error_if_nonfinite, const py::object&) {
        return tg::optim::clip_grad_norm_(to_tensors(parameters), max_norm, norm_type, error_if_nonfinite);
      },
      py::arg("parameters"), py::arg("max_norm"), py::arg("norm_type") = 2.0, py::arg("error_if_nonfinite") = false,
      py::arg("foreach") = py::none(),
      "Scales the gradients in place so that their norm, taken as one vector, is at most max_norm; returns the norm.");
  m.def(
      "clip_grad_value_",
      [](const py::object& parameters, double clip_value, const py::object&) {
        tg::optim::clip_grad_value_(to_tensors(parameters), clip_value);
      },
      py::arg("parameters"), py::arg("clip_value"), py::arg("foreach") = py::none(),
      "Limits every element of the gradients to [-clip_value, clip_value].");
  m.def(
      "_unscale",
      [](const py::object& grads, double factor) {
        std::vector<tg::Tensor> list = to_tensors(grads);
        py::gil_scoped_release unlocked;
        return tg::optim::unscale(list, factor);
      },
      py::arg("grads"), py::arg("factor"),
      "Multiplies gradients in place and returns the index of the first that is not finite, or -1.");
  py::class_<tg::optim::LossScale>(m, "_LossScale")
      .def_readwrite("scale", &tg::optim::LossScale::scale)
      .def_readwrite("growth", &tg::optim::LossScale::growth)
      .def_readwrite("backoff", &tg::optim::LossScale::backoff)
      .def_readwrite("interval", &tg::optim::LossScale::interval)
      .def_readwrite("tracker", &tg::optim::LossScale::tracker);
  m.def(
      "_check_unscaled",
      [](const py::object& parameters, const std::string& op) {
        tg::optim::check_unscaled(to_tensors(parameters), op.c_str());
      },
      py::arg("parameters"), py::arg("op"), "Error if a gradient still carries the scale of a GradScaler.");
  bind_grad_scaler(m);
  bind_schedule(m);
}
