// cuBLASLt of the emulation: the loops of its cuBLAS (emu/blas.cpp), then the epilogue.
#include <cstring>

#include "backends/cuda/emu/blas.h"
#include "backends/cuda/emu/emu.h"

namespace tg::cuda {
namespace {

constexpr auto kInvalid = BlasStatus(7), kUnsupported = BlasStatus(15);

struct Operation {
  BlasCompute compute;
  int32_t trans_a = kBlasN, trans_b = kBlasN;
  uint32_t epilogue = kLtPlain;
  const void* bias = nullptr;
};
struct Matrix {
  BlasType type;
  int64_t rows, columns, lead, stride = 0;
  int32_t batch = 1;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t align[4] = {256, 256, 256, 256};
};

template <class T>
BlasStatus put(T& to, const void* from, size_t n) {
  if (n != sizeof to) return kInvalid;
  std::memcpy(&to, from, n);
  return kBlasSuccess;
}
template <class Real, class T>
Real& real(T* opaque) {
  return *reinterpret_cast<Real*>(opaque);
}
template <class Real, class T>
BlasStatus destroy(T* opaque) {
  delete &real<Real>(opaque);
  return kBlasSuccess;
}

BlasStatus operation_set(LtOperation o, LtOperationField field, const void* value, size_t n) {
  auto& op = real<Operation>(o);
  switch (field) {
    case kLtTransA:
      return put(op.trans_a, value, n);
    case kLtTransB:
      return put(op.trans_b, value, n);
    case kLtEpilogue:
      return put(op.epilogue, value, n);
    case kLtBiasPointer:
      return put(op.bias, value, n);
  }
  return kInvalid;
}
BlasStatus layout_set(LtLayout l, LtLayoutField field, const void* value, size_t n) {
  auto& m = real<Matrix>(l);
  return field == kLtBatch ? put(m.batch, value, n) : put(m.stride, value, n);
}
BlasStatus preference_set(LtPreference p, LtPreferenceField field, const void* value, size_t n) {
  auto& wish = real<Preference>(p);
  uint32_t mask;
  if (field == kLtWorkspace) return put(wish.workspace, value, n);
  if (field == kLtReductions) return put(mask, value, n);
  return put(wish.align[field - kLtAlignA], value, n);
}

// What the library refuses, and rules made up to have both answers: no algorithm for products of one row and column
// with a bias, scratch memory for long sums.
BlasStatus choose(LtHandle, LtOperation o, LtLayout la, LtLayout lb, LtLayout lc, LtLayout, LtPreference p, int,
                  LtChoice* choice, int* found) {
  const auto& op = real<Operation>(o);
  const auto &a = real<Matrix>(la), &b = real<Matrix>(lb), &c = real<Matrix>(lc);
  const int64_t k = op.trans_a == kBlasN ? a.columns : a.rows;
  *found = 0;
  if ((op.trans_b == kBlasN ? b.rows : b.columns) != k || a.batch != c.batch || b.batch != c.batch) return kInvalid;
  for (const Matrix* m : {&a, &b, &c})
    if (m->lead < std::max<int64_t>(1, m->rows)) return kInvalid;
  if (op.epilogue == kLtBias && (c.rows * c.columns == 1 || c.type == kBlasF64)) return kUnsupported;
  *choice = LtChoice{};
  choice->workspace = k > 32 ? 64 : 0;
  if (choice->workspace > real<Preference>(p).workspace) return kUnsupported;
  choice->algorithm.data[0] = uint64_t(k);  // a cached choice must be of the same product
  *found = 1;
  return kBlasSuccess;
}

BlasStatus multiply(LtHandle, LtOperation o, const void* alpha, const void* pa, LtLayout la, const void* pb,
                    LtLayout lb, const void* beta, const void* pc, LtLayout lc, void* pd, LtLayout ld,
                    const LtAlgorithm* algorithm, void* workspace, size_t size, cudaStream_t stream) {
  const Operation op = real<Operation>(o);
  const Matrix a = real<Matrix>(la), b = real<Matrix>(lb), c = real<Matrix>(lc);
  const int64_t k = op.trans_a == kBlasN ? a.columns : a.rows;
  if (pc != pd || lc != ld || algorithm->data[0] != uint64_t(k) || (k > 32 && (size < 64 || !workspace)))
    return kInvalid;
  return emulated_product({a.type,
                           op.compute,
                           BlasOperation(op.trans_a),
                           BlasOperation(op.trans_b),
                           c.rows,
                           c.columns,
                           k,
                           a.lead,
                           b.lead,
                           c.lead,
                           a.stride,
                           b.stride,
                           c.stride,
                           c.batch,
                           pa,
                           pb,
                           pd,
                           alpha,
                           beta,
                           op.epilogue == kLtBias ? op.bias : nullptr},
                          stream);
}

}  // namespace

const BlasLt& emulated_blas_lt() {
  static const BlasLt b{[](LtHandle* h) {
                          *h = reinterpret_cast<LtHandle>(new int);
                          return kBlasSuccess;
                        },
                        [](LtOperation* o, BlasCompute compute, BlasType) {
                          *o = reinterpret_cast<LtOperation>(new Operation{compute});
                          return kBlasSuccess;
                        },
                        operation_set,
                        destroy<Operation>,
                        [](LtLayout* l, BlasType type, uint64_t rows, uint64_t columns, int64_t lead) {
                          *l = reinterpret_cast<LtLayout>(new Matrix{type, int64_t(rows), int64_t(columns), lead});
                          return kBlasSuccess;
                        },
                        layout_set,
                        destroy<Matrix>,
                        [](LtPreference* p) {
                          *p = reinterpret_cast<LtPreference>(new Preference);
                          return kBlasSuccess;
                        },
                        preference_set,
                        destroy<Preference>,
                        choose,
                        multiply};
  return b;
}

}  // namespace tg::cuda
