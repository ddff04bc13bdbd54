// Counter-based random numbers: a draw is a pure function of (seed, offset, element), so the same seed gives the
// same numbers whatever the thread count, and replaying a region only needs its offset.
#pragma once
#include <cstdint>
#include <mutex>

#include "core/api.h"
#include "core/philox.h"

namespace tg {

class TG_API Generator {
 public:
  explicit Generator(uint64_t seed = 0) : seed_(seed) {}
  void manual_seed(uint64_t seed);
  uint64_t seed() const { return seed_; }
  uint64_t offset() const { return offset_; }
  void set_state(uint64_t seed, uint64_t offset);
  // Hands out the offset of one random op, or the first of several; every op consumes exactly one, whatever its size.
  uint64_t next(uint64_t ops = 1);

 private:
  mutable std::mutex mutex_;
  uint64_t seed_, offset_ = 0;
};

// The generator used when an op is given none.
TG_API Generator& default_generator();
// torch.manual_seed
TG_API void manual_seed(uint64_t seed);

}  // namespace tg
