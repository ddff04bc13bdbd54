// The part of JSON that file headers use: objects, arrays, strings, non-negative integers. Bounded depth, no recursion
// on hostile input beyond it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tg::io {

struct Json {
  enum class Kind { Object, Array, String, Int } kind = Kind::Object;
  std::vector<std::pair<std::string, Json>> members;
  std::vector<Json> items;
  std::string text;
  int64_t number = 0;
  // nullptr if there is no member of this name.
  const Json* find(std::string_view name) const;
};

// FormatError with the byte position. `what` names the file in messages.
Json parse_json(std::string_view text, const std::string& what);
// A string literal with quotes and escapes.
std::string quote_json(std::string_view s);

}  // namespace tg::io
