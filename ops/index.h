// What ops that take integer tensors as positions share.
#pragma once
#include "ops/ops.h"

namespace tg {

// `index` as int64 with every value in [0, size): DTypeError if it is not an integer tensor, IndexError naming the
// value and dimension `dim` if one is out of range. Negative values count from the end where `wrap` is set.
Tensor checked_index(const char* op, const Tensor& index, int64_t size, int dim, bool wrap);
// While a graph is recorded, when the host cannot look at values of a device: `index` (int64) with what is not in [low,
// high] moved there. A replay that meets such a value makes the next wait for the device an IndexError beginning with
// `text`.
bool recorded(const Tensor& t);
Tensor bounded_index(const Tensor& index, int64_t low, int64_t high, const std::string& text);
// While one is alive on this thread, indices are what the library has computed itself, in range and int64: nobody looks
// at them, which the host would have to wait for, and nobody bounds them.
class KnownIndices {
 public:
  explicit KnownIndices(bool on = true);
  ~KnownIndices();
  KnownIndices(const KnownIndices&) = delete;
  KnownIndices& operator=(const KnownIndices&) = delete;

 private:
  bool before_;
};
// ValueError made of `parts` unless `holds` (bool) is true everywhere. While a graph is recorded nobody can look: an
// element that is false in a replay is then told as a wrong index is, by an IndexError at the next wait.
void require_in_replays(const Tensor& holds, const std::string& text);
template <class... Parts>
void require_all(const Tensor& holds, const Parts&... parts) {
  if (holds.numel() == 0) return;
  if (recorded(holds)) return require_in_replays(holds, str(parts...));
  TG_CHECK(all(holds).item<bool>(), ValueError, parts...);
}
// NotImplementedError while a graph is recorded on the device of `t`: what `op` makes on the host would stay as it is
// in every replay.
void reject_recording(const char* op, Device device);
// The expression [:, ..., :, index] with index at dimension `dim`.
std::vector<IndexItem> index_at(int dim, const Tensor& index);
// Shape of index and other operands of gather and scatter: at most input's size outside of `dim`, same number of
// dimensions. IndexError or ShapeError otherwise.
void check_gather_index(const char* op, const Tensor& input, int dim, const Tensor& index);

}  // namespace tg
