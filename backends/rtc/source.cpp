#include "backends/rtc/source.h"

#include <algorithm>

#include "backends/scalar_math.h"

namespace tg::rtc {
namespace {

struct RowText {
  const char* name;
  int arity;
  sm::Rule rule;
  const char* expr;
};
// Indexed by Opc. `#expr` is the text of the op table itself.
constexpr RowText kRowTexts[] = {
#define TG_P1(name, rule, flags, autocast, expr, ...) {#name, 1, sm::Rule::rule, #expr},
#define TG_P2(name, params, rule, flags, autocast, expr, ...) {#name, 2, sm::Rule::rule, #expr},
#define TG_P3(name, params, rule, flags, autocast, expr, ...) {#name, 3, sm::Rule::rule, #expr},
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
};

// The C++ types inside a kernel, by dtype: those of core/dtype.h.
constexpr const char* kTypeText[] = {
#define TG_X(D, T) #T,
    TG_FOR_DTYPES(TG_X)
#undef TG_X
};
const char* type_text(DType t) { return kTypeText[int(t)]; }

bool is_row(Opc op) { return op < Opc::Identity; }
bool is_random(Opc op) { return op >= Opc::RandUniform && op <= Opc::RandBits; }
bool needs_index(const Program& p) {
  return std::any_of(p.code.begin(), p.code.end(),
                     [](const Instr& in) { return in.op == Opc::Index || is_random(in.op); });
}

void check_program(const Program& p, int n_ins, int n_outs) {
  TG_CHECK(p.compute == DType::F32 || p.compute == DType::F64 || p.compute == DType::I64, DTypeError,
           "map: a program computes in f32, f64 or i64, not ", p.compute);
  TG_CHECK(n_ins == p.n_inputs && n_outs == p.outs.size(), ValueError, "map: the program has ", p.n_inputs,
           " inputs and ", p.outs.size(), " outputs, given ", n_ins, " and ", n_outs);
  for (int i = 0; i < p.code.size(); ++i) {
    const Opc op = p.code[i].op;
    TG_CHECK(op < Opc::Count, ValueError, "map: unknown opcode ", int(op));
    if (!is_row(op)) continue;
    const RowText& row = kRowTexts[int(op)];
    TG_CHECK(p.compute == DType::I64 ? sm::rule_has_int(row.rule) : sm::rule_has_float(row.rule), DTypeError,
             "map: ", row.name, " is not defined for ", p.compute);
  }
}

struct Member {
  void* data;
  DType dtype;
};
SmallVec<Member, 4> members(const Views& ins, const Views& outs) {
  SmallVec<Member, 4> m;
  for (const View& v : ins) m.push_back({v.data, v.dtype});
  for (const View& v : outs) m.push_back({v.data, v.dtype});
  return m;
}

// Elements per step such that the narrowest view moves 16 bytes at once, but no thread holds more than 256.
int widest_vector(const SmallVec<Member, 4>& all) {
  int64_t smallest = 8, sum = 0;
  for (const Member& m : all) smallest = std::min(smallest, itemsize(m.dtype)), sum += itemsize(m.dtype);
  int64_t v = std::min<int64_t>(8, 16 / smallest);
  while (v > 1 && v * sum > 256) v /= 2;
  return int(v);
}

// Whether every view can be walked by packs of v neighbours; `single` gets the views that stand still.
bool fits(const plan::Nest& n, const SmallVec<Member, 4>& all, int v, uint32_t& single) {
  const int inner = n.ndim() - 1;
  single = 0;
  for (int k = 0; k < n.n_views; ++k) {
    const int64_t s = n.stride[k][inner], bytes = std::min<int64_t>(16, v * itemsize(all[k].dtype));
    if (s == 0) {
      single |= 1u << k;
      continue;
    }
    if (s != 1 || reinterpret_cast<uintptr_t>(all[k].data) % uintptr_t(bytes) != 0) return false;
    for (int d = 0; d < inner; ++d)
      if (n.stride[k][d] * itemsize(all[k].dtype) % bytes != 0) return false;
  }
  return inner == 0 || n.shape[inner] % v == 0;  // a single axis has a remainder loop
}

uint64_t word_of(const Scalar& s, DType compute) {
  return compute == DType::I64 ? uint64_t(s.i()) : std::bit_cast<uint64_t>(s.d());
}

}  // namespace

MapCall map_call(const Program& p, const Views& ins, const Views& outs) {
  check_program(p, ins.size(), outs.size());
  TG_CHECK(!outs.empty(), ValueError, "map: a program without outputs");
  plan::Nest n = plan::nest_of(ins, outs);
  if (needs_index(p))
    plan::merge_axes(n);  // the order of elements is what the program sees
  else
    n = plan::collapse(ins, outs, ins.size());
  if (n.ndim() == 0) {  // one element
    n.shape.push_back(1);
    for (int k = 0; k < n.n_views; ++k) n.stride[k].push_back(1);
  }
  const auto all = members(ins, outs);
  MapCall c;
  const int64_t count = n.numel();
  c.form.ndim = n.ndim();
  c.form.wide = count > INT32_MAX;
  if (const int v = widest_vector(all); v > 1 && fits(n, all, v, c.form.single))
    c.form.vector = v;
  else
    c.form.single = 0;
  const int64_t steps = (count + c.form.vector - 1) / c.form.vector;
  c.blocks = std::clamp<int64_t>((steps + kBlock - 1) / kBlock, 1, INT32_MAX);

  c.words = {uint64_t(count), p.seed, p.offset};
  for (const Scalar& s : p.consts) c.words.push_back(word_of(s, p.compute));
  for (const Member& m : all) c.words.push_back(reinterpret_cast<uintptr_t>(m.data));
  for (int64_t s : n.shape) c.words.push_back(uint64_t(s));
  for (int k = 0; k < n.n_views; ++k)
    for (int64_t s : n.stride[k]) c.words.push_back(uint64_t(s));
  return c;
}

std::string map_key(const Program& p, const Views& ins, const Views& outs, const MapForm& form) {
  std::string key;
  auto put = [&](int64_t v) { key += std::to_string(v) + ','; };
  put(int(p.compute)), put(p.consts.size()), put(form.ndim), put(form.vector), put(form.wide), put(form.single);
  for (const Instr& in : p.code) {
    put(int(in.op));
    for (uint8_t s : in.src) put(s);
  }
  key += ';';
  for (uint8_t r : p.outs) put(r);
  key += ';';
  for (const Member& m : members(ins, outs)) put(int(m.dtype));
  return key;
}

namespace {

// Writes one kernel; the layout of the words is that of map_call.
class MapWriter {
 public:
  MapWriter(const std::string& name, const Program& p, const Views& ins, const Views& outs, const MapForm& form)
      : name_(name), p_(p), form_(form), all_(members(ins, outs)), n_ins_(ins.size()), n_views_(all_.size()) {
    check_program(p, n_ins_, outs.size());
    first_address_ = 3 + p.consts.size();
    first_size_ = first_address_ + n_views_;
    first_stride_ = first_size_ + form.ndim;
  }

