// The Python object of a tensor. A tensor is one Python object for its life, so that `t.grad is t.grad` and sets and
// dicts of tensors work. Who keeps whom alive:
//
//   normally       the wrapper owns a reference to the TensorImpl; TensorImpl::py points back without owning
//   owns_py        the last Python reference went while C++ still holds the tensor (a module's parameter): the
//                  TensorImpl owns the wrapper (its only reference) and the wrapper points back without owning.
//                  wrap() turns it around again; if the TensorImpl dies first it drops the wrapper.
#include "python/bindings.h"

#include <structmember.h>

namespace tg::python {

PyTypeObject *tensor_type = nullptr, *parameter_type = nullptr;

namespace {

PyTensor* cast(PyObject* o) { return reinterpret_cast<PyTensor*>(o); }
PyTensor* wrapper_of(const TensorImpl* t) { return static_cast<PyTensor*>(t->py); }

// What a wrapper points to after its tensor died under it.
const Tensor& tombstone() {
  static const Tensor* t = new Tensor(empty_tensor({0}, DType::F32));
  return *t;
}

// Wrappers of the two types of this file that are kept for reuse: a result of a small op costs no allocation.
struct FreeList {
  static constexpr int kMax = 128;
  PyTensor* items[kMax];
  int n = 0;
};
FreeList free_list;

PyTensor* allocate(PyTypeObject* type) {
  PyTensor* self;
  if (type == tensor_type && free_list.n > 0) {
    self = free_list.items[--free_list.n];
    PyObject_Init(reinterpret_cast<PyObject*>(self), type);
  } else {
    self = type == tensor_type ? PyObject_GC_New(PyTensor, type) : cast(type->tp_alloc(type, 0));
    if (!self) throw_python_error();
    if (type != tensor_type) PyObject_GC_UnTrack(self);
  }
  self->dict = self->weakrefs = nullptr;
  return self;
}

PyObject* make_wrapper(PyTypeObject* type, Tensor t) {
  PyTensor* self = allocate(type);
  t.impl()->py = self;
  new (&self->t) Tensor(std::move(t));
  PyObject_GC_Track(self);
  return reinterpret_cast<PyObject*>(self);
}

// The last Python reference is gone but C++ holds the tensor: the wrapper lives on, owned by the TensorImpl.
bool hand_over_to_cpp(PyTensor* self) {
  TensorImpl* t = self->t.impl();
  if (t->py != self || t->use_count() <= 1) return false;
  Py_SET_REFCNT(reinterpret_cast<PyObject*>(self), 1);
  t->owns_py = true;
  // another thread may have let go since: then this was the last reference and the wrapper goes with the tensor
  if (t->release()) ref_destroy(t);
  return true;
}

void dealloc(PyObject* o) {
  PyTensor* self = cast(o);
  PyObject_GC_UnTrack(o);
  if (hand_over_to_cpp(self)) return;
  if (self->weakrefs) PyObject_ClearWeakRefs(o);
  Py_CLEAR(self->dict);
  if (self->t.impl()->py == self) self->t.impl()->py = nullptr;
  self->t.~Tensor();
  PyTypeObject* type = Py_TYPE(o);
  if (type == tensor_type && free_list.n < FreeList::kMax)
    free_list.items[free_list.n++] = self;
  else
    type->tp_free(o);
  Py_DECREF(type);
}

// While C++ holds the tensor too, what the wrapper refers to must not count as garbage: report nothing.
int traverse(PyObject* o, visitproc visit, void* arg) {
  PyTensor* self = cast(o);
  Py_VISIT(Py_TYPE(o));
  const TensorImpl* t = self->t.impl();
  if (t && t->py == self && t->use_count() > 1) return 0;
  Py_VISIT(self->dict);
  return 0;
}

int clear(PyObject* o) {
  Py_CLEAR(cast(o)->dict);
  return 0;
}

bool interpreter_gone() {
#if PY_VERSION_HEX >= 0x030D0000
  return !Py_IsInitialized() || Py_IsFinalizing();
#else
  return !Py_IsInitialized() || _Py_IsFinalizing();
#endif
}

// Moves everything a dying TensorImpl has into a new one, for a wrapper that Python reached again meanwhile.
Tensor move_contents(TensorImpl* from) {
  Ref<TensorImpl> to(new TensorImpl);
  to->storage = std::move(from->storage);
  to->offset = from->offset;
  to->numel = from->numel;
  to->dtype = from->dtype;
  to->contiguous = from->contiguous;
  to->requires_grad = from->requires_grad;
  to->is_parameter = from->is_parameter;
  to->is_inference = from->is_inference;
  to->untracked_view = from->untracked_view;
  to->base = std::move(from->base);
  to->view_version = from->view_version;
  to->autograd = std::move(from->autograd);
  to->sizes = from->sizes;
  to->strides = from->strides;
  return Tensor(std::move(to));
}

// From ~TensorImpl, on any thread: drops the wrapper the tensor owned.
void release_wrapper(void* p) {
  if (interpreter_gone()) return;
  PyGILState_STATE gil = PyGILState_Ensure();
  PyTensor* self = static_cast<PyTensor*>(p);
  TensorImpl* dying = self->t.impl();
  bool reached_again = Py_REFCNT(reinterpret_cast<PyObject*>(self)) > 1 || !dying->owns_py;
  bool owned = dying->owns_py;
  if (reached_again) {
    Tensor t = move_contents(dying);
    t.impl()->py = self;
    new (&self->t) Tensor(std::move(t));
    if (!PyObject_GC_IsTracked(reinterpret_cast<PyObject*>(self))) PyObject_GC_Track(self);
  } else {
    new (&self->t) Tensor(tombstone());
  }
  if (owned) Py_DECREF(reinterpret_cast<PyObject*>(self));
  PyGILState_Release(gil);
}

// Turns owns_py around: the caller holds a reference to the tensor and gets the wrapper's one.
void take_back(PyTensor* self) {
  TensorImpl* t = self->t.impl();
  t->owns_py = false;
  t->retain();
  if (!PyObject_GC_IsTracked(reinterpret_cast<PyObject*>(self))) PyObject_GC_Track(self);
}

// ---- construction from Python

// Same storage, no history and no base.
Tensor share(const Tensor& src) {
  Tensor t = make_view(src, src.sizes(), src.strides(), src.storage_offset());
  t.impl()->base.reset();
  return t;
}

// Tensor(data) is an alias of float32 tensor(data); Tensor(2, 3) and Tensor(Size([2, 3])) uninitialised tensors.
PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    Tensor t;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    std::vector<int64_t> sizes;
    bool subclass_init = type->tp_init != PyBaseObject_Type.tp_init && type != tensor_type;
    if (n == 0) {
      t = empty_tensor({0}, default_dtype());
    } else if (n == 1 && is_tensor(PyTuple_GET_ITEM(args, 0))) {
      const Tensor& src = unwrap(PyTuple_GET_ITEM(args, 0));
      t = share(src);
    } else if (n == 1 && Py_TYPE(PyTuple_GET_ITEM(args, 0)) == size_type && to_ints(PyTuple_GET_ITEM(args, 0), sizes)) {
      t = empty_tensor(sizes, default_dtype());
    } else if (PyLong_Check(PyTuple_GET_ITEM(args, 0)) && to_ints(args, sizes)) {
      t = empty_tensor(sizes, default_dtype());
    } else if (n == 1 || subclass_init) {
      t = tensor_from(PyTuple_GET_ITEM(args, 0), default_dtype(), Device());
    } else {
      fail<TypeError>("Tensor(): expected sizes, or one argument with the data; use tensor(data, dtype=...) for more");
    }
    PyObject* where = kwargs && PyDict_GET_SIZE(kwargs) == 1 ? PyDict_GetItemString(kwargs, "device") : nullptr;
    TG_CHECK(!kwargs || PyDict_GET_SIZE(kwargs) == 0 || where || subclass_init, TypeError,
             "Tensor(): takes no keyword argument but device; use tensor(data, dtype=..., requires_grad=...)");
    if (Device d; where && where != Py_None && !subclass_init)
      TG_CHECK(to_device(where, d) && d.is_cpu(), DeviceError, "Tensor(): only makes tensors on the CPU");
    return make_wrapper(type, std::move(t));
  });
}

