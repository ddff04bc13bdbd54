// Numerical checks of gradients.
#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tg {
namespace {

Tensor on_host(const Tensor& t) { return contiguous(host_mirror(t)); }

// d(sum of outputs * weights)/d(one element) by the 4th-order central difference: error O(eps^4).
double difference(const CheckedFn& fn, const std::vector<Tensor>& x, Tensor element, const std::vector<Tensor>& w,
                  double eps) {
  double v = element.item<double>();
  auto f = [&](double d) {
    NoGrad guard;
    fill_(element, v + d);
    std::vector<Tensor> y = fn(x);
    double s = 0;
    for (size_t j = 0; j < y.size(); ++j)
      if (w[j].defined()) s += sum(y[j] * w[j]).item<double>();
    return s;
  };
  double r = (8 * (f(eps) - f(-eps)) - (f(2 * eps) - f(-2 * eps))) / (12 * eps);
  fill_(element, v);
  return r;
}

// A fixed, irregular weight for each output element, so that errors cannot cancel.
Tensor weights_for(const Tensor& y, int salt) {
  Tensor w = empty_tensor(y.sizes(), DType::F64);
  double* p = w.data<double>();
  for (int64_t i = 0; i < w.numel(); ++i) {
    auto r = philox(12345, uint64_t(salt), uint64_t(i));
    p[i] = 0.5 + r[0] * 0x1p-32;
  }
  return to(w, y.device());
}

}  // namespace

std::string gradcheck(const CheckedFn& fn, const std::vector<Tensor>& inputs, const CheckOptions& o) {
  std::vector<Tensor> x, checked;
  for (const Tensor& t : inputs) {
    bool use = t.defined() && t.requires_grad();
    TG_CHECK(!use || t.dtype() == DType::F64, DTypeError, "gradcheck: inputs must be float64, got ", describe(t));
    x.push_back(use ? contiguous(detach(t)).clone().set_requires_grad(true) : t);
    if (use) checked.push_back(x.back());
  }
  TG_CHECK(!checked.empty(), ValueError, "gradcheck: no input requires gradients");
  std::vector<Tensor> y = fn(x), w, roots, seeds;
  for (size_t j = 0; j < y.size(); ++j) {
    bool use = y[j].requires_grad();
    w.push_back(use ? weights_for(y[j], int(j)) : Tensor());
    if (!use) continue;
    roots.push_back(y[j]);
    seeds.push_back(w.back());
  }
  if (roots.empty()) return "no output requires gradients";
  std::vector<Tensor> g = grad(roots, checked, seeds, false, false, true);
  for (size_t k = 0, c = 0; k < x.size(); ++k) {
    if (!x[k].defined() || !x[k].requires_grad()) continue;
    Tensor got = g[c].defined() ? on_host(g[c]) : zeros(x[k].sizes(), DType::F64);
    ++c;
    if (!(got.sizes() == x[k].sizes()))
      return str("input ", k, ": gradient has size ", got.sizes(), ", expected ", x[k].sizes());
    Tensor raw = x[k].detach();
    std::vector<Tensor> plain = x;
    plain[k] = raw;
    Tensor flat = reshape(raw, {-1});  // a view: what is written to it, is in the input
    for (int64_t i = 0; i < raw.numel(); ++i) {
      double want = difference(fn, plain, narrow(flat, 0, i, 1), w, o.eps), have = got.data<double>()[i];
      if (!(std::fabs(have - want) <= o.atol + o.rtol * std::fabs(want)))
        return str("input ", k, ", element ", i, ": gradient ", have, ", differences give ", want, " (error ",
                   std::fabs(have - want), ", allowed ", o.atol + o.rtol * std::fabs(want), ")");
    }
  }
  return "";
}

std::string gradgradcheck(const CheckedFn& fn, const std::vector<Tensor>& inputs, const CheckOptions& o) {
  // The gradient as a function of the inputs and of the incoming gradients.
  std::vector<Tensor> y = fn(inputs), all = inputs;
  std::vector<size_t> used;
  for (size_t j = 0; j < y.size(); ++j)
    if (y[j].requires_grad()) {
      used.push_back(j);
      all.push_back(weights_for(y[j], int(j) + 7).set_requires_grad(true));
    }
  size_t n = inputs.size();
  auto gradient = [&](const std::vector<Tensor>& v) {
    GradMode on(true);
    std::vector<Tensor> x(v.begin(), v.begin() + long(n)), wrt, roots;
    for (size_t k = 0; k < n; ++k)
      if (inputs[k].defined() && inputs[k].requires_grad()) {
        if (!x[k].requires_grad()) x[k] = x[k].detach().set_requires_grad(true);
        wrt.push_back(x[k]);
      }
    std::vector<Tensor> out = fn(x), seeds(v.begin() + long(n), v.end());
    for (size_t j : used) roots.push_back(out[j]);
    std::vector<Tensor> g = grad(roots, wrt, seeds, true, true, true);
    for (size_t k = 0; k < g.size(); ++k)
      if (!g[k].defined()) g[k] = zeros_like(wrt[k]);
    return g;
  };
  std::string r = gradcheck(gradient, all, o);
  return r == "no output requires gradients" ? "" : r;  // linear: the second derivative is zero everywhere
}

}  // namespace tg
