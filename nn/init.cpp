#include "nn/init.h"

#include <cmath>
#include <numeric>

#include "ops/ops.h"

namespace tg::nn::init {
namespace {

double gain_std(const Tensor& t, double a, std::string_view mode, std::string_view nonlinearity, const char* op) {
  TG_CHECK(mode == "fan_in" || mode == "fan_out", ValueError, op, ": mode must be fan_in or fan_out, got '", mode, "'");
  auto [in, out] = fan_in_out(t);
  double gain = calculate_gain(nonlinearity, a);
  return gain / std::sqrt(double(std::max<int64_t>(1, mode == "fan_in" ? in : out)));
}

double xavier_std(const Tensor& t, double gain) {
  auto [in, out] = fan_in_out(t);
  return gain * std::sqrt(2.0 / double(std::max<int64_t>(1, in + out)));
}

// The values of a float64 matrix, to be worked on in place.
struct Matrix {
  Tensor t;
  int64_t rows, cols;
  double* row(int64_t i) { return t.data<double>() + i * cols; }
};

double dot(const double* a, const double* b, int64_t n) { return std::inner_product(a, a + n, b, 0.0); }

// Rows become orthonormal (Gram-Schmidt, twice for accuracy); rows <= cols.
void orthonormalise(Matrix& m) {
  for (int64_t i = 0; i < m.rows; ++i) {
    double* r = m.row(i);
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t j = 0; j < i; ++j) {
        double d = dot(r, m.row(j), m.cols);
        for (int64_t k = 0; k < m.cols; ++k) r[k] -= d * m.row(j)[k];
      }
    double norm = std::sqrt(dot(r, r, m.cols));
    for (int64_t k = 0; k < m.cols; ++k) r[k] /= norm;
  }
}

}  // namespace

const Tensor& uniform_(const Tensor& t, double a, double b, Generator* generator) {
  NoGrad guard;
  return tg::uniform_(t, a, b, generator);
}
const Tensor& normal_(const Tensor& t, double mean, double std, Generator* generator) {
  NoGrad guard;
  return tg::normal_(t, mean, std, generator);
}

const Tensor& trunc_normal_(const Tensor& t, double mean, double std, double a, double b, Generator* generator) {
  NoGrad guard;
  // the inverse of the distribution function, over the uniform values it has between the bounds
  auto cdf = [](double x) { return 0.5 * (1 + std::erf(x / std::sqrt(2.0))); };
  double low = cdf((a - mean) / std), high = cdf((b - mean) / std);
  tg::uniform_(t, 2 * low - 1, 2 * high - 1, generator);
  tg::erfinv_(t);
  tg::mul_(t, std * std::sqrt(2.0));
  tg::add_(t, mean);
  tg::clamp_min_(t, a);
  return tg::clamp_max_(t, b);
}

const Tensor& constant_(const Tensor& t, double value) {
  NoGrad guard;
  return tg::fill_(t, value);
}
const Tensor& ones_(const Tensor& t) { return constant_(t, 1); }
const Tensor& zeros_(const Tensor& t) { return constant_(t, 0); }

const Tensor& eye_(const Tensor& t) {
  TG_CHECK(t.ndim() == 2, ValueError, "eye_: expected 2 dimensions, got ", t.ndim(), "; tensor=", describe(t));
  NoGrad guard;
  zeros_(t);
  int64_t n = std::min(t.size(0), t.size(1));
  Tensor diagonal = make_view(t, {n}, {t.stride(0) + t.stride(1)}, t.storage_offset());
  tg::fill_(diagonal, 1.0);
  return t;
}

const Tensor& dirac_(const Tensor& t, int64_t groups) {
  TG_CHECK(t.defined() && t.ndim() >= 3 && t.ndim() <= 5, ValueError,
           "dirac_: expected 3 to 5 dimensions; tensor=", describe(t));
  TG_CHECK(groups > 0 && t.size(0) % groups == 0, ValueError, "dirac_: dimension 0 (", t.size(0),
           ") must be divisible by groups (", groups, "); tensor=", describe(t));
  NoGrad guard;
  zeros_(t);
  int64_t per_group = t.size(0) / groups, n = std::min(per_group, t.size(1));
  int64_t centre = t.storage_offset();
  for (int d = 2; d < t.ndim(); ++d) centre += t.size(d) / 2 * t.stride(d);
  if (t.numel() == 0) return t;
  Tensor diagonal = make_view(t, {groups, n}, {per_group * t.stride(0), t.stride(0) + t.stride(1)}, centre);
  tg::fill_(diagonal, 1.0);
  return t;
}

