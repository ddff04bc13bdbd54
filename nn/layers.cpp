#include "nn/layers.h"

#include <cmath>

#include "nn/init.h"
#include "ops/ops.h"

namespace tg::nn {
namespace {

// An uninitialised parameter.
Tensor make(IntList sizes, const Options& o, const char* layer) {
  for (int64_t s : sizes) TG_CHECK(s >= 0, ValueError, layer, ": sizes can't be negative, got ", sizes);
  TG_CHECK(is_float(o.type()), DTypeError, layer, ": parameters must be of floating-point type, got ", o.type());
  return Parameter(empty_tensor(sizes, o.type(), o.device.value_or(Device())));
}
Tensor make_buffer(IntList sizes, DType dtype, const Options& o) {
  return empty_tensor(sizes, dtype, o.device.value_or(Device()));
}

void uniform_fan_in(const Tensor& t, int64_t fan_in) {
  double bound = fan_in > 0 ? 1 / std::sqrt(double(fan_in)) : 0;
  init::uniform_(t, -bound, bound);
}

void check_weight(const Tensor& w, const Module& m) {
  TG_CHECK(w.defined(), TypeError, "forward: ", m.type_name(), " has no weight");
}

const char* flag(bool b) { return b ? "True" : "False"; }

std::string tuple(const std::vector<int64_t>& v) {
  std::string s = "(";
  for (size_t i = 0; i < v.size(); ++i) s += (i ? ", " : "") + std::to_string(v[i]);
  return s + (v.size() == 1 ? ",)" : ")");
}

std::vector<int64_t> expand(const Ints& v, int64_t n, const char* what, const std::string& layer) {
  TG_CHECK(v.size() == 1 || int64_t(v.size()) == n, ValueError, layer, ": ", what, " must be one number or ", n,
           ", got ", v.size());
  return v.size() == 1 ? std::vector<int64_t>(size_t(n), v[0]) : std::vector<int64_t>(v);
}

bool all_equal(const std::vector<int64_t>& v, int64_t x) {
  return std::all_of(v.begin(), v.end(), [x](int64_t e) { return e == x; });
}

}  // namespace

// ---- linear

LinearImpl::LinearImpl(Blank) {
  declare("weight", weight);
  declare("bias", bias);
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias, const Options& o) : LinearImpl(Blank{}) {
  in_features = in;
  out_features = out;
  weight = make({out, in}, o, "Linear");
  if (with_bias) bias = make({out}, o, "Linear");
  reset_parameters();
}

void LinearImpl::reset_parameters() {
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (bias.defined()) uniform_fan_in(bias, in_features);
}

Tensor LinearImpl::forward(const Tensor& x) {
  check_weight(weight, *this);
  return linear(x, weight, bias);
}

std::string LinearImpl::extra_repr() const {
  return str("in_features=", in_features, ", out_features=", out_features, ", bias=", flag(bias.defined()));
}

BilinearImpl::BilinearImpl(Blank) {
  declare("weight", weight);
  declare("bias", bias);
}

BilinearImpl::BilinearImpl(int64_t in1, int64_t in2, int64_t out, bool with_bias, const Options& o)
    : BilinearImpl(Blank{}) {
  TG_CHECK(in1 > 0, ValueError, "Bilinear: in1_features must be positive, got ", in1);
  in1_features = in1;
  in2_features = in2;
  out_features = out;
  weight = make({out, in1, in2}, o, "Bilinear");
  if (with_bias) bias = make({out}, o, "Bilinear");
  reset_parameters();
}

void BilinearImpl::reset_parameters() {
  uniform_fan_in(weight, in1_features);
  if (bias.defined()) uniform_fan_in(bias, in1_features);
}

Tensor BilinearImpl::forward(const Tensor& a, const Tensor& b) {
  check_weight(weight, *this);
  return bilinear(a, b, weight, bias);
}

void BilinearImpl::forward_list(TensorList xs, Outputs& out) {
  TG_CHECK(xs.size() == 2, TypeError, "forward: Bilinear takes 2 tensors, got ", xs.size());
  out.push_back(forward(xs[0], xs[1]));
}

std::string BilinearImpl::extra_repr() const {
  return str("in1_features=", in1_features, ", in2_features=", in2_features, ", out_features=", out_features,
             ", bias=", flag(bias.defined()));
}

PReLUImpl::PReLUImpl(Blank) { declare("weight", weight); }

PReLUImpl::PReLUImpl(int64_t n, double value, const Options& o) : PReLUImpl(Blank{}) {
  num_parameters = n;
  init = value;
  weight = make({n}, o, "PReLU");
  nn::init::constant_(weight, value);
}

Tensor PReLUImpl::forward(const Tensor& x) {
  check_weight(weight, *this);
  return prelu(x, weight);
}

std::string PReLUImpl::extra_repr() const { return str("num_parameters=", num_parameters); }

EmbeddingImpl::EmbeddingImpl(Blank) { declare("weight", weight); }

EmbeddingImpl::EmbeddingImpl(int64_t n, int64_t dim, std::optional<int64_t> padding, const Options& o)
    : EmbeddingImpl(Blank{}) {
  num_embeddings = n;
  embedding_dim = dim;
  weight = make({n, dim}, o, "Embedding");
  if (padding) {
    TG_CHECK(*padding >= -n && *padding < n, ValueError, "Embedding: padding_idx must be within num_embeddings, ",
             *padding, " vs ", n);
    padding_idx = *padding < 0 ? *padding + n : *padding;
  }
  reset_parameters();
}

void EmbeddingImpl::reset_parameters() {
  init::normal_(weight);
  if (padding_idx)
    init::zeros_(make_view(weight, {embedding_dim}, {weight.stride(1)},
                           weight.storage_offset() + *padding_idx * weight.stride(0)));
}

Tensor EmbeddingImpl::forward(const Tensor& x) {
  check_weight(weight, *this);
  return embedding(x, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse);
}

std::string EmbeddingImpl::extra_repr() const {
  std::string s = str(num_embeddings, ", ", embedding_dim);
  if (padding_idx) s += str(", padding_idx=", *padding_idx);
  if (max_norm) s += ", max_norm=" + number_text(*max_norm);
  if (norm_type != 2) s += ", norm_type=" + number_text(norm_type);
  if (scale_grad_by_freq) s += ", scale_grad_by_freq=True";
  if (sparse) s += ", sparse=True";
  return s;
}

// ---- convolution

ConvImpl::ConvImpl(Blank) {
  declare("weight", weight);
  declare("bias", bias);
}

ConvImpl::ConvImpl(int dims, bool transpose, int64_t in, int64_t out, const Ints& kernel, const ConvOptions& o)
    : ConvImpl(Blank{}) {
  nd = dims;
  transposed = transpose;
  std::string layer = type_name();
  TG_CHECK(o.groups > 0, ValueError, layer, ": groups must be positive, got ", o.groups);
  TG_CHECK(in % o.groups == 0, ValueError, layer, ": in_channels (", in, ") must be divisible by groups (", o.groups,
           ")");
  TG_CHECK(out % o.groups == 0, ValueError, layer, ": out_channels (", out, ") must be divisible by groups (", o.groups,
           ")");
  bool known = o.padding_mode == "zeros" || o.padding_mode == "reflect" || o.padding_mode == "replicate" ||
               o.padding_mode == "circular";
  TG_CHECK(known, ValueError, layer, ": padding_mode must be zeros, reflect, replicate or circular, got '",
           o.padding_mode, "'");
  TG_CHECK(!transposed || o.padding_mode == "zeros", ValueError, layer, ": only padding_mode 'zeros' is supported");
  in_channels = in;
  out_channels = out;
  groups = o.groups;
  kernel_size = expand(kernel, nd, "kernel_size", layer);
  stride = expand(o.stride, nd, "stride", layer);
  padding = expand(o.padding, nd, "padding", layer);
  dilation = expand(o.dilation, nd, "dilation", layer);
  output_padding = expand(o.output_padding, nd, "output_padding", layer);
  padding_mode = o.padding_mode;
  padding_name = o.padding_name;
  TG_CHECK(padding_name.empty() || padding_name == "same" || padding_name == "valid", ValueError, layer,
           ": padding must be numbers, 'same' or 'valid', got '", padding_name, "'");
  TG_CHECK(padding_name != "same" || all_equal(stride, 1), ValueError, layer, ": padding='same' needs stride 1");
  std::vector<int64_t> sizes = {transposed ? in : out, (transposed ? out : in) / groups};
  sizes.insert(sizes.end(), kernel_size.begin(), kernel_size.end());
  weight = make(sizes, o.tensors, layer.c_str());
  if (o.bias) bias = make({out}, o.tensors, layer.c_str());
  reset_parameters();
}

void ConvImpl::reset_parameters() {
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (bias.defined()) uniform_fan_in(bias, init::fan_in_out(weight).first);
}

// Padding on both ends of each axis, last axis first, as pad() takes it.
std::vector<int64_t> ConvImpl::same_padding() const {
  std::vector<int64_t> pad;
  for (int64_t d = nd - 1; d >= 0; --d) {
    int64_t total = padding_name == "same"    ? dilation[size_t(d)] * (kernel_size[size_t(d)] - 1)
                    : padding_name == "valid" ? 0
                                              : 2 * padding[size_t(d)];
    pad.push_back(total / 2);
    pad.push_back(total - total / 2);
  }
  return pad;
}

// The input the convolution reads, and what is left for the op to pad with zeros.
Tensor ConvImpl::padded(const Tensor& x, std::vector<int64_t>& left) const {
  std::vector<int64_t> ends = same_padding();
  bool symmetric = true;
  left.assign(size_t(nd), 0);
  for (int64_t d = 0; d < nd; ++d) {
    left[size_t(nd - 1 - d)] = ends[size_t(2 * d)];
    symmetric &= ends[size_t(2 * d)] == ends[size_t(2 * d + 1)];
  }
  if (padding_mode == "zeros" && symmetric) return x;
  left.assign(size_t(nd), 0);
  return pad(x, ends, padding_mode == "zeros" ? "constant" : padding_mode);
}

Tensor ConvImpl::run(const Tensor& x, const Ints& output_size) {
  check_weight(weight, *this);
  TG_CHECK(x.defined(), TypeError, "forward: ", type_name(), " got an undefined tensor");
  TG_CHECK(x.ndim() == nd + 1 || x.ndim() == nd + 2, ShapeError, type_name(), ": expected ", nd + 1, " or ", nd + 2,
           " dimensions, got ", x.ndim(), "; input=", describe(x));
  if (!transposed) {
    TG_CHECK(output_size.empty(), TypeError, type_name(), ": output_size is for transposed convolutions");
    std::vector<int64_t> left;
    Tensor in = padded(x, left);
    switch (nd) {
      case 1:
        return conv1d(in, weight, bias, stride, left, dilation, groups);
      case 2:
        return conv2d(in, weight, bias, stride, left, dilation, groups);
      default:
        return conv3d(in, weight, bias, stride, left, dilation, groups);
    }
  }
  std::vector<int64_t> extra = output_padding;
  if (!output_size.empty()) {
    TG_CHECK(int64_t(output_size.size()) >= nd, ValueError, type_name(), ": output_size needs ", nd, " numbers");
    for (int64_t d = 0; d < nd; ++d) {
      size_t i = size_t(d);
      int64_t smallest =
          (x.size(x.ndim() - nd + d) - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel_size[i] - 1) + 1;
      extra[i] = output_size[output_size.size() - size_t(nd - d)] - smallest;
      TG_CHECK(extra[i] >= 0 && extra[i] < std::max(stride[i], dilation[i]), ValueError, type_name(), ": output_size ",
               smallest + extra[i], " in dimension ", d, " is not reachable; the smallest is ", smallest);
    }
  }
  switch (nd) {
    case 1:
      return conv_transpose1d(x, weight, bias, stride, padding, extra, groups, dilation);
    case 2:
      return conv_transpose2d(x, weight, bias, stride, padding, extra, groups, dilation);
    default:
      return conv_transpose3d(x, weight, bias, stride, padding, extra, groups, dilation);
  }
}

std::string ConvImpl::type_name() const { return str(transposed ? "ConvTranspose" : "Conv", nd, "d"); }

std::string ConvImpl::extra_repr() const {
  std::string s =
      str(in_channels, ", ", out_channels, ", kernel_size=", tuple(kernel_size), ", stride=", tuple(stride));
  if (!padding_name.empty())
    s += ", padding=" + padding_name;
  else if (!all_equal(padding, 0))
    s += ", padding=" + tuple(padding);
  if (!all_equal(dilation, 1)) s += ", dilation=" + tuple(dilation);
  if (!all_equal(output_padding, 0)) s += ", output_padding=" + tuple(output_padding);
  if (groups != 1) s += str(", groups=", groups);
  if (!bias.defined()) s += ", bias=False";
  if (padding_mode != "zeros") s += ", padding_mode=" + padding_mode;
  return s;
}

// ---- normalisation

LayerNormImpl::LayerNormImpl(Blank) {
  declare("weight", weight);
  declare("bias", bias);
}

LayerNormImpl::LayerNormImpl(const Ints& shape, double e, bool affine, bool with_bias, const Options& o)
    : LayerNormImpl(Blank{}) {
  normalized_shape = shape;
  eps = e;
  elementwise_affine = affine;
  if (affine) weight = make(normalized_shape, o, "LayerNorm");
  if (affine && with_bias) bias = make(normalized_shape, o, "LayerNorm");
  reset_parameters();
}

void LayerNormImpl::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}

