// The argument parser, driven by the schemas of the op table. A call that fits costs no allocation: values borrow from
// the Python objects, which outlive the call.
#include "python/op_call.h"

#include <structmember.h>  // PyMemberDef, part of Python.h from 3.12 on

#include <algorithm>
#include <memory>

#include "core/warn.h"
#include "ops/ops.h"

namespace tg::python {
namespace {

using T = Param::Type;

// Arguments of one call.
class Frame {
 public:
  Frame() : n_ints_(0) {}
  Value* values() { return reinterpret_cast<Value*>(buffer_); }
  void set(int i, Value v) { new (values() + i) Value(v); }
  Mismatch why;

  // Room for n integers that lives as long as the frame.
  int64_t* ints(int64_t n) {
    if (n_ints_ + n <= kInts) return ints_ + std::exchange(n_ints_, n_ints_ + int(n));
    auto v = std::make_shared<std::vector<int64_t>>(size_t(n));
    keep_.push_back(v);
    return v->data();
  }
  template <class V>
  std::vector<V>& make_vector() {
    auto v = std::make_shared<std::vector<V>>();
    keep_.push_back(v);
    return *v;
  }
  void reset() {
    n_ints_ = 0;
    why = {};
  }

 private:
  static constexpr int kInts = 32;
  alignas(Value) unsigned char buffer_[kMaxParams * sizeof(Value)];
  int64_t ints_[kInts];
  int n_ints_;
  std::vector<std::shared_ptr<void>> keep_;
};

bool convert_ints(PyObject* o, Frame& f, int i) {
  bool tuple = PyTuple_Check(o);
  if (!tuple && !PyList_Check(o)) {
    int64_t v;
    if (to_int(o, v)) {
      int64_t* p = f.ints(1);
      *p = v;
      f.set(i, IntList(p, 1));
      return true;
    }
    auto& list = f.make_vector<int64_t>();
    if (!to_ints(o, list)) return false;
    f.set(i, IntList(list));
    return true;
  }
  Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
  int64_t* p = f.ints(n);
  for (Py_ssize_t k = 0; k < n; ++k)
    if (k >= PySequence_Fast_GET_SIZE(o) || !to_int(PySequence_Fast_GET_ITEM(o, k), p[k])) return false;
  f.set(i, IntList(p, n));
  return true;
}

bool convert_floats(PyObject* o, Frame& f, int i) {
  auto& list = f.make_vector<double>();
  double d;
  if (to_float(o, d)) {
    list.push_back(d);
  } else {
    if (!PyTuple_Check(o) && !PyList_Check(o)) return false;
    for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(o); ++k) {
      if (!to_float(PySequence_Fast_GET_ITEM(o, k), d)) return false;
      list.push_back(d);
    }
  }
  f.set(i, Value(list));
  return true;
}

bool convert_tensors(PyObject* o, Frame& f, int i) {
  if (!PyTuple_Check(o) && !PyList_Check(o)) return false;
  Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
  auto& list = f.make_vector<Tensor>();
  list.reserve(size_t(n));
  for (Py_ssize_t k = 0; k < n; ++k) {
    PyObject* item = PySequence_Fast_GET_ITEM(o, k);
    if (!is_tensor(item)) return false;
    list.push_back(unwrap(item));
  }
  f.set(i, TensorList(list));
  return true;
}

bool convert_scalar(PyObject* o, Frame& f, int i) {
  Scalar s = 0;
  if (!to_scalar(o, s)) {
    if (!is_tensor(o) || unwrap(o).ndim() != 0 || unwrap(o).requires_grad()) return false;
    s = unwrap(o).item_scalar();
  }
  f.set(i, s);
  return true;
}

// Puts `o` into value i; false if it is of a type the parameter does not take.
bool convert(const Param& p, PyObject* o, Frame& f, int i) {
  if (o == Py_None) {
    if (!p.optional) return false;
    f.set(i, Value());
    return true;
  }
  switch (p.type) {
    case T::Operand:
      if (!is_tensor(o)) {
        Scalar s = 0;
        if (!to_scalar(o, s)) return false;
        f.set(i, s);
        return true;
      }
      [[fallthrough]];
    case T::Tensor:
      if (!is_tensor(o)) return false;
      f.set(i, unwrap(o));
      return true;
    case T::Int: {
      int64_t v;
      if (!to_int(o, v)) return false;
      f.set(i, v);
      return true;
    }
    case T::Float: {
      double v;
      if (!to_float(o, v)) return false;
      f.set(i, v);
      return true;
    }
    case T::Bool:
      if (!PyBool_Check(o)) {
        Scalar s = 0;
        if (!is_numpy_scalar(o) || !to_scalar(o, s) || s.kind() != Scalar::Kind::Bool) return false;
        f.set(i, s.b());
        return true;
      }
      f.set(i, o == Py_True);
      return true;
    case T::Scalar:
      return convert_scalar(o, f, i);
    case T::Ints:
      return convert_ints(o, f, i);
    case T::Floats:
      return convert_floats(o, f, i);
    case T::Tensors:
      return convert_tensors(o, f, i);
    case T::Str: {
      Py_ssize_t n;
      const char* s = PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, &n) : nullptr;
      if (!s) {
        PyErr_Clear();
        return false;
      }
      f.set(i, std::string_view(s, size_t(n)));
      return true;
    }
    case T::DType: {
      DType t;
      if (!to_dtype(o, t)) return false;
      f.set(i, t);
      return true;
    }
    case T::Device: {
      Device d;
      if (!to_device(o, d)) return false;
      f.set(i, d);
      return true;
    }
    case T::Generator:
      if (!py::isinstance<Generator>(o)) return false;
      f.set(i, py::cast<Generator*>(py::handle(o)));
      return true;
    case T::Index: {
      auto& list = f.make_vector<IndexItem>();
      list = to_index(o);
      f.set(i, Value(list));
      return true;
    }
  }
  return false;
}

