// What the BLAS and LAPACK behind the CPU backend are.
#pragma once
#include <string>

#include "core/api.h"

namespace tg::cpu {

// One line: the library's own description where it has one, and its file.
TG_API std::string blas_info();

}  // namespace tg::cpu
