// Times cuBLASLt called directly: for every product the fastest of the algorithms that its heuristics propose.
//
//   cublaslt_best LIBRARY ROUNDS KIND:M:N:K ...     KIND is float32, tf32, bfloat16 or float16
//
// Prints one JSON line per product: {"case": "bfloat16:8192:8192:8192", "seconds": ..., "algorithms": ...}. Row-major
// C = A B is asked for as column-major C' = B' A', which is what a framework does. LIBRARY is opened with dlopen.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

void check(int rc, const char* what) {
  if (rc == 0) return;
  std::fprintf(stderr, "cublaslt_best: %s failed with %d\n", what, rc);
  std::exit(1);
}
#define CHECK(call) check(int(call), #call)

struct Lt {
  decltype(&::cublasLtCreate) Create;
  decltype(&::cublasLtMatmul) Matmul;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) Heuristic;
  decltype(&::cublasLtMatmulDescCreate) DescCreate;
  decltype(&::cublasLtMatmulDescDestroy) DescDestroy;
  decltype(&::cublasLtMatrixLayoutCreate) LayoutCreate;
  decltype(&::cublasLtMatrixLayoutDestroy) LayoutDestroy;
  decltype(&::cublasLtMatmulPreferenceCreate) PrefCreate;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) PrefSet;
  decltype(&::cublasLtMatmulPreferenceDestroy) PrefDestroy;

  explicit Lt(const char* path) {
    void* lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lib) std::fprintf(stderr, "cublaslt_best: %s\n", dlerror()), std::exit(1);
    get(lib, Create, "cublasLtCreate");
    get(lib, Matmul, "cublasLtMatmul");
    get(lib, Heuristic, "cublasLtMatmulAlgoGetHeuristic");
    get(lib, DescCreate, "cublasLtMatmulDescCreate");
    get(lib, DescDestroy, "cublasLtMatmulDescDestroy");
    get(lib, LayoutCreate, "cublasLtMatrixLayoutCreate");
    get(lib, LayoutDestroy, "cublasLtMatrixLayoutDestroy");
    get(lib, PrefCreate, "cublasLtMatmulPreferenceCreate");
    get(lib, PrefSet, "cublasLtMatmulPreferenceSetAttribute");
    get(lib, PrefDestroy, "cublasLtMatmulPreferenceDestroy");
  }

 private:
  template <class F>
  static void get(void* lib, F& f, const char* name) {
    f = reinterpret_cast<F>(dlsym(lib, name));
    check(f == nullptr, name);
  }
};

struct Case {
  std::string text;
  cudaDataType type;
  cublasComputeType_t compute;
  int64_t m, n, k;
};

Case parse(const char* text) {
  Case c{text, CUDA_R_32F, CUBLAS_COMPUTE_32F, 0, 0, 0};
  char kind[32];
  long long m, n, k;
  if (std::sscanf(text, "%31[^:]:%lld:%lld:%lld", kind, &m, &n, &k) != 4) check(1, text);
  c.m = m, c.n = n, c.k = k;
  if (!std::strcmp(kind, "tf32"))
    c.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  else if (!std::strcmp(kind, "bfloat16"))
    c.type = CUDA_R_16BF;
  else if (!std::strcmp(kind, "float16"))
    c.type = CUDA_R_16F;
  else
    check(std::strcmp(kind, "float32"), kind);
  return c;
}

// Numbers in [-1, 1), so that power and clocks are those of real work: zeros would be multiplied faster.
__global__ void fill(void* p, int64_t n, cudaDataType type) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < n; i += int64_t(gridDim.x) * blockDim.x) {
    uint32_t h = uint32_t(i) * 2654435761u;
    h ^= h >> 15;
    float v = float(h & 0xffff) / 32768.0f - 1.0f;
    uint32_t bits = __float_as_uint(v);
    if (type == CUDA_R_32F)
      static_cast<float*>(p)[i] = v;
    else if (type == CUDA_R_16BF)
      static_cast<uint16_t*>(p)[i] = uint16_t(bits >> 16);
    else  // half: sign, 5 bits of exponent, 10 of fraction, cut
      static_cast<uint16_t*>(p)[i] =
          uint16_t((bits >> 16 & 0x8000) | (v == 0 ? 0 : ((bits >> 23 & 0xff) - 112) << 10 | (bits >> 13 & 0x3ff)));
  }
}

