// Many tensors in one launch: a table of pointers is an argument of the kernel, and each block takes a piece of one
// tensor. The optimizers' formulas, and what is done to all gradients at once.
#include <cmath>
#include <type_traits>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/device.h"
#include "backends/cuda/element.cuh"

namespace tg::cuda {
namespace {

using optim::Formula, optim::kMaxCoefs;

constexpr int64_t kPiece = 4096;  // elements of a block: a multiple of every vector's
constexpr unsigned kUpdateThreads = 256;

// K arrays of each tensor, in the 4 KB that a kernel's arguments may have everywhere.
template <int K>
struct Table {
  static constexpr int kItems = 3840 / (8 * K + 16);
  void* data[K][kItems];
  int64_t n[kItems];
  uint32_t first[kItems];   // block of the tensor's first piece
  uint32_t number[kItems];  // of the tensor among all
  int items = 0;

  // The tensor that a block works on.
  __device__ __forceinline__ int item_of(uint32_t block) const {
    int low = 0, high = items;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] <= block ? low : high) = middle;
    }
    return low;
  }
};

// f(table, blocks) for all items that have elements, a table at a time.
template <int K, class F>
void for_tables(const std::vector<UpdateItem>& items, F&& f) {
  Table<K> t;
  uint32_t blocks = 0;
  auto flush = [&] {
    if (t.items > 0) f(t, blocks);
    t.items = 0;
    blocks = 0;
  };
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].n == 0) continue;
    const int64_t pieces = (items[i].n + kPiece - 1) / kPiece;
    TG_CHECK(pieces < (int64_t(1) << 30), ValueError, "cuda: a tensor of ", items[i].n, " elements is too long");
    if (t.items == Table<K>::kItems || blocks + uint64_t(pieces) >= (uint64_t(1) << 31)) flush();
    for (int k = 0; k < K; ++k) {
      const bool step = items[i].step && k == K - 1;
      t.data[k][t.items] = step ? items[i].step : items[i].data[size_t(k)];
    }
    t.n[t.items] = items[i].n;
    t.first[t.items] = blocks;
    t.number[t.items++] = uint32_t(i);
    blocks += uint32_t(pieces);
  }
  flush();
}

// Calls body(element, tag) for the elements of this block's piece, in groups of V where `vectors`, else one by one; the
// tag says which. All threads of a block come here.
template <int V, class F>
__device__ __forceinline__ void for_piece(int64_t from, int64_t to, bool vectors, F body) {
  int64_t rest = from;
  if (vectors) {
    rest = to - (to - from) % V;
    for (int64_t i = from + int64_t(threadIdx.x) * V; i < rest; i += int64_t(kUpdateThreads) * V)
      body(i, std::integral_constant<int, V>{});
  }
  for (int64_t i = rest + threadIdx.x; i < to; i += kUpdateThreads) body(i, std::integral_constant<int, 1>{});
}

// What a block of a table works on.
template <int K>
struct Piece {
  int item;
  int64_t from, to;
  bool vectors = true;
  // `arrays`: how many columns of the table are arrays.
  __device__ explicit Piece(const Table<K>& t, int arrays = K) : item(t.item_of(blockIdx.x)) {
    from = int64_t(blockIdx.x - t.first[item]) * kPiece;
    to = from + kPiece < t.n[item] ? from + kPiece : t.n[item];
    TG_UNROLL
    for (int k = 0; k < K; ++k)
      vectors = vectors && (k >= arrays || reinterpret_cast<uintptr_t>(t.data[k][item]) % 16 == 0);
  }
};

// N elements of storage S in the type of arithmetic.
template <int N, class S, class C>
__device__ __forceinline__ void load(const void* p, int64_t i, C (&out)[N]) {
  const Vector<S, N> group = *reinterpret_cast<const Vector<S, N>*>(static_cast<const S*>(p) + i);
  TG_UNROLL
  for (int k = 0; k < N; ++k) out[k] = convert_to<C>(group.v[k]);
}
template <int N, class S, class C>
__device__ __forceinline__ void store(void* p, int64_t i, const C (&in)[N]) {
  Vector<S, N> group;
  TG_UNROLL
  for (int k = 0; k < N; ++k) group.v[k] = convert_to<S>(in[k]);
  *reinterpret_cast<Vector<S, N>*>(static_cast<S*>(p) + i) = group;
}

// ---- formulas

