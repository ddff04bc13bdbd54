#include "core/tensor.h"

#include "core/memory_log.h"
#include "core/modes.h"
#include "core/value.h"

namespace tg {

const Tensor undefined_tensor;
void (*release_python_object)(void*) = nullptr;

Storage::Storage(size_t bytes, Device d) : data(allocator(d).allocate(bytes)), nbytes(bytes), device(d) {
  if (TG_UNLIKELY(modes().memory_log) && data) note_memory(data, bytes, d);
}

Storage::Storage(void* p, size_t bytes, Device d, void* own, void (*f)(void*))
    : data(p), nbytes(bytes), device(d), free_external(f), owner(own) {}

Storage::~Storage() {
  if (free_external) {
    free_external(owner);
  } else if (data) {
    forget_memory(data);
    allocator(device).deallocate(data, nbytes);
  }
}

TensorImpl::~TensorImpl() {
  if (owns_py && release_python_object) release_python_object(py);
}

void ref_destroy(Storage* p) { delete p; }
void ref_destroy(TensorImpl* p) { delete p; }

static Tensor new_tensor(Ref<Storage> storage, const Dims& sizes, const Dims& strides, int64_t numel, int64_t offset,
                         DType dtype, bool contiguous) {
  Ref<TensorImpl> t(new TensorImpl);
  t->storage = std::move(storage);
  t->offset = offset;
  t->numel = numel;
  t->dtype = dtype;
  t->sizes = sizes;
  t->strides = strides;
  t->contiguous = contiguous;
  return Tensor(std::move(t));
}

static Ref<Storage> new_storage(const Dims& sizes, int64_t n, DType dtype, Device device) {
  int64_t bytes;
  TG_CHECK(!__builtin_mul_overflow(n, itemsize(dtype), &bytes), OutOfMemoryError, "out of memory: size ", sizes, " of ",
           name(dtype), " has more than 2^63 bytes");
  return make_ref<Storage>(size_t(bytes), device);
}

Tensor empty_tensor(IntList sizes, DType dtype, Device device) {
  int64_t n = numel_of(sizes, "empty");
  Dims d = sizes.dims();
  Tensor t = new_tensor(new_storage(d, n, dtype, device), d, contiguous_strides(sizes), n, 0, dtype, true);
  t.impl()->is_inference = modes().inference;
  return t;
}

Tensor empty_like_tensor(const Tensor& like) { return empty_like_tensor(like, like.dtype()); }
Tensor empty_like_tensor(const Tensor& like, DType dtype) {
  if (!like.is_contiguous() || like.numel() == 0) return empty_tensor(like.sizes(), dtype, like.device());
  Ref<Storage> storage = new_storage(like.sizes(), like.numel(), dtype, like.device());
  Tensor t =
      new_tensor(std::move(storage), like.sizes(), contiguous_strides(like.sizes()), like.numel(), 0, dtype, true);
  t.impl()->is_inference = modes().inference;
  return t;
}

Tensor make_view(const Tensor& src, const Dims& sizes, const Dims& strides, int64_t offset) {
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  Tensor t = new_tensor(src.impl()->storage, sizes, strides, n, offset, src.dtype(), is_contiguous(sizes, strides));
  t.impl()->base = src.impl()->base ? src.impl()->base : src.ref();
  t.impl()->view_version = src.version();
  t.impl()->is_inference = src.impl()->is_inference;
  return t;
}

Tensor from_blob(void* data, IntList sizes, IntList strides, DType dtype, Device device, void* owner,
                 void (*release)(void*)) {
  Dims d = sizes.dims(), st = strides.dims();
  int64_t n = numel_of(sizes, "from_blob");
  auto storage = make_ref<Storage>(data, 0, device, owner, release);
  return new_tensor(std::move(storage), d, st, n, 0, dtype, is_contiguous(d, st));
}

Tensor host_mirror(const Tensor& t) {
  if (t.device().is_cpu()) return t;
  int64_t lo = 0, hi = 0;
  for (int d = 0; d < t.ndim(); ++d) (t.strides()[d] < 0 ? lo : hi) += (t.sizes()[d] - 1) * t.strides()[d];
  int64_t size = itemsize(t.dtype()), n = t.numel() > 0 ? hi - lo + 1 : 0;
  auto storage = make_ref<Storage>(size_t(n * size), Device());
  if (n > 0) allocator(t.device()).copy(storage->data, static_cast<char*>(t.data()) + lo * size, size_t(n * size));
  return new_tensor(std::move(storage), t.sizes(), t.strides(), t.numel(), -lo, t.dtype(), t.is_contiguous());
}

std::string describe(const Tensor& t) {
  if (!t.defined()) return "None";
  std::string s = std::string(short_name(t.dtype())) + "[";
  for (int i = 0; i < t.ndim(); ++i) s += (i ? "," : "") + std::to_string(t.sizes()[i]);
  return s + "]@" + to_string(t.device());
}

std::string describe(const Operand& t) {
  if (t.is_tensor()) return describe(t.tensor());
  const Scalar& s = t.scalar();
  return s.is_float()                     ? str(s.d())
         : s.kind() == Scalar::Kind::Bool ? (s.b() ? "True" : "False")
                                          : std::to_string(s.i());
}

Scalar Tensor::item_scalar() const {
  TG_CHECK(defined(), ValueError, "item: undefined tensor");
  TG_CHECK(numel() == 1, ValueError, "item: a tensor with ", numel(),
           " elements cannot be converted to a number; self=", describe(*this));
  return visit(dtype(), [&](auto tag) -> Scalar {
    using T = typename decltype(tag)::type;
    T v;
    if (TG_LIKELY(device().is_cpu()))
      v = *static_cast<const T*>(data());
    else
      allocator(device()).copy(&v, data(), sizeof v);
    if constexpr (std::is_same_v<T, bool>)
      return v;
    else if constexpr (std::is_integral_v<T>)
      return int64_t(v);
    else
      return convert<double>(v);
  });
}

}  // namespace tg
