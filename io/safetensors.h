// The safetensors format (https://github.com/huggingface/safetensors, format description in its README): an 8-byte
// little-endian header length, a JSON header, raw row-major data. Nothing in a file is ever executed. Files written
// here carry a checksum of the header and of each tensor in their metadata, which reading verifies and takes out again.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace tg::io {

struct TensorFile {
  std::vector<std::pair<std::string, Tensor>> tensors;  // in file order
  std::map<std::string, std::string> metadata;
  // ValueError if there is no tensor of this name.
  TG_API const Tensor& operator[](const std::string& name) const;
};

// The bytes of a file holding these tensors. ValueError for repeated names.
TG_API std::string to_safetensors(const TensorFile& f);
// Strict: every size, offset and dtype is checked against the file; FormatError says what is wrong and where.
TG_API TensorFile from_safetensors(const std::string& bytes, const std::string& what = "safetensors");

TG_API void save(const TensorFile& f, const std::string& path);
TG_API TensorFile load(const std::string& path);

}  // namespace tg::io
