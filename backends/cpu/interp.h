// Runs a program tile by tile: registers are tiles of the compute type that stay in the first-level cache.
#pragma once
#include "backends/cpu/loops.h"
#include "backends/cpu/nd.h"

namespace tg::cpu {

class Interp {
 public:
  // At most `longest` elements are asked for at once.
  Interp(const Program& p, const Loops& l, int64_t longest);
  Interp(const Interp&) = delete;
  Interp& operator=(const Interp&) = delete;
  // Largest n of the calls below.
  int64_t tile() const { return tile_; }

  // Points the input registers at the next n elements of the views first, first + 1, ... of c, converted where needed.
  // `base` (may be null) is added to the addresses: bytes per view.
  void fetch(const Cursor& c, int first, int64_t n, const int64_t* base = nullptr);
  void set_input(int i, const void* data) { reg_[i] = data; }
  // Executes the program; `logical` is the index of the first element. A non-null `direct` receives the result of the
  // last instruction.
  void run(int64_t n, int64_t logical, void* direct = nullptr);
  const void* output(int k) const { return reg_[p_.outs[k]]; }
  // Whether the result of the last instruction may go straight into an output's memory.
  bool can_write_direct() const;

 private:
  void exec(const Instr& in, int64_t n, int64_t logical, void* out);
  char* tile_of(int r) { return buffer_ + r * tile_ * item_; }

  static constexpr int64_t kBytes = 40 * 1024;
  const Program& p_;
  const Loops& l_;
  int num_;
  int64_t item_, tile_;
  const void* reg_[256];
  alignas(64) char buffer_[kBytes];
};

// A program that returns its input: what a missing one stands for.
Program identity_program(DType compute);
// n values of the compute type into view v, where the cursor stands.
void store_tile(const Loops& l, int num, const void* src, const Cursor& c, int v, int64_t n);
// The next n elements of view v (+ base bytes), converted to a compute type. May return the view's own memory.
const void* load_tile(const Loops& l, int num, const Cursor& c, int v, int64_t base, void* dst, int64_t n);

}  // namespace tg::cpu
