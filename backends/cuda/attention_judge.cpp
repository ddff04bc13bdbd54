#include "backends/cuda/attention_judge.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cuda/attention.h"
#include "backends/cuda/device.h"
#include "core/convert.h"

namespace tg::cuda {
namespace {

View last_head(const View& v, int64_t rows) {
  View head = v;
  const int64_t place = (v.shape[0] - 1) * v.stride[0] + (v.shape[1] - 1) * v.stride[1];
  head.data = static_cast<char*>(v.data) + place * itemsize(v.dtype);
  head.shape = {1, 1, std::min(rows, v.shape[2]), v.shape[3]};
  return head;
}

struct HeadRows {
  int64_t rows, width;
  std::vector<float> numbers;
  const float* row(int64_t r) const { return numbers.data() + r * width; }
};

// The numbers of one head, rows of which may lie apart.
HeadRows rows_of(const View& head) {
  HeadRows h{head.shape[2], head.shape[3], {}};
  const int64_t step = head.stride[2];
  std::vector<uint16_t> memory(size_t((h.rows - 1) * step + h.width));
  copy_and_wait(memory.data(), head.data, memory.size() * sizeof(uint16_t));
  for (int64_t r = 0; r < h.rows; ++r)
    for (int64_t f = 0; f < h.width; ++f) {
      const uint16_t bits = memory[size_t(r * step + f)];
      h.numbers.push_back(head.dtype == DType::F16 ? from_half({bits}) : from_bf16({bits}));
    }
  return h;
}

float largest_of(const float* begin, const float* end) {
  float largest = 0;
  for (; begin != end; ++begin) largest = std::max(largest, std::fabs(*begin));
  return largest;
}

// How far the numbers of each row may be from the own kernel's if both kernels are right. With u, the half type's unit
// of rounding, each of them rounds every weight to the type, an error of at most u of it, and then the result.
//
// Values of one sign in a column make each of these errors at most u of the result: 4 u for both kernels. Values of
// either sign cancel, and the errors of their weights, which have either sign as well, cancel as much: a row of n equal
// weights and a spread s of values is about s / sqrt(n), and errs by about u s / sqrt(n). So in both cases errors go by
// the row's own largest number; 8 u of it leave as much again for luck. A bound that holds for whatever values, from
// sums of |weight value|, would let late rows of a long text pass that lack a tile of keys. Values made to cancel
// better than their errors are judged wrong, which costs speed and nothing else.
//
// Sums of n float32 terms err by about sqrt(n) roundings of 2^-24 of what they sum, here at most 4 times that of the
// head's largest number. Float16 results below 2^-14 have steps of 2^-24, half of which is the error of either.
std::vector<float> row_bounds(const HeadRows& own, DType type, int64_t keys) {
  const bool f16 = type == DType::F16;
  const float u = f16 ? 0x1p-11f : 0x1p-8f;
  const float largest = largest_of(own.row(0), own.row(own.rows));
  const float least = largest * std::sqrt(float(keys)) * 0x1p-22f + (f16 ? 0x1p-24f : 0);
  std::vector<float> bounds;
  for (int64_t r = 0; r < own.rows; ++r) bounds.push_back(8 * u * largest_of(own.row(r), own.row(r + 1)) + least);
  return bounds;
}

// Whether a number lies further from the own kernel's than `times` its row's bound. What is no number does.
bool any_apart(const HeadRows& a, const HeadRows& own, const std::vector<float>& bounds, float times) {
  for (int64_t r = 0; r < own.rows; ++r)
    for (int64_t f = 0; f < own.width; ++f)
      if (!(std::fabs(a.row(r)[f] - own.row(r)[f]) <= times * bounds[size_t(r)])) return true;
  return false;
}

}  // namespace

Verdict judge_attention(const View& q, const View& k, const View& v, bool causal, double scale, const View& out) {
  constexpr int64_t kMostNumbers = int64_t(1) << 25;  // that are copied to the host
  const int64_t rows = std::max<int64_t>(1, std::min(q.shape[2], kMostNumbers / out.stride[2])), width = out.shape[3];
  const auto memory = scratch_if_it_fits(size_t(rows * width * itemsize(out.dtype)));
  if (!memory) return Verdict::Untested;
  View own = last_head(out, rows);
  own.data = memory->as<void>(), own.stride = contiguous_strides(own.shape);
  HeadRows found[2];
  for (bool mask : {causal, !causal}) {
    if (!attention_by_tiles(last_head(q, rows), last_head(k, k.shape[2]), last_head(v, v.shape[2]),
                            {.causal = mask, .scale = scale}, own))
      return Verdict::Untested;
    found[mask != causal] = rows_of(own);
  }
  const auto& [right, other] = found;
  if (!std::all_of(right.numbers.begin(), right.numbers.end(), [](float x) { return std::isfinite(x); }))
    return Verdict::Untested;
  const std::vector<float> bounds = row_bounds(right, out.dtype, k.shape[2]);
  if (any_apart(rows_of(last_head(out, rows)), right, bounds, 1)) return Verdict::Wrong;
  return any_apart(other, right, bounds, 4) ? Verdict::Right : Verdict::Same;
}

}  // namespace tg::cuda
