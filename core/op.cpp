#include "core/op.h"

#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

#include "core/device_use.h"
#include "core/memory_log.h"

namespace tg {
namespace {

struct Table {
  std::deque<OpDef> defs;  // stable addresses
  std::vector<const OpDef*> list;
  std::unordered_map<std::string_view, const OpDef*> by_name;
};
Table& table() {
  static Table* t = new Table;  // other statics register into it and may outlive it
  return *t;
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

// Pieces between commas that are outside of brackets.
std::vector<std::string_view> split_top(std::string_view s) {
  std::vector<std::string_view> out;
  int depth = 0;
  size_t start = 0;
  for (size_t i = 0; i <= s.size(); ++i) {
    if (i == s.size() || (s[i] == ',' && depth == 0)) {
      if (auto p = trim(s.substr(start, i - start)); !p.empty()) out.push_back(p);
      start = i + 1;
    } else if (s[i] == '[' || s[i] == '(') {
      ++depth;
    } else if (s[i] == ']' || s[i] == ')') {
      --depth;
    }
  }
  return out;
}

Param::Type parse_type(std::string_view t, std::string_view schema) {
  using T = Param::Type;
  static const std::pair<std::string_view, T> kinds[] = {
      {"Tensor", T::Tensor},       {"Tensor[]", T::Tensors}, {"Operand", T::Operand}, {"int", T::Int},
      {"int[]", T::Ints},          {"float", T::Float},      {"float[]", T::Floats},  {"bool", T::Bool},
      {"Scalar", T::Scalar},       {"str", T::Str},          {"dtype", T::DType},     {"device", T::Device},
      {"Generator", T::Generator}, {"Index", T::Index}};
  for (auto& [n, k] : kinds)
    if (n == t) return k;
  fail<ValueError>("op table: unknown type '", t, "' in ", schema);
}

// Fills default_value from default_text. Lists and strings are kept in the Param, which never moves afterwards.
void parse_default(Param& p) {
  const std::string& d = p.default_text;
  using T = Param::Type;
  if (d == "None") return;
  switch (p.type) {
    case T::Bool:
      p.default_value = Value(d == "True");
      break;
    case T::Int:
      p.default_value = Value(int64_t(std::stoll(d)));
      break;
    case T::Float:
      p.default_value = Value(std::stod(d));
      break;
    case T::Operand:
    case T::Scalar:
      if (d.find_first_of(".e") == d.npos)
        p.default_value = Value(int64_t(std::stoll(d)));
      else
        p.default_value = Value(std::stod(d));
      break;
    case T::Str:
      p.default_value = Value(std::string_view(d).substr(1, d.size() - 2));
      break;
    case T::Ints:
      if (d[0] != '[')
        p.default_ints = {std::stoll(d)};
      else
        for (auto s : split_top(std::string_view(d).substr(1, d.size() - 2)))
          p.default_ints.push_back(std::stoll(std::string(s)));
      p.default_value = Value(IntList(p.default_ints));
      break;
    case T::DType:
      for (int i = 0; i < kNumDTypes; ++i)
        if (d == name(DType(i))) p.default_value = Value(DType(i));
      break;
    default:
      fail<ValueError>("op table: a default '", d, "' is not possible for parameter ", p.name);
  }
}

void parse_params(OpDef& op, std::string_view text) {
  auto pieces = split_top(text);
  op.params.reserve(pieces.size());  // defaults point into the elements
  bool keyword_only = false;
  for (auto piece : pieces) {
    if (piece == "*") {
      keyword_only = true;
      continue;
    }
    Param& p = op.params.emplace_back();
    p.keyword_only = keyword_only;
    size_t eq = piece.find('=');
    std::string_view left = piece.substr(0, eq);
    size_t space = left.rfind(' ');
    p.name = left.substr(space + 1);
    std::string_view type = left.substr(0, space);
    if (type.ends_with('?')) {
      p.optional = true;
      type.remove_suffix(1);
    }
    p.type = parse_type(type, op.schema);
    if (eq != piece.npos) {
      p.has_default = true;
      p.default_text = piece.substr(eq + 1);
      parse_default(p);
    }
  }
}

void parse_schema(OpDef& op) {
  std::string_view s = op.schema;
  size_t open = s.find('('), arrow = s.rfind(" -> ");
  TG_CHECK(open != s.npos && arrow != s.npos, ValueError, "op table: cannot read schema ", s);
  op.name = s.substr(0, open);
  op.base = op.name.substr(0, op.name.find('.'));
  size_t close = s.rfind(')', arrow);
  parse_params(op, s.substr(open + 1, close - open - 1));
  std::string_view ret = trim(s.substr(arrow + 4));
  if (ret.front() == '(') {
    op.return_type = "Tensor";
    for (auto piece : split_top(ret.substr(1, ret.size() - 2))) {
      size_t space = piece.rfind(' ');
      op.returns.emplace_back(space == piece.npos ? "" : piece.substr(space + 1));
    }
  } else {
    op.return_type = ret;
    op.returns.emplace_back("");
  }
}

const OpDef& insert(OpDef def) {
  Table& t = table();
  t.defs.push_back(std::move(def));
  OpDef& op = t.defs.back();
  parse_schema(op);
  op.index = int(t.list.size());
  op.differentiable = op.spec.primitive && !(op.spec.flags & kNoGrad);
  op.shortcut = op.differentiable && op.spec.composite && op.spec.grads.empty() && !op.spec.joint.fn;
  TG_CHECK(t.by_name.emplace(op.name, &op).second, ValueError, "op table: ", op.name, " is defined twice");
  t.list.push_back(&op);
  return op;
}

// "add.x(Operand input, ...) -> ..." -> "add_.x(Tensor input, ...) -> Tensor"
std::string inplace_schema(const OpDef& op) {
  size_t open = op.schema.find('('), close = op.schema.rfind(')', op.schema.rfind(" -> "));
  std::string overload = op.name.substr(op.base.size());
  std::string params = op.schema.substr(open + 1, close - open - 1);
  size_t first_space = params.find(' ');
  return op.base + "_" + overload + "(Tensor" + params.substr(first_space) + ") -> Tensor";
}

}  // namespace

const std::vector<const OpDef*>& all_ops() { return table().list; }

const OpDef& find_op(std::string_view name) {
  auto it = table().by_name.find(name);
  TG_CHECK(it != table().by_name.end(), NotImplementedError, "no op named '", name, "'");
  return *it->second;
}

std::vector<const OpDef*> overloads(std::string_view base) {
  std::vector<const OpDef*> out;
  for (auto* op : all_ops())
    if (op->base == base) out.push_back(op);
  return out;
}

const OpDef& register_op(std::string_view schema, OpSpec spec, int opcode) {
  OpDef def;
  def.schema = schema;
  def.spec = std::move(spec);
  def.opcode = opcode;
  const OpDef& op = insert(std::move(def));
  if (op.spec.flags & kMakeInplace) {
    OpDef ip;
    ip.schema = inplace_schema(op);
    ip.spec = op.spec;
    ip.spec.flags = (op.spec.flags | kInplace) & ~uint32_t(kMakeInplace | kHidden | kView);
    ip.spec.aliases = "";
    ip.inplace_of = &op;
    ip.opcode = opcode;
    insert(std::move(ip));
  }
  return op;
}

Slots& slots() {
  static Slots s;
  return s;
}

bool any_requires_grad(Args args) {
  for (const Value& v : args) {
    if (v.is_tensor()) {
      if (v.tensor().requires_grad()) return true;
    } else if (v.kind() == Value::Kind::Tensors) {
      for (const Tensor& t : v.tensors())
        if (t.requires_grad()) return true;
    }
  }
  return false;
}

void execute(const OpDef& op, Args args, Outputs& out) {
  const AtWork scope(op.base.c_str());
  op.spec.primitive(args, out);
}

// "add_ at <the user's stack>", kept for ever: there are as many as places in the program.
static const char* edit_site(const OpDef& op) {
  static std::mutex m;
  static auto* sites = new std::set<std::string>;
  std::string text = op.name + " (at:\n" + slots().user_stack() + ")";
  std::lock_guard lock(m);
  return sites->insert(std::move(text)).first->c_str();
}

// squeeze_ and the like: the handle becomes the view that the op makes of it.
static void take_geometry(const Tensor& self, const Tensor& view) {
  TensorImpl *to = self.impl(), *from = view.impl();
  to->sizes = from->sizes;
  to->strides = from->strides;
  to->offset = from->offset;
  to->numel = from->numel;
  to->contiguous = from->contiguous;
}

void execute_inplace(const OpDef& op, Args args, Outputs& out) {
  const OpDef& base = *op.inplace_of;
  const Tensor& self = args[0].tensor();
  const AtWork scope(op.base.c_str());
  if (base.spec.inplace) {
    base.spec.inplace(args, out);
  } else {
    static const OpDef& copy = find_op("copy");
    Outputs r;
    (base.spec.primitive ? base.spec.primitive : base.spec.composite)(args, r);
    if (base.spec.flags & kView) {
      take_geometry(self, r[0]);
      return self.bump_version(op.name.c_str());
    }
    TG_CHECK(r[0].sizes() == self.sizes(), ShapeError, op.base, ": the result has size ", r[0].sizes(),
             ", which does not fit the tensor written in place; self=", describe(self));
    TG_CHECK(can_cast(r[0].dtype(), self.dtype()), DTypeError, op.base, ": result type ", r[0].dtype(),
             " can't be cast to ", self.dtype(), "; self=", describe(self));
    const Value v[] = {Value(self), Value(r[0])};
    copy.spec.inplace({v, 2}, out);
  }
  self.bump_version(modes().anomaly && slots().user_stack ? edit_site(op) : op.name.c_str());
}

static void call_inplace(const OpDef& op, Args args, Outputs& out) {
  const Modes& m = modes();
  TG_CHECK(args[0].is_tensor(), TypeError, op.base, ": expected a tensor to write into");
  const TensorImpl* self = args[0].tensor().impl();
  TG_CHECK(!(m.grad && self->untracked_view && self->base && self->base->requires_grad), AutogradError, op.base,
           ": this view was made under no_grad, writing through it would bypass the graph of its base; self=",
           describe(args[0].tensor()));
  if (m.grad && slots().record_inplace && any_requires_grad(args)) return slots().record_inplace(op, args, out);
  execute_inplace(op, args, out);
}

// The device of the tensors among the arguments, which must be one; the CPU if there are none.
static Device device_of(const OpDef& op, Args args) {
  std::optional<Device> d;
  auto see = [&](const Tensor& t) {
    if (!t.defined()) return;
    TG_CHECK(!d || *d == t.device(), DeviceError, op.base, ": expected all tensors on one device, got ", *d, " and ",
             t.device());
    d = t.device();
  };
  for (const Value& v : args) {
    if (v.is_tensor()) see(v.tensor());
    if (v.kind() == Value::Kind::Tensors)
      for (const Tensor& t : v.tensors()) see(t);
  }
  return d.value_or(Device());
}

// The tensor on another device; the copy is an op, so gradients pass.
static Tensor moved(const Tensor& t, Device to) {
  static const OpDef& move = find_op("device_copy");
  if (!t.defined() || t.device() == to) return t;
  const Value v[] = {Value(t), Value(to), Value(false)};
  Outputs r;
  call(move, {v, 3}, r);
  return r[0];
}

// An op of the CPU on tensors of another device.
static void call_on_host(const OpDef& op, Args args, Outputs& out, Device device) {
  std::vector<std::vector<Tensor>> held(size_t(args.n));
  std::vector<Value> values(args.begin(), args.end());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].is_tensor()) {
      held[i].push_back(moved(values[i].tensor(), Device()));
      values[i] = Value(held[i][0]);
    } else if (values[i].kind() == Value::Kind::Tensors) {
      for (const Tensor& t : values[i].tensors()) held[i].push_back(moved(t, Device()));
      values[i] = Value(TensorList(held[i]));
    }
  }
  call(op, {values.data(), args.n}, out);
  for (Tensor& t : out) t = moved(t, device);
}

