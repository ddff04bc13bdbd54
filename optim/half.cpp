#include "optim/half.h"

#include "core/modes.h"
#include "ops/ops.h"

namespace tg::optim {
namespace {

bool is_set(const Options& o, const char* name) { return o.find(name) && o.flag(name); }

// The float32 copy in the state. A parameter that was written from outside (a loaded model) wins over its copy.
Tensor master_of(const Tensor& param, State& state) {
  Tensor& master = state["master_weight"];
  Tensor wide = cast(param, DType::F32);
  if (!master.defined())
    master = wide;
  else
    copy_(master, where(eq(cast(master, param.dtype()), param), master, wide));
  return master;
}

}  // namespace

bool steps_in_float32(const Options& o, const Tensor& param) {
  return is_half(param.dtype()) && (is_set(o, "master_weights") || is_set(o, "stochastic_rounding"));
}

Tensor round_stochastically(const Tensor& x, DType half) {
  // Bits of the mantissa that the type lacks: a random number is added to them and the carry decides. Subnormals of
  // float16 lie on a fixed grid instead.
  const int64_t lost = half == DType::BF16 ? 1 << 16 : 1 << 13;
  Tensor noise = randint(lost, x.sizes(), DType::I32, x.device());
  Tensor bits = bitwise_and(add(view(contiguous(x), DType::I32), noise), -lost);
  Tensor rounded = view(bits, DType::F32);
  if (half == DType::F16) {
    const double grid = 0x1p-24, smallest_normal = 0x1p-14;
    Tensor share = mul(noise, 1.0 / double(lost));
    Tensor coarse = mul(floor(add(div(abs(x), grid), share)), grid);
    rounded = where(lt(abs(x), smallest_normal), copysign(coarse, x), rounded);
  }
  return cast(where(isfinite(x), rounded, x), half);
}

void update_group(const Rule& rule, const Options& o, std::vector<Slot>& slots) {
  const bool masters = is_set(o, "master_weights");
  const double scale = o.find("grad_scale") ? o.number("grad_scale") : 1;
  std::vector<Slot> own = slots;
  for (Slot& s : own) {
    if (!steps_in_float32(o, s.param)) continue;
    s.param = masters ? master_of(s.param, *s.state) : cast(s.param, DType::F32);
    s.grad = cast(s.grad, DType::F32);
    if (scale != 1) mul_(s.grad, 1 / scale);
  }
  rule.update(o, own);
  for (size_t i = 0; i < slots.size(); ++i) {
    const Tensor& param = slots[i].param;
    if (own[i].param.is_same(param)) continue;
    copy_(param, masters ? own[i].param : round_stochastically(own[i].param, param.dtype()));
  }
}

void init_state(const Rule& rule, const Options& o, const Tensor& param, State& state) {
  if (rule.init) rule.init(o, steps_in_float32(o, param) ? cast(param, DType::F32) : param, state);
}

}  // namespace tg::optim
