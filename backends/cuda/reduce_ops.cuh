// The reducers of Backend::reduce, and how one launch is put together.
#pragma once
#include "backends/cuda/reduce.cuh"

namespace tg::cuda {

// One instruction on the result before it is stored: a product or quotient with a number. Other programs run after.
struct After {
  enum Kind : uint8_t { Nothing, Multiply, Divide } kind = Nothing;
  double number = 1;
};

struct ReduceCall {
  ReduceOp op;
  DType compute;
  plan::ReduceSplit split;  // sorted for the input; views: inputs, (logical index), output
  bool columns;
  Before before = Before::Nothing;
  After after;
  ResultView out;
};

template <ReduceOp Op, class T>
struct Reducer {
  static constexpr bool sums = Op == ReduceOp::Sum || Op == ReduceOp::Prod;
  // Sums and products are wider than what is summed.
  using Acc = std::conditional_t<sums && std::is_same_v<T, float>, double, T>;
  ResultView out;
  After after;

  static __device__ __forceinline__ Acc neutral() {
    if constexpr (Op == ReduceOp::Prod || Op == ReduceOp::All) return Acc(1);
    if constexpr (Op == ReduceOp::Max)
      return std::is_integral_v<Acc> ? std::numeric_limits<Acc>::min() : -std::numeric_limits<Acc>::infinity();
    if constexpr (Op == ReduceOp::Min)
      return std::is_integral_v<Acc> ? std::numeric_limits<Acc>::max() : std::numeric_limits<Acc>::infinity();
    return Acc(0);
  }
  __device__ __forceinline__ Acc join(Acc a, Acc b) const {
    if constexpr (Op == ReduceOp::Sum) return a + b;
    if constexpr (Op == ReduceOp::Prod) return sm::mul(a, b);
    if constexpr (Op == ReduceOp::Max) return sm::max_nan(a, b);
    if constexpr (Op == ReduceOp::Min) return sm::min_nan(a, b);
    if constexpr (Op == ReduceOp::Any) return Acc(a != Acc(0) || b != Acc(0));
    if constexpr (Op == ReduceOp::All) return Acc(a != Acc(0) && b != Acc(0));
  }
  __device__ __forceinline__ void add(Acc& acc, T x, uint32_t) const { acc = join(acc, Acc(x)); }
  // Floats are added in pairs, and the pairs in pairs, before they become double.
  template <int N>
  __device__ __forceinline__ void add_vector(Acc& acc, const T (&x)[N], uint32_t i) const {
    if constexpr (Op == ReduceOp::Sum && std::is_same_v<T, float> && N % 4 == 0) {
      TG_UNROLL
      for (int j = 0; j < N; j += 4) acc += Acc((x[j] + x[j + 1]) + (x[j + 2] + x[j + 3]));
    } else {
      TG_UNROLL
      for (int j = 0; j < N; ++j) add(acc, x[j], i + j);
    }
  }
  __device__ __forceinline__ void finish(Acc acc, uint32_t result) const {
    if constexpr (std::is_same_v<Acc, double>) {
      if (after.kind == After::Multiply) acc *= after.number;
      if (after.kind == After::Divide) acc /= after.number;
    }
    out.store(result, acc);
  }
};

// The same with the op as a number, for sources whose own cost hides the branch.
template <class T>
struct AnyReducer {
  using Acc = std::conditional_t<std::is_same_v<T, float>, double, T>;
  ReduceOp op = ReduceOp::Sum;
  ResultView out;
  After after;