// Checks that the tensors lie on one device. True if an op of the CPU was done there for another device's tensors.
[[gnu::noinline]] static bool run_on_host(const OpDef& op, Args args, Outputs& out) {
  if (op.spec.flags & kAnyDevices) return false;
  const Device d = device_of(op, args);
  if (!(op.spec.flags & kOnHost) || d.is_cpu()) return false;
  call_on_host(op, args, out, d);
  return true;
}

static void run(const OpDef& op, Args args, Outputs& out) {
  Modes& m = modes();
  if (TG_UNLIKELY(m.autocast.on | uint8_t(m.intercept) | uint8_t(m.memory_log))) {
    if (m.memory_log && !LoggedOp::current()) {
      LoggedOp scope(op.base.c_str());
      return run(op, args, out);
    }
    if (m.autocast.on && call_autocast(op, args, out)) return;
    if (m.intercept && slots().intercept && slots().intercept(op, args, out)) return;
  }
  if (TG_UNLIKELY(devices_used.load(std::memory_order_relaxed)) && run_on_host(op, args, out)) return;
  if (TG_UNLIKELY(op.inplace_of != nullptr)) return call_inplace(op, args, out);
  if (!op.spec.primitive || (op.spec.composite && !m.fast_paths)) return op.spec.composite(args, out);
  if (op.shortcut && m.grad && any_requires_grad(args)) return op.spec.composite(args, out);
  if (m.grad && op.differentiable && any_requires_grad(args)) return slots().record(op, args, out);
  execute(op, args, out);
  if (op.spec.flags & kView) {
    const Tensor& src = args[0].tensor();
    if (!m.grad && src.requires_grad())
      for (Tensor& t : out) t.impl()->untracked_view = true;
  }
}

