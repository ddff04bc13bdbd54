// The element-wise part of each update rule of optim, written once for three readers: T = float or double is the vector
// loop of the CPU (optim/formulas.isa.cpp) and the kernel over many tensors of a device (backends/cuda/update.cu),
// T = Expr writes the program that any other layout runs (optim/fused.cpp).
//
// x[0] is the parameter, x[1] its gradient (never written), the rest is state in the order of the rule; c holds
// coefficients that are the same for all elements, the first four always these:
//   0 sign of the gradient, 1 L2 penalty, 2 what decoupled weight decay leaves of the parameter, 3 rate
#pragma once
#include "backends/scalar_math.h"

namespace tg::optim {

// name, arrays, coefficients
#define TG_FORMULAS(X)             \
  X(Sgd, 2, 4)                     \
  X(SgdMomentum, 3, 8)             \
  X(Adam, 4, 9)                    \
  X(AdamLargest, 5, 9)             \
  X(AdamMean, 4, 7)                \
  X(Adamax, 4, 7)                  \
  X(NAdam, 4, 10)                  \
  X(RMSprop, 3, 7)                 \
  X(RMSpropMomentum, 4, 8)         \
  X(RMSpropCentered, 4, 7)         \
  X(RMSpropCenteredMomentum, 5, 8) \
  X(Adagrad, 3, 5)                 \
  X(Adadelta, 4, 7)                \
  X(ASGD, 3, 5)                    \
  X(Rprop, 4, 10)

inline constexpr int kMaxArrays = 5, kMaxCoefs = 10;

// Runs a formula over n elements of each array.
using UpdateLoop = void (*)(void* const* data, const double* coefs, int64_t n);

enum class Formula : int {
#define TG_X(name, arrays, coefs) name,
  TG_FORMULAS(TG_X)
#undef TG_X
      Count
};

namespace {

// The functions scalar_math.h lacks.
template <class T>
TG_SM T above(T a, T b) {
  return T(a > b);
}
template <class T>
TG_SM T pick(T condition, T a, T b) {
  return condition != T(0) ? a : b;
}

template <class T>
TG_SM T mean_of(T old, T now, T weight) {
  return old + weight * (now - old);
}
template <class T>
TG_SM T descent(const T* x, const T* c) {
  return c[0] * x[1] + c[1] * x[0];
}

template <class T>
TG_SM void update_Sgd(T* x, const T* c) {
  x[0] = x[0] - c[3] * descent(x, c);
}

// x: momentum_buffer. c: 4 momentum, 5 share of the gradient in the buffer, 6 and 7 shares of both in the step
template <class T>
TG_SM void update_SgdMomentum(T* x, const T* c) {
  T g = descent(x, c);
  x[2] = c[4] * x[2] + c[5] * g;
  x[0] = x[0] - c[3] * (c[6] * g + c[7] * x[2]);
}

// The means of the gradient and of its square. c: 4 1 - beta1, 5 beta2, 6 1 - beta2
template <class T>
TG_SM T adam_means(T* x, const T* c) {
  T g = descent(x, c);
  x[2] = mean_of(x[2], g, c[4]);
  x[3] = c[5] * x[3] + c[6] * (g * g);
  return g;
}

// x: exp_avg, exp_avg_sq. c: 7 correction of the root, 8 eps
template <class T>
TG_SM void update_Adam(T* x, const T* c) {
  using sm::sqrt;
  adam_means(x, c);
  x[0] = c[2] * x[0] - c[3] * (x[2] / (sqrt(x[3]) * c[7] + c[8]));
}

// As Adam, with the largest exp_avg_sq so far (amsgrad).
template <class T>
TG_SM void update_AdamLargest(T* x, const T* c) {
  using sm::max_nan, sm::sqrt;
  adam_means(x, c);
  x[4] = max_nan(x[4], x[3]);
  x[0] = c[2] * x[0] - c[3] * (x[2] / (sqrt(x[4]) * c[7] + c[8]));
}

// The means of Adam, but a step along the first alone (RAdam's first steps).
template <class T>
TG_SM void update_AdamMean(T* x, const T* c) {
  adam_means(x, c);
  x[0] = c[2] * x[0] - c[3] * x[2];
}

// x: exp_avg, exp_inf. c: 4 1 - beta1, 5 beta2, 6 eps
template <class T>
TG_SM void update_Adamax(T* x, const T* c) {
  using sm::abs, sm::max_nan;
  T g = descent(x, c);
  x[2] = mean_of(x[2], g, c[4]);
  x[3] = max_nan(c[5] * x[3], abs(g) + c[6]);
  x[0] = x[0] - c[3] * (x[2] / x[3]);
}

// As Adam; c: 3 rate of the gradient, 9 rate of its mean
template <class T>
TG_SM void update_NAdam(T* x, const T* c) {
  using sm::sqrt;
  T g = adam_means(x, c), scale = sqrt(x[3]) * c[7] + c[8];
  x[0] = c[2] * x[0] - (c[3] * g + c[9] * x[2]) / scale;
}

// Root of the mean square, less the squared mean if that is kept. c: 4 alpha, 5 1 - alpha, 6 eps
template <class T>
TG_SM T rms(T g, T& square, const T* c) {
  using sm::sqrt;
  square = c[4] * square + c[5] * (g * g);
  return sqrt(square) + c[6];
}
template <class T>
TG_SM T centered_rms(T g, T& square, T& mean, const T* c) {
  using sm::sqrt;
  square = c[4] * square + c[5] * (g * g);
  mean = mean_of(mean, g, c[5]);
  return sqrt(square - mean * mean) + c[6];
}

// x: square_avg. The variants: grad_avg, then momentum_buffer; c: 7 momentum
template <class T>
TG_SM void update_RMSprop(T* x, const T* c) {
  T g = descent(x, c);
  x[0] = x[0] - c[3] * (g / rms(g, x[2], c));
}
template <class T>
TG_SM void update_RMSpropMomentum(T* x, const T* c) {
  T g = descent(x, c);
  x[3] = c[7] * x[3] + g / rms(g, x[2], c);
  x[0] = x[0] - c[3] * x[3];
}
template <class T>
TG_SM void update_RMSpropCentered(T* x, const T* c) {
  T g = descent(x, c);
  x[0] = x[0] - c[3] * (g / centered_rms(g, x[2], x[3], c));
}
template <class T>
TG_SM void update_RMSpropCenteredMomentum(T* x, const T* c) {
  T g = descent(x, c);
  x[4] = c[7] * x[4] + g / centered_rms(g, x[2], x[3], c);
  x[0] = x[0] - c[3] * x[4];
}

// x: sum. c: 4 eps
template <class T>
TG_SM void update_Adagrad(T* x, const T* c) {
  using sm::sqrt;
  T g = descent(x, c);
  x[2] = x[2] + g * g;
  x[0] = x[0] - c[3] * (g / (sqrt(x[2]) + c[4]));
}

// x: square_avg, acc_delta. c: 4 rho, 5 1 - rho, 6 eps
template <class T>
TG_SM void update_Adadelta(T* x, const T* c) {
  using sm::sqrt;
  T g = descent(x, c);
  x[2] = c[4] * x[2] + c[5] * (g * g);
  T delta = sqrt(x[3] + c[6]) / sqrt(x[2] + c[6]) * g;
  x[3] = c[4] * x[3] + c[5] * (delta * delta);
  x[0] = x[0] - c[3] * delta;
}

// x: ax, the average of the parameter. c: 4 weight of the newest
template <class T>
TG_SM void update_ASGD(T* x, const T* c) {
  x[0] = c[2] * x[0] - c[3] * descent(x, c);
  x[2] = mean_of(x[2], x[0], c[4]);
}

// x: prev, step_size. c: 4 0, 5 1, 6 and 7 factors of the step where the sign changed and where it stayed, 8 and 9
// bounds of the step
template <class T>
TG_SM void update_Rprop(T* x, const T* c) {
  using sm::max_nan, sm::min_nan, sm::sign;
  T g = c[0] * x[1], same = g * x[2];
  T stays = above(same, c[4]), turns = above(c[4], same);
  x[3] = min_nan(max_nan(x[3] * pick(stays, c[7], pick(turns, c[6], c[5])), c[8]), c[9]);
  x[2] = pick(turns, c[4], g);
  x[0] = x[0] - sign(x[2]) * x[3];
}

}  // namespace
}  // namespace tg::optim
