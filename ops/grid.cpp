// affine_grid and grid_sample: an image looked up at any places.
#include <functional>

#include "ops/fast_path.h"

namespace tg {
namespace {

// ---- affine_grid

// n places from -1 to 1: the outermost pixels' centres, or half a pixel within if corners are not aligned.
Tensor places(int64_t n, bool align, const Tensor& like) {
  Tensor i = arange(n, like.dtype(), like.device());
  if (align) return n > 1 ? i * (2.0 / double(n - 1)) - 1.0 : zeros_like(i);
  return (i * 2.0 + 1.0) / double(std::max<int64_t>(n, 1)) - 1.0;
}
Tensor affine_grid_body(const Tensor& theta, IntList size, std::optional<bool> align) {
  int64_t d = int64_t(size.size()) - 2;
  TG_CHECK(d == 2 || d == 3, ShapeError, "affine_grid: size must be (N, C, H, W) or (N, C, D, H, W), got ", size);
  TG_CHECK(is_float(theta.dtype()) && theta.sizes() == Dims({size[0], d, d + 1}), ShapeError,
           "affine_grid: theta must be a floating-point tensor of size ", Dims({size[0], d, d + 1}),
           "; theta=", describe(theta));
  Dims space(size.begin() + 2, size.end());
  numel_of(space, "affine_grid");
  std::vector<Tensor> axes;  // x first, then y: the last dimension of the image first; ones for the offset
  for (int i = int(d) - 1; i >= 0; --i) {
    Dims along = Dims::filled(int(d), 1);
    along[i] = space[i];
    axes.push_back(expand(reshape(places(space[i], align.value_or(false), theta), along), space));
  }
  axes.push_back(ones(space, theta.dtype(), theta.device()));
  Tensor flat = matmul(reshape(stack(axes, -1), {-1, d + 1}), transpose(theta, 1, 2));
  Dims out = space;
  out.insert(0, size[0]);
  out.push_back(d);
  return reshape(flat, out);
}

// ---- grid_sample

struct Sampling {
  std::string_view mode, padding;
  bool align;
};

// Folded into [low, high] as between two mirrors.
Tensor reflected(const Tensor& x, double low, double high) {
  if (high <= low) return zeros_like(x);
  double span = high - low;
  Tensor r = abs(x - low), turns = detach(floor(r / span)), rest = r - turns * span;
  return low + where(eq(remainder(turns, 2.0), 0.0), rest, span - rest);
}
Tensor padded(const Tensor& x, int64_t size, const Sampling& s) {
  if (s.padding == "zeros") return x;
  Tensor y = x;
  if (s.padding == "reflection")
    y = s.align ? reflected(x, 0, double(size - 1)) : reflected(x, -0.5, double(size) - 0.5);
  return clamp(y, 0.0, double(size - 1));
}

// What one position of one axis reads: whole-numbered places and their weights.
struct Tap {
  Tensor at, weight;
};
std::vector<Tap> taps(const Tensor& grid, int64_t size, const Sampling& s) {
  Tensor x = s.align ? (grid + 1.0) * (0.5 * double(size - 1)) : ((grid + 1.0) * double(size) - 1.0) * 0.5;
  if (s.mode != "bicubic") x = padded(x, size, s);
  if (s.mode == "nearest") return {{detach(round(x)), ones_like(x)}};
  Tensor first = detach(floor(x)), t = x - first;
  if (s.mode == "bilinear") return {{first, 1.0 - t}, {first + 1.0, t}};
  constexpr double kA = -0.75;  // the kernel of PyTorch and of interpolate
  auto inner = [](const Tensor& u) { return ((kA + 2) * u - (kA + 3)) * u * u + 1.0; };
  auto outer = [](const Tensor& u) { return ((kA * u - 5 * kA) * u + 8 * kA) * u - 4 * kA; };
  Tensor weights[] = {outer(t + 1.0), inner(t), inner(1.0 - t), outer(2.0 - t)};
  std::vector<Tap> out;
  for (int i = 0; i < 4; ++i) out.push_back({padded(first + double(i - 1), size, s), weights[i]});
  return out;
}

Tensor grid_sample_body(const Tensor& x, const Tensor& grid, std::string_view mode, std::string_view padding,
                        std::optional<bool> align) {
  const char* op = "grid_sample";
  int d = x.ndim() - 2;
  TG_CHECK(d == 2 || d == 3, ShapeError, op, ": input must have 4 or 5 dimensions; input=", describe(x));
  TG_CHECK(grid.ndim() == d + 2 && grid.size(0) == x.size(0) && grid.size(-1) == d, ShapeError, op,
           ": grid must be (N, ..., ", d, ") with as many dimensions as input; input=", describe(x),
           ", grid=", describe(grid));
  TG_CHECK(is_float(x.dtype()) && x.dtype() == grid.dtype(), DTypeError, op,
           ": input and grid must be of one floating-point type; input=", describe(x), ", grid=", describe(grid));
  TG_CHECK(mode == "bilinear" || mode == "nearest" || (mode == "bicubic" && d == 2), ValueError, op,
           ": mode must be 'bilinear', 'nearest' or, for 4 dimensions, 'bicubic', got '", mode, "'");
  TG_CHECK(padding == "zeros" || padding == "border" || padding == "reflection", ValueError, op,
           ": padding_mode must be 'zeros', 'border' or 'reflection', got '", padding, "'");
  std::vector<std::vector<Tap>> axes;  // in the order of the image's dimensions
  for (int i = 0; i < d; ++i) {
    TG_CHECK(x.size(2 + i) > 0, ShapeError, op, ": dimension ", 2 + i, " is empty; input=", describe(x));
    axes.push_back(taps(select(grid, -1, d - 1 - i), x.size(2 + i), {mode, padding, align.value_or(false)}));
  }
  Dims out(grid.sizes().begin(), grid.sizes().end() - 1);
  int64_t n = x.size(0), channels = x.size(1), count = numel_of(out) / std::max<int64_t>(n, 1);
  Tensor pixels = reshape(x, {n, channels, -1}), total;
  // All combinations of one tap per axis; a place outside of the image weighs nothing.
  std::function<void(int, Tensor, Tensor)> visit_taps = [&](int axis, Tensor index, Tensor weight) {
    if (axis == d) {
      Tensor where_to = expand(reshape(index, {n, 1, count}), {n, channels, count});
      Tensor part = gather(pixels, 2, where_to) * reshape(weight, {n, 1, count});
      total = total.defined() ? total + part : part;
      return;
    }
    int64_t size = x.size(2 + axis);
    for (const Tap& t : axes[size_t(axis)]) {
      Tensor outside = logical_or(lt(t.at, 0.0), ge(t.at, size)), w = where(outside, 0.0, t.weight);
      Tensor known = logical_and(ge(t.at, 0.0), lt(t.at, size));  // not so NaN, whose weight is NaN
      Tensor at = cast(where(known, detach(t.at), 0.0), DType::I64);
      visit_taps(axis + 1, index.defined() ? index * size + at : at, weight.defined() ? weight * w : w);
    }
  };
  visit_taps(0, {}, {});
  Dims sizes = out;
  sizes.insert(1, channels);
  return reshape(total, sizes);
}

TG_OP("affine_grid(Tensor theta, int[] size, bool? align_corners=None) -> Tensor",
      .doc =
          "Places (N, H, W, 2) or (N, D, H, W, 3) of the pixels of an image of `size` under the affine maps theta "
          "(N, 2, 3) or (N, 3, 4), for grid_sample.",
      .composite = box<affine_grid_body>, .flags = kNN, .torch = "nn.functional.affine_grid",
      .samples =
          "T(2,2,3), [2, 1, 3, 4], align_corners=False; T(2,2,3), [2, 3, 1, 4], align_corners=True; T(1,3,4), [1, 1, "
          "2, 3, 2], align_corners=False");
TG_OP(
    "grid_sample(Tensor input, Tensor grid, str mode='bilinear', str padding_mode='zeros', bool? align_corners=None) "
    "-> "
    "Tensor",
    .doc =
        "input (N, C, H, W) looked up at grid (N, H', W', 2), whose x and y run from -1 to 1 over the image; likewise "
        "in three dimensions. padding_mode tells what lies outside: 'zeros', 'border', 'reflection'.",
    .composite = box<grid_sample_body>, .flags = kNN, .autocast = Autocast::Float32,
    .torch = "nn.functional.grid_sample",
    .samples =
        "T(2,3,4,5), T(2,3,2,2, lo=-1.2, hi=1.2), align_corners=False; T(1,2,4,5), T(1,6,1,2, lo=-1.5, hi=1.5), "
        "'bilinear', 'border', False; T(1,2,4,5), T(1,3,2,2, lo=-3, hi=3), 'bilinear', 'reflection', True; "
        "T(1,2,4,5), T(1,3,2,2, lo=-3, hi=3), 'bilinear', 'reflection', False; T(1,2,4,5), C(1,3,2,2, lo=-1.5, "
        "hi=1.5), "
        "'nearest', align_corners=False; T(1,2,4,5), T(1,3,2,2, lo=-1.2, hi=1.2), 'bicubic', align_corners=False; "
        "T(1,2,4,5), T(1,3,2,2, lo=-1.5, hi=1.5), 'bicubic', 'border', True; T(1,1,3,4,2), T(1,2,1,3,3, lo=-1.2, "
        "hi=1.2), align_corners=False",
    .notes = "nograd2");

}  // namespace
}  // namespace tg
