// Modules as Python objects: calls, attributes, garbage collection. Methods are in bind_nn_module.cpp.
#include "python/bind_nn.h"

#include <unordered_set>

namespace tg::nn {

namespace {
// The `forward`, `train` and `extra_repr` functions that are C++ underneath.
std::unordered_set<PyObject*>& native_methods() {
  static auto* set = new std::unordered_set<PyObject*>;
  return *set;
}
}  // namespace

bool PySide::look_up_forward() {
  py::gil_scoped_acquire gil;
  PyObject* s = self();
  if (!s) return false;
  type_ = Py_TYPE(s);
  PyObject* f = python::find_in_type(type_, "forward");
  overridden_ = f && !native_methods().count(f);
  tag_ = type_->tp_version_tag;
  return overridden_ || instance_forward;
}

}  // namespace tg::nn

namespace tg::python {
namespace {

PyTypeObject* module_type = nullptr;
PyObject *run_hooks = nullptr, *class_of_name = nullptr;
PyObject *module_forward = nullptr, *sequential_forward = nullptr;  // the native ones
bool global_hooks = false;  // hooks for all modules: every call goes through run_hooks

PyObject* interned(const char* s) {
  PyObject* o = PyUnicode_InternFromString(s);
  if (!o) throw_python_error();
  return o;
}

// Empty for an object that is still being allocated: the collector may run then, and visits it.
py::detail::value_and_holder holder_of(PyObject* o) {
  auto* inst = reinterpret_cast<py::detail::instance*>(o);
  bool laid_out = inst->simple_layout || inst->nonsimple.values_and_holders;
  return laid_out ? inst->get_value_and_holder() : py::detail::value_and_holder();
}

// The C++ module of an object, without the casting machinery; null before Module.__init__ ran. Module is the first
// base of every class, so all its subobjects share one address.
Module* peek(PyObject* o) {
  auto vh = holder_of(o);
  return vh.inst && vh && vh.holder_constructed() ? static_cast<Module*>(vh.value_ptr()) : nullptr;
}

bool is_module(PyObject* o) { return PyObject_TypeCheck(o, module_type); }

// ---- garbage collection
//
// An object owns its C++ module, which owns children, whose Python objects live as long. The collector may see an
// edge only if it is the sole owner of its target: everything else stays a root.

using SelfLife = py::detail::smart_holder_type_caster_support::shared_ptr_trampoline_self_life_support;

int visit_children(Module* m, visitproc visit, void* arg) {
  for (auto& c : m->kids()) {
    if (!c.module || c.module.use_count() != 1) continue;
    if (auto* d = std::get_deleter<SelfLife>(c.module))
      Py_VISIT(d->self);
    else if (int r = visit_children(c.module.get(), visit, arg))
      return r;
  }
  return 0;
}

bool sole_owner(PyObject* o) {
  auto vh = holder_of(o);
  return vh.inst && vh.holder_constructed() && vh.holder<py::smart_holder>().vptr.use_count() == 1;
}

int traverse_module(PyObject* self, visitproc visit, void* arg);

// A Python subclass visits the instance's __dict__ itself; a second visit would make everything in it look alive.
bool dict_is_ours(PyObject* self) {
  PyTypeObject* base = Py_TYPE(self);
  while (base->tp_traverse != traverse_module) base = base->tp_base;
  return base == Py_TYPE(self) || base->tp_dictoffset == Py_TYPE(self)->tp_dictoffset;
}

int traverse_module(PyObject* self, visitproc visit, void* arg) {
  if (dict_is_ours(self)) {
    if (int r = py::detail::pybind11_traverse(self, visit, arg)) return r;
  } else {
    Py_VISIT(Py_TYPE(self));
  }
  return sole_owner(self) ? visit_children(peek(self), visit, arg) : 0;
}

int clear_module(PyObject* self) {
  if (sole_owner(self)) {
    auto kids = std::move(peek(self)->kids());
    peek(self)->kids().clear();
  }
  return py::detail::pybind11_clear(self);
}

// ---- calls

py::object to_python(Outputs& out) {
  if (out.size() == 1) return wrap_object(std::move(out[0]));
  py::tuple t(out.size());
  for (int i = 0; i < out.size(); ++i) t[size_t(i)] = wrap_object(std::move(out[i]));
  return t;
}

// Runs the C++ forward, without the interpreter lock when the input is large.
Outputs run_native(Module& m, TensorList xs) {
  Outputs out;
  auto run = [&] {
    if (nn::PySide* side = m.py_side())
      side->native(xs, out);
    else
      m.forward_list(xs, out);
  };
  if (xs.size() > 0 && xs[0].defined() && xs[0].numel() > kReleaseGil) {
    py::gil_scoped_release release;
    run();
  } else {
    run();
  }
  return out;
}

PyObject* module_call(PyObject* self, PyObject* args, PyObject* kwargs);

// Whether Python defines forward or __call__.
bool overrides_call(nn::PySide& side) {
  return side.overrides_forward() || Py_TYPE(side.self())->tp_call != module_call;
}

// Values of any type pass between Python modules; between C++ modules tensors stay in C++.
py::object run_sequential(nn::SequentialImpl& s, py::object x) {
  Tensor t;
  for (size_t i = 0; i < s.kids().size(); ++i) {
    std::shared_ptr<Module> kid = s.kids()[i].module;  // a hook may edit the list
    TG_CHECK(kid, TypeError, "forward: module ", i, " of Sequential is None");
    nn::PySide* side = kid->py_side();
    bool native = !global_hooks && !kid->has_call_wrapper() && !(side && overrides_call(*side));
    if (x && is_tensor(x.ptr())) t = unwrap(x.ptr()), x = py::object();
    if (native && !x && kid->kids().empty()) {
      Outputs out = run_native(*kid, TensorList(&t, 1));
      if (out.size() == 1)
        t = std::move(out[0]);
      else
        x = to_python(out);
      continue;
    }
    if (!x) x = wrap_object(std::move(t));
    auto* inner = native ? dynamic_cast<nn::SequentialImpl*>(kid.get()) : nullptr;
    x = inner ? run_sequential(*inner, std::move(x)) : wrap_module(kid)(x);
  }
  return x ? x : wrap_object(std::move(t));
}

Module& ready(PyObject* self) {
  Module* m = peek(self);
  if (!m) {
    PyErr_Format(PyExc_AttributeError, "'%s': Module.__init__() was not called", Py_TYPE(self)->tp_name);
    throw_python_error();
  }
  return *m;
}

PyObject* call_forward(PyObject* self, Module& m, PyObject* args, PyObject* kwargs) {
  static PyObject* forward_name = interned("forward");
  nn::PySide* side = m.py_side();
  bool plain = (!kwargs || PyDict_GET_SIZE(kwargs) == 0) && side && !side->instance_forward;
  PyObject* f = plain ? _PyType_Lookup(Py_TYPE(self), forward_name) : nullptr;
  Py_ssize_t n = PyTuple_GET_SIZE(args);
  if (f && n == 1 && f == module_forward && is_tensor(PyTuple_GET_ITEM(args, 0))) {
    Outputs out = run_native(m, TensorList(&unwrap(PyTuple_GET_ITEM(args, 0)), 1));
    return to_python(out).release().ptr();
  }
  if (f && n == 1 && f == sequential_forward)
    return run_sequential(static_cast<nn::SequentialImpl&>(m),
                          py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(args, 0)))
        .release()
        .ptr();
  if (f && PyFunction_Check(f) && n < 8) {
    PyObject* stack[9] = {nullptr, self};
    for (Py_ssize_t i = 0; i < n; ++i) stack[2 + i] = PyTuple_GET_ITEM(args, i);
    return PyObject_Vectorcall(f, stack + 1, size_t(n + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  }
  py::object method = checked(PyObject_GetAttr(self, forward_name));
  return PyObject_Call(method.ptr(), args, kwargs);
}

bool has_python_hooks(Module& m, PyObject* self) {
  if (nn::PySide* side = m.py_side()) return side->hooked;
  return PyObject_HasAttrString(self, "_hooks");
}

PyObject* module_call(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    Module& m = ready(self);
    if (TG_LIKELY(!m.has_call_wrapper() && !global_hooks)) return call_forward(self, m, args, kwargs);
    if (!global_hooks && !has_python_hooks(m, self)) {  // a wrapper from C++
      TG_CHECK(PyTuple_GET_SIZE(args) == 1 && is_tensor(PyTuple_GET_ITEM(args, 0)), TypeError, m.type_name(),
               ": expected one tensor");
      return wrap(m(unwrap(PyTuple_GET_ITEM(args, 0))));
    }
    py::object kw = kwargs ? py::reinterpret_borrow<py::object>(kwargs) : py::dict();
    return PyObject_CallFunctionObjArgs(run_hooks, self, args, kw.ptr(), nullptr);
  });
}

// ---- attributes

std::string_view text_of(PyObject* name) {
  Py_ssize_t n = 0;
  const char* s = PyUnicode_AsUTF8AndSize(name, &n);
  if (!s) throw_python_error();
  return {s, size_t(n)};
}

py::object setting_to_python(const nn::Attr& a) {
  struct Visit {
    py::object operator()(std::monostate) { return py::none(); }
    py::object operator()(bool b) { return py::bool_(b); }
    py::object operator()(int64_t i) { return py::int_(i); }
    py::object operator()(double d) { return py::float_(d); }
    py::object operator()(const std::string& s) { return py::str(s); }
    py::object operator()(const std::vector<int64_t>& v) {
      py::tuple t(v.size());
      for (size_t i = 0; i < v.size(); ++i) t[i] = v[i] == nn::kInputSize ? py::object(py::none()) : py::int_(v[i]);
      return t;
    }
    py::object operator()(const std::vector<double>& v) { return py::tuple(py::cast(v)); }
  };
  return std::visit(Visit{}, a);
}

PyObject* get_attribute(PyObject* self, PyObject* name) {
  return guarded([&]() -> PyObject* {
    Module* m = peek(self);
    if (!m || _PyType_Lookup(Py_TYPE(self), name)) return PyObject_GenericGetAttr(self, name);
    std::string_view n = text_of(name);
    if (auto* s = m->find_slot(n); s && s->present) return wrap(*s->at);
    if (auto* c = m->find_child(n)) return wrap_module(c->module).release().ptr();
    PyObject* found = PyObject_GenericGetAttr(self, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
    auto* fn = dynamic_cast<nn::FnModule*>(m);
    if (!fn || !fn->kind() || fn->kind()->field(n) < 0) return nullptr;
    PyErr_Clear();
    return setting_to_python(fn->attr(n)).release().ptr();
  });
}

void drop_from_dict(PyObject* self, PyObject* name) {
  py::object dict = checked(PyObject_GenericGetDict(self, nullptr));
  if (PyDict_Contains(dict.ptr(), name) == 1) PyDict_DelItem(dict.ptr(), name);
}

[[noreturn]] void reject(PyObject* value, const char* as, PyObject* name, const char* wanted) {
  PyErr_Format(PyExc_TypeError, "cannot assign '%s' as %s '%U' (%s or None expected)", Py_TYPE(value)->tp_name, as,
               name, wanted);
  throw_python_error();
}

// nn.Buffer(t): a tensor that becomes a buffer where it is assigned.
bool is_new_buffer(PyObject* tensor) {
  PyObject* dict = reinterpret_cast<PyTensor*>(tensor)->dict;
  return dict && PyDict_GetItemString(dict, "_is_buffer");
}

// True if the value became, or replaced, something that is registered.
bool set_registered(PyObject* self, Module* m, PyObject* name, PyObject* value) {
  bool parameter = PyObject_TypeCheck(value, parameter_type), module = !parameter && is_module(value);
  if (!m) {
    if (!parameter && !module) return false;
    PyErr_Format(PyExc_AttributeError, "cannot assign %s before Module.__init__() call",
                 parameter ? "parameters" : "module");
    throw_python_error();
  }
  std::string_view n = text_of(name);
  auto* s = m->find_slot(n);
  auto* c = m->find_child(n);
  bool present = s && s->present;
  if (parameter || module) {
    drop_from_dict(self, name);
    if (parameter && c) m->remove(n);
    if (module && present) m->remove(n);
    std::string key(n);
    if (parameter)
      m->register_parameter(key, unwrap(value));
    else
      m->register_module(key, to_module(value));
    return true;
  }
  bool tensor = is_tensor(value), none = value == Py_None;
  if (c) {
    if (!none) reject(value, "child module", name, "Module");
    c->module = nullptr;
    return true;
  }
  if (tensor && !present && is_new_buffer(value)) {
    drop_from_dict(self, name);
    m->register_buffer(std::string(n), unwrap(value), py::handle(value).attr("persistent").cast<bool>());
    return true;
  }
  if (!s || (!present && !tensor)) return false;
  PyObject* in_class = present ? nullptr : _PyType_Lookup(Py_TYPE(self), name);
  if (in_class && Py_TYPE(in_class)->tp_descr_set) return false;  // a property
  if (s->kind == Module::Kind::Parameter && !none) reject(value, "parameter", name, "Parameter");
  if (s->kind == Module::Kind::Buffer && present && !none && !tensor) reject(value, "buffer", name, "Tensor");
  if (!none && !tensor) {  // a declared name that is used for something else
    m->remove(n);
    return false;
  }
  *s->at = none ? Tensor() : unwrap(value);
  s->present = true;
  return true;
}

nn::Attr setting_from_python(PyObject* v) {
  double d = 0;
  int64_t i = 0;
  std::vector<int64_t> ints;
  if (v == Py_None) return {};
  if (PyBool_Check(v)) return v == Py_True;
  if (PyUnicode_Check(v)) return std::string(text_of(v));
  if (to_int(v, i)) return i;
  if (PyTuple_Check(v) || PyList_Check(v)) {
    for (py::handle item : py::handle(v)) {
      bool none = item.is_none();
      if (!none && !to_int(item.ptr(), i)) break;
      ints.push_back(none ? nn::kInputSize : i);
    }
    if (ints.size() == py::len(v)) return ints;
    ints.clear();
    if (to_ints(v, ints)) return ints;
    PyErr_Clear();
    return py::handle(v).cast<std::vector<double>>();
  }
  if (to_float(v, d)) return d;
  if (to_ints(v, ints)) return ints;
  fail<TypeError>("expected a number, string or sequence, not ", Py_TYPE(v)->tp_name);
}

int set_attribute(PyObject* self, PyObject* name, PyObject* value) {
  return guarded([&]() -> int {
    Module* m = peek(self);
    std::string_view n = text_of(name);
    if (m && n == "forward" && m->py_side()) m->py_side()->instance_forward = value != nullptr;
    if (!value) return m && m->remove(n) ? 0 : PyObject_GenericSetAttr(self, name, nullptr);
    if (set_registered(self, m, name, value)) return 0;
    auto* fn = m && !_PyType_Lookup(Py_TYPE(self), name) ? dynamic_cast<nn::FnModule*>(m) : nullptr;
    if (!fn || !fn->kind() || fn->kind()->field(n) < 0) return PyObject_GenericSetAttr(self, name, value);
    fn->set_attr(n, setting_from_python(value));
    return 0;
  });
}

PyObject* method_setattr(PyObject* self, PyObject* args) {
  PyObject *name, *value;
  if (!PyArg_ParseTuple(args, "UO:__setattr__", &name, &value)) return nullptr;
  return set_attribute(self, name, value) == 0 ? Py_NewRef(Py_None) : nullptr;
}
PyObject* method_delattr(PyObject* self, PyObject* name) {
  return set_attribute(self, name, nullptr) == 0 ? Py_NewRef(Py_None) : nullptr;
}

// Methods instead of the type slot: with the slot, object.__setattr__(module, name, value) would be an error, and
// programs use it to keep a module from being registered.
void add_attribute_methods(PyTypeObject* t) {
  static PyMethodDef methods[] = {{"__setattr__", method_setattr, METH_VARARGS, "Sets, and registers, an attribute."},
                                  {"__delattr__", method_delattr, METH_O, "Removes an attribute."}};
  for (PyMethodDef& m : methods)
    py::handle(reinterpret_cast<PyObject*>(t)).attr(m.ml_name) = checked(PyDescr_NewMethod(t, &m));
}

// An instance of `cls`, a Python subclass of the bound `type`, for a module made by C++.
py::object make_wrapper_of(PyTypeObject* cls, PyTypeObject* type, const std::shared_ptr<Module>& m) {
  auto object = py::reinterpret_steal<py::object>(py::detail::make_new_instance(cls));
  auto* inst = reinterpret_cast<py::detail::instance*>(object.ptr());
  inst->owned = true;
  py::detail::values_and_holders(inst).begin()->value_ptr() = m.get();
  auto holder = py::smart_holder::from_shared_ptr(std::shared_ptr<void>(m, m.get()));
  py::detail::get_type_info(type)->init_instance(inst, &holder);
  return object;
}

}  // namespace

PyObject* find_in_type(PyTypeObject* t, const char* name) {
  py::str key(name);
  return _PyType_Lookup(t, key.ptr());
}

std::shared_ptr<Module> to_module(py::handle o) {
  if (o.is_none()) return nullptr;
  TG_CHECK(is_module(o.ptr()), TypeError, "expected a Module, not ", Py_TYPE(o.ptr())->tp_name);
  ready(o.ptr());
  return o.cast<std::shared_ptr<Module>>();
}

py::object wrap_module(const std::shared_ptr<Module>& m) {
  if (!m) return py::none();
  if (nn::PySide* side = m->py_side())
    if (PyObject* self = side->self()) return py::reinterpret_borrow<py::object>(self);
  // made by C++: an instance of the public class of that name, if there is one
  py::object o = py::cast(m);
  PyTypeObject* type = Py_TYPE(o.ptr());
  PyObject* cls = class_of_name ? PyDict_GetItemString(class_of_name, m->type_name().c_str()) : nullptr;
  auto* public_type = reinterpret_cast<PyTypeObject*>(cls);
  if (!cls || type == public_type || !PyType_IsSubtype(public_type, type)) return o;
  o = py::object();
  return make_wrapper_of(public_type, type, m);
}

void setup_type(PyHeapTypeObject* heap) {
  PyTypeObject* t = &heap->ht_type;
  t->tp_flags |= Py_TPFLAGS_HAVE_GC;
  t->tp_traverse = traverse_module;
  t->tp_clear = clear_module;
  t->tp_call = module_call;
  t->tp_getattro = get_attribute;
}

// ---- from C++ into Python

void call_python_forward(nn::PySide& side, TensorList xs, Outputs& out) {
  py::gil_scoped_acquire gil;
  py::tuple args(size_t(xs.size()));
  for (int64_t i = 0; i < xs.size(); ++i) args[size_t(i)] = wrap_object(xs[i]);
  py::object r = py::handle(side.self()).attr("forward")(*args);
  auto add = [&](py::handle h) {
    TG_CHECK(is_tensor(h.ptr()), TypeError, "forward: ", python_class_name(side), ".forward returned ",
             Py_TYPE(h.ptr())->tp_name, " where C++ needs a tensor");
    out.push_back(unwrap(h.ptr()));
  };
  if (py::isinstance<py::tuple>(r))
    for (py::handle h : r) add(h);
  else
    add(r);
}

bool python_overrides(nn::PySide& side, const char* method) {
  py::gil_scoped_acquire gil;
  PyObject* s = side.self();
  PyObject* f = s ? find_in_type(Py_TYPE(s), method) : nullptr;
  return f && !nn::native_methods().count(f);
}

void call_python_train(nn::PySide& side, bool on) {
  py::gil_scoped_acquire gil;
  py::handle(side.self()).attr("train")(on);
}

std::string call_python_extra_repr(nn::PySide& side) {
  py::gil_scoped_acquire gil;
  return py::str(py::handle(side.self()).attr("extra_repr")());
}

std::string python_class_name(nn::PySide& side) {
  py::gil_scoped_acquire gil;
  PyObject* s = side.self();
  return s ? std::string(py::str(py::type::handle_of(s).attr("__name__"))) : "Module";
}

namespace {

// The names by which PyTorch's modules know the tensors that forward takes.
std::vector<std::string> input_names(const Module& m) {
  if (auto* fn = dynamic_cast<const nn::FnModule*>(&m); fn && fn->kind()) return fn->input_names();
  if (dynamic_cast<const nn::BilinearImpl*>(&m)) return {"input1", "input2"};
  return {"input"};
}

std::string joined(const std::vector<std::string>& names) {
  std::string s;
  for (const std::string& n : names) s += (s.empty() ? "" : ", ") + n;
  return s;
}

}  // namespace

// What the other files of the binding need of this one.
py::object native_forward(py::object self, const py::args& args, const py::kwargs& kwargs) {
  Module& m = ready(self.ptr());
  TG_CHECK(typeid(m) != typeid(Tramp<Module>), NotImplementedError, "forward: Module [", m.type_name(),
           "] is missing the required \"forward\" function");
  std::vector<py::handle> values(args.begin(), args.end());
  std::vector<std::string> names = kwargs.size() > 0 ? input_names(m) : std::vector<std::string>();
  for (size_t i = values.size(); i < names.size() && kwargs.contains(names[i].c_str()); ++i)
    values.push_back(PyDict_GetItemString(kwargs.ptr(), names[i].c_str()));
  TG_CHECK(values.size() == args.size() + kwargs.size(), TypeError, "forward: ", m.type_name(), " takes (",
           joined(names), "); the keywords ", py::str(py::list(kwargs.attr("keys")())).cast<std::string>(),
           " do not fit");
  std::vector<Tensor> xs;
  for (py::handle h : values) {
    TG_CHECK(is_tensor(h.ptr()), TypeError, "forward: ", m.type_name(), " takes tensors, not ",
             Py_TYPE(h.ptr())->tp_name);
    xs.push_back(unwrap(h.ptr()));
  }
  Outputs out = run_native(m, xs);
  return to_python(out);
}

py::object sequential_native_forward(py::object self, py::object input) {
  return run_sequential(static_cast<nn::SequentialImpl&>(ready(self.ptr())), std::move(input));
}

nn::Attr to_setting(py::handle h) { return setting_from_python(h.ptr()); }
py::object from_setting(const nn::Attr& a) { return setting_to_python(a); }

void mark_native(py::handle type, const char* method) {
  PyObject* f = find_in_type(reinterpret_cast<PyTypeObject*>(type.ptr()), method);
  if (f) nn::native_methods().insert(f);
}

// Calls go through nn/modules/_hooks.py while `on`.
void set_hooked(py::object self, bool on) {
  Module& m = ready(self.ptr());
  if (m.py_side()) m.py_side()->hooked = on;
  if (!on) return m.set_call_wrapper(nullptr);
  // a module made by C++ has to keep the Python object that holds its hooks
  std::shared_ptr<py::object> keep(m.py_side() ? nullptr : new py::object(self), [](py::object* o) {
    py::gil_scoped_acquire gil;
    delete o;
  });
  m.set_call_wrapper([keep](Module& module, TensorList xs) {
    py::gil_scoped_acquire gil;
    py::tuple args(size_t(xs.size()));
    for (int64_t i = 0; i < xs.size(); ++i) args[size_t(i)] = wrap_object(xs[i]);
    py::object r = (keep ? *keep : py::reinterpret_borrow<py::object>(module.py_side()->self()))(*args);
    TG_CHECK(is_tensor(r.ptr()), TypeError, "forward: ", module.type_name(), " returned ", Py_TYPE(r.ptr())->tp_name,
             " where C++ needs a tensor");
    return Tensor(unwrap(r.ptr()));
  });
}

void finish_module_type(py::handle type) {
  module_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  module_forward = find_in_type(module_type, "forward");
  add_attribute_methods(module_type);
}
void set_global_hooks(bool on) { global_hooks = on; }
void finish_sequential_type(py::handle type) {
  sequential_forward = find_in_type(reinterpret_cast<PyTypeObject*>(type.ptr()), "forward");
}
void set_python_parts(py::object hooks_runner, py::dict classes) {
  run_hooks = hooks_runner.release().ptr();
  class_of_name = classes.release().ptr();
}

}  // namespace tg::python

void bind_nn(py::module_& root) {
  using namespace tg::python;
  auto m = root.def_submodule("_nn", "Modules.");
  bind_module(m);
  bind_layers(m);
  bind_rnn(m);
  bind_fn_modules(m);
  bind_containers(m);
  bind_init(m);
}
