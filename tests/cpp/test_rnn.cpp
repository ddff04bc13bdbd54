#include <doctest/doctest.h>

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
