// Gather, scatter, sort and fold.
#include <algorithm>
#include <numeric>

#include "backends/ref/ref.h"
#include "backends/scalar_math.h"

namespace tg::ref {

void RefBackend::gather(const View& in, int axis, const View& index, const View& out) {
  visit_wide(in.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    for_each_index(out.shape, [&](const Dims& at) {
      Dims from = at;
      from[axis] = load<int64_t>(index, offset_of(index, at));
      store<A>(out, offset_of(out, at), load<A>(in, offset_of(in, from)));
    });
  });
}

namespace {

template <class T>
T merge(ScatterOp op, T old, T x) {
  switch (op) {
    case ScatterOp::Set:
      return x;
    case ScatterOp::Add:
      return old + x;
    case ScatterOp::Prod:
      return sm::mul(old, x);
    case ScatterOp::Max:
      return sm::max_nan(old, x);
    case ScatterOp::Min:
      return sm::min_nan(old, x);
  }
  __builtin_unreachable();
}

}  // namespace

// Each step is done in out's compute type and rounded to out's dtype.
void RefBackend::scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) {
  visit_compute(compute_type(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    for_each_index(src.shape, [&](const Dims& at) {
      Dims to = at;
      to[axis] = load<int64_t>(index, offset_of(index, at));
      int64_t p = offset_of(out, to);
      store<T>(out, p, merge<T>(op, load<T>(out, p), load<T>(src, offset_of(src, at))));
    });
  });
}

// Ascending order is numbers, then NaN; descending order the reverse. Equal elements keep their order in both.
void RefBackend::sort(const View& in, int axis, bool descending, const View& values, const View& index) {
  visit_wide(in.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    size_t n = size_t(in.shape[axis]);
    std::vector<A> x(n);
    std::vector<int64_t> order(n);
    auto less = [](A a, A b) { return a < b || (b != b && a == a); };
    for_each_line(in.shape, axis, [&](const Dims& at) {
      int64_t base = offset_of(in, at);
      for (size_t j = 0; j < n; ++j) x[j] = load<A>(in, base + int64_t(j) * in.stride[axis]);
      std::iota(order.begin(), order.end(), int64_t(0));
      std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
        return descending ? less(x[size_t(j)], x[size_t(i)]) : less(x[size_t(i)], x[size_t(j)]);
      });
      Dims to = at;
      for (size_t j = 0; j < n; ++j) {
        to[axis] = int64_t(j);
        if (values.data) store<A>(values, offset_of(values, to), x[size_t(order[j])]);
        store<int64_t>(index, offset_of(index, to), order[j]);
      }
    });
  });
}

// In row-major order of `in`, each step rounded to out's dtype.
void RefBackend::fold(const View& in, const View& out) {
  visit_compute(compute_type(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    for_each_index(in.shape, [&](const Dims& at) {
      int64_t p = offset_of(out, at);
      store<T>(out, p, load<T>(out, p) + load<T>(in, offset_of(in, at)));
    });
  });
}

}  // namespace tg::ref
