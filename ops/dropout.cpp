// Dropout and its relatives: a mask from the counter-based generator, then one multiplication.
#include "ops/fast_path.h"

namespace tg {

Tensor keep_mask(const RandomPlace& place, IntList size, double p, Device device) {
  Tensor mask = empty_tensor(size, DType::Bool, device);
  Program prog = make_program(DType::F32, 0, {p}, {{Opc::RandUniform, {}}, {Opc::ge, {1, 0}}});
  static_cast<RandomPlace&>(prog) = place;
  Views out;
  out.push_back(View(mask));
  if (mask.numel() > 0) backend(device).map(prog, {}, out);
  return mask;
}

namespace {

// input * mask * scale in one pass.
Tensor masked_scale_primitive(const Tensor& x, const Tensor& mask, double scale) {
  Dims shape = broadcast_shapes("masked_scale", x.sizes(), mask.sizes());
  Tensor y = empty_tensor(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  Views ins, outs;
  ins.push_back(broadcast_to_view(x, shape));
  ins.push_back(broadcast_to_view(mask, shape));
  outs.push_back(View(y));
  backend(x.device())
      .map(make_program(compute_type(x.dtype()), 2, {scale}, {{Opc::mul, {1, 2}}, {Opc::mul, {0, 3}}}), ins, outs);
  return y;
}

void check_dropout(const char* op, const Tensor& x, double p) {
  TG_CHECK(p >= 0 && p <= 1, ValueError, op, ": p must lie in [0, 1], got ", p);
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
}

Tensor finish(const Tensor& x, const Tensor& y, bool inplace) { return inplace ? copy_(x, y) : y; }

// Drops blocks: `mask_sizes` has 1 where a whole axis shares its fate.
Tensor drop(const Tensor& x, const Dims& mask_sizes, double p, bool training, bool inplace) {
  if (!training || p == 0) return x;
  if (p == 1) return finish(x, x * 0.0, inplace);
  return finish(x, masked_scale(x, dropout_mask(mask_sizes, p, x.device()), 1.0 / (1.0 - p)), inplace);
}

Tensor dropout_body(const Tensor& x, double p, bool training, bool inplace) {
  check_dropout("dropout", x, p);
  return drop(x, x.sizes(), p, training, inplace);
}

// One decision per channel; the first `kept` axes are those of the channels and of the batch, if there is one.
Tensor drop_channels(const Tensor& x, int kept, double p, bool training, bool inplace) {
  Dims m = x.sizes();
  for (int d = kept; d < x.ndim(); ++d) m[d] = 1;
  return drop(x, m, p, training, inplace);
}
// (N, C, ...) or, without a batch, (C, ...).
Tensor drop_channels(const char* op, const Tensor& x, int spatial, double p, bool training, bool inplace) {
  check_dropout(op, x, p);
  TG_CHECK(x.ndim() == spatial + 1 || x.ndim() == spatial + 2, ShapeError, op, ": expected ", spatial + 1, " or ",
           spatial + 2, " dimensions, input=", describe(x));
  return drop_channels(x, x.ndim() - spatial, p, training, inplace);
}
Tensor dropout1d_body(const Tensor& x, double p, bool training, bool inplace) {
  return drop_channels("dropout1d", x, 1, p, training, inplace);
}
Tensor dropout2d_body(const Tensor& x, double p, bool training, bool inplace) {
  check_dropout("dropout2d", x, p);
  TG_CHECK(x.ndim() >= 2, ShapeError, "dropout2d: expected at least 2 dimensions, input=", describe(x));
  return drop_channels(x, 2, p, training, inplace);
}
Tensor dropout3d_body(const Tensor& x, double p, bool training, bool inplace) {
  return drop_channels("dropout3d", x, 3, p, training, inplace);
}

// Dropped values become SELU's negative limit; the affine map restores mean 0 and variance 1.
Tensor alpha_drop(const Tensor& x, const Dims& mask_sizes, double p, bool training, bool inplace) {
  if (!training || p == 0) return x;
  if (p == 1) return finish(x, x * 0.0, inplace);
  constexpr double kLimit = -1.7580993408473766;  // -alpha * scale of SELU
  double a = 1.0 / std::sqrt((1.0 - p) * (1.0 + p * kLimit * kLimit));
  Tensor kept = dropout_mask(mask_sizes, p, x.device());
  Tensor fill = where(kept, 0.0, a * kLimit) + (-a * kLimit * p);
  return finish(x, masked_scale(x, kept, a) + narrow_to(fill, x.dtype()), inplace);
}
Tensor alpha_dropout_body(const Tensor& x, double p, bool training, bool inplace) {
  check_dropout("alpha_dropout", x, p);
  return alpha_drop(x, x.sizes(), p, training, inplace);
}
Tensor feature_alpha_dropout_body(const Tensor& x, double p, bool training, bool inplace) {
  check_dropout("feature_alpha_dropout", x, p);
  TG_CHECK(x.ndim() >= 2, ShapeError, "feature_alpha_dropout: expected at least 2 dimensions, input=", describe(x));
  Dims m = x.sizes();
  for (int d = 2; d < x.ndim(); ++d) m[d] = 1;
  return alpha_drop(x, m, p, training, inplace);
}

TG_OP("dropout_mask(int[] size, float p, device? device=None, *, Generator? generator=None) -> Tensor",
      .doc = "Bool tensor, False with probability p.",
      .primitive = box<+[](IntList size, double p, std::optional<Device> d, Generator* g) {
        const Device device = d.value_or(Device{});
        return keep_mask(place_draw(g, device), size, p, device);
      }>,
      .flags = kHidden | kNoGrad | kRandom, .torch = "none", .samples = "[3,4], 0.5; [0], 0.1; [], 0.3",
      .notes = "random");
TG_OP("masked_scale(Tensor input, Tensor mask, float scale) -> Tensor", .doc = "input * mask * scale.",
      .primitive = box<masked_scale_primitive>,
      .grads = {{in(1), [](GradCtx& c) { return masked_scale(c.g(), c.x(1), c.arg<double>(2)); }}, {}},
      .flags = kHidden, .torch = "none", .samples = "T(3,4), B(3,4), 2.0; T(3,4), B(3,1), 2.0; T(0,2), B(0,2), 2.0");
TG_OP("dropout(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> Tensor",
      .doc = "When training, zeroes each element with probability p and scales the rest by 1 / (1 - p).",
      .composite = box<dropout_body>, .flags = kAlsoNN | kRandom, .torch = "nn.functional.dropout",
      .samples = "T(3,4); T(3,4), 0.0; T(3,4), p=1.0; T(3,4), 0.3, False; T(0,4), 0.3", .notes = "random");
TG_OP("dropout1d(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> Tensor",
      .doc = "Dropout of whole channels of (N, C, L) or (C, L).", .composite = box<dropout1d_body>,
      .flags = kNN | kRandom, .samples = "T(2,3,4); T(3,4), 0.3; T(2,3,4), p=0.0", .notes = "random");
TG_OP("dropout2d(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> Tensor",
      .doc = "Dropout of whole channels of (N, C, H, W), (N, C, L) or (N, C).", .composite = box<dropout2d_body>,
      .flags = kNN | kRandom, .samples = "T(2,3,4,5); T(3,4,5), 0.3; T(2,3,4,5), training=False", .notes = "random");
TG_OP("dropout3d(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> Tensor",
      .doc = "Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W).", .composite = box<dropout3d_body>,
      .flags = kNN | kRandom, .samples = "T(2,3,2,2,2); T(3,2,2,2), 0.3", .notes = "random");
TG_OP("alpha_dropout(Tensor input, float p=0.5, bool training=False, bool inplace=False) -> Tensor",
      .doc = "Dropout that keeps the mean and variance of SELU's outputs.", .composite = box<alpha_dropout_body>,
      .flags = kAlsoNN | kRandom, .torch = "nn.functional.alpha_dropout",
      .samples = "T(3,4); T(3,4), 0.3, True; T(3,4), p=1.0, training=True", .notes = "random");
TG_OP("feature_alpha_dropout(Tensor input, float p=0.5, bool training=False, bool inplace=False) -> Tensor",
      .doc = "Alpha dropout of whole channels.", .composite = box<feature_alpha_dropout_body>,
      .flags = kAlsoNN | kRandom, .torch = "nn.functional.feature_alpha_dropout",
      .samples = "T(2,3,4); T(2,3,4), 0.3, True", .notes = "random");

}  // namespace
}  // namespace tg
