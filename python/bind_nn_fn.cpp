// The modules of nn/fn_modules.def as Python classes, containers, initialisers.
#include "python/bind_nn.h"

namespace tg::python {
namespace {

using namespace py::literals;

// The row of the class of an object being made.
const nn::FnKind& kind_of(PyObject* self) {
  PyObject* name = find_in_type(Py_TYPE(self), "_kind");
  TG_CHECK(name, TypeError, "FnModule: make one of its classes instead");
  return nn::fn_kind(py::handle(name).cast<std::string>());
}

nn::Arg to_arg(const nn::FnKind& kind, py::handle h) {
  if (is_tensor(h.ptr())) return nn::Arg(unwrap(h.ptr()));
  try {
    return nn::Arg(to_setting(h));
  } catch (const py::cast_error&) {
    fail<TypeError>(kind.name, ": an argument cannot be of type ", Py_TYPE(h.ptr())->tp_name);
  }
}

void init_fn_module(py::detail::value_and_holder& v, const py::args& args, const py::kwargs& kwargs) {
  const nn::FnKind& kind = kind_of(reinterpret_cast<PyObject*>(v.inst));
  std::vector<nn::Arg> list;
  std::vector<std::string> names;
  names.reserve(kwargs.size());
  for (py::handle a : args) list.push_back(to_arg(kind, a));
  for (auto [key, value] : kwargs) {
    names.push_back(key.cast<std::string>());
    list.push_back(nn::kw(names.back(), to_arg(kind, value)));
  }
  v.value_ptr<nn::FnModule>() = new Tramp<nn::FnModule>(kind.name, list);
}

// class ReLU(FnModule): _kind = "ReLU"
py::object make_class(const py::object& base, const nn::FnKind& k) {
  py::dict d;
  d["__module__"] = "tinygrad_cpp.nn.modules." + k.file;
  d["__doc__"] = k.name + "(" + k.signature + ")\n\n" + k.doc;
  d["_kind"] = k.name;
  return py::type::of(base)(k.name, py::make_tuple(base), d);
}

}  // namespace

void bind_fn_modules(py::module_& m) {
  auto base = module_class<nn::FnModule>(m, "FnModule", "Base of the modules that are an op plus settings.");
  base.def("__init__", init_fn_module, py::detail::is_new_style_constructor());
  py::dict classes;
  for (const nn::FnKind* k : nn::fn_kinds()) classes[k->name.c_str()] = make_class(base, *k);
  m.attr("fn_classes") = classes;
}

void bind_containers(py::module_& m) {
  using L = nn::ModuleListImpl;
  using S = nn::SequentialImpl;
  auto list = module_class<L>(m, "ModuleList", "Modules in a row.");
  list.def(init_tramp<L>());
  auto sequential = module_class<S>(m, "Sequential", "Modules in a row, each applied to the output of the one before.");
  sequential.def(init_tramp<S>());
  sequential.def("forward", sequential_native_forward);
  mark_native(sequential, "forward");
  finish_sequential_type(sequential);
  auto common = [](auto& c, auto tag) {
    using M = typename decltype(tag)::type;
    c.def("__len__", &M::size)
        .def("_at", [](const M& l, int64_t i) { return wrap_module(l.at(i)); })
        .def("_insert", [](M& l, int64_t i, py::object o) { l.insert(i, to_module(o)); })
        .def("_replace", [](M& l, int64_t i, py::object o) { l.replace(i, to_module(o)); })
        .def("_erase", &M::erase)
        .def("_append", [](M& l, py::object o) { l.append(to_module(o)); });
  };
  common(list, Tag<L>{});
  common(sequential, Tag<S>{});

  using D = nn::ModuleDictImpl;
  module_class<D>(m, "ModuleDict", "Modules by name.")
      .def(init_tramp<D>())
      .def("_remove", [](D& d, const std::string& key) { return d.remove(key); });
  using PL = nn::ParameterListImpl;
  module_class<PL>(m, "ParameterList", "Parameters in a row.")
      .def(init_tramp<PL>())
      .def("__len__", &PL::size)
      .def("_at", [](const PL& l, int64_t i) { return l[i]; })
      .def("_append", &PL::append);
  using PD = nn::ParameterDictImpl;
  module_class<PD>(m, "ParameterDict", "Parameters by name.")
      .def(init_tramp<PD>())
      .def("_set", &PD::set)
      .def("_remove", [](PD& d, const std::string& key) { return d.remove(key); });
}

void bind_init(py::module_& m) {
  auto i = m.def_submodule("init", "Initial values of parameters.");
  namespace in = nn::init;
  auto generator = "generator"_a = py::none();
  i.def("uniform_", &in::uniform_, "tensor"_a, "a"_a = 0.0, "b"_a = 1.0, generator);
  i.def("normal_", &in::normal_, "tensor"_a, "mean"_a = 0.0, "std"_a = 1.0, generator);
  i.def("trunc_normal_", &in::trunc_normal_, "tensor"_a, "mean"_a = 0.0, "std"_a = 1.0, "a"_a = -2.0, "b"_a = 2.0,
        generator);
  i.def("constant_", &in::constant_, "tensor"_a, "val"_a);
  i.def("ones_", &in::ones_, "tensor"_a);
  i.def("zeros_", &in::zeros_, "tensor"_a);
  i.def("eye_", &in::eye_, "tensor"_a);
  i.def("dirac_", &in::dirac_, "tensor"_a, "groups"_a = 1);
  i.def("xavier_uniform_", &in::xavier_uniform_, "tensor"_a, "gain"_a = 1.0, generator);
  i.def("xavier_normal_", &in::xavier_normal_, "tensor"_a, "gain"_a = 1.0, generator);
  i.def("orthogonal_", &in::orthogonal_, "tensor"_a, "gain"_a = 1.0, generator);
  i.def("kaiming_uniform_", &in::kaiming_uniform_, "tensor"_a, "a"_a = 0.0, "mode"_a = "fan_in",
        "nonlinearity"_a = "leaky_relu", generator);
  i.def("kaiming_normal_", &in::kaiming_normal_, "tensor"_a, "a"_a = 0.0, "mode"_a = "fan_in",
        "nonlinearity"_a = "leaky_relu", generator);
  i.def("sparse_", &in::sparse_, "tensor"_a, "sparsity"_a, "std"_a = 0.01, generator);
  i.def("calculate_gain", &in::calculate_gain, "nonlinearity"_a, "param"_a = py::none());
  i.def("_calculate_fan_in_and_fan_out", &in::fan_in_out, "tensor"_a);
}

}  // namespace tg::python
