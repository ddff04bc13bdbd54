#include "backends/cuda/blas.h"

#include <atomic>
#include <cstdlib>
#include <optional>

#include "backends/cuda/device.h"
#include "core/vendor.h"
#include "core/warn.h"

namespace tg::cuda {
namespace {
constexpr const char* kBlasLibrary = "libcublas.so.13";
}

#ifdef TG_CUDA_EMULATION
const Blas& emulated_blas();  // emu/blas.cpp

const Blas* blas() {
  static const bool off = std::getenv("TG_EMU_NO_BLAS") != nullptr;
  return off ? nullptr : &emulated_blas();
}
#else
namespace {

// cuBLAS opens cuBLASLt by its bare name, which a package's folder would not answer.
std::optional<Blas> open_blas() {
  const VendorLibrary lib({kBlasLibrary}, {"libcublasLt.so.13"});
  if (!lib) return std::nullopt;
  Blas b;
  lib.get(b.create, "cublasCreate_v2");
  lib.get(b.set_stream, "cublasSetStream_v2");
  lib.get(b.status_string, "cublasGetStatusString");
  lib.get(b.gemm, "cublasGemmStridedBatchedEx_64");
  return b;
}

}  // namespace

const Blas* blas() {
  const std::optional<Blas>& b = opened_once<open_blas>();
  return b ? &*b : nullptr;
}
#endif

void warn_without_blas() {
  static std::atomic<bool> told = false;
  if (left_out_by_user(kBlasLibrary) || told.exchange(true)) return;
  warn(str("cuda: ", kBlasLibrary, " was not found, so products are made by a plain kernel, which is not tuned: ",
           "pip install \"nvidia-cublas>=13.1,<14\", or pip install \"tinygrad_cpp[cuda]\""));
}

void check_blas(const Blas& b, BlasStatus s, const char* what) {
  TG_CHECK(s == kBlasSuccess, DeviceError, "cuda: ", what, ": ", b.status_string(s));
}

// One per thread: a handle carries its stream. Left to the end of the process, as other threads' work may still run.
BlasHandle blas_handle(const Blas& b) {
  thread_local BlasHandle handles[kMaxDevices] = {};
  BlasHandle& h = handles[current_device()];
  if (!h) check_blas(b, b.create(&h), "cublasCreate");
  check_blas(b, b.set_stream(h, stream()), "cublasSetStream");
  return h;
}

}  // namespace tg::cuda