// ---- keywords

bool same_text(PyObject* a, const char* b) { return PyUnicode_CompareWithASCIIString(a, b) == 0; }

// Other names by which a parameter is known.
const char* alias_of(PyObject* keyword) {
  static const std::pair<const char*, const char*> aliases[] = {
      {"axis", "dim"}, {"keepdims", "keepdim"}, {"self", "input"}, {"a", "input"},
      {"x", "input"},  {"x1", "input"},         {"x2", "other"},   {"dims", "dim"},
      {"dim", "dims"}, {"shape", "size"},       {"sizes", "size"}, {"axes", "dims"}};
  for (auto& [from, to] : aliases)
    if (same_text(keyword, from)) return to;
  return nullptr;
}

int find_param(const Overload& o, PyObject* keyword) {
  for (size_t i = 0; i < o.names.size(); ++i)
    if (o.names[i] == keyword) return int(i);
  for (size_t i = 0; i < o.names.size(); ++i)
    if (PyUnicode_Compare(o.names[i], keyword) == 0) return int(i);
  if (const char* other = alias_of(keyword))
    for (size_t i = 0; i < o.names.size(); ++i)
      if (same_text(o.names[i], other)) return int(i);
  return -1;
}

// Binds the arguments to the parameters of one overload. False: frame.why says why not.
bool bind(const Overload& o, PyObject* const* args, size_t n, PyObject* kwnames, Frame& frame) {
  frame.reset();
  const auto& params = o.op->params;
  int n_params = int(params.size());
  if (n > size_t(o.n_positional)) {
    frame.why = {Mismatch::TooMany, int(n), nullptr};
    return false;
  }
  PyObject* given[kMaxParams];
  for (size_t i = 0; i < n; ++i) given[i] = args[i];
  for (int i = int(n); i < n_params; ++i) given[i] = nullptr;
  if (kwnames) {
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(kwnames); ++k) {
      PyObject* keyword = PyTuple_GET_ITEM(kwnames, k);
      int i = find_param(o, keyword);
      if (i < 0 || given[i]) {
        frame.why = {i < 0 ? Mismatch::Unknown : Mismatch::Twice, i, keyword};
        return false;
      }
      given[i] = args[n + size_t(k)];
    }
  }
  for (int i = 0; i < n_params; ++i) {
    const Param& p = params[size_t(i)];
    if (TG_LIKELY(given[i] != nullptr)) {
      if (!convert(p, given[i], frame, i)) {
        frame.why = {Mismatch::BadType, i, given[i]};
        return false;
      }
    } else if (p.has_default || p.optional) {
      frame.set(i, p.default_value);
    } else {
      frame.why = {Mismatch::Missing, i, nullptr};
      return false;
    }
  }
  if (o.place_param >= 0 && frame.values()[o.place_param].is_none())
    if (auto place = default_device()) frame.set(o.place_param, *place);
  return true;
}

