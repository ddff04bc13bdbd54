#include "io/json.h"

#include "core/error.h"

namespace tg::io {
namespace {

class Parser {
 public:
  Parser(std::string_view s, const std::string& what) : s_(s), what_(what) {}
  Json document() {
    Json v = value(0);
    space();
    check(at_ == s_.size(), "text after the end");
    return v;
  }

 private:
  static constexpr int kMaxDepth = 8;
  void check(bool ok, const char* problem) const {
    TG_CHECK(ok, FormatError, what_, ": header is not valid JSON at byte ", at_, ": ", problem);
  }
  void space() {
    while (at_ < s_.size() && (s_[at_] == ' ' || s_[at_] == '\n' || s_[at_] == '\t' || s_[at_] == '\r')) ++at_;
  }
  bool take(char c) {
    space();
    if (at_ >= s_.size() || s_[at_] != c) return false;
    ++at_;
    return true;
  }
  Json value(int depth) {
    check(depth <= kMaxDepth, "nested too deeply");
    Json v;
    space();
    check(at_ < s_.size(), "unexpected end");
    char c = s_[at_];
    if (c == '{')
      object(v, depth);
    else if (c == '[')
      array(v, depth);
    else if (c == '"')
      v.kind = Json::Kind::String, v.text = string();
    else
      v.kind = Json::Kind::Int, v.number = integer();
    return v;
  }
  void object(Json& v, int depth) {
    v.kind = Json::Kind::Object;
    ++at_;
    if (take('}')) return;
    do {
      space();
      check(at_ < s_.size() && s_[at_] == '"', "expected a name");
      std::string name = string();
      check(take(':'), "expected ':'");
      v.members.emplace_back(std::move(name), value(depth + 1));
    } while (take(','));
    check(take('}'), "expected '}'");
  }
  void array(Json& v, int depth) {
    v.kind = Json::Kind::Array;
    ++at_;
    if (take(']')) return;
    do v.items.push_back(value(depth + 1));
    while (take(','));
    check(take(']'), "expected ']'");
  }
  int64_t integer() {
    int64_t n = 0;
    size_t start = at_;
    while (at_ < s_.size() && s_[at_] >= '0' && s_[at_] <= '9') {
      check(!__builtin_mul_overflow(n, int64_t(10), &n) && !__builtin_add_overflow(n, int64_t(s_[at_] - '0'), &n),
            "number too large");
      ++at_;
    }
    check(at_ > start, "unexpected character");
    check(at_ == start + 1 || s_[start] != '0', "a number starts with 0");
    return n;
  }
  unsigned hex4() {
    check(at_ + 4 <= s_.size(), "unexpected end");
    unsigned u = 0;
    for (int i = 0; i < 4; ++i) {
      char c = s_[at_++];
      int d = c >= '0' && c <= '9'   ? c - '0'
              : c >= 'a' && c <= 'f' ? c - 'a' + 10
              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                     : -1;
      check(d >= 0, "bad \\u escape");
      u = u * 16 + unsigned(d);
    }
    return u;
  }
  static void utf8(std::string& out, unsigned u) {
    if (u < 0x80) {
      out += char(u);
    } else if (u < 0x800) {
      out += char(0xC0 | u >> 6);
      out += char(0x80 | (u & 0x3F));
    } else if (u < 0x10000) {
      out += char(0xE0 | u >> 12);
      out += char(0x80 | (u >> 6 & 0x3F));
      out += char(0x80 | (u & 0x3F));
    } else {
      out += char(0xF0 | u >> 18);
      out += char(0x80 | (u >> 12 & 0x3F));
      out += char(0x80 | (u >> 6 & 0x3F));
      out += char(0x80 | (u & 0x3F));
    }
  }
  void escape(std::string& out) {
    check(at_ < s_.size(), "unexpected end");
    char c = s_[at_++];
    static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    if (size_t i = from.find(c); i != from.npos) {
      out += to[i];
      return;
    }
    check(c == 'u', "unknown escape");
    unsigned u = hex4();
    if (u >= 0xD800 && u < 0xDC00) {  // first half of a pair
      check(at_ + 2 <= s_.size() && s_[at_] == '\\' && s_[at_ + 1] == 'u', "lone surrogate");
      at_ += 2;
      unsigned low = hex4();
      check(low >= 0xDC00 && low < 0xE000, "lone surrogate");
      u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
    } else {
      check(u < 0xDC00 || u >= 0xE000, "lone surrogate");
    }
    utf8(out, u);
  }
  std::string string() {
    std::string out;
    ++at_;
    for (;;) {
      check(at_ < s_.size(), "unterminated string");
      char c = s_[at_++];
      if (c == '"') return out;
      check(uint8_t(c) >= 0x20, "control character in a string");
      if (c == '\\')
        escape(out);
      else
        out += c;
    }
  }

  std::string_view s_;
  const std::string& what_;
  size_t at_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view name) const {
  for (auto& [n, v] : members)
    if (n == name) return &v;
  return nullptr;
}

Json parse_json(std::string_view text, const std::string& what) { return Parser(text, what).document(); }

std::string quote_json(std::string_view s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (uint8_t(c) < 0x20) {
      static const char* hex = "0123456789abcdef";
      out += "\\u00";
      out += hex[c >> 4];
      out += hex[c & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace tg::io
