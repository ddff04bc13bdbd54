// Layers with parameters. Names, shapes and initial values are PyTorch's.
#pragma once
#include "nn/module.h"

namespace tg::nn {

// Owned list of int64 that a single number stands for as well: kernel sizes, paddings.
class Ints : public std::vector<int64_t> {
 public:
  using std::vector<int64_t>::vector;
  Ints(int64_t v) : std::vector<int64_t>(1, v) {}
  Ints(int v) : Ints(int64_t(v)) {}
  Ints(std::initializer_list<int64_t> v) : std::vector<int64_t>(v) {}
};

// Where and in which type a layer's parameters are made.
struct Options {
  std::optional<DType> dtype = {};
  std::optional<Device> device = {};
  DType type() const { return dtype.value_or(default_dtype()); }
};

// ---- linear

class TG_API LinearImpl : public Module {
 public:
  explicit LinearImpl(Blank);
  LinearImpl(int64_t in_features, int64_t out_features, bool bias = true, const Options& o = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Linear"; }
  std::string extra_repr() const override;
  int64_t in_features = 0, out_features = 0;
  Tensor weight, bias;
};
using Linear = Handle<LinearImpl>;

class TG_API BilinearImpl : public Module {
 public:
  explicit BilinearImpl(Blank);
  BilinearImpl(int64_t in1_features, int64_t in2_features, int64_t out_features, bool bias = true,
               const Options& o = {});
  void reset_parameters();
  using Module::forward;
  Tensor forward(const Tensor& a, const Tensor& b);
  void forward_list(TensorList xs, Outputs& out) override;
  std::string type_name() const override { return "Bilinear"; }
  std::string extra_repr() const override;
  int64_t in1_features = 0, in2_features = 0, out_features = 0;
  Tensor weight, bias;
};
using Bilinear = Handle<BilinearImpl>;

// Passes its input on; takes and ignores any arguments, as PyTorch's.
class TG_API IdentityImpl : public Module {
 public:
  IdentityImpl() = default;
  explicit IdentityImpl(Blank) {}
  Tensor forward(const Tensor& x) override { return x; }
  std::string type_name() const override { return "Identity"; }
};
using Identity = Handle<IdentityImpl>;

class TG_API PReLUImpl : public Module {
 public:
  explicit PReLUImpl(Blank);
  explicit PReLUImpl(int64_t num_parameters = 1, double init = 0.25, const Options& o = {});
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "PReLU"; }
  std::string extra_repr() const override;
  int64_t num_parameters = 1;
  double init = 0.25;
  Tensor weight;
};
using PReLU = Handle<PReLUImpl>;

class TG_API EmbeddingImpl : public Module {
 public:
  explicit EmbeddingImpl(Blank);
  EmbeddingImpl(int64_t num_embeddings, int64_t embedding_dim, std::optional<int64_t> padding_idx = {},
                const Options& o = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Embedding"; }
  std::string extra_repr() const override;
  int64_t num_embeddings = 0, embedding_dim = 0;
  std::optional<int64_t> padding_idx;
  std::optional<double> max_norm;  // rows are scaled down to this norm before they are read
  double norm_type = 2;
  bool scale_grad_by_freq = false, sparse = false;
  Tensor weight;
};
using Embedding = Handle<EmbeddingImpl>;

// ---- convolution

struct ConvOptions {
  Ints stride = 1, padding = 0, dilation = 1;
  Ints output_padding = 0;  // transposed only
  int64_t groups = 1;
  bool bias = true;
  std::string padding_mode = "zeros";  // zeros, reflect, replicate, circular
  std::string padding_name = "";       // "same" or "valid" in place of numbers
  Options tensors = {};
};

// Convolutions of 1 to 3 dimensions and their transposes.
class TG_API ConvImpl : public Module {
 public:
  explicit ConvImpl(Blank);
  ConvImpl(int nd, bool transposed, int64_t in_channels, int64_t out_channels, const Ints& kernel_size,
           const ConvOptions& o = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override { return run(x, {}); }
  // Transposed only: the size the result shall have, among those the stride allows.
  Tensor run(const Tensor& x, const Ints& output_size);
  std::string type_name() const override;
  std::string extra_repr() const override;
  int64_t nd = 2;
  bool transposed = false;
  int64_t in_channels = 0, out_channels = 0, groups = 1;
  std::vector<int64_t> kernel_size, stride, padding, dilation, output_padding;
  std::string padding_mode = "zeros", padding_name;
  Tensor weight, bias;

 private:
  std::vector<int64_t> same_padding() const;
  Tensor padded(const Tensor& x, std::vector<int64_t>& pad) const;
};
#define TG_CONV(NAME, ND, TRANSPOSED)                                                                      \
  struct NAME : Handle<ConvImpl> {                                                                         \
    using Handle<ConvImpl>::Handle;                                                                        \
    NAME(int64_t in_channels, int64_t out_channels, const Ints& kernel_size, const ConvOptions& o = {})    \
        : Handle(std::make_shared<ConvImpl>(ND, TRANSPOSED, in_channels, out_channels, kernel_size, o)) {} \
  }
TG_CONV(Conv1d, 1, false);
TG_CONV(Conv2d, 2, false);
TG_CONV(Conv3d, 3, false);
TG_CONV(ConvTranspose1d, 1, true);
TG_CONV(ConvTranspose2d, 2, true);
TG_CONV(ConvTranspose3d, 3, true);
#undef TG_CONV

// ---- normalisation

class TG_API LayerNormImpl : public Module {
 public:
  explicit LayerNormImpl(Blank);
  LayerNormImpl(const Ints& normalized_shape, double eps = 1e-5, bool elementwise_affine = true, bool bias = true,
                const Options& o = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "LayerNorm"; }
  std::string extra_repr() const override;
  std::vector<int64_t> normalized_shape;
  double eps = 1e-5;
  bool elementwise_affine = true;
  Tensor weight, bias;
};
using LayerNorm = Handle<LayerNormImpl>;

class TG_API RMSNormImpl : public Module {
 public:
  explicit RMSNormImpl(Blank);
  RMSNormImpl(const Ints& normalized_shape, std::optional<double> eps = {}, bool elementwise_affine = true,
              const Options& o = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "RMSNorm"; }
  std::string extra_repr() const override;
  std::vector<int64_t> normalized_shape;
  std::optional<double> eps;
  bool elementwise_affine = true;
  Tensor weight;
};
using RMSNorm = Handle<RMSNormImpl>;

class TG_API GroupNormImpl : public Module {
 public:
  explicit GroupNormImpl(Blank);
  GroupNormImpl(int64_t num_groups, int64_t num_channels, double eps = 1e-5, bool affine = true, bool bias = true,
                const Options& o = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "GroupNorm"; }
  std::string extra_repr() const override;
  int64_t num_groups = 1, num_channels = 0;
  double eps = 1e-5;
  bool affine = true;
  Tensor weight, bias;
};
using GroupNorm = Handle<GroupNormImpl>;

struct NormOptions {
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;  // nullopt: cumulative average
  bool affine = true, track_running_stats = true;
  bool bias = true;  // with affine
  Options tensors = {};
};

// BatchNorm and InstanceNorm of 1 to 3 spatial dimensions.
class TG_API BatchNormImpl : public Module {
 public:
  explicit BatchNormImpl(Blank);
  BatchNormImpl(int nd, bool instance, int64_t num_features, const NormOptions& o = {});
  void reset_running_stats();
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override;
  std::string extra_repr() const override;
  int64_t nd = 2;
  bool instance = false;
  int64_t num_features = 0;
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;
  bool affine = true, track_running_stats = true;
  Tensor weight, bias, running_mean, running_var, num_batches_tracked;

 private:
  double next_momentum();
};
#define TG_NORM(NAME, ND, INSTANCE)                                                               \
  struct NAME : Handle<BatchNormImpl> {                                                           \
    using Handle<BatchNormImpl>::Handle;                                                          \
    explicit NAME(int64_t num_features,                                                           \
                  const NormOptions& o = {.affine = !INSTANCE, .track_running_stats = !INSTANCE}) \
        : Handle(std::make_shared<BatchNormImpl>(ND, INSTANCE, num_features, o)) {}               \
  }
TG_NORM(BatchNorm1d, 1, false);
TG_NORM(BatchNorm2d, 2, false);
TG_NORM(BatchNorm3d, 3, false);
TG_NORM(InstanceNorm1d, 1, true);
TG_NORM(InstanceNorm2d, 2, true);
TG_NORM(InstanceNorm3d, 3, true);
#undef TG_NORM

}  // namespace tg::nn
