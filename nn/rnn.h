// Recurrent layers and cells. Names, shapes and initial values of the parameters are PyTorch's.
#pragma once
#include <deque>

#include "nn/layers.h"

namespace tg::nn {

struct RNNOptions {
  int64_t num_layers = 1;
  bool bias = true, batch_first = false;  // batch_first: (batch, time, features) instead of (time, batch, features)
  double dropout = 0;                     // between layers, while training
  bool bidirectional = false;
  int64_t proj_size = 0;              // LSTM: size of the projected hidden state, 0 for none
  std::string nonlinearity = "tanh";  // RNN: tanh or relu
  Options tensors = {};
};

// The output and the last states: h, and c for LSTM.
struct RNNResult {
  Tensor output;
  std::vector<Tensor> state;
};

// Several layers of a recurrent cell, in one or both directions. mode: LSTM, GRU, RNN_TANH or RNN_RELU.
class TG_API RNNBaseImpl : public Module {
 public:
  explicit RNNBaseImpl(Blank) {}
  RNNBaseImpl(const std::string& mode, int64_t input_size, int64_t hidden_size, const RNNOptions& o = {});
  void reset_parameters();
  // A padded batch (3 dimensions) or one sequence (2), from the states (layers * directions, batch, hidden); none: 0.
  RNNResult run(const Tensor& x, TensorList hx = {});
  // Rows of all time steps behind each other, step t holding batch_sizes[t] of them.
  RNNResult run_packed(const Tensor& rows, IntList batch_sizes, TensorList hx = {});
  // Only the output.
  Tensor forward(const Tensor& x) override { return run(x).output; }
  void forward_list(TensorList xs, Outputs& out) override;
  std::string type_name() const override { return mode.starts_with("RNN") ? "RNN" : mode; }
  std::string extra_repr() const override;
  // The parameters of each layer and direction in their order.
  std::vector<std::vector<Tensor>> all_weights() const;
  // Gives every weight its place, after the settings are known; a tensor put there later is used like a parameter.
  void declare_weights();
  bool is_lstm() const { return mode == "LSTM"; }
  std::string mode = "LSTM";
  int64_t input_size = 0, hidden_size = 0, num_layers = 1, proj_size = 0;
  bool bias = true, batch_first = false, bidirectional = false;
  double dropout = 0;

 private:
  std::vector<std::string> weight_names(int64_t layer, bool reverse) const;
  int64_t out_size() const { return proj_size > 0 ? proj_size : hidden_size; }
  std::vector<Tensor> initial_state(const Tensor& x, int64_t batch, TensorList hx) const;
  RNNResult run_direction(const Tensor& rows, IntList batch_sizes, TensorList hx, int64_t layer, bool reverse) const;
  std::deque<Tensor> weights_;  // where the weights live; their addresses stay
};
#define TG_RNN(NAME, MODE)                                                           \
  struct NAME : Handle<RNNBaseImpl> {                                                \
    using Handle<RNNBaseImpl>::Handle;                                               \
    NAME(int64_t input_size, int64_t hidden_size, const RNNOptions& o = {})          \
        : Handle(std::make_shared<RNNBaseImpl>(MODE, input_size, hidden_size, o)) {} \
  }
TG_RNN(LSTM, "LSTM");
TG_RNN(GRU, "GRU");
TG_RNN(RNN, o.nonlinearity == "relu" ? "RNN_RELU" : "RNN_TANH");
#undef TG_RNN

// One step of a recurrent layer. mode as above.
class TG_API RNNCellBaseImpl : public Module {
 public:
  explicit RNNCellBaseImpl(Blank);
  RNNCellBaseImpl(const std::string& mode, int64_t input_size, int64_t hidden_size, bool bias = true,
                  const Options& o = {});
  void reset_parameters();
  // The next states from input (batch, features) or (features) and the states; none: 0.
  std::vector<Tensor> step(const Tensor& x, TensorList hx = {});
  // Only the next hidden state, from the state 0.
  Tensor forward(const Tensor& x) override { return step(x)[0]; }
  void forward_list(TensorList xs, Outputs& out) override;
  std::string type_name() const override { return mode.starts_with("RNN") ? "RNNCell" : mode + "Cell"; }
  std::string extra_repr() const override;
  std::string mode = "LSTM";
  int64_t input_size = 0, hidden_size = 0;
  bool bias = true;
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};
#define TG_RNN_CELL(NAME, MODE)                                                                \
  struct NAME : Handle<RNNCellBaseImpl> {                                                      \
    using Handle<RNNCellBaseImpl>::Handle;                                                     \
    NAME(int64_t input_size, int64_t hidden_size, bool bias = true, const Options& o = {})     \
        : Handle(std::make_shared<RNNCellBaseImpl>(MODE, input_size, hidden_size, bias, o)) {} \
  }
TG_RNN_CELL(LSTMCell, "LSTM");
TG_RNN_CELL(GRUCell, "GRU");
TG_RNN_CELL(RNNCell, "RNN_TANH");
#undef TG_RNN_CELL

}  // namespace tg::nn
