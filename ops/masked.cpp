// Elements picked and written by masks, flat positions and slices of one dimension.
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/index.h"

namespace tg {
namespace {

// ---- non-zero elements

Tensor nonzero_body(const Tensor& x) {
  std::vector<int64_t> at;
  if (x.numel() > 0) backend(x.device()).nonzero(View(x), at);
  int64_t n = int64_t(at.size()), k = x.ndim();
  std::vector<int64_t> rows(size_t(n * k));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t d = k - 1, p = at[size_t(i)]; d >= 0; --d) {
      rows[size_t(i * k + d)] = p % x.sizes()[int(d)];
      p /= x.sizes()[int(d)];
    }
  return int_tensor(rows, {n, k}, x.device());
}

// ---- masks

void check_mask(const char* op, const Tensor& x, const Tensor& mask) {
  TG_CHECK(mask.dtype() == DType::Bool, DTypeError, op, ": mask must be bool; input=", describe(x),
           ", mask=", describe(mask));
  TG_CHECK(mask.device() == x.device(), DeviceError, op, ": mask must be on the device of input; input=", describe(x),
           ", mask=", describe(mask));
}

// A number that fits input's dtype, or a 0-d tensor of that dtype (kept alive by `held`).
Operand fill_operand(const char* op, const Tensor& x, const Operand& value, Tensor& held) {
  if (!value.is_tensor()) return checked_scalar(op, value.scalar(), x.dtype());
  TG_CHECK(value.tensor().ndim() == 0, ShapeError, op, ": value must be a number or a tensor without dimensions, got ",
           describe(value), "; input=", describe(x));
  held = to(value.tensor(), x);
  return held;
}

Tensor masked_fill_body(const Tensor& x, const Tensor& mask, const Operand& value) {
  check_mask("masked_fill", x, mask);
  Tensor held;
  return where(mask, fill_operand("masked_fill", x, value, held), x);
}
void masked_fill_inplace(Args a, Outputs&) {
  const Tensor &x = a[0].tensor(), &mask = a[1].tensor();
  check_mask("masked_fill_", x, mask);
  TG_CHECK(broadcastable_to(mask.sizes(), x.sizes()), ShapeError, "masked_fill_: mask of size ", mask.sizes(),
           " does not broadcast to ", x.sizes(), "; input=", describe(x), ", mask=", describe(mask));
  Operand value = Unbox<const Operand&>::get(a[2]);
  Tensor held;
  Operand v = fill_operand("masked_fill_", x, value, held);
  Scalar s = v.is_tensor() ? v.tensor().item_scalar() : v.scalar();
  run_program(make_program(compute_type(x.dtype()), 2, {s}, {{Opc::where, {1, 2, 0}}}), {x, mask}, x);
}

Tensor masked_select_body(const Tensor& x, const Tensor& mask) {
  check_mask("masked_select", x, mask);
  Dims sizes = broadcast_shapes("masked_select", x.sizes(), mask.sizes());
  if (sizes.empty()) return masked_select(reshape(x, {1}), reshape(mask, {1}));
  return getitem(expand(x, sizes), {IndexItem(expand(mask, sizes))});
}

Tensor masked_scatter_body(const Tensor& input, const Tensor& mask, const Tensor& source) {
  check_mask("masked_scatter", input, mask);
  TG_CHECK(source.dtype() == input.dtype(), DTypeError,
           "masked_scatter: source must have the dtype of input; input=", describe(input),
           ", source=", describe(source));
  Dims sizes = broadcast_shapes("masked_scatter", input.sizes(), mask.sizes());
  Tensor x = reshape(expand(input, sizes), {-1}), at = reshape(nonzero(reshape(expand(mask, sizes), {-1})), {-1});
  TG_CHECK(at.numel() <= source.numel(), ShapeError, "masked_scatter: source has ", source.numel(),
           " elements, the mask selects ", at.numel(), "; input=", describe(input), ", source=", describe(source));
  return reshape(index_put(x, {IndexItem(at)}, narrow(reshape(source, {-1}), 0, 0, at.numel())), sizes);
}

// ---- flat positions

Tensor take_body(const Tensor& x, const Tensor& index) {
  Tensor i = checked_index("take", index, x.numel(), 0, true);
  return reshape(gather(reshape(x, {-1}), 0, reshape(i, {-1})), index.sizes());
}
Tensor put_body(const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate) {
  TG_CHECK(index.numel() == source.numel(), ShapeError, "put: index and source must have the same number of elements, ",
           index.numel(), " vs ", source.numel(), "; index=", describe(index), ", source=", describe(source));
  TG_CHECK(source.dtype() == x.dtype(), DTypeError, "put: source must have the dtype of input; input=", describe(x),
           ", source=", describe(source));
  Tensor i = checked_index("put", reshape(index, {-1}), x.numel(), 0, true);
  return reshape(index_put(reshape(x, {-1}), {IndexItem(i)}, reshape(source, {-1}), accumulate), x.sizes());
}

// ---- slices of one dimension

// Writes through index_put, on the tape or in place.
Tensor put_slices(const Tensor& x, int d, const Tensor& index, const Operand& values, bool accumulate, bool inplace) {
  auto items = index_at(d, index);
  if (!inplace) return index_put(x, items, values, accumulate);
  index_put_(x, items, values, accumulate);
  return x;
}

// The vector of positions along `dim`; a tensor without dimensions counts as one of size 1.
Tensor slice_index(const char* op, const Tensor& x, int d, const Tensor& index, bool wrap) {
  TG_CHECK(index.ndim() <= 1, ShapeError, op, ": index must have at most 1 dimension, got index=", describe(index));
  return checked_index(op, reshape(index, {-1}), x.sizes()[d], d, wrap);
}

Tensor index_fill_any(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Operand& value,
                      bool inplace) {
  if (x.ndim() == 0) {
    Tensor r = index_fill_any(op, view(x, {1}), dim, index, value, inplace);
    return inplace ? x : reshape(r, {});
  }
  int d = wrap_dim(op, dim, x.ndim());
  Tensor held;
  Operand v = fill_operand(op, x, value, held);
  return put_slices(x, d, slice_index(op, x, d, index, true), v, false, inplace);
}
Tensor index_fill_body(const Tensor& x, int64_t dim, const Tensor& index, const Operand& value) {
  return index_fill_any("index_fill", x, dim, index, value, false);
}
void index_fill_inplace(Args a, Outputs&) {
  Operand value = Unbox<const Operand&>::get(a[3]);
  index_fill_any("index_fill_", a[0].tensor(), a[1].i(), a[2].tensor(), value, true);
}

Tensor index_write(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                   bool accumulate, bool inplace) {
  if (x.ndim() == 0) {
    Tensor r = index_write(op, view(x, {1}), dim, index, reshape(source, {-1}), accumulate, inplace);
    return inplace ? x : reshape(r, {});
  }
  int d = wrap_dim(op, dim, x.ndim());
  Tensor i = slice_index(op, x, d, index, false);
  TG_CHECK(source.dtype() == x.dtype(), DTypeError, op, ": source must have the dtype of input; input=", describe(x),
           ", source=", describe(source));
  Dims expected = x.sizes();
  expected[d] = i.numel();
  Tensor src = source.ndim() == 0 && x.ndim() == 1 ? reshape(source, {1}) : source;
  TG_CHECK(src.sizes() == expected, ShapeError, op, ": source has size ", source.sizes(), ", expected ", expected,
           " for dimension ", d, "; input=", describe(x), ", index=", describe(index));
  return put_slices(x, d, i, src, accumulate, inplace);
}
Tensor index_copy_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  return index_write("index_copy", x, dim, index, source, false, false);
}
void index_copy_inplace(Args a, Outputs&) {
  index_write("index_copy_", a[0].tensor(), a[1].i(), a[2].tensor(), a[3].tensor(), false, true);
}
Tensor scaled(const char* op, const Tensor& source, const Scalar& alpha) {
  TG_CHECK(!alpha.is_float() || is_float(source.dtype()), DTypeError, op, ": alpha ", alpha.d(),
           " must be an integer for integer tensors; source=", describe(source));
  return alpha.d() == 1 ? source : source * alpha;
}
Tensor index_add_body(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha) {
  return index_write("index_add", x, dim, index, scaled("index_add", source, alpha), true, false);
}
void index_add_inplace(Args a, Outputs&) {
  index_write("index_add_", a[0].tensor(), a[1].i(), a[2].tensor(), scaled("index_add_", a[3].tensor(), a[4].scalar()),
              true, true);
}

