// How modules meet Python: every module that Python makes is a Tramp<M>, which knows its Python object and calls a
// Python `forward` where a class or an instance defines one. Modules made by C++ have no PySide.
#pragma once
#include <pybind11/trampoline_self_life_support.h>

#include "nn/nn.h"
#include "python/bindings.h"
#include "python/casters.h"

namespace tg::nn {

struct PySide {
  virtual ~PySide() = default;
  // forward of the C++ class, also where Python overrides it (super().forward(x)).
  virtual void native(TensorList xs, Outputs& out) = 0;
  virtual void native_train(bool on) = 0;
  virtual std::string native_extra_repr() = 0;
  // The Python object, borrowed: it outlives the C++ one.
  PyObject* self() { return self_ ? self_ : self_ = find_self(); }
  bool instance_forward = false;  // `m.forward = f` on the instance
  bool hooked = false;            // hooks are registered: calls go through nn/modules/_hooks.py

  // Whether Python defines forward. Without the interpreter lock unless the class changed.
  bool overrides_forward() {
    PyTypeObject* t = self_ ? Py_TYPE(self_) : nullptr;
    if (t && t == type_ && tag_ != 0 && t->tp_version_tag == tag_) return overridden_ || instance_forward;
    return look_up_forward();
  }

 protected:
  virtual PyObject* find_self() = 0;

 private:
  bool look_up_forward();
  PyObject* self_ = nullptr;
  PyTypeObject* type_ = nullptr;
  unsigned tag_ = 0;
  bool overridden_ = false;
};

}  // namespace tg::nn

namespace tg::python {

using nn::Module;

// The Python object of a module, made if there is none.
py::object wrap_module(const std::shared_ptr<Module>& m);
// None for null, TypeError if it is no module.
std::shared_ptr<Module> to_module(py::handle o);
// Sets up garbage collection, call, attributes; every module class passes it to class_.
void setup_type(PyHeapTypeObject* t);
// Attributes found in the type's mro; borrowed, null if missing.
PyObject* find_in_type(PyTypeObject* t, const char* name);

// Calls of a Python override, from any thread.
void call_python_forward(nn::PySide& side, TensorList xs, Outputs& out);
bool python_overrides(nn::PySide& side, const char* method);
void call_python_train(nn::PySide& side, bool on);
std::string call_python_extra_repr(nn::PySide& side);
std::string python_class_name(nn::PySide& side);

template <class M>
struct [[gnu::visibility("hidden")]] Tramp : M, py::trampoline_self_life_support, nn::PySide {
  using M::M;
  nn::PySide* py_side() override { return this; }
  Tensor forward(const Tensor& x) override {
    if (!overrides_forward()) return M::forward(x);
    Outputs out;
    call_python_forward(*this, TensorList(&x, 1), out);
    TG_CHECK(out.size() == 1, TypeError, "forward: ", python_class_name(*this), ".forward must return one tensor here");
    return std::move(out[0]);
  }
  void forward_list(TensorList xs, Outputs& out) override {
    if (overrides_forward())
      call_python_forward(*this, xs, out);
    else
      native(xs, out);
  }
  void native(TensorList xs, Outputs& out) override {
    if (std::is_base_of_v<nn::FnModule, M> || xs.size() != 1)
      M::forward_list(xs, out);
    else
      out.push_back(M::forward(xs[0]));
  }
  void train(bool on) override {
    if (python_overrides(*this, "train"))
      call_python_train(*this, on);
    else
      M::train(on);
  }
  void native_train(bool on) override { M::train(on); }
  std::string type_name() const override { return python_class_name(const_cast<Tramp&>(*this)); }
  std::string extra_repr() const override {
    auto& me = const_cast<Tramp&>(*this);
    return python_overrides(me, "extra_repr") ? call_python_extra_repr(me) : M::extra_repr();
  }
  std::string native_extra_repr() override { return M::extra_repr(); }

 protected:
  PyObject* find_self() override {
    return py::detail::get_object_handle(static_cast<M*>(this), py::detail::get_type_info(typeid(M))).ptr();
  }
};

template <class M>
using ModuleClass = py::class_<M, Module, Tramp<M>, py::smart_holder>;

// class_ of a module.
template <class M>
ModuleClass<M> module_class(py::module_& m, const char* name, const char* doc) {
  ModuleClass<M> c(m, name, doc, py::custom_type_setup(setup_type));
  // For copies: a constructor without settings. pybind11 knows a constructor by its name, and one among the forms of
  // __init__ would show in the texts of errors.
  c.def(
      "__setstate__", [](py::detail::value_and_holder& v) { v.value_ptr<M>() = new Tramp<M>(nn::Blank{}); },
      py::detail::is_new_style_constructor());
  c.attr("_blank") = c.attr("__setstate__");
  py::delattr(c, "__setstate__");
  return c;
}

// Makes a constructor that always builds the trampoline.
template <class M, class... A>
auto init_tramp() {
  return py::init([](A... a) { return std::make_unique<Tramp<M>>(std::forward<A>(a)...); });
}

// The last two arguments of every layer.
struct Where {
  std::optional<Device> device;
  std::optional<DType> dtype;
  nn::Options options() const { return {dtype, device ? device : default_device()}; }
};

// One or several integers.
nn::Ints ints(py::handle h);

// Adds to what copies and pickles of a class carry over.
inline void carry_over(py::handle type, const char* name) {
  type.attr("_fields") = py::object(type.attr("_fields")) + py::object(py::make_tuple(name));
}

// Attributes that copies and pickles carry over, in this order, besides those of the base: names and the members behind
// them. Members that hold several integers are tuples in Python.
template <class Class>
void settings(Class&) {}
template <class Class, class M, class T, class... Rest>
void settings(Class& c, const char* name, T M::* member, Rest... rest) {
  if constexpr (std::is_same_v<T, std::vector<int64_t>>)
    c.def_property(
        name, [member](const M& m) { return py::tuple(py::cast(m.*member)); },
        [member](M& m, py::object v) { m.*member = ints(v); });
  else
    c.def_readwrite(name, member);
  carry_over(c, name);
  settings(c, rest...);
}

// Module.forward and super().forward: the C++ class's own.
py::object native_forward(py::object self, const py::args& args, const py::kwargs& kwargs);
py::object sequential_native_forward(py::object self, py::object input);
// A method of this class that is C++ underneath: a class that has another one overrides it.
void mark_native(py::handle type, const char* method);
void set_hooked(py::object self, bool on);
// While there are hooks for all modules, every call goes through nn/modules/_hooks.py.
void set_global_hooks(bool on);
void finish_module_type(py::handle type);
void finish_sequential_type(py::handle type);
// The function that runs calls with hooks, and the public classes by name.
void set_python_parts(py::object hooks_runner, py::dict classes);
nn::Attr to_setting(py::handle h);
py::object from_setting(const nn::Attr& a);

void bind_module(py::module_& m);
void bind_layers(py::module_& m);
void bind_rnn(py::module_& m);
void bind_fn_modules(py::module_& m);
void bind_containers(py::module_& m);
void bind_init(py::module_& m);

}  // namespace tg::python
