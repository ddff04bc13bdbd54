#include "io/safetensors.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <set>

#include "core/file.h"
#include "io/crc32.h"
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
               offsets->kind == Json::Kind::Array && offsets->items.size() == 2 &&
               offsets->items[0].kind == Json::Kind::Int && offsets->items[1].kind == Json::Kind::Int,
           FormatError, what, ": tensor '", name, "' lacks dtype, shape or data_offsets");
  for (const char* key : {"dtype", "shape", "data_offsets"})
    TG_CHECK(std::count_if(j.members.begin(), j.members.end(), [&](auto& m) { return m.first == key; }) == 1,
             FormatError, what, ": tensor '", name, "' has more than one ", key);
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

// Two members of the metadata: the checksums of the tensors in the order of their data, and that of the header itself
// with zeros in its own place. Either is missing only from files of other programs, so one alone is damage.
constexpr std::string_view kDataSums = "crc32.data", kHeaderSum = "crc32.header";

std::string hex8(uint32_t v) {
  char s[9];
  std::snprintf(s, sizeof s, "%08x", v);
  return s;
}

// Length and header as they stand in the file, and the tensors with their elements in a row, in the order of the data.
struct Layout {
  std::string start;
  std::vector<Tensor> data;
  std::vector<std::pair<const void*, size_t>> pieces() const {
    std::vector<std::pair<const void*, size_t>> p{{start.data(), start.size()}};
    for (const Tensor& t : data)
      if (t.numel() > 0) p.emplace_back(t.data(), bytes_of(t));
    return p;
  }
  static size_t bytes_of(const Tensor& t) { return size_t(t.numel() * itemsize(t.dtype())); }
};

Layout lay_out(const TensorFile& f) {
  Layout out;
  std::string entries, sums;
  std::set<std::string> seen;
  size_t begin = 0;
  NoGrad guard;
  for (auto& [name, t] : f.tensors) {
    TG_CHECK(seen.insert(name).second && name != "__metadata__", ValueError, "save: the tensor name '", name,
             "' can't be used ", name == "__metadata__" ? "(reserved)" : "twice");
    Tensor c = contiguous(to(t, Device()));
    size_t size = Layout::bytes_of(c);
    sums += (sums.empty() ? "" : " ") + hex8(size > 0 ? crc32(c.data(), size) : 0);
    entries += "," + quote_json(name) + ":{\"dtype\":\"" + type_name(c.dtype()) + "\",\"shape\":[";
    for (int i = 0; i < c.ndim(); ++i) entries += (i ? "," : "") + std::to_string(c.sizes()[i]);
    entries += "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(begin + size) + "]}";
    begin += size;
    out.data.push_back(std::move(c));
  }
  std::string header = str("{\"__metadata__\":{\"", kDataSums, "\":\"", sums, "\",\"", kHeaderSum, "\":\"");
  size_t place = header.size();
  header += "00000000\"";
  for (auto& [k, v] : f.metadata) {
    TG_CHECK(k != kDataSums && k != kHeaderSum, ValueError, "save: the metadata name '", k, "' is reserved");
    header += "," + quote_json(k) + ":" + quote_json(v);
  }
  header += "}" + entries + "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  header.replace(place, 8, hex8(crc32(header.data(), header.size())));
  uint64_t n = header.size();
  out.start.assign(8, '\0');
  std::memcpy(out.start.data(), &n, 8);
  out.start += header;
  return out;
}

// Takes the checksums out of the metadata: one per tensor, or none in the file of another program.
std::vector<std::string> take_sums(std::string header, TensorFile& f, size_t tensors, const std::string& what) {
  auto data = f.metadata.find(std::string(kDataSums)), own = f.metadata.find(std::string(kHeaderSum));
  std::vector<std::string> sums;
  if (data == f.metadata.end() && own == f.metadata.end()) return sums;
  const char* damaged =
      ": the header does not match its checksum: the file is damaged, or was changed by a program "
      "that kept the old metadata";
  TG_CHECK(data != f.metadata.end() && own != f.metadata.end(), FormatError, what, damaged);
  size_t place = header.find(str('"', kHeaderSum, "\":\""));
  TG_CHECK(place != header.npos && own->second.size() == 8, FormatError, what, damaged);
  place += kHeaderSum.size() + 4;
  TG_CHECK(place + 8 <= header.size(), FormatError, what, damaged);
  header.replace(place, 8, "00000000");
  TG_CHECK(own->second == hex8(crc32(header.data(), header.size())), FormatError, what, damaged);
  std::istringstream words(data->second);
  for (std::string word; words >> word;) sums.push_back(word);
  TG_CHECK(sums.size() == tensors, FormatError, what, ": ", sums.size(), " checksums for ", tensors, " tensors");
  f.metadata.erase(data);
  f.metadata.erase(own);
  return sums;
}

