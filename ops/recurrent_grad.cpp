// Gradients of the recurrent layers. Inside create_graph they are written with public ops, which have gradients of
// their own; otherwise the fused forms run.
#include "ops/recurrent_fast.h"

namespace tg {
namespace {

// The state that every row continues, in the order of the rows.
Tensor states_before(const std::vector<Step>& steps, const Tensor& rows, const Tensor& initial) {
  struct Part {
    bool initial;
    int64_t from, n;
  };
  std::vector<std::vector<Part>> of_step(steps.size());
  for (const Step& s : steps) {
    if (s.m > 0) of_step[s.t].push_back({false, s.prev, s.m});
    if (s.n > s.m) of_step[s.t].push_back({true, s.m, s.n - s.m});
  }
  std::vector<Part> parts;
  for (auto& list : of_step)
    for (const Part& p : list) {
      bool joins = !parts.empty() && parts.back().initial == p.initial && parts.back().from + parts.back().n == p.from;
      if (joins)
        parts.back().n += p.n;
      else
        parts.push_back(p);
    }
  std::vector<Tensor> pieces;
  for (const Part& p : parts) pieces.push_back(narrow(p.initial ? initial : rows, 0, p.from, p.n));
  return pieces.empty() ? narrow(rows, 0, 0, 0) : cat(pieces, 0);
}

Tensor plus(const Tensor& a, const Tensor& b) { return a.defined() && b.defined() ? a + b : a.defined() ? a : b; }
Tensor part(const Tensor& t, const Step& s) { return t.defined() ? narrow(t, 0, s.row, s.n) : t; }

// The gradient of a state on its way back through the steps.
class StateGrad {
 public:
  StateGrad(const std::vector<Step>& steps, const Tensor& g, const Tensor& initial)
      : steps_(steps), g_(g), initial_(initial) {}
  // Of the state after step i.
  Tensor after(size_t i) const {
    Tensor d = plus(part(g_, steps_[i]), carried_);
    return d.defined() ? d : zeros({steps_[i].n, initial_.size(1)}, initial_.dtype(), initial_.device());
  }
  // Takes the gradient of the state before step i.
  void back(size_t i, const Tensor& d) {
    const Step& s = steps_[i];
    carried_ = {};
    if (s.m > 0) carried_ = pad(narrow(d, 0, 0, s.m), {0, 0, 0, steps_[i - 1].n - s.m});
    if (s.n > s.m) start_ = plus(start_, pad(narrow(d, 0, s.m, s.n - s.m), {0, 0, s.m, initial_.size(0) - s.n}));
  }
  Tensor start() const { return start_.defined() ? start_ : zeros_like(initial_); }

