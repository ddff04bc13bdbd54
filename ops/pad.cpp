// Padding: constant (a primitive whose adjoint is cropping) and the modes that repeat elements.
#include "ops/copy_view.h"
#include "ops/index.h"
#include "ops/position_table.h"

namespace tg {
namespace {

void check_pads(const char* op, const Tensor& x, IntList pad) {
  TG_CHECK(pad.size() % 2 == 0, ValueError, op, ": pad must have an even number of values, got ", pad);
  TG_CHECK(pad.size() / 2 <= x.ndim(), ShapeError, op, ": pad covers ", pad.size() / 2, " dimensions, the input has ",
           x.ndim(), "; input=", describe(x));
  for (int64_t v : pad)
    TG_CHECK(v > -(int64_t(1) << 60) && v < (int64_t(1) << 60), ShapeError, op, ": padding ", v, " is too large");
}

// pad = (left of the last dimension, right, left of the one before, ...); negative values crop.
Tensor constant_pad_impl(const Tensor& x, IntList pad, Scalar value) {
  check_pads("constant_pad_nd", x, pad);
  Dims sizes = x.sizes();
  View src(x);
  Dims at = Dims::filled(x.ndim(), 0);
  for (int k = 0; k < int(pad.size() / 2); ++k) {
    int d = x.ndim() - 1 - k;
    int64_t lo = pad[2 * k], hi = pad[2 * k + 1], n = x.sizes()[d], m;
    bool huge = __builtin_add_overflow(n, lo, &m) || __builtin_add_overflow(m, hi, &m);
    TG_CHECK(!huge && m >= 0, ShapeError, "constant_pad_nd: padding ", lo, " and ", hi, " of dimension ", d, " (size ",
             n, ") gives no valid size; input=", describe(x));
    sizes[d] = m;
    int64_t from = std::max<int64_t>(-lo, 0), to = n + std::min<int64_t>(hi, 0);
    src = slice_view(src, d, from, std::max<int64_t>(to - from, 0));
    at[d] = std::max<int64_t>(lo, 0);
  }
  Tensor y = full(sizes, value, x.dtype(), x.device());
  if (y.numel() == 0 || src.numel() == 0) return y;
  View dst(y);
  for (int d = 0; d < x.ndim(); ++d) dst = slice_view(dst, d, at[d], src.shape[d]);
  copy_view(x.device(), src, dst);
  return y;
}

Tensor constant_pad_grad(GradCtx& c) {
  std::vector<int64_t> crop;
  for (int64_t p : c.arg<IntList>(1)) crop.push_back(-p);
  return constant_pad_nd(c.g(), crop, 0);
}

TG_OP(
    "constant_pad_nd(Tensor input, int[] pad, Scalar value=0) -> Tensor",
    .doc = "Adds elements of one value around the last dimensions; pad starts with the last one, negative values crop.",
    .primitive = box<constant_pad_impl>, .grads = {{0, constant_pad_grad}}, .flags = kFunctionOnly,
    .samples =
        "T(2,3), [1,2]; T(2,3), [1,2,0,1], 0.5; T(2,5), [-1,2]; T(2,5), [-1,-2,1,0], 1.0; T(2,3,4), [1,1,2,2,3,3]; "
        "I(3, hi=5), [2,0], 7; T(0,3), [1,1,2,0]; T(), []");

enum class Mode { Reflect, Replicate, Circular };

// For each element of an axis of size n padded by `lo` and `hi`: the position in [0, n) whose element stands there.
Tensor sources(Mode mode, int64_t lo, int64_t hi, int64_t n, Device device) {
  const Scalar numbers[] = {lo, 0, n - 1, n};
  ProgramWriter w(DType::I64, 0, numbers);
  const uint8_t zero = w.number(1), last = w.number(2), size = w.number(3);
  uint8_t at = w(Opc::sub, w(Opc::Index), w.number(0));
  if (mode == Mode::Replicate)
    at = w(Opc::minimum, w(Opc::maximum, at, zero), last);
  else if (mode == Mode::Circular)
    at = w(Opc::remainder, at, size);
  else  // mirrored at both ends: last - |last - |i||
    at = w(Opc::sub, last, w(Opc::abs, w(Opc::sub, last, w(Opc::abs, at))));
  w.p.outs.push_back(at);
  return made_of_index(w.p, {n + lo + hi}, DType::I64, device);
}

Tensor repeat_pad(Mode mode, std::string_view name, const Tensor& x, IntList pad) {
  TG_CHECK(pad.size() <= 6, NotImplementedError, "pad: mode '", name,
           "' pads at most the last 3 dimensions; input=", describe(x));
  Tensor y = x;
  for (int k = 0; k < int(pad.size() / 2); ++k) {
    int d = x.ndim() - 1 - k;
    int64_t lo = pad[2 * k], hi = pad[2 * k + 1], n = x.sizes()[d];
    int64_t most = mode == Mode::Reflect ? n - 1 : mode == Mode::Circular ? n : n > 0 ? INT32_MAX : 0;
    TG_CHECK(lo <= most && hi <= most, ShapeError, "pad: mode '", name, "' can pad dimension ", d, " of size ", n,
             " by at most ", most, ", got ", lo, " and ", hi, "; input=", describe(x));
    TG_CHECK(lo >= -n && hi >= -n && n + lo + hi >= 0, ShapeError, "pad: padding ", lo, " and ", hi, " of dimension ",
             d, " (size ", n, ") gives no valid size; input=", describe(x));
    if (mode == Mode::Circular && (lo < 0 || hi < 0)) {  // the circle is closed after cropping
      int64_t from = std::max<int64_t>(-lo, 0), to = n + std::min<int64_t>(hi, 0);
      TG_CHECK(from < to, ShapeError, "pad: mode 'circular' has nothing left to repeat in dimension ", d,
               " after cropping ", lo, " and ", hi, "; input=", describe(x));
      y = narrow(y, d, from, to - from);
      n = to - from, lo = std::max<int64_t>(lo, 0), hi = std::max<int64_t>(hi, 0);
    }
    if (lo == 0 && hi == 0) continue;
    KnownIndices known;
    y = index_select(y, d, sources(mode, lo, hi, n, x.device()));
  }
  return y.impl()->storage == x.impl()->storage ? clone(y) : y;
}

Tensor pad_body(const Tensor& x, IntList pad, std::string_view mode, std::optional<double> value) {
  check_pads("pad", x, pad);
  if (mode == "constant") return constant_pad_nd(x, pad, value.value_or(0));
  TG_CHECK(!value || *value == 0, ValueError, "pad: mode '", mode, "' takes no value");
  if (mode == "reflect") return repeat_pad(Mode::Reflect, mode, x, pad);
  if (mode == "replicate") return repeat_pad(Mode::Replicate, mode, x, pad);
  TG_CHECK(mode == "circular", ValueError, "pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got '",
           mode, "'");
  return repeat_pad(Mode::Circular, mode, x, pad);
}
TG_OP(
    "pad(Tensor input, int[] pad, str mode='constant', float? value=None) -> Tensor",
    .doc =
        "Pads the last dimensions, starting with the last: by a constant, by reflection without the edge, by repeating "
        "the edge, or around the circle.",
    .composite = box<pad_body>, .flags = kNN,
    .samples =
        "T(2,3), [1,2]; T(2,3), [1,2,0,1], value=0.5; T(2,3,4), [2,1], 'reflect'; T(2,3,4), [2,1], 'replicate'; "
        "T(2,3,4), [2,1], 'circular'; T(1,2,3,4), [1,2,2,1], 'reflect'; T(1,2,3,4), [1,2,2,1], mode='replicate'; "
        "T(1,2,3,4), [1,2,3,0], mode='circular'; T(1,1,2,3,4), [1,1,1,1,1,1], 'replicate'; T(2,5), [-1,2]; "
        "I(3, hi=5), [1,1]");

}  // namespace
}  // namespace tg
