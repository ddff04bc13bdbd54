// The tensor handle, its strided view over shared storage, and borrowed lists of tensors.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/allocator.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/free_list.h"
#include "core/generator.h"
#include "core/ref.h"
#include "core/scalar.h"
#include "core/shape.h"

namespace tg {

class Tensor;
class TensorList;
class Operand;
struct IndexItem;
struct Node;

// Bytes shared by all views of a tensor. `version` counts in-place writes, so that the tape can tell a stale value.
struct TG_API Storage final : RefCounted, Recycled<Storage> {
  void* data = nullptr;
  size_t nbytes = 0;
  Device device;
  std::atomic<uint32_t> version{0};
  const char* last_writer = "";            // the in-place op that raised `version` last (a string literal or op name)
  void (*free_external)(void*) = nullptr;  // set for borrowed memory (NumPy, DLPack): called with `owner`
  void* owner = nullptr;

  Storage(size_t bytes, Device d);                                        // owned, uninitialised
  Storage(void* p, size_t bytes, Device d, void* own, void (*f)(void*));  // borrowed
  ~Storage();
};

// Autograd's part of a tensor; its real type lives in autograd/ (core only owns and deletes it).
struct AutogradMetaBase {
  virtual ~AutogradMetaBase() = default;
};

struct TG_API TensorImpl final : RefCounted, Recycled<TensorImpl> {
  Ref<Storage> storage;
  int64_t offset = 0;  // in elements
  int64_t numel = 0;
  DType dtype = DType::F32;
  bool contiguous = true;
  bool requires_grad = false;   // leaf flag, or "has a grad_fn"
  bool is_parameter = false;    // nn.Parameter
  bool is_inference = false;    // made under inference_mode
  bool untracked_view = false;  // view made under no_grad: writes through it must not bypass the base's graph
  bool owns_py = false;         // this object keeps its Python wrapper alive (see python/tensor_type.cpp)
  void* py = nullptr;           // the Python wrapper, if one exists: a tensor is one Python object
  Ref<TensorImpl> base;         // for views: the tensor whose storage this one looks into
  uint32_t view_version = 0;    // storage version at which this view's own history was made
  std::unique_ptr<AutogradMetaBase> autograd;
  Dims sizes, strides;

  ~TensorImpl();
};
TG_API void ref_destroy(Storage* p);
TG_API void ref_destroy(TensorImpl* p);
// Set by the Python layer: drops the wrapper of a dying tensor (takes the interpreter lock).
TG_API extern void (*release_python_object)(void* py);

// Argument of an element-wise op: a tensor (borrowed) or a number.
class Operand {
 public:
  Operand(const Tensor& t) : t_(&t) {}
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  Operand(T v) : s_(v) {}
  Operand(Scalar s) : s_(s) {}
  bool is_tensor() const { return t_ != nullptr; }
  const Tensor& tensor() const { return *t_; }
  const Scalar& scalar() const { return s_; }

 private:
  const Tensor* t_ = nullptr;
  Scalar s_ = 0;
};

// Reference to an n-dimensional array. Copying the handle shares the array, as in Python. Undefined when empty.
class TG_API Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}
  bool defined() const { return bool(impl_); }
  TensorImpl* impl() const { return impl_.get(); }
  const Ref<TensorImpl>& ref() const { return impl_; }
  bool is_same(const Tensor& o) const { return impl_ == o.impl_; }

  const Dims& sizes() const { return impl_->sizes; }
  const Dims& shape() const { return impl_->sizes; }
  const Dims& strides() const { return impl_->strides; }
  int64_t size(int64_t d) const { return impl_->sizes[wrap_dim("size", d, ndim())]; }
  int64_t stride(int64_t d) const { return impl_->strides[wrap_dim("stride", d, ndim())]; }
  int ndim() const { return impl_->sizes.size(); }
  int dim() const { return ndim(); }
  int64_t numel() const { return impl_->numel; }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->storage->device; }
  int64_t storage_offset() const { return impl_->offset; }
  bool is_contiguous() const { return impl_->contiguous; }
  bool is_view() const { return bool(impl_->base); }
  // First element. Writing through it is invisible to autograd: call bump_version() after.
  void* data() const { return static_cast<char*>(impl_->storage->data) + impl_->offset * itemsize(dtype()); }
  // Typed pointer to memory of the host; DTypeError if T is not the element type, DeviceError if it lies on a device.
  template <class T>
  T* data() const {
    TG_CHECK(device().is_cpu(), DeviceError, "data: the host cannot read memory of ", device());
    TG_CHECK(dtype() == DTypeOf<T>::value, DTypeError, "data: tensor is ", dtype(), ", not ", name(DTypeOf<T>::value));
    return static_cast<T*>(data());
  }
  // The value of a one-element tensor; ValueError otherwise.
  Scalar item_scalar() const;
  template <class T = double>
  T item() const {
    Scalar s = item_scalar();
    return s.is_float() ? T(s.d()) : T(s.i());
  }
  uint32_t version() const { return impl_->storage->version.load(std::memory_order_relaxed); }
  void bump_version(const char* writer) const {
    impl_->storage->last_writer = writer;
    impl_->storage->version.fetch_add(1, std::memory_order_relaxed);
  }

  // Autograd (defined in autograd/variable.cpp)
  // True if this tensor takes part in a graph. A view also does when its base got history after the view was made.
  bool requires_grad() const {
    const TensorImpl* t = impl_.get();
    return t && (t->requires_grad ||
                 (t->base && t->base->requires_grad && !t->untracked_view && version() != t->view_version));
  }
  const Tensor& set_requires_grad(bool on) const;  // leaf tensors of floating type only
  bool is_leaf() const;
  Ref<Node> grad_fn() const;
  Tensor grad() const;  // undefined until backward() wrote it
  void set_grad(const Tensor& g) const;
  void retain_grad() const;
  // Gradients of this tensor with respect to all leaves it depends on, added to their .grad.
  void backward(const Tensor& gradient = {}, bool retain_graph = false, bool create_graph = false) const;

  // x[{...}] with int, Slice, None, Ellipsis and tensors; assignment through index_put_ (see ops/index.cpp).
  Tensor operator[](std::initializer_list<IndexItem> items) const;
  Tensor operator[](int64_t i) const;

