// Reading and writing a flat buffer through arbitrary strides, as differentiable ops: the tape uses them for views
// whose base was edited in place. Each is the other's gradient.
#include "backends/backend.h"
#include "ops/ops.h"

namespace tg {
namespace {

Tensor through(const Tensor& flat, IntList size, IntList stride, int64_t offset) {
  return make_view(flat, size.dims(), stride.dims(), flat.storage_offset() + offset);
}

// flat (numel) -> size
Tensor strided_gather_impl(const Tensor& flat, IntList size, IntList stride, int64_t offset) {
  return clone(through(contiguous(flat), size, stride, offset));
}

// size -> flat (numel): elements that share a place are summed
Tensor strided_scatter_impl(const Tensor& src, IntList size, IntList stride, int64_t offset, int64_t numel) {
  Tensor flat = zeros({numel}, src.dtype(), src.device());
  if (src.numel() > 0) backend(src.device()).fold(View(src), View(through(flat, size, stride, offset)));
  return flat;
}

TG_OP("strided_gather(Tensor input, int[] size, int[] stride, int offset) -> Tensor",
      .doc = "Elements of a flat buffer seen through strides.", .primitive = box<strided_gather_impl>,
      .grads = {{0,
                 [](GradCtx& c) {
                   return strided_scatter(c.g(), c.arg<IntList>(1), c.arg<IntList>(2), c.arg<int64_t>(3),
                                          c.shape(0)[0]);
                 }}},
      .flags = kHidden | kFunctionOnly, .torch = "none",
      .samples = "T(12), [2, 3], [1, 4], 1; T(5), [3, 2], [1, 1], 0");

TG_OP("strided_scatter(Tensor input, int[] size, int[] stride, int offset, int numel) -> Tensor",
      .doc = "Adds elements into a zeroed flat buffer through strides.", .primitive = box<strided_scatter_impl>,
      .grads = {{0,
                 [](GradCtx& c) {
                   return strided_gather(c.g(), c.arg<IntList>(1), c.arg<IntList>(2), c.arg<int64_t>(3));
                 }}},
      .flags = kHidden | kFunctionOnly, .torch = "none",
      .samples = "T(2, 3), [2, 3], [1, 4], 1, 12; T(3, 2), [3, 2], [1, 1], 0, 5");

}  // namespace
}  // namespace tg