// "; input=f32[2,3]@cpu, other=2": the operands of a failed call.
static std::string operands_text(const OpDef& op, Args args) {
  std::string s;
  for (int i = 0; i < args.n; ++i) {
    const Value& v = args[i];
    const std::string& name = op.params[size_t(i)].name;
    if (v.is_tensor()) s += ", " + name + "=" + describe(v.tensor());
    if (v.kind() == Value::Kind::Tensors)
      for (int64_t k = 0; k < std::min<int64_t>(v.tensors().size(), 8); ++k)
        s += ", " + name + "[" + std::to_string(k) + "]=" + describe(v.tensors()[k]);
  }
  return s.empty() ? s : ";" + s.substr(1);
}

static bool from_cuda(const Error& e) { return e.text.starts_with("cuda: "); }

static void explain(Error& e, const OpDef& op, Args args) {
  if (e.text.starts_with("out of memory") || from_cuda(e)) {
    e.text = op.base + ": " + e.text + operands_text(op, args);  // the op that asked
  } else if (e.text.find('@') == std::string::npos) {
    e.text += operands_text(op, args);
  }
}

// A tensor without dimensions on the CPU is a number to tensors of a device, and goes to them. False if there is none.
static bool run_with_numbers(const OpDef& op, Args args, Outputs& out) {
  const Tensor* there = nullptr;
  for (int i = 0; i < args.n && !there; ++i)
    if (args[i].is_tensor() && !args[i].tensor().device().is_cpu()) there = &args[i].tensor();
  if (!there) return false;
  std::vector<Value> values;
  std::vector<Tensor> copies;
  copies.reserve(size_t(args.n));  // values refer to its elements
  for (int i = 0; i < args.n; ++i) {
    values.push_back(args[i]);
    if (!args[i].is_tensor() || (i == 0 && op.inplace_of)) continue;  // what is written to does not move
    const Tensor& t = args[i].tensor();
    if (!t.device().is_cpu() || t.ndim() != 0) continue;
    copies.push_back(moved(t, there->device()));
    values.back() = Value(copies.back());
  }
  if (copies.empty()) return false;
  out = Outputs();
  call(op, {values.data(), int(values.size())}, out);
  return true;
}

void call(const OpDef& op, Args args, Outputs& out) {
  try {
    run(op, args, out);
  } catch (DeviceError& e) {  // so that calls that fit are not asked
    if (!from_cuda(e) && run_with_numbers(op, args, out)) return;
    explain(e, op, args);
    throw;
  } catch (Error& e) {
    explain(e, op, args);
    throw;
  }
}

}  // namespace tg
