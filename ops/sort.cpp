// Sorting, searching and distinct values.
#include "core/pool.h"
#include "ops/copy_view.h"

namespace tg {
namespace {

using Sorted = std::tuple<Tensor, Tensor>;

// Stable, so that equal elements keep their order; NaN counts as the largest.
Sorted run_sort(const Tensor& x, int axis, bool descending, bool want_values) {
  Tensor values = want_values ? empty_tensor(x.sizes(), x.dtype(), x.device()) : Tensor();
  Tensor index = empty_tensor(x.sizes(), DType::I64, x.device());
  if (x.ndim() == 0) return {want_values ? clone(x) : Tensor(), zeros({}, DType::I64, x.device())};
  if (x.numel() > 0)
    backend(x.device()).sort(View(x), axis, descending, want_values ? View(values) : View(), View(index));
  return {values, index};
}

// The permutation's gradient: each to where it came from.
Tensor unsort(GradCtx& c, int64_t dim) {
  if (c.shape(0).empty()) return c.g();
  return scatter_(zeros(c.shape(0), c.g().dtype(), c.device()), dim, c.y(1), c.g());
}

Sorted sort_impl(const Tensor& x, int64_t dim, bool descending, bool) {
  return run_sort(x, wrap_dim("sort", dim, x.ndim()), descending, true);
}
TG_OP("sort(Tensor input, int dim=-1, bool descending=False, bool stable=False) -> (Tensor values, Tensor indices)",
      .doc = "Elements in order along dim and their old positions. Always stable; NaN counts as the largest.",
      .primitive = box<sort_impl>, .grads = {{out(1), [](GradCtx& c) { return unsort(c, c.arg<int64_t>(1)); }}},
      .samples =
          "T(5); T(3,4), 0; T(3,4), -1, True; T(2,3,4), 1, descending=True; T(); T(0,3), 0; I(33, hi=900); B(7), "
          "stable=True");

Tensor argsort_impl(const Tensor& x, int64_t dim, bool descending, bool) {
  return std::get<1>(run_sort(x, wrap_dim("argsort", dim, x.ndim()), descending, false));
}
TG_OP("argsort(Tensor input, int dim=-1, bool descending=False, bool stable=False) -> Tensor",
      .doc = "Positions that put the elements in order along dim. Always stable.", .primitive = box<argsort_impl>,
      .flags = kNoGrad, .samples = "T(5); T(3,4), 0; T(3,4), -1, True; T(); T(0,3), 0; I(9, hi=3), stable=True");

Tensor msort_body(const Tensor& x) { return std::get<0>(sort(x, 0)); }
TG_OP("msort(Tensor input) -> Tensor", .doc = "Elements in order along dimension 0.", .composite = box<msort_body>,
      .samples = "T(5); T(3,4)");

Sorted topk_impl(const Tensor& x, int64_t k, int64_t dim, bool largest, bool) {
  int axis = wrap_dim("topk", dim, x.ndim());
  int64_t n = x.ndim() == 0 ? 1 : x.sizes()[axis];
  TG_CHECK(k >= 0 && k <= n, IndexError, "topk: k must be in [0, ", n, "], the size of dimension ", axis, ", got ", k,
           "; input=", describe(x));
  auto [values, index] = run_sort(x, axis, largest, true);
  if (x.ndim() == 0) return {values, index};
  return {clone(narrow(values, axis, 0, k)), clone(narrow(index, axis, 0, k))};
}
TG_OP("topk(Tensor input, int k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)",
      .doc = "The k largest (or smallest) elements along dim, in order, and their positions.",
      .primitive = box<topk_impl>, .grads = {{out(1), [](GradCtx& c) { return unsort(c, c.arg<int64_t>(2)); }}},
      .samples =
          "T(5), 2; T(3,4), 2, 0; T(3,4), 3, largest=False; T(2,3,4), 1, -2; T(), 1; T(5), 0; T(3,4), 4; I(9, hi=900), "
          "3");

// ---- distinct values

// Where a flat tensor differs from its predecessor; the first element always does.
Tensor run_starts(const Tensor& flat) {
  int64_t n = flat.numel();
  if (n == 0) return zeros({0}, DType::Bool, flat.device());
  return cat({ones({1}, DType::Bool, flat.device()), ne(narrow(flat, 0, 1, n - 1), narrow(flat, 0, 0, n - 1))});
}

// Lengths of the runs that begin at `starts`.
Tensor run_lengths(const Tensor& starts) {
  Tensor first = reshape(nonzero(starts), {-1});
  return diff(first, 1, 0, Tensor(), full({1}, starts.numel(), DType::I64, starts.device()));
}

// Whether row i of a matrix differs from row i - 1.
Tensor row_starts(const Tensor& rows) {
  int64_t n = rows.size(0);
  if (n == 0) return zeros({0}, DType::Bool, rows.device());
  Tensor changed = rows.size(1) == 0 ? zeros({n - 1}, DType::Bool, rows.device())
                                     : any(ne(narrow(rows, 0, 1, n - 1), narrow(rows, 0, 0, n - 1)), 1);
  return cat({ones({1}, DType::Bool, rows.device()), changed});
}

// Order of the rows of a matrix, first column first: stable sorts from the last column on.
Tensor row_order(const Tensor& rows) {
  Tensor order = arange(rows.size(0), DType::I64, rows.device());
  for (int64_t j = rows.size(1) - 1; j >= 0; --j) {
    Tensor column = index_select(select(rows, 1, j), 0, order);
    order = index_select(order, 0, argsort(column, 0, false, true));
  }
  return order;
}

std::vector<Tensor> pick_outputs(const Tensor& values, const Tensor& inverse, const Tensor& counts, bool want_inverse,
                                 bool want_counts) {
  std::vector<Tensor> out{values};
  if (want_inverse) out.push_back(inverse);
  if (want_counts) out.push_back(counts);
  return out;
}

// Distinct elements of a flat tensor or, with dim, distinct slices; `order` undefined: only neighbours are compared.
std::vector<Tensor> distinct(const char* op, const Tensor& x, std::optional<int64_t> dim, bool in_order,
                             bool want_inverse, bool want_counts) {
  int axis = dim ? wrap_dim(op, *dim, x.ndim()) : 0;
  bool slices = dim && x.ndim() > 0;
  Tensor items = slices ? contiguous(movedim(x, {axis}, {0})) : reshape(x, {x.numel()});
  int64_t n = items.size(0), width = n > 0 ? items.numel() / n : 0;
  Tensor rows = slices ? reshape(items, {n, width}) : items;
  Tensor order;
  if (in_order) order = slices ? row_order(rows) : argsort(rows, 0, false, true);
  if (in_order) rows = index_select(rows, 0, order);
  Tensor starts = slices ? row_starts(rows) : run_starts(rows);
  Tensor first = reshape(nonzero(starts), {-1}), inverse;
  Tensor values = index_select(items, 0, in_order ? index_select(order, 0, first) : first);
  if (slices) values = contiguous(movedim(values, {0}, {axis}));
  if (want_inverse) {
    inverse = cumsum(starts, 0) - 1;
    if (in_order) inverse = scatter(zeros_like(inverse), 0, order, inverse);
    if (!slices) inverse = reshape(inverse, x.sizes());
  }
  return pick_outputs(values, inverse, want_counts ? run_lengths(starts) : Tensor(), want_inverse, want_counts);
}

std::vector<Tensor> unique_impl(const Tensor& x, bool, bool return_inverse, bool return_counts,
                                std::optional<int64_t> dim) {
  return distinct("unique", x, dim, true, return_inverse, return_counts);
}
std::vector<Tensor> unique_consecutive_impl(const Tensor& x, bool return_inverse, bool return_counts,
                                            std::optional<int64_t> dim) {
  return distinct("unique_consecutive", x, dim, false, return_inverse, return_counts);
}
TG_OP(
    "unique(Tensor input, bool sorted=True, bool return_inverse=False, bool return_counts=False, int? dim=None) -> "
    "Tensor[]",
    .doc =
        "Distinct elements in order (distinct slices along dim), then, if asked for, the position of each element "
        "among them and how often each occurs.",
    .primitive = box<unique_impl>, .flags = kNoGrad,
    .samples =
        "I(9, hi=4); I(3,4, hi=4), return_inverse=True; I(9, hi=4), True, True, True; T(5); I(6,2, hi=2), dim=0; "
        "I(2,6, "
        "hi=2), True, True, True, dim=1; T(0); B(5), return_counts=True",
    .notes = "unwrap");
TG_OP(
    "unique_consecutive(Tensor input, bool return_inverse=False, bool return_counts=False, int? dim=None) -> Tensor[]",
    .doc =
        "The first of each run of equal elements (or slices along dim), then, if asked for, the run of each element "
        "and the lengths of the runs.",
    .primitive = box<unique_consecutive_impl>, .flags = kNoGrad,
    .samples = "I(9, hi=2); I(3,4, hi=2), return_inverse=True; I(9, hi=2), True, True; I(6,2, hi=2), dim=0; T(0)",
    .notes = "unwrap");

// ---- searching

template <class T>
bool sorts_before(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a < b || (b != b && a == a);  // NaN last
  else
    return a < b;
}

// Rows of `seq` (rows, n) are searched for the elements of the same row of `v` (rows, m).
Tensor search_rows(const Tensor& seq, const Tensor& v, int64_t rows, bool right, DType index_dtype) {
  int64_t n = seq.numel() / std::max<int64_t>(rows, 1), m = v.numel() / std::max<int64_t>(rows, 1);
  Tensor y = empty_tensor(v.sizes(), DType::I64, Device());
  visit(seq.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, double> || std::is_same_v<T, int64_t>) {
      const T* s = seq.data<T>();
      const T* q = v.data<T>();
      int64_t* out = y.data<int64_t>();
      parallel_for(rows * m, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const T* row = s + i / m * n;
          const T* at = right ? std::upper_bound(row, row + n, q[i], sorts_before<T>)
                              : std::lower_bound(row, row + n, q[i], sorts_before<T>);
          out[i] = at - row;
        }
      });
    }
  });
  return narrow_to(y, index_dtype);
}