TG_OP("nonzero(Tensor input) -> Tensor", .doc = "Positions (n, ndim) of the non-zero elements in row-major order.",
      .primitive = box<nonzero_body>, .flags = kNoGrad, .aliases = "argwhere",
      .samples = "I(3,4, hi=2); B(5); T(2,2); T(0,3); I(2,2,2, hi=2); I(hi=2)");
std::vector<Tensor> nonzero_tuple(const Tensor& x, bool as_tuple) {
  if (!as_tuple) return {nonzero(x)};
  return unbind(nonzero(x.ndim() ? x : unsqueeze(x, 0)), 1);
}
TG_OP("nonzero.tuple(Tensor input, *, bool as_tuple) -> Tensor[]",
      .doc = "With as_tuple=True the positions as one tensor per dimension, ready to index with.",
      .composite = box<nonzero_tuple>, .flags = kNoGrad,
      .samples =
          "I(3,4, hi=2), as_tuple=False; B(5), as_tuple=False; I(3,4, hi=2), as_tuple=True; B(5), as_tuple=True; "
          "T(0,3), as_tuple=True; I(hi=2), as_tuple=True");
TG_OP("masked_fill(Tensor input, Tensor mask, Operand value) -> Tensor",
      .doc = "value (a number or 0-d tensor) where the bool mask is true, input elsewhere.",
      .composite = box<masked_fill_body>, .inplace = masked_fill_inplace, .flags = kMakeInplace,
      .samples =
          "T(3,4), B(3,4), 0.5; T(3,4), B(4), -1; T(3,4), B(3,1), T(); I(3, hi=5), B(3), 7; T(), B(), 1.0; B(3), B(3), "
          "True; C(3), B(3), float('-inf')");
