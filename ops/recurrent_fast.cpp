// Fast paths of the recurrent layers. All input projections are one product; a step is one product, added to them in
// place, and one fused pass over its rows. The gradients keep the gates, go back the same way, and leave the weights to
// one product over all steps.
#include "ops/recurrent_fast.h"

#include "backends/recurrent.h"
#include "ops/copy_view.h"

namespace tg {
namespace {

// A program under construction: registers are numbered as Program says, so inputs and constants come first.
class Builder {
 public:
  Builder(DType dtype, int n_inputs, std::initializer_list<Scalar> consts) {
    p_.compute = compute_type(dtype);
    p_.n_inputs = n_inputs;
    for (Scalar c : consts) p_.consts.push_back(c);
  }
  uint8_t constant(int i) const { return p_.const_reg(i); }
  uint8_t operator()(Opc op, int a, int b = 0, int c = 0) {
    p_.code.push_back({op, {uint8_t(a), uint8_t(b), uint8_t(c)}});
    return p_.code_reg(p_.code.size() - 1);
  }
  Program done(std::initializer_list<uint8_t> outs) {
    for (uint8_t r : outs) p_.outs.push_back(r);
    return p_;
  }

 private:
  Program p_;
};

View rows_of(const Tensor& t, int64_t row, int64_t n) { return slice_view(View(t), 0, row, n); }
// The i-th of equal blocks of columns.
View block(const View& v, int64_t i, int64_t width) { return slice_view(v, 1, i * width, width); }
View swapped(View v) {
  std::swap(v.shape[0], v.shape[1]);
  std::swap(v.stride[0], v.stride[1]);
  return v;
}
View batch_of(View v) {
  v.shape.insert(0, 1), v.stride.insert(0, 0);
  return v;
}
// c = a b + beta c
void product(const View& a, const View& b, double beta, const View& c, Device d) {
  if (c.numel() > 0) backend(d).gemm(1.0, batch_of(a), batch_of(b), beta, batch_of(c));
}
// c += a b for the b of all steps.
class StepProduct {
 public:
  StepProduct(const Tensor& b, size_t steps) : device_(b.device()) {
    RecurrentKernels* kernels = steps > 1 ? recurrent_kernels(device_) : nullptr;
    if (kernels) packed_ = kernels->product_by(batch_of(View(b)));
    if (!packed_) b_ = contiguous(b);  // once, because every step would do it anew
  }
  void operator()(const View& a, const View& c) const {
    if (!packed_) return product(a, View(b_), 1.0, c, device_);
    if (c.numel() > 0) packed_(batch_of(a), 1.0, batch_of(c));
  }

