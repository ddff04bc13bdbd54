// Names of the BLAS and LAPACK that the library is linked with, and its number of threads.
#pragma once
#include <cblas.h>

#include <mutex>

#ifdef TG_BLAS_SCIPY
#define TG_CBLAS(name) scipy_cblas_##name
#define TG_OPENBLAS(name) scipy_openblas_##name
#define TG_LAPACK(name) scipy_##name##_
#else
#define TG_CBLAS(name) cblas_##name
#define TG_OPENBLAS(name) openblas_##name
#define TG_LAPACK(name) name##_
#endif

namespace tg::cpu {

// Called before every use: results depend on how a BLAS cuts its work, so the framework's pool cuts it instead.
inline void use_one_blas_thread() {
#ifdef TG_BLAS_OPENBLAS
  static std::once_flag once;
  std::call_once(once, [] { TG_OPENBLAS(set_num_threads)(1); });
#endif
}

}  // namespace tg::cpu