TG_OP("masked_select(Tensor input, Tensor mask) -> Tensor",
      .doc = "Vector of the elements where the bool mask is true; the two broadcast.",
      .composite = box<masked_select_body>,
      .samples = "T(3,4), B(3,4); T(3,4), B(4); T(4), B(3,1); I(3, hi=5), B(3); T(), B()");
TG_OP("masked_scatter(Tensor input, Tensor mask, Tensor source) -> Tensor",
      .doc = "Copy of input with consecutive elements of source where the bool mask is true.",
      .composite = box<masked_scatter_body>, .flags = kMakeInplace,
      .samples = "T(3,4), B(3,4), T(12); T(3,4), B(4), T(3,4); T(5), B(5), T(9)");
TG_OP("take(Tensor input, Tensor index) -> Tensor",
      .doc = "Elements at flat positions; negative ones count from the end.", .composite = box<take_body>,
      .samples = "T(3,4), I(5, hi=12); T(3,4), I(2,2, lo=-12, hi=12); T(4), I(hi=4); T(), I(2, hi=1)");
TG_OP("put(Tensor input, Tensor index, Tensor source, bool accumulate=False) -> Tensor",
      .doc = "Copy of input with source at flat positions, added if accumulate is set.", .composite = box<put_body>,
      .flags = kMakeInplace,
      .samples = "T(3,4), PERM(5), T(5); T(3,4), I(2,2, lo=-12, hi=12), T(2,2), accumulate=True");
TG_OP("index_fill(Tensor input, int dim, Tensor index, Operand value) -> Tensor",
      .doc = "Copy of input with value (a number or 0-d tensor) in the slices of dim that index names.",
      .composite = box<index_fill_body>, .inplace = index_fill_inplace, .flags = kMakeInplace,
      .samples =
          "T(3,4), 0, I(2, hi=3), 1.5; T(3,4), -1, I(2, hi=4), T(); C(3,4), -1, I(2, lo=-4, hi=4), 0.5; I(4, hi=9), 0, "
          "I(2, hi=4), 7; T(), 0, I(1, hi=1), 2.0");
TG_OP("index_copy(Tensor input, int dim, Tensor index, Tensor source) -> Tensor",
      .doc = "Copy of input with the slices of source at the positions of dim that index names.",
      .composite = box<index_copy_body>, .inplace = index_copy_inplace, .flags = kMakeInplace,
      .autocast = Autocast::Widest,
      .samples = "T(3,4), 0, PERM(3), T(3,4); T(3,4), 1, PERM(4), T(3,4); T(4), -1, PERM(4), T(4)");
TG_OP("index_add(Tensor input, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor",
      .doc = "Copy of input with alpha times the slices of source added at the positions of dim that index names.",
      .composite = box<index_add_body>, .inplace = index_add_inplace, .flags = kMakeInplace,
      .samples =
          "T(3,4), 0, I(5, hi=3), T(5,4); T(3,4), 1, I(2, hi=4), T(3,2), alpha=2.0; T(4), -1, I(6, hi=4), T(6); I(3, "
          "hi=9), 0, I(4, hi=3), I(4, hi=9); T(3,4), 0, I(0, hi=3), T(0,4)");

}  // namespace
}  // namespace tg
