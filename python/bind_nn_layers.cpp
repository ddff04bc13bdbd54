// Layers with parameters and attention as Python classes.
#include "python/bind_nn.h"

namespace tg::python {

nn::Ints ints(py::handle h) {
  std::vector<int64_t> v;
  TG_CHECK(to_ints(h.ptr(), v), TypeError, "expected an integer or a sequence of integers, not ",
           Py_TYPE(h.ptr())->tp_name);
  nn::Ints r;
  r.assign(v.begin(), v.end());
  return r;
}

namespace {

using namespace py::literals;
using OptInt = std::optional<int64_t>;
using OptFloat = std::optional<double>;

void bind_linear(py::module_& m) {
  auto linear = module_class<nn::LinearImpl>(m, "Linear", "x times the transpose of weight (out, in), plus bias.");
  linear
      .def(py::init([](int64_t in, int64_t out, bool bias, std::optional<Device> device, std::optional<DType> dtype) {
             return std::make_unique<Tramp<nn::LinearImpl>>(in, out, bias, Where{device, dtype}.options());
           }),
           "in_features"_a, "out_features"_a, "bias"_a = true, "device"_a = py::none(), "dtype"_a = py::none())
      .def("reset_parameters", &nn::LinearImpl::reset_parameters);
  settings(linear, "in_features", &nn::LinearImpl::in_features, "out_features", &nn::LinearImpl::out_features);

  using B = nn::BilinearImpl;
  auto bilinear = module_class<B>(m, "Bilinear", "x1^T weight x2 + bias for each output.");
  bilinear
      .def(py::init([](int64_t a, int64_t b, int64_t out, bool bias, std::optional<Device> device,
                       std::optional<DType> dtype) {
             return std::make_unique<Tramp<B>>(a, b, out, bias, Where{device, dtype}.options());
           }),
           "in1_features"_a, "in2_features"_a, "out_features"_a, "bias"_a = true, "device"_a = py::none(),
           "dtype"_a = py::none())
      .def("reset_parameters", &B::reset_parameters);
  settings(bilinear, "in1_features", &B::in1_features, "in2_features", &B::in2_features, "out_features",
           &B::out_features);

  auto identity = module_class<nn::IdentityImpl>(m, "Identity", "Gives its input back.");
  identity.def(
      py::init([](const py::args&, const py::kwargs&) { return std::make_unique<Tramp<nn::IdentityImpl>>(); }));
  identity.def("forward", [](py::object, py::object input) { return input; });
  mark_native(identity, "forward");

  using P = nn::PReLUImpl;
  auto prelu = module_class<P>(m, "PReLU", "x where positive, weight * x elsewhere.");
  prelu.def(py::init([](int64_t n, double init, std::optional<Device> device, std::optional<DType> dtype) {
              return std::make_unique<Tramp<P>>(n, init, Where{device, dtype}.options());
            }),
            "num_parameters"_a = 1, "init"_a = 0.25, "device"_a = py::none(), "dtype"_a = py::none());
  settings(prelu, "num_parameters", &P::num_parameters, "init", &P::init);

  using E = nn::EmbeddingImpl;
  auto embedding = module_class<E>(m, "Embedding", "Rows of weight by index.");
  embedding
      .def(py::init([](int64_t n, int64_t dim, OptInt padding_idx, OptFloat max_norm, double norm_type, bool scale,
                       bool sparse, const Tensor& weight, bool freeze, std::optional<Device> device,
                       std::optional<DType> dtype) {
             auto e = std::make_unique<Tramp<E>>(n, dim, padding_idx, Where{device, dtype}.options());
             e->max_norm = max_norm;
             e->norm_type = norm_type;
             e->scale_grad_by_freq = scale;
             e->sparse = sparse;
             if (weight.defined()) {
               TG_CHECK(weight.sizes() == e->weight.sizes(), ShapeError, "Embedding: _weight must be of size ",
                        e->weight.sizes(), "; _weight=", describe(weight));
               e->weight = nn::Parameter(weight, !freeze);
             }
             return e;
           }),
           "num_embeddings"_a, "embedding_dim"_a, "padding_idx"_a = py::none(), "max_norm"_a = py::none(),
           "norm_type"_a = 2.0, "scale_grad_by_freq"_a = false, "sparse"_a = false, "_weight"_a = Tensor(),
           "_freeze"_a = false, "device"_a = py::none(), "dtype"_a = py::none())
      .def("reset_parameters", &E::reset_parameters);
  settings(embedding, "num_embeddings", &E::num_embeddings, "embedding_dim", &E::embedding_dim, "padding_idx",
           &E::padding_idx, "max_norm", &E::max_norm, "norm_type", &E::norm_type, "scale_grad_by_freq",
           &E::scale_grad_by_freq, "sparse", &E::sparse);
}

void bind_conv(py::module_& m) {
  using V = nn::ConvImpl;
  auto conv = module_class<V>(m, "_ConvNd", "Convolutions of 1 to 3 dimensions and their transposes.");
  conv.def(py::init([](int nd, bool transposed, int64_t in, int64_t out, py::object kernel, py::object stride,
                       py::object padding, py::object dilation, int64_t groups, bool bias, const std::string& mode,
                       py::object output_padding, std::optional<Device> device, std::optional<DType> dtype) {
             nn::ConvOptions o;
             o.stride = ints(stride);
             if (py::isinstance<py::str>(padding))
               o.padding_name = padding.cast<std::string>();
             else
               o.padding = ints(padding);
             o.dilation = ints(dilation);
             o.output_padding = ints(output_padding);
             o.groups = groups;
             o.bias = bias;
             o.padding_mode = mode;
             o.tensors = Where{device, dtype}.options();
             return std::make_unique<Tramp<V>>(nd, transposed, in, out, ints(kernel), o);
           }),
           "nd"_a, "transposed"_a, "in_channels"_a, "out_channels"_a, "kernel_size"_a, "stride"_a = 1, "padding"_a = 0,
           "dilation"_a = 1, "groups"_a = 1, "bias"_a = true, "padding_mode"_a = "zeros", "output_padding"_a = 0,
           "device"_a = py::none(), "dtype"_a = py::none());
  conv.def("reset_parameters", &V::reset_parameters)
      .def("_run",
           [](V& c, const Tensor& x, py::object size) { return c.run(x, size.is_none() ? nn::Ints{} : ints(size)); })
      .def_property(
          "padding",
          [](const V& c) -> py::object {
            return c.padding_name.empty() ? py::object(py::tuple(py::cast(c.padding))) : py::str(c.padding_name);
          },
          [](V& c, py::object v) {
            c.padding_name = py::isinstance<py::str>(v) ? v.cast<std::string>() : "";
            c.padding = c.padding_name.empty() ? std::vector<int64_t>(ints(v)) : std::vector<int64_t>(size_t(c.nd), 0);
          });
  settings(conv, "_nd", &V::nd, "transposed", &V::transposed, "in_channels", &V::in_channels, "out_channels",
           &V::out_channels, "groups", &V::groups, "padding_mode", &V::padding_mode);
  carry_over(conv, "padding");
  settings(conv, "kernel_size", &V::kernel_size, "stride", &V::stride, "dilation", &V::dilation, "output_padding",
           &V::output_padding);
}

void bind_norm(py::module_& m) {
  using L = nn::LayerNormImpl;
  auto layer = module_class<L>(m, "LayerNorm", "Normalises over the trailing dimensions.");
  layer
      .def(py::init([](py::object shape, double eps, bool affine, bool bias, std::optional<Device> device,
                       std::optional<DType> dtype) {
             return std::make_unique<Tramp<L>>(ints(shape), eps, affine, bias, Where{device, dtype}.options());
           }),
           "normalized_shape"_a, "eps"_a = 1e-5, "elementwise_affine"_a = true, "bias"_a = true,
           "device"_a = py::none(), "dtype"_a = py::none())
      .def("reset_parameters", &L::reset_parameters);
  settings(layer, "normalized_shape", &L::normalized_shape, "eps", &L::eps, "elementwise_affine",
           &L::elementwise_affine);

  using R = nn::RMSNormImpl;
  auto rms = module_class<R>(m, "RMSNorm", "Divides by the root mean square over the trailing dimensions.");
  rms.def(py::init([](py::object shape, OptFloat eps, bool affine, std::optional<Device> device,
                      std::optional<DType> dtype) {
            return std::make_unique<Tramp<R>>(ints(shape), eps, affine, Where{device, dtype}.options());
          }),
          "normalized_shape"_a, "eps"_a = py::none(), "elementwise_affine"_a = true, "device"_a = py::none(),
          "dtype"_a = py::none())
      .def("reset_parameters", &R::reset_parameters);
  settings(rms, "normalized_shape", &R::normalized_shape, "eps", &R::eps, "elementwise_affine", &R::elementwise_affine);

  using G = nn::GroupNormImpl;
  auto group = module_class<G>(m, "GroupNorm", "Normalises groups of channels of each sample.");
  group
      .def(py::init([](int64_t groups, int64_t channels, double eps, bool affine, std::optional<Device> device,
                       std::optional<DType> dtype, bool bias) {
             return std::make_unique<Tramp<G>>(groups, channels, eps, affine, bias, Where{device, dtype}.options());
           }),
           "num_groups"_a, "num_channels"_a, "eps"_a = 1e-5, "affine"_a = true, "device"_a = py::none(),
           "dtype"_a = py::none(), py::kw_only(), "bias"_a = true)
      .def("reset_parameters", &G::reset_parameters);
  settings(group, "num_groups", &G::num_groups, "num_channels", &G::num_channels, "eps", &G::eps, "affine", &G::affine);

  using N = nn::BatchNormImpl;
  auto batch = module_class<N>(m, "_NormBase", "BatchNorm and InstanceNorm of 1 to 3 dimensions.");
  batch
      .def(py::init([](int nd, bool instance, int64_t features, double eps, OptFloat momentum, bool affine, bool track,
                       std::optional<Device> device, std::optional<DType> dtype, bool bias) {
             nn::NormOptions o{eps, momentum, affine, track, bias, Where{device, dtype}.options()};
             return std::make_unique<Tramp<N>>(nd, instance, features, o);
           }),
           "nd"_a, "instance"_a, "num_features"_a, "eps"_a, "momentum"_a, "affine"_a, "track_running_stats"_a,
           "device"_a, "dtype"_a, "bias"_a)
      .def("reset_parameters",
           [](N& n) {
             n.reset_running_stats();
             n.reset_parameters();
           })
      .def("reset_running_stats", &N::reset_running_stats);
  settings(batch, "_nd", &N::nd, "_instance", &N::instance, "num_features", &N::num_features, "eps", &N::eps,
           "momentum", &N::momentum, "affine", &N::affine, "track_running_stats", &N::track_running_stats);
}

void bind_attention(py::module_& m) {
  using A = nn::MultiheadAttentionImpl;
  auto attention = module_class<A>(m, "MultiheadAttention", "Attention with several heads and learned projections.");
  attention
      .def(py::init([](int64_t embed, int64_t heads, double dropout, bool bias, bool bias_kv, bool zero_attn,
                       OptInt kdim, OptInt vdim, bool batch_first, std::optional<Device> device,
                       std::optional<DType> dtype) {
             nn::AttentionOptions o{dropout, bias, bias_kv,     zero_attn,
                                    kdim,    vdim, batch_first, Where{device, dtype}.options()};
             auto a = std::make_unique<Tramp<A>>(embed, heads, o);
             // a child with a Python object of its own, so that hooks and attributes put on it stay
             Module& made = a->child("out_proj");
             auto linear = py::module_::import("tinygrad_cpp.nn.modules.linear");
             py::object proj = linear.attr("NonDynamicallyQuantizableLinear")(embed, embed, bias);
             proj.attr("weight") = made.tensor("weight");
             proj.attr("bias") = made.tensor("bias");
             a->register_module("out_proj", to_module(proj));
             return a;
           }),
           "embed_dim"_a, "num_heads"_a, "dropout"_a = 0.0, "bias"_a = true, "add_bias_kv"_a = false,
           "add_zero_attn"_a = false, "kdim"_a = py::none(), "vdim"_a = py::none(), "batch_first"_a = false,
           "device"_a = py::none(), "dtype"_a = py::none())
      .def(
          "forward",
          [](A& a, const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& key_padding_mask,
             bool need_weights, const Tensor& attn_mask, bool average, bool is_causal) {
            nn::AttentionCall c{key_padding_mask, need_weights, attn_mask, average, is_causal};
            return a.A::forward(query, key, value, c);
          },
          "query"_a, "key"_a, "value"_a, "key_padding_mask"_a = Tensor(), "need_weights"_a = true,
          "attn_mask"_a = Tensor(), "average_attn_weights"_a = true, "is_causal"_a = false)
      .def("_reset_parameters", &A::reset_parameters)
      .def_property_readonly("head_dim", [](const A& a) { return a.embed_dim / a.num_heads; });
  mark_native(attention, "forward");
  settings(attention, "embed_dim", &A::embed_dim, "num_heads", &A::num_heads, "kdim", &A::kdim, "vdim", &A::vdim,
           "dropout", &A::dropout, "batch_first", &A::batch_first, "add_zero_attn", &A::add_zero_attn);
}

}  // namespace

void bind_layers(py::module_& m) {
  bind_linear(m);
  bind_conv(m);
  bind_norm(m);
  bind_attention(m);
}

}  // namespace tg::python
