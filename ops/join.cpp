// Putting tensors together: cat, stack and their relatives.
#include "ops/copy_view.h"
#include "ops/index.h"

namespace tg {
namespace {

// PyTorch's old rule: a 1-d tensor without elements joins anything.
bool is_legacy_empty(const Dims& s) { return s.size() == 1 && s[0] == 0; }

struct CatPlan {
  Dims sizes;
  DType dtype;
  Device device;
  int axis;
};

CatPlan plan_cat(TensorList ts, int64_t dim) {
  TG_CHECK(!ts.empty(), ValueError, "cat: expected at least one tensor");
  int64_t first = -1;
  CatPlan p{{}, ts[0].dtype(), ts[0].device(), 0};
  for (int64_t k = 0; k < ts.size(); ++k) {
    TG_CHECK(ts[k].ndim() > 0, ShapeError, "cat: tensor ", k, " has no dimensions to join; tensors[", k,
             "]=", describe(ts[k]));
    TG_CHECK(ts[k].device() == p.device, DeviceError, "cat: tensor ", k,
             " is on another device; tensors[0]=", describe(ts[0]), ", tensors[", k, "]=", describe(ts[k]));
    p.dtype = promote(p.dtype, ts[k].dtype());
    if (first < 0 && !is_legacy_empty(ts[k].sizes())) first = k;
  }
  p.axis = wrap_dim("cat", dim, first < 0 ? 1 : ts[first].ndim());
  if (first < 0) {
    p.sizes = {0};
    return p;
  }
  p.sizes = ts[first].sizes();
  for (int64_t k = first + 1; k < ts.size(); ++k) {
    const Dims& s = ts[k].sizes();
    if (is_legacy_empty(s)) continue;
    TG_CHECK(s.size() == p.sizes.size(), ShapeError, "cat: tensor ", k, " has ", s.size(), " dimensions, expected ",
             p.sizes.size(), "; tensors[", first, "]=", describe(ts[first]), ", tensors[", k, "]=", describe(ts[k]));
    for (int i = 0; i < s.size(); ++i)
      TG_CHECK(i == p.axis || s[i] == p.sizes[i], ShapeError, "cat: tensor ", k, " has size ", s[i], " in dimension ",
               i, ", expected ", p.sizes[i], " (all but dimension ", p.axis, " must agree); tensors[", first,
               "]=", describe(ts[first]), ", tensors[", k, "]=", describe(ts[k]));
    TG_CHECK(!__builtin_add_overflow(p.sizes[p.axis], s[p.axis], &p.sizes[p.axis]), ShapeError,
             "cat: the sizes of dimension ", p.axis, " add up to more than 2^63");
  }
  return p;
}

Tensor cat_impl(TensorList ts, int64_t dim) {
  CatPlan p = plan_cat(ts, dim);
  Tensor y = empty_tensor(p.sizes, p.dtype, p.device);
  int64_t at = 0;
  for (const Tensor& t : ts) {
    if (t.numel() == 0) {
      if (!is_legacy_empty(t.sizes())) at += t.sizes()[p.axis];
      continue;
    }
    int64_t n = t.sizes()[p.axis];
    copy_view(p.device, View(t), slice_view(View(y), p.axis, at, n));
    at += n;
  }
  return y;
}

// Each tensor's gradient is its part of the result's.
void cat_grad(GradCtx& c) {
  const Tensor& g = c.g();
  int axis = wrap_dim("cat", c.arg<int64_t>(1), g.ndim());
  int64_t at = 0;
  for (int k = 0; k < c.list_size(0); ++k) {
    const Dims& s = c.shape(0, k);
    if (is_legacy_empty(s)) continue;
    if (c.needs(0, k)) c.set(0, k, narrow(g, axis, at, s[axis]));
    at += s[axis];
  }
}

TG_OP(
    "cat(Tensor[] tensors, int dim=0) -> Tensor",
    .doc = "Joins tensors along an existing dimension; all other sizes must agree. dtypes are promoted.",
    .primitive = box<cat_impl>, .joint = {0, cat_grad}, .flags = kFunctionOnly, .autocast = Autocast::Widest,
    .aliases = "concat concatenate",
    .samples =
        "[T(2,3), T(4,3)]; [T(2,3), T(2,5), T(2,1)], dim=1; [T(2,3), T(2,3)], dim=-1; [T(2,3), T(0)], dim=1; "
        "[T(2,0), T(2,3)], 1; [T(3)]; [T(3), I(2, hi=5)]; [I(2, hi=5), B(3)]; [T(2,3,4), T(2,1,4)], -2; [T(0), T(0)]");

void check_same_sizes(const char* op, TensorList ts) {
  TG_CHECK(!ts.empty(), ValueError, op, ": expected at least one tensor");
  for (int64_t k = 1; k < ts.size(); ++k)
    TG_CHECK(ts[k].sizes() == ts[0].sizes(), ShapeError, op, ": tensors must have equal sizes, ", ts[0].sizes(), " vs ",
             ts[k].sizes(), " for tensor ", k, "; tensors[0]=", describe(ts[0]), ", tensors[", k,
             "]=", describe(ts[k]));
}

Tensor stack_body(TensorList ts, int64_t dim) {
  check_same_sizes("stack", ts);
  int axis = wrap_dim("stack", dim, ts[0].ndim() + 1);
  std::vector<Tensor> parts;
  for (const Tensor& t : ts) parts.push_back(unsqueeze(t, axis));
  return cat(parts, axis);
}
TG_OP("stack(Tensor[] tensors, int dim=0) -> Tensor", .doc = "Joins tensors of equal sizes along a new dimension.",
      .composite = box<stack_body>, .flags = kFunctionOnly, .autocast = Autocast::Widest,
      .samples =
          "[T(2,3), T(2,3)]; [T(2,3), T(2,3)], 1; [T(2,3), T(2,3), T(2,3)], -1; [T(), T()]; [T(0,2), T(0,2)], 2; "
          "[T(3), I(3, hi=5)]");

// At least n dimensions: 1-d becomes (1, n, 1) for three.
Tensor at_least(const Tensor& x, int n) {
  if (x.ndim() >= n) return x;
  if (x.ndim() == 0) return reshape(x, Dims::filled(n, 1));
  if (n == 2) return unsqueeze(x, 0);
  return x.ndim() == 1 ? unsqueeze(unsqueeze(x, 0), 2) : unsqueeze(x, 2);
}
template <int n>
Tensor at_least_body(const Tensor& x) {
  return at_least(x, n);
}
template <int n>
std::vector<Tensor> at_least_list(TensorList ts) {
  std::vector<Tensor> out;
  for (const Tensor& t : ts) out.push_back(at_least(t, n));
  return out;
}
TG_OP("atleast_1d(Tensor input) -> Tensor", .doc = "The tensor with at least 1 dimension.",
      .composite = box<at_least_body<1>>, .flags = kFunctionOnly, .samples = "T(); T(3); T(2,3)");
TG_OP("atleast_1d.list(Tensor[] tensors) -> Tensor[]", .doc = "Each tensor with at least 1 dimension.",
      .composite = box<at_least_list<1>>, .flags = kFunctionOnly, .samples = "[T(), T(3)]");
TG_OP("atleast_2d(Tensor input) -> Tensor", .doc = "The tensor with at least 2 dimensions, new ones in front.",
      .composite = box<at_least_body<2>>, .flags = kFunctionOnly, .samples = "T(); T(3); T(2,3); T(2,3,4)");
TG_OP("atleast_2d.list(Tensor[] tensors) -> Tensor[]", .doc = "Each tensor with at least 2 dimensions.",
      .composite = box<at_least_list<2>>, .flags = kFunctionOnly, .samples = "[T(), T(3), T(2,3)]");
TG_OP("atleast_3d(Tensor input) -> Tensor",
      .doc = "The tensor with at least 3 dimensions: 1-d becomes (1, n, 1), 2-d (m, n, 1).",
      .composite = box<at_least_body<3>>, .flags = kFunctionOnly, .samples = "T(); T(3); T(2,3); T(2,3,4)");
TG_OP("atleast_3d.list(Tensor[] tensors) -> Tensor[]", .doc = "Each tensor with at least 3 dimensions.",
      .composite = box<at_least_list<3>>, .flags = kFunctionOnly, .samples = "[T(), T(3), T(2,3)]");

void check_some(const char* op, TensorList ts) {
  TG_CHECK(!ts.empty(), ValueError, op, ": expected at least one tensor");
}

Tensor hstack_body(TensorList ts) {
  check_some("hstack", ts);
  auto parts = at_least_list<1>(ts);
  return cat(parts, parts[0].ndim() == 1 ? 0 : 1);
}
Tensor vstack_body(TensorList ts) {
  check_some("vstack", ts);
  return cat(at_least_list<2>(ts), 0);
}
Tensor dstack_body(TensorList ts) {
  check_some("dstack", ts);
  return cat(at_least_list<3>(ts), 2);
}
Tensor column_stack_body(TensorList ts) {
  check_some("column_stack", ts);
  std::vector<Tensor> parts;
  for (const Tensor& t : ts) parts.push_back(t.ndim() <= 1 ? reshape(t, {t.numel(), 1}) : t);
  return cat(parts, 1);
}
TG_OP("hstack(Tensor[] tensors) -> Tensor", .doc = "Joins along dimension 1, 1-d tensors along dimension 0.",
      .composite = box<hstack_body>, .flags = kFunctionOnly, .samples = "[T(3), T(2)]; [T(2,3), T(2,1)]; [T(), T()]");
TG_OP("vstack(Tensor[] tensors) -> Tensor", .doc = "Joins along dimension 0, tensors seen with at least 2 dimensions.",
      .composite = box<vstack_body>, .flags = kFunctionOnly, .aliases = "row_stack",
      .samples = "[T(3), T(3)]; [T(2,3), T(1,3)]; [T(), T()]");
TG_OP("dstack(Tensor[] tensors) -> Tensor", .doc = "Joins along dimension 2, tensors seen with at least 3 dimensions.",
      .composite = box<dstack_body>, .flags = kFunctionOnly,
      .samples = "[T(3), T(3)]; [T(2,3), T(2,3)]; [T(2,3,1), T(2,3,4)]");
TG_OP("column_stack(Tensor[] tensors) -> Tensor", .doc = "Joins along dimension 1; 0-d and 1-d tensors are columns.",
      .composite = box<column_stack_body>, .flags = kFunctionOnly,
      .samples = "[T(3), T(3)]; [T(3), T(3,2)]; [T(), T()]");

std::vector<Tensor> broadcast_tensors_body(TensorList ts) {
  Dims shape;
  for (const Tensor& t : ts) shape = broadcast_shapes("broadcast_tensors", shape, t.sizes());
  std::vector<Tensor> out;
  for (const Tensor& t : ts) out.push_back(expand(t, shape));
  return out;
}
TG_OP("broadcast_tensors(Tensor[] tensors) -> Tensor[]",
      .doc = "Views of the tensors with their common broadcast shape.", .composite = box<broadcast_tensors_body>,
      .flags = kFunctionOnly, .samples = "[T(3,1), T(4)]; [T(2,3), T()]; [T(1,3), T(2,1), T(1,1)]");

Tensor block_diag_body(TensorList ts) {
  check_some("block_diag", ts);
  int64_t cols = 0, before = 0;
  std::vector<Tensor> blocks;
  for (const Tensor& t : ts) {
    TG_CHECK(t.ndim() <= 2, ShapeError, "block_diag: tensors have at most 2 dimensions, got ", describe(t));
    blocks.push_back(at_least(t, 2));
    cols += blocks.back().size(1);
  }
  std::vector<Tensor> strips;
  for (const Tensor& b : blocks) {
    strips.push_back(constant_pad_nd(b, {before, cols - before - b.size(1), 0, 0}));
    before += b.size(1);
  }
  return cat(strips, 0);
}
TG_OP("block_diag(Tensor[] tensors) -> Tensor", .doc = "Matrix with the tensors along its diagonal and 0 elsewhere.",
      .composite = box<block_diag_body>, .flags = kFunctionOnly, .samples = "[T(2,3), T(1,2)]; [T(3), T(), T(2,2)]");

Tensor cartesian_prod_body(TensorList ts) {
  check_some("cartesian_prod", ts);
  Dims shape;
  for (const Tensor& t : ts) {
    TG_CHECK(t.ndim() == 1, ShapeError, "cartesian_prod: expected 1-d tensors, got ", describe(t));
    shape.push_back(t.size(0));
  }
  if (ts.size() == 1) return ts[0];
  std::vector<Tensor> cols;
  for (int k = 0; k < int(ts.size()); ++k) {
    Dims s = Dims::filled(shape.size(), 1);
    s[k] = shape[k];
    cols.push_back(reshape(expand(reshape(ts[k], s), shape), {numel_of(shape, "cartesian_prod")}));
  }
  return stack(cols, 1);
}
TG_OP("cartesian_prod(Tensor[] tensors) -> Tensor", .doc = "All combinations of elements of 1-d tensors, one per row.",
      .composite = box<cartesian_prod_body>, .flags = kFunctionOnly,
      .samples = "[T(3), T(2)]; [T(2), T(3), T(2)]; [T(3)]");

// n choose k; ShapeError when it does not fit.
int64_t choose(int64_t n, int64_t k) {
  k = std::min(k, n - k);
  if (k < 0) return 0;
  __int128 v = 1;
  for (int64_t i = 1; i <= k; ++i) {
    v = v * (n - k + i) / i;
    TG_CHECK(v < (__int128(1) << 62), ShapeError, "combinations: more than 2^62 rows");
  }
  return int64_t(v);
}

Tensor combinations_body(const Tensor& x, int64_t r, bool with_replacement) {
  TG_CHECK(x.ndim() == 1, ShapeError, "combinations: expected a 1-d tensor, input=", describe(x));
  TG_CHECK(r >= 0 && r < (int64_t(1) << 62), ValueError, "combinations: r must not be negative or huge, got ", r);
  if (r == 0) return empty_tensor({0}, x.dtype(), x.device());
  int64_t n = x.size(0), rows = with_replacement ? (n > 0 ? choose(n + r - 1, r) : 0) : choose(n, r);
  numel_of({rows, r}, "combinations");
  reject_recording("combinations", x.device());
  Tensor index = empty_tensor({rows * r}, DType::I64);
  int64_t* pick = index.data<int64_t>();
  for (int64_t k = 0; k < rows; ++k, pick += r) {
    if (k == 0) {
      for (int64_t i = 0; i < r; ++i) pick[i] = with_replacement ? 0 : i;
      continue;
    }
    // the successor in dictionary order: raise the last position that can be raised, restart those behind it
    std::copy(pick - r, pick, pick);
    int64_t i = r - 1;
    while (pick[i] == (with_replacement ? n - 1 : n - r + i)) --i;
    int64_t v = pick[i] + 1;
    for (; i < r; ++i) pick[i] = with_replacement ? v : v++;
  }
  return reshape(index_select(x, 0, to(index, x.device())), {rows, r});
}
TG_OP("combinations(Tensor input, int r=2, bool with_replacement=False) -> Tensor",
      .doc = "Combinations of length r of the elements of a 1-d tensor, one per row.",
      .composite = box<combinations_body>, .flags = kFunctionOnly, .samples = "T(4); T(4), 3; T(3), 2, True; T(1)");

}  // namespace
}  // namespace tg
