// Reductions of one array of floating-point numbers or int64, with vector loads where its layout allows them.
#include "backends/cuda/reduce_ops.cuh"

namespace tg::cuda {
namespace {

template <class S>
bool vectors_fit(const S* p, const Piece& kept, const Piece& reduced) {
  constexpr int N = kVector<S>;
  if (reduced.nest.ndim() != 1 || reduced.nest.stride[0][0] != 1 || reinterpret_cast<uintptr_t>(p) % 16) return false;
  for (int64_t s : kept.nest.stride[0])
    if (s % N) return false;
  return true;
}

template <class S>
void launch(const ReduceCall& c, const View& in) {
  visit_reducer<Compute<S>>(c.op, [&](auto tag) {
    using R = typename decltype(tag)::type;
    run_reducer<R>(c, c.columns ? 1 : kVector<S>, [&](const Piece& kept, const Piece& reduced) {
      TypedLoader<S> l;
      l.data = static_cast<const S*>(in.data) + kept.start[0] + reduced.start[0];
      l.kept = Walk<1>(only_view(kept.nest, 0));
      l.reduced = Walk<1>(only_view(reduced.nest, 0));
      l.is_whole = !c.columns && vectors_fit(l.data, kept, reduced);
      l.before = c.before;
      return l;
    });
  });
}

}  // namespace

bool reduce_typed(const ReduceCall& c, const View& in) {
  if (compute_type(in.dtype) != c.compute) return false;
  switch (in.dtype) {
    case DType::F32:
      launch<float>(c, in);
      return true;
    case DType::F64:
      launch<double>(c, in);
      return true;
    case DType::F16:
      launch<Half>(c, in);
      return true;
    case DType::BF16:
      launch<BFloat16>(c, in);
      return true;
    case DType::I64:
      launch<int64_t>(c, in);
      return true;
    default:
      return false;
  }
}

}  // namespace tg::cuda
