// Typed errors. Every failure reachable from the public API is one of these; nothing aborts.
#pragma once
#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "core/api.h"

namespace tg {

// Base of all errors of the framework (Python: RuntimeError). The dispatch chain appends the operands to `text` when
// the message does not name them yet.
struct TG_API Error : std::exception {
  explicit Error(std::string t) : text(std::move(t)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};
// One class per Python exception it maps to; the second column is the Python type it also is.
struct TG_API ShapeError : Error {
  using Error::Error;
};  // RuntimeError
struct TG_API DTypeError : Error {
  using Error::Error;
};  // RuntimeError
struct TG_API DeviceError : Error {
  using Error::Error;
};  // RuntimeError
struct TG_API CompileError : Error {
  using Error::Error;
};  // RuntimeError: a kernel's source, with the compiler's message
struct TG_API AutogradError : Error {
  using Error::Error;
};  // RuntimeError
struct TG_API IndexError : Error {
  using Error::Error;
};  // IndexError
struct TG_API ValueError : Error {
  using Error::Error;
};  // ValueError
struct TG_API TypeError : Error {
  using Error::Error;
};  // TypeError
struct TG_API NotImplementedError : Error {
  using Error::Error;
};  // NotImplementedError
struct TG_API OutOfMemoryError : Error {
  using Error::Error;
};  // MemoryError
struct TG_API Interrupted : Error {
  using Error::Error;
};  // KeyboardInterrupt
struct TG_API IoError : Error {
  using Error::Error;
};  // OSError
struct TG_API FormatError : Error {
  using Error::Error;
};  // ValueError: a file is not what it should be

template <class... A>
std::string str(const A&... a) {
  std::ostringstream s;
  (s << ... << a);
  return s.str();
}

// Out of line so that a check costs one branch where it is used.
template <class E, class... A>
[[noreturn, gnu::noinline, gnu::cold]] void fail(const A&... a) {
  throw E(str(a...));
}

}  // namespace tg

// TG_CHECK(n == 2, ShapeError, "matmul: expected 2 dimensions, got ", n)
#define TG_CHECK(cond, E, ...)                                  \
  do {                                                          \
    if (TG_UNLIKELY(!(cond))) ::tg::fail<::tg::E>(__VA_ARGS__); \
  } while (0)
