// NumPy's .npy files (format: numpy.lib.format, versions 1.0 and 2.0), C order, little endian.
#pragma once
#include <string>

#include "core/tensor.h"

namespace tg::io {

// FormatError for anything that is not a plain array of a supported dtype; IoError for the file itself.
TG_API Tensor load_npy(const std::string& path);
TG_API Tensor from_npy(const std::string& bytes, const std::string& what = "npy");
TG_API void save_npy(const Tensor& t, const std::string& path);

}  // namespace tg::io
