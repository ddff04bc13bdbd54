// One pass over the memory of all parameters of a group: a batch of formulas (optim/formulas.h) with their operands.
#pragma once
#include <array>
#include <vector>

#include "core/tensor.h"
#include "optim/formulas.h"

namespace tg::optim {

class Batch {
 public:
  // `writer` (a literal) is what error messages call the update.
  explicit Batch(const char* writer) : writer_(writer) {}
  // Notes an update of arrays[0] by the gradient arrays[1] and the state in the other arrays. ShapeError, DTypeError
  // or DeviceError for a gradient or state that does not fit the parameter.
  void add(Formula f, std::initializer_list<Tensor> arrays, std::initializer_list<double> coefs);
  // Does them all: on the CPU those in plain memory share one parallel loop.
  void run();

 private:
  struct Item {
    Formula formula;
    int64_t begin = 0;  // elements of the items before it
    std::vector<Tensor> arrays;
    std::array<double, kMaxCoefs> coefs{};
  };
  void run_program(const Item& item) const;

  const char* writer_;
  std::vector<Item> plain_, other_;
};

}  // namespace tg::optim
