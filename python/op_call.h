// Calls ops with Python arguments: what a callable knows about its op, and the argument parser.
#pragma once
#include "python/bindings.h"

namespace tg::python {

inline constexpr int kMaxParams = 32;

// One overload, with what the parser needs to be quick.
struct Overload {
  const OpDef* op;
  std::vector<PyObject*> names;                 // interned names of the parameters
  int n_positional = 0;                         // parameters that may be given by position
  int list_param = -1;                          // first int[] or Tensor[] parameter: f(x, 2, 3) for f(x, [2, 3])
  int place_param = -1;                         // device? parameter of an op that makes tensors of no other tensor
  mutable PyTypeObject* result_type = nullptr;  // named tuple of several results, made when first needed
};

// All ops of one public name.
struct OpGroup {
  std::string name;
  std::string module = "tinygrad_cpp";
  std::vector<Overload> overloads;
};

// Why an overload does not take the arguments; turned into text only if no other overload does.
struct Mismatch {
  enum Kind : uint8_t { None, TooMany, Missing, Unknown, Twice, BadType } kind = None;
  int param = -1;
  PyObject* object = nullptr;  // borrowed: the value, or the keyword
};

Overload make_overload(const OpDef& op);
// The mismatch as text: "argument 'dim' must be int, not str".
std::string explain(const Overload& overload, const Mismatch& why);
// Finds the overload that takes the arguments, runs it and wraps what it gives.
PyObject* call_group(const OpGroup& group, PyObject* const* args, size_t n, PyObject* kwnames);

}  // namespace tg::python