// f(x, 2, 3) for f(x, [2, 3]), and f(a, b, c) for f([a, b, c]): where a list parameter is given and everything from
// its position on is an int (a tensor).
bool bind_spread(const Overload& o, PyObject* const* args, size_t n, PyObject* kwnames, Frame& frame) {
  if (o.list_param < 0 || n <= size_t(o.list_param)) return false;
  size_t at = size_t(o.list_param);
  bool tensors = o.op->params[at].type == T::Tensors;
  int64_t ignored;
  for (size_t i = at; i < n; ++i)
    if (tensors ? !is_tensor(args[i]) : !to_int(args[i], ignored)) return false;
  py::object list = checked(PyTuple_New(Py_ssize_t(n - at)));
  for (size_t i = at; i < n; ++i) PyTuple_SET_ITEM(list.ptr(), Py_ssize_t(i - at), Py_NewRef(args[i]));
  std::vector<PyObject*> all(args, args + at);
  all.push_back(list.ptr());
  if (kwnames) all.insert(all.end(), args + n, args + n + size_t(PyTuple_GET_SIZE(kwnames)));
  return bind(o, all.data(), at + 1, kwnames, frame);
}

// ---- results

// Each value on a line of its own, where tensors that need several lines stay readable.
PyObject* result_repr(PyObject* result) {
  std::string text = std::string(Py_TYPE(result)->tp_name) + "(";
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(result); ++i) {
    PyObject* item = PyObject_Repr(PyTuple_GET_ITEM(result, i));
    if (!item) return nullptr;
    text += std::string(i ? ",\n" : "\n") + Py_TYPE(result)->tp_members[i].name + "=" + PyUnicode_AsUTF8(item);
    Py_DECREF(item);
  }
  return PyUnicode_FromString((text + ")").c_str());
}

PyTypeObject* result_type(const Overload& o) {
  if (o.result_type) return o.result_type;
  static std::vector<std::unique_ptr<std::string>> names;  // the type keeps the pointers
  auto keep = [](std::string s) {
    names.push_back(std::make_unique<std::string>(std::move(s)));
    return names.back()->c_str();
  };
  std::vector<PyStructSequence_Field> fields;
  for (auto& r : o.op->returns) fields.push_back({keep(r), nullptr});
  fields.push_back({nullptr, nullptr});
  PyStructSequence_Desc desc = {keep("tinygrad_cpp.return_types." + o.op->base), nullptr, fields.data(),
                                int(o.op->returns.size())};
  PyTypeObject* t = PyStructSequence_NewType(&desc);
  if (!t) throw_python_error();
  t->tp_repr = result_repr;
  return o.result_type = t;
}

PyObject* wrap_several(const Overload& o, Outputs& out) {
  const auto& names = o.op->returns;
  bool named = int(names.size()) == out.size() && names.size() > 1 && !names[0].empty();
  py::object tuple = checked(named ? PyStructSequence_New(result_type(o)) : PyTuple_New(out.size()));
  for (int i = 0; i < out.size(); ++i) {
    PyObject* item = wrap(std::move(out[i]));
    if (named)
      PyStructSequence_SetItem(tuple.ptr(), i, item);
    else
      PyTuple_SET_ITEM(tuple.ptr(), i, item);
  }
  return tuple.release().ptr();
}

