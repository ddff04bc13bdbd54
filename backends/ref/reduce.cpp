// Reductions, running reductions and searches, element after element in row-major order.
#include <limits>

#include "backends/ref/ref.h"
#include "backends/scalar_math.h"

namespace tg::ref {
namespace {

template <class A>
constexpr A lowest() {
  return std::is_integral_v<A> ? std::numeric_limits<A>::min() : A(-sm::kInf);
}
template <class A>
constexpr A highest() {
  return std::is_integral_v<A> ? std::numeric_limits<A>::max() : A(sm::kInf);
}

template <class A>
A neutral(ReduceOp op) {
  switch (op) {
    case ReduceOp::Prod:
    case ReduceOp::All:
      return A(1);
    case ReduceOp::Max:
      return lowest<A>();
    case ReduceOp::Min:
      return highest<A>();
    default:
      return A(0);
  }
}

template <class A>
A combine(ReduceOp op, A acc, A x) {
  switch (op) {
    case ReduceOp::Sum:
      return acc + x;
    case ReduceOp::Prod:
      return sm::mul(acc, x);
    case ReduceOp::Max:
      return sm::max_nan(acc, x);
    case ReduceOp::Min:
      return sm::min_nan(acc, x);
    case ReduceOp::Any:
      return A(acc != A(0) || x != A(0));
    case ReduceOp::All:
      return A(acc != A(0) && x != A(0));
  }
  __builtin_unreachable();
}

// The element at `index` (logical position i) after `pre`.
template <class T>
T element(const Program* pre, const Views& ins, const Dims& index, int64_t i, std::vector<T>& regs) {
  for (int k = 0; k < ins.size(); ++k) regs[size_t(k)] = load<T>(ins[k], offset_of(ins[k], index));
  if (!pre) return regs[0];
  run_program<T>(*pre, regs.data(), i);
  return regs[pre->outs[0]];
}

// Post-processing happens in post's own compute type, straight from the accumulator.
template <class A>
void finish(const Program* post, A acc, const View& out, int64_t offset, int64_t i) {
  if (!post) return store<A>(out, offset, acc);
  visit_compute(post->compute, [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::vector<T> regs(size_t(num_regs(*post)) + 3);
    regs[0] = convert<T>(acc);
    run_program<T>(*post, regs.data(), i);
    store<T>(out, offset, regs[post->outs[0]]);
  });
}

// Sizes of the loop over results (reduced axes 1) and of the loop within a result (the others 1).
void split_shape(const Dims& shape, const View& out, Dims& kept, Dims& reduced) {
  for (int d = 0; d < shape.size(); ++d) {
    bool r = out.stride[d] == 0;
    kept.push_back(r ? 1 : shape[d]);
    reduced.push_back(r ? shape[d] : 1);
  }
}

}  // namespace

// `pre` runs in its own compute type, which is `compute`; an axis is reduced wherever `out` has stride 0, also where an
// input is broadcast along it: each repetition counts.
void RefBackend::reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
                        const View& out) {
  const Dims& shape = ins.empty() ? out.shape : ins[0].shape;
  Dims kept, reduced, strides = contiguous_strides(shape);
  split_shape(shape, out, kept, reduced);
  visit_compute(compute, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Wide<T>;
    std::vector<T> regs(size_t(pre ? num_regs(*pre) : 1) + 3);
    int64_t result = 0;
    for_each_index(kept, [&](const Dims& outer) {
      A acc = neutral<A>(op);
      for_each_index(reduced, [&](const Dims& inner) {
        Dims index = outer;
        int64_t i = 0;
        for (int d = 0; d < index.size(); ++d) {
          index[d] += inner[d];
          i += index[d] * strides[d];
        }
        acc = combine<A>(op, acc, A(element<T>(pre, ins, index, i, regs)));
      });
      finish<A>(post, acc, out, offset_of(out, outer), result++);
    });
  });
}

// The first NaN wins; without one, the first of the extreme elements.
void RefBackend::arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) {
  if (in.shape[axis] == 0) return;
  visit_wide(in.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    for_each_line(in.shape, axis, [&](const Dims& at) {
      int64_t base = offset_of(in, at), best = 0;
      A extreme = load<A>(in, base);
      for (int64_t j = 1; j < in.shape[axis] && extreme == extreme; ++j) {
        A x = load<A>(in, base + j * in.stride[axis]);
        if (x != x || (largest ? x > extreme : x < extreme)) extreme = x, best = j;
      }
      if (values.data) store<A>(values, offset_of(values, at), extreme);
      store<int64_t>(index, offset_of(index, at), best);
    });
  });
}

// Elements are converted to out's compute type first, so cumsum of bool counts; the running value stays wide and every
// output is rounded on its own. Max and Min: the position is the latest of equal extremes, and the latest NaN.
void RefBackend::scan(ScanOp op, const View& in, int axis, const View& out, const View& index) {
  visit_compute(compute_type(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Wide<T>;
    for_each_line(in.shape, axis, [&](const Dims& at) {
      int64_t from = offset_of(in, at), to = offset_of(out, at), best = 0;
      A acc{};
      for (int64_t j = 0; j < in.shape[axis]; ++j) {
        A x = A(load<T>(in, from + j * in.stride[axis]));
        if (j == 0)
          acc = x;
        else if (op == ScanOp::Sum)
          acc = acc + x;
        else if (op == ScanOp::Prod)
          acc = sm::mul(acc, x);
        else if (op == ScanOp::LogSumExp)
          acc = A(sm::logaddexp(double(acc), double(x)));
        else if (x != x || (op == ScanOp::Max ? x >= acc : x <= acc))
          acc = x, best = j;
        store<A>(out, to + j * out.stride[axis], acc);
        if (index.data) store<int64_t>(index, offset_of(index, at) + j * index.stride[axis], best);
      }
    });
  });
}

void RefBackend::nonzero(const View& in, std::vector<int64_t>& out) {
  int64_t i = 0;
  for_each_index(in.shape, [&](const Dims& index) {
    if (load<bool>(in, offset_of(in, index))) out.push_back(i);
    ++i;
  });
}

std::pair<int64_t, int64_t> RefBackend::int_range(const View& v) {
  if (v.numel() == 0) return {0, -1};
  std::pair<int64_t, int64_t> r{INT64_MAX, INT64_MIN};
  for_each_index(v.shape, [&](const Dims& index) {
    int64_t x = load<int64_t>(v, offset_of(v, index));
    r = {std::min(r.first, x), std::max(r.second, x)};
  });
  return r;
}

}  // namespace tg::ref
