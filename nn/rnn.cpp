#include "nn/rnn.h"

#include <cmath>

#include "nn/init.h"
#include "ops/ops.h"

namespace tg::nn {
namespace {

int64_t gates_of(const std::string& layer, const std::string& mode) {
  for (auto [name, n] : {std::pair{"LSTM", 4}, std::pair{"GRU", 3}, std::pair{"RNN_TANH", 1}, std::pair{"RNN_RELU", 1}})
    if (mode == name) return n;
  fail<ValueError>(layer, ": unknown mode '", mode, "', expected LSTM, GRU, RNN_TANH or RNN_RELU");
}

Tensor make(const std::string& layer, IntList sizes, const Options& o) {
  TG_CHECK(is_float(o.type()), DTypeError, layer, ": parameters must be of floating-point type, got ", o.type());
  return Parameter(empty_tensor(sizes, o.type(), o.device.value_or(Device())));
}

void check_sizes(const std::string& layer, int64_t input_size, int64_t hidden_size, int64_t gates) {
  TG_CHECK(input_size >= 0, ValueError, layer, ": input_size can't be negative, got ", input_size);
  TG_CHECK(hidden_size > 0, ValueError, layer, ": hidden_size must be greater than zero, got ", hidden_size);
  numel_of({gates, hidden_size}, layer.c_str());
}

const char* nonlinearity_of(const std::string& mode) { return mode == "RNN_RELU" ? "relu" : "tanh"; }

// The state every sequence ends with, from that of every row. Forward, the shorter sequences end at earlier steps.
Tensor last_rows(const Tensor& rows, IntList batch_sizes, bool reverse) {
  if (reverse) return narrow(rows, 0, 0, batch_sizes[0]);
  std::vector<Tensor> ends;
  int64_t end = rows.size(0), done = 0;
  for (int64_t t = batch_sizes.size(); t-- > 0;) {
    int64_t n = batch_sizes[t];
    end -= n;
    if (n > done) ends.push_back(narrow(rows, 0, end + done, n - done));
    done = n;
  }
  return ends.empty() ? narrow(rows, 0, 0, 0) : ends.size() == 1 ? ends[0] : cat(ends, 0);
}

}  // namespace

// ---- layers

RNNBaseImpl::RNNBaseImpl(const std::string& m, int64_t in, int64_t hidden, const RNNOptions& o) {
  mode = m;
  std::string layer = type_name();
  int64_t gates = gates_of(layer, m);
  check_sizes(layer, in, hidden, gates);
  TG_CHECK(o.num_layers > 0, ValueError, layer, ": num_layers must be greater than zero, got ", o.num_layers);
  TG_CHECK(o.dropout >= 0 && o.dropout <= 1, ValueError, layer, ": dropout must lie in [0, 1], got ", o.dropout);
  TG_CHECK(o.proj_size >= 0 && o.proj_size < hidden, ValueError, layer,
           ": proj_size must lie in [0, hidden_size = ", hidden, "), got ", o.proj_size);
  TG_CHECK(o.proj_size == 0 || is_lstm(), ValueError, layer, ": proj_size is only possible for LSTM");
  input_size = in, hidden_size = hidden, num_layers = o.num_layers, proj_size = o.proj_size;
  bias = o.bias, batch_first = o.batch_first, bidirectional = o.bidirectional;
  dropout = o.dropout;
  declare_weights();
  for (int64_t l = 0; l < num_layers; ++l)
    for (int reverse = 0; reverse <= int(bidirectional); ++reverse) {
      int64_t width = l == 0 ? in : out_size() * (bidirectional ? 2 : 1);
      auto names = weight_names(l, reverse);
      register_parameter(names[0], make(layer, {gates * hidden, width}, o.tensors));
      register_parameter(names[1], make(layer, {gates * hidden, out_size()}, o.tensors));
      for (size_t i = 2; bias && i < 4; ++i) register_parameter(names[i], make(layer, {gates * hidden}, o.tensors));
      if (proj_size > 0) register_parameter(names.back(), make(layer, {proj_size, hidden}, o.tensors));
    }
  reset_parameters();
}

std::vector<std::string> RNNBaseImpl::weight_names(int64_t layer, bool reverse) const {
  std::string end = "_l" + std::to_string(layer) + (reverse ? "_reverse" : "");
  std::vector<std::string> names = {"weight_ih" + end, "weight_hh" + end};
  if (bias) names.push_back("bias_ih" + end), names.push_back("bias_hh" + end);
  if (proj_size > 0) names.push_back("weight_hr" + end);
  return names;
}

void RNNBaseImpl::declare_weights() {
  for (int64_t l = 0; l < num_layers; ++l)
    for (int reverse = 0; reverse <= int(bidirectional); ++reverse)
      for (auto& name : weight_names(l, reverse))
        if (!find_slot(name)) declare(name, weights_.emplace_back());
}

std::vector<std::vector<Tensor>> RNNBaseImpl::all_weights() const {
  std::vector<std::vector<Tensor>> all;
  for (int64_t l = 0; l < num_layers; ++l)
    for (int reverse = 0; reverse <= int(bidirectional); ++reverse) {
      all.emplace_back();
      for (auto& name : weight_names(l, reverse)) all.back().push_back(tensor(name));
    }
  return all;
}

void RNNBaseImpl::reset_parameters() {
  double bound = 1 / std::sqrt(double(hidden_size));
  for (const Tensor& w : parameters()) init::uniform_(w, -bound, bound);
}

std::vector<Tensor> RNNBaseImpl::initial_state(const Tensor& x, int64_t batch, TensorList hx) const {
  int64_t rows = num_layers * (bidirectional ? 2 : 1);
  std::vector<Tensor> state;
  for (int i = 0; i < (is_lstm() ? 2 : 1); ++i) {
    Dims want = {rows, batch, i == 0 ? out_size() : hidden_size};
    if (hx.empty()) {
      state.push_back(zeros(want, x.dtype(), x.device()));
      continue;
    }
    TG_CHECK(hx.size() == (is_lstm() ? 2 : 1), ValueError, type_name(), ": expected ", is_lstm() ? 2 : 1,
             " initial states, got ", hx.size());
    TG_CHECK(hx[i].sizes() == want, ShapeError, type_name(), ": expected ", i == 0 ? "hidden" : "cell", " size ", want,
             ", got ", hx[i].sizes(), "; hx=", describe(hx[i]), ", input=", describe(x));
    state.push_back(hx[i]);
  }
  return state;
}

// One layer in one direction, from the states (batch, hidden).
RNNResult RNNBaseImpl::run_direction(const Tensor& rows, IntList sizes, TensorList hx, int64_t layer,
                                     bool reverse) const {
  auto names = weight_names(layer, reverse);
  Tensor w_ih = tensor(names[0]), w_hh = tensor(names[1]), b_ih, b_hh, w_hr;
  if (bias) b_ih = tensor(names[2]), b_hh = tensor(names[3]);
  if (proj_size > 0) w_hr = tensor(names.back());
  TG_CHECK(w_ih.defined() && w_hh.defined(), TypeError, "forward: ", type_name(), " has no ", names[0]);
  if (is_lstm()) {
    auto [out, cells, gates] = lstm_layer(rows, hx[0], hx[1], w_ih, w_hh, b_ih, b_hh, w_hr, sizes, reverse);
    return {out, {last_rows(out, sizes, reverse), last_rows(cells, sizes, reverse)}};
  }
  Tensor out = mode == "GRU" ? std::get<0>(gru_layer(rows, hx[0], w_ih, w_hh, b_ih, b_hh, sizes, reverse))
                             : rnn_layer(rows, hx[0], w_ih, w_hh, b_ih, b_hh, sizes, reverse, nonlinearity_of(mode));
  return {out, {last_rows(out, sizes, reverse)}};
}

RNNResult RNNBaseImpl::run_packed(const Tensor& rows, IntList sizes, TensorList hx) {
  TG_CHECK(rows.ndim() == 2, ShapeError, type_name(), ": packed rows must have 2 dimensions; input=", describe(rows));
  TG_CHECK(rows.size(1) == input_size, ShapeError, type_name(), ": input must have ", input_size,
           " features in its last dimension; input=", describe(rows));
  TG_CHECK(sizes.size() > 0, ShapeError, type_name(), ": expected at least one time step; input=", describe(rows));
  std::vector<Tensor> first = initial_state(rows, sizes[0], hx);
  std::vector<std::vector<Tensor>> last(first.size());
  Tensor x = rows;
  for (int64_t l = 0, i = 0; l < num_layers; ++l) {
    std::vector<Tensor> outs;
    for (int reverse = 0; reverse <= int(bidirectional); ++reverse, ++i) {
      std::vector<Tensor> state;
      for (const Tensor& s : first) state.push_back(select(s, 0, i));
      RNNResult r = run_direction(x, sizes, state, l, reverse);
      outs.push_back(r.output);
      for (size_t k = 0; k < last.size(); ++k) last[k].push_back(r.state[k]);
    }
    x = outs.size() == 1 ? outs[0] : cat(outs, 1);
    if (training && dropout > 0 && l + 1 < num_layers) x = tg::dropout(x, dropout);
  }
  RNNResult result{x, {}};
  for (auto& states : last) result.state.push_back(stack(states, 0));
  return result;
}

RNNResult RNNBaseImpl::run(const Tensor& x, TensorList hx) {
  TG_CHECK(x.ndim() == 2 || x.ndim() == 3, ShapeError, type_name(),
           ": input must have 2 (unbatched) or 3 dimensions; input=", describe(x));
  bool batched = x.ndim() == 3;
  std::vector<Tensor> state;
  for (const Tensor& s : hx) {
    TG_CHECK(s.defined(), TypeError, type_name(), ": an initial state is None");
    TG_CHECK(s.ndim() == x.ndim(), ShapeError, type_name(), ": for ", batched ? "a batch" : "unbatched input",
             ", the initial states must have ", x.ndim(), " dimensions; hx=", describe(s), ", input=", describe(x));
    state.push_back(batched ? s : unsqueeze(s, 1));
  }
  Tensor steps = !batched ? unsqueeze(x, 1) : batch_first ? transpose(x, 0, 1) : x;  // (time, batch, features)
  int64_t time = steps.size(0), batch = steps.size(1);
  TG_CHECK(steps.size(2) == input_size, ShapeError, type_name(), ": input must have ", input_size,
           " features in its last dimension; input=", describe(x));
  RNNResult r =
      run_packed(reshape(steps, {time * batch, input_size}), std::vector<int64_t>(size_t(time), batch), state);
  r.output = reshape(r.output, {time, batch, r.output.size(1)});
  if (batched && batch_first) r.output = transpose(r.output, 0, 1);
  if (batched) return r;
  r.output = squeeze(r.output, 1);
  for (Tensor& s : r.state) s = squeeze(s, 1);
  return r;
}

void RNNBaseImpl::forward_list(TensorList xs, Outputs& out) {
  TG_CHECK(xs.size() > 0, TypeError, type_name(), ": expected an input");
  RNNResult r = run(xs[0], TensorList(xs.begin() + 1, xs.size() - 1));
  out.push_back(r.output);
  for (Tensor& s : r.state) out.push_back(s);
}

std::string RNNBaseImpl::extra_repr() const {
  std::string s = std::to_string(input_size) + ", " + std::to_string(hidden_size);
  if (proj_size != 0) s += ", proj_size=" + std::to_string(proj_size);
  if (num_layers != 1) s += ", num_layers=" + std::to_string(num_layers);
  if (!bias) s += ", bias=False";
  if (batch_first) s += ", batch_first=True";
  if (dropout != 0) s += ", dropout=" + number_text(dropout);
  if (bidirectional) s += ", bidirectional=True";
  return s;
}

// ---- cells

RNNCellBaseImpl::RNNCellBaseImpl(Blank) {
  declare("weight_ih", weight_ih);
  declare("weight_hh", weight_hh);
  declare("bias_ih", bias_ih);
  declare("bias_hh", bias_hh);
}

RNNCellBaseImpl::RNNCellBaseImpl(const std::string& m, int64_t in, int64_t hidden, bool with_bias, const Options& o)
    : RNNCellBaseImpl(Blank{}) {
  mode = m;
  int64_t gates = gates_of(type_name(), m);
  check_sizes(type_name(), in, hidden, gates);
  input_size = in, hidden_size = hidden, bias = with_bias;
  weight_ih = make(type_name(), {gates * hidden, in}, o);
  weight_hh = make(type_name(), {gates * hidden, hidden}, o);
  if (bias) bias_ih = make(type_name(), {gates * hidden}, o), bias_hh = make(type_name(), {gates * hidden}, o);
  reset_parameters();
}

void RNNCellBaseImpl::reset_parameters() {
  double bound = 1 / std::sqrt(double(hidden_size));
  for (const Tensor& w : parameters()) init::uniform_(w, -bound, bound);
}

std::vector<Tensor> RNNCellBaseImpl::step(const Tensor& x, TensorList hx) {
  TG_CHECK(x.ndim() == 1 || x.ndim() == 2, ShapeError, type_name(),
           ": input must have 1 or 2 dimensions; input=", describe(x));
  TG_CHECK(x.size(-1) == input_size, ShapeError, type_name(), ": input must have ", input_size,
           " features in its last dimension; input=", describe(x));
  TG_CHECK(weight_ih.defined() && weight_hh.defined(), TypeError, "forward: ", type_name(), " has no weights");
  int64_t want = mode == "LSTM" ? 2 : 1;
  TG_CHECK(hx.empty() || hx.size() == want, ValueError, type_name(), ": expected ", want, " states, got ", hx.size());
  bool batched = x.ndim() == 2;
  Tensor rows = batched ? x : unsqueeze(x, 0);
  std::vector<Tensor> s;
  for (const Tensor& h : hx) {
    TG_CHECK(h.defined(), TypeError, type_name(), ": a state is None");
    TG_CHECK(h.ndim() == x.ndim(), ShapeError, type_name(), ": the states must have ", x.ndim(),
             " dimensions as the input; hx=", describe(h), ", input=", describe(x));
    s.push_back(batched ? h : unsqueeze(h, 0));
  }
  while (int64_t(s.size()) < want) s.push_back(zeros({rows.size(0), hidden_size}, x.dtype(), x.device()));
  int64_t n = rows.size(0);
  std::vector<Tensor> next;
  if (mode == "LSTM") {
    auto [h, c, gates] = lstm_layer(rows, s[0], s[1], weight_ih, weight_hh, bias_ih, bias_hh, {}, n);
    next = {h, c};
  } else if (mode == "GRU") {
    next = {std::get<0>(gru_layer(rows, s[0], weight_ih, weight_hh, bias_ih, bias_hh, n))};
  } else {
    next = {rnn_layer(rows, s[0], weight_ih, weight_hh, bias_ih, bias_hh, n, false, nonlinearity_of(mode))};
  }
  if (!batched)
    for (Tensor& t : next) t = squeeze(t, 0);
  return next;
}

void RNNCellBaseImpl::forward_list(TensorList xs, Outputs& out) {
  TG_CHECK(xs.size() > 0, TypeError, type_name(), ": expected an input");
  for (Tensor& t : step(xs[0], TensorList(xs.begin() + 1, xs.size() - 1))) out.push_back(t);
}

std::string RNNCellBaseImpl::extra_repr() const {
  std::string s = std::to_string(input_size) + ", " + std::to_string(hidden_size);
  if (!bias) s += ", bias=False";
  if (mode == "RNN_RELU") s += ", nonlinearity=relu";
  return s;
}

}  // namespace tg::nn
