// Resampling of images and sequences, and moving channels into space.
#include <cmath>

#include "ops/copy_view.h"
#include "ops/fast_path.h"
#include "ops/windows.h"

namespace tg {
namespace {

// y[i] = sum over t of weight[t][i] x[index[t][i]] along one axis.
struct Taps {
  std::vector<std::vector<int64_t>> index;
  std::vector<std::vector<double>> weight;
};

// Source coordinate of output element i.
struct Mapping {
  int64_t in, out;
  double scale;  // input elements per output element
  bool align_corners;
  double at(int64_t i) const { return align_corners ? double(i) * scale : (double(i) + 0.5) * scale - 0.5; }
};

Taps nearest_taps(const Mapping& m, bool exact) {
  Taps t{{std::vector<int64_t>(size_t(m.out))}, {}};
  for (int64_t i = 0; i < m.out; ++i) {
    double src = std::floor((double(i) + (exact ? 0.5 : 0.0)) * m.scale);
    t.index[0][size_t(i)] = std::clamp<int64_t>(int64_t(src), 0, m.in - 1);
  }
  return t;
}

Taps linear_taps(const Mapping& m) {
  size_t n = size_t(m.out);
  Taps t{{std::vector<int64_t>(n), std::vector<int64_t>(n)}, {std::vector<double>(n), std::vector<double>(n)}};
  for (int64_t i = 0; i < m.out; ++i) {
    double src = std::clamp(m.at(i), 0.0, double(m.in - 1));
    int64_t lo = std::min(int64_t(src), m.in - 1), hi = std::min(lo + 1, m.in - 1);
    double w = std::min(std::max(src - double(lo), 0.0), 1.0);
    t.index[0][size_t(i)] = lo, t.index[1][size_t(i)] = hi;
    t.weight[0][size_t(i)] = 1.0 - w, t.weight[1][size_t(i)] = w;
  }
  return t;
}

// Keys' cubic convolution with a = -0.75.
Taps cubic_taps(const Mapping& m) {
  constexpr double a = -0.75;
  auto near = [](double x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  auto far = [](double x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  size_t n = size_t(m.out);
  Taps t{std::vector<std::vector<int64_t>>(4, std::vector<int64_t>(n)),
         std::vector<std::vector<double>>(4, std::vector<double>(n))};
  for (int64_t i = 0; i < m.out; ++i) {
    double src = m.at(i), base = std::floor(src), f = src - base;
    double w[4] = {far(f + 1), near(f), near(1 - f), far(2 - f)};
    for (int k = 0; k < 4; ++k) {
      t.index[size_t(k)][size_t(i)] = std::clamp<int64_t>(int64_t(base) - 1 + k, 0, m.in - 1);
      t.weight[size_t(k)][size_t(i)] = w[k];
    }
  }
  return t;
}

template <class T>
Tensor host_vector(const std::vector<T>& v, Device device) {
  Tensor t = empty_tensor({int64_t(v.size())}, DTypeOf<T>::value);
  std::copy(v.begin(), v.end(), t.data<T>());
  return device == t.device() ? t : to(t, device);
}

Tensor apply_taps(const Tensor& x, int d, const Taps& taps) {
  Tensor y;
  for (size_t k = 0; k < taps.index.size(); ++k) {
    Tensor term = index_select(x, d, host_vector(taps.index[k], x.device()));
    if (!taps.weight.empty()) {
      Dims s = Dims::filled(x.ndim(), 1);
      s[d] = term.size(d);
      term = term * narrow_to(reshape(host_vector(taps.weight[k], x.device()), s), x.dtype());
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
    check_room(op, m.out, x.device());
    y = apply_taps(y, 2 + i,
                   dims == 0           ? nearest_taps(m, mode == "nearest-exact")
                   : mode == "bicubic" ? cubic_taps(m)
                                       : linear_taps(m));
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
