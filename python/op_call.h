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
  mutable PyTypeObject* result_type = nullptr;  // named tuple of several results, made when first needed
};

// All ops of one public name.
struct OpGroup {
  std::string name;
  std::string module = "tinygrad_cpp";
  std::vector<Overload> overloads;
};

Overload make_overload(const OpDef& op);
// Finds the overload that takes the arguments, runs it and wraps what it gives.
PyObject* call_group(const OpGroup& group, PyObject* const* args, size_t n, PyObject* kwnames);

}  // namespace tg::python