// Whether the one result comes without a tuple: by the note "unwrap" (optional further results, as of unique), or
// because as_tuple=False asks for it.
bool comes_alone(const OpDef& op, const Outputs& out, const Value* args) {
  if (out.size() != 1) return false;
  if (std::string_view(op.spec.notes).find("unwrap") != std::string_view::npos) return true;
  for (size_t i = 0; i < op.params.size(); ++i)
    if (op.params[i].name == "as_tuple") return args[i].i() == 0;
  return false;
}

PyObject* wrap_outputs(const Overload& o, Outputs& out, const Value* args) {
  const OpDef& op = *o.op;
  if (op.return_type == "Tensor") {
    if (op.returns.size() == 1) return wrap(std::move(out[0]));
    return wrap_several(o, out);
  }
  if (op.return_type == "Tensor[]") {
    if (comes_alone(op, out, args)) return wrap(std::move(out[0]));
    return wrap_several(o, out);
  }
  return wrap_scalar(out.value.scalar());
}

PyObject* run(const Overload& o, PyObject* const* args, Frame& frame) {
  Outputs out;
  run_op(*o.op, {frame.values(), int(o.op->params.size())}, out);
  if (o.op->inplace_of) return Py_NewRef(args[0]);
  return wrap_outputs(o, out, frame.values());
}

PyObject* try_overloads(const OpGroup& g, PyObject* const* args, size_t n, PyObject* kwnames, Frame& frame) {
  for (const Overload& o : g.overloads)
    if (bind(o, args, n, kwnames, frame)) return run(o, args, frame);
  for (const Overload& o : g.overloads)
    if (bind_spread(o, args, n, kwnames, frame)) return run(o, args, frame);
  return nullptr;
}

// ---- errors

[[noreturn]] void fail_call(const OpGroup& g, PyObject* const* args, size_t n, PyObject* kwnames, Frame& frame) {
  if (g.overloads.size() == 1) {
    const Overload& o = g.overloads[0];
    bind(o, args, n, kwnames, frame);
    if (frame.why.kind == Mismatch::TooMany) bind_spread(o, args, n, kwnames, frame);
    fail<TypeError>(g.name, "(): ", explain(g.overloads[0], frame.why));
  }
  std::string text = g.name + "(): no form of the function takes these arguments:";
  for (const Overload& o : g.overloads) {
    bind(o, args, n, kwnames, frame);
    std::string schema = o.op->schema;
    text += "\n  " + o.op->base + schema.substr(schema.find('(')) + ": " + explain(o, frame.why);
  }
  fail<TypeError>(text);
}

// ---- keywords every function takes

struct Extras {
  PyObject* out = nullptr;
  bool requires_grad = false, pin_memory = false;
  std::vector<PyObject*> args;
  py::object kwnames, reduction;
};

bool truth(PyObject* o) {
  int r = PyObject_IsTrue(o);
  if (r < 0) throw_python_error();
  return r == 1;
}