 private:
  const std::vector<Step>& steps_;
  Tensor g_, initial_, carried_, start_;
};

Tensor sigmoid_slope(const Tensor& y) { return y * (1.0 - y); }
Tensor tanh_slope(const Tensor& y) { return 1.0 - square(y); }

LstmGrads lstm_by_ops(const LstmSaved& s, const std::vector<Step>& steps, const Tensor& cells_before, GradCtx& c) {
  StateGrad h(steps, c.g(0), s.hx), cell(steps, c.g(1), s.cx);
  std::vector<Tensor> sums(steps.size()), outs(steps.size());
  for (size_t k = steps.size(); k-- > 0;) {
    const Step& at = steps[k];
    auto p = chunk(part(s.gates, at), 4, 1);
    Tensor i = p[0], f = p[1], g = p[2], o = p[3], t = tanh(part(s.cells, at));
    outs[at.t] = h.after(k);
    Tensor dh = s.w_hr.defined() ? matmul(outs[at.t], s.w_hr) : outs[at.t];
    Tensor dc = cell.after(k) + dh * o * tanh_slope(t);
    Tensor gates = plus(cat({dc * g, dc * part(cells_before, at), dc * i, dh * t}, 1), part(c.g(2), at));
    sums[at.t] = gates * cat({sigmoid_slope(i), sigmoid_slope(f), tanh_slope(g), sigmoid_slope(o)}, 1);
    h.back(k, matmul(sums[at.t], s.w_hh));
    cell.back(k, dc * f);
  }
  return {h.start(), cell.start(), cat(sums, 0), cat(outs, 0), {}};
}

GruGrads gru_by_ops(const GruSaved& s, const std::vector<Step>& steps, const Tensor& before, GradCtx& c) {
  StateGrad h(steps, c.g(0), s.hx);
  std::vector<Tensor> from_x(steps.size()), from_h(steps.size());
  for (size_t k = steps.size(); k-- > 0;) {
    const Step& at = steps[k];
    auto p = chunk(part(s.gates, at), 3, 1);
    Tensor r = p[0], z = p[1], n = p[2], dh = h.after(k), s_n = chunk(part(s.hidden, at), 3, 1)[2];
    auto direct = chunk(part(c.g_or_zeros(1), at), 3, 1);
    Tensor dn = (dh * (1.0 - z) + direct[2]) * tanh_slope(n);
    Tensor dr = (dn * s_n + direct[0]) * sigmoid_slope(r);
    Tensor dz = (dh * (part(before, at) - n) + direct[1]) * sigmoid_slope(z);
    from_x[at.t] = cat({dr, dz, dn}, 1);
    from_h[at.t] = plus(cat({dr, dz, dn * r}, 1), part(c.g(2), at));
    h.back(k, dh * z + matmul(from_h[at.t], s.w_hh));
  }
  return {h.start(), cat(from_x, 0), cat(from_h, 0)};
}

RnnGrads rnn_by_ops(const Tensor& out, const Tensor& hx, const Tensor& w_hh, const std::vector<Step>& steps,
                    bool use_tanh, GradCtx& c) {
  StateGrad h(steps, c.g(0), hx);
  std::vector<Tensor> sums(steps.size());
  for (size_t k = steps.size(); k-- > 0;) {
    const Step& at = steps[k];
    Tensor y = part(out, at), dh = h.after(k);
    sums[at.t] = use_tanh ? dh * tanh_slope(y) : where(gt(y, 0.0), dh, 0.0);
    h.back(k, matmul(sums[at.t], w_hh));
  }
  return {cat(sums, 0), h.start()};
}

// from^T x. The CPU's product turns its left operand while packing it: with many rows it is cheaper to turn the
// narrower operand and then the result, whose bits are the same.
Tensor weight_grad(const Tensor& from, const Tensor& x) {
  const bool turned =
      from.device().is_cpu() && from.dtype() == DType::F32 && from.size(1) > x.size(1) && from.size(0) >= 4 * x.size(1);
  return turned ? contiguous(transpose(matmul(transpose(x, 0, 1), from), 0, 1)) : matmul(transpose(from, 0, 1), x);
}

// From the gradients of both projections over all rows; the weights begin at argument `first`.
void set_projections(GradCtx& c, int first, const Tensor& before, const Tensor& from_x, const Tensor& from_h) {
  if (c.needs(0)) c.set(0, matmul(from_x, c.x(first)));
  if (c.needs(first)) c.set(first, weight_grad(from_x, c.x(0)));
  if (c.needs(first + 1)) c.set(first + 1, weight_grad(from_h, before));
  if (c.needs(first + 2)) c.set(first + 2, sum(from_x, {0}));
  if (c.needs(first + 3)) c.set(first + 3, sum(from_h, {0}));
}

}  // namespace

void lstm_grad(GradCtx& c) {
  LstmSaved s{c.x(1), c.x(2), c.x(4), c.is_none(7) ? Tensor() : c.x(7), c.y(1), c.y(2)};
  IntList sizes = c.arg<IntList>(8);
  bool reverse = c.arg<bool>(9);
  auto steps = recurrent_steps(sizes, reverse);
  bool by_ops = modes().grad || c.g(2).defined();
  LstmGrads r = by_ops ? lstm_by_ops(s, steps, states_before(steps, s.cells, s.cx), c)
                       : lstm_fast_grad(s, c.g(0), c.g(1), sizes, reverse);
  if (c.needs(1)) c.set(1, r.hx);
  if (c.needs(2)) c.set(2, r.cx);
  set_projections(c, 3, c.needs(4) ? states_before(steps, c.y(0), s.hx) : Tensor(), r.sums, r.sums);
  if (!c.is_none(7) && c.needs(7)) {
    Tensor raw = chunk(s.gates, 4, 1)[3] * tanh(s.cells);
    c.set(7, matmul(transpose(r.out, 0, 1), raw));
  }
}

void gru_grad(GradCtx& c) {
  GruSaved s{c.x(1), c.x(3), c.y(0), c.y(1), c.y(2)};
  IntList sizes = c.arg<IntList>(6);
  bool reverse = c.arg<bool>(7);
  auto steps = recurrent_steps(sizes, reverse);
  bool by_ops = modes().grad || c.g(1).defined() || c.g(2).defined();
  Tensor before = by_ops || c.needs(3) ? states_before(steps, s.out, s.hx) : Tensor();
  GruGrads r = by_ops ? gru_by_ops(s, steps, before, c) : gru_fast_grad(s, c.g(0), sizes, reverse);
  if (c.needs(1)) c.set(1, r.hx);
  set_projections(c, 2, before, r.from_x, r.from_h);
}

void rnn_grad(GradCtx& c) {
  Tensor out = c.y(0), hx = c.x(1), w_hh = c.x(3);
  IntList sizes = c.arg<IntList>(6);
  bool reverse = c.arg<bool>(7), use_tanh = is_tanh(c.arg<std::string_view>(8));
  auto steps = recurrent_steps(sizes, reverse);
  RnnGrads r = modes().grad ? rnn_by_ops(out, hx, w_hh, steps, use_tanh, c)
                            : rnn_fast_grad(out, hx, w_hh, c.g(0), sizes, reverse, use_tanh);
  if (c.needs(1)) c.set(1, r.hx);
  set_projections(c, 2, c.needs(3) ? states_before(steps, out, hx) : Tensor(), r.sums, r.sums);
}

}  // namespace tg
