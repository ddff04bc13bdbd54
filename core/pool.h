// The one thread pool. Work is cut into chunks; where a result depends on their bounds, these depend on the size only.
#pragma once
#include <cstdint>
#include <type_traits>

#include "core/api.h"

namespace tg {

TG_API int num_threads();
// At least 1; ValueError otherwise.
TG_API void set_num_threads(int n);

namespace detail {
using ChunkFn = void (*)(void* ctx, int64_t begin, int64_t end);
TG_API void run_chunks(int64_t n, int64_t grain, ChunkFn fn, void* ctx);
}  // namespace detail

// Calls f(begin, end) over [0, n) in chunks of `grain`. Serial when one chunk or one thread is enough or when called
// from inside a chunk. The first exception thrown by a chunk is rethrown here after all have stopped.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  if (n <= grain) {
    f(int64_t(0), n);
    return;
  }
  detail::run_chunks(
      n, grain, [](void* c, int64_t b, int64_t e) { (*static_cast<std::remove_reference_t<F>*>(c))(b, e); }, &f);
}

}  // namespace tg