// Takes out=, requires_grad=, pin_memory= and keywords without effect here (layout, memory_format) off the arguments. A
// loss's size_average= and reduce=, which PyTorch keeps from its early days, become reduction=.
bool strip_extras(const OpGroup& g, PyObject* const* args, size_t n, PyObject* kwnames, Extras& e) {
  if (!kwnames) return false;
  const auto& params = g.overloads[0].op->params;
  bool loss = std::any_of(params.begin(), params.end(), [](const Param& p) { return p.name == "reduction"; });
  bool average = true, reduce = true, old_style = false;
  py::list rest;
  e.args.assign(args, args + n);
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(kwnames); ++k) {
    PyObject *keyword = PyTuple_GET_ITEM(kwnames, k), *value = args[n + size_t(k)];
    if (same_text(keyword, "out"))
      e.out = value;
    else if (same_text(keyword, "requires_grad"))
      e.requires_grad = truth(value);
    else if (loss && (same_text(keyword, "size_average") || same_text(keyword, "reduce"))) {
      if (value == Py_None) continue;
      old_style = true;
      (same_text(keyword, "reduce") ? reduce : average) = truth(value);
    } else if (same_text(keyword, "pin_memory")) {
      e.pin_memory = truth(value);
    } else if (!same_text(keyword, "layout") && !same_text(keyword, "memory_format")) {
      rest.append(py::handle(keyword));
      e.args.push_back(value);
    }
  }
  if (old_style) {
    rest.append("reduction");
    e.reduction = py::str(!reduce ? "none" : average ? "mean" : "sum");
    e.args.push_back(e.reduction.ptr());
  } else if (py::ssize_t(rest.size()) == PyTuple_GET_SIZE(kwnames)) {
    return false;
  }
  e.kwnames = py::tuple(rest);
  return true;
}

// Writes a result into the tensor given as out=.
py::object write_out(const OpGroup& g, PyObject* out, py::object result) {
  if (PyTuple_Check(out) && PyTuple_Check(result.ptr())) {
    TG_CHECK(PyTuple_GET_SIZE(out) == PyTuple_GET_SIZE(result.ptr()), TypeError, g.name,
             "(): argument 'out' must have ", PyTuple_GET_SIZE(result.ptr()), " tensors, not ", PyTuple_GET_SIZE(out));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(out); ++i)
      write_out(g, PyTuple_GET_ITEM(out, i), py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(result.ptr(), i)));
    return py::reinterpret_borrow<py::object>(out);
  }
  TG_CHECK(is_tensor(out) && is_tensor(result.ptr()), TypeError, g.name, "(): argument 'out' must be Tensor, not ",
           Py_TYPE(out)->tp_name);
  const Tensor &to = unwrap(out), &from = unwrap(result.ptr());
  TG_CHECK(to.sizes() == from.sizes(), ShapeError, g.name, ": the result has size ", from.sizes(),
           ", which does not fit out=", describe(to));
  TG_CHECK(to.device() == from.device(), DeviceError, g.name, ": the result is on ", from.device(),
           ", which does not fit out=", describe(to));
  TG_CHECK(can_cast(from.dtype(), to.dtype()), DTypeError, g.name, ": result type ", from.dtype(),
           " can't be cast to out=", describe(to));
  Outputs ignored;
  const Value v[] = {Value(to), Value(from)};
  static const OpDef& copy = find_op("copy_");
  run_op(copy, {v, 2}, ignored);
  return py::reinterpret_borrow<py::object>(out);
}

PyObject* call_with_extras(const OpGroup& g, PyObject* const* args, size_t n, PyObject* kwnames, Frame& frame) {
  Extras e;
  if (!strip_extras(g, args, n, kwnames, e)) fail_call(g, args, n, kwnames, frame);
  PyObject* r = try_overloads(g, e.args.data(), n, e.kwnames.ptr(), frame);
  if (!r) fail_call(g, e.args.data(), n, e.kwnames.ptr(), frame);
  py::object result = py::reinterpret_steal<py::object>(r);
  if (e.out && e.out != Py_None) result = write_out(g, e.out, std::move(result));
  if (e.pin_memory && is_tensor(result.ptr())) {  // of a new tensor, which stays a leaf
    NoGrad guard;
    bool leaf = unwrap(result.ptr()).requires_grad();
    result = pin_memory(result);
    if (leaf) unwrap(result.ptr()).set_requires_grad(true);
  }
  if (e.requires_grad && is_tensor(result.ptr())) unwrap(result.ptr()).set_requires_grad(true);
  return result.release().ptr();
}

