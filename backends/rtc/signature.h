// What is compiled, and what comes out: an image with the kernel's parameters, which the compiler itself tells. Lines
// of C++ behind the source turn the kernel's type into an array of codes, so names, macros and templates need no
// parsing.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"

namespace tg::rtc {

// Text to compile and the kernel in it. `prelude` (device_text() or nothing) comes first and is not counted in lines.
struct Source {
  std::string name;  // a C++ expression
  std::string text;
  std::vector<std::string> options = {};
  const char* prelude = "";
};

// One parameter of a kernel. Pointers may be to anything (`any`: void or a type of the source's own).
struct Param {
  enum class Kind : uint8_t { Scalar, Pointer, Other };
  Kind kind = Kind::Other;
  DType dtype = DType::F32;
  bool any = false;          // pointer to void or to an unknown type
  bool is_unsigned = false;  // of the size of `dtype`
  bool constant = false;     // pointer to const
};
// "const float*", "int32", ...
TG_API std::string to_string(const Param& p);

struct Image {
  std::string code;  // a cubin, or a shared object
  std::string name;  // the kernel's symbol in it
  std::vector<Param> params;
};

// The whole text: prelude, source with its own line numbers, and what makes the array `tg_signature`.
TG_API std::string text_with_signature(const Source& s);
// CompileError if the compiler's messages begin with one about the kernel's name: it could read the source itself.
void refuse_wrong_name(const Source& s, const std::string& log);
// Bytes of tg_signature -> parameters.
TG_API std::vector<Param> decode_signature(const std::vector<uint8_t>& bytes);
// An image as one string for the cache, and back (nothing if it is no such string).
TG_API std::string pack_image(const Image& image);
TG_API std::optional<Image> unpack_image(const std::string& packed);

}  // namespace tg::rtc
