// What an argument that does not fit is told.
#include "python/op_call.h"

namespace tg::python {
namespace {

using T = Param::Type;

const char* type_text(const Param& p) {
  switch (p.type) {
    case T::Tensor:
      return "Tensor";
    case T::Tensors:
      return "list or tuple of Tensors";
    case T::Operand:
      return "Tensor or number";
    case T::Int:
      return "int";
    case T::Ints:
      return "int or tuple of ints";
    case T::Float:
      return "float";
    case T::Floats:
      return "tuple of floats";
    case T::Bool:
      return "bool";
    case T::Scalar:
      return "number";
    case T::Str:
      return "str";
    case T::DType:
      return "dtype";
    case T::Device:
      return "device";
    case T::Generator:
      return "Generator";
    case T::Index:
      return "index";
  }
  return "";
}

// "int", "list of str", "Tensor of shape [2]" where only 0-d is taken
std::string given_text(const Param& p, PyObject* o) {
  if (o == Py_None) return "None";
  if (is_tensor(o) && p.type != T::Tensors) {
    const Tensor& t = unwrap(o);
    return "Tensor (" + describe(t) + (t.requires_grad() ? ", requires_grad)" : ")");
  }
  if ((PyList_Check(o) || PyTuple_Check(o))) {
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); ++i) {
      PyObject* item = PySequence_Fast_GET_ITEM(o, i);
      int64_t ignored;
      bool fits = p.type == T::Tensors ? is_tensor(item) : PyLong_CheckExact(item) || to_int(item, ignored);
      if (!fits) return str(Py_TYPE(o)->tp_name, " with ", Py_TYPE(item)->tp_name, " at position ", i);
    }
  }
  return Py_TYPE(o)->tp_name;
}

}  // namespace

std::string explain(const Overload& o, const Mismatch& why) {
  const auto& params = o.op->params;
  switch (why.kind) {
    case Mismatch::TooMany:
      return str("takes at most ", o.n_positional, " positional arguments, ", why.param, " were given");
    case Mismatch::Missing:
      return "missing required argument '" + params[size_t(why.param)].name + "'";
    case Mismatch::Unknown:
      return str("got an unexpected keyword argument '", PyUnicode_AsUTF8(why.object), "'");
    case Mismatch::Twice:
      return "argument '" + params[size_t(why.param)].name + "' was given twice";
    case Mismatch::BadType: {
      const Param& p = params[size_t(why.param)];
      return str("argument '", p.name, "' must be ", type_text(p), p.optional ? " or None" : "", ", not ",
                 given_text(p, why.object));
    }
    default:
      return "";
  }
}

}  // namespace tg::python