Tensor search(const char* op, const Tensor& seq, const Tensor& v, bool right, std::optional<std::string_view> side,
              bool int32) {
  TG_CHECK(!side || *side == "left" || *side == "right", ValueError, op, ": side must be 'left' or 'right', got '",
           side.value_or(""), "'");
  TG_CHECK(!side || !right || *side == "right", ValueError, op, ": side 'left' contradicts right=True");
  TG_CHECK(seq.device() == v.device(), DeviceError, op,
           ": expected all tensors on one device; sequence=", describe(seq), ", values=", describe(v));
  TG_CHECK(seq.ndim() >= 1, ShapeError, op,
           ": the sorted sequence needs at least 1 dimension; sequence=", describe(seq));
  bool shared = seq.ndim() == 1;
  TG_CHECK(
      shared || (seq.ndim() == v.ndim() && std::equal(seq.sizes().begin(), seq.sizes().end() - 1, v.sizes().begin())),
      ShapeError, op, ": sequence and values must agree in all dimensions but the last; sequence=", describe(seq),
      ", values=", describe(v));
  DType wide = is_float(seq.dtype()) || is_float(v.dtype()) ? DType::F64 : DType::I64;
  auto host = [&](const Tensor& t) { return contiguous(narrow_to(to(t, Device()), wide)); };
  int64_t rows = shared ? 1 : numel_of(Dims(seq.sizes().begin(), seq.sizes().end() - 1), op);
  Tensor y =
      search_rows(host(seq), host(v), rows, right || (side && *side == "right"), int32 ? DType::I32 : DType::I64);
  return to(y, v.device());
}
Tensor searchsorted_tensor(const Tensor& seq, const Tensor& v, bool int32, bool right,
                           std::optional<std::string_view> side, const Tensor& sorter) {
  Tensor s = sorter.defined() ? gather(seq, -1, sorter) : seq;
  return search("searchsorted", s, v, right, side, int32);
}
Tensor searchsorted_number(const Tensor& seq, Scalar v, bool int32, bool right, std::optional<std::string_view> side,
                           const Tensor& sorter) {
  TG_CHECK(seq.ndim() == 1, ShapeError,
           "searchsorted: a number can only be searched for in a vector; sequence=", describe(seq));
  return searchsorted_tensor(seq, full({}, v, v.is_float() ? DType::F64 : DType::I64, seq.device()), int32, right, side,
                             sorter);
}
Tensor bucketize_tensor(const Tensor& x, const Tensor& boundaries, bool int32, bool right) {
  TG_CHECK(boundaries.ndim() == 1, ShapeError,
           "bucketize: boundaries must be a vector, boundaries=", describe(boundaries));
  return search("bucketize", boundaries, x, right, std::nullopt, int32);
}
Tensor bucketize_number(Scalar x, const Tensor& boundaries, bool int32, bool right) {
  return bucketize_tensor(full({}, x, x.is_float() ? DType::F64 : DType::I64, boundaries.device()), boundaries, int32,
                          right);
}
TG_OP(
    "searchsorted(Tensor sorted_sequence, Tensor input, *, bool out_int32=False, bool right=False, str? side=None, "
    "Tensor? "
    "sorter=None) -> Tensor",
    .doc =
        "Where each element would go into the sorted sequence (last dimension): before equals, or after them with "
        "right.",
    .primitive = box<searchsorted_tensor>, .flags = kNoGrad | kFunctionOnly | kOnHost,
    .samples = "I(1, hi=5), I(3,4, hi=5); T(1), T(3), right=True; T(2,1), T(2,4); T(1), T(), side='right'");
