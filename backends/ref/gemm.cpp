// Matrix product by three loops.
#include "backends/ref/ref.h"

namespace tg::ref {

// Floating types accumulate in double over k = 0, 1, ..., integers and bool in int64; one rounding to c's dtype at the
// end.
void RefBackend::gemm(double alpha, const View& a, const View& b, double beta, const View& c) {
  visit_wide(c.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    for_each_index(c.shape, [&](const Dims& at) {
      int64_t pa = at[0] * a.stride[0] + at[1] * a.stride[1], pb = at[0] * b.stride[0] + at[2] * b.stride[2];
      A acc = 0;
      for (int64_t k = 0; k < a.shape[2]; ++k)
        acc += load<A>(a, pa + k * a.stride[2]) * load<A>(b, pb + k * b.stride[1]);
      acc *= convert<A>(alpha);
      int64_t pc = offset_of(c, at);
      if (beta != 0) acc += convert<A>(beta) * load<A>(c, pc);
      store<A>(c, pc, acc);
    });
  });
}

}  // namespace tg::ref
