#include <doctest/doctest.h>

#include "backends/recurrent.h"
#include "nn/nn.h"
#include "ops/ops.h"

using namespace tg;

namespace {

double distance(const Tensor& a, const Tensor& b) { return a.numel() == 0 ? 0 : max(abs(a - b)).item(); }

// Packed rows of one layer in one direction must be what cells give, sequence by sequence.
template <class Layer, class Cell>
void check_against_cells() {
  constexpr int64_t kTime = 4, kIn = 3, kHidden = 5;
  Layer layer(kIn, kHidden, {.bidirectional = true});
  std::vector<int64_t> lengths = {4, 2, 2}, sizes = {3, 3, 1, 1}, starts = {0, 3, 6, 7};
  Tensor rows = randn({8, kIn});
  nn::RNNResult r = layer->run_packed(rows, sizes);
  CHECK(r.output.sizes() == Dims{8, 2 * kHidden});
  CHECK(r.state[0].sizes() == Dims{2, 3, kHidden});
  for (int reverse = 0; reverse < 2; ++reverse) {
    Cell cell(kIn, kHidden);
    std::string end = reverse ? "_l0_reverse" : "_l0";
    for (const char* name : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"})
      copy_(cell->tensor(name).detach(), layer->tensor(name + end).detach());
    for (int64_t b = 0; b < 3; ++b) {
      std::vector<Tensor> state;
      for (int64_t k = 0; k < lengths[size_t(b)]; ++k) {
        int64_t t = reverse ? lengths[size_t(b)] - 1 - k : k, row = starts[size_t(t)] + b;
        INFO(layer->type_name(), " reverse=", reverse, " sequence ", b, " step ", k);
        state = cell->step(narrow(rows, 0, row, 1), state);
        CHECK(distance(state[0], narrow(narrow(r.output, 0, row, 1), 1, reverse * kHidden, kHidden)) < 1e-6);
      }
      for (size_t i = 0; i < state.size(); ++i)
        CHECK(distance(state[i], select(narrow(r.state[i], 1, b, 1), 0, reverse)) < 1e-6);
    }
  }
  CHECK(layer(randn({kTime, 2, kIn})).sizes() == Dims{kTime, 2, 2 * kHidden});
}

}  // namespace

TEST_CASE("rnn: layers are their cells, step by step") {
  check_against_cells<nn::LSTM, nn::LSTMCell>();
  check_against_cells<nn::GRU, nn::GRUCell>();
  check_against_cells<nn::RNN, nn::RNNCell>();
}

// Against the same formulas in double. Gates from 2^-30 to beyond where they saturate, of either sign.
TEST_CASE("rnn: the steps of an LSTM in one pass") {
  RecurrentKernels& kernels = *recurrent_kernels(Device{});
  for (int64_t hidden : {1, 15, 16, 17, 64, 300})
    for (int64_t rows : {1, 7}) {
      auto numbers = [&](int64_t columns, double most) {
        Tensor x = randn({rows, columns});
        return x * pow(full({}, 2.0), floor(rand({rows, columns}) * 31.0 - 30.0)) * most;
      };
      const Tensor sums = numbers(4 * hidden, 64), before = numbers(hidden, 2);
      Tensor gates = clone(sums), cells = empty_like(before), out = empty_like(before);
      REQUIRE(kernels.lstm_step(View(gates), View(before), View(cells), View(out)));
      auto wide = [](const Tensor& t) { return cast(t, DType::F64); };
      auto p = chunk(wide(sums), 4, 1);
      const Tensor i = sigmoid(p[0]), f = sigmoid(p[1]), g = tanh(p[2]), o = sigmoid(p[3]);
      const Tensor c = f * wide(before) + i * g;
      // A gate is off by the 2 units of its exponential and four roundings; whatever follows adds fewer than ten.
      const double unit = 0x1p-24;
      auto near = [&](const Tensor& a, const Tensor& b, double scale) {
        INFO("hidden ", hidden, " rows ", rows);
        CHECK(max(abs(wide(a) - b)).item<double>() <= 16 * unit * scale);
      };
      const Tensor all = cat({i, f, g, o}, 1);
      // Each of them to the last digits, so that small ones are not lost; gates of 2^-126 and less may vanish.
      CHECK(max(abs(wide(gates) - all) / (abs(all) + 0x1p-100)).item<double>() <= 16 * unit);
      const double most = max(abs(wide(before))).item<double>() + 1;
      near(cells, c, most);
      near(out, o * tanh(c), most);

      const Tensor dh = numbers(hidden, 1), dc_in = numbers(hidden, 1), start = numbers(hidden, 1);
      Tensor d_before = clone(start), d_sums = empty_like(gates);
      REQUIRE(kernels.lstm_step_grad(View(dh), View(dc_in), View(gates), View(cells), View(before), View(d_before),
                                     View(d_sums)));
      auto q = chunk(wide(gates), 4, 1);
      const Tensor t = tanh(wide(cells)), dc = wide(dc_in) + wide(dh) * q[3] * (1.0 - t * t);
      auto slope = [](const Tensor& y) { return y * (1.0 - y); };
      const Tensor want = cat({dc * q[2] * slope(q[0]), dc * wide(before) * slope(q[1]),
                               dc * q[0] * (1.0 - q[2] * q[2]), wide(dh) * t * slope(q[3])},
                              1);
      const double largest = max(abs(dc)).item<double>() + max(abs(wide(dh))).item<double>();
      near(d_sums, want, largest * most);
      near(d_before, wide(start) + dc * q[1], largest + max(abs(wide(start))).item<double>());
    }
  // Not for other types.
  const Tensor x = ones({2, 8}, DType::F64), y = ones({2, 2}, DType::F64);
  CHECK(!kernels.lstm_step(View(x), View(y), View(y), View(y)));
}

TEST_CASE("rnn: what is no number stays none, and large sums saturate") {
  RecurrentKernels& kernels = *recurrent_kernels(Device{});
  const double inf = std::numeric_limits<double>::infinity();
  auto gates_of = [&](double sum) {
    Tensor gates = full({1, 4}, sum), cells = zeros({1, 1}), out = zeros({1, 1});
    CHECK(kernels.lstm_step(View(gates), View(zeros({1, 1})), View(cells), View(out)));
    return gates;
  };
  CHECK(isnan(gates_of(std::nan(""))).all().item<bool>());
  for (double sum : {1e3, inf}) {
    CHECK((gates_of(sum) == 1.0).all().item<bool>());
    auto p = chunk(gates_of(-sum), 4, 1);
    for (int gate : {0, 1, 2, 3}) CHECK(p[size_t(gate)].item<double>() == (gate == 2 ? -1 : 0));
  }
}

TEST_CASE("rnn: parameters and texts") {
  nn::LSTM lstm(3, 4, {.num_layers = 2, .batch_first = true, .proj_size = 2});
  std::vector<std::string> names;
  for (auto& [name, t] : lstm->named_parameters()) names.push_back(name);
  CHECK(names == std::vector<std::string>{"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0",
                                          "weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1", "weight_hr_l1"});
  CHECK(lstm->repr() == "LSTM(3, 4, proj_size=2, num_layers=2, batch_first=True)");
  CHECK(nn::RNN(3, 4, {.nonlinearity = "relu"})->mode == "RNN_RELU");
  CHECK(nn::GRUCell(3, 4, false)->repr() == "GRUCell(3, 4, bias=False)");
  CHECK_THROWS_AS(nn::GRU(3, 4, {.proj_size = 2}), ValueError);
  CHECK_THROWS_AS(lstm(ones({2, 5, 4})), ShapeError);
}

TEST_CASE("rnn: training through time") {
  // The sign of the first input, remembered over the whole sequence.
  manual_seed(3);
  nn::LSTM lstm(1, 8);
  nn::Linear head(8, 1);
  std::vector<Tensor> params = lstm->parameters();
  for (const Tensor& p : head->parameters()) params.push_back(p);
  double first = 0, last = 0;
  for (int step = 0; step < 300; ++step) {
    Tensor x = randn({4, 32, 1}), y = cast(gt(select(x, 0, 0), 0.0), DType::F32);
    Tensor loss = binary_cross_entropy_with_logits(head(select(lstm->run(x).output, 0, 3)), y);
    for (const Tensor& p : params) p.set_grad({});
    loss.backward();
    NoGrad guard;
    for (const Tensor& p : params) sub_(p, p.grad() * 2.0);
    (step == 0 ? first : last) = loss.item();
  }
  CHECK(first > 0.5);
  CHECK(last < 0.3);
}
