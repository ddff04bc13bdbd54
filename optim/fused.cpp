#include "optim/fused.h"

#include <algorithm>
#include <string_view>

#include "backends/backend.h"
#include "backends/cpu/loops.h"
#include "backends/update_kernels.h"
#include "core/modes.h"
#include "core/pool.h"

namespace tg::optim {

// One table per instruction set (formulas.isa.cpp).
#define TG_X(isa)                    \
  namespace isa {                    \
  const UpdateLoop* loops(bool f64); \
  }
TG_X(base)
#ifndef TG_ISA_BASE_ONLY
TG_X(avx2)
TG_X(avx512)
#endif
#undef TG_X

namespace {

const UpdateLoop* loops_for(DType t) {
#ifndef TG_ISA_BASE_ONLY
  const std::string_view isa = cpu::loops().isa;
  if (isa == "avx512") return avx512::loops(t == DType::F64);
  if (isa == "avx2") return avx2::loops(t == DType::F64);
#endif
  return base::loops(t == DType::F64);
}

// A register of the program under construction.
struct Expr {
  Program* program = nullptr;
  uint8_t reg = 0;
};
Expr emit(Opc op, Expr a, Expr b = {}, Expr c = {}) {
  a.program->code.push_back({op, {a.reg, b.reg, c.reg}});
  return {a.program, a.program->code_reg(a.program->code.size() - 1)};
}
Expr operator+(Expr a, Expr b) { return emit(Opc::add, a, b); }
Expr operator-(Expr a, Expr b) { return emit(Opc::sub, a, b); }
Expr operator*(Expr a, Expr b) { return emit(Opc::mul, a, b); }
Expr operator/(Expr a, Expr b) { return emit(Opc::div, a, b); }
Expr sqrt(Expr a) { return emit(Opc::sqrt, a); }
Expr abs(Expr a) { return emit(Opc::abs, a); }
Expr sign(Expr a) { return emit(Opc::sign, a); }
Expr max_nan(Expr a, Expr b) { return emit(Opc::maximum, a, b); }
Expr min_nan(Expr a, Expr b) { return emit(Opc::minimum, a, b); }
Expr above(Expr a, Expr b) { return emit(Opc::gt, a, b); }
Expr pick(Expr condition, Expr a, Expr b) { return emit(Opc::where, condition, a, b); }

struct FormulaInfo {
  int arrays, coefs;
  void (*build)(Expr* x, const Expr* c);
};
constexpr FormulaInfo kFormulas[] = {
#define TG_X(name, arrays, coefs) {arrays, coefs, update_##name<Expr>},
    TG_FORMULAS(TG_X)
#undef TG_X
};

// Updates smaller than this share a chunk, larger ones are cut.
constexpr int64_t kGrain = 32768;

}  // namespace

void Batch::add(Formula f, std::initializer_list<Tensor> arrays, std::initializer_list<double> coefs) {
  const Tensor& param = *arrays.begin();
  TG_CHECK(is_float(param.dtype()), DTypeError, writer_, ": a parameter must be of a floating type, got ",
           describe(param));
  const bool cpu = param.device().is_cpu();
  bool plain = modes().fast_paths;
  if (cpu) plain = plain && !using_ref_backend() && (param.dtype() == DType::F32 || param.dtype() == DType::F64);
  for (const Tensor& t : arrays) {
    TG_CHECK(t.sizes() == param.sizes(), ShapeError, writer_,
             ": gradient or state of another shape than its parameter, ", describe(t), " vs ", describe(param));
    TG_CHECK(t.device() == param.device(), DeviceError, writer_,
             ": gradient or state on another device than its parameter, ", describe(t), " vs ", describe(param));
    TG_CHECK(is_float(t.dtype()), DTypeError, writer_, ": gradient or state must be of a floating type, got ",
             describe(t));
    plain = plain && t.dtype() == param.dtype() && t.is_contiguous();
  }
  plain = plain && (cpu || update_kernels(param.device()));
  std::vector<Item>& items = !plain ? other_ : cpu ? plain_ : on_device_;
  const int64_t begin = items.empty() ? 0 : items.back().begin + items.back().arrays[0].numel();
  Item& item = items.emplace_back(Item{f, begin, arrays, {}});
  std::copy(coefs.begin(), coefs.end(), item.coefs.begin());
}

bool Batch::add_counted(Formula f, std::initializer_list<Tensor> arrays, std::initializer_list<double> coefs,
                        const Tensor& step, std::array<double, 2> betas) {
  const size_t before = on_device_.size();
  add(f, arrays, coefs);
  if (on_device_.size() == before) {
    other_.pop_back();  // where what no kernel of a device takes goes
    return false;
  }
  on_device_.back().step = step;
  on_device_.back().betas = betas;
  return true;
}

void Batch::run() {
  const AtWork scope(writer_);
  run_plain();
  run_on_devices();
  for (const Item& item : other_) run_program(item);
  for (std::vector<Item>* items : {&plain_, &on_device_, &other_}) {
    for (const Item& item : *items)
      for (size_t k = 0; k < item.arrays.size(); ++k)
        if (k != 1) item.arrays[k].bump_version(writer_);
    items->clear();
  }
}

void Batch::run_plain() const {
  const int64_t total = plain_.empty() ? 0 : plain_.back().begin + plain_.back().arrays[0].numel();
  parallel_for(total, kGrain, [&](int64_t b, int64_t e) {
    auto after =
        std::upper_bound(plain_.begin(), plain_.end(), b, [](int64_t at, const Item& i) { return at < i.begin; });
    for (auto item = after - 1; item != plain_.end() && item->begin < e; ++item) {
      const Tensor& param = item->arrays[0];
      const int64_t from = std::max(b - item->begin, int64_t(0)), to = std::min(e - item->begin, param.numel());
      if (from >= to) continue;
      void* data[kMaxArrays];
      for (size_t k = 0; k < item->arrays.size(); ++k)
        data[k] = static_cast<char*>(item->arrays[k].data()) + from * itemsize(param.dtype());
      loops_for(param.dtype())[int(item->formula)](data, item->coefs.data(), to - from);
    }
  });
}

// Items that differ in their arrays alone share launches.
void Batch::run_on_devices() const {
  std::vector<std::pair<const Item*, std::vector<UpdateItem>>> groups;
  for (const Item& item : on_device_) {
    const Tensor& param = item.arrays[0];
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
      const Tensor& first = g.first->arrays[0];
      return g.first->formula == item.formula && g.first->coefs == item.coefs && g.first->betas == item.betas &&
             g.first->step.defined() == item.step.defined() && first.dtype() == param.dtype() &&
             first.device() == param.device();
    });
    if (group == groups.end()) group = groups.insert(groups.end(), {&item, {}});
    UpdateItem& to = group->second.emplace_back();
    to.n = param.numel();
    if (item.step.defined()) to.step = item.step.data();
    for (size_t k = 0; k < item.arrays.size(); ++k) to.data[k] = item.arrays[k].data();
  }
  for (const auto& [item, arrays] : groups) {
    const Tensor& param = item->arrays[0];
    UpdateKernels& kernels = *update_kernels(param.device());
    if (item->step.defined())
      kernels.update_counted(item->formula, param.dtype(), item->coefs.data(), item->betas, arrays);
    else
      kernels.update(item->formula, param.dtype(), item->coefs.data(), arrays);
  }
}

void Batch::run_program(const Item& item) const {
  const FormulaInfo& info = kFormulas[int(item.formula)];
  const Tensor& param = item.arrays[0];
  Program p;
  p.compute = compute_type(param.dtype());
  p.n_inputs = info.arrays;
  Expr x[kMaxArrays], c[kMaxCoefs];
  for (int k = 0; k < info.coefs; ++k) {
    p.consts.push_back(item.coefs[size_t(k)]);
    c[k] = {&p, p.const_reg(k)};
  }
  for (int k = 0; k < info.arrays; ++k) x[k] = {&p, uint8_t(k)};
  info.build(x, c);
  Views ins, outs;
  for (int k = 0; k < info.arrays; ++k) {
    ins.push_back(item.arrays[size_t(k)]);
    if (k == 1) continue;
    outs.push_back(item.arrays[size_t(k)]);
    p.outs.push_back(x[k].reg);
  }
  backend(param.device()).map(p, ins, outs);
}

}  // namespace tg::optim