// Lets an argument run the function if its type has a static method __tg_function__(name, args, kwargs), as sparse
// tensors do; null if there is none. Asked only when the arguments fit no form.
PyObject* delegate(const OpGroup& g, PyObject* const* args, size_t n, PyObject* kwnames) {
  const size_t n_keywords = kwnames ? size_t(PyTuple_GET_SIZE(kwnames)) : 0;
  for (size_t i = 0; i < n + n_keywords; ++i) {
    py::handle type(reinterpret_cast<PyObject*>(Py_TYPE(args[i])));
    if (is_tensor(args[i]) || !py::hasattr(type, "__tg_function__")) continue;
    py::tuple positional(n);
    for (size_t k = 0; k < n; ++k) positional[k] = py::handle(args[k]);
    py::dict keywords;
    for (size_t k = 0; k < n_keywords; ++k)
      keywords[py::handle(PyTuple_GET_ITEM(kwnames, Py_ssize_t(k)))] = py::handle(args[n + k]);
    return type.attr("__tg_function__")(g.name, positional, keywords).release().ptr();
  }
  return nullptr;
}

// Warnings of ops reach the user's line, also from a computation that gave up the interpreter lock.
void show_warning(const std::string& text) {
  py::gil_scoped_acquire gil;
  if (PyErr_WarnEx(PyExc_UserWarning, text.c_str(), 1) < 0) throw_python_error();
}
const bool installed = [] { return warn_user = show_warning, true; }();

}  // namespace

Overload make_overload(const OpDef& op) {
  Overload o;
  o.op = &op;
  TG_CHECK(op.params.size() <= kMaxParams, ValueError, "op table: ", op.name, " has too many parameters");
  auto takes_tensor = [](const Param& p) {
    return p.type == T::Tensor || p.type == T::Operand || p.type == T::Tensors;
  };
  bool makes = std::none_of(op.params.begin(), op.params.end(), takes_tensor);
  for (size_t i = 0; i < op.params.size(); ++i) {
    const Param& p = op.params[i];
    if (makes && p.type == T::Device && p.optional) o.place_param = int(i);
    o.names.push_back(PyUnicode_InternFromString(p.name.c_str()));
    if (p.keyword_only) continue;
    ++o.n_positional;
    if (o.list_param < 0 && (p.type == T::Ints || p.type == T::Tensors)) o.list_param = int(i);
  }
  return o;
}

void run_op(const OpDef& op, Args args, Outputs& out) {
  int64_t largest = 0;
  bool any_tensor = false;
  for (const Value& v : args) {
    if (v.is_tensor()) {
      largest = std::max(largest, v.tensor().numel());
      any_tensor = true;
    } else if (v.kind() == Value::Kind::Tensors) {
      any_tensor = true;
      for (const Tensor& t : v.tensors()) largest += t.defined() ? t.numel() : 0;
    } else if (v.kind() == Value::Kind::Ints && !any_tensor) {  // sizes of a new tensor
      double n = 1;
      for (int64_t s : v.ints()) n *= double(s);
      if (n >= double(kReleaseGil)) largest = kReleaseGil;
    }
  }
  if (largest < kReleaseGil) return call(op, args, out);
  py::gil_scoped_release no_gil;
  call(op, args, out);
}

PyObject* call_group(const OpGroup& g, PyObject* const* args, size_t n, PyObject* kwnames) {
  Frame frame;
  if (TG_LIKELY(!g.overloads.empty() && bind(g.overloads[0], args, n, kwnames, frame)))
    return run(g.overloads[0], args, frame);
  if (PyObject* r = try_overloads(g, args, n, kwnames, frame)) return r;
  if (PyObject* r = delegate(g, args, n, kwnames)) return r;
  return call_with_extras(g, args, n, kwnames, frame);
}

PyObject* call_op(const OpDef& op, PyObject* const* args, size_t n, PyObject* kwnames) {
  OpGroup g;
  g.name = op.base;
  g.overloads.push_back(make_overload(op));
  return call_group(g, args, n, kwnames);
}

}  // namespace tg::python