Tensor LayerNormImpl::forward(const Tensor& x) { return layer_norm(x, normalized_shape, weight, bias, eps); }

std::string LayerNormImpl::extra_repr() const {
  return str(tuple(normalized_shape), ", eps=", number_text(eps), ", elementwise_affine=", flag(elementwise_affine),
             ", bias=", flag(bias.defined()));
}

RMSNormImpl::RMSNormImpl(Blank) { declare("weight", weight); }

RMSNormImpl::RMSNormImpl(const Ints& shape, std::optional<double> e, bool affine, const Options& o)
    : RMSNormImpl(Blank{}) {
  normalized_shape = shape;
  eps = e;
  elementwise_affine = affine;
  if (affine) weight = make(normalized_shape, o, "RMSNorm");
  reset_parameters();
}

void RMSNormImpl::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
}

Tensor RMSNormImpl::forward(const Tensor& x) { return rms_norm(x, normalized_shape, weight, eps); }

std::string RMSNormImpl::extra_repr() const {
  return str(tuple(normalized_shape), ", eps=", eps ? number_text(*eps) : "None",
             ", elementwise_affine=", flag(elementwise_affine));
}

GroupNormImpl::GroupNormImpl(Blank) {
  declare("weight", weight);
  declare("bias", bias);
}

