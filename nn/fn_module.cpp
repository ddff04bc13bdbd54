#include "nn/fn_module.h"

#include <deque>
#include <mutex>

#include "core/op.h"

namespace tg::nn {
namespace {

std::vector<std::string> split_top(const std::string& s) {
  std::vector<std::string> out;
  int depth = 0;
  std::string cur;
  auto flush = [&] {
    size_t b = cur.find_first_not_of(' '), e = cur.find_last_not_of(' ');
    if (b != cur.npos) out.push_back(cur.substr(b, e - b + 1));
    cur.clear();
  };
  for (char c : s) {
    depth += (c == '[' || c == '(') - (c == ']' || c == ')');
    if (c == ',' && depth == 0)
      flush();
    else
      cur += c;
  }
  flush();
  return out;
}

bool is_literal(const std::string& s) {
  return s == "None" || s == "True" || s == "False" || s[0] == '\'' || s[0] == '-' || (s[0] >= '0' && s[0] <= '9');
}

Attr parse_literal(const std::string& s) {
  if (s == "None") return {};
  if (s == "True" || s == "False") return s == "True";
  if (s[0] == '\'') return s.substr(1, s.size() - 2);
  if (s.find_first_of(".e") != s.npos) return std::stod(s);
  return int64_t(std::stoll(s));
}

FnKind make_kind(const char* name, const char* file, const char* fields, const std::string& op, const char* repr,
                 const char* doc) {
  FnKind k;
  k.name = name;
  k.file = file;
  k.signature = fields;
  k.repr = repr;
  k.doc = doc;
  for (const std::string& piece : split_top(fields)) {
    if (piece == "*") continue;
    FnKind::Field& f = k.fields.emplace_back();
    size_t space = piece.find(' '), eq = piece.find('=');
    f.type = piece.substr(0, space);
    f.name = piece.substr(space + 1, eq == piece.npos ? eq : eq - space - 1);
    if (f.type.ends_with('?')) f.type.pop_back(), f.optional = true;
    if (eq == piece.npos) continue;
    f.has_default = true;
    std::string d = piece.substr(eq + 1);
    if (is_literal(d))
      f.value = parse_literal(d);
    else
      f.from = d;
  }
  size_t open = op.find('(');
  k.op = op.substr(0, open);
  if (open != op.npos)
    for (const std::string& piece : split_top(op.substr(open + 1, op.size() - open - 2))) {
      size_t eq = piece.find('=');
      k.overrides.emplace_back(piece.substr(0, eq), piece.substr(eq + 1));
    }
  return k;
}

const std::deque<FnKind>& kinds() {
  static const std::deque<FnKind> all = {
#define TG_FN(NAME, FILE, FIELDS, OP, REPR, DOC) make_kind(#NAME, #FILE, FIELDS, OP, REPR, DOC),
#include "nn/fn_modules.def"
#undef TG_FN
  };
  return all;
}

template <class V, class F>
std::string tuple_text(const V& v, F text) {
  std::string s;
  for (size_t i = 0; i < v.size(); ++i) s += (i ? ", " : "") + text(v[i]);
  return "(" + s + (v.size() == 1 ? ",)" : ")");
}

// As Python writes it.
std::string text_of(const Attr& a) {
  struct Text {
    std::string operator()(std::monostate) { return "None"; }
    std::string operator()(bool b) { return b ? "True" : "False"; }
    std::string operator()(int64_t i) { return std::to_string(i); }
    std::string operator()(double d) { return number_text(d); }
    std::string operator()(const std::string& s) { return "'" + s + "'"; }
    std::string operator()(const std::vector<int64_t>& v) {
      return tuple_text(v, [](int64_t i) { return i == kInputSize ? "None" : std::to_string(i); });
    }
    std::string operator()(const std::vector<double>& v) { return tuple_text(v, number_text); }
  };
  return std::visit(Text{}, a);
}

// The setting in the form its declared type asks for; false if it is of another kind.
bool coerce(const FnKind::Field& f, Attr& v) {
  auto* i = std::get_if<int64_t>(&v);
  auto* b = std::get_if<bool>(&v);
  auto* d = std::get_if<double>(&v);
  auto* is = std::get_if<std::vector<int64_t>>(&v);
  if (std::holds_alternative<std::monostate>(v)) return f.optional;
  if (f.type == "bool") {
    if (i) v = *i != 0;
    return b || i;
  }
  if (f.type == "int") return i;
  if (f.type == "num") return i || d || b;
  if (f.type == "str") return std::holds_alternative<std::string>(v);
  if (f.type == "int[]") return i || is;
  if (f.type == "num[]") {
    if (i)
      v = double(*i);
    else if (is)
      v = std::vector<double>(is->begin(), is->end());
    return i || is || d || std::holds_alternative<std::vector<double>>(v);
  }
  size_t n = f.type[4] - '0';  // "int[4]"
  if (i) {
    v = std::vector<int64_t>(n, *i);
    return true;
  }
  return is && is->size() == n;
}

// A setting as the argument of an op parameter; lists of one borrow from the setting.
Value to_value(const Attr& a, const Param& p) {
  using T = Param::Type;
  if (auto* b = std::get_if<bool>(&a)) return Value(*b);
  if (auto* s = std::get_if<std::string>(&a)) return Value(std::string_view(*s));
  if (auto* v = std::get_if<std::vector<int64_t>>(&a)) return Value(IntList(*v));
  if (auto* v = std::get_if<std::vector<double>>(&a)) return Value(*v);
  if (auto* i = std::get_if<int64_t>(&a)) {
    if (p.type == T::Ints) return Value(IntList(i, 1));
    return p.type == T::Float ? Value(double(*i)) : Value(*i);
  }
  if (auto* d = std::get_if<double>(&a)) return p.type == T::Floats ? Value::floats(d, 1) : Value(*d);
  return {};
}

// What PyTorch rejects when a module is made, not when it runs.
void check_settings(const FnModule& m) {
  const FnKind& k = *m.kind();
  auto number = [&](const char* name) {
    const Attr& a = m.attr(name);
    auto* i = std::get_if<int64_t>(&a);
    auto* b = std::get_if<bool>(&a);
    return i ? double(*i) : b ? double(*b) : std::get<double>(a);
  };
  if (k.file == "dropout")
    TG_CHECK(number("p") >= 0 && number("p") <= 1, ValueError, k.name, ": p must be between 0 and 1, got ",
             number_text(number("p")));
  if (k.name == "Hardtanh")
    TG_CHECK(number("max_val") > number("min_val"), ValueError, "Hardtanh: max_val must be greater than min_val, ",
             number_text(number("max_val")), " vs ", number_text(number("min_val")));
  if (k.name == "TripletMarginLoss")
    TG_CHECK(number("margin") > 0, ValueError, "TripletMarginLoss: margin must be greater than 0, got ",
             number_text(number("margin")));
  if (k.name == "MultiMarginLoss")
    TG_CHECK(number("p") == 1 || number("p") == 2, ValueError, "MultiMarginLoss: p must be 1 or 2, got ",
             number_text(number("p")));
}

constexpr int kMaxParams = 16;

// A setting with None among its sizes, as sizes: they are those of the last dimensions of the input.
const Attr* with_input_sizes(const Attr& a, const Tensor& x, Attr& room) {
  auto* v = std::get_if<std::vector<int64_t>>(&a);
  if (!v || std::find(v->begin(), v->end(), kInputSize) == v->end()) return &a;
  std::vector<int64_t> sizes = *v;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i] == kInputSize) sizes[i] = x.size(int64_t(i) - int64_t(sizes.size()));
  room = std::move(sizes);
  return &room;
}