#define TG_X(name, arrays, coefs)                                    \
  struct name##Formula {                                             \
    static constexpr int kArrays = arrays, kCoefs = coefs;           \
    template <class C>                                               \
    static __device__ __forceinline__ void apply(C* x, const C* c) { \
      optim::update_##name(x, c);                                    \
    }                                                                \
  };
TG_FORMULAS(TG_X)
#undef TG_X

struct Coefs {
  double v[kMaxCoefs];
};

// The elements of this block's piece of arrays 0 ... F::kArrays.
template <class S, class F, int K, class C>
__device__ void update_piece(const Table<K>& t, const Piece<K>& piece, const C* c) {
  constexpr int A = F::kArrays;
  for_piece<kVector<S>>(piece.from, piece.to, piece.vectors, [&](int64_t i, auto tag) {
    constexpr int N = decltype(tag)::value;
    C x[A][N];
    TG_UNROLL
    for (int k = 0; k < A; ++k) load<N, S>(t.data[k][piece.item], i, x[k]);
    TG_UNROLL
    for (int e = 0; e < N; ++e) {
      C one[A];
      TG_UNROLL
      for (int k = 0; k < A; ++k) one[k] = x[k][e];
      F::apply(one, c);
      TG_UNROLL
      for (int k = 0; k < A; ++k) x[k][e] = one[k];
    }
    TG_UNROLL
    for (int k = 0; k < A; ++k)
      if (k != 1) store<N, S>(t.data[k][piece.item], i, x[k]);
  });
}

template <class S, class F>
__global__ void __launch_bounds__(kUpdateThreads) update_kernel(Table<F::kArrays> t, Coefs numbers) {
  using C = Compute<S>;
  const Piece<F::kArrays> piece(t);
  C c[F::kCoefs];
  TG_UNROLL
  for (int k = 0; k < F::kCoefs; ++k) c[k] = C(numbers.v[k]);
  update_piece<S, F>(t, piece, c);
}

template <class S, class F>
void run_formula(const double* coefs, const std::vector<UpdateItem>& items) {
  Coefs c{};
  for (int k = 0; k < F::kCoefs; ++k) c.v[k] = coefs[k];
  for_tables<F::kArrays>(items, [&](const Table<F::kArrays>& t, unsigned blocks) {
    TG_LAUNCH((update_kernel<S, F>), blocks, kUpdateThreads, 0, stream(), t, c);
  });
}

// ---- steps that the device counts: the last column of the table has their numbers

static_assert(Table<1>::kItems <= int(kUpdateThreads));

__global__ void __launch_bounds__(kUpdateThreads) count_kernel(Table<1> t) {
  const int item = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (item < t.items) *static_cast<float*>(t.data[0][item]) += 1;
}

template <class S, class F>
__global__ void __launch_bounds__(kUpdateThreads)
    counted_kernel(Table<F::kArrays + 1> t, Coefs numbers, double beta1, double beta2) {
  using C = Compute<S>;
  constexpr int K = F::kArrays + 1;
  const Piece<K> piece(t, K - 1);
  const double step = *static_cast<const float*>(t.data[K - 1][piece.item]);
  numbers.v[3] /= 1 - std::pow(beta1, step);
  numbers.v[7] /= std::sqrt(1 - std::pow(beta2, step));
  C c[F::kCoefs];
  TG_UNROLL
  for (int k = 0; k < F::kCoefs; ++k) c[k] = C(numbers.v[k]);
  update_piece<S, F>(t, piece, c);
}

template <class S, class F>
void run_counted(const double* coefs, std::array<double, 2> betas, const std::vector<UpdateItem>& items) {
  constexpr int K = F::kArrays + 1;
  Coefs c{};
  for (int k = 0; k < F::kCoefs; ++k) c.v[k] = coefs[k];
  for_tables<K>(items, [&](const Table<K>& t, unsigned blocks) {
    TG_LAUNCH((counted_kernel<S, F>), blocks, kUpdateThreads, 0, stream(), t, c, betas[0], betas[1]);
  });
}

// ---- gradients

constexpr uint32_t kNone = 0x7f7f7f7f;  // four equal bytes, as cudaMemset writes them