// Parameter(data=None, requires_grad=True): shares memory with `data`.
PyObject* parameter_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"data", "requires_grad", nullptr};
    PyObject* data = Py_None;
    int requires_grad = 1;
    if (type->tp_new != parameter_new || type == parameter_type) {
      if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op:Parameter", const_cast<char**>(names), &data, &requires_grad))
        throw_python_error();
    } else if (PyTuple_GET_SIZE(args) > 0) {  // a subclass: its __init__ looks at the other arguments
      data = PyTuple_GET_ITEM(args, 0);
      if (kwargs)
        if (PyObject* r = PyDict_GetItemString(kwargs, "requires_grad")) requires_grad = PyObject_IsTrue(r);
    }
    Tensor t;
    if (data == Py_None) {
      t = empty_tensor({0}, default_dtype());
    } else {
      TG_CHECK(is_tensor(data), TypeError, "Parameter(): argument 'data' must be Tensor, not ", Py_TYPE(data)->tp_name);
      const Tensor& src = unwrap(data);
      TG_CHECK(!requires_grad || is_float(src.dtype()), DTypeError,
               "Parameter(): only floating-point tensors can require gradients; data=", describe(src));
      t = share(src);
    }
    t.impl()->is_inference = false;
    t.impl()->is_parameter = true;
    t.impl()->requires_grad = requires_grad != 0;
    return make_wrapper(type, std::move(t));
  });
}

