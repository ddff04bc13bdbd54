// Ops that PyTorch has in place only and that are more than a copy: resize_, resize_as_, fill_diagonal_.
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/view.h"

namespace tg {
namespace {

// Makes room for `n` elements in the memory that all views of the storage share; what is new is zero.
void grow(const Tensor& x, int64_t n) {
  Storage& s = *x.impl()->storage;
  int64_t item = itemsize(x.dtype()), have = (int64_t(s.nbytes) + item - 1) / item, bytes;
  TG_CHECK(!__builtin_mul_overflow(n, item, &bytes), OutOfMemoryError, "resize_: ", n, " elements of ", x.dtype(),
           " have more than 2^63 bytes; self=", describe(x));
  if (bytes <= int64_t(s.nbytes)) return;
  TG_CHECK(!s.free_external && !s.owner, ValueError,
           "resize_: the memory is shared with somebody else (NumPy, DLPack) and can't grow; self=", describe(x));
  Storage larger(size_t(bytes), s.device);
  if (s.nbytes) backend(s.device).copy_bytes(larger.data, s.data, s.nbytes);
  std::swap(s.data, larger.data);
  std::swap(s.nbytes, larger.nbytes);
  fill_with(make_view(x, {n - have}, {1}, have), 0);
}

void resize_to(const Tensor& x, IntList size) {
  TG_CHECK(!x.requires_grad(), AutogradError,
           "resize_: a tensor that requires gradients can't be resized; self=", describe(x));
  Dims sizes = size.dims();
  int64_t n = numel_of(sizes, "resize_"), end;
  if (sizes == x.sizes()) return;
  TG_CHECK(!__builtin_add_overflow(n, x.storage_offset(), &end), ShapeError, "resize_: size ", sizes,
           " reaches beyond the address space; self=", describe(x));
  if (n > 0) grow(x, end);
  TensorImpl& t = *x.impl();
  t.sizes = sizes;
  t.strides = contiguous_strides(sizes);
  t.numel = n;
  t.contiguous = true;
}

Tensor resize_body(const Tensor& x, IntList size) {
  Tensor y = clone(x);
  resize_to(y, size);
  return y;
}
void resize_inplace(Args a, Outputs&) { resize_to(a[0].tensor(), a[1].ints()); }
Tensor resize_as_body(const Tensor& x, const Tensor& other) { return resize_body(x, other.sizes()); }
void resize_as_inplace(Args a, Outputs&) { resize_to(a[0].tensor(), a[1].tensor().sizes()); }

// ---- fill_diagonal

// With `wrap` a tall matrix starts a new diagonal one row below the end of the last.
void fill_diagonal_into(const Tensor& x, Scalar value, bool wrap) {
  const Dims& s = x.sizes();
  TG_CHECK(x.ndim() >= 2, ShapeError, "fill_diagonal_: expected at least 2 dimensions; self=", describe(x));
  for (int i = 2; i < x.ndim(); ++i)
    TG_CHECK(s[i] == s[0] && s[1] == s[0], ShapeError,
             "fill_diagonal_: all sizes must be equal with more than 2 dimensions; self=", describe(x));
  value = checked_scalar("fill_diagonal_", value, x.dtype());
  int64_t step = 0, length = s[0];
  for (int i = 0; i < x.ndim(); ++i) {
    step += x.strides()[i];
    length = std::min(length, s[i]);
  }
  int64_t block = s[1] + 1;  // rows from one start to the next
  for (int64_t row = 0; row < s[0]; row += block) {
    int64_t n = row == 0 ? length : std::min(s[0] - row, s[1]);
    fill_with(make_view(x, {n}, {step}, x.storage_offset() + row * x.strides()[0]), value);
    if (!wrap || x.ndim() > 2) break;
  }
}
Tensor fill_diagonal_body(const Tensor& x, Scalar value, bool wrap) {
  Tensor y = clone(x);
  fill_diagonal_into(y, value, wrap);
  return y;
}
void fill_diagonal_inplace(Args a, Outputs&) { fill_diagonal_into(a[0].tensor(), a[1].scalar(), a[2].i() != 0); }
Tensor fill_diagonal_grad(GradCtx& c) { return fill_diagonal(c.g(), 0, c.arg<bool>(2)); }

TG_OP("resize(Tensor input, int[] size) -> Tensor",
      .doc =
          "The elements in memory order with other sizes; the memory grows where they are more, with zeros. "
          "AutogradError for a tensor that requires gradients, ValueError for borrowed memory.",
      .primitive = box<resize_body>, .inplace = resize_inplace, .flags = kNoGrad | kHidden | kMakeInplace,
      .torch = "none", .samples = "C(3,4), [2, 3]; C(3,4), [3, 4]; C(2), [2, 2]; C(3), [0]; C(2), []; I(6, hi=5), [6]");
TG_OP("resize_as(Tensor input, Tensor the_template) -> Tensor", .doc = "input.resize_(the_template.size()).",
      .primitive = box<resize_as_body>, .inplace = resize_as_inplace,
      .flags = kNoGrad | kHidden | kMakeInplace | kAnyDevices, .torch = "none",
      .samples = "C(3,4), C(2,3); C(2), C(2); C(2), C(2,2)");
TG_OP("fill_diagonal(Tensor input, Scalar fill_value, bool wrap=False) -> Tensor",
      .doc =
          "fill_value on the main diagonal; with wrap=True a tall matrix starts over below its end. With more than 2 "
          "dimensions all sizes must be equal.",
      .primitive = box<fill_diagonal_body>, .inplace = fill_diagonal_inplace, .grads = {{0, fill_diagonal_grad}},
      .flags = kHidden | kMakeInplace, .torch = "none",
      .samples = "T(3,4), 2.0; T(7,2), 1.5, True; T(7,2), 1.5; T(3,3,3), 0; I(8,3, hi=9), 5, wrap=True; T(0,3), 1");

}  // namespace
}  // namespace tg