std::pair<int64_t, int64_t> fan_in_out(const Tensor& t) {
  TG_CHECK(t.defined() && t.ndim() >= 2, ValueError,
           "init: fan in and fan out need at least 2 dimensions; tensor=", describe(t));
  int64_t field = 1;
  for (int d = 2; d < t.ndim(); ++d) field *= t.size(d);
  return {t.size(1) * field, t.size(0) * field};
}

double calculate_gain(std::string_view nonlinearity, std::optional<double> param) {
  for (const char* linear :
       {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"})
    if (nonlinearity == linear) return 1;
  if (nonlinearity == "tanh") return 5.0 / 3;
  if (nonlinearity == "relu") return std::sqrt(2.0);
  if (nonlinearity == "selu") return 3.0 / 4;
  double slope = param.value_or(0.01);
  TG_CHECK(nonlinearity == "leaky_relu", ValueError, "calculate_gain: unsupported nonlinearity ", nonlinearity);
  return std::sqrt(2 / (1 + slope * slope));
}

const Tensor& xavier_uniform_(const Tensor& t, double gain, Generator* generator) {
  double a = std::sqrt(3.0) * xavier_std(t, gain);
  return init::uniform_(t, -a, a, generator);
}
const Tensor& xavier_normal_(const Tensor& t, double gain, Generator* generator) {
  return init::normal_(t, 0, xavier_std(t, gain), generator);
}
const Tensor& kaiming_uniform_(const Tensor& t, double a, std::string_view mode, std::string_view nonlinearity,
                               Generator* generator) {
  TG_CHECK(t.defined(), TypeError, "kaiming_uniform_: expected a tensor, got None");
  if (t.numel() == 0) return t;
  double bound = std::sqrt(3.0) * gain_std(t, a, mode, nonlinearity, "kaiming_uniform_");
  return init::uniform_(t, -bound, bound, generator);
}
const Tensor& kaiming_normal_(const Tensor& t, double a, std::string_view mode, std::string_view nonlinearity,
                              Generator* generator) {
  TG_CHECK(t.defined(), TypeError, "kaiming_normal_: expected a tensor, got None");
  if (t.numel() == 0) return t;
  return init::normal_(t, 0, gain_std(t, a, mode, nonlinearity, "kaiming_normal_"), generator);
}

const Tensor& orthogonal_(const Tensor& t, double gain, Generator* generator) {
  TG_CHECK(t.defined() && t.ndim() >= 2, ValueError,
           "orthogonal_: expected at least 2 dimensions; tensor=", describe(t));
  if (t.numel() == 0) return t;
  NoGrad guard;
  int64_t rows = t.size(0), cols = t.numel() / rows;
  bool tall = rows > cols;
  Matrix m{empty_tensor(tall ? Dims{cols, rows} : Dims{rows, cols}, DType::F64), std::min(rows, cols),
           std::max(rows, cols)};
  init::normal_(m.t, 0, 1, generator);
  orthonormalise(m);
  Tensor q = tall ? make_view(m.t, {rows, cols}, {1, rows}, 0) : m.t;
  tg::copy_(t, tg::mul(tg::reshape(q, t.sizes()), gain));
  return t;
}

const Tensor& sparse_(const Tensor& t, double sparsity, double std, Generator* generator) {
  TG_CHECK(t.ndim() == 2, ValueError, "sparse_: expected 2 dimensions, got ", t.ndim(), "; tensor=", describe(t));
  TG_CHECK(sparsity >= 0 && sparsity <= 1, ValueError, "sparse_: sparsity must be in [0, 1], got ", sparsity);
  NoGrad guard;
  init::normal_(t, 0, std, generator);
  // the smallest of each column's independent uniform keys are zeroed: a random choice of rows
  Tensor keys = empty_tensor(t.sizes(), DType::F64);
  init::uniform_(keys, 0, 1, generator);
  int64_t rows = t.size(0), zeros = int64_t(std::ceil(sparsity * double(rows)));
  Tensor rank = tg::argsort(tg::argsort(keys, 0), 0);
  tg::mul_(t, tg::to(tg::to(tg::ge(rank, zeros), t.dtype()), t.device()));
  return t;
}

}  // namespace tg::nn::init
