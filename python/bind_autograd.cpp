// The tape in Python: attributes of tensors, backward, hooks, nodes, custom functions, checks.
#include "core/checkpoint.h"
#include "ops/ops.h"
#include "python/casters.h"

PYBIND11_DECLARE_HOLDER_TYPE(T, tg::Ref<T>, true)

namespace tg::python {
namespace {

// A Python callable, or any object, inside the library: may be copied and dropped on any thread.
class Callable {
 public:
  explicit Callable(py::object f)
      : f_(f.release().ptr(), [](PyObject* p) {
          if (!Py_IsInitialized()) return;
          PyGILState_STATE gil = PyGILState_Ensure();
          Py_DECREF(p);
          PyGILState_Release(gil);
        }) {}
  // The interpreter lock must be held.
  template <class... A>
  py::object operator()(A&&... args) const {
    return object()(std::forward<A>(args)...);
  }
  py::object object() const { return py::reinterpret_borrow<py::object>(f_.get()); }

 private:
  std::shared_ptr<PyObject> f_;
};

using Tensors = std::vector<Tensor>;

// A tensor, None, or a sequence of them.
Tensors tensor_list(const py::object& o, const char* what) {
  if (o.is_none()) return {};
  if (is_tensor(o.ptr())) return {unwrap(o.ptr())};
  Tensors out;
  TG_CHECK(PySequence_Check(o.ptr()) && !PyUnicode_Check(o.ptr()), TypeError, what,
           " must be Tensor or a sequence of Tensors, not ", Py_TYPE(o.ptr())->tp_name);
  for (auto item : py::reinterpret_borrow<py::sequence>(o)) {
    TG_CHECK(item.is_none() || is_tensor(item.ptr()), TypeError, what, " must hold Tensors, not ",
             Py_TYPE(item.ptr())->tp_name, " at position ", out.size());
    out.push_back(item.is_none() ? Tensor() : unwrap(item.ptr()));
  }
  return out;
}

// ---- attributes

template <class F>
int setter(PyObject* value, F&& f) {
  return guarded([&]() -> int {
    TG_CHECK(value, AutogradError, "Tensor: this attribute cannot be deleted");
    f();
    return 0;
  });
}

PyObject* get_requires_grad(PyObject* o, void*) { return wrap_bool(unwrap(o).requires_grad()); }
int set_requires_grad(PyObject* o, PyObject* v, void*) {
  return setter(v, [&] {
    TG_CHECK(PyBool_Check(v), TypeError, "requires_grad must be bool, not ", Py_TYPE(v)->tp_name);
    unwrap(o).set_requires_grad(v == Py_True);
  });
}

PyObject* get_grad(PyObject* o, void*) {
  return guarded([&] { return wrap(unwrap(o).grad()); });
}
int set_grad(PyObject* o, PyObject* v, void*) {
  return guarded([&]() -> int {
    if (!v || v == Py_None) {
      unwrap(o).set_grad(Tensor());
      return 0;
    }
    TG_CHECK(is_tensor(v), TypeError, "grad must be Tensor or None, not ", Py_TYPE(v)->tp_name);
    unwrap(o).set_grad(unwrap(v));
    return 0;
  });
}

PyObject* get_data(PyObject* o, void*) {
  return guarded([&] {
    const Tensor& t = unwrap(o);
    Tensor d = make_view(t, t.sizes(), t.strides(), t.storage_offset());
    d.impl()->base.reset();
    return wrap(std::move(d));
  });
}
int set_data_attribute(PyObject* o, PyObject* v, void*) {
  return setter(v, [&] {
    TG_CHECK(is_tensor(v), TypeError, "data must be Tensor, not ", Py_TYPE(v)->tp_name);
    set_data(unwrap(o), unwrap(v));
  });
}

PyObject* get_grad_fn(PyObject* o, void*) {
  return guarded([&] { return py::cast(unwrap(o).grad_fn()).release().ptr(); });
}
PyObject* get_is_leaf(PyObject* o, void*) {
  return guarded([&] { return wrap_bool(unwrap(o).is_leaf()); });
}
PyObject* get_output_nr(PyObject* o, void*) {
  return guarded([&] {
    Edge e = edge_of(unwrap(o));
    return PyLong_FromLong(e.node ? e.slot : 0);
  });
}
PyObject* get_retains_grad(PyObject* o, void*) {
  const AutogradMeta* m = find_meta(unwrap(o));
  return wrap_bool(m && m->retained);
}
PyObject* get_base(PyObject* o, void*) {
  return guarded([&] { return wrap(Tensor(unwrap(o).impl()->base)); });
}

PyGetSetDef kAttributes[] = {
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether gradients are computed for this tensor.", nullptr},
    {"grad", get_grad, set_grad, "The gradient that backward() summed up, or None.", nullptr},
    {"data", get_data, set_data_attribute, "The same values outside of the tape.", nullptr},
    {"grad_fn", get_grad_fn, nullptr, "The node of the tape that made this tensor, None for leaves.", nullptr},
    {"is_leaf", get_is_leaf, nullptr, "True if no recorded op made this tensor.", nullptr},
    {"output_nr", get_output_nr, nullptr, "Which output of grad_fn this tensor is.", nullptr},
    {"retains_grad", get_retains_grad, nullptr, "True for a non-leaf after retain_grad().", nullptr},
    {"_base", get_base, nullptr, "The tensor this one is a view of, or None.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

// ---- hooks

struct HookHandle {
  Tensor t;
  uint64_t id;
  void remove() {
    if (t.defined()) remove_hook(t, id);
    t = Tensor();
  }
};

HookHandle register_hook(const Tensor& t, py::object f) {
  TG_CHECK(PyCallable_Check(f.ptr()), TypeError, "register_hook: expected a callable, not ", Py_TYPE(f.ptr())->tp_name);
  Callable call(std::move(f));
  return {t, add_hook(t, [call](const Tensor& g) {
            py::gil_scoped_acquire gil;
            py::object r = call(g);
            if (r.is_none()) return Tensor();
            TG_CHECK(is_tensor(r.ptr()), TypeError, "register_hook: the hook must return Tensor or None, not ",
                     Py_TYPE(r.ptr())->tp_name);
            return unwrap(r.ptr());
          })};
}

HookHandle register_post_hook(const Tensor& t, py::object f) {
  Callable call(std::move(f));
  return {t, add_post_accumulate_hook(t, [call](const Tensor& leaf) {
            py::gil_scoped_acquire gil;
            call(leaf);
          })};
}

// ---- nodes

// What the tape shows where a gradient ends in a leaf.
struct Accumulate {
  Tensor variable;
};

py::tuple next_functions(const Node& n) {
  py::tuple out(size_t(n.next.size()));
  for (int i = 0; i < n.next.size(); ++i) {
    const Edge& e = n.next[i];
    py::object to = e.node ? py::cast(e.node) : e.leaf ? py::cast(Accumulate{Tensor(e.leaf)}) : py::none();
    out[size_t(i)] = py::make_tuple(to, e.slot);
  }
  return out;
}

void bind_nodes(py::module_& m) {
  py::class_<Node, Ref<Node>>(m, "Node", "A recorded op.")
      .def("name", &Node::name, "Name of the op, such as 'MulBackward0'.")
      .def_property_readonly("next_functions", &next_functions, "Where the gradients of the inputs go.")
      .def("__repr__", [](const Node& n) { return "<" + n.name() + ">"; });
  py::class_<Accumulate>(m, "AccumulateGrad", "Where a gradient is added to a leaf's .grad.")
      .def("name", [](const Accumulate&) { return "AccumulateGrad"; })
      .def_readonly("variable", &Accumulate::variable)
      .def_property_readonly("next_functions", [](const Accumulate&) { return py::tuple(); })
      .def("__repr__", [](const Accumulate&) { return "<AccumulateGrad>"; });
  py::class_<HookHandle>(m, "RemovableHandle", "Removes a hook when asked to, or at the end of a with block.")
      .def("remove", &HookHandle::remove)
      .def_readonly("id", &HookHandle::id)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](HookHandle& h, py::args) { h.remove(); });
}

// ---- backward and grad

void run_backward(const py::object& tensors, const py::object& grads, std::optional<bool> retain, bool create,
                  const py::object& inputs) {
  Tensors roots = tensor_list(tensors, "backward(): tensors"), seeds = tensor_list(grads, "backward(): gradient"),
          only = tensor_list(inputs, "backward(): inputs");
  TG_CHECK(inputs.is_none() || !only.empty(), ValueError, "backward: inputs is empty");
  py::gil_scoped_release no_gil;
  backward(roots, seeds, retain.value_or(create), create, only);
}

py::tuple run_grad(const py::object& outputs, const py::object& inputs, const py::object& grad_outputs,
                   std::optional<bool> retain, bool create, std::optional<bool> allow_unused, bool materialize) {
  Tensors ys = tensor_list(outputs, "grad(): outputs"), xs = tensor_list(inputs, "grad(): inputs"),
          seeds = tensor_list(grad_outputs, "grad(): grad_outputs"), gs;
  {
    py::gil_scoped_release no_gil;
    gs = grad(ys, xs, seeds, retain.value_or(create), create, allow_unused.value_or(materialize));
    for (size_t i = 0; materialize && i < gs.size(); ++i)
      if (!gs[i].defined()) gs[i] = zeros_like(xs[i]);
  }
  py::tuple out(gs.size());
  for (size_t i = 0; i < gs.size(); ++i) out[i] = wrap_object(gs[i]);
  return out;
}

// ---- custom functions; the class Function itself is written in Python (autograd.py)

Tensors apply_python(const std::string& name, py::object forward, py::object backward, const Tensors& inputs) {
  Callable fwd(std::move(forward)), bwd(std::move(backward));
  CustomFunction f;
  f.name = name;
  f.forward = [fwd](FunctionCtx& ctx, const Tensors& in) {
    return tensor_list(fwd(py::cast(&ctx, py::return_value_policy::reference), in), "forward(): the result");
  };
  f.backward = [bwd](FunctionCtx& ctx, const Tensors& grads) {
    py::gil_scoped_acquire gil;
    return tensor_list(bwd(py::cast(&ctx, py::return_value_policy::reference), grads), "backward(): the result");
  };
  return apply_function(std::move(f), inputs);
}

CheckedFn checked_function(py::object f) {
  Callable call(std::move(f));
  return [call](const Tensors& inputs) { return tensor_list(call(inputs), "gradcheck(): the function's result"); };
}

void bind_functions(py::module_& m) {
  py::class_<FunctionCtx>(m, "_FunctionCtx")
      .def("save_for_backward", &FunctionCtx::save_for_backward)
      .def("saved", &FunctionCtx::saved)
      .def("mark_non_differentiable", &FunctionCtx::mark_non_differentiable)
      .def("mark_dirty", &FunctionCtx::mark_dirty)
      .def("needs_input_grad", &FunctionCtx::needs_input_grad);
  m.def("_apply_function", &apply_python);
  m.def("_gradcheck", [](py::object f, const Tensors& inputs, double eps, double atol, double rtol) {
    return gradcheck(checked_function(std::move(f)), inputs, {eps, atol, rtol});
  });
  m.def("_gradgradcheck", [](py::object f, const Tensors& inputs, double eps, double atol, double rtol) {
    return gradgradcheck(checked_function(std::move(f)), inputs, {eps, atol, rtol});
  });
}

// ---- saved-tensor hooks and checkpointing

void push_python_hooks(py::object pack, py::object unpack) {
  Callable do_pack(std::move(pack)), do_unpack(std::move(unpack));
  auto hooks = std::make_shared<SavedHooks>();
  hooks->pack = [do_pack](const Tensor& t) -> std::any {
    py::gil_scoped_acquire gil;
    return Callable(do_pack(t));
  };
  hooks->unpack = [do_unpack](const std::any& packed) {
    py::gil_scoped_acquire gil;
    py::object r = do_unpack(std::any_cast<const Callable&>(packed).object());
    TG_CHECK(is_tensor(r.ptr()), TypeError, "saved_tensors_hooks: the unpack hook must return a Tensor, not ",
             Py_TYPE(r.ptr())->tp_name);
    return unwrap(r.ptr());
  };
  push_saved_hooks(std::move(hooks));
}

py::object checkpoint_python(const py::object& first, py::object again, const Tensors& inputs, bool preserve_rng_state,
                             bool early_stop, bool check) {
  py::object result;
  Callable run_again(std::move(again));
  checkpoint(
      [&](const Tensors& xs) {
        result = first(xs);
        return Tensors{};
      },
      [run_again](const Tensors& xs) {
        py::gil_scoped_acquire gil;
        run_again(xs);
        return Tensors{};
      },
      inputs, {preserve_rng_state, early_stop, check});
  return result;
}

void bind_saved(py::module_& m) {
  m.def("_push_saved_hooks", &push_python_hooks);
  m.def("_pop_saved_hooks", &pop_saved_hooks);
  m.def("_forbid_saved_hooks", &forbid_saved_hooks);
  m.def("_checkpoint", &checkpoint_python);
}

}  // namespace

void init_autograd(py::module_& m) {
  for (PyGetSetDef* g = kAttributes; g->name; ++g)
    py::handle(reinterpret_cast<PyObject*>(tensor_type)).attr(g->name) = checked(PyDescr_NewGetSet(tensor_type, g));
  bind_nodes(m);
  bind_functions(m);
  bind_saved(m);
  m.def("_backward", &run_backward);
  m.def("_grad", &run_grad);
  method("backward", &run_backward, py::arg("gradient") = py::none(), py::arg("retain_graph") = py::none(),
         py::arg("create_graph") = false, py::arg("inputs") = py::none(),
         "Adds the gradients of this tensor with respect to all leaves it depends on to their .grad.");
  method(
      "requires_grad_",
      [](py::object self, bool on) {
        unwrap(self.ptr()).set_requires_grad(on);
        return self;
      },
      py::arg("requires_grad") = true, "Sets requires_grad and returns the tensor.");
  method("retain_grad", &Tensor::retain_grad, "Keeps the gradient of a non-leaf in .grad, too.");
  method("register_hook", &register_hook, py::arg("hook"),
         "Calls hook(gradient) when the gradient is known; what it returns replaces it.");
  method("register_post_accumulate_grad_hook", &register_post_hook, py::arg("hook"),
         "Calls hook(tensor) after .grad of this leaf was written.");
  method(
      "detach_",
      [](py::object self) {
        detach_(unwrap(self.ptr()));
        return self;
      },
      "Cuts the tensor from its graph in place.");
  method("_is_view", &Tensor::is_view);
}

}  // namespace tg::python