struct Buffers {
  void *a, *b, *c, *work;
};

// Seconds of one product: the fastest of `rounds` runs of at least 3 calls, after one to warm up.
double time_of(const Lt& lt, cublasLtHandle_t h, cublasLtMatmulDesc_t op, const cublasLtMatrixLayout_t* l,
               const cublasLtMatmulAlgo_t& algo, const Buffers& m, size_t work, int rounds) {
  const float one = 1, zero = 0;
  auto call = [&] {
    return lt.Matmul(h, op, &one, m.b, l[0], m.a, l[1], &zero, m.c, l[2], m.c, l[2], &algo, m.work, work, nullptr);
  };
  if (call() != CUBLAS_STATUS_SUCCESS) return 1e30;
  cudaEvent_t from, to;
  CHECK(cudaEventCreate(&from));
  CHECK(cudaEventCreate(&to));
  double best = 1e30;
  int calls = 3;
  for (int r = 0; r < rounds; ++r) {
    CHECK(cudaEventRecord(from));
    for (int i = 0; i < calls; ++i) CHECK(call());
    CHECK(cudaEventRecord(to));
    CHECK(cudaEventSynchronize(to));
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, from, to));
    best = std::min(best, double(ms) * 1e-3 / calls);
    if (r == 0) calls = int(std::min(200.0, std::max(3.0, 0.02 / best)));  // rounds of about 20 ms
  }
  cudaEventDestroy(from);
  cudaEventDestroy(to);
  return best;
}

void measure(const Lt& lt, cublasLtHandle_t h, const Case& c, int rounds) {
  const size_t size = c.type == CUDA_R_32F ? 4 : 2, work = size_t(64) << 20;
  Buffers m;
  CHECK(cudaMalloc(&m.a, size * size_t(c.m * c.k)));
  CHECK(cudaMalloc(&m.b, size * size_t(c.k * c.n)));
  CHECK(cudaMalloc(&m.c, size * size_t(c.m * c.n)));
  CHECK(cudaMalloc(&m.work, work));
  fill<<<1024, 256>>>(m.a, c.m * c.k, c.type);
  fill<<<1024, 256>>>(m.b, c.k * c.n, c.type);
  CHECK(cudaDeviceSynchronize());

  cublasLtMatmulDesc_t op;
  cublasLtMatrixLayout_t l[3];
  cublasLtMatmulPreference_t pref;
  CHECK(lt.DescCreate(&op, c.compute, CUDA_R_32F));
  CHECK(lt.LayoutCreate(&l[0], c.type, uint64_t(c.n), uint64_t(c.k), c.n));
  CHECK(lt.LayoutCreate(&l[1], c.type, uint64_t(c.k), uint64_t(c.m), c.k));
  CHECK(lt.LayoutCreate(&l[2], c.type, uint64_t(c.n), uint64_t(c.m), c.n));
  CHECK(lt.PrefCreate(&pref));
  CHECK(lt.PrefSet(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work, sizeof work));
  std::vector<cublasLtMatmulHeuristicResult_t> found(16);
  int n = 0;
  CHECK(lt.Heuristic(h, op, l[0], l[1], l[2], l[2], pref, int(found.size()), found.data(), &n));

  double best = 1e30;
  for (int i = 0; i < n; ++i)
    if (found[size_t(i)].state == CUBLAS_STATUS_SUCCESS)
      best = std::min(best, time_of(lt, h, op, l, found[size_t(i)].algo, m, work, rounds));
  std::printf("{\"case\": \"%s\", \"seconds\": %.9g, \"algorithms\": %d}\n", c.text.c_str(), best, n);
  std::fflush(stdout);
  lt.PrefDestroy(pref);
  for (auto layout : l) lt.LayoutDestroy(layout);
  lt.DescDestroy(op);
  for (void* p : {m.a, m.b, m.c, m.work}) cudaFree(p);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "cublaslt_best LIBRARY ROUNDS KIND:M:N:K ...\n"), 2;
  const Lt lt(argv[1]);
  cublasLtHandle_t h;
  CHECK(lt.Create(&h));
  for (int i = 3; i < argc; ++i) measure(lt, h, parse(argv[i]), std::atoi(argv[2]));
}
