// Moving and repeating elements: flip, roll, rot90, tile, repeat.
#include "ops/copy_view.h"
#include "ops/index.h"
#include "ops/position_table.h"

namespace tg {
namespace {

Tensor flip_impl(const Tensor& x, IntList dims) {
  Tensor y = empty_tensor(x.sizes(), x.dtype(), x.device());
  if (y.numel() == 0) return y;
  View src(x);
  if (!dims.empty())
    for (int64_t d : wrap_dims("flip", dims, x.ndim())) {
      src.data = static_cast<char*>(src.data) + (x.sizes()[int(d)] - 1) * src.stride[int(d)] * itemsize(x.dtype());
      src.stride[int(d)] = -src.stride[int(d)];
    }
  copy_view(x.device(), src, View(y));
  return y;
}
TG_OP("flip(Tensor input, int[] dims) -> Tensor",
      .doc = "Copy with the order of elements reversed along the dimensions.", .primitive = box<flip_impl>,
      .grads = {{0, [](GradCtx& c) { return flip(c.g(), c.arg<IntList>(1)); }}},
      .samples = "T(3,4), [0]; T(3,4), [0,1]; T(2,3,4), [-1,0]; T(0,3), [1]; T(3), []; T(), [0]; I(3,4, hi=9), [1]");

Tensor fliplr_body(const Tensor& x) {
  TG_CHECK(x.ndim() >= 2, ShapeError, "fliplr: expected at least 2 dimensions, input=", describe(x));
  return flip(x, {1});
}
Tensor flipud_body(const Tensor& x) {
  TG_CHECK(x.ndim() >= 1, ShapeError, "flipud: expected at least 1 dimension, input=", describe(x));
  return flip(x, {0});
}
TG_OP("fliplr(Tensor input) -> Tensor", .doc = "Flip left and right: dimension 1.", .composite = box<fliplr_body>,
      .samples = "T(3,4); T(2,3,4)");
TG_OP("flipud(Tensor input) -> Tensor", .doc = "Flip up and down: dimension 0.", .composite = box<flipud_body>,
      .samples = "T(3); T(3,4)");

Tensor rot90_body(const Tensor& x, int64_t k, IntList dims) {
  TG_CHECK(dims.size() == 2, ValueError, "rot90: expected 2 dimensions to rotate, got ", dims);
  Dims d = wrap_dims("rot90", dims, x.ndim());
  TG_CHECK(d.size() == 2, ShapeError, "rot90: expected at least 2 dimensions, input=", describe(x));
  switch ((k % 4 + 4) % 4) {
    case 1:
      return flip(transpose(x, d[0], d[1]), {d[0]});
    case 2:
      return flip(x, d);
    case 3:
      return flip(transpose(x, d[0], d[1]), {d[1]});
    default:
      return clone(x);
  }
}
TG_OP("rot90(Tensor input, int k=1, int[] dims=[0, 1]) -> Tensor",
      .doc = "Rotates by k quarter turns from the first of dims towards the second.", .composite = box<rot90_body>,
      .samples = "T(3,4); T(3,4), 2; T(3,4), -1; T(2,3,4), 1, [1,2]; T(3,4), 4");

Tensor roll_one(const Tensor& x, int64_t shift, int d) {
  int64_t n = x.sizes()[d];
  if (n == 0) return x;
  int64_t s = (shift % n + n) % n;
  return s == 0 ? x : cat({narrow(x, d, n - s, s), narrow(x, d, 0, n - s)}, d);
}
Tensor roll_body(const Tensor& x, IntList shifts, std::optional<IntList> dims) {
  bool flat = !dims || dims->empty();
  TG_CHECK(!shifts.empty() && (flat ? shifts.size() == 1 : shifts.size() == dims->size()), ValueError,
           "roll: shifts and dims must have the same length, got ", shifts.size(), " and ", flat ? 0 : dims->size());
  if (flat) return reshape(roll_one(reshape(x, {x.numel()}), shifts[0], 0), x.sizes());
  Tensor y = x;
  for (int64_t i = 0; i < dims->size(); ++i) {
    int d = wrap_dim("roll", (*dims)[i], x.ndim());
    if (x.ndim() > 0) y = roll_one(y, shifts[i], d);
  }
  return y.is_same(x) ? clone(x) : y;
}
TG_OP("roll(Tensor input, int[] shifts, int[]? dims=None) -> Tensor",
      .doc =
          "Shifts elements along dimensions; those pushed out come back at the other end. Without dims the flattened "
          "tensor is rolled.",
      .composite = box<roll_body>,
      .samples = "T(5), 2; T(3,4), 1; T(3,4), 1, 0; T(3,4), [1,-1], [0,1]; T(3,4), -7, -1; T(0,3), 1, 0; T(3,4), 0, 1");

// Each dimension that repeats gets a stretched twin of size r in front of it, and the pairs are merged.
Tensor repeat_body(const Tensor& x, IntList repeats) {
  int n = int(repeats.size()), lead = n - x.ndim();
  TG_CHECK(lead >= 0, ShapeError, "repeat: got ", n, " repeats for ", x.ndim(), " dimensions; input=", describe(x));
  TG_CHECK(n <= kMaxDims, ShapeError, "repeat: a tensor has at most ", kMaxDims, " dimensions, got ", n, " repeats");
  Dims apart, wide, merged;
  for (int i = 0; i < n; ++i) {
    int64_t r = repeats[i], s = i < lead ? 1 : x.sizes()[i - lead], m;
    TG_CHECK(r >= 0, ValueError, "repeat: repeats must not be negative, got ", r, " for dimension ", i);
    TG_CHECK(!__builtin_mul_overflow(r, s, &m), ShapeError, "repeat: dimension ", i,
             " would have more than 2^63 elements");
    if (r != 1 && s != 1) apart.push_back(1), wide.push_back(r);
    apart.push_back(s);
    wide.push_back(s == 1 ? r : s);
    merged.push_back(m);
  }
  Tensor y = reshape(expand(reshape(x, apart), wide), merged);
  return y.impl()->storage == x.impl()->storage ? clone(y) : y;
}
TG_OP("repeat(Tensor input, int[] repeats) -> Tensor",
      .doc = "Copies of the tensor side by side, repeats[i] times along dimension i; new dimensions come in front.",
      .composite = box<repeat_body>, .flags = kMethodOnly,
      .samples = "T(3), [2]; T(2,3), [2,2]; T(3), [4,2]; T(2,3), [1,1]; T(), [3]; T(2,3), [0,1]; T(2,1,3), [2,3,1]");

Tensor tile_body(const Tensor& x, IntList dims) {
  if (dims.size() >= x.ndim()) return repeat(x, dims);
  Dims all = Dims::filled(x.ndim() - int(dims.size()), 1);
  for (int64_t d : dims) all.push_back(d);
  return repeat(x, all);
}
TG_OP("tile(Tensor input, int[] dims) -> Tensor", .doc = "Like repeat, with missing leading counts taken as 1.",
      .composite = box<tile_body>, .samples = "T(3), [2]; T(2,3), [2]; T(2,3), [2,2]; T(3), [2,1]; T(2,3), []");

// Each i < n as often as counts[i] says (one count serves all).
std::vector<int64_t> repeated(const std::vector<int64_t>& counts, int64_t n, Device device) {
  auto count = [&](int64_t i) { return counts.size() == 1 ? counts[0] : counts[size_t(i)]; };
  int64_t total = 0;
  for (int64_t i = 0; i < n; ++i) {
    TG_CHECK(count(i) >= 0, ValueError, "repeat_interleave: repeats must not be negative, got ", count(i));
    TG_CHECK(!__builtin_add_overflow(total, count(i), &total), ShapeError,
             "repeat_interleave: more than 2^63 elements");
  }
  check_room("repeat_interleave", total, device);
  std::vector<int64_t> from;
  for (int64_t i = 0; i < n; ++i) from.insert(from.end(), size_t(count(i)), i);
  return from;
}

// What is repeated along which of its axes.
std::pair<Tensor, int> repeated_axis(const Tensor& x, std::optional<int64_t> dim) {
  Tensor y = dim ? x : reshape(x, {x.numel()});
  int axis = wrap_dim("repeat_interleave", dim.value_or(0), y.ndim());
  return {y.ndim() == 0 ? reshape(y, {1}) : y, axis};
}
void check_output_size(std::optional<int64_t> size, int64_t total) {
  TG_CHECK(!size || *size == total, ValueError, "repeat_interleave: output_size is ", size.value_or(0),
           " but the repeats give ", total);
}
Tensor repeat_interleave_int(const Tensor& x, int64_t repeats, std::optional<int64_t> dim,
                             std::optional<int64_t> size) {
  auto [y, axis] = repeated_axis(x, dim);
  TG_CHECK(repeats >= 0, ValueError, "repeat_interleave: repeats must not be negative, got ", repeats);
  int64_t total;
  TG_CHECK(!__builtin_mul_overflow(y.sizes()[axis], repeats, &total), ShapeError,
           "repeat_interleave: more than 2^63 elements");
  check_output_size(size, total);
  check_room("repeat_interleave", total, x.device());
  const Program each = make_program(DType::I64, 0, {repeats}, {{Opc::Index}, {Opc::floor_divide, {1, 0}}});
  KnownIndices known;
  return index_select(y, axis, made_of_index(each, {total}, DType::I64, x.device()));
}
std::vector<int64_t> host_counts(const Tensor& repeats) {
  reject_recording("repeat_interleave", repeats.device());
  TG_CHECK(is_int(repeats.dtype()) && repeats.ndim() <= 1, DTypeError,
           "repeat_interleave: repeats must be a 0-d or 1-d integer tensor, got ", describe(repeats));
  Tensor r = contiguous(cast(repeats, DType::I64));
  std::vector<int64_t> out(size_t(r.numel()));
  if (!out.empty()) backend(r.device()).copy_bytes(out.data(), r.data(), out.size() * sizeof(int64_t));
  return out;
}
Tensor repeat_interleave_tensor(const Tensor& x, const Tensor& repeats, std::optional<int64_t> dim,
                                std::optional<int64_t> size) {
  auto [y, axis] = repeated_axis(x, dim);
  const std::vector<int64_t> counts = host_counts(repeats);
  const int64_t n = y.sizes()[axis];
  TG_CHECK(counts.size() == 1 || int64_t(counts.size()) == n, ShapeError, "repeat_interleave: got ", counts.size(),
           " repeats for dimension ", axis, " of size ", n, "; input=", describe(x));
  const std::vector<int64_t> from = repeated(counts, n, x.device());
  check_output_size(size, int64_t(from.size()));
  KnownIndices known;
  return index_select(y, axis, index_tensor(from, x.device()));
}
Tensor repeat_interleave_indices(const Tensor& repeats) {
  std::vector<int64_t> counts = host_counts(repeats);
  return index_tensor(repeated(counts, int64_t(counts.size()), repeats.device()), repeats.device());
}
TG_OP("repeat_interleave(Tensor input, int repeats, int? dim=None, *, int? output_size=None) -> Tensor",
      .doc = "Every element (or slice along dim) repeated in place; without dim the tensor is flattened first.",
      .composite = box<repeat_interleave_int>,
      .samples = "T(3), 2; T(2,3), 2; T(2,3), 2, 1; T(2,3), 3, dim=-2; T(2,3), 0, 1; T(), 3");
TG_OP("repeat_interleave.tensor(Tensor input, Tensor repeats, int? dim=None, *, int? output_size=None) -> Tensor",
      .doc = "Element (or slice along dim) i repeated repeats[i] times.", .composite = box<repeat_interleave_tensor>,
      .samples = "T(3), I(3, hi=4); T(2,3), I(3, hi=4), 1; T(2,3), I(1, lo=2, hi=3), 0");
TG_OP("repeat_interleave.indices(Tensor repeats) -> Tensor", .doc = "Index i repeated repeats[i] times.",
      .composite = box<repeat_interleave_indices>, .flags = kNoGrad | kFunctionOnly, .samples = "I(4, hi=4); I(0)");

}  // namespace
}  // namespace tg