// x *= factor; the smallest number of a tensor with a value that is not finite goes to `first`, if there is one.
template <class S>
__global__ void __launch_bounds__(kUpdateThreads)
    scale_kernel(Table<1> t, double factor, const void* factor_at, DType factor_type, uint32_t* first) {
  using C = Compute<S>;
  const Piece<1> piece(t);
  void* p = t.data[0][piece.item];
  const C f = factor_at ? load_any<C>(factor_at, factor_type, 0) : C(factor);
  bool bad = false;
  for_piece<kVector<S>>(piece.from, piece.to, piece.vectors, [&](int64_t i, auto tag) {
    constexpr int N = decltype(tag)::value;
    C x[N];
    load<N, S>(p, i, x);
    TG_UNROLL
    for (int e = 0; e < N; ++e) {
      bad |= !(x[e] * C(0) == C(0));  // 0 times infinity is NaN
      x[e] *= f;
    }
    if (factor_at || factor != 1) store<N, S>(p, i, x);
  });
  if (first && __syncthreads_or(bad) && threadIdx.x == 0) atomicMin(first, t.number[piece.item]);
}

// Sum over the threads of a block, in the order of a tree; for thread 0.
__device__ double block_sum(double v) {
  TG_SHARED(double, slots, [kUpdateThreads]);
  slots[threadIdx.x] = v;
  for (unsigned half = kUpdateThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) slots[threadIdx.x] += slots[threadIdx.x + half];
  }
  return threadIdx.x == 0 ? slots[0] : 0;  // no other may look at what thread 0 has just written
}

