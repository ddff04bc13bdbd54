// What a backend may be besides a Backend: one that changes many tensors with few launches.
#pragma once
#include <array>
#include <vector>

#include "backends/backend.h"
#include "backends/formulas.h"

namespace tg {

// Contiguous arrays of n elements each, and for steps that the device counts, their number (one float32).
struct UpdateItem {
  std::array<void*, optim::kMaxArrays> data{};
  int64_t n = 0;
  void* step = nullptr;
};

class TG_API UpdateKernels {
 public:
  virtual ~UpdateKernels() = default;

  // The formula over every item, whose arrays have floating type t; `coefs` are those of the formula.
  virtual void update(optim::Formula f, DType t, const double* coefs, const std::vector<UpdateItem>& items) = 0;
  // A step of Adam or AdamLargest whose number the device counts: item.step += 1, and the coefficients that depend on
  // it (3, the rate without correction, and 7) are corrected there by the two betas.
  virtual void update_counted(optim::Formula f, DType t, const double* coefs, std::array<double, 2> betas,
                              const std::vector<UpdateItem>& items) = 0;

  // data[0] *= factor, in the arithmetic type of t. The number of the first item that had an infinity or a NaN before,
  // -1 if none had. With factor 1 nothing is written.
  virtual int64_t unscale(DType t, double factor, const std::vector<UpdateItem>& items) = 0;
  // The same for a factor in the device's memory (one element, float32 or float64) and without a look.
  virtual void scale(DType t, const View& factor, const std::vector<UpdateItem>& items) = 0;
  // out[i] = the Euclidean norm of item i, summed in double in a fixed order; t is float32 or float64, as is `out`.
  virtual void norms(DType t, const std::vector<UpdateItem>& items, void* out) = 0;

  // A step of parameters of a half type on copies in float32. data: parameter, its gradient, copy, wide gradient.
  //   copy = parameter where the parameter is not the copy rounded; wide gradient = gradient * factor
  virtual void widen(DType half, double factor, const std::vector<UpdateItem>& items) = 0;
  // data: parameter, copy. parameter = the copy rounded
  virtual void narrow(DType half, const std::vector<UpdateItem>& items) = 0;
};

// Those of a device, null if it has none.
inline UpdateKernels* update_kernels(Device d) { return dynamic_cast<UpdateKernels*>(&backend(d)); }

}  // namespace tg