PyTypeObject* make_type(const char* name, const char* doc, newfunc make, PyTypeObject* base) {
  static PyMemberDef members[] = {
      {"__dictoffset__", T_PYSSIZET, offsetof(PyTensor, dict), READONLY, nullptr},
      {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTensor, weakrefs), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr},
  };
  static PyGetSetDef getset[] = {
      {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr},
  };
  std::vector<PyType_Slot> slots = {
      {Py_tp_doc, const_cast<char*>(doc)},
      {Py_tp_new, reinterpret_cast<void*>(make)},
      {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(clear)},
      {Py_tp_free, reinterpret_cast<void*>(PyObject_GC_Del)},
      {Py_tp_members, members},
      {Py_tp_getset, getset},
  };
  if (!base)
    for (PyType_Slot s : operator_slots()) slots.push_back(s);
  slots.push_back({0, nullptr});
  PyType_Spec spec = {name, sizeof(PyTensor), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                      slots.data()};
  PyObject* type = base ? PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(base)) : PyType_FromSpec(&spec);
  if (!type) throw_python_error();
  return reinterpret_cast<PyTypeObject*>(type);
}

}  // namespace

void reclaim(PyTensor* self) {
  take_back(self);
  Py_DECREF(reinterpret_cast<PyObject*>(self));  // the reference the TensorImpl had; the caller has its own
}

PyObject* wrap(Tensor t) {
  TensorImpl* i = t.impl();
  if (!i) return Py_NewRef(Py_None);
  if (PyTensor* self = wrapper_of(i)) {
    if (i->owns_py)
      take_back(self);
    else
      Py_INCREF(reinterpret_cast<PyObject*>(self));
    return reinterpret_cast<PyObject*>(self);
  }
  return make_wrapper(i->is_parameter ? parameter_type : tensor_type, std::move(t));
}

PyObject* wrap_as(PyTypeObject* type, Tensor t) {
  TG_CHECK(PyType_IsSubtype(type, tensor_type) && t.defined() && !t.impl()->py, TypeError,
           "Tensor: cannot make an instance of ", type->tp_name);
  return make_wrapper(type, std::move(t));
}

void init_tensor_type(py::module_& m) {
  tombstone();
  tensor_type =
      make_type("tinygrad_cpp.Tensor", "An n-dimensional array of one element type that remembers how it was computed.",
                tensor_new, nullptr);
  parameter_type = make_type("tinygrad_cpp.nn.Parameter",
                             "Parameter(data=None, requires_grad=True)\n\nA tensor that modules register as theirs.",
                             parameter_new, tensor_type);
  m.attr("Tensor") = py::handle(reinterpret_cast<PyObject*>(tensor_type));
  m.attr("Parameter") = py::handle(reinterpret_cast<PyObject*>(parameter_type));
  release_python_object = release_wrapper;
}

}  // namespace tg::python
