#include "core/generator.h"

namespace tg {

void Generator::manual_seed(uint64_t seed) { set_state(seed, 0); }

void Generator::set_state(uint64_t seed, uint64_t offset) {
  std::lock_guard lock(mutex_);
  seed_ = seed;
  offset_ = offset;
}

uint64_t Generator::next(uint64_t ops) {
  std::lock_guard lock(mutex_);
  const uint64_t first = offset_;
  offset_ += ops;
  return first;
}

Generator& default_generator() {
  static Generator* g = new Generator(0x853c49e6748fea9bULL);
  return *g;
}

void manual_seed(uint64_t seed) { default_generator().manual_seed(seed); }

}  // namespace tg