FnKind::Source source_of(const FnKind& k, const Param& p, int& inputs) {
  using S = FnKind::Source;
  std::string from = p.name;
  for (auto& [param, value] : k.overrides)
    if (param == p.name) from = value;
  if (from != p.name && is_literal(from)) return {S::Literal, 0, parse_literal(from)};
  if (int i = k.field(from); i >= 0) return {k.fields[size_t(i)].type == "Tensor" ? S::Buffer : S::Setting, i, {}};
  if (p.name == "training") return {S::Training, 0, {}};
  bool tensor = p.type == Param::Type::Tensor || p.type == Param::Type::Operand;
  if (tensor && !p.has_default) return {S::Input, inputs++, {}};
  return {S::Default, 0, {}};
}

FnKind::Call make_call(const FnKind& k, bool with_indices) {
  std::string name = with_indices ? k.op + "_with_indices" : k.op;
  FnKind::Call c;
  for (const OpDef* op : all_ops())
    if (op->name == name || (op->base == name && !c.op)) c.op = op;
  TG_CHECK(c.op, NotImplementedError, k.name, ": the op ", name, " does not exist");
  TG_CHECK(c.op->params.size() <= kMaxParams, ValueError, k.name, ": too many parameters of ", name);
  for (const Param& p : c.op->params) c.sources.push_back(source_of(k, p, c.inputs));
  return c;
}

}  // namespace

