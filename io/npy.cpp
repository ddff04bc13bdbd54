#include "io/npy.h"

#include <cstring>

#include "core/file.h"
#include "ops/ops.h"

namespace tg::io {
namespace {

constexpr std::pair<const char*, DType> kDescr[] = {{"|b1", DType::Bool}, {"|u1", DType::U8},  {"|i1", DType::I8},
                                                    {"<i2", DType::I16},  {"<i4", DType::I32}, {"<i8", DType::I64},
                                                    {"<f2", DType::F16},  {"<f4", DType::F32}, {"<f8", DType::F64}};

// The text after 'key': in the header's dictionary literal.
std::string_view after(std::string_view header, std::string_view key, const std::string& what) {
  size_t at = header.find(key);
  TG_CHECK(at != header.npos, FormatError, what, ": header lacks ", key);
  header.remove_prefix(at + key.size());
  while (!header.empty() && (header.front() == ' ' || header.front() == ':')) header.remove_prefix(1);
  return header;
}

Dims parse_shape(std::string_view s, const std::string& what) {
  TG_CHECK(!s.empty() && s.front() == '(', FormatError, what, ": bad shape in header");
  Dims d;
  int64_t n = -1;
  for (size_t i = 1; i < s.size(); ++i) {
    char c = s[i];
    if (c >= '0' && c <= '9') {
      n = n < 0 ? 0 : n;
      TG_CHECK(n < (int64_t(1) << 58), FormatError, what, ": size too large in header");
      n = n * 10 + (c - '0');
    } else if (c == ',' || c == ')') {
      if (n >= 0) {
        TG_CHECK(d.size() < kMaxDims, FormatError, what, ": more than ", kMaxDims, " dimensions");
        d.push_back(n);
      }
      n = -1;
      if (c == ')') return d;
    } else {
      TG_CHECK(c == ' ', FormatError, what, ": bad shape in header");
    }
  }
  fail<FormatError>(what, ": bad shape in header");
}

}  // namespace

Tensor from_npy(const std::string& bytes, const std::string& what) {
  TG_CHECK(bytes.size() >= 10 && bytes.compare(0, 6, "\x93NUMPY") == 0, FormatError, what, ": not a .npy file");
  int major = uint8_t(bytes[6]);
  TG_CHECK(major == 1 || major == 2, FormatError, what, ": .npy version ", major, " is not supported");
  size_t start = major == 1 ? 10 : 12, len = 0;
  TG_CHECK(bytes.size() >= start, FormatError, what, ": file is too short");
  for (size_t i = start; i-- > 8;) len = len << 8 | uint8_t(bytes[i]);
  TG_CHECK(len <= bytes.size() - start, FormatError, what, ": header length ", len, " does not fit the file");
  std::string_view header = std::string_view(bytes).substr(start, len);
  std::string_view descr = after(header, "'descr'", what);
  TG_CHECK(after(header, "'fortran_order'", what).starts_with("False"), FormatError, what,
           ": only C order is supported");
  Dims shape = parse_shape(after(header, "'shape'", what), what);
  for (auto& [code, dtype] : kDescr) {
    if (!descr.starts_with(std::string("'") + code + "'")) continue;
    int64_t n = numel_of(shape, "npy"), size;
    TG_CHECK(!__builtin_mul_overflow(n, itemsize(dtype), &size) && size_t(size) == bytes.size() - start - len,
             FormatError, what, ": ", bytes.size() - start - len, " bytes of data do not fit shape ", shape);
    Tensor t = empty_tensor(shape, dtype);
    if (size > 0) std::memcpy(t.data(), bytes.data() + start + len, size_t(size));
    return t;
  }
  fail<FormatError>(what, ": unsupported dtype ", descr.substr(0, descr.find(',')));
}

Tensor load_npy(const std::string& path) { return from_npy(read_file(path), "'" + path + "'"); }

void save_npy(const Tensor& t, const std::string& path) {
  const char* code = nullptr;
  for (auto& [c, d] : kDescr)
    if (d == t.dtype()) code = c;
  TG_CHECK(code, DTypeError, "save_npy: NumPy has no type for ", t.dtype(), "; self=", describe(t));
  std::string header = std::string("{'descr': '") + code + "', 'fortran_order': False, 'shape': (";
  for (int64_t s : t.sizes()) header += std::to_string(s) + ",";
  header += "), }";
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  std::string prefix = std::string("\x93NUMPY\x01\0", 8) + char(header.size() & 255) + char(header.size() >> 8);
  NoGrad guard;
  Tensor c = contiguous(to(t, Device()));
  write_file(path, {{prefix.data(), prefix.size()},
                    {header.data(), header.size()},
                    {c.data(), size_t(c.numel() * itemsize(c.dtype()))}});
}

}  // namespace tg::io