GroupNormImpl::GroupNormImpl(int64_t num, int64_t channels, double e, bool with_affine, bool with_bias,
                             const Options& o)
    : GroupNormImpl(Blank{}) {
  TG_CHECK(num > 0 && channels % num == 0, ValueError, "GroupNorm: num_channels (", channels,
           ") must be divisible by num_groups (", num, ")");
  num_groups = num;
  num_channels = channels;
  eps = e;
  affine = with_affine;
  if (affine) weight = make({channels}, o, "GroupNorm");
  if (affine && with_bias) bias = make({channels}, o, "GroupNorm");
  reset_parameters();
}

void GroupNormImpl::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}

Tensor GroupNormImpl::forward(const Tensor& x) { return group_norm(x, num_groups, weight, bias, eps); }

std::string GroupNormImpl::extra_repr() const {
  return str(num_groups, ", ", num_channels, ", eps=", number_text(eps), ", affine=", flag(affine),
             ", bias=", flag(bias.defined()));
}

BatchNormImpl::BatchNormImpl(Blank) {
  declare("weight", weight);
  declare("bias", bias);
  declare("running_mean", running_mean, Kind::Buffer);
  declare("running_var", running_var, Kind::Buffer);
  declare("num_batches_tracked", num_batches_tracked, Kind::Buffer);
}

