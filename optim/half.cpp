#include "optim/half.h"

#include "core/modes.h"
#include "ops/ops.h"
#include "optim/on_device.h"

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

// The steps on masters that kernels of a device prepare and finish, all of them together.
class DeviceMasters {
 public:
  explicit DeviceMasters(double scale) : factor_(1 / scale) {}
  // Puts the copies into the slot; false if no kernel serves its tensors.
  bool take(Slot& s) {
    const Tensor param = s.param, grad = s.grad;
    Tensor& master = (*s.state)["master_weight"];
    const bool fits = modes().fast_paths && !param.device().is_cpu() && grad.device() == param.device() &&
                      grad.dtype() == param.dtype() && grad.sizes() == param.sizes() && param.is_contiguous() &&
                      grad.is_contiguous();
    if (!fits || !update_kernels(param.device())) return false;
    if (!master.defined()) master = cast(param, DType::F32);
    if (!master.is_contiguous() || master.sizes() != param.sizes() || master.dtype() != DType::F32 ||
        master.device() != param.device())
      return false;
    s.param = master;
    s.grad = empty(param.sizes(), DType::F32, param.device());
    params_.push_back(param);
    data_.push_back({{param.data(), grad.data(), master.data(), s.grad.data()}, param.numel()});
    return true;
  }
  void widen() const {
    for_groups([](const UpdateItem& i) { return i; },
               [&](const DeviceGroup& g) { g.kernels->widen(g.dtype, factor_, g.items); });
  }
  void narrow() const {
    for_groups([](const UpdateItem& i) { return UpdateItem{{i.data[0], i.data[2]}, i.n}; },
               [](const DeviceGroup& g) { g.kernels->narrow(g.dtype, g.items); });
    for (const Tensor& p : params_) p.bump_version("optimizer step");
  }

 private:
  template <class Of, class Run>
  void for_groups(Of of, Run run) const {
    const AtWork scope("optimizer step");
    std::vector<int64_t> none;
    for (DeviceGroup& g : device_groups(params_, none)) {
      for (size_t i = 0; i < g.items.size(); ++i) g.items[i] = of(data_[size_t(g.numbers[i])]);
      run(g);
    }
  }

  double factor_;
  std::vector<Tensor> params_;
  std::vector<UpdateItem> data_;
};

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
  std::vector<bool> taken(slots.size());
  DeviceMasters together(scale);
  for (size_t i = 0; i < own.size(); ++i) {
    Slot& s = own[i];
    if (!steps_in_float32(o, s.param)) continue;
    taken[i] = masters && together.take(s);
    if (taken[i]) continue;
    s.param = masters ? master_of(s.param, *s.state) : cast(s.param, DType::F32);
    s.grad = cast(s.grad, DType::F32);
    if (scale != 1) mul_(s.grad, 1 / scale);
  }
  together.widen();
  rule.update(o, own);
  together.narrow();
  for (size_t i = 0; i < slots.size(); ++i) {
    const Tensor& param = slots[i].param;
    if (taken[i] || own[i].param.is_same(param)) continue;
    copy_(param, masters ? own[i].param : round_stochastically(own[i].param, param.dtype()));
  }
}

void init_state(const Rule& rule, const Options& o, const Tensor& param, State& state) {
  if (rule.init) rule.init(o, steps_in_float32(o, param) ? cast(param, DType::F32) : param, state);
}

}  // namespace tg::optim
