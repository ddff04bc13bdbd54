// Programs with their views, as the tests of run-time compilation use them: every row of the op table and random
// chains.
#pragma once
#include "backends/rtc/source.h"
#include "backends/scalar_math.h"
#include "tests/cpp/backend_util.h"

namespace tg::test {

struct MapCase {
  std::string name;
  Program program;
  std::vector<Pair> ins, outs;

  Views inputs(bool ref) const { return views(ins, ref); }
  Views outputs(bool ref) const { return views(outs, ref); }
  rtc::MapCall call() const { return rtc::map_call(program, inputs(true), outputs(true)); }
  std::string kernel_name() const { return "tg::" + name + "::" + name; }
  std::string text() const { return rtc::map_kernel(name, program, inputs(true), outputs(true), call().form); }

 private:
  static Views views(const std::vector<Pair>& pairs, bool ref) {
    Views v;
    for (const Pair& p : pairs) v.push_back(ref ? p.ref : p.cpu);
    return v;
  }
};

// `code` over inputs of the given dtypes and layouts; every output is the last register, or input 0 without code.
inline MapCase make_case(const std::string& name, const std::vector<Instr>& code, const std::vector<DType>& ins,
                         const std::vector<DType>& outs, const Dims& shape, const std::vector<Layout>& layouts,
                         Layout out_layout, Rng& rng, Values kind = Values::Special) {
  MapCase c;
  c.name = name;
  c.program.compute = ins.empty() ? DType::F32 : compute_type(ins.back());
  c.program.n_inputs = int(ins.size());
  for (const Instr& in : code) c.program.code.push_back(in);
  for (size_t k = 0; k < ins.size(); ++k)
    c.ins.push_back(make_pair_of(shape, ins[k], layouts[k % layouts.size()], rng, kind));
  for (DType t : outs) {
    c.program.outs.push_back(code.empty() ? uint8_t(0) : c.program.code_reg(int(code.size()) - 1));
    c.outs.push_back(make_pair_of(shape, t, out_layout, rng));
  }
  return c;
}

struct OpRow {
  const char* name;
  Opc op;
  int arity;
  sm::Rule rule;
};
inline const OpRow kOpRows[] = {
#define TG_P1(name, rule, ...) {#name, Opc::name, 1, sm::Rule::rule},
#define TG_P2(name, params, rule, ...) {#name, Opc::name, 2, sm::Rule::rule},
#define TG_P3(name, params, rule, ...) {#name, Opc::name, 3, sm::Rule::rule},
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
    {"Identity", Opc::Identity, 1, sm::Rule::Same},
};
inline bool row_has(const OpRow& r, DType compute) {
  return compute == DType::I64 ? sm::rule_has_int(r.rule) : sm::rule_has_float(r.rule);
}

// polygamma's order is a whole number, as the op layer makes sure.
inline void make_whole(Pair& p) {
  for (int64_t i = 0; i < p.elements(); ++i)
    for (auto* bytes : {&p.ref_bytes, &p.cpu_bytes}) {
      View all = p.ref;
      all.data = bytes->data();
      put(all, i, double(i % 4));
    }
}

// Every row in each compute type: contiguous (packs of 16 bytes), and in a strided or broadcast form that changes from
// row to row, in a dtype that does so too.
inline void add_row_cases(std::vector<MapCase>& all, Rng& rng) {
  const DType storage[3][4] = {{DType::F32, DType::BF16, DType::F16, DType::F32},
                               {DType::F64, DType::F64, DType::F64, DType::F64},
                               {DType::I64, DType::I32, DType::U8, DType::Bool}};
  const DType more_ints[] = {DType::I16, DType::I8};
  int turn = 0;
  for (const OpRow& r : kOpRows)
    for (int c = 0; c < 3; ++c) {
      const DType first = storage[c][0];
      if (!row_has(r, compute_type(first))) continue;
      for (bool strided : {false, true}) {
        ++turn;
        DType t = strided ? storage[c][turn % 4] : first;
        if (c == 2 && turn % 5 == 4) t = more_ints[turn % 2];
        const Dims shapes[] = {{5, 33}, {3, 4, 7}, {2, 16, 8}};
        const Layout layouts[] = {kInLayouts[turn % 6], kInLayouts[(turn / 6) % 6]};
        const Instr code{r.op, {0, 1, 2}};
        MapCase made =
            make_case(str(r.name, "_", turn), {code}, std::vector<DType>(size_t(r.arity), t),
                      {r.rule == sm::Rule::Compare ? DType::Bool : t}, strided ? shapes[turn % 3] : Dims{173},
                      strided ? std::vector<Layout>{layouts[0], layouts[1]} : std::vector<Layout>{Layout::Contiguous},
                      strided ? kOutLayouts[turn % 5] : Layout::Contiguous, rng);
        made.program.compute = compute_type(first);
        if (r.op == Opc::polygamma) make_whole(made.ins[0]);
        all.push_back(std::move(made));
      }
    }
}

// Chains of up to nine instructions over mixed dtypes, layouts, numbers, indices and random numbers.
inline void add_program_cases(std::vector<MapCase>& all, int count, Rng& rng) {
  for (int trial = 0; trial < count; ++trial) {
    MapCase c;
    Program& p = c.program;
    c.name = str("program_", trial);
    p.compute = DType(std::array{DType::F32, DType::F64, DType::I64}[rng() % 3]);
    p.n_inputs = int(draw(rng, 0, 3));
    p.seed = rng();
    p.offset = rng() % 1000;
    for (int k = int(draw(rng, 0, 2)); k > 0; --k) p.consts.push_back(draw_value(rng, DType::F32, Values::Plain));
    const int steps = int(draw(rng, 1, 9));
    for (int s = 0; s < steps; ++s) {
      const int regs = p.n_inputs + p.consts.size() + s;
      Instr in{Opc(int(Opc::Index) + int(rng() % 4))};
      const OpRow& r = kOpRows[rng() % std::size(kOpRows)];
      if (regs > 0 && rng() % 4 && row_has(r, p.compute) && r.op != Opc::polygamma) {
        in.op = r.op;
        for (auto& x : in.src) x = uint8_t(rng() % uint64_t(regs));
      }
      p.code.push_back(in);
    }
    const Dims shapes[] = {{}, {1025}, {3, 17}, {2, 3, 65}, {9, 0}, {4, 8, 16}, {127, 9}};
    const Dims shape = shapes[rng() % std::size(shapes)];
    const bool plain = rng() % 2;
    auto layout = [&](const Layout* from, int n) { return plain ? Layout::Contiguous : from[rng() % uint64_t(n)]; };
    for (int k = 0; k < p.n_inputs; ++k)
      c.ins.push_back(make_pair_of(shape, kAllDTypes[rng() % 10], layout(kInLayouts, 6), rng));
    for (int k = int(draw(rng, 1, 3)); k > 0; --k) {
      p.outs.push_back(p.code_reg(int(rng() % uint64_t(steps))));
      c.outs.push_back(make_pair_of(shape, kAllDTypes[rng() % 10], layout(kOutLayouts, 5), rng));
    }
    all.push_back(std::move(c));
  }
}

// Copies between every two dtypes.
inline void add_copy_cases(std::vector<MapCase>& all, Rng& rng) {
  for (DType from : kAllDTypes)
    for (DType to : kAllDTypes) {
      MapCase c = make_case(str("copy_", tg::name(from), "_", tg::name(to)), {}, {from}, {to}, {65},
                            {Layout::Contiguous}, Layout::Contiguous, rng);
      c.program.compute = is_float(from) ? compute_type(from) : is_float(to) ? compute_type(to) : DType::I64;
      all.push_back(std::move(c));
    }
}

inline std::vector<MapCase> all_cases(Rng rng) {
  std::vector<MapCase> all;
  add_row_cases(all, rng);
  add_copy_cases(all, rng);
  add_program_cases(all, 120, rng);
  return all;
}

// Groups of about `size`, each to become one source.
inline std::vector<std::vector<MapCase>> batches(std::vector<MapCase> all, size_t size) {
  std::vector<std::vector<MapCase>> groups;
  for (size_t i = 0; i < all.size(); ++i) {
    if (i % size == 0) groups.emplace_back();
    groups.back().push_back(std::move(all[i]));
  }
  return groups;
}

}  // namespace tg::test