 private:
  Device device_;
  ProductBy packed_;
  Tensor b_;
};
void map_rows(const Program& p, std::initializer_list<View> ins, std::initializer_list<View> outs, Device d) {
  Views i, o;
  for (const View& v : ins) i.push_back(v);
  for (const View& v : outs) o.push_back(v);
  if (o[0].numel() > 0) backend(d).map(p, i, o);
}

// Calls f(row, n, initial, from): rows [row, row + n) of the step continue rows [from, from + n) of the steps before,
// or of the initial state.
template <class F>
void each_part(const Step& s, F&& f) {
  if (s.m > 0) f(s.row, s.m, false, s.prev);
  if (s.n > s.m) f(s.row + s.m, s.n - s.m, true, s.m);
}

Tensor sum_of(const Tensor& a, const Tensor& b) { return a.defined() && b.defined() ? a + b : a.defined() ? a : b; }
Tensor zeros_or_copy(const Tensor& g, const Dims& sizes, const Tensor& like) {
  return g.defined() ? contiguous(clone(g)) : zeros(sizes, like.dtype(), like.device());
}

// For each step, in order: sums += state before @ w_hh^T, then `pass` over each part of the step.
template <class F>
void go_forward(const std::vector<Step>& steps, const Tensor& out, const Tensor& hx, const Tensor& w_hh,
                const Tensor& sums, F&& pass) {
  const StepProduct add(transpose(w_hh, 0, 1), steps.size());
  for (const Step& s : steps)
    each_part(s, [&](int64_t row, int64_t n, bool initial, int64_t from) {
      add(rows_of(initial ? hx : out, from, n), rows_of(sums, row, n));
      pass(row, n, initial, from);
    });
}

// The other way: `pass` computes the gradient of the step's sums, which then goes on to the state before.
template <class F>
void go_back(const std::vector<Step>& steps, const Tensor& d_out, const Tensor& d_hx, const Tensor& w_hh,
             const Tensor& d_sums, F&& pass) {
  const StepProduct add(w_hh, steps.size());
  for (size_t i = steps.size(); i-- > 0;)
    each_part(steps[i], [&](int64_t row, int64_t n, bool initial, int64_t from) {
      pass(row, n, initial, from);
      add(rows_of(d_sums, row, n), rows_of(initial ? d_hx : d_out, from, n));
    });
}

}  // namespace

// ---- LSTM

std::tuple<Tensor, Tensor, Tensor> lstm_fast(const RecurrentArgs& a, IntList batch_sizes, bool reverse) {
  check_recurrent("lstm_layer", 4, a, batch_sizes);
  int64_t rows = a.x.size(0), width = a.w_hh.size(0) / 4;
  Device d = a.x.device();
  Tensor gates = linear(a.x, a.w_ih, sum_of(a.b_ih, a.b_hh));
  Tensor cells = empty_tensor({rows, width}, a.x.dtype(), d);
  Tensor raw = empty_tensor({rows, width}, a.x.dtype(), d);  // hidden states before the projection
  Tensor out = a.w_hr.defined() ? empty_tensor({rows, a.w_hr.size(0)}, a.x.dtype(), d) : raw;
  Builder b(a.x.dtype(), 5, {});  // sums of i, f, g, o; cell state before
  uint8_t i = b(Opc::sigmoid, 0), f = b(Opc::sigmoid, 1), g = b(Opc::tanh, 2), o = b(Opc::sigmoid, 3);
  uint8_t c = b(Opc::add, b(Opc::mul, f, 4), b(Opc::mul, i, g));
  uint8_t h = b(Opc::mul, o, b(Opc::tanh, c));
  Program p = b.done({i, f, g, o, c, h});
  RecurrentKernels* kernels = recurrent_kernels(d);
  go_forward(recurrent_steps(batch_sizes, reverse), out, a.hx, a.w_hh, gates,
             [&](int64_t row, int64_t n, bool initial, int64_t from) {
               View s = rows_of(gates, row, n), before = rows_of(initial ? a.cx : cells, from, n);
               View si = block(s, 0, width), sf = block(s, 1, width), sg = block(s, 2, width), so = block(s, 3, width);
               View cell = rows_of(cells, row, n), hidden = rows_of(raw, row, n);
               if (!kernels || !kernels->lstm_step(s, before, cell, hidden))
                 map_rows(p, {si, sf, sg, so, before}, {si, sf, sg, so, cell, hidden}, d);
               if (a.w_hr.defined()) product(hidden, swapped(View(a.w_hr)), 0.0, rows_of(out, row, n), d);
             });
  return {out, cells, gates};
}

// h = o tanh(c), c = f c' + i g; the sums go through sigmoid (i, f, o) and tanh (g)
LstmGrads lstm_fast_grad(const LstmSaved& s, const Tensor& g_out, const Tensor& g_cells, IntList batch_sizes,
                         bool reverse) {
  int64_t rows = s.cells.size(0), width = s.cells.size(1);
  Device d = s.cells.device();
  LstmGrads r;
  Tensor d_out = zeros_or_copy(g_out, {rows, s.hx.size(1)}, s.cells);
  Tensor d_cells = zeros_or_copy(g_cells, s.cells.sizes(), s.cells);
  r.hx = zeros(s.hx.sizes(), s.hx.dtype(), d), r.cx = zeros(s.cx.sizes(), s.cx.dtype(), d);
  r.sums = empty_tensor(s.gates.sizes(), s.gates.dtype(), d);
  r.raw = s.w_hr.defined() ? empty_tensor({rows, width}, s.gates.dtype(), d) : d_out;
  enum { dh, dc, i, f, g, o, c, before, d_before, inputs };
  Builder b(s.cells.dtype(), inputs, {1.0});
  uint8_t one = b.constant(0), t = b(Opc::tanh, c);
  auto times_slope = [&](int grad, int y) { return b(Opc::mul, grad, b(Opc::mul, y, b(Opc::sub, one, y))); };
  auto times_tanh_slope = [&](int grad, int y) { return b(Opc::mul, grad, b(Opc::sub, one, b(Opc::square, y))); };
  uint8_t d_c = b(Opc::add, dc, times_tanh_slope(b(Opc::mul, dh, o), t));
  uint8_t d_i = times_slope(b(Opc::mul, d_c, g), i), d_f = times_slope(b(Opc::mul, d_c, before), f);
  uint8_t d_g = times_tanh_slope(b(Opc::mul, d_c, i), g), d_o = times_slope(b(Opc::mul, dh, t), o);
  uint8_t next = b(Opc::add, d_before, b(Opc::mul, d_c, f));
  Program p = b.done({d_i, d_f, d_g, d_o, next});
  RecurrentKernels* kernels = recurrent_kernels(d);
  go_back(recurrent_steps(batch_sizes, reverse), d_out, r.hx, s.w_hh, r.sums,
          [&](int64_t row, int64_t n, bool initial, int64_t from) {
            View in = rows_of(s.gates, row, n), out = rows_of(r.sums, row, n),
                 to = rows_of(initial ? r.cx : d_cells, from, n);
            View hidden = rows_of(r.raw, row, n), dc = rows_of(d_cells, row, n), c = rows_of(s.cells, row, n);
            View before = rows_of(initial ? s.cx : s.cells, from, n);
            if (s.w_hr.defined()) product(rows_of(d_out, row, n), View(s.w_hr), 0.0, hidden, d);
            if (kernels && kernels->lstm_step_grad(hidden, dc, in, c, before, to, out)) return;
            map_rows(p,
                     {hidden, dc, block(in, 0, width), block(in, 1, width), block(in, 2, width), block(in, 3, width), c,
                      before, to},
                     {block(out, 0, width), block(out, 1, width), block(out, 2, width), block(out, 3, width), to}, d);
          });
  r.out = d_out;
  return r;
}

// ---- GRU

std::tuple<Tensor, Tensor, Tensor> gru_fast(const RecurrentArgs& a, IntList batch_sizes, bool reverse) {
  check_recurrent("gru_layer", 3, a, batch_sizes);
  int64_t rows = a.x.size(0), width = a.w_hh.size(1);
  Device d = a.x.device();
  Tensor gates = linear(a.x, a.w_ih, a.b_ih);
  Tensor bias = a.b_hh.defined() ? a.b_hh : zeros({1}, a.x.dtype(), d);
  Tensor hidden = empty_tensor({rows, 3 * width}, a.x.dtype(), d);
  map_rows(Builder(a.x.dtype(), 1, {}).done({0}), {broadcast_to_view(bias, hidden.sizes())}, {View(hidden)}, d);
  Tensor out = empty_tensor({rows, width}, a.x.dtype(), d);
  Builder b(a.x.dtype(), 7, {});  // r, z, n from the input; from the state; the state before
  uint8_t r = b(Opc::sigmoid, b(Opc::add, 0, 3)), z = b(Opc::sigmoid, b(Opc::add, 1, 4));
  uint8_t n_ = b(Opc::tanh, b(Opc::add, 2, b(Opc::mul, r, 5)));
  uint8_t h = b(Opc::add, n_, b(Opc::mul, z, b(Opc::sub, 6, n_)));
  Program p = b.done({r, z, n_, h});
  go_forward(recurrent_steps(batch_sizes, reverse), out, a.hx, a.w_hh, hidden,
             [&](int64_t row, int64_t n, bool initial, int64_t from) {
               View x = rows_of(gates, row, n), y = rows_of(hidden, row, n);
               View xr = block(x, 0, width), xz = block(x, 1, width), xn = block(x, 2, width);
               map_rows(p,
                        {xr, xz, xn, block(y, 0, width), block(y, 1, width), block(y, 2, width),
                         rows_of(initial ? a.hx : out, from, n)},
                        {xr, xz, xn, rows_of(out, row, n)}, d);
             });
  return {out, gates, hidden};
}

// h = n + z (h' - n), n = tanh(x_n + r s_n)
GruGrads gru_fast_grad(const GruSaved& s, const Tensor& g_out, IntList batch_sizes, bool reverse) {
  int64_t rows = s.out.size(0), width = s.out.size(1);
  Device d = s.out.device();
  GruGrads grads;
  Tensor d_out = zeros_or_copy(g_out, {rows, width}, s.out);
  grads.hx = zeros(s.hx.sizes(), s.hx.dtype(), d);
  grads.from_x = empty_tensor(s.gates.sizes(), s.gates.dtype(), d);
  grads.from_h = empty_tensor(s.gates.sizes(), s.gates.dtype(), d);
  enum { dh, r, z, n, s_n, before, d_before, inputs };
  Builder b(s.out.dtype(), inputs, {1.0});
  uint8_t one = b.constant(0), rest = b(Opc::sub, one, z);
  uint8_t d_n = b(Opc::mul, b(Opc::mul, dh, rest), b(Opc::sub, one, b(Opc::square, n)));
  uint8_t d_r = b(Opc::mul, b(Opc::mul, d_n, s_n), b(Opc::mul, r, b(Opc::sub, one, r)));
  uint8_t d_z = b(Opc::mul, b(Opc::mul, dh, b(Opc::sub, before, n)), b(Opc::mul, z, rest));
  uint8_t d_sn = b(Opc::mul, d_n, r), next = b(Opc::add, d_before, b(Opc::mul, dh, z));
  Program p = b.done({d_r, d_z, d_n, d_r, d_z, d_sn, next});
  go_back(recurrent_steps(batch_sizes, reverse), d_out, grads.hx, s.w_hh, grads.from_h,
          [&](int64_t row, int64_t count, bool initial, int64_t from) {
            View in = rows_of(s.gates, row, count), x = rows_of(grads.from_x, row, count);
            View y = rows_of(grads.from_h, row, count), to = rows_of(initial ? grads.hx : d_out, from, count);
            map_rows(p,
                     {rows_of(d_out, row, count), block(in, 0, width), block(in, 1, width), block(in, 2, width),
                      block(rows_of(s.hidden, row, count), 2, width), rows_of(initial ? s.hx : s.out, from, count), to},
                     {block(x, 0, width), block(x, 1, width), block(x, 2, width), block(y, 0, width),
                      block(y, 1, width), block(y, 2, width), to},
                     d);
          });
  return grads;
}

// ---- tanh and relu

Tensor rnn_fast(const RecurrentArgs& a, IntList batch_sizes, bool reverse, bool use_tanh) {
  check_recurrent("rnn_layer", 1, a, batch_sizes);
  Tensor out = linear(a.x, a.w_ih, sum_of(a.b_ih, a.b_hh));
  Builder b(a.x.dtype(), 1, {});
  Program p = b.done({b(use_tanh ? Opc::tanh : Opc::relu, 0)});
  go_forward(recurrent_steps(batch_sizes, reverse), out, a.hx, a.w_hh, out, [&](int64_t row, int64_t n, bool, int64_t) {
    map_rows(p, {rows_of(out, row, n)}, {rows_of(out, row, n)}, out.device());
  });
  return out;
}

RnnGrads rnn_fast_grad(const Tensor& out, const Tensor& hx, const Tensor& w_hh, const Tensor& g_out,
                       IntList batch_sizes, bool reverse, bool use_tanh) {
  RnnGrads r{zeros_or_copy(g_out, out.sizes(), out), zeros(hx.sizes(), hx.dtype(), hx.device())};
  Builder b(out.dtype(), 2, {1.0, 0.0});  // dh, h
  uint8_t slope = use_tanh ? b(Opc::sub, b.constant(0), b(Opc::square, 1)) : b(Opc::gt, 1, b.constant(1));
  Program p = b.done({b(Opc::mul, 0, slope)});
  go_back(recurrent_steps(batch_sizes, reverse), r.sums, r.hx, w_hh, r.sums,
          [&](int64_t row, int64_t n, bool, int64_t) {
            map_rows(p, {rows_of(r.sums, row, n), rows_of(out, row, n)}, {rows_of(r.sums, row, n)}, out.device());
          });
  return r;
}

}  // namespace tg
