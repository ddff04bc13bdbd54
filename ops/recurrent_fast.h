// Fast paths of the recurrent layers, below the tape, and their gradients.
#pragma once
#include <tuple>

#include "ops/recurrent.h"

namespace tg {

std::tuple<Tensor, Tensor, Tensor> lstm_fast(const RecurrentArgs& a, IntList batch_sizes, bool reverse);
std::tuple<Tensor, Tensor, Tensor> gru_fast(const RecurrentArgs& a, IntList batch_sizes, bool reverse);
Tensor rnn_fast(const RecurrentArgs& a, IntList batch_sizes, bool reverse, bool use_tanh);

// Gradients of what the products over all steps start from; the weights are left to the caller.
struct LstmSaved {
  Tensor hx, cx, w_hh, w_hr, cells, gates;
};
struct LstmGrads {
  Tensor hx, cx, sums;  // of the initial states and of the sums before the gates, (rows, 4H)
  Tensor out, raw;      // of the hidden states behind and before the projection
};
LstmGrads lstm_fast_grad(const LstmSaved& s, const Tensor& g_out, const Tensor& g_cells, IntList batch_sizes,
                         bool reverse);

struct GruSaved {
  Tensor hx, w_hh, out, gates, hidden;
};
struct GruGrads {
  Tensor hx, from_x, from_h;  // of the initial state and of both projections, (rows, 3H)
};
GruGrads gru_fast_grad(const GruSaved& s, const Tensor& g_out, IntList batch_sizes, bool reverse);

struct RnnGrads {
  Tensor sums, hx;
};
RnnGrads rnn_fast_grad(const Tensor& out, const Tensor& hx, const Tensor& w_hh, const Tensor& g_out,
                       IntList batch_sizes, bool reverse, bool use_tanh);

// The gradient rules (ops/recurrent_grad.cpp).
void lstm_grad(GradCtx& c);
void gru_grad(GradCtx& c);
void rnn_grad(GradCtx& c);

}  // namespace tg
