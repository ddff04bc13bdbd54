// Conformance of map: every opcode, dtype and layout, fused programs and random numbers, ref against cpu bit by bit.
#include <doctest/doctest.h>

#include "backends/random_bits.h"
#include "backends/scalar_math.h"
#include "core/pool.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

namespace {

struct Row {
  const char* name;
  Opc op;
  int arity;
  sm::Rule rule;
};
const Row kRows[] = {
#define TG_P1(name, rule, ...) {#name, Opc::name, 1, sm::Rule::rule},
#define TG_P2(name, params, rule, ...) {#name, Opc::name, 2, sm::Rule::rule},
#define TG_P3(name, params, rule, ...) {#name, Opc::name, 3, sm::Rule::rule},
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
    {"Identity", Opc::Identity, 1, sm::Rule::Same},
};

bool exists(const Row& r, DType compute) {
  return compute == DType::I64 ? sm::rule_has_int(r.rule) : sm::rule_has_float(r.rule);
}

Program program_of(const Row& r, DType compute) {
  Program p;
  p.compute = compute;
  p.n_inputs = r.arity;
  p.code.push_back({r.op, {0, 1, 2}});
  p.outs.push_back(p.code_reg(0));
  return p;
}

// polygamma's first operand is its order: a whole number, as the op layer makes sure.
bool needs_whole(const Row& r, int k) { return r.op == Opc::polygamma && k == 0; }

// What PyTorch gives as well: the library's functions are 0 * inf = NaN at an infinity where the CPU's float functions
// have a factor that is small but never 0.
void same_at_infinity(const Row& r, Pair& out) {
  if (!on_device() || !(r.op == Opc::mish || r.op == Opc::gelu_erf || r.op == Opc::gelu_tanh ||
                        r.op == Opc::gelu_erf_backward || r.op == Opc::gelu_tanh_backward))
    return;
  View a = out.ref, b = out.cpu;
  a.data = out.ref_bytes.data();
  b.data = out.cpu_bytes.data();
  for (int64_t i = 0; i < out.elements(); ++i)
    if (std::isinf(get(a, i)) && std::isnan(get(b, i))) put(a, i, get(b, i));
}

std::vector<Pair> operands(const Row& r, const Dims& shape, DType t, Layout l, Rng& rng, Values kind) {
  std::vector<Pair> v;
  for (int k = 0; k < r.arity; ++k) {
    const bool beta = r.op == Opc::softplus && k == 1 && on_device();  // an infinite one divides infinities
    v.push_back(make_pair_of(shape, t, l, rng, beta ? Values::Positive : kind));
    if (!needs_whole(r, k)) continue;
    for (auto* b : {&v[size_t(k)].ref, &v[size_t(k)].cpu}) {
      View all = *b;
      all.data = b == &v[size_t(k)].ref ? v[size_t(k)].ref_bytes.data() : v[size_t(k)].cpu_bytes.data();
      for (int64_t i = 0; i < v[size_t(k)].elements(); ++i) put(all, i, double(i % 4));
    }
  }
  return v;
}

void run_both(const Program& p, const std::vector<Pair>& ins, const std::vector<Pair*>& outs) {
  Views ri, ci, ro, co;
  for (auto& x : ins) ri.push_back(x.ref), ci.push_back(x.cpu);
  for (auto* x : outs) ro.push_back(x->ref), co.push_back(x->cpu);
  ref_backend().map(p, ri, ro);
  tested_backend().map(p, ci, co);
}

// How far a row may be from ref. The CPU gives ref's bits. A device has its vendor's functions, whose manual promises a
// few ULP for each, and near a zero of a sum of them an absolute error of as many ULP of its terms, which are below 4.
struct Slack {
  double ulp = 0, abs = 0;
};
Slack slack_of(const Row& r, DType t) {
  if (!on_device() || !is_float(t) || (r.rule != sm::Rule::Float && r.op != Opc::pow)) return {};
  if (is_half(t)) return {1, 0};
  return t == DType::F64 ? Slack{16, 1e-14} : Slack{16, 4e-6};
}
// Rows that every backend computes to the bit.
bool exact(const Row& r) { return r.rule != sm::Rule::Float && r.op != Opc::pow; }

#define CHECK_BITS(count, pair, ...)                                          \
  do {                                                                        \
    ++(count).n;                                                              \
    std::string diff_ = difference(pair, slack.ulp, slack.abs, !on_device()); \
    if (!diff_.empty()) FAIL_CHECK(str(__VA_ARGS__, ": ", diff_));            \
  } while (0)

}  // namespace