  std::string text() {
    line("namespace tg::", name_, " {");
    line("using T = ", type_text(p_.compute), ";");
    rows();
    element();
    kernel();
    line("}");
    return std::move(out_);
  }

 private:
  template <class... A>
  void line(const A&... a) {
    out_ += str(a...) + '\n';
  }
  const char* type(int view) const { return type_text(all_[view].dtype); }
  bool is_single(int view) const { return form_.single >> view & 1; }

  // Each row that the program uses, as a function of its own.
  void rows() {
    SmallVec<Opc, 8> seen;
    for (const Instr& in : p_.code) {
      if (!is_row(in.op) || std::find(seen.begin(), seen.end(), in.op) != seen.end()) continue;
      seen.push_back(in.op);
      const RowText& r = kRowTexts[int(in.op)];
      const char* params[] = {"T a", "T a, T b", "T a, T b, T c"};
      line("TG_SM T row_", r.name, "(", params[r.arity - 1], ") { return static_cast<T>(", r.expr, "); }");
    }
  }

  // The program for one element, number i in row-major order: values of the views' types in and out.
  void element() {
    std::string params = "[[maybe_unused]] const uint64_t* w, [[maybe_unused]] int64_t i";
    for (int k = 0; k < n_views_; ++k)
      params += k < n_ins_ ? str(", ", type(k), " x", k) : str(", ", type(k), "& y", k - n_ins_);
    line("TG_SM void element(", params, ") {");
    for (int k = 0; k < n_ins_; ++k) line("  [[maybe_unused]] const T r", k, " = tg::convert<T>(x", k, ");");
    for (int k = 0; k < p_.consts.size(); ++k)
      line("  [[maybe_unused]] const T r", int(p_.const_reg(k)), " = ",
           p_.compute == DType::I64 ? str("T(w[", 3 + k, "]);") : str("T(std::bit_cast<double>(w[", 3 + k, "]));"));
    for (int k = 0; k < p_.code.size(); ++k)
      line("  [[maybe_unused]] const T r", int(p_.code_reg(k)), " = ", value(p_.code[k]), ";");
    for (int k = 0; k < p_.outs.size(); ++k)
      line("  y", k, " = tg::convert<", type(n_ins_ + k), ">(r", int(p_.outs[k]), ");");
    line("}");
  }

