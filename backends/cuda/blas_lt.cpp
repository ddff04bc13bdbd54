#include "backends/cuda/blas_lt.h"

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <unordered_map>

#include "backends/cuda/device.h"
#include "core/vendor.h"

namespace tg::cuda {

#ifdef TG_CUDA_EMULATION
const BlasLt& emulated_blas_lt();  // emu/blas_lt.cpp

const BlasLt* blas_lt() {
  static const bool off = std::getenv("TG_EMU_NO_BLASLT") || std::getenv("TG_EMU_NO_BLAS");
  return off ? nullptr : &emulated_blas_lt();
}
#else
namespace {

std::optional<BlasLt> open_blas_lt() {
  const VendorLibrary lib({"libcublasLt.so.13"});
  if (!lib) return std::nullopt;
  BlasLt b;
  lib.get(b.create, "cublasLtCreate");
  lib.get(b.operation_create, "cublasLtMatmulDescCreate");
  lib.get(b.operation_set, "cublasLtMatmulDescSetAttribute");
  lib.get(b.operation_destroy, "cublasLtMatmulDescDestroy");
  lib.get(b.layout_create, "cublasLtMatrixLayoutCreate");
  lib.get(b.layout_set, "cublasLtMatrixLayoutSetAttribute");
  lib.get(b.layout_destroy, "cublasLtMatrixLayoutDestroy");
  lib.get(b.preference_create, "cublasLtMatmulPreferenceCreate");
  lib.get(b.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  lib.get(b.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  lib.get(b.choose, "cublasLtMatmulAlgoGetHeuristic");
  lib.get(b.multiply, "cublasLtMatmul");
  return b;
}

}  // namespace

const BlasLt* blas_lt() {
  const std::optional<BlasLt>& b = opened_once<open_blas_lt>();
  return b ? &*b : nullptr;
}
#endif

namespace {

constexpr uint64_t kMostWorkspace = 32 << 20;  // what PyTorch gives on the largest cards
constexpr size_t kMostPlans = 4096;

void check_lt(BlasStatus s, const char* what) {
  TG_CHECK(s == kBlasSuccess, DeviceError, "cuda: ", what, ": status ", int(s));
}

// Everything an algorithm depends on.
using PlanKey = std::array<int64_t, 18>;
struct PlanHash {
  size_t operator()(const PlanKey& k) const {
    uint64_t h = 1469598103934665603ull;
    for (int64_t v : k) h = (h ^ uint64_t(v)) * 1099511628211ull, h ^= h >> 29;
    return size_t(h);
  }
};

// Bytes that an address is a multiple of, up to a vector's.
uint32_t alignment_of(const void* p) {
  const auto a = reinterpret_cast<uintptr_t>(p) | 16;
  return uint32_t(a & -a);
}

PlanKey key_of(const BlasProduct& p) {
  int64_t aligned = 0;
  for (const void* v :
       {p.a, p.b, static_cast<const void*>(p.c), p.after.bias, static_cast<const void*>(p.after.before)})
    aligned = aligned << 8 | alignment_of(v);
  return {current_device(),
          p.type,
          p.compute,
          p.op_a,
          p.op_b,
          p.m,
          p.n,
          p.k,
          p.lead_a,
          p.lead_b,
          p.lead_c,
          p.stride_a,
          p.stride_b,
          p.stride_c,
          p.batch,
          aligned,
          p.after.number(),
          p.after.lead_before};
}

// Something of the library's with its own destructor.
template <class T>
class Owned {
 public:
  using Destroy = BlasStatus(T);
  explicit Owned(Destroy* destroy) : destroy_(destroy) {}
  ~Owned() {
    if (value_) destroy_(value_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* operator&() { return &value_; }
  operator T() const { return value_; }

 private:
  T value_{};
  Destroy* destroy_;
};

// A product that was asked for before: its description and the algorithm chosen for it.
class Plan {
 public:
  Plan(const BlasLt& lib, LtHandle handle, const BlasProduct& p)
      : lib_(lib),
        operation_(lib.operation_destroy),
        a_(lib.layout_destroy),
        b_(lib.layout_destroy),
        c_(lib.layout_destroy) {
    check_lt(lib.operation_create(&operation_, p.compute, p.type == kBlasF64 ? kBlasF64 : kBlasF32),
             "cublasLtMatmulDescCreate");
    set(kLtTransA, int32_t(p.op_a));
    set(kLtTransB, int32_t(p.op_b));
    if (p.after) set(kLtEpilogue, p.after.number());
    if (p.after.before) set(kLtBeforeLead, p.after.lead_before);
    set_pointers(p.after);  // the heuristics look at their alignment
    layout(a_, p, p.op_a == kBlasN ? p.m : p.k, p.op_a == kBlasN ? p.k : p.m, p.lead_a, p.stride_a);
    layout(b_, p, p.op_b == kBlasN ? p.k : p.n, p.op_b == kBlasN ? p.n : p.k, p.lead_b, p.stride_b);
    layout(c_, p, p.m, p.n, p.lead_c, p.stride_c);
    choose(handle, p);
  }

  bool run(LtHandle handle, const BlasProduct& p) {
    if (!usable_) return false;
    set_pointers(p.after);
    std::optional<Scratch> work;
    if (choice_.workspace > 0) work.emplace(choice_.workspace);
    check_lt(lib_.multiply(handle, operation_, p.alpha, p.a, a_, p.b, b_, p.beta, p.c, c_, p.c, c_, &choice_.algorithm,
                           work ? work->as<void>() : nullptr, choice_.workspace, stream()),
             "cublasLtMatmul");
    note_work("cublasLtMatmul");
    return true;
  }

 private:
  template <class T>
  void set(LtOperationField field, const T& value) {
    check_lt(lib_.operation_set(operation_, field, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
  void set_pointers(const Epilogue& after) {
    if (after.bias) set(kLtBiasPointer, after.bias);
    if (after.before) set(kLtBeforePointer, after.before);
  }
  void layout(Owned<LtLayout>& l, const BlasProduct& p, int64_t rows, int64_t columns, int64_t lead, int64_t stride) {
    check_lt(lib_.layout_create(&l, p.type, uint64_t(rows), uint64_t(columns), lead), "cublasLtMatrixLayoutCreate");
    if (p.batch == 1) return;
    const auto batch = int32_t(p.batch);
    check_lt(lib_.layout_set(l, kLtBatch, &batch, sizeof batch), "cublasLtMatrixLayoutSetAttribute");
    check_lt(lib_.layout_set(l, kLtBatchStride, &stride, sizeof stride), "cublasLtMatrixLayoutSetAttribute");
  }
  void choose(LtHandle handle, const BlasProduct& p) {
    Owned<LtPreference> wish(lib_.preference_destroy);
    check_lt(lib_.preference_create(&wish), "cublasLtMatmulPreferenceCreate");
    auto prefer = [&](LtPreferenceField field, auto value) {
      check_lt(lib_.preference_set(wish, field, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(kLtWorkspace, kMostWorkspace);
    prefer(kLtReductions, kLtReduceInCompute);
    prefer(kLtAlignA, alignment_of(p.a));
    prefer(kLtAlignB, alignment_of(p.b));
    prefer(kLtAlignC, alignment_of(p.c));
    prefer(kLtAlignD, alignment_of(p.c));
    int found = 0;
    const BlasStatus s = lib_.choose(handle, operation_, a_, b_, c_, c_, wish, 1, &choice_, &found);
    usable_ = s == kBlasSuccess && found > 0 && choice_.state == kBlasSuccess;
  }

  const BlasLt& lib_;
  Owned<LtOperation> operation_;
  Owned<LtLayout> a_, b_, c_;
  LtChoice choice_{};
  bool usable_ = false;
};

// One per thread and device, left to the end of the process like those of cuBLAS.
LtHandle lt_handle(const BlasLt& lib) {
  thread_local LtHandle handles[kMaxDevices] = {};
  LtHandle& h = handles[current_device()];
  if (!h) check_lt(lib.create(&h), "cublasLtCreate");
  return h;
}

}  // namespace

bool multiply_lt(const BlasProduct& p) {
  const BlasLt* lib = blas_lt();
  if (!lib || p.batch > INT32_MAX) return false;
  const LtHandle handle = lt_handle(*lib);
  thread_local std::unordered_map<PlanKey, std::unique_ptr<Plan>, PlanHash> plans;
  const PlanKey key = key_of(p);
  std::unique_ptr<Plan>& plan = plans[key];
  if (!plan) {
    if (plans.size() > kMostPlans) {  // shapes that vary without end
      plans.clear();
      return multiply_lt(p);
    }
    plan = std::make_unique<Plan>(*lib, handle, p);
  }
  return plan->run(handle, p);
}

}  // namespace tg::cuda
