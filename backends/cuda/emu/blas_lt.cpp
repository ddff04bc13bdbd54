// cuBLASLt of the emulation: the loops of its cuBLAS (emu/blas.cpp) and the epilogue. The algorithms that it chooses
// make use of all that the caller allows: of every byte of alignment, and of sums that are split and rounded on the
// way.
#include <array>
#include <cstring>
#include <utility>

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
  void* before = nullptr;
  int64_t lead_before = 0;
};
struct Matrix {
  BlasType type;
  int64_t rows, columns, lead, stride = 0;
  int32_t batch = 1;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 7;  // all of them
  std::array<uint32_t, 4> align = {256, 256, 256, 256};
};

// What LtAlgorithm holds.
struct Algorithm {
  int64_t k;                      // of the product it was chosen for
  std::array<uint32_t, 4> align;  // what it needs of a, b, c and d
  uint32_t align_bias, align_before;
  bool rounds_parts;
};
constexpr int64_t kLong = 32, kPart = 16;  // sums of more terms than kLong are split into parts

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
    case kLtBeforePointer:
      return put(op.before, value, n);
    case kLtBeforeLead:
      return put(op.lead_before, value, n);
  }
  return kInvalid;
}
BlasStatus layout_set(LtLayout l, LtLayoutField field, const void* value, size_t n) {
  auto& m = real<Matrix>(l);
  return field == kLtBatch ? put(m.batch, value, n) : put(m.stride, value, n);
}
BlasStatus preference_set(LtPreference p, LtPreferenceField field, const void* value, size_t n) {
  auto& wish = real<Preference>(p);
  if (field == kLtWorkspace) return put(wish.workspace, value, n);
  if (field == kLtReductions) return put(wish.reductions, value, n);
  return put(wish.align[field - kLtAlignA], value, n);
}

// The power of two, up to a vector's bytes, that an address is a multiple of: as the library looks at it.
uint32_t alignment(const void* p) {
  const auto a = reinterpret_cast<uintptr_t>(p) | 16;
  return uint32_t(a & -a);
}
void check_aligned(const char* what, const void* p, uint32_t align) {
  if (reinterpret_cast<uintptr_t>(p) % align != 0)
    emu::fault("cuBLASLt: %s at %p, for an algorithm that was chosen for addresses that are multiples of %u", what, p,
               align);
}

Epilogue epilogue_of(const Operation& op) {
  Epilogue e;
  if (op.epilogue & kLtBias) e.bias = op.bias;
  e.gelu = op.epilogue & kLtGelu;
  if (op.epilogue & kLtBefore) e.before = op.before, e.lead_before = op.lead_before;
  return e;
}

int64_t depth(const Operation& op, const Matrix& a) { return op.trans_a == kBlasN ? a.columns : a.rows; }

// What the library refuses, and rules made up to have both answers: no algorithm for products of one row and column
// with an epilogue, scratch memory for long sums.
BlasStatus choose(LtHandle, LtOperation o, LtLayout la, LtLayout lb, LtLayout lc, LtLayout, LtPreference p, int,
                  LtChoice* choice, int* found) {
  const auto& op = real<Operation>(o);
  const auto& wish = real<Preference>(p);
  const auto &a = real<Matrix>(la), &b = real<Matrix>(lb), &c = real<Matrix>(lc);
  const int64_t k = depth(op, a);
  *found = 0;
  if ((op.trans_b == kBlasN ? b.rows : b.columns) != k || a.batch != c.batch || b.batch != c.batch) return kInvalid;
  for (const Matrix* m : {&a, &b, &c})
    if (m->lead < std::max<int64_t>(1, m->rows)) return kInvalid;
  if (op.epilogue != kLtPlain && (c.rows * c.columns == 1 || c.type == kBlasF64)) return kUnsupported;
  if (op.epilogue & kLtBefore && (op.lead_before % kLtBeforeStep != 0 || op.lead_before < c.rows || c.batch != 1))
    emu::fault("cuBLASLt: what gelu is applied to has the leading dimension %lld", (long long)op.lead_before);
  *choice = LtChoice{};
  choice->workspace = k > kLong ? 64 : 0;
  if (choice->workspace > wish.workspace) return kUnsupported;
  const bool rounds_parts = k > kLong && (wish.reductions & ~kLtReduceInCompute) != 0;
  const Algorithm chosen{k, wish.align, alignment(op.bias), alignment(op.before), rounds_parts};
  static_assert(sizeof chosen <= sizeof choice->algorithm);
  std::memcpy(&choice->algorithm, &chosen, sizeof chosen);
  *found = 1;
  return kBlasSuccess;
}

// A long sum in parts, each of which is added to c in c's type.
BlasStatus multiply_in_parts(BlasProduct p, cudaStream_t stream) {
  const int64_t k = p.k, bytes = p.type == kBlasF64 ? 8 : p.type == kBlasF32 ? 4 : 2;
  const int64_t step_a = (p.op_a == kBlasN ? p.lead_a : 1) * kPart * bytes;
  const int64_t step_b = (p.op_b == kBlasN ? 1 : p.lead_b) * kPart * bytes;
  const double one64 = 1;
  const float one32 = 1;
  const Epilogue after = std::exchange(p.after, {});
  for (int64_t l = 0; l < k; l += kPart) {
    p.k = std::min(kPart, k - l);
    if (l + kPart >= k) p.after = after;
    if (const BlasStatus s = emulated_product(p, stream); s != kBlasSuccess) return s;
    p.a = static_cast<const char*>(p.a) + step_a, p.b = static_cast<const char*>(p.b) + step_b;
    p.beta = p.compute == kComputeF64 ? static_cast<const void*>(&one64) : &one32;
  }
  return kBlasSuccess;
}

BlasStatus multiply(LtHandle, LtOperation o, const void* alpha, const void* pa, LtLayout la, const void* pb,
                    LtLayout lb, const void* beta, const void* pc, LtLayout lc, void* pd, LtLayout ld,
                    const LtAlgorithm* algorithm, void* workspace, size_t size, cudaStream_t stream) {
  const Operation op = real<Operation>(o);
  const Matrix a = real<Matrix>(la), b = real<Matrix>(lb), c = real<Matrix>(lc);
  const int64_t k = depth(op, a);
  Algorithm chosen;
  std::memcpy(&chosen, algorithm, sizeof chosen);
  if (pc != pd || lc != ld || chosen.k != k || (k > kLong && (size < 64 || !workspace))) return kInvalid;
  const Epilogue after = epilogue_of(op);
  check_aligned("a", pa, chosen.align[0]), check_aligned("b", pb, chosen.align[1]);
  check_aligned("c", pc, chosen.align[2]), check_aligned("d", pd, chosen.align[3]);
  if (after.bias) check_aligned("the bias", after.bias, chosen.align_bias);
  if (after.before) check_aligned("what gelu is applied to", after.before, chosen.align_before);
  const BlasProduct product{a.type,
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
                            after};
  return chosen.rounds_parts ? multiply_in_parts(product, stream) : emulated_product(product, stream);
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
