// Initial values of parameters, filled in place without recording (torch.nn.init).
#pragma once
#include <optional>
#include <string_view>
#include <utility>

#include "core/tensor.h"

namespace tg::nn::init {

TG_API const Tensor& uniform_(const Tensor& t, double a = 0, double b = 1, Generator* generator = nullptr);
TG_API const Tensor& normal_(const Tensor& t, double mean = 0, double std = 1, Generator* generator = nullptr);
// Normal values outside of [a, b] are drawn again, in effect.
TG_API const Tensor& trunc_normal_(const Tensor& t, double mean = 0, double std = 1, double a = -2, double b = 2,
                                   Generator* generator = nullptr);
TG_API const Tensor& constant_(const Tensor& t, double value);
TG_API const Tensor& ones_(const Tensor& t);
TG_API const Tensor& zeros_(const Tensor& t);
// Identity matrix; 2-d tensors.
TG_API const Tensor& eye_(const Tensor& t);
// Convolution that passes its channels on; 3- to 5-d tensors.
TG_API const Tensor& dirac_(const Tensor& t, int64_t groups = 1);
TG_API const Tensor& xavier_uniform_(const Tensor& t, double gain = 1, Generator* generator = nullptr);
TG_API const Tensor& xavier_normal_(const Tensor& t, double gain = 1, Generator* generator = nullptr);
// mode: fan_in or fan_out; a: negative slope for leaky_relu.
TG_API const Tensor& kaiming_uniform_(const Tensor& t, double a = 0, std::string_view mode = "fan_in",
                                      std::string_view nonlinearity = "leaky_relu", Generator* generator = nullptr);
TG_API const Tensor& kaiming_normal_(const Tensor& t, double a = 0, std::string_view mode = "fan_in",
                                     std::string_view nonlinearity = "leaky_relu", Generator* generator = nullptr);
// Rows (or columns, if fewer) become orthonormal.
TG_API const Tensor& orthogonal_(const Tensor& t, double gain = 1, Generator* generator = nullptr);
// Normal values, of each column a fraction `sparsity` zero.
TG_API const Tensor& sparse_(const Tensor& t, double sparsity, double std = 0.01, Generator* generator = nullptr);
// The scale that keeps the variance through a nonlinearity.
TG_API double calculate_gain(std::string_view nonlinearity, std::optional<double> param = {});
// Number of inputs and outputs a weight connects; ShapeError for fewer than 2 dimensions.
TG_API std::pair<int64_t, int64_t> fan_in_out(const Tensor& t);

}  // namespace tg::nn::init
