// The reference backend: the plainest loops that do what backends/backend.h says. It is the specification in code and
// the oracle of the conformance tests, so it prefers being obvious to being fast. Any strides, every dtype, one thread.
#pragma once
#include <type_traits>

#include "backends/backend.h"

namespace tg::ref {

class RefBackend final : public Backend {
 public:
  const char* name() const override { return "ref"; }
  void map(const Program& p, const Views& ins, const Views& outs) override;
  void reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
              const View& out) override;
  void arg_reduce(bool largest, const View& in, int axis, const View& values, const View& index) override;
  void scan(ScanOp op, const View& in, int axis, const View& out, const View& index) override;
  void nonzero(const View& in, std::vector<int64_t>& out) override;
  void gemm(double alpha, const View& a, const View& b, double beta, const View& c) override;
  void gather(const View& in, int axis, const View& index, const View& out) override;
  void scatter(ScatterOp op, const View& src, int axis, const View& index, const View& out) override;
  std::pair<int64_t, int64_t> int_range(const View& index) override;
  void sort(const View& in, int axis, bool descending, const View& values, const View& index) override;
  void fold(const View& in, const View& out) override;
  void copy_bytes(void* dst, const void* src, size_t n) override;
  void synchronize() override {}
};

// One element, converted between its dtype and T (float, double or int64_t).
template <class T>
T load(const View& v, int64_t offset) {
  return visit(v.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    return convert<T>(static_cast<const S*>(v.data)[offset]);
  });
}
template <class T>
void store(const View& v, int64_t offset, T x) {
  visit(v.dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    static_cast<S*>(v.data)[offset] = convert<S>(x);
  });
}

// Offset of the element at `index`, in elements.
inline int64_t offset_of(const View& v, const Dims& index) {
  int64_t off = 0;
  for (int d = 0; d < index.size(); ++d) off += index[d] * v.stride[d];
  return off;
}

// f(index) for every index of `shape` in row-major order; once with an empty index for a 0-d shape.
template <class F>
void for_each_index(const Dims& shape, F&& f) {
  for (int64_t s : shape)
    if (s == 0) return;
  Dims index = Dims::filled(shape.size(), 0);
  for (;;) {
    f(index);
    int d = shape.size() - 1;
    while (d >= 0 && ++index[d] == shape[d]) index[d--] = 0;
    if (d < 0) return;
  }
}

// f(index) for every line along `axis`: index[axis] is 0.
template <class F>
void for_each_line(Dims shape, int axis, F&& f) {
  shape[axis] = 1;
  for_each_index(shape, f);
}

// f(Tag<T>) with the C++ type of a compute dtype.
template <class F>
void visit_compute(DType compute, F&& f) {
  switch (compute) {
    case DType::F32:
      return f(Tag<float>{});
    case DType::F64:
      return f(Tag<double>{});
    case DType::I64:
      return f(Tag<int64_t>{});
    default:
      fail<DTypeError>("program: compute type must be float32, float64 or int64, got ", compute);
  }
}
// Sums and products accumulate in this type.
template <class T>
using Wide = std::conditional_t<std::is_integral_v<T>, int64_t, double>;

// f(Tag<double>) for floating dtypes, f(Tag<int64_t>) for the others: holds every value of the dtype exactly.
template <class F>
void visit_wide(DType t, F&& f) {
  if (is_float(t))
    f(Tag<double>{});
  else
    f(Tag<int64_t>{});
}

// Runs a program whose compute type is T on one element: `regs` starts with the inputs and has room for every register;
// `i` is the element's logical index.
template <class T>
void run_program(const Program& p, T* regs, int64_t i);

// Registers of a program, at most 256 as they are numbered by a byte.
inline int num_regs(const Program& p) { return p.n_inputs + p.consts.size() + p.code.size(); }

}  // namespace tg::ref
