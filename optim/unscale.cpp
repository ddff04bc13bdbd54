#include "optim/unscale.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "backends/backend.h"
#include "core/modes.h"
#include "core/pool.h"
#include "ops/ops.h"
#include "optim/on_device.h"

namespace tg::optim {
namespace {

// x *= factor over n elements; whether all products are finite.
template <class T>
bool unscale_chunk(T* x, int64_t n, double factor) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const C f = C(factor);
  C sum = 0;  // 0 * x is 0 for every finite x, NaN otherwise: no branch, so it vectorises
  for (int64_t i = 0; i < n; ++i) {
    C v = convert<C>(x[i]);
    if (factor != 1) x[i] = convert<T>(v * f);
    sum += v * C(0);
  }
  return sum == 0;
}

struct Span {
  Tensor grad;
  int64_t index, begin;  // place in the caller's list; elements of the spans before
};

bool unscale_plain(const Tensor& g, int64_t from, int64_t n, double factor) {
  return visit(g.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (is_float(DTypeOf<T>::value))
      return unscale_chunk(static_cast<T*>(g.data()) + from, n, factor);
    else
      return true;
  });
}

constexpr int64_t kUnscaleGrain = 32768;

}  // namespace

int64_t unscale(TensorList grads, double factor) {
  NoGrad guard;
  std::vector<Span> spans;
  int64_t total = 0;
  std::atomic<int64_t> first{grads.size()};
  auto overflowed = [&](int64_t i) {
    for (int64_t old = first.load(); i < old && !first.compare_exchange_weak(old, i);) {
    }
  };
  for (int64_t i = 0; i < grads.size(); ++i) {
    const Tensor& g = grads[i];
    TG_CHECK(g.defined() && is_float(g.dtype()), DTypeError, "unscale: a gradient must be of a floating type, got ",
             describe(g));
  }
  std::vector<int64_t> others;
  for (const DeviceGroup& group : device_groups(grads, others)) {
    const AtWork scope("unscale");
    const int64_t bad = group.kernels->unscale(group.dtype, factor, group.items);
    if (bad >= 0) overflowed(group.numbers[size_t(bad)]);
    for (int64_t i : group.numbers)
      if (factor != 1) grads[i].bump_version("unscale");
  }
  for (int64_t i : others) {
    const Tensor& g = grads[i];
    if (g.device().is_cpu() && g.is_contiguous() && !using_ref_backend()) {
      spans.push_back({g, i, total});
      total += g.numel();
      continue;
    }
    if (!all(isfinite(g)).item<bool>()) overflowed(i);
    if (factor != 1) mul_(g, factor);
  }
  parallel_for(total, kUnscaleGrain, [&](int64_t b, int64_t e) {
    auto after =
        std::upper_bound(spans.begin(), spans.end(), b, [](int64_t at, const Span& s) { return at < s.begin; });
    for (auto s = after - 1; s != spans.end() && s->begin < e; ++s) {
      const int64_t from = std::max(b - s->begin, int64_t(0)), to = std::min(e - s->begin, s->grad.numel());
      if (from < to && !unscale_plain(s->grad, from, to - from, factor)) overflowed(s->index);
    }
  });
  if (factor != 1)
    for (const Span& s : spans) s.grad.bump_version("unscale");
  return first < grads.size() ? first.load() : -1;
}

void LossScale::update(bool overflow) {
  if (overflow) {
    scale = float(scale * backoff);
    tracker = 0;
  } else if (++tracker == interval) {
    const float grown = float(scale * growth);
    if (std::isfinite(grown)) scale = grown;  // PyTorch keeps the scale in float32
    tracker = 0;
  }
}

}  // namespace tg::optim
