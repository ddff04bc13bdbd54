// What the decompositions share: checks, batches of column-major matrices, failed factorisations.
#pragma once
#include <limits>

#include "backends/cpu/lapack.h"
#include "core/pool.h"
#include "ops/ops.h"

namespace tg {

// A factorisation that does not exist: a singular matrix, one that is not positive definite, no convergence.
struct TG_API LinAlgError : Error {
  using Error::Error;
};

namespace linalg {

inline Tensor flipped(const Tensor& t) { return transpose(t, -2, -1); }
inline Dims batch_of(const Tensor& t) { return Dims(t.sizes().begin(), t.sizes().end() - 2); }
inline Dims with(Dims batch, std::initializer_list<int64_t> more) {
  for (int64_t n : more) batch.push_back(n);
  return batch;
}
inline int64_t count(const Dims& batch) { return numel_of(batch, "linalg"); }
inline double epsilon(DType t) {
  return t == DType::F64 ? std::numeric_limits<double>::epsilon() : double(std::numeric_limits<float>::epsilon());
}

// The element types LAPACK has, on the device it runs on.
inline void check_type(const char* op, const char* what, const Tensor& t) {
  TG_CHECK(t.dtype() == DType::F32 || t.dtype() == DType::F64, DTypeError, op, ": expected float32 or float64, got ",
           t.dtype(), "; ", what, "=", describe(t));
  TG_CHECK(t.device().is_cpu(), DeviceError, op, ": only CPU tensors are supported; ", what, "=", describe(t));
}
inline void check_matrix(const char* op, const char* what, const Tensor& t) {
  check_type(op, what, t);
  TG_CHECK(t.ndim() >= 2, ShapeError, op, ": expected at least 2 dimensions, got ", t.ndim(), "; ", what, "=",
           describe(t));
  lapack::check_sizes(op, t.size(-2), t.size(-1));
}
inline void check_square(const char* op, const char* what, const Tensor& t) {
  check_matrix(op, what, t);
  TG_CHECK(t.size(-1) == t.size(-2), ShapeError, op, ": expected square matrices, got ", t.size(-2), " x ", t.size(-1),
           "; ", what, "=", describe(t));
}
// Two stacks of matrices with as many rows, one dtype and device; their common batch sizes.
inline Dims check_system(const char* op, const Tensor& a, const Tensor& b) {
  check_matrix(op, "B", b);
  TG_CHECK(a.dtype() == b.dtype(), DTypeError, op, ": expected matrices of one dtype; A=", describe(a),
           ", B=", describe(b));
  TG_CHECK(a.size(-2) == b.size(-2), ShapeError, op, ": A has ", a.size(-2), " rows, B has ", b.size(-2),
           "; A=", describe(a), ", B=", describe(b));
  return broadcast_shapes(op, batch_of(a), batch_of(b));
}

// A fresh copy whose memory holds the matrices column by column (its own shape is the transposed one), and back.
inline Tensor to_columns(const Tensor& t) { return clone(flipped(t)); }
inline Tensor to_columns(const Tensor& t, const Dims& batch) {
  return to_columns(expand(t, with(batch, {t.size(-2), t.size(-1)})));
}
inline Tensor from_columns(const Tensor& t) { return clone(flipped(t)); }

// Calls f(Tag<float or double>, i) for every matrix i of a batch; `work` is about how many operations one takes.
template <class F>
void each_matrix(DType dtype, int64_t n, double work, F&& f) {
  const auto grain = int64_t(std::max(1.0, std::min(1e6 / std::max(work, 1.0), 1e9)));
  auto run = [&](auto tag) {
    parallel_for(n, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(tag, i);
    });
  };
  if (dtype == DType::F64)
    run(Tag<double>{});
  else
    run(Tag<float>{});
}
// Matrix i of a contiguous stack of matrices of `size` elements.
template <class T>
T* at(const Tensor& t, int64_t i, int64_t size) {
  return t.data<T>() + i * size;
}

// Throws LinAlgError for the first entry of `info` that is not 0: "linalg.inv: matrix 3 of the batch <what>".
template <class What>
void check_info(const char* op, const Tensor& info, const Tensor& a, What&& what) {
  const int32_t* p = info.data<int32_t>();
  for (int64_t i = 0; i < info.numel(); ++i)
    if (p[i] != 0)
      fail<LinAlgError>(op, ": ", info.ndim() ? str("matrix ", i, " of the batch ") : "the matrix ", what(p[i]),
                        "; A=", describe(a));
}
inline std::string singular(int32_t i) { return str("is singular: pivot ", i, " of its factorisation is zero"); }
inline std::string not_definite(int32_t i) {
  return str("is not positive definite: its leading minor of order ", i, " is not positive");
}
inline std::string no_convergence(int32_t i) {
  return i < 0 ? "has elements that are not finite" : str("did not converge (", i, ")");
}

}  // namespace linalg
}  // namespace tg