  __device__ Acc neutral() const {
    switch (op) {
      case ReduceOp::Prod:
      case ReduceOp::All:
        return Acc(1);
      case ReduceOp::Max:
        return Reducer<ReduceOp::Max, Acc>::neutral();
      case ReduceOp::Min:
        return Reducer<ReduceOp::Min, Acc>::neutral();
      default:
        return Acc(0);
    }
  }
  __device__ Acc join(Acc a, Acc b) const {
    switch (op) {
      case ReduceOp::Sum:
        return a + b;
      case ReduceOp::Prod:
        return sm::mul(a, b);
      case ReduceOp::Max:
        return sm::max_nan(a, b);
      case ReduceOp::Min:
        return sm::min_nan(a, b);
      case ReduceOp::Any:
        return Acc(a != Acc(0) || b != Acc(0));
      default:
        return Acc(a != Acc(0) && b != Acc(0));
    }
  }
  __device__ void add(Acc& acc, T x, uint32_t) const { acc = join(acc, Acc(x)); }
  __device__ void finish(Acc acc, uint32_t result) const {
    if constexpr (std::is_same_v<Acc, double>) {
      if (after.kind == After::Multiply) acc *= after.number;
      if (after.kind == After::Divide) acc /= after.number;
    }
    out.store(result, acc);
  }
};

// Pieces of the kept and reduced axes, each small enough for a kernel: f(kept, start of its results in each view,
// pieces of reduced elements with their starts).
struct Piece {
  plan::Nest nest;
  int64_t start[plan::kMaxViews];
};
inline std::vector<Piece> pieces_of(const plan::Nest& n) {
  std::vector<Piece> all;
  if (n.numel() == 0) {  // nothing to add up: one piece without elements
    Piece p{n, {}};
    p.nest.shape = {};
    for (auto& s : p.nest.stride) s = {};
    all.push_back(p);
    return all;
  }
  for_pieces(n, [&](const plan::Nest& piece, const int64_t* start) {
    Piece p{piece, {}};
    std::copy(start, start + n.n_views, p.start);
    all.push_back(p);
  });
  return all;
}

// Runs reducer R of the call; make_loader(kept piece, reduced piece) gives the source of elements.
template <class R, class F>
void run_reducer(const ReduceCall& c, uint32_t width, F make_loader) {
  const std::vector<Piece> reduced = pieces_of(c.split.reduced);
  const bool empty = c.split.reduced.numel() == 0;
  const int out_view = c.split.kept.n_views - 1;
  for_pieces(c.split.kept, [&](const plan::Nest& nest, const int64_t* start) {
    Piece kept{nest, {}};
    std::copy(start, start + nest.n_views, kept.start);
    R r;
    if constexpr (requires { r.op; }) r.op = c.op;
    r.after = c.after;
    r.out = c.out;
    r.out.data = static_cast<char*>(c.out.data) + start[out_view] * itemsize(c.out.dtype);
    r.out.kept = Walk<1>(only_view(nest, out_view));
    std::vector<uint32_t> sizes;
    for (const Piece& p : reduced) sizes.push_back(empty ? 0 : uint32_t(p.nest.numel()));
    run_reduction(r, uint32_t(nest.numel()), sizes, c.columns, width,
                  [&](size_t p) { return make_loader(kept, reduced[p]); });
  });
}

// f(Tag of Reducer<op, T>)
template <class T, class F>
void visit_reducer(ReduceOp op, F&& f) {
  switch (op) {
    case ReduceOp::Sum:
      return f(Tag<Reducer<ReduceOp::Sum, T>>{});
    case ReduceOp::Prod:
      return f(Tag<Reducer<ReduceOp::Prod, T>>{});
    case ReduceOp::Max:
      return f(Tag<Reducer<ReduceOp::Max, T>>{});
    case ReduceOp::Min:
      return f(Tag<Reducer<ReduceOp::Min, T>>{});
    case ReduceOp::Any:
      return f(Tag<Reducer<ReduceOp::Any, T>>{});
    case ReduceOp::All:
      return f(Tag<Reducer<ReduceOp::All, T>>{});
  }
}

// One input without a program before (but c.before), of a storage type with kernels of its own; false for others.
bool reduce_typed(const ReduceCall& c, const View& in);
// One input of any type.
void reduce_any(const ReduceCall& c, const View& in);
// Any program over any inputs.
void reduce_program(const ReduceCall& c, const Program& before, const Views& ins);

}  // namespace tg::cuda
