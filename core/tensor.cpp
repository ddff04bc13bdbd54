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

namespace {
// Freed TensorImpl blocks of this thread. Bounded, so that freeing a large graph gives its memory back.
struct FreeList {
  static constexpr int kMax = 256;
  void* head = nullptr;
  int n = 0;
  bool alive = true;
  ~FreeList() {
    alive = false;
    while (head) {
      void* next = *static_cast<void**>(head);
      ::operator delete(head);
      head = next;
    }
  }
};
FreeList& free_list() {
  thread_local FreeList l;
  return l;
}
}  // namespace

void* TensorImpl::operator new(size_t n) {
  FreeList& l = free_list();
  if (l.head && l.alive) {
    void* p = l.head;
    l.head = *static_cast<void**>(p);
    --l.n;
    return p;
  }
  return ::operator new(n);
}

void TensorImpl::operator delete(void* p, size_t) {
  FreeList& l = free_list();
  if (!l.alive || l.n >= FreeList::kMax) return ::operator delete(p);
  *static_cast<void**>(p) = l.head;
  l.head = p;
  ++l.n;
}

TensorImpl::~TensorImpl() {
  if (owns_py && release_python_object) release_python_object(py);
}

void ref_destroy(TensorImpl* p) { delete p; }

static Tensor new_tensor(Ref<Storage> storage, const Dims& sizes, const Dims& strides, int64_t offset, DType dtype,
                         bool contiguous) {
  Ref<TensorImpl> t(new TensorImpl);
  t->storage = std::move(storage);
  t->offset = offset;
  t->dtype = dtype;
  t->sizes = sizes;
  t->strides = strides;
  t->contiguous = contiguous;
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  t->numel = n;
  return Tensor(std::move(t));
}

Tensor empty_tensor(IntList sizes, DType dtype, Device device) {
  int64_t n = numel_of(sizes, "empty"), bytes;
  TG_CHECK(!__builtin_mul_overflow(n, itemsize(dtype), &bytes), OutOfMemoryError, "out of memory: size ", sizes, " of ",
           name(dtype), " has more than 2^63 bytes");
  Dims d = sizes.dims();
  Tensor t = new_tensor(make_ref<Storage>(size_t(bytes), device), d, contiguous_strides(sizes), 0, dtype, true);
  t.impl()->is_inference = modes().inference;
  return t;
}

Tensor empty_like_tensor(const Tensor& like) { return empty_like_tensor(like, like.dtype()); }
Tensor empty_like_tensor(const Tensor& like, DType dtype) { return empty_tensor(like.sizes(), dtype, like.device()); }

Tensor make_view(const Tensor& src, const Dims& sizes, const Dims& strides, int64_t offset) {
  Tensor t = new_tensor(src.impl()->storage, sizes, strides, offset, src.dtype(), is_contiguous(sizes, strides));
  t.impl()->base = src.impl()->base ? src.impl()->base : src.ref();
  t.impl()->view_version = src.version();
  t.impl()->is_inference = src.impl()->is_inference;
  return t;
}

Tensor from_blob(void* data, IntList sizes, IntList strides, DType dtype, Device device, void* owner,
                 void (*release)(void*)) {
  Dims d = sizes.dims(), st = strides.dims();
  numel_of(sizes, "from_blob");
  auto storage = make_ref<Storage>(data, 0, device, owner, release);
  return new_tensor(std::move(storage), d, st, 0, dtype, is_contiguous(d, st));
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
    T v = *static_cast<const T*>(data());
    if constexpr (std::is_same_v<T, bool>)
      return v;
    else if constexpr (std::is_integral_v<T>)
      return int64_t(v);
    else
      return convert<double>(v);
  });
}

}  // namespace tg
