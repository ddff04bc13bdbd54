// The callables behind tg.relu and Tensor.relu: one per public name, made from the op table when the module is loaded.
#include "python/op_call.h"

#include <structmember.h>

#include <algorithm>
#include <deque>
#include <map>

#include "python/casters.h"

namespace tg::python {
namespace {

struct PyOp {
  PyObject_HEAD vectorcallfunc vectorcall;
  const OpGroup* group;
};

PyTypeObject *function_type = nullptr, *method_type = nullptr;

const OpGroup& group_of(PyObject* o) { return *reinterpret_cast<PyOp*>(o)->group; }

PyObject* op_vectorcall(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  return guarded([&] { return call_group(group_of(self), args, size_t(PyVectorcall_NARGS(nargsf)), kwnames); });
}

// A method found on an instance without being called at once: x.relu
PyObject* method_get(PyObject* self, PyObject* instance, PyObject*) {
  if (!instance || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

std::string signature(const OpDef& op) { return op.base + op.schema.substr(op.schema.find('(')); }

PyObject* op_doc(PyObject* self, void*) {
  const OpGroup& g = group_of(self);
  std::string text;
  for (const Overload& o : g.overloads) text += (text.empty() ? "" : "\n") + signature(*o.op);
  std::string last;
  for (const Overload& o : g.overloads) {
    const OpDef& source = o.op->inplace_of ? *o.op->inplace_of : *o.op;
    if (last != source.spec.doc) text += "\n\n" + (last = source.spec.doc);
  }
  if (g.overloads[0].op->inplace_of) text += "\n\nWrites the result into the first argument and returns it.";
  return PyUnicode_FromStringAndSize(text.data(), Py_ssize_t(text.size()));
}
PyObject* op_name(PyObject* self, void*) { return PyUnicode_FromString(group_of(self).name.c_str()); }
PyObject* op_module(PyObject* self, void*) { return PyUnicode_FromString(group_of(self).module.c_str()); }
PyObject* op_signature(PyObject* self, void*) {
  return guarded([&] {
    auto make = py::module_::import("tinygrad_cpp._signatures").attr("of_overloads");
    py::list schemas;
    for (const Overload& o : group_of(self).overloads) schemas.append(o.op->schema);
    return make(schemas).release().ptr();
  });
}
PyObject* op_repr(PyObject* self) {
  const OpGroup& g = group_of(self);
  return PyUnicode_FromFormat(Py_TYPE(self) == function_type ? "<function %s.%s>" : "<method '%s.Tensor.%s'>",
                              g.module.c_str(), g.name.c_str());
}
// Pickled and copied by name.
PyObject* op_reduce(PyObject* self, PyObject*) {
  if (Py_TYPE(self) == function_type) return op_name(self, nullptr);
  return Py_BuildValue("(O(Os))", PyDict_GetItemString(PyEval_GetBuiltins(), "getattr"), tensor_type,
                       group_of(self).name.c_str());
}

PyTypeObject* make_callable_type(const char* name, bool method) {
  static PyMemberDef members[] = {
      {"__vectorcalloffset__", T_PYSSIZET, offsetof(PyOp, vectorcall), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr},
  };
  static PyGetSetDef getset[] = {
      {"__doc__", op_doc, nullptr, nullptr, nullptr},
      {"__name__", op_name, nullptr, nullptr, nullptr},
      {"__qualname__", op_name, nullptr, nullptr, nullptr},
      {"__module__", op_module, nullptr, nullptr, nullptr},
      {"__signature__", op_signature, nullptr, nullptr, nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr},
  };
  static PyMethodDef methods[] = {
      {"__reduce__", op_reduce, METH_NOARGS, nullptr},
      {nullptr, nullptr, 0, nullptr},
  };
  PyType_Slot slots[] = {
      {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
      {Py_tp_repr, reinterpret_cast<void*>(op_repr)},
      {Py_tp_members, members},
      {Py_tp_getset, getset},
      {Py_tp_methods, methods},
      {method ? Py_tp_descr_get : 0, reinterpret_cast<void*>(method_get)},
      {0, nullptr},
  };
  unsigned long flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  if (method) flags |= Py_TPFLAGS_METHOD_DESCRIPTOR;
  PyType_Spec spec = {name, sizeof(PyOp), 0, unsigned(flags), slots};
  PyObject* t = PyType_FromSpec(&spec);
  if (!t) throw_python_error();
  return reinterpret_cast<PyTypeObject*>(t);
}

py::object make_op(PyTypeObject* type, const OpGroup* group) {
  PyObject* o = type->tp_alloc(type, 0);
  if (!o) throw_python_error();
  reinterpret_cast<PyOp*>(o)->vectorcall = op_vectorcall;
  reinterpret_cast<PyOp*>(o)->group = group;
  return py::reinterpret_steal<py::object>(o);
}

// ---- where a name is bound

struct Places {
  bool function = false, method = false, nn = false;
};
// Functions of this prefix are bound in the module linalg, without it, and nowhere else.
constexpr std::string_view kLinalg = "linalg_";

int tensor_params(const OpDef& op) {
  int n = 0;
  for (const Param& p : op.params)
    n += p.type == Param::Type::Tensor || p.type == Param::Type::Tensors || p.type == Param::Type::Operand;
  return n;
}

Places places(const OpDef& op) {
  uint32_t f = op.spec.flags;
  if (f & kHidden) return {};
  const OpDef& base = op.inplace_of ? *op.inplace_of : op;
  Places p;
  bool hidden_base = base.spec.flags & kHidden;
  p.nn = (f & (kNN | kAlsoNN)) && !hidden_base;
  // as in PyTorch, x.add_(y) and x.squeeze_() are methods only; what takes no second tensor and keeps the size of the
  // first is a function too
  bool method_only = op.inplace_of && (tensor_params(op) > 1 || (base.spec.flags & kView));
  p.function = !(f & (kNN | kMethodOnly)) && !hidden_base && !method_only;
  bool takes_self = !op.params.empty() && !op.params[0].optional &&
                    (op.params[0].type == Param::Type::Tensor || op.params[0].type == Param::Type::Operand) &&
                    (op.params[0].name == "input" || op.params[0].name == "self");
  p.method = takes_self && !(f & (kFunctionOnly | kNN));
  return p;
}

std::vector<std::string> names_of(const OpDef& op) {
  std::vector<std::string> names = {op.base};
  std::string_view aliases = op.inplace_of ? op.inplace_of->spec.aliases : op.spec.aliases;
  while (!aliases.empty()) {
    size_t space = aliases.find(' ');
    if (space) names.push_back(std::string(aliases.substr(0, space)) + (op.inplace_of ? "_" : ""));
    if (space == aliases.npos) break;
    aliases.remove_prefix(space + 1);
  }
  return names;
}

int required_keywords(const Overload& o) {
  int n = 0;
  for (const Param& p : o.op->params) n += p.keyword_only && !p.has_default && !p.optional;
  return n;
}

using Groups = std::map<std::string, OpGroup*>;

void add_to(Groups& groups, const std::string& name, const char* module, const OpDef& op) {
  static std::deque<OpGroup> store;  // groups live as long as the callables: for ever
  OpGroup*& g = groups[name];
  if (!g) {
    g = &store.emplace_back();
    g->name = name;
    g->module = module;
  }
  g->overloads.push_back(make_overload(op));
}

// Forms that need a keyword are tried last; otherwise the order of registration holds.
void sort_overloads(Groups& groups) {
  for (auto& [name, g] : groups)
    std::stable_sort(g->overloads.begin(), g->overloads.end(),
                     [](const Overload& a, const Overload& b) { return required_keywords(a) < required_keywords(b); });
}

// ---- the table as Python data, for tests, stubs and docs

py::dict describe_op(const OpDef& op) {
  static const char* types[] = {"Tensor", "Tensor[]", "Operand", "int",   "int[]",  "float",     "float[]",
                                "bool",   "Scalar",   "str",     "dtype", "device", "Generator", "Index"};
  py::dict d;
  py::list params, aliases;
  for (const Param& p : op.params) {
    py::dict q;
    q["name"] = p.name;
    q["type"] = types[int(p.type)];
    q["optional"] = p.optional;
    q["keyword_only"] = p.keyword_only;
    q["default"] = p.has_default ? py::object(py::str(p.default_text)) : py::none();
    params.append(q);
  }
  auto names = names_of(op);
  for (size_t i = 1; i < names.size(); ++i) aliases.append(names[i]);
  Places where = places(op);
  d["name"] = op.name;
  d["base"] = op.base;
  d["schema"] = op.schema;
  d["params"] = params;
  d["returns"] = op.returns;
  d["return_type"] = op.return_type;
  d["doc"] = op.spec.doc;
  d["samples"] = op.spec.samples;
  d["torch"] = op.spec.torch;
  d["notes"] = op.spec.notes;
  d["flags"] = op.spec.flags;
  constexpr const char* kAutocastNames[] = {"keep", "low", "float32", "widest"};
  d["autocast"] = kAutocastNames[int(op.spec.autocast)];
  d["aliases"] = aliases;
  d["is_view"] = bool(op.spec.flags & kView);
  d["is_random"] = bool(op.spec.flags & kRandom);
  d["is_hidden"] = bool(op.spec.flags & kHidden);
  d["is_inplace"] = op.inplace_of != nullptr;
  d["inplace_of"] = op.inplace_of ? py::object(py::str(op.inplace_of->name)) : py::none();
  d["differentiable"] = !(op.spec.flags & kNoGrad);
  d["has_gradient"] = op.differentiable;
  d["composite"] = op.spec.composite != nullptr;
  d["primitive"] = op.spec.primitive != nullptr;
  d["pointwise"] = op.opcode >= 0;
  bool linalg = std::string_view(op.base).starts_with(kLinalg);
  d["is_function"] = where.function && !linalg;
  d["is_linalg"] = where.function && linalg;
  d["is_method"] = where.method;
  d["is_nn"] = where.nn;
  return d;
}

py::list op_table() {
  py::list l;
  for (const OpDef* op : all_ops()) l.append(describe_op(*op));
  return l;
}

}  // namespace

void init_ops(py::module_& m) {
  function_type = make_callable_type("tinygrad_cpp.function", false);
  method_type = make_callable_type("tinygrad_cpp.method", true);
  Groups functions, methods, nn, linalg;
  for (const OpDef* op : all_ops()) {
    Places where = places(*op);
    for (const std::string& name : names_of(*op)) {
      if (name.starts_with(kLinalg)) {
        if (where.function) add_to(linalg, name.substr(kLinalg.size()), "tinygrad_cpp.linalg", *op);
        continue;
      }
      if (where.function) add_to(functions, name, "tinygrad_cpp", *op);
      if (where.method) add_to(methods, name, "tinygrad_cpp", *op);
      if (where.nn) add_to(nn, name, "tinygrad_cpp.nn.functional", *op);
    }
  }
  for (auto* groups : {&functions, &methods, &nn, &linalg}) sort_overloads(*groups);
  auto ops = m.def_submodule("ops", "Functions of the op table.");
  auto nn_functional = m.def_submodule("nn_functional", "Functions of the op table that live in nn.functional.");
  auto linalg_ops = m.def_submodule("linalg", "Functions of the op table that live in linalg.");
  for (auto& [name, g] : linalg) linalg_ops.attr(name.c_str()) = make_op(function_type, g);
  for (auto& [name, g] : functions) ops.attr(name.c_str()) = make_op(function_type, g);
  for (auto& [name, g] : nn) nn_functional.attr(name.c_str()) = make_op(function_type, g);
  py::handle type(reinterpret_cast<PyObject*>(tensor_type));
  for (auto& [name, g] : methods) type.attr(name.c_str()) = make_op(method_type, g);
  m.def("_op_table", &op_table, "The op table as a list of dicts.");
}

}  // namespace tg::python