// Metadata into f, what the tensors are into the result, in the order of their data.
std::vector<Entry> parse_header(const std::string& header, TensorFile& f, const std::string& what) {
  Json j = parse_json(header, what);
  TG_CHECK(j.kind == Json::Kind::Object && header[0] == '{', FormatError, what,
           ": header is not an object, from its first byte on");
  std::vector<Entry> entries;
  std::set<std::string> seen;
  for (auto& [name, v] : j.members) {
    TG_CHECK(seen.insert(name).second, FormatError, what, ": tensor '", name, "' appears twice");
    if (name == "__metadata__") {
      TG_CHECK(v.kind == Json::Kind::Object, FormatError, what, ": the metadata is not an object");
      for (auto& [k, m] : v.members) {
        TG_CHECK(m.kind == Json::Kind::String, FormatError, what, ": metadata '", k, "' is not a string");
        TG_CHECK(f.metadata.emplace(k, m.text).second, FormatError, what, ": metadata '", k, "' appears twice");
      }
      continue;
    }
    entries.push_back(parse_entry(name, v, what));
  }
  std::sort(entries.begin(), entries.end(),
            [](auto& a, auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  return entries;
}

// The data must be covered without gaps or overlaps: nothing can hide in a file.
void check_cover(const std::vector<Entry>& entries, int64_t size, const std::string& what) {
  int64_t at = 0;
  for (const Entry& e : entries) {
    TG_CHECK(e.begin == at, FormatError, what, ": tensor '", e.name, "' starts at ", e.begin, ", expected ", at);
    TG_CHECK(e.end <= size, FormatError, what, ": tensor '", e.name, "' ends at ", e.end, ", the data has ", size,
             " bytes");
    at = e.end;
  }
  TG_CHECK(at == size, FormatError, what, ": ", size - at, " bytes after the last tensor");
}

// `next(to, n)` gives the n bytes that follow of a file of `size` bytes.
TensorFile read_tensors(size_t size, const std::function<void(void*, size_t)>& next, const std::string& what) {
  TG_CHECK(size >= 8, FormatError, what, ": file of ", size, " bytes is too short for a header");
  uint64_t n = 0;
  next(&n, 8);
  TG_CHECK(n <= kMaxHeader && n <= size - 8, FormatError, what, ": header length ", n, " does not fit a file of ", size,
           " bytes");
  std::string header(n, '\0');
  next(header.data(), n);
  TensorFile f;
  std::vector<Entry> entries = parse_header(header, f, what);
  check_cover(entries, int64_t(size - 8 - n), what);
  std::vector<std::string> sums = take_sums(std::move(header), f, entries.size(), what);
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& e = entries[i];
    Tensor t = empty_tensor(e.shape, e.dtype);
    size_t bytes = size_t(e.end - e.begin);
    if (bytes > 0) next(t.data(), bytes);
    TG_CHECK(sums.empty() || sums[i] == hex8(bytes > 0 ? crc32(t.data(), bytes) : 0), FormatError, what, ": tensor '",
             e.name, "' does not match its checksum: the file is damaged");
    f.tensors.emplace_back(e.name, t);
  }
  return f;
}

}  // namespace

const Tensor& TensorFile::operator[](const std::string& name) const {
  for (auto& [n, t] : tensors)
    if (n == name) return t;
  fail<ValueError>("load: the file has no tensor named '", name, "'");
}

std::string to_safetensors(const TensorFile& f) {
  std::string out;
  Layout layout = lay_out(f);
  for (auto& [p, n] : layout.pieces()) out.append(static_cast<const char*>(p), n);
  return out;
}

TensorFile from_safetensors(const std::string& bytes, const std::string& what) {
  const char* at = bytes.data();
  return read_tensors(
      bytes.size(),
      [&](void* to, size_t n) {
        std::memcpy(to, at, n);
        at += n;
      },
      what);
}

void save(const TensorFile& f, const std::string& path) {
  Layout layout = lay_out(f);
  write_file(path, layout.pieces());
}

TensorFile load(const std::string& path) {
  InputFile file(path);
  return read_tensors(file.size(), [&](void* to, size_t n) { file.read(to, n); }, "'" + path + "'");
}

}  // namespace tg::io