BatchNormImpl::BatchNormImpl(int dims, bool is_instance, int64_t features, const NormOptions& o)
    : BatchNormImpl(Blank{}) {
  nd = dims;
  instance = is_instance;
  num_features = features;
  eps = o.eps;
  momentum = o.momentum;
  affine = o.affine;
  track_running_stats = o.track_running_stats;
  std::string layer = type_name();
  if (affine) weight = make({features}, o.tensors, layer.c_str());
  if (affine && o.bias) bias = make({features}, o.tensors, layer.c_str());
  if (track_running_stats) {
    running_mean = make_buffer({features}, o.tensors.type(), o.tensors);
    running_var = make_buffer({features}, o.tensors.type(), o.tensors);
    num_batches_tracked = make_buffer({}, DType::I64, o.tensors);
  }
  reset_running_stats();
  reset_parameters();
}

void BatchNormImpl::reset_running_stats() {
  if (running_mean.defined()) init::zeros_(running_mean);
  if (running_var.defined()) init::ones_(running_var);
  if (num_batches_tracked.defined()) init::zeros_(num_batches_tracked);
}

void BatchNormImpl::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}

double BatchNormImpl::next_momentum() {
  if (!training || !track_running_stats || instance || !num_batches_tracked.defined()) return momentum.value_or(0);
  NoGrad guard;
  add_(num_batches_tracked, int64_t(1));
  return momentum ? *momentum : 1.0 / num_batches_tracked.item<double>();
}

