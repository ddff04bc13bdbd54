// Recurrent layers: one op runs a whole layer in one direction over packed rows.
//
// Packed rows are the time steps behind each other: step t holds the rows of the batch_sizes[t] longest sequences. A
// padded batch (T, N, C) is the case in which every step has N rows. `reverse` runs from the last step to the first.
#include "ops/recurrent_fast.h"

namespace tg {

void check_recurrent(const char* op, int64_t gates, const RecurrentArgs& a, IntList batch_sizes) {
  const std::pair<const Tensor*, const char*> all[] = {
      {&a.x, "input"}, {&a.hx, "hx"},          {&a.w_ih, "weight_ih"}, {&a.w_hh, "weight_hh"},
      {&a.cx, "cx"},   {&a.w_hr, "weight_hr"}, {&a.b_ih, "bias_ih"},   {&a.b_hh, "bias_hh"}};
  for (auto [t, name] : all) {
    if (!t->defined()) continue;
    int want = t == &a.b_ih || t == &a.b_hh ? 1 : 2;
    TG_CHECK(t->ndim() == want, ShapeError, op, ": ", name, " must have ", want, " dimensions; ", name, "=",
             describe(*t));
    TG_CHECK(is_float(t->dtype()) && t->dtype() == a.x.dtype(), DTypeError, op, ": input and ", name,
             " must have one floating-point dtype; input=", describe(a.x), ", ", name, "=", describe(*t));
    TG_CHECK(t->device() == a.x.device(), DeviceError, op, ": input and ", name,
             " must be on one device; input=", describe(a.x), ", ", name, "=", describe(*t));
  }
  int64_t rows = 0, last = batch_sizes.size() > 0 ? batch_sizes[0] : 0;
  TG_CHECK(batch_sizes.size() > 0, ShapeError, op, ": expected at least one time step; input=", describe(a.x));
  int64_t largest = last;
  for (int64_t n : batch_sizes) {
    TG_CHECK(n >= 0 && n <= last, ValueError, op, ": batch sizes must not be negative and not grow, got ", batch_sizes);
    TG_CHECK(!__builtin_add_overflow(rows, n, &rows), ValueError, op, ": batch sizes are too large, got ", batch_sizes);
    last = n;
  }
  int64_t hidden = a.w_hh.size(0) / gates, out = a.w_hr.defined() ? a.w_hr.size(0) : hidden;
  auto expect = [&](const Tensor& t, const char* name, Dims want) {
    TG_CHECK(!t.defined() || t.sizes() == want, ShapeError, op, ": ", name, " must be of size ", want, "; ", name, "=",
             describe(t), ", input=", describe(a.x), ", weight_hh=", describe(a.w_hh));
  };
  expect(a.w_hh, "weight_hh", {gates * hidden, out});
  expect(a.w_ih, "weight_ih", {gates * hidden, a.x.size(1)});
  expect(a.x, "input", {rows, a.w_ih.size(1)});
  expect(a.hx, "hx", {largest, out});
  expect(a.cx, "cx", {largest, hidden});
  expect(a.w_hr, "weight_hr", {out, hidden});
  expect(a.b_ih, "bias_ih", {gates * hidden});
  expect(a.b_hh, "bias_hh", {gates * hidden});
}

bool is_tanh(std::string_view nonlinearity) {
  TG_CHECK(nonlinearity == "tanh" || nonlinearity == "relu", ValueError,
           "rnn_layer: nonlinearity must be 'tanh' or 'relu', got '", nonlinearity, "'");
  return nonlinearity == "tanh";
}

namespace {

// The state before a step of n rows: what the sequences that go on left behind, and the initial state of those that
// begin. `state` is undefined before the first step.
Tensor before(const Tensor& state, const Tensor& initial, int64_t n) {
  int64_t m = state.defined() ? std::min(state.size(0), n) : 0;
  if (m == 0) return narrow(initial, 0, 0, n);
  Tensor old = narrow(state, 0, 0, m);
  return m == n ? old : cat({old, narrow(initial, 0, m, n - m)}, 0);
}

struct LstmState {
  Tensor h, c, gates;
};

// From the sum of both projections (n, 4H) and the cell state.
LstmState lstm_step(const Tensor& sums, const Tensor& c, const Tensor& w_hr) {
  auto p = chunk(sums, 4, 1);
  Tensor i = sigmoid(p[0]), f = sigmoid(p[1]), g = tanh(p[2]), o = sigmoid(p[3]);
  Tensor next = f * c + i * g, h = o * tanh(next);
  return {w_hr.defined() ? linear(h, w_hr) : h, next, cat({i, f, g, o}, 1)};
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

Three lstm_body(const Tensor& x, const Tensor& hx, const Tensor& cx, const Tensor& w_ih, const Tensor& w_hh,
                const Tensor& b_ih, const Tensor& b_hh, const Tensor& w_hr, IntList batch_sizes, bool reverse) {
  check_recurrent("lstm_layer", 4, {x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr}, batch_sizes);
  auto steps = recurrent_steps(batch_sizes, reverse);
  Tensor from_x = linear(x, w_ih, b_ih), h, c;
  std::vector<Tensor> outs(steps.size()), cells(steps.size()), gates(steps.size());
  for (const Step& s : steps) {
    h = before(h, hx, s.n), c = before(c, cx, s.n);
    LstmState next = lstm_step(narrow(from_x, 0, s.row, s.n) + linear(h, w_hh, b_hh), c, w_hr);
    h = outs[s.t] = next.h, c = cells[s.t] = next.c, gates[s.t] = next.gates;
  }
  return {cat(outs, 0), cat(cells, 0), cat(gates, 0)};
}

Three gru_body(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
               const Tensor& b_hh, IntList batch_sizes, bool reverse) {
  check_recurrent("gru_layer", 3, {x, hx, {}, w_ih, w_hh, b_ih, b_hh, {}}, batch_sizes);
  auto steps = recurrent_steps(batch_sizes, reverse);
  Tensor from_x = linear(x, w_ih, b_ih), h;
  std::vector<Tensor> outs(steps.size()), gates(steps.size()), hidden(steps.size());
  for (const Step& s : steps) {
    h = before(h, hx, s.n);
    hidden[s.t] = linear(h, w_hh, b_hh);
    auto p = chunk(narrow(from_x, 0, s.row, s.n), 3, 1), q = chunk(hidden[s.t], 3, 1);
    Tensor r = sigmoid(p[0] + q[0]), z = sigmoid(p[1] + q[1]), n = tanh(p[2] + r * q[2]);
    h = outs[s.t] = lerp(n, h, z);
    gates[s.t] = cat({r, z, n}, 1);
  }
  return {cat(outs, 0), cat(gates, 0), cat(hidden, 0)};
}

Tensor rnn_body(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                const Tensor& b_hh, IntList batch_sizes, bool reverse, std::string_view nonlinearity) {
  check_recurrent("rnn_layer", 1, {x, hx, {}, w_ih, w_hh, b_ih, b_hh, {}}, batch_sizes);
  bool use_tanh = is_tanh(nonlinearity);
  auto steps = recurrent_steps(batch_sizes, reverse);
  Tensor from_x = linear(x, w_ih, b_ih), h;
  std::vector<Tensor> outs(steps.size());
  for (const Step& s : steps) {
    h = before(h, hx, s.n);
    Tensor sums = narrow(from_x, 0, s.row, s.n) + linear(h, w_hh, b_hh);
    h = outs[s.t] = use_tanh ? tanh(sums) : relu(sums);
  }
  return cat(outs, 0);
}

Three lstm_primitive(const Tensor& x, const Tensor& hx, const Tensor& cx, const Tensor& w_ih, const Tensor& w_hh,
                     const Tensor& b_ih, const Tensor& b_hh, const Tensor& w_hr, IntList batch_sizes, bool reverse) {
  return lstm_fast({x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr}, batch_sizes, reverse);
}
Three gru_primitive(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                    const Tensor& b_hh, IntList batch_sizes, bool reverse) {
  return gru_fast({x, hx, {}, w_ih, w_hh, b_ih, b_hh, {}}, batch_sizes, reverse);
}
Tensor rnn_primitive(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                     const Tensor& b_hh, IntList batch_sizes, bool reverse, std::string_view nonlinearity) {
  return rnn_fast({x, hx, {}, w_ih, w_hh, b_ih, b_hh, {}}, batch_sizes, reverse, is_tanh(nonlinearity));
}

// ---- one step

int64_t rows_of(const char* op, const Tensor& x) {
  TG_CHECK(x.ndim() == 2, ShapeError, op, ": input must have 2 dimensions (batch, features); input=", describe(x));
  return x.size(0);
}

std::tuple<Tensor, Tensor> lstm_cell_body(const Tensor& x, TensorList hx, const Tensor& w_ih, const Tensor& w_hh,
                                          const Tensor& b_ih, const Tensor& b_hh) {
  TG_CHECK(hx.size() == 2, ValueError, "lstm_cell: hx must be the hidden and the cell state, got ", hx.size(),
           " tensors");
  auto [h, c, gates] = lstm_layer(x, hx[0], hx[1], w_ih, w_hh, b_ih, b_hh, {}, rows_of("lstm_cell", x));
  return {h, c};
}
Tensor gru_cell_body(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                     const Tensor& b_hh) {
  return std::get<0>(gru_layer(x, hx, w_ih, w_hh, b_ih, b_hh, rows_of("gru_cell", x)));
}
Tensor rnn_tanh_cell_body(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                          const Tensor& b_hh) {
  return rnn_layer(x, hx, w_ih, w_hh, b_ih, b_hh, rows_of("rnn_tanh_cell", x), false, "tanh");
}
Tensor rnn_relu_cell_body(const Tensor& x, const Tensor& hx, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                          const Tensor& b_hh) {
  return rnn_layer(x, hx, w_ih, w_hh, b_ih, b_hh, rows_of("rnn_relu_cell", x), false, "relu");
}

TG_OP(
    "lstm_layer(Tensor input, Tensor hx, Tensor cx, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
    "Tensor? bias_hh, Tensor? weight_hr, int[] batch_sizes, bool reverse=False) -> "
    "(Tensor output, Tensor cells, Tensor gates)",
    .doc =
        "One LSTM layer in one direction over packed rows (rows, in): hidden states, cell states and the gates i, f, "
        "g, o of every row. weight_hr projects the hidden state.",
    .composite = box<lstm_body>, .primitive = box<lstm_primitive>,
    .joint = {in(0) | in(1) | in(2) | in(3) | in(4) | in(7) | out(0) | out(1) | out(2), lstm_grad}, .flags = kHidden,
    .autocast = Autocast::Low, .torch = "none",
    .samples =
        "T(6,3), T(3,2), T(3,2), T(8,3), T(8,2), T(8), T(8), None, [3,2,1]; "
        "T(6,3), T(3,2), T(3,2), T(8,3), T(8,2), T(8), T(8), None, [3,2,1], True; "
        "T(6,3), T(2,2), T(2,2), T(8,3), T(8,2), None, None, None, [2,2,2]; "
        "T(4,3), T(2,2), T(2,3), T(12,3), T(12,2), T(12), T(12), T(2,3), [2,2], True");
TG_OP(
    "gru_layer(Tensor input, Tensor hx, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, "
    "int[] batch_sizes, bool reverse=False) -> (Tensor output, Tensor gates, Tensor hidden)",
    .doc =
        "One GRU layer in one direction over packed rows (rows, in): hidden states, the gates r, z, n, and the "
        "projected hidden states of every row.",
    .composite = box<gru_body>, .primitive = box<gru_primitive>,
    .joint = {in(0) | in(1) | in(2) | in(3) | out(0) | out(1) | out(2), gru_grad}, .flags = kHidden,
    .autocast = Autocast::Low, .torch = "none",
    .samples =
        "T(6,3), T(3,2), T(6,3), T(6,2), T(6), T(6), [3,2,1]; "
        "T(6,3), T(3,2), T(6,3), T(6,2), T(6), T(6), [3,2,1], True; "
        "T(6,3), T(2,2), T(6,3), T(6,2), None, None, [2,2,2]");
TG_OP(
    "rnn_layer(Tensor input, Tensor hx, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, "
    "int[] batch_sizes, bool reverse=False, str nonlinearity='tanh') -> Tensor",
    .doc = "One simple recurrent layer in one direction over packed rows (rows, in): the hidden states.",
    .composite = box<rnn_body>, .primitive = box<rnn_primitive>,
    .joint = {in(0) | in(1) | in(2) | in(3) | out(0), rnn_grad}, .flags = kHidden, .autocast = Autocast::Low,
    .torch = "none",
    .samples =
        "T(6,3), T(3,2), T(2,3), T(2,2), T(2), T(2), [3,2,1]; "
        "T(6,3), T(3,2), T(2,3), T(2,2), T(2), T(2), [3,2,1], True, 'relu'; "
        "T(6,3), T(2,2), T(2,3), T(2,2), None, None, [2,2,2]");
TG_OP(
    "lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None) -> "
    "(Tensor hy, Tensor cy)",
    .doc = "One LSTM step of input (batch, in) from the states hx = (h, c).", .composite = box<lstm_cell_body>,
    .flags = kFunctionOnly,
    .samples =
        "T(3,4), [T(3,2), T(3,2)], T(8,4), T(8,2), T(8), T(8); T(1,4), [T(1,2), T(1,2)], T(8,4), T(8,2), T(8), T(8)");
TG_OP("gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None) -> Tensor",
      .doc = "One GRU step of input (batch, in) from the state hx.", .composite = box<gru_cell_body>,
      .flags = kFunctionOnly, .samples = "T(3,4), T(3,2), T(6,4), T(6,2), T(6), T(6)");
TG_OP(
    "rnn_tanh_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None) -> "
    "Tensor",
    .doc = "One step of a simple recurrent layer with tanh.", .composite = box<rnn_tanh_cell_body>,
    .flags = kFunctionOnly, .samples = "T(3,4), T(3,2), T(2,4), T(2,2), T(2), T(2)");
TG_OP(
    "rnn_relu_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None) -> "
    "Tensor",
    .doc = "One step of a simple recurrent layer with relu.", .composite = box<rnn_relu_cell_body>,
    .flags = kFunctionOnly, .samples = "T(3,4), T(3,2), T(2,4), T(2,2), T(2), T(2)");

}  // namespace
}  // namespace tg