TG_OP(
    "searchsorted.number(Tensor sorted_sequence, Scalar self, *, bool out_int32=False, bool right=False, str? "
    "side=None, "
    "Tensor? sorter=None) -> Tensor",
    .doc = "Where a number would go into the sorted vector.", .primitive = box<searchsorted_number>,
    .flags = kNoGrad | kFunctionOnly | kOnHost, .samples = "I(1, hi=5), 3; T(1), 0.5, right=True");
TG_OP("bucketize(Tensor input, Tensor boundaries, *, bool out_int32=False, bool right=False) -> Tensor",
      .doc = "Number of the bucket, bounded by the sorted boundaries, that each element falls into.",
      .primitive = box<bucketize_tensor>, .flags = kNoGrad | kFunctionOnly | kOnHost,
      .samples = "T(3,4), T(1); I(5, hi=9), I(1, hi=5), right=True");
TG_OP("bucketize.number(Scalar input, Tensor boundaries, *, bool out_int32=False, bool right=False) -> Tensor",
      .doc = "Number of the bucket a number falls into.", .primitive = box<bucketize_number>,
      .flags = kNoGrad | kFunctionOnly | kOnHost, .samples = "3, I(1, hi=5); 0.5, T(1), right=True");

// Through sorting: an element is in the set if the place it would go to holds it.
Tensor isin_impl(const Tensor& elements, const Tensor& test, bool, bool invert) {
  Tensor hit;
  if (test.numel() == 0) {
    hit = zeros(elements.sizes(), DType::Bool, elements.device());
  } else {
    DType wide = is_float(elements.dtype()) || is_float(test.dtype()) ? DType::F64 : DType::I64;
    Tensor set = std::get<0>(sort(reshape(narrow_to(test, wide), {test.numel()}))), e = narrow_to(elements, wide);
    Tensor at = clamp_max(search("isin", set, e, false, std::nullopt, false), set.numel() - 1);
    hit = eq(reshape(index_select(set, 0, reshape(at, {at.numel()})), e.sizes()), e);
  }
  return invert ? logical_not(hit) : hit;
}
Tensor isin_number(const Tensor& elements, Scalar test, bool, bool invert) {
  return invert ? ne(elements, test) : eq(elements, test);
}
TG_OP("isin(Tensor elements, Tensor test_elements, *, bool assume_unique=False, bool invert=False) -> Tensor",
      .doc = "True where an element is among test_elements.", .primitive = box<isin_impl>,
      .flags = kNoGrad | kFunctionOnly,
      .samples = "I(3,4, hi=9), I(3, hi=9); I(5, hi=9), I(4, hi=9), invert=True; I(5, hi=9), I(0); T(3), T(2)");
TG_OP("isin.number(Tensor elements, Scalar test_element, *, bool assume_unique=False, bool invert=False) -> Tensor",
      .doc = "True where an element equals the number.", .primitive = box<isin_number>,
      .flags = kNoGrad | kFunctionOnly, .samples = "I(5, hi=4), 2; I(5, hi=4), 2, invert=True");

}  // namespace
}  // namespace tg