TEST_CASE("map: every row, every dtype, sizes around the edges") {
  Count count("map rows x dtypes x sizes");
  Rng rng(1);
  for (const Row& r : kRows)
    for (DType t : kAllDTypes) {
      if (!exists(r, compute_type(t))) continue;
      for (int64_t n : kEdges) {
        auto ins = operands(r, {n}, t, Layout::Contiguous, rng, Values::Special);
        Pair out = make_pair_of({n}, r.rule == sm::Rule::Compare ? DType::Bool : t, Layout::Contiguous, rng);
        run_both(program_of(r, compute_type(t)), ins, {&out});
        const Slack slack = slack_of(r, t);
        same_at_infinity(r, out);
        CHECK_BITS(count, out, r.name, " ", t, " n=", n);
      }
    }
}

TEST_CASE("map: every row, every layout, in place and with numbers") {
  Count count("map rows x layouts");
  Rng rng(2);
  const Dims shapes[] = {{}, {5, 17}, {33, 3}, {2, 1, 9}, {3, 4, 5}, {7, 0}, {1, 65}};
  for (const Row& r : kRows)
    for (DType t : {DType::F32, DType::F64, DType::I64, DType::BF16, DType::U8}) {
      DType c = compute_type(t), out_t = r.rule == sm::Rule::Compare ? DType::Bool : t;
      if (!exists(r, c)) continue;
      const Slack slack = slack_of(r, t);
      for (const Dims& shape : shapes)
        for (Layout l : kInLayouts) {
          auto ins = operands(r, shape, t, l, rng, Values::Special);
          if (r.arity > 1) ins[1] = std::move(operands(r, shape, t, kInLayouts[rng() % 6], rng, Values::Special)[1]);
          Pair out = make_pair_of(shape, out_t, kOutLayouts[rng() % 5], rng);
          run_both(program_of(r, c), ins, {&out});
          same_at_infinity(r, out);
          CHECK_BITS(count, out, r.name, " ", t, " layout ", int(l));
          if (l == Layout::Expanded) continue;
          Views ri, ci, ro, co;
          for (auto& x : ins) ri.push_back(x.ref), ci.push_back(x.cpu);
          ro.push_back(ri[0]), co.push_back(ci[0]);
          ref_backend().map(program_of(r, c), ri, ro);
          tested_backend().map(program_of(r, c), ci, co);
          same_at_infinity(r, ins[0]);
          CHECK_BITS(count, ins[0], r.name, " in place ", t, " layout ", int(l));
        }
      if (r.arity < 2) continue;
      Program p = program_of(r, c);
      p.n_inputs = 1;
      for (int k = 1; k < r.arity; ++k) p.consts.push_back(is_float(t) ? Scalar(0.3 + k) : Scalar(k + 1));
      p.code[0].src[1] = p.const_reg(0);
      p.code[0].src[2] = r.arity > 2 ? p.const_reg(1) : uint8_t(0);
      p.outs[0] = p.code_reg(0);
      for (int64_t n : {1, 7, 33, 1025}) {
        std::vector<Pair> in;
        in.push_back(std::move(operands(r, {n}, t, Layout::Contiguous, rng, Values::Special)[0]));
        Pair out = make_pair_of({n}, out_t, Layout::Contiguous, rng);
        run_both(p, in, {&out});
        CHECK_BITS(count, out, r.name, " with numbers ", t);
      }
    }
}

TEST_CASE("map: copies convert between every two dtypes") {
  Count count("map copies");
  const Slack slack;
  Rng rng(3);
  for (DType from : kAllDTypes)
    for (DType to : kAllDTypes) {
      DType c = is_float(from) ? compute_type(from) : is_float(to) ? compute_type(to) : DType::I64;
      for (int64_t n : kEdges) {
        std::vector<Pair> in;
        in.push_back(make_pair_of({n}, from, kInLayouts[rng() % 6], rng, Values::Special));
        Pair out = make_pair_of({n}, to, kOutLayouts[rng() % 5], rng);
        run_both(program_of(kRows[std::size(kRows) - 1], c), in, {&out});
        CHECK_BITS(count, out, "copy ", from, " to ", to);
      }
    }
}

