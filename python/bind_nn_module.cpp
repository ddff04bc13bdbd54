// Methods of Module: registration, walks, state, conversions, copies.
#include "python/bind_nn.h"

namespace tg::python {
namespace {

[[noreturn]] void no_attribute(const std::string& text) { throw py::attribute_error(text); }

py::object iterator_of(py::list l) { return l.attr("__iter__")(); }

py::object iterator(const nn::NamedTensors& named, bool names) {
  py::list l;
  for (auto& [name, t] : named) {
    py::object o = wrap_object(t);
    l.append(names ? py::object(py::make_tuple(name, o)) : o);
  }
  return iterator_of(l);
}
py::object iterator(const nn::NamedModules& named, bool names) {
  py::list l;
  for (auto& [name, m] : named) {
    py::object o = wrap_module(m);
    l.append(names ? py::object(py::make_tuple(name, o)) : o);
  }
  return iterator_of(l);
}

// "a.b.weight" -> the module a.b and "weight"; AttributeError when the path does not exist.
std::pair<std::shared_ptr<Module>, std::string> resolve(const std::shared_ptr<Module>& m, const std::string& path) {
  size_t dot = path.rfind('.');
  if (dot == path.npos) return {m, path};
  try {
    return {m->get_submodule(path.substr(0, dot)), path.substr(dot + 1)};
  } catch (const ValueError& e) {
    no_attribute(e.what());
  }
}

Tensor get_tensor(const std::shared_ptr<Module>& root, const std::string& path, Module::Kind kind, const char* what) {
  auto [m, name] = resolve(root, path);
  auto* s = m->find_slot(name);
  if (!s || !s->present || s->kind != kind) no_attribute(str(m->type_name(), " has no ", what, " `", name, "`"));
  return *s->at;
}

py::dict named(Module& m, Module::Kind kind) {
  py::dict d;
  for (auto& s : m.slots())
    if (s.present && s.kind == kind) d[py::str(s.name)] = wrap_object(*s.at);
  return d;
}

py::dict named_kids(Module& m) {
  py::dict d;
  for (auto& child : m.kids()) d[py::str(child.name)] = wrap_module(child.module);
  return d;
}

// What `module._parameters[name] = t` and the like do: any tensor or None, as PyTorch's dicts take it.
void put(Module& m, Module::Kind kind, const std::string& name, const Tensor& t) {
  if (!m.find_slot(name)) m.register_buffer(name, {});
  auto* s = m.find_slot(name);
  *s->at = t;
  s->kind = kind;
  s->present = true;
}

// ---- copies and pickles: an empty object of the class, then its state

py::dict get_state(py::object self) {
  auto m = to_module(self);
  py::list tensors, kids;
  for (auto& s : m->slots())
    if (s.present) tensors.append(py::make_tuple(s.name, wrap_object(*s.at), int(s.kind), s.persistent));
  for (auto& c : m->kids()) kids.append(py::make_tuple(c.name, wrap_module(c.module)));
  py::dict state, fields;
  for (py::handle f : self.attr("_fields")) fields[f] = self.attr(f);
  if (auto* fn = dynamic_cast<nn::FnModule*>(m.get()); fn && fn->kind()) {
    state["fn"] = fn->kind()->name;
    for (auto& f : fn->kind()->fields)
      if (f.type != "Tensor") fields[py::str(f.name)] = from_setting(fn->attr(f.name));
  }
  state["fields"] = fields;
  state["tensors"] = tensors;
  state["children"] = kids;
  state["dict"] = self.attr("__dict__");
  return state;
}

void set_state(py::object self, const py::dict& state) {
  auto m = to_module(self);
  if (!state.contains("tensors")) {  // attributes alone, from a __getstate__ of the class's own
    self.attr("__dict__").attr("update")(state);
    return;
  }
  if (auto* fn = dynamic_cast<nn::FnModule*>(m.get())) fn->set_kind(nn::fn_kind(state["fn"].cast<std::string>()));
  for (auto [name, value] : state["fields"].cast<py::dict>()) self.attr(name) = value;
  std::vector<std::string> declared;
  for (auto& s : m->slots()) declared.push_back(s.name);
  for (auto& name : declared) m->remove(name);
  for (py::handle item : state["tensors"]) {
    auto t = item.cast<py::tuple>();
    auto name = t[0].cast<std::string>();
    auto kind = Module::Kind(t[2].cast<int>());
    if (kind == Module::Kind::Parameter)
      m->register_parameter(name, t[1].cast<Tensor>());
    else
      m->register_buffer(name, t[1].cast<Tensor>(), t[3].cast<bool>());
    m->find_slot(name)->kind = kind;
  }
  for (py::handle item : state["children"]) {
    auto t = item.cast<py::tuple>();
    m->register_module(t[0].cast<std::string>(), to_module(t[1]));
  }
  self.attr("__dict__").attr("update")(state["dict"]);
  if (py::hasattr(self, "_hooks")) set_hooked(self, true);
  if (m->py_side()) m->py_side()->instance_forward = state["dict"].contains("forward");
}

py::object rebuild_module(py::type cls, py::object registered) {
  py::object o = cls.attr("__new__")(cls);
  for (py::handle base : cls.attr("__mro__").cast<py::tuple>()) {
    auto& info = py::detail::all_type_info(reinterpret_cast<PyTypeObject*>(base.ptr()));
    if (info.size() == 1 && reinterpret_cast<PyObject*>(info[0]->type) == base.ptr()) {
      base.attr(py::hasattr(base, "_blank") ? "_blank" : "__init__")(o);
      if (!registered.is_none()) set_state(o, registered);
      return o;
    }
  }
  fail<TypeError>("copy: not a Module class");
}

// Rebuilds the object from its class and then its state; a class with a __getstate__ or __setstate__ of its own writes
// and reads its attributes only, and what is registered goes along with the class.
py::tuple reduce_module(py::object rebuild_function, py::object self) {
  py::type cls = py::type::of(self), base = py::type::of<Module>();
  py::object state = self.attr("__getstate__")();
  bool own = !cls.attr("__getstate__").is(base.attr("__getstate__")) ||
             !cls.attr("__setstate__").is(base.attr("__setstate__"));
  if (!own) return py::make_tuple(rebuild_function, py::make_tuple(cls), state);
  py::dict registered = get_state(self);
  if (cls.attr("__getstate__").is(base.attr("__getstate__"))) state = registered["dict"];
  registered["dict"] = py::dict();
  return py::make_tuple(rebuild_function, py::make_tuple(cls, registered), state);
}

using C = py::class_<Module, Tramp<Module>, py::smart_holder>;

Tensor tensor_or_none(const char* what, const std::string& name, py::handle o) {
  TG_CHECK(o.is_none() || is_tensor(o.ptr()), TypeError, what, ": '", name, "' must be a tensor or None, not ",
           Py_TYPE(o.ptr())->tp_name);
  return o.is_none() ? Tensor() : unwrap(o.ptr());
}

void bind_registration(C& c) {
  c.def(
       "register_parameter",
       [](Module& m, const std::string& name, py::object o) {
         m.register_parameter(name, tensor_or_none("register_parameter", name, o));
       },
       py::arg("name"), py::arg("param").none(true))
      .def(
          "register_buffer",
          [](Module& m, const std::string& name, py::object o, bool persistent) {
            m.register_buffer(name, tensor_or_none("register_buffer", name, o), persistent);
          },
          py::arg("name"), py::arg("tensor").none(true), py::arg("persistent") = true);
  for (const char* name : {"register_module", "add_module"})
    c.def(
        name, [](Module& m, const std::string& n, py::object o) { m.register_module(n, to_module(o)); },
        py::arg("name"), py::arg("module").none(true));
  c.def("get_parameter", [](const std::shared_ptr<Module>& m,
                            const std::string& p) { return get_tensor(m, p, Module::Kind::Parameter, "parameter"); })
      .def("get_buffer", [](const std::shared_ptr<Module>& m,
                            const std::string& p) { return get_tensor(m, p, Module::Kind::Buffer, "buffer"); })
      .def("get_submodule",
           [](py::object self, const std::string& path) {
             if (path.empty()) return self;
             auto [m, name] = resolve(to_module(self), path);
             auto* child = m->find_child(name);
             if (!child || !child->module) no_attribute(str(m->type_name(), " has no attribute `", name, "`"));
             return wrap_module(child->module);
           })
      .def("_named", [](Module& m, int kind) { return named(m, Module::Kind(kind)); })
      .def("_named_modules_here", named_kids)
      .def(
          "_put",
          [](Module& m, int kind, const std::string& name, const Tensor& t) { put(m, Module::Kind(kind), name, t); },
          py::arg("kind"), py::arg("name"), py::arg("tensor").none(true))
      .def("_drop", [](Module& m, const std::string& name) { return m.remove(name); })
      .def_property_readonly("_non_persistent_buffers_set",
                             [](Module& m) {
                               py::set names;
                               for (auto& s : m.slots())
                                 if (s.present && s.kind == Module::Kind::Buffer && !s.persistent) names.add(s.name);
                               return names;
                             })
      .def("__dir__", [](py::object self) {
        py::set names(py::module_::import("builtins").attr("object").attr("__dir__")(self));
        auto m = to_module(self);
        for (auto& s : m->slots())
          if (s.present) names.add(s.name);
        for (auto& child : m->kids()) names.add(child.name);
        return py::module_::import("builtins").attr("sorted")(names);
      });
}

void bind_walks(C& c) {
  using namespace py::literals;
  c.def(
       "parameters", [](Module& m, bool recurse) { return iterator(m.named_parameters("", recurse), false); },
       "recurse"_a = true)
      .def(
          "named_parameters",
          [](Module& m, const std::string& prefix, bool recurse, bool dedup) {
            return iterator(m.named_parameters(prefix, recurse, dedup), true);
          },
          "prefix"_a = "", "recurse"_a = true, "remove_duplicate"_a = true)
      .def(
          "buffers", [](Module& m, bool recurse) { return iterator(m.named_buffers("", recurse), false); },
          "recurse"_a = true)
      .def(
          "named_buffers",
          [](Module& m, const std::string& prefix, bool recurse, bool dedup) {
            return iterator(m.named_buffers(prefix, recurse, dedup), true);
          },
          "prefix"_a = "", "recurse"_a = true, "remove_duplicate"_a = true)
      .def("modules", [](Module& m) { return iterator(m.named_modules(), false); })
      .def(
          "_named_modules",
          [](Module& m, const std::string& prefix, bool dedup) {
            return iterator(m.named_modules(prefix, dedup), true);
          },
          "prefix"_a = "", "remove_duplicate"_a = true)
      .def("children", [](Module& m) { return iterator(m.named_children(), false); })
      .def("named_children", [](Module& m) { return iterator(m.named_children(), true); })
      .def("apply", [](py::object self, py::function fn) {
        to_module(self)->apply([&](Module& m) { fn(wrap_module(m.shared_from_this())); });
        return self;
      });
}

void bind_state(C& c) {
  using namespace py::literals;
  c.def(
       "train",
       [](py::object self, bool mode) {
         auto m = to_module(self);
         if (m->py_side())
           m->py_side()->native_train(mode);
         else
           m->train(mode);
         return self;
       },
       "mode"_a = true)
      .def("eval", [](py::object self) { return self.attr("train")(false); })
      .def("zero_grad", &Module::zero_grad, "set_to_none"_a = true)
      .def(
          "requires_grad_",
          [](py::object self, bool on) {
            to_module(self)->requires_grad_(on);
            return self;
          },
          "requires_grad"_a = true)
      .def_readwrite("training", &Module::training);
}

}  // namespace

void bind_module(py::module_& m) {
  C c(m, "Module", py::dynamic_attr(), py::custom_type_setup(setup_type));
  c.doc() = "Base of all modules: parameters, buffers and children registered by assignment to attributes.";
  c.def(py::init([](const py::args&, const py::kwargs&) { return std::make_unique<Tramp<Module>>(); }))
      .def("forward", native_forward)
      .def("extra_repr",
           [](Module& mod) { return mod.py_side() ? mod.py_side()->native_extra_repr() : mod.extra_repr(); })
      .def("__repr__", &Module::repr)
      .def("__reduce_ex__", [m](py::object self, int) { return reduce_module(m.attr("_rebuild"), self); })
      .def("__getstate__", get_state)
      .def("_set_state", set_state)
      .def("_set_hooked", set_hooked);
  c.attr("__setstate__") = c.attr("_set_state");  // pybind11 would take a method defined by that name for a constructor
  c.attr("_fields") = py::make_tuple("training");
  bind_registration(c);
  bind_walks(c);
  bind_state(c);
  for (const char* name : {"forward", "train", "extra_repr"}) mark_native(c, name);
  finish_module_type(c);
  m.def("_rebuild", rebuild_module, py::arg("cls"), py::arg("registered") = py::none());
  m.def("_set_global_hooks", set_global_hooks);
  m.def("_set_python_parts", set_python_parts);
}

}  // namespace tg::python
