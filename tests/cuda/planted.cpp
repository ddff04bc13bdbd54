// Kernels with planted bugs, to show that the emulation reports them. `planted NAME` runs one; what it must print is
// beside each test in cmake/cuda.cmake. Built against the emulation alone, also under the sanitizers.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "backends/cuda/cuda.h"

namespace tg::cuda {
void fail_call(cudaError_t e, const char* what) {
  std::printf("%s: %s\n", what, cudaGetErrorName(e));
  std::exit(0);
}
void check_launch(cudaError_t e, const char* kernel) { check(e, kernel); }
}  // namespace tg::cuda

namespace {

constexpr int kThreads = 128, kBlocks = 4, kN = kThreads * kBlocks;
constexpr float kRight = 3 * kThreads;
enum Bug {
  None,
  NoBarrier,
  NoBarrierBeforeReuse,
  SharedTooFar,
  WriteTooFar,
  NotAtomic,
  OnePair,
  EarlyReturn,
  TwoBarriers,
  NoWarpSync
};

// 3 times the sum of each block: once and twice its elements, through shared memory that is used again.
__global__ void sums_kernel(const float* in, float* out, int n, int bug) {
  TG_SHARED(float, tile, [kThreads]);
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x), t = int(threadIdx.x);
  if (bug == EarlyReturn && t == 5) return;
  float sum = 0;
  for (int round = 1; round <= 2; ++round) {
    tile[bug == SharedTooFar ? t + 1 : t] = float(round) * in[i];
    if (bug != NoBarrier) {
      if (bug == TwoBarriers && t % 2)
        __syncthreads();
      else
        __syncthreads();
    }
    for (int k = 0; k < kThreads; ++k) sum += tile[(t + k) % kThreads];
    if (bug != NoBarrierBeforeReuse) __syncthreads();
  }
  out[i + (bug == WriteTooFar && i == n - 1 ? 1 : 0)] = sum;
}

__global__ void count_kernel(int* count, int bug) {
  if (bug == NotAtomic)
    *count += 1;
  else
    atomicAdd(count, 1);
}

// Of each block two threads at most touch the same memory: a checker that takes them for one would see nothing.
__global__ void pair_kernel(float* out, int bug) {
  TG_SHARED(float, slot, [1]);
  const unsigned every = bug == OnePair ? kThreads / 2 : kThreads;
  if (threadIdx.x % every == 0) slot[0] = 1;
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = slot[0];
}

// Lanes hand a number on through shared memory.
__global__ void warp_kernel(float* out, int bug) {
  TG_SHARED(float, slot, [32]);
  slot[threadIdx.x] = float(threadIdx.x);
  if (bug != NoWarpSync) __syncwarp();
  const float one = __shfl_down_sync(0xffffffffu, 1.0f, 1);  // meets the lanes, but does not order memory
  out[threadIdx.x] = slot[(threadIdx.x + 1) % 32] + one;
}

template <class T>
T* device(size_t n) {
  void* p = nullptr;
  tg::cuda::check(cudaMalloc(&p, n * sizeof(T)), "cudaMalloc");
  return static_cast<T*>(p);
}

int run_sums(int bug) {
  std::vector<float> x(kN, 1.0f), y(kN);
  float *in = device<float>(kN), *out = device<float>(kN);
  cudaMemcpyAsync(in, x.data(), kN * sizeof(float), cudaMemcpyHostToDevice, nullptr);
  TG_LAUNCH((sums_kernel), kBlocks, kThreads, 0, nullptr, in, out, kN, bug);
  cudaMemcpyAsync(y.data(), out, kN * sizeof(float), cudaMemcpyDeviceToHost, nullptr);
  cudaStreamSynchronize(nullptr);
  for (float v : y)
    if (v != kRight) {
      std::printf("wrong result: %g\n", double(v));
      return 0;
    }
  std::printf("right result\n");
  cudaFree(in);
  cudaFree(out);
  return 0;
}

int run_count(int bug) {
  int* count = device<int>(1);
  cudaMemsetAsync(count, 0, sizeof(int), nullptr);
  TG_LAUNCH((count_kernel), kBlocks, kThreads, 0, nullptr, count, bug);
  int n = 0;
  cudaMemcpyAsync(&n, count, sizeof n, cudaMemcpyDeviceToHost, nullptr);
  cudaStreamSynchronize(nullptr);
  std::printf("%s result\n", n == kN ? "right" : "wrong");
  cudaFree(count);
  return 0;
}

int run_pair(int bug) {
  float* out = device<float>(kBlocks);
  TG_LAUNCH((pair_kernel), kBlocks, kThreads, 0, nullptr, out, bug);
  cudaStreamSynchronize(nullptr);
  cudaFree(out);
  return 0;
}

int run_warp(int bug) {
  float* out = device<float>(32);
  TG_LAUNCH((warp_kernel), 1, 32, 0, nullptr, out, bug);
  cudaStreamSynchronize(nullptr);
  std::printf("right result\n");
  cudaFree(out);
  return 0;
}

// Work on another stream is used without waiting for it.
int run_no_event() {
  cudaStream_t s;
  cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, 0);
  std::vector<float> x(kN, 1.0f), y(kN);
  float *in = device<float>(kN), *out = device<float>(kN);
  cudaMemcpyAsync(in, x.data(), kN * sizeof(float), cudaMemcpyHostToDevice, s);
  TG_LAUNCH((sums_kernel), kBlocks, kThreads, 0, nullptr, in, out, kN, int(None));
  cudaMemcpyAsync(y.data(), out, kN * sizeof(float), cudaMemcpyDeviceToHost, nullptr);
  std::printf("%s result\n", y[0] == kRight ? "right" : "wrong");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGABRT, [](int) { std::_Exit(1); });  // ctest takes no report of a program that crashed
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "none") return run_sums(None) + run_count(None) + run_pair(None) + run_warp(None);
  if (name == "no_barrier") return run_sums(NoBarrier);
  if (name == "no_barrier_before_reuse") return run_sums(NoBarrierBeforeReuse);
  if (name == "shared_too_far") return run_sums(SharedTooFar);
  if (name == "write_too_far") return run_sums(WriteTooFar);
  if (name == "early_return") return run_sums(EarlyReturn);
  if (name == "two_barriers") return run_sums(TwoBarriers);
  if (name == "not_atomic") return run_count(NotAtomic);
  if (name == "one_pair") return run_pair(OnePair);
  if (name == "no_warp_sync") return run_warp(NoWarpSync);
  if (name == "no_event") return run_no_event();
  if (name == "host_reads") return int(*device<float>(1));
  if (name == "host_pointer") {
    std::vector<float> x(kN);
    TG_LAUNCH((sums_kernel), kBlocks, kThreads, 0, nullptr, x.data(), x.data(), kN, int(None));
  }
  if (name == "freed") {
    float *in = device<float>(kN), *out = device<float>(kN);
    cudaFree(out);
    TG_LAUNCH((sums_kernel), kBlocks, kThreads, 0, nullptr, in, out, kN, int(None));
  }
  if (name == "too_many_threads") {
    float* p = device<float>(kN);
    TG_LAUNCH((sums_kernel), kBlocks, 2048, 0, nullptr, p, p, kN, int(None));
  }
  return 1;
}
