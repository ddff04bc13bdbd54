// What stands behind +, ==, [], len(), float() and the other operators. They go to the op directly, without a parser.
#include "python/bindings.h"

#include "ops/ops.h"

namespace tg::python {
namespace {

// An operand of a binary operator: a tensor, a number, or a NumPy array (which is shared as a tensor).
// False: Python asks the other operand.
bool operand(PyObject* o, Value& v, Tensor& hold) {
  if (is_tensor(o)) {
    v = Value(unwrap(o));
    return true;
  }
  Scalar s = 0;
  if (to_scalar(o, s)) {
    v = Value(s);
    return true;
  }
  if (!is_numpy_array(o)) return false;
  hold = from_numpy(o, false);
  v = Value(hold);
  return true;
}

PyObject* binary(const OpDef& op, PyObject* a, PyObject* b) {
  Value v[2];
  Tensor hold_a, hold_b;
  if (!operand(a, v[0], hold_a) || !operand(b, v[1], hold_b)) Py_RETURN_NOTIMPLEMENTED;
  Outputs out;
  run_op(op, {v, 2}, out);
  return wrap(std::move(out[0]));
}

PyObject* inplace(const OpDef& op, PyObject* a, PyObject* b) {
  Value v[2];
  Tensor hold;
  v[0] = Value(unwrap(a));
  if (!operand(b, v[1], hold)) Py_RETURN_NOTIMPLEMENTED;
  Outputs out;
  run_op(op, {v, 2}, out);
  return Py_NewRef(a);
}

// A name of the op table as a template argument, so that each slot is a plain function pointer.
template <size_t N>
struct Name {
  char text[N];
  constexpr Name(const char (&s)[N]) { std::copy_n(s, N, text); }
};

template <Name name>
PyObject* binary_slot(PyObject* a, PyObject* b) {
  return guarded([&] {
    static const OpDef& op = find_op(name.text);
    return binary(op, a, b);
  });
}
template <Name name>
PyObject* inplace_slot(PyObject* a, PyObject* b) {
  return guarded([&] {
    static const OpDef& op = find_op(name.text);
    return inplace(op, a, b);
  });
}
template <Name name>
PyObject* unary_slot(PyObject* a) {
  return guarded([&] {
    static const OpDef& op = find_op(name.text);
    return wrap(run_op1(op, {Value(unwrap(a))}));
  });
}

// matmul takes tensors only.
PyObject* matmul_slot(PyObject* a, PyObject* b) {
  if (!(is_tensor(a) || is_numpy_array(a)) || !(is_tensor(b) || is_numpy_array(b))) Py_RETURN_NOTIMPLEMENTED;
  return binary_slot<"matmul">(a, b);
}

PyObject* pow_slot(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) {
    PyErr_SetString(PyExc_TypeError, "pow(): a tensor takes no third argument");
    return nullptr;
  }
  return binary_slot<"pow">(a, b);
}
PyObject* inplace_pow_slot(PyObject* a, PyObject* b, PyObject*) { return inplace_slot<"pow_">(a, b); }

PyObject* compare(PyObject* a, PyObject* b, int how) {
  static constexpr binaryfunc slots[] = {binary_slot<"lt">, binary_slot<"le">, binary_slot<"eq">,
                                         binary_slot<"ne">, binary_slot<"gt">, binary_slot<"ge">};
  return slots[how](a, b);
}

// Identity: equal tensors are different keys.
Py_hash_t hash(PyObject* o) {
  auto h = reinterpret_cast<uintptr_t>(o) >> 4;
  return Py_hash_t(h) == -1 ? -2 : Py_hash_t(h);
}

Scalar one_value(PyObject* o, const char* what) {
  const Tensor& t = unwrap(o);
  TG_CHECK(t.numel() == 1, ValueError, what, ": only a tensor of one element can be converted; self=", describe(t));
  return t.item_scalar();
}

int truth_of_tensor(PyObject* o) {
  return guarded([&]() -> int {
    const Tensor& t = unwrap(o);
    TG_CHECK(t.numel() == 1, ValueError, "bool: the truth value of a tensor with ", t.numel(),
             " elements is ambiguous, use any() or all(); self=", describe(t));
    return t.item_scalar().b();
  });
}

PyObject* to_python_float(PyObject* o) {
  return guarded([&] { return PyFloat_FromDouble(one_value(o, "float").d()); });
}
PyObject* to_python_int(PyObject* o) {
  return guarded([&]() -> PyObject* {
    Scalar s = one_value(o, "int");
    return s.is_float() ? PyLong_FromDouble(s.d()) : PyLong_FromLongLong(s.i());
  });
}
PyObject* to_python_index(PyObject* o) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(o);
    TG_CHECK(t.numel() == 1 && t.dtype() != DType::Bool && !is_float(t.dtype()), TypeError,
             "index: only an integer tensor of one element can be used as an index; self=", describe(t));
    return PyLong_FromLongLong(t.item_scalar().i());
  });
}

Py_ssize_t length(PyObject* o) {
  return guarded([&]() -> Py_ssize_t {
    const Tensor& t = unwrap(o);
    TG_CHECK(t.ndim() > 0, TypeError, "len: a 0-d tensor has no length; self=", describe(t));
    return Py_ssize_t(t.sizes()[0]);
  });
}

// The rows, taken at once: views of one base, as unbind gives them.
PyObject* iterate(PyObject* o) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(o);
    TG_CHECK(t.ndim() > 0, TypeError, "iter: cannot iterate over a 0-d tensor; self=", describe(t));
    static const OpDef& unbind = find_op("unbind");
    const Value v[] = {Value(t), Value(int64_t(0))};
    Outputs out;
    run_op(unbind, {v, 2}, out);
    py::tuple rows{size_t(out.size())};
    for (int i = 0; i < out.size(); ++i) PyTuple_SET_ITEM(rows.ptr(), i, wrap(std::move(out[i])));
    return PyObject_GetIter(rows.ptr());
  });
}

