#include "io/safetensors.h"

#include <cstring>
#include <set>

#include "io/file.h"
#include "io/json.h"
#include "ops/ops.h"

namespace tg::io {
namespace {

constexpr size_t kMaxHeader = 100'000'000;  // the limit of the format's own reader

constexpr std::pair<const char*, DType> kTypes[] = {
    {"BOOL", DType::Bool}, {"U8", DType::U8},   {"I8", DType::I8},     {"I16", DType::I16}, {"I32", DType::I32},
    {"I64", DType::I64},   {"F16", DType::F16}, {"BF16", DType::BF16}, {"F32", DType::F32}, {"F64", DType::F64}};

const char* type_name(DType t) {
  for (auto& [n, d] : kTypes)
    if (d == t) return n;
  __builtin_unreachable();
}

struct Entry {
  std::string name;
  DType dtype;
  Dims shape;
  int64_t begin, end;
};

Entry parse_entry(const std::string& name, const Json& j, const std::string& what) {
  const Json *dtype = j.find("dtype"), *shape = j.find("shape"), *offsets = j.find("data_offsets");
  TG_CHECK(dtype && dtype->kind == Json::Kind::String && shape && shape->kind == Json::Kind::Array && offsets &&
               offsets->kind == Json::Kind::Array && offsets->items.size() == 2,
           FormatError, what, ": tensor '", name, "' lacks dtype, shape or data_offsets");
  Entry e{name, DType::F32, {}, offsets->items[0].number, offsets->items[1].number};
  bool known = false;
  for (auto& [n, d] : kTypes)
    if (dtype->text == n) e.dtype = d, known = true;
  TG_CHECK(known, FormatError, what, ": tensor '", name, "' has the unknown dtype '", dtype->text, "'");
  TG_CHECK(shape->items.size() <= size_t(kMaxDims), FormatError, what, ": tensor '", name, "' has ",
           shape->items.size(), " dimensions, at most ", kMaxDims, " are supported");
  int64_t bytes = itemsize(e.dtype);
  for (const Json& s : shape->items) {
    TG_CHECK(s.kind == Json::Kind::Int, FormatError, what, ": tensor '", name, "' has a size that is not a number");
    TG_CHECK(!__builtin_mul_overflow(bytes, s.number, &bytes), FormatError, what, ": tensor '", name, "' is too large");
    e.shape.push_back(s.number);
  }
  TG_CHECK(e.begin <= e.end && e.end - e.begin == bytes, FormatError, what, ": tensor '", name, "' of size ", e.shape,
           " needs ", bytes, " bytes, its data_offsets give ", e.begin, " to ", e.end);
  return e;
}

}  // namespace

const Tensor& TensorFile::operator[](const std::string& name) const {
  for (auto& [n, t] : tensors)
    if (n == name) return t;
  fail<ValueError>("load: the file has no tensor named '", name, "'");
}

std::string to_safetensors(const TensorFile& f) {
  std::string header = "{", body;
  std::set<std::string> seen;
  if (!f.metadata.empty()) {
    header += "\"__metadata__\":{";
    for (auto& [k, v] : f.metadata) header += (header.back() == '{' ? "" : ",") + quote_json(k) + ":" + quote_json(v);
    header += "}";
  }
  for (auto& [name, t] : f.tensors) {
    TG_CHECK(seen.insert(name).second && name != "__metadata__", ValueError, "save: the tensor name '", name,
             "' can't be used ", name == "__metadata__" ? "(reserved)" : "twice");
    NoGrad guard;
    Tensor c = contiguous(t);
    size_t begin = body.size();
    if (c.numel() > 0) body.append(static_cast<const char*>(c.data()), size_t(c.numel() * itemsize(c.dtype())));
    header +=
        (header == "{" ? "" : ",") + quote_json(name) + ":{\"dtype\":\"" + type_name(c.dtype()) + "\",\"shape\":[";
    for (int i = 0; i < c.ndim(); ++i) header += (i ? "," : "") + std::to_string(c.sizes()[i]);
    header += "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(body.size()) + "]}";
  }
  header += "}";
  while (header.size() % 8) header += ' ';
  uint64_t n = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &n, 8);
  return out + header + body;
}

TensorFile from_safetensors(const std::string& bytes, const std::string& what) {
  TG_CHECK(bytes.size() >= 8, FormatError, what, ": file of ", bytes.size(), " bytes is too short for a header");
  uint64_t n = 0;
  std::memcpy(&n, bytes.data(), 8);
  TG_CHECK(n <= kMaxHeader && n <= bytes.size() - 8, FormatError, what, ": header length ", n,
           " does not fit a file of ", bytes.size(), " bytes");
  Json j = parse_json(std::string_view(bytes).substr(8, n), what);
  TG_CHECK(j.kind == Json::Kind::Object, FormatError, what, ": header is not an object");
  TensorFile f;
  std::vector<Entry> entries;
  std::set<std::string> seen;
  for (auto& [name, v] : j.members) {
    TG_CHECK(seen.insert(name).second, FormatError, what, ": tensor '", name, "' appears twice");
    if (name == "__metadata__") {
      for (auto& [k, m] : v.members) {
        TG_CHECK(m.kind == Json::Kind::String, FormatError, what, ": metadata '", k, "' is not a string");
        f.metadata[k] = m.text;
      }
      continue;
    }
    entries.push_back(parse_entry(name, v, what));
  }
  // The data must be covered without gaps or overlaps: nothing can hide in a file.
  std::sort(entries.begin(), entries.end(),
            [](auto& a, auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t at = 0, size = int64_t(bytes.size() - 8 - n);
  for (const Entry& e : entries) {
    TG_CHECK(e.begin == at, FormatError, what, ": tensor '", e.name, "' starts at ", e.begin, ", expected ", at);
    TG_CHECK(e.end <= size, FormatError, what, ": tensor '", e.name, "' ends at ", e.end, ", the data has ", size,
             " bytes");
    at = e.end;
  }
  TG_CHECK(at == size, FormatError, what, ": ", size - at, " bytes after the last tensor");
  for (const Entry& e : entries) {
    Tensor t = empty_tensor(e.shape, e.dtype);
    if (e.end > e.begin) std::memcpy(t.data(), bytes.data() + 8 + n + e.begin, size_t(e.end - e.begin));
    f.tensors.emplace_back(e.name, t);
  }
  return f;
}

void save(const TensorFile& f, const std::string& path) {
  std::string bytes = to_safetensors(f);
  write_file(path, {{bytes.data(), bytes.size()}});
}

TensorFile load(const std::string& path) { return from_safetensors(read_file(path), "'" + path + "'"); }

}  // namespace tg::io
