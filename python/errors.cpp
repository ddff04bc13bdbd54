// C++ exceptions as Python exceptions.
#include <cstring>
#include <new>

#include "ops/linalg.h"
#include "python/bindings.h"

namespace tg::python {
namespace {

struct Classes {
  PyObject *error, *shape, *dtype, *device, *compile, *autograd, *index, *value, *type, *not_implemented,
      *out_of_memory, *io, *format, *linalg;
};
Classes classes{};

// Messages may quote bytes of a file that are no UTF-8.
void set(PyObject* type, const char* text) {
  PyObject* s = PyUnicode_DecodeUTF8(text, Py_ssize_t(std::strlen(text)), "replace");
  if (!s) return;
  PyErr_SetObject(type, s);
  Py_DECREF(s);
}

// pybind11 says which type did not fit between <class '...'>; the rest of its text is about how it was compiled.
std::string type_text(std::string_view text) {
  constexpr std::string_view mark = "<class '";
  size_t at = text.find(mark);
  size_t end = at == text.npos ? at : text.find("'>", at);
  if (end == text.npos) return "an argument has a type that does not fit";
  return "an argument cannot be of type " + std::string(text.substr(at + mark.size(), end - at - mark.size()));
}

// tinygrad_cpp.<name>, derived from `bases`, also added to the module.
PyObject* make_class(py::module_& m, std::string_view name, py::tuple bases, const char* doc) {
  std::string full = str("tinygrad_cpp.", name);
  PyObject* c = PyErr_NewExceptionWithDoc(full.c_str(), doc, bases.ptr(), nullptr);
  if (!c) throw_python_error();
  m.attr(full.substr(full.rfind('.') + 1).c_str()) = py::handle(c);
  return c;
}

}  // namespace

void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const py::cast_error& e) {
    set(classes.type, type_text(e.what()).c_str());
  } catch (const py::builtin_exception& e) {
    e.set_error();
  } catch (const ShapeError& e) {
    set(classes.shape, e.what());
  } catch (const DTypeError& e) {
    set(classes.dtype, e.what());
  } catch (const DeviceError& e) {
    set(classes.device, e.what());
  } catch (const CompileError& e) {
    set(classes.compile, e.what());
  } catch (const AutogradError& e) {
    set(classes.autograd, e.what());
  } catch (const IndexError& e) {
    set(classes.index, e.what());
  } catch (const ValueError& e) {
    set(classes.value, e.what());
  } catch (const TypeError& e) {
    set(classes.type, e.what());
  } catch (const NotImplementedError& e) {
    set(classes.not_implemented, e.what());
  } catch (const OutOfMemoryError& e) {
    set(classes.out_of_memory, e.what());
  } catch (const IoError& e) {
    set(classes.io, e.what());
  } catch (const FormatError& e) {
    set(classes.format, e.what());
  } catch (const LinAlgError& e) {
    set(classes.linalg, e.what());
  } catch (const Interrupted& e) {
    set(PyExc_KeyboardInterrupt, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    set(classes.error, e.what());
  } catch (...) {
    set(classes.error, "unknown C++ exception");
  }
}

void init_errors(py::module_& m) {
  auto runtime = py::reinterpret_borrow<py::object>(PyExc_RuntimeError);
  classes.error = make_class(m, "Error", py::make_tuple(runtime), "Base of all errors of the framework.");
  py::handle base = classes.error;
  auto also = [&](PyObject* builtin) { return py::make_tuple(base, py::handle(builtin)); };
  classes.shape = make_class(m, "ShapeError", py::make_tuple(base), "Sizes that do not fit together.");
  classes.dtype = make_class(m, "DTypeError", py::make_tuple(base), "An element type the op does not take.");
  classes.device = make_class(m, "DeviceError", py::make_tuple(base), "A device that is missing, or mixed devices.");
  classes.compile = make_class(m, "CompileError", py::make_tuple(base), "A kernel's source that does not compile.");
  classes.autograd = make_class(m, "AutogradError", py::make_tuple(base), "A misuse of the tape.");
  classes.index = make_class(m, "IndexError", also(PyExc_IndexError), "An index or axis out of range.");
  classes.value =
      make_class(m, "ValueError", also(PyExc_ValueError), "An argument of the right type, but wrong value.");
  classes.type = make_class(m, "TypeError", also(PyExc_TypeError), "An argument of the wrong type.");
  classes.not_implemented =
      make_class(m, "NotImplementedError", also(PyExc_NotImplementedError), "Something that does not exist here.");
  classes.out_of_memory = make_class(m, "OutOfMemoryError", also(PyExc_MemoryError), "An allocation that failed.");
  classes.io = make_class(m, "IoError", also(PyExc_OSError), "A file that cannot be read or written.");
  classes.format = make_class(m, "FormatError", also(PyExc_ValueError), "A file that is not what it should be.");
  classes.linalg = make_class(m, "linalg.LinAlgError", py::make_tuple(base), "A factorisation that does not exist.");
  py::register_exception_translator([](std::exception_ptr p) {
    if (!p) return;
    // only what pybind11 would translate less well: its own exceptions go on to its own translator
    try {
      std::rethrow_exception(p);
    } catch (const Error&) {
      set_python_error();
    } catch (const py::cast_error&) {
      set_python_error();
    } catch (const std::bad_alloc&) {
      set_python_error();
    }
  });
}

}  // namespace tg::python