template <class C>
__global__ void __launch_bounds__(kUpdateThreads) square_sums(Table<1> t, double* sums) {
  const Piece<1> piece(t);
  double sum = 0;
  for_piece<kVector<C>>(piece.from, piece.to, piece.vectors, [&](int64_t i, auto tag) {
    constexpr int N = decltype(tag)::value;
    C x[N];
    load<N, C>(t.data[0][piece.item], i, x);
    TG_UNROLL
    for (int e = 0; e < N; ++e) sum += double(x[e]) * double(x[e]);
  });
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The sums of each tensor's pieces; one block per tensor.
template <class C>
__global__ void __launch_bounds__(kUpdateThreads) finish_norms(Table<1> t, const double* sums, C* out) {
  const int item = int(blockIdx.x);
  const uint32_t pieces = uint32_t((t.n[item] + kPiece - 1) / kPiece);
  double sum = 0;
  for (uint32_t i = threadIdx.x; i < pieces; i += kUpdateThreads) sum += sums[t.first[item] + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[t.number[item]] = C(std::sqrt(sum));
}

// ---- parameters in a half type: four at a time, which are 16 bytes in float32

template <class S>
__global__ void __launch_bounds__(kUpdateThreads) widen_kernel(Table<4> t, float factor) {
  const Piece<4> piece(t);
  auto at = [&](int k) { return t.data[k][piece.item]; };
  for_piece<kVector<float>>(piece.from, piece.to, piece.vectors, [&](int64_t i, auto tag) {
    constexpr int N = decltype(tag)::value;
    float param[N], grad[N], master[N];
    load<N, S>(at(0), i, param);
    load<N, S>(at(1), i, grad);
    load<N, float>(at(2), i, master);
    TG_UNROLL
    for (int e = 0; e < N; ++e) {
      if (!(convert_to<float>(convert_to<S>(master[e])) == param[e])) master[e] = param[e];
      grad[e] *= factor;
    }
    store<N, float>(at(2), i, master);
    store<N, float>(at(3), i, grad);
  });
}

template <class S>
__global__ void __launch_bounds__(kUpdateThreads) narrow_kernel(Table<2> t) {
  const Piece<2> piece(t);
  for_piece<kVector<float>>(piece.from, piece.to, piece.vectors, [&](int64_t i, auto tag) {
    constexpr int N = decltype(tag)::value;
    float x[N];
    load<N, float>(t.data[1][piece.item], i, x);
    store<N, S>(t.data[0][piece.item], i, x);
  });
}

// f(Tag<S>{}) for a floating type.
template <class F>
void visit_float(DType t, F&& f) {
  switch (t) {
    case DType::F16:
      return f(Tag<Half>{});
    case DType::BF16:
      return f(Tag<BFloat16>{});
    case DType::F32:
      return f(Tag<float>{});
    case DType::F64:
      return f(Tag<double>{});
    default:
      fail<DTypeError>("cuda: an update of ", t, " instead of a floating type");
  }
}
template <class F>
void visit_half(DType t, F&& f) {
  t == DType::F16 ? f(Tag<Half>{}) : f(Tag<BFloat16>{});
}

template <class S>
void launch_scale(const std::vector<UpdateItem>& items, double factor, const View& at, uint32_t* first) {
  for_tables<1>(items, [&](const Table<1>& t, unsigned blocks) {
    TG_LAUNCH((scale_kernel<S>), blocks, kUpdateThreads, 0, stream(), t, factor, at.data, at.dtype, first);
  });
}

}  // namespace

void CudaBackend::update(Formula f, DType type, const double* coefs, const std::vector<UpdateItem>& items) {
  const DeviceGuard guard(device_);
  visit_float(type, [&](auto tag) {
    using S = typename decltype(tag)::type;
    using Run = void(const double*, const std::vector<UpdateItem>&);
    static constexpr Run* kRuns[] = {
#define TG_X(name, arrays, coefs) run_formula<S, name##Formula>,
        TG_FORMULAS(TG_X)
#undef TG_X
    };
    kRuns[int(f)](coefs, items);
  });
}

void CudaBackend::update_counted(Formula f, DType type, const double* coefs, std::array<double, 2> betas,
                                 const std::vector<UpdateItem>& items) {
  const DeviceGuard guard(device_);
  TG_CHECK(f == Formula::Adam || f == Formula::AdamLargest, NotImplementedError,
           "cuda: only steps of Adam are counted");
  std::vector<UpdateItem> steps;
  for (const UpdateItem& i : items) steps.push_back({{i.step}, 1});
  for_tables<1>(steps,
                [](const Table<1>& t, unsigned) { TG_LAUNCH((count_kernel), 1, kUpdateThreads, 0, stream(), t); });
  visit_float(type, [&](auto tag) {
    using S = typename decltype(tag)::type;
    f == Formula::Adam ? run_counted<S, AdamFormula>(coefs, betas, items)
                       : run_counted<S, AdamLargestFormula>(coefs, betas, items);
  });
}

int64_t CudaBackend::unscale(DType type, double factor, const std::vector<UpdateItem>& items) {
  const DeviceGuard guard(device_);
  const Scratch first(sizeof(uint32_t));
  check(cudaMemsetAsync(first.as<void>(), 0x7f, sizeof(uint32_t), stream()), "cudaMemsetAsync");
  visit_float(
      type, [&](auto tag) { launch_scale<typename decltype(tag)::type>(items, factor, View(), first.as<uint32_t>()); });
  uint32_t number;
  copy_and_wait(&number, first.as<void>(), sizeof number);
  return number == kNone ? -1 : int64_t(number);
}

void CudaBackend::scale(DType type, const View& factor, const std::vector<UpdateItem>& items) {
  const DeviceGuard guard(device_);
  visit_float(type, [&](auto tag) { launch_scale<typename decltype(tag)::type>(items, 1, factor, nullptr); });
}

void CudaBackend::norms(DType type, const std::vector<UpdateItem>& items, void* out) {
  const DeviceGuard guard(device_);
  check(cudaMemsetAsync(out, 0, items.size() * size_t(type == DType::F64 ? 8 : 4), stream()), "cudaMemsetAsync");
  auto run = [&](auto tag) {
    using C = typename decltype(tag)::type;
    for_tables<1>(items, [&](const Table<1>& t, unsigned blocks) {
      const Scratch sums(blocks * sizeof(double));
      TG_LAUNCH((square_sums<C>), blocks, kUpdateThreads, 0, stream(), t, sums.as<double>());
      TG_LAUNCH((finish_norms<C>), unsigned(t.items), kUpdateThreads, 0, stream(), t, sums.as<const double>(),
                static_cast<C*>(out));
    });
  };
  type == DType::F64 ? run(Tag<double>{}) : run(Tag<float>{});
}

void CudaBackend::widen(DType half, double factor, const std::vector<UpdateItem>& items) {
  const DeviceGuard guard(device_);
  visit_half(half, [&](auto tag) {
    for_tables<4>(items, [&](const Table<4>& t, unsigned blocks) {
      TG_LAUNCH((widen_kernel<typename decltype(tag)::type>), blocks, kUpdateThreads, 0, stream(), t, float(factor));
    });
  });
}

void CudaBackend::narrow(DType half, const std::vector<UpdateItem>& items) {
  const DeviceGuard guard(device_);
  visit_half(half, [&](auto tag) {
    for_tables<2>(items, [&](const Table<2>& t, unsigned blocks) {
      TG_LAUNCH((narrow_kernel<typename decltype(tag)::type>), blocks, kUpdateThreads, 0, stream(), t);
    });
  });
}

}  // namespace tg::cuda