int FnKind::field(std::string_view n) const {
  for (size_t i = 0; i < fields.size(); ++i)
    if (fields[i].name == n) return int(i);
  return -1;
}

const FnKind::Call& FnKind::call(bool with_indices) const {
  static std::mutex mutex;
  static std::unordered_map<std::string, Call> calls;  // nodes never move
  std::lock_guard lock(mutex);
  std::string key = with_indices ? name + "+" : name;
  auto it = calls.find(key);
  return (it != calls.end() ? it : calls.emplace(key, make_call(*this, with_indices)).first)->second;
}

const std::vector<const FnKind*>& fn_kinds() {
  static const std::vector<const FnKind*> list = [] {
    std::vector<const FnKind*> v;
    for (const FnKind& k : kinds()) v.push_back(&k);
    return v;
  }();
  return list;
}

const FnKind& fn_kind(std::string_view name) {
  for (const FnKind& k : kinds())
    if (k.name == name) return k;
  fail<NotImplementedError>("nn: no module named ", name);
}

void FnModule::set_kind(const FnKind& k) {
  kind_ = &k;
  attrs_.clear();
  calls_[0] = calls_[1] = nullptr;
  for (const auto& f : k.fields) {
    Attr v = f.from.empty() ? f.value : Attr();
    coerce(f, v);
    attrs_.push_back(std::move(v));
    if (f.type == "Tensor") register_buffer(f.name, {});
  }
}

void FnModule::set_field(size_t i, const Arg& a) {
  const auto& f = kind_->fields[i];
  if (f.type == "Tensor") {
    TG_CHECK(std::holds_alternative<std::monostate>(a.value), TypeError, kind_->name, ": ", f.name,
             " must be a tensor, not ", text_of(a.value));
    register_buffer(f.name, a.tensor);
    return;
  }
  Attr v = a.value;
  TG_CHECK(!a.tensor.defined() && coerce(f, v), TypeError, kind_->name, ": ", f.name, " must be ", f.type,
           f.optional ? " or None" : "", ", not ", a.tensor.defined() ? describe(a.tensor) : text_of(a.value));
  attrs_[i] = std::move(v);
}

FnModule::FnModule(std::string_view kind, const std::vector<Arg>& args) {
  set_kind(fn_kind(kind));
  std::vector<bool> set(attrs_.size(), false);
  size_t position = 0;
  for (const Arg& a : args) {
    size_t i = position;
    if (!a.name.empty()) {
      int found = kind_->field(a.name);
      TG_CHECK(found >= 0, TypeError, kind, ": unexpected argument '", a.name, "'; the parameters are (",
               kind_->signature, ")");
      i = size_t(found);
    } else {
      ++position;
      if (!a.given) continue;
      TG_CHECK(i < attrs_.size(), TypeError, kind, ": takes at most ", attrs_.size(), " arguments (", kind_->signature,
               ")");
    }
    TG_CHECK(!set[i], TypeError, kind, ": argument '", kind_->fields[i].name, "' given twice");
    set_field(i, a);
    set[i] = true;
  }
  for (size_t i = 0; i < attrs_.size(); ++i) {
    const auto& f = kind_->fields[i];
    TG_CHECK(set[i] || f.has_default, TypeError, kind, ": missing argument '", f.name, "'; the parameters are (",
             kind_->signature, ")");
    if (!f.from.empty() && std::holds_alternative<std::monostate>(attrs_[i]))
      attrs_[i] = attrs_[size_t(kind_->field(f.from))];
  }
  check_settings(*this);
}

