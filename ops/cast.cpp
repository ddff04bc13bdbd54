// Copies: conversion of dtype, moves between devices, clone, fill and copy in
// place.
#include <limits>

#include "backends/cuda.h"
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/grads.h"
#include "ops/pointwise.h"
#include "ops/view.h"

namespace tg {

namespace {

double largest(DType t) {
  switch (t) {
    case DType::F16:
      return 65504.0;
    case DType::BF16:
      return double(from_bf16(BFloat16{0x7f7f}));
    case DType::F32:
      return double(std::numeric_limits<float>::max());
    default:
      return std::numeric_limits<double>::max();
  }
}

// Where values are converted: bool must see the source's own zero, integers
// must not pass through float32.
DType cast_compute(DType from, DType to) { return compute_type(to == DType::Bool ? from : to); }

bool may_share(const Tensor& a, const Tensor& b) {
  if (a.impl()->storage != b.impl()->storage || a.numel() == 0 || b.numel() == 0) return false;
  Extent x = extent_of(geometry_of(a)), y = extent_of(geometry_of(b));
  int64_t wa = itemsize(a.dtype()), wb = itemsize(b.dtype());
  return x.lo * wa < (y.hi + 1) * wb && y.lo * wb < (x.hi + 1) * wa;
}

}  // namespace

Scalar checked_scalar(const char* op, const Scalar& v, DType t) {
  if (t == DType::Bool) return v.b();
  bool fits = true;
  if (is_float(t)) {
    fits = !std::isfinite(v.d()) || std::abs(v.d()) <= largest(t);
  } else {
    // A negative number in an unsigned type wraps, as in C.
    double hi = t == DType::U8 ? 256.0 : std::ldexp(1.0, int(itemsize(t)) * 8 - 1);
    double lo = t == DType::U8 ? -255.0 : -hi;
    fits = v.d() >= lo && (v.d() < hi || (t == DType::I64 && !v.is_float()));
  }
  TG_CHECK(fits, ValueError, op, ": value ", describe(Operand(v)), " does not fit into ", name(t));
  return is_float(t) ? v : Scalar(v.i());
}

void copy_into(const Tensor& dst, const Tensor& src) {
  if (dst.numel() == 0) return;
  bool same = src.impl()->storage == dst.impl()->storage && src.sizes() == dst.sizes() &&
              src.strides() == dst.strides() && src.storage_offset() == dst.storage_offset();
  if (same && src.dtype() == dst.dtype()) return;
  Program p = make_program(cast_compute(src.dtype(), dst.dtype()), 1, {}, {{Opc::Identity, {0}}});
  if (may_share(dst, src)) {
    Tensor apart = empty_like_tensor(src);
    copy_into(apart, src);
    return run_program(p, {apart}, dst);
  }
  run_program(p, {src}, dst);
}

namespace {

Tensor clone_body(const Tensor& x) {
  Tensor y = empty_like_tensor(x);
  copy_into(y, x);
  return y;
}

Tensor cast_body(const Tensor& x, DType dtype) {
  Tensor y = empty_like_tensor(x, dtype);
  copy_into(y, x);
  return y;
}

// Between devices, contiguous and of one type and size. Only from page-locked memory to a device does a copy return
// before it is done: whatever is read of the result waits for it in the device's order. A copy to the CPU has arrived
// when it returns, as nothing would tell when to read it.
void transfer(const Tensor& to, const Tensor& from, bool non_blocking) {
  const size_t bytes = size_t(from.numel() * itemsize(from.dtype()));
  const Device target = to.device(), source = from.device();
  if (bytes == 0) return;
  if (!target.is_cpu() && !source.is_cpu())
    cuda::runtime().copy_peer(target.index, to.data(), source.index, from.data(), bytes);
  else if (non_blocking && source.is_cpu() && cuda::runtime().is_pinned(from.data()))
    cuda::runtime().copy_async(target.index, to.data(), from.data(), bytes);
  else
    backend(target.is_cpu() ? source : target).copy_bytes(to.data(), from.data(), bytes);
}

Tensor device_copy_body(const Tensor& x, Device device, bool non_blocking) {
  Tensor from = contiguous(x), to = empty_tensor(x.sizes(), x.dtype(), device);
  if (x.device() == device)
    copy_into(to, from);
  else
    transfer(to, from, non_blocking);
  return to;
}

Tensor convert_to(const Tensor& x, Device device, DType dtype, bool non_blocking, bool copy) {
  Tensor y = x;
  if (dtype != x.dtype()) y = cast(y, dtype);
  if (device != x.device()) y = device_copy(y, device, non_blocking);
  return copy && y.is_same(x) ? clone(x) : y;
}
Tensor to_dtype(const Tensor& x, DType dtype, bool non_blocking, bool copy) {
  return convert_to(x, x.device(), dtype, non_blocking, copy);
}
Tensor to_device(const Tensor& x, std::optional<Device> device, std::optional<DType> dtype, bool non_blocking,
                 bool copy) {
  return convert_to(x, device.value_or(x.device()), dtype.value_or(x.dtype()), non_blocking, copy);
}
Tensor to_other(const Tensor& x, const Tensor& other, bool non_blocking, bool copy) {
  return convert_to(x, other.device(), other.dtype(), non_blocking, copy);
}
Tensor type_as_body(const Tensor& x, const Tensor& other) { return to(x, other); }

Tensor contiguous_body(const Tensor& x) { return x.is_contiguous() ? x : clone(x); }

Tensor copy_body(const Tensor& x, const Tensor& src, bool) {
  TG_CHECK(broadcastable_to(src.sizes(), x.sizes()), ShapeError, "copy: src of size ", src.sizes(),
           " does not broadcast to ", x.sizes(), "; input=", describe(x), ", src=", describe(src));
  Tensor y = empty_like_tensor(x);
  copy_into(y, to(src, x.device()));
  return y;
}
// Also called with two arguments by in-place ops that compute first and copy
// then.
void copy_inplace(Args a, Outputs&) {
  const Tensor &x = a[0].tensor(), &src = a[1].tensor();
  TG_CHECK(broadcastable_to(src.sizes(), x.sizes()), ShapeError, "copy_: src of size ", src.sizes(),
           " does not broadcast to ", x.sizes(), "; input=", describe(x), ", src=", describe(src));
  reject_self_overlap("copy", x);
  const bool non_blocking = a.size() > 2 && a[2].scalar().b();
  if (x.device() != src.device() && x.dtype() == src.dtype() && x.sizes() == src.sizes() && x.is_contiguous())
    return transfer(x, contiguous(src), non_blocking);
  copy_into(x, to(src, x.device(), {}, non_blocking));
}

Scalar fill_value(const Tensor& x, const Operand& value) {
  if (!value.is_tensor()) return checked_scalar("fill_", value.scalar(), x.dtype());
  TG_CHECK(value.tensor().ndim() == 0, ShapeError, "fill_: value must be a number or a tensor without dimensions, got ",
           describe(value), "; input=", describe(x));
  return checked_scalar("fill_", value.tensor().item_scalar(), x.dtype());
}
Tensor fill_body(const Tensor& x, const Operand& value) {
  Scalar s = fill_value(x, value);
  Tensor y = empty_like_tensor(x);
  fill_with(y, s);
  return y;
}
void fill_inplace(Args a, Outputs&) {
  const Tensor& x = a[0].tensor();
  fill_with(x, fill_value(x, a[1].is_tensor() ? Operand(a[1].tensor()) : Operand(a[1].scalar())));
}
Tensor zero_body(const Tensor& x) { return zeros_like(x); }
void zero_inplace(Args a, Outputs&) { fill_with(a[0].tensor(), 0); }

// The engine only converts dtypes; a gradient from another device has to be
// moved here.
Tensor device_copy_grad(GradCtx& c) { return to(c.g(), c.call().metas[c.call().first_edge[0]].device); }

TG_OP("clone(Tensor input) -> Tensor", .doc = "A contiguous copy; gradients flow through it.",
      .primitive = box<clone_body>, .grads = {{0, same_grad}}, .samples = "T(3,4); T(); T(0,2); I(3, hi=5); B(3)");
TG_OP("cast(Tensor input, dtype dtype) -> Tensor",
      .doc = "A copy converted to dtype. Floating point to integer truncates; anything but 0 is True.",
      .primitive = box<cast_body>, .grads = {{0, same_grad}}, .flags = kHidden, .torch = "none",
      .samples =
          "T(3,4), DT('float64'); C(3,4), DT('float32'); C(3), DT('float16'); C(2,2), DT('bfloat16'); I(3, lo=-3, "
          "hi=5), DT('float32'); C(5), DT('int64'); C(4), DT('bool'); B(3), DT('float64'); I(3, hi=300), DT('uint8')");
TG_OP("device_copy(Tensor input, device device, bool non_blocking=False) -> Tensor",
      .doc = "A copy in the memory of another device.", .primitive = box<device_copy_body>,
      .grads = {{0, device_copy_grad}}, .flags = kHidden, .torch = "none", .samples = "T(3,4), 'cpu'");
TG_OP("to.dtype(Tensor input, dtype dtype, bool non_blocking=False, bool copy=False) -> Tensor",
      .doc = "input converted to dtype; input itself if it has that dtype already and copy is False.",
      .composite = box<to_dtype>, .flags = kMethodOnly,
      .samples = "C(3,4), DT('float32'); T(3), DT('float64'), copy=True; C(4), DT('int64'); I(3, hi=5), DT('float64')");
TG_OP(
    "to.device(Tensor input, device? device=None, dtype? dtype=None, bool non_blocking=False, bool copy=False) -> "
    "Tensor",
    .doc = "input on another device and, if given, in another dtype.", .composite = box<to_device>,
    .flags = kMethodOnly, .samples = "T(3,4); C(3), dtype=DT('float32'); T(3), copy=True");
TG_OP("to.other(Tensor input, Tensor other, bool non_blocking=False, bool copy=False) -> Tensor",
      .doc = "input with the dtype and on the device of other.", .composite = box<to_other>,
      .flags = kMethodOnly | kAnyDevices, .samples = "T(3,4), C(2); C(3,4), I(2, hi=3); I(3, hi=5), C(1)");
TG_OP("type_as(Tensor input, Tensor other) -> Tensor", .doc = "input with the dtype and on the device of other.",
      .composite = box<type_as_body>, .flags = kMethodOnly | kAnyDevices,
      .samples = "T(3,4), C(2); C(3,4), I(2, hi=3); I(3, hi=5), C(1)");
TG_OP("contiguous(Tensor input) -> Tensor",
      .doc = "input itself if its elements lie in row-major order without gaps, else a copy that does.",
      .composite = box<contiguous_body>, .flags = kMethodOnly, .samples = "T(3,4); T(); T(0,2); I(3,2, hi=5)");
TG_OP("copy(Tensor input, Tensor src, bool non_blocking=False) -> Tensor",
      .doc = "src broadcast to the size of input and converted to its dtype.", .primitive = box<copy_body>,
      .inplace = copy_inplace, .grads = {{0, zero_grad}, {0, same_grad}}, .flags = kHidden | kMakeInplace | kAnyDevices,
      .torch = "none", .samples = "T(3,4), T(3,4); T(3,4), T(4); T(3,4), T(); I(3, hi=5), T(3); T(2,3), T(1,3)");
TG_OP("fill(Tensor input, Operand value) -> Tensor", .doc = "A number, or the value of a 0-d tensor, in every element.",
      .primitive = box<fill_body>, .inplace = fill_inplace, .grads = {{0, zero_grad}, {0, same_grad}},
      .flags = kHidden | kMakeInplace, .samples = "T(3,4), 2.5; T(3), T(); I(3, hi=5), 7; B(3), True; T(0), 1.0");
TG_OP("zero(Tensor input) -> Tensor", .doc = "0 in every element.", .primitive = box<zero_body>,
      .inplace = zero_inplace, .grads = {{0, zero_grad}}, .flags = kHidden | kMakeInplace, .torch = "none",
      .samples = "T(3,4); I(3, hi=5); B(3); T()");

}  // namespace
}  // namespace tg