int contains(PyObject* o, PyObject* item) {
  return guarded([&]() -> int {
    Value v[2];
    Tensor hold;
    v[0] = Value(unwrap(o));
    TG_CHECK(operand(item, v[1], hold), TypeError, "in: a tensor contains numbers and tensors, not ",
             Py_TYPE(item)->tp_name);
    static const OpDef& eq = find_op("eq");
    Outputs out;
    run_op(eq, {v, 2}, out);
    static const OpDef& any = find_op("any");
    const Value e[] = {Value(out[0])};
    Outputs result;
    run_op(any, {e, 1}, result);
    return result[0].item_scalar().b();
  });
}

PyObject* repr(PyObject* o) {
  return guarded([&] {
    std::string s = to_string(unwrap(o));
    return PyUnicode_FromStringAndSize(s.data(), Py_ssize_t(s.size()));
  });
}

PyObject* subscript(PyObject* o, PyObject* key) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(o);
    static const OpDef& op = find_op("getitem");
    if (PyLong_CheckExact(key)) {
      static const OpDef& select = find_op("select");
      int64_t i;
      if (t.ndim() > 0 && to_int(key, i)) return wrap(run_op1(select, {Value(t), Value(int64_t(0)), Value(i)}));
    }
    std::vector<IndexItem> items = to_index(key);
    return wrap(run_op1(op, {Value(t), Value(items)}));
  });
}

int assign(PyObject* o, PyObject* key, PyObject* value) {
  return guarded([&]() -> int {
    const Tensor& t = unwrap(o);
    TG_CHECK(value, TypeError, "del: elements of a tensor cannot be deleted");
    Value v;
    Tensor hold;
    if (!operand(value, v, hold)) {
      hold = tensor_from(value, std::nullopt, t.device());
      v = Value(hold);
    }
    std::vector<IndexItem> items = to_index(key);
    static const OpDef& op = find_op("setitem_");
    run_op1(op, {Value(t), Value(items), v});
    return 0;
  });
}

void* p(binaryfunc f) { return reinterpret_cast<void*>(f); }
void* p(unaryfunc f) { return reinterpret_cast<void*>(f); }

}  // namespace

std::vector<PyType_Slot> operator_slots() {
  return {
      {Py_nb_add, p(binary_slot<"add">)},
      {Py_nb_subtract, p(binary_slot<"sub">)},
      {Py_nb_multiply, p(binary_slot<"mul">)},
      {Py_nb_true_divide, p(binary_slot<"div">)},
      {Py_nb_floor_divide, p(binary_slot<"floor_divide">)},
      {Py_nb_remainder, p(binary_slot<"remainder">)},
      {Py_nb_power, reinterpret_cast<void*>(pow_slot)},
      {Py_nb_matrix_multiply, p(matmul_slot)},
      {Py_nb_and, p(binary_slot<"bitwise_and">)},
      {Py_nb_or, p(binary_slot<"bitwise_or">)},
      {Py_nb_xor, p(binary_slot<"bitwise_xor">)},
      {Py_nb_lshift, p(binary_slot<"bitwise_left_shift">)},
      {Py_nb_rshift, p(binary_slot<"bitwise_right_shift">)},
      {Py_nb_inplace_add, p(inplace_slot<"add_">)},
      {Py_nb_inplace_subtract, p(inplace_slot<"sub_">)},
      {Py_nb_inplace_multiply, p(inplace_slot<"mul_">)},
      {Py_nb_inplace_true_divide, p(inplace_slot<"div_">)},
      {Py_nb_inplace_floor_divide, p(inplace_slot<"floor_divide_">)},
      {Py_nb_inplace_remainder, p(inplace_slot<"remainder_">)},
      {Py_nb_inplace_power, reinterpret_cast<void*>(inplace_pow_slot)},
      {Py_nb_inplace_and, p(inplace_slot<"bitwise_and_">)},
      {Py_nb_inplace_or, p(inplace_slot<"bitwise_or_">)},
      {Py_nb_inplace_xor, p(inplace_slot<"bitwise_xor_">)},
      {Py_nb_inplace_lshift, p(inplace_slot<"bitwise_left_shift_">)},
      {Py_nb_inplace_rshift, p(inplace_slot<"bitwise_right_shift_">)},
      {Py_nb_negative, p(unary_slot<"neg">)},
      {Py_nb_positive, p(unary_slot<"positive">)},
      {Py_nb_absolute, p(unary_slot<"abs">)},
      {Py_nb_invert, p(unary_slot<"bitwise_not">)},
      {Py_nb_bool, reinterpret_cast<void*>(truth_of_tensor)},
      {Py_nb_float, p(to_python_float)},
      {Py_nb_int, p(to_python_int)},
      {Py_nb_index, p(to_python_index)},
      {Py_mp_length, reinterpret_cast<void*>(length)},
      {Py_mp_subscript, p(subscript)},
      {Py_mp_ass_subscript, reinterpret_cast<void*>(assign)},
      {Py_sq_contains, reinterpret_cast<void*>(contains)},
      {Py_tp_iter, reinterpret_cast<void*>(iterate)},
      {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
      {Py_tp_hash, reinterpret_cast<void*>(hash)},
      {Py_tp_repr, reinterpret_cast<void*>(repr)},
  };
}

}  // namespace tg::python