const Attr& FnModule::attr(std::string_view name) const {
  int i = kind_ ? kind_->field(name) : -1;
  TG_CHECK(i >= 0, ValueError, type_name(), ": no setting named '", name, "'");
  return attrs_[size_t(i)];
}

void FnModule::set_attr(std::string_view name, Attr value) {
  int i = kind_ ? kind_->field(name) : -1;
  TG_CHECK(i >= 0, ValueError, type_name(), ": no setting named '", name, "'");
  set_field(size_t(i), Arg(std::move(value)));
}

bool FnModule::flag(const char* name) const {
  int i = kind_->field(name);
  const bool* b = i >= 0 ? std::get_if<bool>(&attrs_[size_t(i)]) : nullptr;
  return b && *b;
}

std::vector<std::string> FnModule::input_names() const {
  std::vector<std::string> names;
  const FnKind::Call& c = kind_->call(flag("return_indices"));
  for (size_t i = 0; i < c.sources.size(); ++i)
    if (c.sources[i].kind == FnKind::Source::Input) names.push_back(c.op->params[i].name);
  return names;
}

void FnModule::forward_list(TensorList xs, Outputs& out) {
  TG_CHECK(kind_, ValueError, "forward: this module was never set up");
  bool with_indices = flag("return_indices");
  const FnKind::Call*& known = calls_[with_indices];
  if (!known) known = &kind_->call(with_indices);
  const FnKind::Call& c = *known;
  TG_CHECK(xs.size() == c.inputs, TypeError, "forward: ", kind_->name, " takes ", c.inputs, " tensor(s), got ",
           xs.size());
  Value v[kMaxParams];
  Attr room;
  bool in_place_param = false;
  for (size_t i = 0; i < c.sources.size(); ++i) {
    const FnKind::Source& s = c.sources[i];
    const Param& p = c.op->params[i];
    in_place_param |= p.name == "inplace";
    switch (s.kind) {
      case FnKind::Source::Input:
        TG_CHECK(xs[s.index].defined(), TypeError, "forward: ", kind_->name, " got an undefined tensor");
        v[i] = Value(xs[s.index]);
        break;
      case FnKind::Source::Buffer:
        v[i] = Value(*find_slot(p.name)->at);
        break;
      case FnKind::Source::Training:
        v[i] = Value(training);
        break;
      case FnKind::Source::Literal:
        v[i] = to_value(s.literal, p);
        break;
      case FnKind::Source::Default:
        v[i] = p.default_value;
        break;
      case FnKind::Source::Setting:
        v[i] = to_value(*with_input_sizes(attrs_[size_t(s.index)], xs[0], room), p);
        // Softmax(dim=None): PyTorch's implicit choice
        if (v[i].is_none() && p.name == "dim" && !p.optional)
          v[i] = Value(int64_t(xs[0].ndim() == 2 || xs[0].ndim() > 3));
        break;
    }
  }
  const OpDef* op = c.op;
  if (!in_place_param && flag("inplace")) op = &find_op(op->base + "_");
  tg::call(*op, {v, int(c.sources.size())}, out);
  if (op != c.op && out.size() == 0) out.push_back(xs[0]);
}

Tensor FnModule::forward(const Tensor& x) {
  Outputs out;
  forward_list(TensorList(&x, 1), out);
  return std::move(out[0]);
}

std::string FnModule::extra_repr() const {
  std::string out;
  if (!kind_) return out;
  for (size_t start = 0; start < kind_->repr.size();) {
    size_t end = std::min(kind_->repr.find(' ', start), kind_->repr.size());
    std::string name = kind_->repr.substr(start, end - start);
    start = end + 1;
    char mark = name[0];
    if (mark == '?' || mark == '!') name.erase(0, 1);
    const Attr& a = attr(name);
    const bool* b = std::get_if<bool>(&a);
    if (mark == '?' && (std::holds_alternative<std::monostate>(a) || (b && !*b))) continue;
    out += (out.empty() ? "" : ", ") + (mark == '!' ? "" : name + "=") + text_of(a);
  }
  return out;
}

}  // namespace tg::nn
