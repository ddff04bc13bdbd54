#include "backends/cpu/blas_info.h"

#include <dlfcn.h>

#include "backends/cpu/blas.h"
#include "core/error.h"

namespace tg::cpu {

std::string blas_info() {
  Dl_info info{};
  const bool found = dladdr(reinterpret_cast<void*>(&TG_CBLAS(sgemm)), &info) && info.dli_fname;
  const std::string path = found ? info.dli_fname : "path unknown";
#ifdef TG_BLAS_OPENBLAS
  return str(TG_OPENBLAS(get_config)(), ", kernels for ", TG_OPENBLAS(get_corename)(), ", ", path);
#else
  return path;
#endif
}

}  // namespace tg::cpu
