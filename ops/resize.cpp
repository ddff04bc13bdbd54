// Resampling of images and sequences, and moving channels into space.
#include <cmath>

#include "ops/copy_view.h"
#include "ops/fast_path.h"
#include "ops/index.h"
#include "ops/position_table.h"
#include "ops/windows.h"

namespace tg {
namespace {

// y[i] = sum over t of weight[t][i] x[index[t][i]] along one axis; without weights the only tap's element.
struct Taps {
  std::vector<Tensor> index, weight;
};

// Source coordinate of output element i.
struct Mapping {
  int64_t in, out;
  double scale;  // input elements per output element
  bool align_corners;
  // It is (i + half) * scale - half.
  double half() const { return align_corners ? 0.0 : 0.5; }
};

// The registers of `p`, which counts output elements, that `at` names: as positions and as numbers of x's type.
Taps taps_of(Program p, const Mapping& m, const Tensor& x, std::initializer_list<uint8_t> at,
             std::initializer_list<uint8_t> weights) {
  Taps t;
  Views outs;
  p.outs = {};
  auto add = [&](std::vector<Tensor>& to, uint8_t r, DType dtype) {
    to.push_back(empty_tensor({m.out}, dtype, x.device()));
    outs.push_back(View(to.back()));
    p.outs.push_back(r);
  };
  for (uint8_t r : at) add(t.index, r, DType::I64);
  for (uint8_t r : weights) add(t.weight, r, x.dtype());
  backend(x.device()).map(p, {}, outs);
  return t;
}

Taps nearest_taps(const Mapping& m, bool exact, const Tensor& x) {
  return taps_of(make_program(DType::F64, 0, {exact ? 0.5 : 0.0, m.scale, 0.0, double(m.in - 1)},
                              {{Opc::Index},            // 4
                               {Opc::add, {4, 0}},      // 5
                               {Opc::mul, {5, 1}},      // 6
                               {Opc::floor, {6}},       // 7
                               {Opc::maximum, {7, 2}},  // 8
                               {Opc::minimum, {8, 3}}}),
                 m, x, {9}, {});
}

Taps linear_taps(const Mapping& m, const Tensor& x) {
  return taps_of(make_program(DType::F64, 0, {m.half(), m.scale, 0.0, double(m.in - 1), 1.0},
                              {{Opc::Index},             // 5
                               {Opc::add, {5, 0}},       // 6
                               {Opc::mul, {6, 1}},       // 7
                               {Opc::sub, {7, 0}},       // 8
                               {Opc::maximum, {8, 2}},   // 9
                               {Opc::minimum, {9, 3}},   // 10: where it lies
                               {Opc::floor, {10}},       // 11: the element before
                               {Opc::add, {11, 4}},      // 12
                               {Opc::minimum, {12, 3}},  // 13: the one after
                               {Opc::sub, {10, 11}},     // 14: weight of the latter
                               {Opc::sub, {4, 14}}}),    // 15
                 m, x, {11, 13}, {15, 14});
}

// Keys' cubic convolution with a = -0.75.
Taps cubic_taps(const Mapping& m, const Tensor& x) {
  constexpr double a = -0.75;
  const Scalar numbers[] = {m.half(), m.scale, 0.0, double(m.in - 1), 1.0, 2.0, a, a + 2, a + 3, 5 * a, 8 * a, 4 * a};
  enum : uint8_t { kHalf, kScale, kZero, kLast, kOne, kTwo, kA, kA2, kA3, k5A, k8A, k4A };
  ProgramWriter w(DType::F64, 0, numbers);
  const uint8_t at = w(Opc::sub, w(Opc::mul, w(Opc::add, w(Opc::Index), kHalf), kScale), kHalf);
  const uint8_t base = w(Opc::floor, at), f = w(Opc::sub, at, base), less = w(Opc::sub, kOne, f);
  // ((a + 2) d - (a + 3)) d d + 1 within one element, ((a d - 5 a) d + 8 a) d - 4 a beyond
  auto near = [&](uint8_t d) {
    const uint8_t slope = w(Opc::sub, w(Opc::mul, kA2, d), kA3);
    return w(Opc::add, w(Opc::mul, w(Opc::mul, slope, d), d), kOne);
  };
  auto far = [&](uint8_t d) {
    const uint8_t slope = w(Opc::add, w(Opc::mul, w(Opc::sub, w(Opc::mul, kA, d), k5A), d), k8A);
    return w(Opc::sub, w(Opc::mul, slope, d), k4A);
  };
  auto place = [&](uint8_t i) { return w(Opc::minimum, w(Opc::maximum, i, kZero), kLast); };
  const uint8_t before = w(Opc::sub, base, kOne), after = w(Opc::add, base, kOne), last = w(Opc::add, base, kTwo);
  const uint8_t w0 = far(w(Opc::add, f, kOne)), w1 = near(f), w2 = near(less), w3 = far(w(Opc::sub, kTwo, f));
  const uint8_t p0 = place(before), p1 = place(base), p2 = place(after), p3 = place(last);
  return taps_of(w.p, m, x, {p0, p1, p2, p3}, {w0, w1, w2, w3});
}

Tensor apply_taps(const Tensor& x, int d, const Taps& taps) {
  KnownIndices known;
  Tensor y;
  for (size_t k = 0; k < taps.index.size(); ++k) {
    Tensor term = index_select(x, d, taps.index[k]);
    if (!taps.weight.empty()) {
      Dims s = Dims::filled(x.ndim(), 1);
      s[d] = term.size(d);
      term = term * reshape(taps.weight[k], s);
    }
    y = y.defined() ? y + term : term;
  }
  return y;
}

// Output sizes and, where the caller's factor decides, the step between source coordinates.
struct Target {
  Dims size;
  std::vector<double> factor;
};
Target resize_target(const Tensor& x, const std::optional<IntList>& size,
                     const std::optional<std::vector<double>>& scale_factor, bool recompute) {
  const char* op = "interpolate";
  int n = x.ndim() - 2;
  TG_CHECK(size.has_value() != scale_factor.has_value(), ValueError, op,
           ": exactly one of size and scale_factor must be given");
  Target t;
  if (size) {
    t.size = spatial_option(op, "size", *size, n, 1);
    return t;
  }
  size_t count = scale_factor->size();
  TG_CHECK(count == 1 || count == size_t(n), ValueError, op, ": scale_factor must have 1 or ", n, " elements, got ",
           count);
  for (int i = 0; i < n; ++i) {
    double f = (*scale_factor)[count == 1 ? 0 : size_t(i)], out = std::floor(double(x.size(2 + i)) * f);
    TG_CHECK(f > 0 && out >= 1 && out < 0x1p31, ValueError, op, ": scale_factor=", f, " gives ", out,
             " elements in dimension ", 2 + i, "; input=", describe(x));
    t.size.push_back(int64_t(out));
    if (!recompute) t.factor.push_back(f);
  }
  return t;
}

Tensor area(const Tensor& x, const Dims& size) {
  if (size.size() == 1) return adaptive_avg_pool1d(x, size);
  return size.size() == 2 ? adaptive_avg_pool2d(x, size) : adaptive_avg_pool3d(x, size);
}

Tensor interpolate_body(const Tensor& x, std::optional<IntList> size, std::optional<std::vector<double>> scale_factor,
                        std::string_view mode, std::optional<bool> align_corners,
                        std::optional<bool> recompute_scale_factor, bool antialias) {
  const char* op = "interpolate";
  static const std::pair<std::string_view, int> modes_of[] = {{"nearest", 0},  {"nearest-exact", 0}, {"area", 0},
                                                              {"linear", 1},   {"bilinear", 2},      {"bicubic", 2},
                                                              {"trilinear", 3}};
  int dims = -1;
  for (auto& [name, n] : modes_of)
    if (mode == name) dims = n;
  TG_CHECK(dims >= 0, ValueError, op,
           ": mode must be nearest, nearest-exact, area, linear, bilinear, bicubic or trilinear, ", "got '", mode, "'");
  int n = x.ndim() - 2;
  TG_CHECK(n >= 1 && n <= 3 && (dims == 0 || dims == n), ShapeError, op, ": mode '", mode, "' does not fit ", x.ndim(),
           " dimensions; input=", describe(x));
  TG_CHECK(is_float(x.dtype()) || dims == 0, DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
  TG_CHECK(!align_corners || dims > 0, ValueError, op,
           ": align_corners needs mode linear, bilinear, bicubic or trilinear");
  TG_CHECK(!antialias, NotImplementedError, op, ": antialias=True is not supported");
  for (int i = 0; i < n; ++i)
    TG_CHECK(x.size(2 + i) > 0, ShapeError, op, ": dimension ", 2 + i, " is empty; input=", describe(x));
  Target t = resize_target(x, size, scale_factor, recompute_scale_factor.value_or(false));
  if (mode == "area") return area(x, t.size);
  bool corners = align_corners.value_or(false);
  Tensor y = x;
  for (int i = 0; i < n; ++i) {
    Mapping m{x.size(2 + i), t.size[i], 0, corners};
    if (corners)
      m.scale = m.out > 1 ? double(m.in - 1) / double(m.out - 1) : 0;
    else
      m.scale = t.factor.empty() ? double(m.in) / double(m.out) : 1.0 / t.factor[size_t(i)];
    if (m.in == m.out && m.scale == 1) continue;
    y = apply_taps(y, 2 + i,
                   dims == 0           ? nearest_taps(m, mode == "nearest-exact", x)
                   : mode == "bicubic" ? cubic_taps(m, x)
                                       : linear_taps(m, x));
  }
  return y.is_same(x) ? clone(x) : y;
}

Tensor upsample_body(const Tensor& x, std::optional<IntList> size, std::optional<std::vector<double>> scale_factor,
                     std::string_view mode, std::optional<bool> align_corners) {
  return interpolate_body(x, size, scale_factor, mode, align_corners, std::nullopt, false);
}

// (.., C r r, H, W) -> (.., C, H r, W r)
Tensor pixel_shuffle_body(const Tensor& x, int64_t r) {
  const char* op = "pixel_shuffle";
  TG_CHECK(x.ndim() >= 3, ShapeError, op, ": input must have at least 3 dimensions; input=", describe(x));
  TG_CHECK(r > 0 && r < (1 << 15), ValueError, op, ": upscale_factor must be positive, got ", r);
  int64_t c = x.size(-3), h = x.size(-2), w = x.size(-1);
  TG_CHECK(c % (r * r) == 0, ShapeError, op, ": ", c, " channels cannot be divided by upscale_factor^2 = ", r * r,
           "; input=", describe(x));
  int64_t rows = 1;
  Dims out = x.sizes();
  for (int i = 0; i + 3 < x.ndim(); ++i) rows *= x.size(i);
  out[x.ndim() - 3] = c / (r * r), out[x.ndim() - 2] = h * r, out[x.ndim() - 1] = w * r;
  return reshape(permute(reshape(x, {rows, c / (r * r), r, r, h, w}), {0, 1, 4, 2, 5, 3}), out);
}

// (.., C, H r, W r) -> (.., C r r, H, W)
Tensor pixel_unshuffle_body(const Tensor& x, int64_t r) {
  const char* op = "pixel_unshuffle";
  TG_CHECK(x.ndim() >= 3, ShapeError, op, ": input must have at least 3 dimensions; input=", describe(x));
  TG_CHECK(r > 0 && r < (1 << 15), ValueError, op, ": downscale_factor must be positive, got ", r);
  int64_t c = x.size(-3), h = x.size(-2), w = x.size(-1);
  TG_CHECK(h % r == 0 && w % r == 0, ShapeError, op, ": height ", h, " and width ", w, " must be divisible by ", r,
           "; input=", describe(x));
  int64_t rows = 1;
  Dims out = x.sizes();
  for (int i = 0; i + 3 < x.ndim(); ++i) rows *= x.size(i);
  out[x.ndim() - 3] = c * r * r, out[x.ndim() - 2] = h / r, out[x.ndim() - 1] = w / r;
  return reshape(permute(reshape(x, {rows, c, h / r, r, w / r, r}), {0, 1, 3, 5, 2, 4}), out);
}

Tensor channel_shuffle_body(const Tensor& x, int64_t groups) {
  const char* op = "channel_shuffle";
  TG_CHECK(x.ndim() >= 3, ShapeError, op, ": input must have at least 3 dimensions; input=", describe(x));
  TG_CHECK(groups > 0 && x.size(1) % groups == 0, ShapeError, op, ": ", x.size(1), " channels cannot be divided into ",
           groups, " groups; input=", describe(x));
  if (x.numel() == 0) return clone(x);
  int64_t n = x.size(0), c = x.size(1);
  return reshape(transpose(reshape(x, {n, groups, c / groups, x.numel() / (n * c)}), 1, 2), x.sizes());
}

TG_OP(
    "interpolate(Tensor input, int[]? size=None, float[]? scale_factor=None, str mode='nearest', "
    "bool? align_corners=None, bool? recompute_scale_factor=None, bool antialias=False) -> Tensor",
    .doc =
        "Resamples (N, C, ...) to `size` or by `scale_factor`; mode nearest, nearest-exact, area, linear, bilinear, "
        "bicubic or trilinear.",
    .composite = box<interpolate_body>, .flags = kNN,
    .samples =
        "T(2,3,5), 8; T(2,3,4,5), scale_factor=2.0; T(2,3,4,5), [7,3], mode='nearest-exact'; T(2,3,4,5), [7,3], "
        "mode='bilinear'; T(2,3,4,5), [7,9], mode='bilinear', align_corners=True; T(2,3,4,5), scale_factor=1.5, "
        "mode='bilinear'; T(2,3,4,5), [6,7], mode='bicubic'; T(1,2,3,4,3), [5,2,6], mode='trilinear'; T(2,3,6), "
        "4, mode='linear'; T(2,3,6,5), [4,3], mode='area'; T(1,2,3,4), [6,8], mode='bicubic', align_corners=True");
TG_OP(
    "upsample(Tensor input, int[]? size=None, float[]? scale_factor=None, str mode='nearest', "
    "bool? align_corners=None) -> Tensor",
    .doc = "The older name of interpolate.", .composite = box<upsample_body>, .flags = kNN,
    .samples = "T(2,3,4,5), scale_factor=2.0; T(2,3,4,5), [7,3], mode='bilinear'");
TG_OP("pixel_shuffle(Tensor input, int upscale_factor) -> Tensor", .doc = "(*, C r^2, H, W) to (*, C, H r, W r).",
      .composite = box<pixel_shuffle_body>, .flags = kAlsoNN, .samples = "T(2,8,3,2), 2; T(9,2,2), 3; T(2,3,4,3,2), 2");
TG_OP("pixel_unshuffle(Tensor input, int downscale_factor) -> Tensor", .doc = "(*, C, H r, W r) to (*, C r^2, H, W).",
      .composite = box<pixel_unshuffle_body>, .flags = kAlsoNN, .samples = "T(2,3,6,4), 2; T(1,6,3), 3");
TG_OP("channel_shuffle(Tensor input, int groups) -> Tensor",
      .doc = "Deals the channels of `groups` groups out one by one.", .composite = box<channel_shuffle_body>,
      .flags = kAlsoNN, .samples = "T(2,6,3), 2; T(1,6,2,2), 3");

}  // namespace
}  // namespace tg
