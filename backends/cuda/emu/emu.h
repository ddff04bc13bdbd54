// The device side of the emulation: CUDA C++ kernels, compiled by the host's compiler, one fiber per CUDA thread.
// Included by backends/cuda/cuda.h in place of the CUDA headers; kernels see no difference.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#include "backends/cuda/emu/runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict

// Visible: kernels compiled at run time are libraries of their own (backends/rtc/host.h).
#pragma GCC visibility push(default)
namespace tg::emu {

// Where the running CUDA thread stands.
struct Context {
  uint3 thread, block;
  dim3 block_size, grid_size;
  int linear;  // number of the thread within its block
};
extern Context* current;

enum class WarpOp : uint8_t { Shuffle, ShuffleUp, ShuffleDown, ShuffleXor, Sync, Vote };
struct Votes {
  int count, all, any;
};
// __syncthreads of all kinds; `site` tells one call in the source from another.
Votes block_barrier(const void* site, bool vote);
// Waits for the lanes of `mask`; `slots` gets the 32 values, the result tells which lanes brought one.
uint32_t warp_exchange(uint32_t mask, WarpOp op, uint64_t value, const uint64_t** slots);
// Shared memory of the running block: of a declaration (told by its `site`), and of the launch.
void* shared_variable(const void* site, size_t bytes, size_t align);
void* dynamic_shared();
void fence();
// Reports what the kernel did wrong and where, and ends the program.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

struct Launch {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  const void* function;
  const void* const* pointers;  // the arguments that are pointers
  int n_pointers;
};
cudaError_t launch(const Launch& l, std::function<void()> body);
// How many elements a launch may count: TG_EMU_PIECE makes it less than `most`, so that small tests see longer lines.
int64_t max_piece(int64_t most);
// Work of a library (such as cuBLAS) in stream order.
void enqueue(cudaStream_t s, std::function<void()> work);

}  // namespace tg::emu
#pragma GCC visibility pop
namespace tg::emu {

inline int lane() { return current->linear & 31; }

// What a lane that is not there would give: no number.
template <class T>
T absent() {
  T v;
  std::memset(static_cast<void*>(&v), 0xff, sizeof v);
  return v;
}
template <class T>
T shuffle(uint32_t mask, WarpOp op, T value, int from, bool keep_own) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves at most 8 bytes");
  uint64_t raw = 0;
  const uint64_t* slots;
  std::memcpy(&raw, &value, sizeof value);
  uint32_t there = warp_exchange(mask, op, raw, &slots);
  if (keep_own) return value;
  if (!(there >> from & 1)) return absent<T>();
  std::memcpy(static_cast<void*>(&value), &slots[from], sizeof value);
  return value;
}

// Read-modify-write of 4 or 8 bytes by compare-and-swap, which race checkers understand.
template <class T, class F>
T atomic_update(T* p, F f) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "atomics have 4 or 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  auto* word = reinterpret_cast<Bits*>(p);
  Bits seen = __atomic_load_n(word, __ATOMIC_RELAXED), wanted;
  T old, next;
  do {
    std::memcpy(&old, &seen, sizeof old);
    next = f(old);
    std::memcpy(&wanted, &next, sizeof next);
  } while (!__atomic_compare_exchange_n(word, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

}  // namespace tg::emu

// A distinct address per place in the source, also per instantiation of a template.
#define TG_EMU_SITE()            \
  ([]() -> const void* {         \
    static const char place = 0; \
    return &place;               \
  }())

#define threadIdx (::tg::emu::current->thread)
#define blockIdx (::tg::emu::current->block)
#define blockDim (::tg::emu::current->block_size)
#define gridDim (::tg::emu::current->grid_size)
#define __syncthreads() (void)::tg::emu::block_barrier(TG_EMU_SITE(), false)
#define __syncthreads_count(p) (::tg::emu::block_barrier(TG_EMU_SITE(), (p) != 0).count)
#define __syncthreads_and(p) (::tg::emu::block_barrier(TG_EMU_SITE(), (p) != 0).all)
#define __syncthreads_or(p) (::tg::emu::block_barrier(TG_EMU_SITE(), (p) != 0).any)

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  const uint64_t* slots;
  tg::emu::warp_exchange(mask, tg::emu::WarpOp::Sync, 0, &slots);
}
template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
  int group = tg::emu::lane() & ~(width - 1);
  return tg::emu::shuffle(mask, tg::emu::WarpOp::Shuffle, v, group | (from & (width - 1)), false);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
  int me = tg::emu::lane(), from = me ^ bits;
  bool beyond = (from & ~(width - 1)) > (me & ~(width - 1));
  return tg::emu::shuffle(mask, tg::emu::WarpOp::ShuffleXor, v, from & 31, beyond);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
  int me = tg::emu::lane();
  return tg::emu::shuffle(mask, tg::emu::WarpOp::ShuffleDown, v, (me + int(by)) & 31,
                          (me & (width - 1)) + int(by) >= width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
  int me = tg::emu::lane();
  return tg::emu::shuffle(mask, tg::emu::WarpOp::ShuffleUp, v, (me - int(by)) & 31, (me & (width - 1)) < int(by));
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
  const uint64_t* slots;
  uint32_t there = tg::emu::warp_exchange(mask, tg::emu::WarpOp::Vote, vote != 0, &slots), bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (there >> i & 1 && slots[i]) ? 1u << i : 0u;
  return bits;
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
inline void __threadfence() { tg::emu::fence(); }
inline void __threadfence_block() { tg::emu::fence(); }
inline void __trap() { tg::emu::fault("__trap()"); }

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return T(old + v); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return old < v ? v : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return v < old ? v : old; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T old) { return T(old | v); });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return tg::emu::atomic_update(p, [=](T old) { return old == expected ? v : old; });
}

template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return b < a ? b : a;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }

// ---- what backends/cuda/cuda.h promises in both worlds

// TG_SHARED(float, tile, [32][33]): an array of the block. It starts as NaN and has guards around it.
#define TG_SHARED(T, name, dims)                                                 \
  using name##_shared = T dims;                                                  \
  name##_shared& name = *static_cast<name##_shared*>(::tg::emu::shared_variable( \
      TG_EMU_SITE(), sizeof(name##_shared), alignof(name##_shared) < 16 ? 16 : alignof(name##_shared)))
// TG_DYNAMIC_SHARED(float, tile): the bytes asked for at launch.
#define TG_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::tg::emu::dynamic_shared())

namespace tg::emu {
template <class T>
const void* pointer_of(const T&) {
  return nullptr;
}
template <class T>
const void* pointer_of(T* const& p) {
  return p;
}
// Arguments are copied at the launch, as CUDA does.
template <class... P, class... A>
cudaError_t launch_kernel(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s,
                          A&&... a) {
  std::tuple<std::decay_t<P>...> args(std::forward<A>(a)...);
  const void* pointers[sizeof...(P) + 1] = {};
  std::apply([&, i = 0](const auto&... v) mutable { ((pointers[i++] = pointer_of(v)), ...); }, args);
  Launch l{name, grid, block, shared, s, reinterpret_cast<const void*>(kernel), pointers, int(sizeof...(P))};
  return launch(l, [kernel, args] { std::apply(kernel, args); });
}
}  // namespace tg::emu
#define TG_LAUNCH_KERNEL(kernel, grid, block, shared, stream, ...) \
  ::tg::emu::launch_kernel(#kernel, &TG_UNPAREN kernel, grid, block, shared, stream, __VA_ARGS__)
