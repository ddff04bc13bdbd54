// One pass over the memory of all parameters of a group: a batch of formulas (backends/formulas.h) with their operands.
#pragma once
#include <array>
#include <vector>

#include "backends/formulas.h"
#include "core/tensor.h"

namespace tg::optim {

class Batch {
 public:
  // `writer` (a literal) is what error messages call the update.
  explicit Batch(const char* writer) : writer_(writer) {}
  // Notes an update of arrays[0] by the gradient arrays[1] and the state in the other arrays. ShapeError, DTypeError
  // or DeviceError for a gradient or state that does not fit the parameter.
  void add(Formula f, std::initializer_list<Tensor> arrays, std::initializer_list<double> coefs);
  // The same for Adam's formulas with a step that the device counts in `step` (float32, one element): coefficients 3
  // and 7 are those without correction. False if no kernel takes these arrays; nothing is noted then.
  bool add_counted(Formula f, std::initializer_list<Tensor> arrays, std::initializer_list<double> coefs,
                   const Tensor& step, std::array<double, 2> betas);
  // Does them all: on the CPU those in plain memory share one parallel loop, on a device few launches.
  void run();

 private:
  struct Item {
    Formula formula;
    int64_t begin = 0;  // elements of the items before it
    std::vector<Tensor> arrays;
    std::array<double, kMaxCoefs> coefs{};
    Tensor step = {};  // on the device, if it counts
    std::array<double, 2> betas{};
  };
  void run_plain() const;
  void run_on_devices() const;
  void run_program(const Item& item) const;

  const char* writer_;
  std::vector<Item> plain_, on_device_, other_;  // by the way they take
};

}  // namespace tg::optim
