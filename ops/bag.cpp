// embedding_bag: rows of a table reduced bag by bag.
#include "ops/fast_path.h"

namespace tg {
namespace {

struct Bags {
  Tensor index, bag;  // the row and the bag of every entry
  int64_t count;
};

// One bag per row of a matrix; of a vector, bag i is what lies between offsets i and i + 1.
Bags find_bags(const Tensor& input, const Tensor& offsets, bool include_last) {
  TG_CHECK(is_int(input.dtype()), DTypeError,
           "embedding_bag: input must be an integer tensor; input=", describe(input));
  if (input.ndim() == 2) {
    TG_CHECK(!offsets.defined(), ValueError,
             "embedding_bag: a matrix of bags takes no offsets; input=", describe(input),
             ", offsets=", describe(offsets));
    Tensor rows = unsqueeze(arange(input.size(0), std::nullopt, input.device()), 1);
    return {reshape(input, {-1}), reshape(expand(rows, input.sizes()), {-1}), input.size(0)};
  }
  TG_CHECK(input.ndim() == 1, ShapeError, "embedding_bag: input must have 1 or 2 dimensions; input=", describe(input));
  TG_CHECK(offsets.defined() && offsets.ndim() == 1 && is_int(offsets.dtype()), ValueError,
           "embedding_bag: a vector needs offsets, a vector of integers; input=", describe(input),
           ", offsets=", describe(offsets));
  int64_t n = offsets.size(0) - (include_last ? 1 : 0);
  TG_CHECK(n >= 0, ValueError, "embedding_bag: include_last_offset needs at least one offset");
  Tensor starts = narrow(offsets, 0, 0, n);
  if (n > 0) {
    TG_CHECK(starts[0].item<int64_t>() == 0, ValueError, "embedding_bag: the first offset must be 0");
    Tensor later = n > 1 ? sub(slice(starts, 0, 1), slice(starts, 0, 0, n - 1)) : starts;
    TG_CHECK(all(ge(later, 0)).item<bool>() && starts[n - 1].item<int64_t>() <= input.numel(), IndexError,
             "embedding_bag: offsets must not fall and stay within input; input=", describe(input));
  }
  Tensor at = arange(input.numel(), std::nullopt, input.device());
  TG_CHECK(n > 0 || input.numel() == 0, ValueError, "embedding_bag: entries but no bag; input=", describe(input));
  return {input, sub(searchsorted(starts, at, false, true), 1), n};
}

Tensor embedding_bag_body(const Tensor& input, const Tensor& weight, const Tensor& offsets,
                          std::optional<double> max_norm, double norm_type, bool by_freq, std::string_view mode, bool,
                          const Tensor& sample_weights, bool include_last, std::optional<int64_t> padding) {
  TG_CHECK(mode == "sum" || mode == "mean" || mode == "max", ValueError,
           "embedding_bag: mode must be 'sum', 'mean' or 'max', got '", mode, "'");
  TG_CHECK(weight.ndim() == 2, ShapeError, "embedding_bag: weight must have 2 dimensions; weight=", describe(weight));
  Bags b = find_bags(input, offsets, include_last);
  Tensor scale;
  if (sample_weights.defined()) {
    TG_CHECK(mode == "sum", NotImplementedError, "embedding_bag: per_sample_weights needs mode 'sum', not '", mode,
             "'");
    TG_CHECK(sample_weights.sizes() == input.sizes(), ShapeError,
             "embedding_bag: per_sample_weights must have the size of input; per_sample_weights=",
             describe(sample_weights), ", input=", describe(input));
    scale = reshape(sample_weights, {-1});
  }
  if (padding) {  // entries that count for nothing
    Tensor kept = squeeze(nonzero(ne(b.index, *padding < 0 ? *padding + weight.size(0) : *padding)), 1);
    b.index = index_select(b.index, 0, kept);
    b.bag = index_select(b.bag, 0, kept);
    if (scale.defined()) scale = index_select(scale, 0, kept);
  }
  Tensor rows = embedding(b.index, weight, std::nullopt, max_norm, norm_type, by_freq);
  if (scale.defined()) rows = rows * unsqueeze(scale, 1);
  Tensor empty = zeros({b.count, weight.size(1)}, weight.dtype(), weight.device());
  if (mode == "max") return scatter_reduce(empty, 0, expand(unsqueeze(b.bag, 1), rows.sizes()), rows, "amax", false);
  Tensor total = index_add(empty, 0, b.bag, rows);
  if (mode == "sum") return total;
  Tensor entries = index_add(zeros({b.count}, weight.dtype(), weight.device()), 0, b.bag,
                             ones(b.bag.sizes(), weight.dtype(), weight.device()));
  return total / unsqueeze(clamp_min(entries, 1), 1);
}

TG_OP(
    "embedding_bag(Tensor input, Tensor weight, Tensor? offsets=None, float? max_norm=None, float norm_type=2.0, bool "
    "scale_grad_by_freq=False, str mode='mean', bool sparse=False, Tensor? per_sample_weights=None, bool "
    "include_last_offset=False, int? padding_idx=None) -> Tensor",
    .doc =
        "Sum, mean or maximum of the rows of weight (n, d) that each bag names: a row of a matrix input, or the "
        "stretch "
        "of a vector from one offset to the next. An empty bag gives 0; entries equal to padding_idx do not count.",
    .composite = box<embedding_bag_body>, .flags = kNN, .torch = "nn.functional.embedding_bag",
    .samples =
        "I(3,4, hi=5), T(5,2); I(3,4, hi=5), T(5,2), mode='sum'; PERM(3,4, dim=1), T(5,2), mode='max'; I(6, hi=5), "
        "T(5,2), PERM(1); I(7, hi=5), T(5,2), PERM(1), mode='max'; I(3,4, hi=5), T(5,2), mode='sum', "
        "per_sample_weights=T(3,4); I(3,6, hi=3), T(5,2), padding_idx=1; I(3,4, hi=5), C(5,2), max_norm=0.5",
    .notes = "nograd2");

}  // namespace
}  // namespace tg