TEST_CASE("map: random programs") {
  Count count("map programs");
  const Slack slack;
  Rng rng(4);
  for (int trial = 0; trial < 1500; ++trial) {
    Program p;
    p.compute = DType(std::array{DType::F32, DType::F64, DType::I64}[rng() % 3]);
    p.n_inputs = int(draw(rng, 0, 3));
    p.seed = rng();
    p.offset = rng() % 1000;
    for (int k = int(draw(rng, 0, 2)); k > 0; --k) p.consts.push_back(draw_value(rng, DType::F32, Values::Plain));
    int steps = int(draw(rng, 1, 9));
    for (int s = 0; s < steps; ++s) {
      int regs = p.n_inputs + p.consts.size() + s;
      Instr in{Opc::Index};
      const Row& r = kRows[rng() % std::size(kRows)];
      if (regs > 0 && exists(r, p.compute) && r.op != Opc::polygamma && (exact(r) || !on_device())) {
        in.op = r.op;
        for (auto& x : in.src) x = uint8_t(rng() % uint64_t(regs));
      } else if (rng() % 2) {
        in.op = Opc(int(Opc::Index) + int(rng() % 4));
      }
      p.code.push_back(in);
    }
    const Dims shapes[] = {{}, {1025}, {3, 17}, {2, 3, 65}, {5000}, {9, 0}, {127, 9}};
    Dims shape = shapes[rng() % std::size(shapes)];
    std::vector<Pair> ins;
    for (int k = 0; k < p.n_inputs; ++k)
      ins.push_back(make_pair_of(shape, kAllDTypes[rng() % 10], kInLayouts[rng() % 6], rng));
    std::vector<Pair> outs;
    for (int k = int(draw(rng, 1, 3)); k > 0; --k) {
      p.outs.push_back(p.code_reg(int(rng() % uint64_t(steps))));
      outs.push_back(make_pair_of(shape, kAllDTypes[rng() % 10], kOutLayouts[rng() % 5], rng));
    }
    std::vector<Pair*> to;
    for (auto& o : outs) to.push_back(&o);
    run_both(p, ins, to);
    for (auto& o : outs) CHECK_BITS(count, o, "program ", trial);
  }
}

TEST_CASE("map: random numbers are a function of seed, offset and index") {
  Count count("map random");
  const Slack slack;
  Rng rng(5);
  for (Opc op : {Opc::RandUniform, Opc::RandNormal, Opc::RandBits})
    for (DType c : {DType::F32, DType::F64, DType::I64})
      for (int64_t n : kEdges) {
        Program p;
        p.compute = c;
        p.seed = 12345;
        p.offset = uint64_t(n);
        p.code.push_back({op});
        p.outs.push_back(0);
        Pair out = make_pair_of({n}, c, Layout::Contiguous, rng);
        run_both(p, {}, {&out});
        CHECK_BITS(count, out, "random ", int(op), " ", c, " n=", n);
      }
  double sum = 0, squares = 0, uniform = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    double x = rnd::element<float>(rnd::Draw::Normal, 7, 0, i), u = rnd::element<double>(rnd::Draw::Uniform, 7, 1, i);
    CHECK_UNARY(u >= 0 && u < 1 && rnd::element<int64_t>(rnd::Draw::Bits, 7, 2, i) >= 0);
    sum += x, squares += x * x, uniform += u;
  }
  CHECK(std::fabs(sum / n) < 0.02);
  CHECK(std::fabs(squares / n - 1) < 0.03);
  CHECK(std::fabs(uniform / n - 0.5) < 0.01);
}

TEST_CASE("philox: known answers" * doctest::skip(on_device())) {
  using W = std::array<uint32_t, 4>;
  CHECK(philox(0, 0, 0) == W{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~0ull, ~0ull, ~0ull) == W{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        W{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("map: a row that does not exist for a type is an error") {
  float x[4] = {};
  View v;
  v.data = x;
  v.shape = {4};
  v.stride = {1};
  Views vs;
  vs.push_back(v);
  for (Opc op : {Opc::exp, Opc::lgamma}) {
    Program p = program_of({"", op, 1, sm::Rule::Float}, DType::I64);
    CHECK_THROWS_AS(ref_backend().map(p, vs, vs), DTypeError);
    CHECK_THROWS_AS(tested_backend().map(p, vs, vs), DTypeError);
  }
}
