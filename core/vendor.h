// Libraries of a vendor that are opened when they are first needed: NVRTC, cuBLAS and the like. Nobody has to have
// them.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "core/error.h"

namespace tg {

// Folders to look into before the system's own search, in order: those of TG_CUDA_LIB_DIR (separated by ':'), those
// of Python, site-packages beside this library, the usual folders of the toolkit.
TG_API std::vector<std::string> vendor_folders();
// Set by Python, asked at every search: where its packages keep the vendor's libraries (nvidia/*/lib).
TG_API extern std::vector<std::string> (*python_vendor_folders)();

// Whether TG_CUDA_WITHOUT says to do as if this library were not there: names separated by ':', such as
// "cublas:cublasLt:cudnn" for libcublas.so.13 and the others. For tests of what serves in their place.
TG_API bool left_out_by_user(const std::string& library);

// A library that stays open once it was found.
class TG_API VendorLibrary {
 public:
  // The first of `names` that opens, e.g. {"libnvrtc.so.13"}; `before` are libraries that it opens by bare name itself
  // and would not find in a folder: they are opened first from the same folder.
  VendorLibrary(const std::vector<std::string>& names, const std::vector<std::string>& before = {});
  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& path() const { return path_; }    // what was opened
  const std::string& tried() const { return tried_; }  // one line per attempt, with the loader's reason
  // Address of a function; DeviceError naming library and function if it is missing.
  void* symbol(const char* name) const;
  template <class F>
  void get(F*& f, const char* name) const {
    f = reinterpret_cast<F*>(symbol(name));
  }

 private:
  void* handle_ = nullptr;
  std::string path_, tried_;
};

// What `make` returns, made at first use and kept. Not under a lock, as that of a static would be: looking for a
// library asks Python, whose lock may be held by another thread that waits here. Threads that meet at the first use
// each make one, of which the first stays; a library opened twice is open once.
template <auto make>
const auto& opened_once() {
  using T = decltype(make());
  static std::atomic<const T*> kept = nullptr;
  const T* p = kept.load(std::memory_order_acquire);
  if (p) return *p;
  const T* const made = new T(make());
  if (kept.compare_exchange_strong(p, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *p;
}

}  // namespace tg