  std::string value(const Instr& in) const {
    if (in.op == Opc::Index) return "T(i)";
    if (in.op == Opc::Identity) return str("r", int(in.src[0]));
    if (is_random(in.op)) return str("tg::rnd::element<T>(tg::rnd::Draw(", rand_kind(in.op), "), w[1], w[2], i)");
    const RowText& r = kRowTexts[int(in.op)];
    std::string s = str("row_", r.name, "(r", int(in.src[0]));
    for (int k = 1; k < r.arity; ++k) s += str(", r", int(in.src[k]));
    return s + ")";
  }

  void kernel() {
    const int words = first_stride_ + n_views_ * form_.ndim;
    line("extern \"C\" __global__ void __launch_bounds__(", kBlock, ") ", name_, "(const tg::rtc::Args<", words,
         "> args) {");
    line("  const uint64_t* w = args.w;");
    for (int k = 0; k < n_views_; ++k)
      line("  ", k < n_ins_ ? "const " : "", type(k), "* const p", k, " = reinterpret_cast<",
           k < n_ins_ ? "const " : "", type(k), "*>(w[", first_address_ + k, "]);");
    line("  using Index = ", form_.wide ? "int64_t" : "uint32_t", ";");
    line("  const Index n = Index(w[0]), first = Index(blockIdx.x) * ", kBlock, "u + threadIdx.x;");
    // In 64 bits: the sum may pass 2^32 for the last step.
    line("  const int64_t step = int64_t(gridDim.x) * ", kBlock, ";");
    loop(form_.vector);
    if (form_.vector > 1 && form_.ndim == 1) remainder();
    line("}");
  }

  // Every step takes V neighbours along the last axis.
  void loop(int v) {
    line("  for (int64_t q = first; q < int64_t(n / ", v, "); q += step) {");
    positions(v);
    for (int k = 0; k < n_views_; ++k) {
      const bool in = k < n_ins_;
      if (v == 1 || is_single(k))
        line("    ", type(k), in ? str(" x", k, " = p", k, "[o", k, "];") : str(" y", k, ";"));
      else
        line(
            "    tg::rtc::Pack<", type(k), ", ", v, "> ",
            in ? str("x", k, " = *reinterpret_cast<const tg::rtc::Pack<", type(k), ", ", v, ">*>(p", k, " + o", k, ");")
               : str("y", k, ";"));
    }
    if (v > 1) line("#pragma unroll");
    line("    for (int k = 0; k < ", v, "; ++k) element(w, q * ", v, " + k", arguments(v), ");");
    for (int k = n_ins_; k < n_views_; ++k)
      line("    ",
           v == 1 || is_single(k)
               ? str("p", k, "[o", k, "]")
               : str("*reinterpret_cast<tg::rtc::Pack<", type(k), ", ", v, ">*>(p", k, " + o", k, ")"),
           " = y", k, ";");
    line("  }");
  }

  // o_k: where view k is at step q.
  void positions(int v) {
    const int last = form_.ndim - 1;
    auto stride = [&](int k, int d) { return str("int64_t(w[", first_stride_ + k * form_.ndim + d, "])"); };
    if (last == 0) {
      for (int k = 0; k < n_views_; ++k) line("    const int64_t o", k, " = q * ", v, " * ", stride(k, 0), ";");
      return;
    }
    line("    Index rest = Index(q), at;");
    for (int k = 0; k < n_views_; ++k) line("    int64_t o", k, " = 0;");
    for (int d = last; d >= 0; --d) {
      const std::string size = str("Index(w[", first_size_ + d, "])", d == last && v > 1 ? str(" / ", v) : "");
      if (d > 0)
        line("    at = rest % (", size, "), rest /= ", size.find('/') == std::string::npos ? size : "(" + size + ")",
             ";");
      else
        line("    at = rest;");
      for (int k = 0; k < n_views_; ++k)
        line("    o", k, " += int64_t(at) * ", d == last && v > 1 ? str(v, " * ") : "", stride(k, d), ";");
    }
  }

  std::string arguments(int v) const {
    std::string s;
    for (int k = 0; k < n_views_; ++k)
      s += str(k < n_ins_ ? ", x" : ", y", k < n_ins_ ? k : k, v > 1 && !is_single(k) ? ".v[k]" : "");
    return s;
  }

  // The last n % V elements of a single axis.
  void remainder() {
    const int v = form_.vector;
    line("  if (const Index i = n / ", v, " * ", v, " + first; i < n) {");
    std::string args;
    for (int k = 0; k < n_views_; ++k) args += str(", p", k, is_single(k) ? "[0]" : "[i]");
    line("    element(w, i", args, ");");
    line("  }");
  }

  const std::string& name_;
  const Program& p_;
  const MapForm& form_;
  SmallVec<Member, 4> all_;
  int n_ins_, n_views_, first_address_, first_size_, first_stride_;
  std::string out_;
};

}  // namespace

std::string map_kernel(const std::string& name, const Program& p, const Views& ins, const Views& outs,
                       const MapForm& form) {
  return MapWriter(name, p, ins, outs, form).text();
}

}  // namespace tg::rtc