// One method per op of the table that has `Tensor input` first; generated from the table.
#include "ops/tensor_methods.inc"

 private:
  Ref<TensorImpl> impl_;
};

// Borrowed list of tensors, valid for the call only.
class TensorList {
 public:
  TensorList() = default;
  TensorList(std::initializer_list<Tensor> v) : n_(int64_t(v.size())) { p_ = v.begin(); }
  TensorList(const std::vector<Tensor>& v) : p_(v.data()), n_(int64_t(v.size())) {}
  TensorList(const Tensor* p, int64_t n) : p_(p), n_(n) {}
  int64_t size() const { return n_; }
  bool empty() const { return n_ == 0; }
  const Tensor& operator[](int64_t i) const { return p_[i]; }
  const Tensor* begin() const { return p_; }
  const Tensor* end() const { return p_ + n_; }

 private:
  const Tensor* p_ = nullptr;
  int64_t n_ = 0;
};

// t.data = data: same tensor object, other contents, no history recorded (defined in autograd/variable.cpp).
TG_API void set_data(const Tensor& t, const Tensor& data);
// Uninitialised tensor.
TG_API Tensor empty_tensor(IntList sizes, DType dtype, Device device = {});
// Uninitialised, with the sizes, dtype (or the given one) and device of `like`; contiguous.
TG_API Tensor empty_like_tensor(const Tensor& like);
TG_API Tensor empty_like_tensor(const Tensor& like, DType dtype);
// A view of `src`'s storage: shares memory, version counter and base. `offset` is absolute, in elements.
TG_API Tensor make_view(const Tensor& src, const Dims& sizes, const Dims& strides, int64_t offset);
// Tensor over memory of somebody else; `release(owner)` is called when the last view is gone.
TG_API Tensor from_blob(void* data, IntList sizes, IntList strides, DType dtype, Device device, void* owner,
                        void (*release)(void*));
// `t` itself if it lies on the CPU, else a copy there with the same strides, of the bytes between its first and its
// last element. For reading values from code that has no backend; ops use to().
TG_API Tensor host_mirror(const Tensor& t);
// "f32[2,3]@cpu": how error messages name an operand
TG_API std::string describe(const Tensor& t);
TG_API std::string describe(const Operand& t);
// PyTorch's repr: values (summarised when large), dtype and device when not default, grad_fn or requires_grad.
TG_API std::string to_string(const Tensor& t);
// Set by autograd: "<MulBackward>" of a tensor with history.
TG_API extern std::string (*grad_fn_name)(const Tensor&);
inline std::ostream& operator<<(std::ostream& o, const Tensor& t) { return o << to_string(t); }

// torch.set_printoptions
struct PrintOptions {
  int precision = 4, threshold = 1000, edgeitems = 3, linewidth = 80;
  int sci_mode = -1;  // -1 automatic, 0 off, 1 on
};
TG_API PrintOptions& print_options();

// Slice with optional ends, as in Python.
struct Slice {
  std::optional<int64_t> start = {}, stop = {}, step = {};
};
// One entry of an index expression.
struct IndexItem {
  enum class Kind : uint8_t { Int, Slice, None, Ellipsis, Bool, Tensor };
  Kind kind;
  int64_t i = 0;
  tg::Slice slice;
  tg::Tensor tensor;
  IndexItem(int64_t v) : kind(Kind::Int), i(v) {}
  IndexItem(int v) : IndexItem(int64_t(v)) {}
  IndexItem(bool b) : kind(Kind::Bool), i(b) {}
  IndexItem(tg::Slice s) : kind(Kind::Slice), slice(s) {}
  IndexItem(std::nullopt_t) : kind(Kind::None) {}
  IndexItem(tg::Tensor t) : kind(Kind::Tensor), tensor(std::move(t)) {}
  static IndexItem ellipsis() {
    IndexItem x(std::nullopt);
    x.kind = Kind::Ellipsis;
    return x;
  }
};

}  // namespace tg