Tensor BatchNormImpl::forward(const Tensor& x) {
  TG_CHECK(x.defined(), TypeError, "forward: ", type_name(), " got an undefined tensor");
  // without a batch axis only InstanceNorm works; BatchNorm1d takes (N, C) and (N, C, L)
  bool fits = x.ndim() == nd + 2 || (nd == 1 && !instance && x.ndim() == 2) || (instance && x.ndim() == nd + 1);
  TG_CHECK(fits, ValueError, type_name(), ": expected ", nd == 1 && !instance ? "2 or 3" : std::to_string(nd + 2),
           " dimensions, got ", x.ndim(), "; input=", describe(x));
  double m = next_momentum();
  bool use_batch = training || !running_mean.defined() || !running_var.defined();
  bool pass_stats = !training || track_running_stats;
  const Tensor& mean = pass_stats ? running_mean : undefined_tensor;
  const Tensor& var = pass_stats ? running_var : undefined_tensor;
  if (!instance) return batch_norm(x, mean, var, weight, bias, use_batch, m, eps);
  if (x.ndim() == nd + 2) return instance_norm(x, mean, var, weight, bias, use_batch, m, eps);
  return squeeze(instance_norm(unsqueeze(x, 0), mean, var, weight, bias, use_batch, m, eps), 0);
}

std::string BatchNormImpl::type_name() const { return str(instance ? "InstanceNorm" : "BatchNorm", nd, "d"); }

std::string BatchNormImpl::extra_repr() const {
  return str(num_features, ", eps=", number_text(eps), ", momentum=", momentum ? number_text(*momentum) : "None",
             ", affine=", flag(affine), ", bias=", flag(bias.defined()),
             ", track_running_stats=", flag(track_running_stats));
}

}  // namespace tg::nn
